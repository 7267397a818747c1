"""What weights a layer has: the slots in the order in which Keras stores them (those
that are trained, then the others), and the shapes that follow from its config."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from .graph import Shape

#: By slot; ``None`` for a size, or a shape, that the config does not tell.
Slots = dict[str, Shape | None]

Config = Mapping[str, Any]


def slots_of(
    class_name: str, config: Config, inputs: Sequence[Shape | None]
) -> Slots | None:
    """The weights of a layer; ``None`` for a class that is not known.

    :param inputs: the shapes that it is called with.
    """
    rule = _SLOTS.get(class_name)
    return rule(config, inputs) if rule is not None else None


def sizes(value: Any, count: int) -> tuple[int, ...]:
    """A ``kernel_size`` and its like: one number for all axes, or one for each."""
    if isinstance(value, int):
        return (value,) * count
    return tuple(int(size) for size in value)


def rank_of(class_name: str) -> int:
    """How many axes of space a layer works on: the digit of ``Conv2D``."""
    return next(int(c) for c in class_name if c.isdigit())


def channels_of(shape: Shape | None, config: Config) -> int | None:
    """The size of the axis of channels."""
    if not shape:
        return None
    return shape[1 if config.get("data_format") == "channels_first" else -1]


def _first(inputs: Sequence[Shape | None]) -> Shape | None:
    return inputs[0] if inputs else None


def _last(shape: Shape | None) -> int | None:
    return shape[-1] if shape else None


def _bias(config: Config, *shape: int | None) -> Slots:
    return {"bias": shape} if config.get("use_bias", True) else {}


def _times(*factors: int | None) -> int | None:
    known = [factor for factor in factors if factor is not None]
    return math.prod(known) if len(known) == len(factors) else None


def _dense(config: Config, inputs: Sequence[Shape | None]) -> Slots:
    units = int(config["units"])
    return {"kernel": (_last(_first(inputs)), units), **_bias(config, units)}


def _convolution(rank: int) -> Callable[[Config, Sequence[Shape | None]], Slots]:
    def slots(config: Config, inputs: Sequence[Shape | None]) -> Slots:
        filters = int(config["filters"])
        channels = channels_of(_first(inputs), config)
        if channels is not None:
            channels //= int(config.get("groups") or 1)
        kernel = sizes(config["kernel_size"], rank)
        return {"kernel": (*kernel, channels, filters), **_bias(config, filters)}

    return slots


def _transposed(rank: int) -> Callable[[Config, Sequence[Shape | None]], Slots]:
    def slots(config: Config, inputs: Sequence[Shape | None]) -> Slots:
        filters = int(config["filters"])
        channels = channels_of(_first(inputs), config)
        kernel = sizes(config["kernel_size"], rank)
        return {"kernel": (*kernel, filters, channels), **_bias(config, filters)}

    return slots


def _depthwise(rank: int) -> Callable[[Config, Sequence[Shape | None]], Slots]:
    def slots(config: Config, inputs: Sequence[Shape | None]) -> Slots:
        channels = channels_of(_first(inputs), config)
        multiplier = int(config.get("depth_multiplier") or 1)
        kernel = sizes(config["kernel_size"], rank)
        return {
            "depthwise_kernel": (*kernel, channels, multiplier),
            **_bias(config, _times(channels, multiplier)),
        }

    return slots


def _separable(rank: int) -> Callable[[Config, Sequence[Shape | None]], Slots]:
    def slots(config: Config, inputs: Sequence[Shape | None]) -> Slots:
        channels = channels_of(_first(inputs), config)
        multiplier = int(config.get("depth_multiplier") or 1)
        filters = int(config["filters"])
        kernel = sizes(config["kernel_size"], rank)
        between = _times(channels, multiplier)
        return {
            "depthwise_kernel": (*kernel, channels, multiplier),
            "pointwise_kernel": (*(1,) * rank, between, filters),
            **_bias(config, filters),
        }

    return slots


def axes_of(config: Config) -> list[int]:
    """The ``axis`` of a layer, one or several."""
    axis = config.get("axis", -1)
    return [int(a) for a in axis] if isinstance(axis, list) else [int(axis)]


def _along(config: Config, inputs: Sequence[Shape | None]) -> Shape | None:
    shape = _first(inputs)
    return tuple(shape[axis] for axis in axes_of(config)) if shape else None


def _scale_and_center(config: Config, inputs: Sequence[Shape | None]) -> Slots:
    along = _along(config, inputs)
    slots: Slots = {}
    if config.get("scale", True):
        slots["gamma"] = along
    if config.get("center", True):
        slots["beta"] = along
    return slots


def _batch_normalization(config: Config, inputs: Sequence[Shape | None]) -> Slots:
    along = _along(config, inputs)
    moving: Slots = {"moving_mean": along, "moving_variance": along}
    return {**_scale_and_center(config, inputs), **moving}


def _layer_normalization(config: Config, inputs: Sequence[Shape | None]) -> Slots:
    slots = _scale_and_center(config, inputs)
    if config.get("rms_scaling"):
        slots.pop("beta", None)
    return slots


def _rms_normalization(config: Config, inputs: Sequence[Shape | None]) -> Slots:
    return {"scale": _along(config, inputs)}


def _embedding(config: Config, inputs: Sequence[Shape | None]) -> Slots:
    return {"embeddings": (int(config["input_dim"]), int(config["output_dim"]))}


def _recurrent(gates: int) -> Callable[[Config, Sequence[Shape | None]], Slots]:
    def slots(config: Config, inputs: Sequence[Shape | None]) -> Slots:
        units = int(config["units"])
        both = (2,) if config.get("reset_after", gates == 3) else ()
        return {
            "kernel": (_last(_first(inputs)), gates * units),
            "recurrent_kernel": (units, gates * units),
            **_bias(config, *both, gates * units),
        }

    return slots


def _not_reset(gates: int) -> Callable[[Config, Sequence[Shape | None]], Slots]:
    recurrent = _recurrent(gates)
    return lambda config, inputs: recurrent({**config, "reset_after": False}, inputs)


def _convolutional_lstm(rank: int) -> Callable[[Config, Sequence[Shape | None]], Slots]:
    def slots(config: Config, inputs: Sequence[Shape | None]) -> Slots:
        filters = int(config["filters"])
        kernel = sizes(config["kernel_size"], rank)
        first = _first(inputs)
        first_channels = config.get("data_format") == "channels_first"
        channels = first[2 if first_channels else -1] if first else None
        return {
            "kernel": (*kernel, channels, 4 * filters),
            "recurrent_kernel": (*kernel, filters, 4 * filters),
            **_bias(config, 4 * filters),
        }

    return slots


def _prelu(config: Config, inputs: Sequence[Shape | None]) -> Slots:
    shape = _first(inputs)
    if shape is None:
        return {"alpha": None}
    shared = config.get("shared_axes") or []
    return {
        "alpha": tuple(
            1 if axis in shared else size for axis, size in enumerate(shape) if axis
        )
    }


def _normalization(config: Config, inputs: Sequence[Shape | None]) -> Slots:
    if config.get("mean") is not None:
        return {}
    return {"mean": None, "variance": None}


def _multi_head_attention(config: Config, inputs: Sequence[Shape | None]) -> Slots:
    heads, key_dim = int(config["num_heads"]), int(config["key_dim"])
    value_dim = int(config.get("value_dim") or key_dim)
    query = _last(_first(inputs))
    value = _last(inputs[1]) if len(inputs) > 1 else None
    key = _last(inputs[2]) if len(inputs) > 2 else value
    out = config.get("output_shape")
    outer: tuple[int | None, ...] = (query,)
    if out:
        outer = (out,) if isinstance(out, int) else tuple(out)
    slots: Slots = {}
    for name, size, dim in (
        ("query", query, key_dim),
        ("key", key, key_dim),
        ("value", value, value_dim),
    ):
        slots[f"{name}/kernel"] = (size, heads, dim)
        if config.get("use_bias", True):
            slots[f"{name}/bias"] = (heads, dim)
    slots["attention_output/kernel"] = (heads, value_dim, *outer)
    if config.get("use_bias", True):
        slots["attention_output/bias"] = outer
    return slots


def _einsum_dense(config: Config, inputs: Sequence[Shape | None]) -> Slots:
    slots: Slots = {"kernel": None}
    if config.get("bias_axes"):
        slots["bias"] = None
    return slots


def _additive_attention(config: Config, inputs: Sequence[Shape | None]) -> Slots:
    return {"scale": (_last(_first(inputs)),)} if config.get("use_scale", True) else {}


def _attention(config: Config, inputs: Sequence[Shape | None]) -> Slots:
    slots: Slots = {}
    if config.get("use_scale"):
        slots["scale"] = ()
    if config.get("score_mode") == "concat":
        slots["concat_score_weight"] = ()
    return slots


def _nothing(config: Config, inputs: Sequence[Shape | None]) -> Slots:
    return {}


_SLOTS: Mapping[str, Callable[[Config, Sequence[Shape | None]], Slots]] = (
    MappingProxyType(
        {
            **{f"Conv{rank}D": _convolution(rank) for rank in (1, 2, 3)},
            **{f"Conv{rank}DTranspose": _transposed(rank) for rank in (1, 2, 3)},
            **{f"DepthwiseConv{rank}D": _depthwise(rank) for rank in (1, 2)},
            **{f"SeparableConv{rank}D": _separable(rank) for rank in (1, 2)},
            **{f"ConvLSTM{rank}D": _convolutional_lstm(rank) for rank in (1, 2, 3)},
            "AdditiveAttention": _additive_attention,
            "Attention": _attention,
            "BatchNormalization": _batch_normalization,
            "Dense": _dense,
            "EinsumDense": _einsum_dense,
            "Embedding": _embedding,
            "GRU": _recurrent(3),
            "GroupNormalization": _scale_and_center,
            "LSTM": _not_reset(4),
            "LayerNormalization": _layer_normalization,
            "MultiHeadAttention": _multi_head_attention,
            "Normalization": _normalization,
            "PReLU": _prelu,
            "RMSNormalization": _rms_normalization,
            "SimpleRNN": _not_reset(1),
            **dict.fromkeys(
                """
        Activation ActivityRegularization Add AlphaDropout Average AveragePooling1D
        AveragePooling2D AveragePooling3D CategoryEncoding CenterCrop Concatenate
        Cropping1D Cropping2D Cropping3D Dot Dropout ELU Flatten GaussianDropout
        GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
        GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
        Identity InputLayer LeakyReLU Masking MaxPooling1D MaxPooling2D MaxPooling3D
        Maximum Minimum Multiply Permute ReLU RepeatVector Rescaling Reshape Resizing
        Softmax SpatialDropout1D SpatialDropout2D SpatialDropout3D Subtract
        ThresholdedReLU UnitNormalization UpSampling1D UpSampling2D UpSampling3D
        ZeroPadding1D ZeroPadding2D ZeroPadding3D
        """.split(),
                _nothing,
            ),
        }
    )
)
