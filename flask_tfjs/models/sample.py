"""Values of a model's weights, to be looked at; of a large model not all are read."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from typing import NamedTuple

from ..format.layout import PlacedWeight
from ..keras.constants import decoded
from .delivery import Examination
from .delivery import stored_blocks
from .files import Root

#: Values that are looked at, at most.
MAX_VALUES = 1 << 16

# Where not all are: how many stand in a row, so that few places are read.
_RUN = 256


class Sample(NamedTuple):
    """:ivar total: how many values the model has of that kind."""

    values: list[float]
    total: int


def sample_weights(root: Root, found: Examination) -> Sample:
    """The values of the float32 weights of a model, quantized ones decoded: all of
    them, or runs that lie evenly over all.

    :raises InvalidModel: a shard cannot be read.
    """
    pairs = zip(found.layout.weights, found.model.entries, strict=True)
    floats = [pair for pair in pairs if pair[0].spec.dtype == "float32"]
    total = sum(weight.spec.elements for weight, _ in floats)
    # Of so many values one run is looked at.
    stride = max(1, -(-total // MAX_VALUES)) * _RUN
    runs: list[PlacedWeight] = []
    entries: list[Mapping[str, Any]] = []
    first = 0
    for weight, entry in floats:
        these = list(_runs_of(weight, first, stride))
        runs += these
        entries += [entry] * len(these)
        first += weight.spec.elements
    values: list[float] = []
    # All at once, since they lie side by side in few shards.
    stored = stored_blocks(root, found, runs)
    for entry, (_, blocks) in zip(entries, stored, strict=True):
        for block in blocks:
            values += decoded(block, entry)
    return Sample(values, total)


def _runs_of(weight: PlacedWeight, first: int, stride: int) -> Iterator[PlacedWeight]:
    """The parts of *weight* that are looked at.

    :param first: how many values of other weights stand before it.
    """
    elements = weight.spec.elements
    size = (weight.end - weight.start) // max(elements, 1)
    for start in range(first // stride * stride, first + elements, stride):
        begin = max(start - first, 0)
        end = min(start + _RUN - first, elements)
        if begin < end:
            yield replace(
                weight,
                start=weight.start + begin * size,
                end=weight.start + end * size,
            )
