"""Layers that work on the axes of space: convolutions, pooling, padding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..graph import Shape
from ..masks import Mask
from ..rewrite import Outcome
from ..rewrite import Port
from ..rewrite import Rewrite
from ..shapes import margins
from ..slots import rank_of
from ..slots import sizes
from ..weights import Weight
from ..weights import dilated
from ..weights import reshaped
from ..weights import ungrouped
from .activations import activate
from .activations import affine
from .activations import stock_name

# Weights of a convolution, once its groups or its dilation are written with zeros.
_MAX_WRITTEN = 64_000_000


def with_activation(
    rewrite: Rewrite,
    class_name: str,
    inputs: Port | None,
    config: Mapping[str, Any],
    weights: Mapping[str, Weight],
) -> Port:
    """A layer with an activation; one that TensorFlow.js lacks comes after it."""
    given = config.get("activation")
    name = given if isinstance(given, str) or given is None else ""
    stock = stock_name(rewrite, name or "linear") if name != "" else None
    if stock is None and not isinstance(given, str):
        stock = _stock_of_document(rewrite, given)
    config = {**config, "activation": stock or "linear"}
    done = rewrite.add(class_name, inputs, config, weights)
    return done if stock else activate(rewrite, done, given)


def _stock_of_document(rewrite: Rewrite, activation: Any) -> str | None:
    inner = activation.get("config") if isinstance(activation, dict) else None
    return stock_name(rewrite, inner) if isinstance(inner, str) else None


def layer_with_activation(rewrite: Rewrite) -> Outcome:
    """Dense, convolutions: only the activation may need another layer."""
    return with_activation(
        rewrite, rewrite.layer.class_name, None, rewrite.config, rewrite.weights
    )


def convolution(rewrite: Rewrite) -> Outcome:
    """A convolution; TensorFlow.js has no groups, and infers a wrong shape for causal
    padding (tfjs-layers ``src/layers/convolutional.ts``)."""
    config, weights = dict(rewrite.config), dict(rewrite.weights)
    groups = int(config.pop("groups", 1) or 1)
    x: Port | None = None
    if config.get("padding") == "causal":
        x = _pad_causally(rewrite)
        config["padding"] = "valid"
    if groups > 1:
        if math.prod(weights["kernel"].shape) * groups > _MAX_WRITTEN:
            raise rewrite.refusal(
                f"its {groups} groups become one full convolution of more than "
                f"{_MAX_WRITTEN} weights; use fewer groups, or DepthwiseConv2D"
            )
        weights["kernel"] = ungrouped(weights["kernel"], groups)
        rewrite.note(
            f"the {groups} groups are written as one full convolution, {groups} times "
            "the size; trained in a browser, they no longer stay apart"
        )
    return with_activation(rewrite, rewrite.layer.class_name, x, config, weights)


def _pad_causally(rewrite: Rewrite) -> Port:
    (width,) = sizes(rewrite.config["kernel_size"], 1)
    (dilation,) = sizes(rewrite.config.get("dilation_rate") or 1, 1)
    before = (width - 1) * dilation
    return _as_images(
        rewrite,
        rewrite.input(),
        "ZeroPadding2D",
        {"padding": [[before, 0], [0, 0]]},
        suffix="causal",
    )


def _channels(rewrite: Rewrite) -> int:
    channels = rewrite.shape[-1]
    if channels is None:
        raise rewrite.refusal(
            "how many channels its input has is not known; give the model an Input "
            "that tells"
        )
    return channels


def _as_images(
    rewrite: Rewrite,
    x: Port,
    class_name: str,
    config: Mapping[str, Any],
    *,
    suffix: str = "",
) -> Port:
    """A 2D layer without weights on a sequence: images that are one pixel wide."""
    channels = _channels(rewrite)
    inner = f"{suffix}_image" if suffix else "image"
    image = rewrite.add("Reshape", x, {"target_shape": [-1, 1, channels]}, suffix=inner)
    done = rewrite.add(
        class_name,
        image,
        {**config, "data_format": "channels_last"},
        suffix=inner + "s",
    )
    return rewrite.add("Reshape", done, {"target_shape": [-1, channels]}, suffix=suffix)


def padding_1d(rewrite: Rewrite) -> Outcome:
    ((before, after),) = margins(rewrite.config["padding"], 1)
    config = {"padding": [[before, after], [0, 0]]}
    return _as_images(rewrite, rewrite.input(), "ZeroPadding2D", config)


def cropping_1d(rewrite: Rewrite) -> Outcome:
    ((before, after),) = margins(rewrite.config["cropping"], 1)
    config = {"cropping": [[before, after], [0, 0]]}
    return _as_images(rewrite, rewrite.input(), "Cropping2D", config)


def up_sampling_1d(rewrite: Rewrite) -> Outcome:
    (size,) = sizes(rewrite.config["size"], 1)
    config = {"size": [size, 1], "interpolation": "nearest"}
    return _as_images(rewrite, rewrite.input(), "UpSampling2D", config)


def convolution_1d_as_2d(rewrite: Rewrite) -> Outcome:
    """1D layers whose 2D sisters alone are in TensorFlow.js."""
    config, weights = dict(rewrite.config), dict(rewrite.weights)
    class_name = rewrite.layer.class_name.replace("1D", "2D")
    x = rewrite.input()
    if config.get("padding") == "causal":
        x = _pad_causally(rewrite)
        config["padding"] = "valid"
    if class_name == "DepthwiseConv2D":
        config, weights = _undilated(rewrite, config, weights, 1)
    (width,) = sizes(config["kernel_size"], 1)
    config["kernel_size"] = [width, 1]
    for key in ("strides", "dilation_rate"):
        # Along the one pixel of width they mean nothing, but they must be equal.
        (step,) = sizes(config.get(key) or 1, 1)
        config[key] = [step, step]
    if class_name == "Conv2DTranspose":
        config["strides"] = [config["strides"][0], 1]
    for slot, weight in weights.items():
        if slot.endswith("kernel") and slot != "pointwise_kernel":
            first, *rest = weight.shape
            weights[slot] = reshaped(weight, (first, 1, *rest))
        if slot == "pointwise_kernel":
            weights[slot] = reshaped(weight, (1, *weight.shape))
    channels = _channels(rewrite)
    image = rewrite.add(
        "Reshape", x, {"target_shape": [-1, 1, channels]}, suffix="image"
    )
    # The rule of the 2D layer is the same but for its name.
    config = _separable(config) if class_name == "SeparableConv2D" else config
    done = with_activation(rewrite, class_name, image, config, weights)
    filters = _filters(class_name, rewrite.weights)
    return rewrite.add(
        "Reshape", done, {"target_shape": [-1, filters]}, suffix="sequence"
    )


def _filters(class_name: str, weights: Mapping[str, Weight]) -> int:
    """How many channels a 1D convolution makes."""
    if class_name == "SeparableConv2D":
        return weights["pointwise_kernel"].shape[-1]
    if class_name == "Conv2DTranspose":
        return weights["kernel"].shape[-2]
    *_, channels, multiplier = weights["depthwise_kernel"].shape
    return channels * multiplier


def depthwise_convolution(rewrite: Rewrite) -> Outcome:
    config, weights = _undilated(rewrite, rewrite.config, rewrite.weights, 2)
    return with_activation(rewrite, "DepthwiseConv2D", None, config, weights)


def _undilated(
    rewrite: Rewrite,
    config: Mapping[str, Any],
    weights: Mapping[str, Weight],
    rank: int,
) -> tuple[dict[str, Any], dict[str, Weight]]:
    """A depthwise kernel with the dilation in it; TensorFlow.js leaves it out of its
    sums (tfjs-layers ``src/layers/convolutional_depthwise.ts``)."""
    rates = sizes(config.get("dilation_rate") or 1, rank)
    if all(rate == 1 for rate in rates):
        return dict(config), dict(weights)
    kernel = dilated(weights["depthwise_kernel"], rates)
    if math.prod(kernel.shape) > _MAX_WRITTEN:
        raise rewrite.refusal(
            f"its dilated kernel becomes one of more than {_MAX_WRITTEN} weights; use "
            "a smaller dilation_rate"
        )
    rewrite.note(
        "its dilation is written as zeros in the kernel, which training in a browser "
        "would change"
    )
    window = list(kernel.shape[:rank])
    changed = {"kernel_size": window, "dilation_rate": [1] * rank}
    return {**config, **changed}, {**weights, "depthwise_kernel": kernel}


def _separable(config: Mapping[str, Any]) -> dict[str, Any]:
    # TensorFlow.js throws at what Keras writes of the kernel it does not have.
    ours = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
    return {key: value for key, value in config.items() if key not in ours}


def separable_convolution(rewrite: Rewrite) -> Outcome:
    config = _separable(rewrite.config)
    return with_activation(
        rewrite, rewrite.layer.class_name, None, config, rewrite.weights
    )


def transposed_convolution(rewrite: Rewrite) -> Outcome:
    config = dict(rewrite.config)
    if config.pop("output_padding", None) is not None:
        raise rewrite.refusal(
            "output_padding is not in TensorFlow.js; use padding='same' or a Cropping "
            "layer after it"
        )
    rank = rank_of(rewrite.layer.class_name)
    if any(step != 1 for step in sizes(config.get("dilation_rate") or 1, rank)):
        raise rewrite.refusal(
            "a dilated transposed convolution is not in TensorFlow.js; use "
            "dilation_rate=1"
        )
    if rank == 1:
        return convolution_1d_as_2d(rewrite)
    return with_activation(
        rewrite, rewrite.layer.class_name, None, config, rewrite.weights
    )


def global_pooling(rewrite: Rewrite) -> Outcome:
    config = dict(rewrite.config)
    keep = config.pop("keepdims", None) or config.pop("keep_dims", None)
    config.pop("keep_dims", None)
    class_name, rank = rewrite.layer.class_name, rank_of(rewrite.layer.class_name)
    channels = _channels(rewrite) if keep or rank == 3 else None
    x: Port | None = None
    if rank == 3:
        flat = {"target_shape": [-1, channels]}
        x = rewrite.add("Reshape", rewrite.input(), flat, suffix="flat")
        class_name = class_name.replace("3D", "1D")
    if class_name == "GlobalAveragePooling1D":
        config.pop("data_format", None)
        if rewrite.masks and rewrite.masks[0] is not None:
            pooled = _masked_average(rewrite, rewrite.masks[0])
        else:
            pooled = rewrite.add(class_name, x, config)
    else:
        pooled = rewrite.add(class_name, x, config)
    if not keep:
        return pooled
    shape = {"target_shape": [*[1] * rank, channels]}
    return rewrite.add("Reshape", pooled, shape, suffix="kept")


def _masked_average(rewrite: Rewrite, mask: Mask) -> Port:
    """The sum over the steps that count, divided by their number."""
    counted = mask_values(rewrite, mask)
    steps = rewrite.shape[1]
    if steps is not None:  # which an operation of the script does not know
        target = {"target_shape": [steps]}
        counted = rewrite.add("Reshape", counted, target, suffix="counted")
    total = rewrite.add(
        "Dot", [rewrite.input(), counted], {"axes": [1, 1]}, suffix="total"
    )
    number = rewrite.operation("sum", counted, suffix="number", axis=[1], keepdims=True)
    return rewrite.operation("divide", [total, number])


def mask_values(rewrite: Rewrite, mask: Mask) -> Port:
    """A mask as numbers, 1.0 for each step that counts: ``[batch, steps]``.

    :raises InvalidModel: it is made of several masks in a way that is not known.
    """
    if mask.unknown:
        raise rewrite.refusal(
            f"is given the mask of {mask.maker!r} and another one put together, which "
            "TensorFlow.js cannot do; use mask_zero=False"
        )
    if mask not in rewrite.mask_values:
        several = [_values(rewrite, one) for one in (mask, *mask.others)]
        merged = several[0]
        if len(several) > 1:
            merged = rewrite.add("Maximum", several, suffix="mask")
        rewrite.mask_values[mask] = merged
    return rewrite.mask_values[mask]


def _values(rewrite: Rewrite, mask: Mask) -> Port:
    source = Port(None, outer=mask.source)
    if mask.value is None:  # an Embedding: 0 does not count, and no index is negative
        numbers = affine(rewrite, source, suffix="tokens")
        return rewrite.add("ReLU", numbers, {"max_value": 1.0}, suffix="mask")
    differs = rewrite.operation(
        "not_equal", source, suffix="differs", constants=[None, mask.value]
    )
    return rewrite.operation("max", differs, suffix="mask", axis=[-1], keepdims=False)


def masked(rewrite: Rewrite) -> Outcome:
    """What a Masking does beside making a mask: zeros in the steps that do not
    count."""
    x = rewrite.call.inputs[0]
    value = float(rewrite.config.get("mask_value") or 0.0)
    mask = Mask(rewrite.layer.name, x, value)
    column = _column(rewrite, mask)
    return rewrite.add("Multiply", [rewrite.input(), column])


def _column(rewrite: Rewrite, mask: Mask) -> Port:
    steps = rewrite.shape[1]
    shape = {"target_shape": [-1 if steps is None else steps, 1]}
    values = mask_values(rewrite, mask)
    return rewrite.add("Reshape", values, shape, suffix="column")


def up_sampling_2d(rewrite: Rewrite) -> Outcome:
    interpolation = rewrite.config.get("interpolation", "nearest")
    if interpolation == "nearest":
        return rewrite.keep()
    if interpolation != "bilinear":
        raise rewrite.refusal(
            f"interpolation={interpolation!r} is not in TensorFlow.js; use 'nearest' "
            "or 'bilinear'"
        )
    # TensorFlow.js puts the centres of pixels elsewhere: other values, silently.
    return rewrite.script_layer(
        "KerasUpSampling2D", None, rewrite.config, instead="use interpolation='nearest'"
    )


def padding_3d(rewrite: Rewrite) -> Outcome:
    widths = [[0, 0], *map(list, margins(rewrite.config["padding"], 3)), [0, 0]]
    return rewrite.operation("pad", rewrite.input(), pad_width=widths)


def cropping_3d(rewrite: Rewrite) -> Outcome:
    widths = [[0, 0], *map(list, margins(rewrite.config["cropping"], 3)), [0, 0]]
    return rewrite.operation("crop", rewrite.input(), cropping=widths)


def up_sampling_3d(rewrite: Rewrite) -> Outcome:
    size = [1, *sizes(rewrite.config["size"], 3), 1]
    return rewrite.operation("upsample", rewrite.input(), size=size)


def spatial_dropout(rewrite: Rewrite) -> Outcome:
    """A Dropout with a ``noise_shape``: whole channels at once."""
    rank = rank_of(rewrite.layer.class_name)
    noise = [None, *[1] * rank, None]
    config = {"rate": rewrite.config["rate"], "noise_shape": noise}
    return rewrite.add("Dropout", None, config)


def to_channels_last(shape: Shape) -> Shape:
    """*shape* with the channels moved from behind the batch to the end."""
    return (shape[0], *shape[2:], shape[1])
