"""Layers that normalize. Those whose axis is not the last are moved there, since
TensorFlow.js computes other values without a word."""

from __future__ import annotations

from typing import Any

from ..graph import Shape
from ..rewrite import Outcome
from ..rewrite import Port
from ..rewrite import Rewrite
from ..slots import axes_of
from ..weights import Computed
from ..weights import Weight
from ..weights import reshaped
from .activations import swapped_dims


def _last_axis(rewrite: Rewrite, axis: int) -> bool:
    if axis == -1:
        return True
    return axis == len(rewrite.shape) - 1


def batch_normalization(rewrite: Rewrite) -> Outcome:
    (axis,) = axes_of(rewrite.config)
    dims: list[int] | None = None
    x: Port | None = None
    if not _last_axis(rewrite, axis):
        dims = swapped_dims(rewrite, axis, len(rewrite.shape))
        x = rewrite.add("Permute", rewrite.input(), {"dims": dims}, suffix="moved")
    flat = _flattened(rewrite, x, dims)
    x = x if flat is None else flat
    if rewrite.options.fold_frozen_bn and not rewrite.trainable:
        scale, offset = _folded(rewrite)
        rewrite.note("is not trained, and written as a Rescaling")
        done = rewrite.add("Rescaling", x, {"scale": scale, "offset": offset})
    else:
        config = {**rewrite.config, "axis": -1}
        done = rewrite.add("BatchNormalization", x, config, rewrite.weights)
    if flat is not None:
        done = _unflattened(rewrite, done, dims)
    if dims is None:
        return done
    return rewrite.add("Permute", done, {"dims": dims}, suffix="back")


# TensorFlow.js normalizes tensors of up to four axes (tfjs-layers
# src/layers/normalization.ts).
_MAX_RANK = 4


def _flattened(rewrite: Rewrite, x: Port | None, dims: list[int] | None) -> Port | None:
    """A tensor of too many axes as rows of channels; ``None``: it has few enough."""
    known = rewrite.shapes[0] if rewrite.shapes else None
    if known is None or len(known) <= _MAX_RANK:
        return None
    shape = _permuted(rewrite.shape, dims)
    target = {"target_shape": [-1, shape[-1]]}
    return rewrite.add("Reshape", x or rewrite.input(), target, suffix="rows")


def _unflattened(rewrite: Rewrite, x: Port, dims: list[int] | None) -> Port:
    sizes = _permuted(rewrite.shape, dims)[1:]
    if sum(size is None for size in sizes) > 1:
        raise rewrite.refusal("several sizes of its input are open; give them")
    target = {"target_shape": [-1 if size is None else size for size in sizes]}
    return rewrite.add("Reshape", x, target, suffix="whole")


def _permuted(shape: Shape, dims: list[int] | None) -> Shape:
    return shape if dims is None else (shape[0], *(shape[axis] for axis in dims))


def _folded(rewrite: Rewrite) -> tuple[Weight, Weight]:
    weights, epsilon = rewrite.weights, float(rewrite.config.get("epsilon", 1e-3))
    variance, mean = weights["moving_variance"], weights["moving_mean"]
    gamma, beta = weights.get("gamma"), weights.get("beta")
    scale = Computed("batch_scale", (variance, epsilon, gamma), variance.shape)
    return scale, Computed("batch_offset", (mean, scale, beta), mean.shape)


def layer_normalization(rewrite: Rewrite) -> Outcome:
    if rewrite.config.get("rms_scaling"):
        raise rewrite.refusal(
            "rms_scaling is not in TensorFlow.js; use an RMSNormalization layer"
        )
    axes = axes_of(rewrite.config)
    last = len(axes) == 1 and _last_axis(rewrite, axes[0])
    flat = _flattened(rewrite, None, None) if last else None
    if flat is None:
        return rewrite.keep(axis=axes[0] if len(axes) == 1 else axes)
    config = {**rewrite.config, "axis": -1}
    done = rewrite.add("LayerNormalization", flat, config, rewrite.weights)
    return _unflattened(rewrite, done, None)


def group_normalization(rewrite: Rewrite) -> Outcome:
    return rewrite.script_layer(
        "KerasGroupNormalization",
        None,
        rewrite.config,
        rewrite.weights,
        instead="use LayerNormalization or BatchNormalization",
    )


def rms_normalization(rewrite: Rewrite) -> Outcome:
    return rewrite.script_layer(
        "KerasRMSNormalization",
        None,
        rewrite.config,
        rewrite.weights,
        instead="use LayerNormalization",
    )


def unit_normalization(rewrite: Rewrite) -> Outcome:
    return rewrite.script_layer("KerasUnitNormalization", None, rewrite.config)


def normalization(rewrite: Rewrite) -> Outcome:
    """``(x - mean) / max(sqrt(variance), 1e-7)``, written as a Rescaling (keras
    ``src/layers/preprocessing/normalization.py``)."""
    mean, variance = _statistics(rewrite)
    if rewrite.config.get("invert"):
        scale = Computed("deviation", (variance,), variance.shape)
        return rewrite.add("Rescaling", None, {"scale": scale, "offset": mean})
    scale = Computed("inverse_deviation", (variance,), variance.shape)
    offset = Computed("negative_product", (mean, scale), mean.shape)
    return rewrite.add("Rescaling", None, {"scale": scale, "offset": offset})


def _statistics(rewrite: Rewrite) -> tuple[Weight, Weight]:
    given = rewrite.layer.config.get("mean"), rewrite.layer.config.get("variance")
    if all(isinstance(value, (int, float)) for value in given):
        return _constant(given[0], (1,)), _constant(given[1], (1,))
    shape = _broadcast_shape(rewrite)
    if rewrite.weights:
        statistics = rewrite.weights["mean"], rewrite.weights["variance"]
        mean, variance = (reshaped(weight, shape) for weight in statistics)
        return mean, variance
    return _constant(given[0], shape), _constant(given[1], shape)


def _constant(value: Any, shape: tuple[int, ...]) -> Weight:
    return Computed("reshaped", (value, shape), shape)


def _broadcast_shape(rewrite: Rewrite) -> tuple[int, ...]:
    """The shape in which the statistics stand against the input, without the batch."""
    axis = rewrite.config.get("axis", -1)
    axes = axis if isinstance(axis, (list, tuple)) else [] if axis is None else [axis]
    shape = rewrite.shape
    kept = {int(a) % len(shape) for a in axes}
    sizes = [shape[i] if i in kept else 1 for i in range(1, len(shape))]
    if any(size is None for size in sizes):
        raise rewrite.refusal("an axis it keeps has no known size; give it one")
    return tuple(size for size in sizes if size is not None) or (1,)
