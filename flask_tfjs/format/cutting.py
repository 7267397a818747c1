"""Where the weights of a published model are cut into shards: by a rule that depends on
the manifest alone. So two versions of one architecture are cut at the same bytes, and
have those shards in common whose weights are equal."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple

from .layout import Layout
from .layout import PlacedWeight
from .manifest import ModelJSON
from .repair import first_unread_byte

#: Bytes that a shard has at least, where weights of that size come together.
MIN_SHARD_BYTES = 256 * 1024

#: Bytes that a shard has at most. A larger weight is cut.
MAX_SHARD_BYTES = 4 * 1024 * 1024

# Shards of this many bytes at least are asked for, so that a large model has some
# dozens of them and not hundreds.
_USUAL_SHARDS = 64


class Span(NamedTuple):
    """The bytes ``[start, stop)`` of the joined shards of all groups."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


def cut(model: ModelJSON, layout: Layout) -> tuple[tuple[Span, ...], ...]:
    """The shards of each group: what lies between weights is left out.

    A large weight has shards of its own. Small ones share a shard until that is large
    enough, or a large one comes: then training that changes the small ones, such as
    the averages of batch normalization, leaves the large shards as they are.
    """
    least = _least(sum(weight.end - weight.start for weight in layout.weights))
    weights = iter(layout.weights)
    cuts = [
        list(_cut_group([next(weights) for _ in group.weights], least))
        for group in model.groups
    ]
    for groups in model.joined:
        _keep_readable([cuts[group] for group in groups])
    return tuple(tuple(spans) for spans in cuts)


def _least(total: int) -> int:
    # In steps: a weight more must not move all cuts.
    least = MIN_SHARD_BYTES
    while least < MAX_SHARD_BYTES and least * _USUAL_SHARDS < total:
        least *= 2
    return least


def _cut_group(weights: Sequence[PlacedWeight], least: int) -> Iterator[Span]:
    start = stop = weights[0].start if weights else 0
    for weight in weights:
        is_large = weight.end - weight.start >= least
        if stop > start and (is_large or weight.end - start > MAX_SHARD_BYTES):
            yield Span(start, stop)
            start = stop
        stop = weight.end
        while stop - start > MAX_SHARD_BYTES:
            yield Span(start, start + MAX_SHARD_BYTES)
            start += MAX_SHARD_BYTES
        if is_large or stop - start >= least:
            yield Span(start, stop)
            start = stop
    if stop > start:
        yield Span(start, stop)


def _keep_readable(cuts: Sequence[list[Span]]) -> None:
    """Cut the last shard in two where tfjs would read zeros; :func:`repair.recut` tells
    why that is enough."""
    if first_unread_byte([span.length for spans in cuts for span in spans]) is None:
        return
    last = [spans for spans in cuts if spans][-1]
    start, stop = last.pop()
    middle = start + (stop - start + 1) // 2
    last += [Span(start, middle), Span(middle, stop)]
