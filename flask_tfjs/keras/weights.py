"""Weights as data: where they are stored, or how they are computed from others. No
value is read here, so that a topology can be rewritten where there is no NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import Literal

#: What can be computed; ``convert/arrays.py`` has a function for each.
Operation = Literal[
    "reshaped",  # weight, shape
    "dilated",  # kernel, rates: zeros between the values along the first axes
    "ungrouped",  # kernel, groups: a grouped convolution's kernel as a full one
    "batch_scale",  # variance, epsilon, gamma or None: gamma / sqrt(variance + epsilon)
    "batch_offset",  # mean, scale, beta or None: beta - mean * scale
    "deviation",  # variance: max(sqrt(variance), 1e-7)
    "inverse_deviation",  # variance
    "negative_product",  # a, b
]


@dataclass(frozen=True, slots=True)
class Stored:
    """A weight as a file holds it.

    :ivar name: by which a person finds it in the file.
    :ivar read: returns the values as an array; absent where only names matter.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    read: Callable[[], Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Computed:
    """A weight made from others when it is written.

    :ivar arguments: weights, numbers or ``None``, as the operation takes them.
    """

    operation: Operation
    arguments: tuple[Any, ...]
    shape: tuple[int, ...]


Weight = Stored | Computed


def reshaped(weight: Weight, shape: tuple[int, ...]) -> Weight:
    """The same values, in the same order, in another shape."""
    return Computed("reshaped", (weight, shape), shape)


def dilated(kernel: Weight, rates: tuple[int, ...]) -> Weight:
    """A kernel with zeros between its values, as a dilation sees it."""
    window = kernel.shape[: len(rates)]
    wide = ((size - 1) * rate + 1 for size, rate in zip(window, rates, strict=True))
    shape = (*wide, *kernel.shape[len(rates) :])
    return Computed("dilated", (kernel, rates), shape)


def ungrouped(kernel: Weight, groups: int) -> Weight:
    """The kernel of a grouped convolution as that of a full one, zeros between."""
    *window, channels, filters = kernel.shape
    shape = (*window, channels * groups, filters)
    return Computed("ungrouped", (kernel, groups), shape)
