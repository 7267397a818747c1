"""Activations. TensorFlow.js looks them up by name; those it lacks, or computes
otherwise, become layers of their own."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..configs import number
from ..reading import plain_class
from ..reading import snake_case
from ..rewrite import Port
from ..rewrite import Rewrite

# By the name of Keras, the name of TensorFlow.js (tfjs-layers src/activations.ts).
_STOCK = MappingProxyType(
    {
        **{
            name: name
            for name in """
        elu gelu linear mish relu relu6 selu sigmoid softmax softplus softsign tanh
        """.split()
        },
        "log_softmax": "log_softmax",
        "silu": "swish",
        "swish": "swish",
    }
)

# What a page's TensorFlow.js computes under Keras 2's name is not Keras 3's function.
_ONLY_KERAS_2 = MappingProxyType({"hard_sigmoid": "hard_sigmoid"})


def name_of(rewrite: Rewrite, activation: Any) -> str:
    """The name of a function that a config gives by name or as a document.

    :raises InvalidModel: it is Python code.
    """
    if activation is None:
        return "linear"
    if isinstance(activation, str):
        return activation
    if isinstance(activation, dict):
        config = activation.get("config")
        if isinstance(config, str):
            return config
        class_name = activation.get("class_name")
        if isinstance(class_name, str):
            inner = config.get("name") if isinstance(config, dict) else None
            return inner if isinstance(inner, str) else snake_case(class_name)
    raise rewrite.refusal("its activation is not a function of Keras; use one of those")


def stock_name(rewrite: Rewrite, name: str) -> str | None:
    """What TensorFlow.js calls the function that Keras calls *name*."""
    if rewrite.keras == 2 and name in _ONLY_KERAS_2:
        return _ONLY_KERAS_2[name]
    return _STOCK.get(name)


def activate(
    rewrite: Rewrite, x: Port, activation: Any, *, suffix: str = "activation"
) -> Port:
    """Layers that apply *activation*, given as a config gives it, to *x*.

    :raises InvalidModel: there is no way to say it.
    """
    if isinstance(activation, dict) and "class_name" in activation:
        layer = _LAYERS.get(plain_class(str(activation["class_name"])))
        if layer is not None and isinstance(activation.get("config"), dict):
            return layer(rewrite, x, activation["config"], suffix)
    name = name_of(rewrite, activation)
    stock = stock_name(rewrite, name)
    if stock is not None:
        return rewrite.add("Activation", x, {"activation": stock}, suffix=suffix)
    made = _MADE.get(name)
    if made is None:
        raise rewrite.refusal(
            f"its activation {name!r} is not in TensorFlow.js; use another one, or "
            "write the layer in JavaScript and convert with --custom"
        )
    return made(rewrite, x, suffix)


def affine(
    rewrite: Rewrite, x: Port, scale: Any = 1.0, offset: Any = 0.0, *, suffix: str
) -> Port:
    """A Rescaling: ``x * scale + offset``."""
    return rewrite.add(
        "Rescaling", x, {"scale": scale, "offset": offset}, suffix=suffix
    )


def _join(suffix: str, part: str) -> str:
    return f"{suffix}_{part}" if suffix else part


def _clipped(rewrite: Rewrite, x: Port, maximum: float, suffix: str) -> Port:
    return rewrite.add("ReLU", x, {"max_value": maximum}, suffix=suffix)


def _hard_sigmoid(rewrite: Rewrite, x: Port, suffix: str) -> Port:
    """``relu6(x + 3) / 6`` (keras ``src/activations/activations.py``)."""
    shifted = affine(rewrite, x, offset=3.0, suffix=_join(suffix, "shifted"))
    clipped = _clipped(rewrite, shifted, 6.0, _join(suffix, "clipped"))
    return affine(rewrite, clipped, 1 / 6, suffix=suffix)


def _hard_silu(rewrite: Rewrite, x: Port, suffix: str) -> Port:
    gate = _hard_sigmoid(rewrite, x, _join(suffix, "gate"))
    return rewrite.add("Multiply", [x, gate], suffix=suffix)


def _hard_tanh(rewrite: Rewrite, x: Port, suffix: str) -> Port:
    """``clip(x, -1, 1)``."""
    shifted = affine(rewrite, x, offset=1.0, suffix=_join(suffix, "shifted"))
    clipped = _clipped(rewrite, shifted, 2.0, _join(suffix, "clipped"))
    return affine(rewrite, clipped, offset=-1.0, suffix=suffix)


def _log_sigmoid(rewrite: Rewrite, x: Port, suffix: str) -> Port:
    """``-softplus(-x)``."""
    negative = affine(rewrite, x, -1.0, suffix=_join(suffix, "negative"))
    soft = rewrite.add(
        "Activation",
        negative,
        {"activation": "softplus"},
        suffix=_join(suffix, "softplus"),
    )
    return affine(rewrite, soft, -1.0, suffix=suffix)


def _tanh_shrink(rewrite: Rewrite, x: Port, suffix: str) -> Port:
    """``x - tanh(x)``."""
    tanh = rewrite.add(
        "Activation", x, {"activation": "tanh"}, suffix=_join(suffix, "tanh")
    )
    negative = affine(rewrite, tanh, -1.0, suffix=_join(suffix, "negative"))
    return rewrite.add("Add", [x, negative], suffix=suffix)


def _leaky_relu(slope: float) -> Callable[[Rewrite, Port, str], Port]:
    def layers(rewrite: Rewrite, x: Port, suffix: str) -> Port:
        return rewrite.add("LeakyReLU", x, {"alpha": slope}, suffix=suffix)

    return layers


def _celu(rewrite: Rewrite, x: Port, suffix: str) -> Port:
    """With alpha 1, as by name, it is elu."""
    return rewrite.add("Activation", x, {"activation": "elu"}, suffix=suffix)


def _by_script(operation: str, **options: Any) -> Callable[[Rewrite, Port, str], Port]:
    def layers(rewrite: Rewrite, x: Port, suffix: str) -> Port:
        masking = not rewrite.layer.is_operation
        return rewrite.operation(
            operation, x, suffix=suffix, masking=masking, **options
        )

    return layers


_MADE: Mapping[str, Callable[[Rewrite, Port, str], Port]] = MappingProxyType(
    {
        "celu": _celu,
        "exponential": _by_script("exp"),
        "glu": _by_script("glu"),
        "hard_shrink": _by_script("hard_shrink"),
        "hard_sigmoid": _hard_sigmoid,
        "hard_silu": _hard_silu,
        "hard_swish": _hard_silu,
        "hard_tanh": _hard_tanh,
        "leaky_relu": _leaky_relu(0.2),
        "log_sigmoid": _log_sigmoid,
        "soft_shrink": _by_script("soft_shrink"),
        "sparse_plus": _by_script("sparse_plus"),
        "sparse_sigmoid": _by_script("sparse_sigmoid"),
        "squareplus": _by_script("square_plus"),
        "tanh_shrink": _tanh_shrink,
    }
)


def leaky_relu_layer(
    rewrite: Rewrite, x: Port, config: Mapping[str, Any], suffix: str
) -> Port:
    """``alpha`` in Keras 2, ``negative_slope`` in Keras 3."""
    slope = number(config.get("negative_slope", config.get("alpha", 0.3)))
    return rewrite.add("LeakyReLU", x, {"alpha": slope}, suffix=suffix)


def relu_layer(
    rewrite: Rewrite, x: Port, config: Mapping[str, Any], suffix: str
) -> Port:
    """A ReLU; TensorFlow.js takes ``max_value`` alone."""
    slope = number(config.get("negative_slope")) or 0.0
    threshold = number(config.get("threshold")) or 0.0
    maximum = number(config.get("max_value"))
    if slope and (threshold or maximum is not None):
        raise rewrite.refusal(
            "negative_slope together with threshold or max_value is not in "
            "TensorFlow.js; use a LeakyReLU, or a ReLU without negative_slope"
        )
    if threshold and maximum is not None:
        raise rewrite.refusal(
            "threshold together with max_value is not in TensorFlow.js; use one of them"
        )
    if threshold:
        return rewrite.add("ThresholdedReLU", x, {"theta": threshold}, suffix=suffix)
    if slope:
        return rewrite.add("LeakyReLU", x, {"alpha": slope}, suffix=suffix)
    return rewrite.add("ReLU", x, {"max_value": maximum}, suffix=suffix)


def elu_layer(
    rewrite: Rewrite, x: Port, config: Mapping[str, Any], suffix: str
) -> Port:
    """TensorFlow.js leaves ``alpha`` out of its sums (tfjs-layers
    ``src/layers/advanced_activations.ts``). Written with another one it is
    ``alpha * elu(x) + (1 - alpha) * relu(x)``."""
    alpha = number(config.get("alpha", 1.0))
    if alpha in (None, 1.0):
        return rewrite.add("ELU", x, {"alpha": 1.0}, suffix=suffix)
    assert alpha is not None
    # elu(x) is relu(x) plus its negative side, and alpha scales the latter alone.
    unit = rewrite.add(
        "Activation", x, {"activation": "elu"}, suffix=_join(suffix, "unit")
    )
    positive = rewrite.add("ReLU", x, suffix=_join(suffix, "positive"))
    scaled = affine(rewrite, unit, alpha, suffix=_join(suffix, "scaled"))
    rest = affine(rewrite, positive, 1.0 - alpha, suffix=_join(suffix, "rest"))
    return rewrite.add("Add", [scaled, rest], suffix=suffix)


def softmax_layer(
    rewrite: Rewrite, x: Port, config: Mapping[str, Any], suffix: str
) -> Port:
    """TensorFlow.js computes it over the last axis; others are moved there."""
    axis = config.get("axis", -1)
    if isinstance(axis, list):
        if len(axis) > 1:
            raise rewrite.refusal(
                "over several axes it is not in TensorFlow.js; reshape them into one"
            )
        axis = axis[0]
    shape = rewrite.shapes[0] if rewrite.shapes else None
    last = axis == -1 or (shape is not None and axis == len(shape) - 1)
    if last:
        return rewrite.add("Softmax", x, {"axis": -1}, suffix=suffix)
    rank = len(rewrite.shape)
    dims = swapped_dims(rewrite, axis, rank)
    moved = rewrite.add("Permute", x, {"dims": dims}, suffix=_join(suffix, "moved"))
    done = rewrite.add("Softmax", moved, {"axis": -1}, suffix=_join(suffix, "softmax"))
    return rewrite.add("Permute", done, {"dims": dims}, suffix=suffix)


def swapped_dims(rewrite: Rewrite, axis: int, rank: int) -> list[int]:
    """The ``dims`` of a Permute that swaps *axis* and the last one."""
    axis = axis % rank
    if axis == 0:
        raise rewrite.refusal("works along the batch, which a browser never sees whole")
    dims = list(range(1, rank))
    dims[axis - 1], dims[-1] = dims[-1], dims[axis - 1]
    return dims


_LAYERS: Mapping[str, Callable[[Rewrite, Port, Mapping[str, Any], str], Port]] = (
    MappingProxyType(
        {
            "ELU": elu_layer,
            "LeakyReLU": leaky_relu_layer,
            "ReLU": relu_layer,
            "Softmax": softmax_layer,
        }
    )
)
