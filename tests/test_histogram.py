"""How values are spread: every value is counted, and far ones hide no others."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_tfjs.format.histogram import histogram

#: Those of a shard.
ANY = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(st.lists(ANY), st.integers(1, 60))
def test_every_value_is_counted_once(values: list[float], bins: int) -> None:
    made = histogram(values, bins)
    finite = sorted(filter(math.isfinite, values))
    if not finite:
        assert made is None
        return
    assert made is not None
    assert len(made.counts) == bins
    assert sum(made.counts) + made.beyond + made.not_finite == made.total == len(values)
    assert (made.least, made.greatest) == (finite[0], finite[-1])
    assert made.least <= made.low <= made.median <= made.high <= made.greatest
    assert made.zeros == values.count(0)


def test_bins_are_of_equal_width() -> None:
    made = histogram([0, 1, 2, 3, 4, 5, 6, 7], 4)
    assert made is not None
    assert made.counts == (2, 2, 2, 2)
    assert (made.low, made.median, made.high) == (0, 3.5, 7)
    odd = histogram([3, 1, 2], 2)
    assert odd is not None and odd.median == 2


def test_far_values_do_not_press_the_others_into_one_bin() -> None:
    values = [i / 1000 for i in range(1000)] + [1e6] * 3 + [-1e6]
    made = histogram(values, 10)
    assert made is not None
    assert made.beyond == 4
    assert -10 < made.low and made.high < 10
    assert (made.least, made.greatest) == (-1e6, 1e6)


@pytest.mark.parametrize("values", [[3.0], [0.0] * 50, [2.0] * 9 + [-1.0]])
def test_values_that_are_nearly_all_the_same(values: list[float]) -> None:
    made = histogram(values, 8)
    assert made is not None
    assert sum(made.counts) == len(values)


def test_no_number_is_no_bin() -> None:
    made = histogram([1.0, math.nan, math.inf, 2.0], 2)
    assert made is not None
    assert (made.counts, made.not_finite) == ((1, 1), 2)
