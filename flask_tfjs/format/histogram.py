"""How values are spread, so that a person sees at a glance what a training left."""

from __future__ import annotations

import math
from bisect import bisect_left
from bisect import bisect_right
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass

# How far the bins reach from the middle half of the values, in widths of that half: a
# few far values would press all others into one bin. Ten deviations of a normal
# distribution.
_REACH = 7


@dataclass(frozen=True, slots=True)
class Histogram:
    """Numbers of values in bins of equal width.

    :ivar counts: of the values in each bin; *beyond*: of those left and right of all.
    :ivar low: the left edge of the first bin, *high* the right edge of the last.
    :ivar least: of all finite values; *median* and *greatest* too.
    :ivar zeros: how many values are zero.
    :ivar not_finite: how many are no number or infinite, and so in no bin.
    :ivar total: of all values.
    """

    counts: tuple[int, ...]
    low: float
    high: float
    beyond: int
    least: float
    median: float
    greatest: float
    zeros: int
    not_finite: int
    total: int


def histogram(values: Iterable[float], bins: int) -> Histogram | None:
    """The histogram of *values*; ``None`` where none is a finite number."""
    every = list(values)
    finite = sorted(filter(math.isfinite, every))
    if not finite:
        return None
    low, high = _edges(finite)
    inner = finite[bisect_left(finite, low) : bisect_right(finite, high)]
    counts = [0] * bins
    width = (high - low) / bins
    for value in inner:
        place = int((value - low) / width) if width else bins // 2
        counts[min(place, bins - 1)] += 1
    return Histogram(
        counts=tuple(counts),
        low=low,
        high=high,
        beyond=len(finite) - len(inner),
        least=finite[0],
        median=(finite[len(finite) // 2] + finite[~(len(finite) // 2)]) / 2,
        greatest=finite[-1],
        zeros=finite.count(0),
        not_finite=len(every) - len(finite),
        total=len(every),
    )


def _edges(finite: Sequence[float]) -> tuple[float, float]:
    """The outer edges of the bins, for values in their order."""
    count = len(finite)
    lower, upper = finite[count // 4], finite[count - 1 - count // 4]
    reach = _REACH * (upper - lower)
    if not reach:  # half of them are one value
        return finite[0], finite[-1]
    return max(finite[0], lower - reach), min(finite[-1], upper + reach)
