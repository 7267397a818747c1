"""Some of a model's weights, as they lie in the shards among the others."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator
from collections.abc import Sequence

from .layout import Layout
from .layout import PlacedWeight
from .layout import Shard
from .manifest import ModelJSON
from .repair import Cuts
from .repair import Slice
from .repair import first_unread_byte


def placed_anew(model: ModelJSON, kept: Sequence[range], layout: Layout) -> Layout:
    """Where the weights of *model* lie.

    :param kept: for each of its groups the weights of *layout* that it has, under
        other names.
    """
    old = [layout.weights[index] for run in kept for index in run]
    return Layout(
        tuple(
            PlacedWeight(spec, weight.start, weight.end)
            for spec, weight in zip(model.weights, old, strict=True)
        ),
        layout.surplus,
    )


def excerpt(
    shards: Sequence[Sequence[Shard]], kept: Sequence[range], layout: Layout
) -> Cuts:
    """For each group the slices of *shards* that its weights lie in, in cuts that tfjs
    reads right.

    :param kept: for each group its weights in *layout*, which follow on each other.
    """
    every = [shard for group in shards for shard in group]
    starts = list(itertools.accumulate((shard.size for shard in every), initial=0))
    cuts = [list(_slices(every, starts, run, layout)) for run in kept]
    if first_unread_byte([cut.length for group in cuts for cut in group]) is not None:
        last = next(group for group in reversed(cuts) if group)
        last += _halves(last.pop())
    return tuple(tuple(group) for group in cuts)


def _slices(
    shards: Sequence[Shard], starts: Sequence[int], run: range, layout: Layout
) -> Iterator[Slice]:
    if not run:
        return
    start, stop = layout.weights[run[0]].start, layout.weights[run[-1]].end
    index = bisect_right(starts, start) - 1
    while start < stop:
        shard, offset = shards[index], start - starts[index]
        length = min(shard.size - offset, stop - start)
        if length:
            yield Slice(shard.name, offset, length)
        start += length
        index += 1


def _halves(cut: Slice) -> tuple[Slice, Slice]:
    """Two in place of a last one that is larger than all others; why that is enough
    :func:`repair.recut` tells."""
    half = (cut.length + 1) // 2
    return (
        Slice(cut.name, cut.offset, half),
        Slice(cut.name, cut.offset + half, cut.length - half),
    )
