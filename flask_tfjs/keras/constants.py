"""Weights that a rule writes into a config, as numbers: few enough to be computed
without NumPy, and to the same values."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from .weights import Computed
from .weights import Operation
from .weights import Stored
from .weights import Weight

#: Values that one weight may bring into a topology.
MAX_VALUES = 1 << 14

Values = Callable[[Stored], Sequence[float]]

# Keras keeps a deviation from zero by this (keras src/backend/config.py, epsilon).
_EPSILON = 1e-7


def constant(weight: Weight, values: Values) -> Any:
    """A weight as a number, or as lists of numbers in its shape.

    :param values: those of a weight as it is stored, in row-major order.
    :raises ValueError: it has too many, must be computed in another way, or some are no
        finite float32; the message goes on from the layer's name.
    """
    if math.prod(weight.shape) > MAX_VALUES:
        raise ValueError(f"has a weight of more than {MAX_VALUES} values in its config")
    flat = _flat(weight, values)
    if not all(map(math.isfinite, flat)):
        raise ValueError("has a weight with values that are no finite numbers")
    return flat[0] if len(flat) == 1 else _nested(flat, weight.shape)


def decoded(data: bytes, entry: Mapping[str, Any]) -> list[float]:
    """The values of a weight, as the client makes them of its bytes (tfjs-core
    ``src/io/io_utils.ts``, ``decodeWeight``).

    :param entry: its spec in the manifest: float32 or int32, which may be quantized.
    """
    quantization = entry.get("quantization")
    if quantization is None:
        letter = {"float32": "f", "int32": "i"}[entry["dtype"]]
        return [float(value) for (value,) in struct.iter_unpack(f"<{letter}", data)]
    letter = {"float16": "e", "uint8": "B", "uint16": "H"}[quantization["dtype"]]
    whole = [value for (value,) in struct.iter_unpack(f"<{letter}", data)]
    if letter == "e":
        return whole
    scale, least = _double(quantization["scale"]), _double(quantization["min"])
    return [_float32(value * scale + least) for value in whole]


def _flat(weight: Any, values: Values) -> list[float]:
    if isinstance(weight, Stored):
        return [_float32(value) for value in values(weight)]
    if not isinstance(weight, Computed):
        return list(_numbers(weight))
    if weight.operation == "reshaped":
        flat = _flat(weight.arguments[0], values)
        if len(flat) != math.prod(weight.shape):
            raise ValueError("has another number of values than its shape says")
        return flat
    operation = _OPERATIONS.get(weight.operation)
    if operation is None:
        raise ValueError("has a config that must be computed from its weights")
    operands = [_flat(argument, values) for argument in weight.arguments]
    return [_float32(operation(*each)) for each in zip(*operands, strict=True)]


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
    else:
        yield _float32(value)


def _nested(flat: Sequence[float], shape: Sequence[int]) -> Any:
    if len(shape) <= 1:
        return list(flat)
    step = math.prod(shape[1:])
    return [
        _nested(flat[start : start + step], shape[1:])
        for start in range(0, len(flat), max(step, 1))
    ]


def _double(number: float) -> float:
    """A number of a JSON as the client reads it: a whole one of any length, too."""
    try:
        return float(number)
    except OverflowError:
        return math.copysign(math.inf, number)


def _float32(value: float) -> float:
    """The nearest float32. Sums, products, quotients and square roots of float32 that
    are rounded twice, to a double and then so, are those of float32 arithmetic."""
    try:
        (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        return math.copysign(math.inf, value)
    return float(rounded)


def _deviation(variance: float) -> float:
    root = math.sqrt(variance) if variance >= 0 else math.nan
    return max(_float32(root), _float32(_EPSILON))


def _inverse_deviation(variance: float) -> float:
    return 1 / _deviation(variance)


def _negative_product(left: float, right: float) -> float:
    return -left * right


_OPERATIONS: Mapping[Operation, Callable[..., float]] = MappingProxyType(
    {
        "deviation": _deviation,
        "inverse_deviation": _inverse_deviation,
        "negative_product": _negative_product,
    }
)
