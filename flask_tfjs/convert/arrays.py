"""The values of weights: read where they are stored, computed where a rule asks."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..keras.weights import Computed
from ..keras.weights import Operation
from ..keras.weights import Stored
from ..keras.weights import Weight

Floats = NDArray[np.float32]

# Keras keeps a deviation from zero by this (keras src/backend/config.py, epsilon).
_EPSILON = 1e-7


def values_of(weight: Weight) -> Floats:
    """The values of *weight*, in its shape."""
    if isinstance(weight, Stored):
        assert weight.read is not None
        values = np.asarray(weight.read(), np.float32)
    else:
        arguments = [_argument(argument) for argument in weight.arguments]
        # What comes of values that cannot be is no number, and refused as such.
        with np.errstate(all="ignore"):
            values = _OPERATIONS[weight.operation](*arguments)
    done: Floats = values.astype(np.float32, copy=False).reshape(weight.shape)
    return done


def _argument(argument: Any) -> Any:
    if isinstance(argument, (Stored, Computed)):
        return values_of(argument)
    return argument


def _reshaped(values: Any, shape: tuple[int, ...]) -> Floats:
    return np.asarray(values, np.float32).reshape(shape)


def _ungrouped(kernel: Floats, groups: int) -> Floats:
    *window, channels, filters = kernel.shape
    full: Floats = np.zeros((*window, channels * groups, filters), np.float32)
    each = filters // groups
    for group in range(groups):
        rows = slice(group * channels, (group + 1) * channels)
        columns = slice(group * each, (group + 1) * each)
        full[..., rows, columns] = kernel[..., columns]
    return full


def _dilated(kernel: Floats, rates: tuple[int, ...]) -> Floats:
    window = kernel.shape[: len(rates)]
    wide = [(size - 1) * rate + 1 for size, rate in zip(window, rates, strict=True)]
    full: Floats = np.zeros((*wide, *kernel.shape[len(rates) :]), np.float32)
    full[tuple(slice(None, None, rate) for rate in rates)] = kernel
    return full


def _batch_scale(variance: Floats, epsilon: float, gamma: Floats | None) -> Floats:
    scale: Floats = 1 / np.sqrt(variance + np.float32(epsilon))
    return scale if gamma is None else scale * gamma


def _batch_offset(mean: Floats, scale: Floats, beta: Floats | None) -> Floats:
    offset = -mean * scale
    return offset if beta is None else offset + beta


def _deviation(variance: Floats) -> Floats:
    deviation: Floats = np.maximum(np.sqrt(variance), np.float32(_EPSILON))
    return deviation


def _inverse_deviation(variance: Floats) -> Floats:
    return np.reciprocal(_deviation(variance))


def _negative_product(left: Floats, right: Floats) -> Floats:
    return -left * right


_OPERATIONS: Mapping[Operation, Callable[..., Floats]] = MappingProxyType(
    {
        "batch_offset": _batch_offset,
        "batch_scale": _batch_scale,
        "deviation": _deviation,
        "dilated": _dilated,
        "inverse_deviation": _inverse_deviation,
        "negative_product": _negative_product,
        "reshaped": _reshaped,
        "ungrouped": _ungrouped,
    }
)
