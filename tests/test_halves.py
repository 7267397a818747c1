"""Whether float32 values are values of float16: NumPy's conversion is the referee."""

from __future__ import annotations

import sys
import typing as t

import numpy as np
import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st

from flask_tfjs.format.halves import are_halves

HALVES = np.arange(2**16, dtype="<u2").view("<f2").astype("<f4")
FINITE = HALVES[np.isfinite(HALVES)]


def fit(values: t.Any) -> t.Any:
    """Of each value, given by its bits, whether it is a finite one of float16."""
    values = np.asarray(values, "<u4")
    floats = values.view("<f4")
    with np.errstate(over="ignore"):
        back = floats.astype("<f2").astype("<f4")
    return np.isfinite(back) & (back.view("<u4") == values)


def test_all_that_there_are() -> None:
    assert len(FINITE) == 2**16 - 2**11
    assert are_halves(FINITE.tobytes())
    for value in HALVES:
        assert are_halves(value.tobytes()) == np.isfinite(value), value


@pytest.mark.parametrize("bit", range(32))
def test_a_bit_is_another(bit: int) -> None:
    """By itself, and behind values that float16 has."""
    flipped = HALVES.view("<u4")[bit::31] ^ np.uint32(1 << bit)
    before = FINITE[:5].tobytes()
    for value, expected in zip(flipped, fit(flipped), strict=True):
        data = value.tobytes()
        assert are_halves(data) == expected, hex(value)
        assert are_halves(before + data) == expected, hex(value)


bits = st.integers(0, 2**32 - 1)
halves = st.sampled_from([int(one) for one in FINITE.view("<u4")])


@given(st.lists(halves, max_size=200), st.lists(bits, max_size=2), st.randoms())
@example([], [], t.cast("t.Any", None))
@example([], [0x80000000], t.cast("t.Any", None))
@example([], [0x7FC00000], t.cast("t.Any", None))  # not a number
@example([], [0x477FF000], t.cast("t.Any", None))  # rounds to infinity
@example([], [1], t.cast("t.Any", None))  # the smallest
@example([], [0x00000100], t.cast("t.Any", None))
@example([], [0x80002000], t.cast("t.Any", None))
@example([], [0x00010000], t.cast("t.Any", None))
def test_any_values(found: list[int], others: list[int], random: t.Any) -> None:
    values = [*found, *others]
    if others and found:
        random.shuffle(values)
    data = np.array(values, "<u4").tobytes()
    expected = bool(fit(values).all())
    assert are_halves(data) == expected
    assert are_halves(memoryview(data)) == are_halves(bytearray(data)) == expected


@pytest.mark.parametrize("index", [0, 1, 15, 16, 17, 16399, 16400, 99_998, 99_999])
@pytest.mark.parametrize("bits", [0x00000001, 0x3F800001, 0x38001000, 0x7F800000])
def test_one_of_many(index: int, bits: int) -> None:
    values = np.resize(FINITE, 100_000).view("<u4")
    assert are_halves(values.tobytes())
    values[index] = bits
    assert not are_halves(values.tobytes())


def test_the_first_that_is_none_ends_it() -> None:
    """Weights of float32 cost the same, however many they are."""
    weights = np.random.default_rng(5).normal(0, 0.05, 4_000_000).astype("<f4")
    data = weights.tobytes()
    read = 0

    def watch(frame: t.Any, event: str, argument: object) -> None:
        nonlocal read
        if event == "call" and frame.f_code.co_name == "_are_halves":
            read += len(frame.f_locals["block"])

    sys.setprofile(watch)
    try:
        assert not are_halves(data)
    finally:
        sys.setprofile(None)
    assert 0 < read <= 64
