"""What in a topology that Keras wrote TensorFlow.js 4.22 refuses or mistakes, as far as
the JSON tells one layer at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..format.manifest import shown
from ..format.topology import keras_layers
from .configs import number
from .graph import MODELS
from .reading import plain_class
from .rules import RULES
from .weight_names import is_variable

#: The classes of layers and models in the published bundles of TensorFlow.js.
CLASSES = frozenset(
    """
    Activation Add AlphaDropout Average AveragePooling1D AveragePooling2D
    AveragePooling3D BatchNormalization Bidirectional CategoryEncoding CenterCrop
    Concatenate Conv1D Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM2D
    ConvLSTM2DCell Cropping2D Dense DepthwiseConv2D Dot Dropout ELU Embedding Flatten
    Functional GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalMaxPooling1D GlobalMaxPooling2D InputLayer LSTM
    LSTMCell LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D MaxPooling3D
    Maximum Minimum Model Multiply PReLU Permute RNN RandomWidth ReLU RepeatVector
    Rescaling Reshape Resizing SeparableConv2D Sequential SimpleRNN SimpleRNNCell
    Softmax SpatialDropout1D StackedRNNCells ThresholdedReLU TimeDistributed
    UpSampling2D ZeroPadding2D
    """.split()
)

# What Keras has and TensorFlow.js does not know by that name. Other names may be those
# of classes that the page registers.
_OPERATIONS = frozenset({"SlicingOpLambda", "TFOpLambda"})
_ACTIVATIONS = frozenset(
    """
    celu exponential glu hard_shrink hard_silu hard_swish hard_tanh leaky_relu
    log_sigmoid silu soft_shrink sparse_plus sparse_sigmoid sparsemax squareplus
    tanh_shrink threshold
    """.split()
)
_INITIALIZERS = frozenset(
    """
    IdentityInitializer LecunNormal LecunUniform OrthogonalInitializer STFTInitializer
    """.split()
)
_REGULARIZERS = frozenset("L1 L2 OrthogonalRegularizer l1 l2".split())
_DTYPES = frozenset("bool complex64 float32 int32 string".split())

# Characters of a weight's name that are looked at.
_MAX_NAME = 1000


@dataclass(frozen=True, slots=True)
class Misfit:
    """One thing that TensorFlow.js refuses or mistakes.

    :ivar where: the layer, or the member of the JSON.
    :ivar reason: goes on from there: ``has the regularizer L2, which …``.
    """

    where: str
    reason: str


def misfits(document: Any, weights: Sequence[str]) -> list[Misfit]:
    """What does not fit in the document of a layers model.

    :param weights: the names of its weights.
    """
    layers = list(keras_layers(document))
    models = [_model_of(document), *filter(_is_model, layers)]
    by_model = (misfit for model in models for misfit in _of_model(model))
    return [
        *([_KERAS_3] if any(map(_is_keras_3, layers)) else by_model),
        *(misfit for layer in layers for misfit in _of_layer(layer)),
        *_of_weights(layers, weights),
    ]


def is_keras_3_form(document: Any) -> bool:
    """Whether a topology is written as only Keras 3 writes it."""
    return any(map(_is_keras_3, keras_layers(document)))


def _is_keras_3(layer: dict[str, Any]) -> bool:
    calls, config = layer.get("inbound_nodes"), _dict(layer.get("config"))
    if isinstance(calls, list) and any(isinstance(call, dict) for call in calls):
        return True
    return "batch_shape" in config and "batch_input_shape" not in config


def _model_of(document: Any) -> dict[str, Any]:
    topology = _dict(_dict(document).get("modelTopology"))
    return _dict(topology.get("model_config")) or topology


def _is_model(layer: dict[str, Any]) -> bool:
    return _class_of(layer) in MODELS


def _class_of(layer: dict[str, Any]) -> str:
    return plain_class(str(layer.get("class_name")))


def _name_of(layer: dict[str, Any]) -> str:
    name = layer.get("name") or _dict(layer.get("config")).get("name")
    return str(name or _class_of(layer))


#: What is said once of a topology in the form of Keras 3.
_KERAS_3 = Misfit(
    "modelTopology",
    "is written by Keras 3, which TensorFlow.js refuses ('An InputLayer should be "
    "passed either…')",
)


def _of_model(model: dict[str, Any]) -> Iterator[Misfit]:
    config = _dict(model.get("config"))
    ends = config.get("input_layers"), config.get("output_layers")
    if any(map(_is_flat, ends)):
        yield Misfit(
            _name_of(model),
            "names its inputs or outputs in a form that TensorFlow.js refuses",
        )
    layers = config.get("layers")
    if _class_of(model) == "Sequential" and isinstance(layers, list) and layers:
        first = _dict(_dict(layers[0]).get("config"))
        told = "batch_input_shape" in first or "layers" in first
        if not told and "build_input_shape" in config and "batch_shape" not in first:
            yield Misfit(
                _name_of(model),
                "tells its input's shape where TensorFlow.js does not look",
            )


def _is_flat(ends: Any) -> bool:
    """Whether it is one triple, or a mapping, where TensorFlow.js wants a list."""
    if isinstance(ends, list):
        return bool(ends) and isinstance(ends[0], str)
    return isinstance(ends, dict)


def _of_layer(layer: dict[str, Any]) -> Iterator[Misfit]:
    name, class_name = _name_of(layer), _class_of(layer)
    config = _dict(layer.get("config"))
    dtype = config.get("dtype")
    if "batch_input_shape" in config and isinstance(dtype, str) and dtype:
        if dtype not in _DTYPES:
            yield Misfit(name, f"takes {shown(dtype)}, which TensorFlow.js has not")
    for reason in _reasons(class_name, config):
        yield Misfit(name, reason)
    inner = config.get("layer")
    if isinstance(inner, dict):
        for reason in _reasons(_class_of(inner), _dict(inner.get("config"))):
            yield Misfit(name, f"holds a layer that {reason}")


def _reasons(class_name: str, config: dict[str, Any]) -> Iterator[str]:
    """Why TensorFlow.js does not make of a layer what Keras does."""
    lacks = class_name not in CLASSES and class_name in RULES
    if lacks or class_name in _OPERATIONS:
        yield f"is a {class_name}, which TensorFlow.js lacks"
    for key, value in config.items():
        yield from _member_reasons(key, value)
    own = _BY_CLASS.get(class_name)
    if own is not None and (reason := own(config)):
        yield reason


def _member_reasons(key: str, value: Any) -> Iterator[str]:
    named = _dict(value).get("class_name", value)
    if not isinstance(named, str):
        return
    if key.endswith("_regularizer") and named in _REGULARIZERS:
        yield f"has the regularizer {named}, which TensorFlow.js does not know"
    if key.endswith("_initializer"):
        distribution = _dict(_dict(value).get("config")).get("distribution")
        if named in _INITIALIZERS or distribution == "untruncated_normal":
            yield f"has the initializer {named}, which TensorFlow.js refuses"
    if key.endswith("activation") and named in _ACTIVATIONS:
        yield f"has the activation {named}, which TensorFlow.js does not know"


def _gru(config: dict[str, Any]) -> str | None:
    if config.get("reset_after"):
        return "has reset_after, which TensorFlow.js refuses"
    return None


def _up_sampling(config: dict[str, Any]) -> str | None:
    if config.get("interpolation") == "bilinear":
        return "interpolates bilinearly, which TensorFlow.js does otherwise, silently"
    return None


def _separable(config: dict[str, Any]) -> str | None:
    keys = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
    if any(config.get(key) is not None for key in keys):
        return "has members 'kernel_…', which TensorFlow.js refuses"
    return None


def _convolution(config: dict[str, Any]) -> str | None:
    if (number(config.get("groups")) or 1) > 1:
        return "has groups, which TensorFlow.js leaves out"
    if config.get("padding") == "causal":
        return "has causal padding, which TensorFlow.js refuses"
    return None


def _depthwise(config: dict[str, Any]) -> str | None:
    if _is_dilated(config):
        return "is dilated, which TensorFlow.js leaves out of its sums, silently"
    return None


def _transposed(config: dict[str, Any]) -> str | None:
    if _is_dilated(config) or config.get("output_padding") is not None:
        return "has dilations or output_padding, which TensorFlow.js leaves out"
    return None


def _is_dilated(config: dict[str, Any]) -> bool:
    rates = config.get("dilation_rate")
    return any(r != 1 for r in (rates if isinstance(rates, list) else [rates or 1]))


def _relu(config: dict[str, Any]) -> str | None:
    if number(config.get("negative_slope")) or number(config.get("threshold")):
        return "has negative_slope or threshold, which TensorFlow.js leaves out"
    return None


_BY_CLASS = MappingProxyType(
    {
        **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _convolution),
        **dict.fromkeys(("Conv2DTranspose", "Conv3DTranspose"), _transposed),
        "DepthwiseConv2D": _depthwise,
        "GRU": _gru,
        "ReLU": _relu,
        "SeparableConv2D": _separable,
        "UpSampling2D": _up_sampling,
    }
)


def _of_weights(
    layers: Sequence[dict[str, Any]], weights: Sequence[str]
) -> Iterator[Misfit]:
    known = {_name_of(layer) for layer in layers if not _is_model(layer)}
    for name in weights:
        if is_variable(name) or not _belongs(name, known):
            yield Misfit(
                "weightsManifest",
                f"calls a weight {shown(name)}, which is not what TensorFlow.js looks "
                "for",
            )
            return


def _belongs(name: str, layers: set[str]) -> bool:
    """Whether a name begins with that of a layer, as all do in TensorFlow.js."""
    ends = (match.start() for match in re.finditer("/", name[:_MAX_NAME]))
    return any(name[:end] in layers for end in ends)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
