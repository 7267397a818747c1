"""The config of each layer as both versions of Keras take it: of what TensorFlow.js
writes only what is listed here, since Keras refuses a key that it does not know."""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from typing import Literal

from ..errors import InvalidModel
from ..keras.graph import MODELS
from ..keras.reading import plain_class
from ..keras.slots import Config
from ..keras.slots import axes_of

#: The major version of Keras that is written for.
Version = Literal[2, 3]

_WEIGHT_ROLES = ("initializer", "regularizer", "constraint")


def _of(*slots: str) -> str:
    """The keys about how weights begin and are held."""
    return " ".join(f"{slot}_{role}" for slot in slots for role in _WEIGHT_ROLES)


_ACTIVE = "activation use_bias activity_regularizer"
_WINDOW = "kernel_size strides padding data_format dilation_rate"
_CONVOLUTION = f"filters {_WINDOW} {_ACTIVE} {_of('kernel', 'bias')}"
_CELL = f"""
    activation use_bias dropout recurrent_dropout {_of("kernel", "recurrent", "bias")}
"""
_GATES = "recurrent_activation"
_SEQUENCE = "return_sequences return_state go_backwards stateful zero_output_for_mask"
_RECURRENT = f"{_SEQUENCE} unroll activity_regularizer"
_POOLING = "pool_size strides padding"
_SCALED = f"axis epsilon center scale {_of('beta', 'gamma')}"

#: What a layer's config has beside ``name``, ``trainable`` and ``dtype``, by class.
CONFIG_KEYS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        class_name: frozenset(keys.split())
        for class_name, keys in {
            "Activation": "activation",
            "Add": "",
            "AlphaDropout": "rate",
            "Average": "",
            "AveragePooling1D": _POOLING,
            "AveragePooling2D": f"{_POOLING} data_format",
            "AveragePooling3D": f"{_POOLING} data_format",
            "BatchNormalization": f"""
                {_SCALED} momentum moving_mean_initializer moving_variance_initializer
            """,
            "Bidirectional": "merge_mode layer",
            "Concatenate": "axis",
            "Conv1D": _CONVOLUTION,
            "Conv2D": _CONVOLUTION,
            "Conv2DTranspose": _CONVOLUTION,
            "Conv3D": _CONVOLUTION,
            "Conv3DTranspose": _CONVOLUTION,
            "ConvLSTM2D": f"""
                filters {_WINDOW} {_CELL} {_GATES} unit_forget_bias {_SEQUENCE}
            """,
            "Cropping2D": "cropping data_format",
            "Dense": f"units {_ACTIVE} {_of('kernel', 'bias')}",
            "DepthwiseConv2D": f"""
                {_WINDOW} depth_multiplier {_ACTIVE} {_of("depthwise", "bias")}
            """,
            "Dot": "axes normalize",
            "Dropout": "rate noise_shape seed",
            "ELU": "alpha",
            "EinsumDense": f"""
                equation output_shape activation bias_axes {_of("kernel", "bias")}
            """,
            "Embedding": f"""
                input_dim output_dim mask_zero activity_regularizer {_of("embeddings")}
            """,
            "Flatten": "data_format",
            "GRU": f"units {_CELL} {_GATES} {_RECURRENT} reset_after",
            "GRUCell": f"units {_CELL} {_GATES} reset_after",
            "GaussianDropout": "rate",
            "GaussianNoise": "stddev",
            "GlobalAveragePooling1D": "",
            "GlobalAveragePooling2D": "data_format",
            "GlobalMaxPooling1D": "",
            "GlobalMaxPooling2D": "data_format",
            "GroupNormalization": f"groups {_SCALED}",
            "LSTM": f"units {_CELL} {_GATES} {_RECURRENT} unit_forget_bias",
            "LSTMCell": f"units {_CELL} {_GATES} unit_forget_bias",
            "LayerNormalization": """
                axis epsilon center scale beta_initializer gamma_initializer
                beta_regularizer gamma_regularizer
            """,
            "LeakyReLU": "alpha",
            "Masking": "mask_value",
            "MaxPooling1D": _POOLING,
            "MaxPooling2D": f"{_POOLING} data_format",
            "MaxPooling3D": f"{_POOLING} data_format",
            "Maximum": "",
            "Minimum": "",
            "Multiply": "",
            "PReLU": f"shared_axes {_of('alpha')}",
            "Permute": "dims",
            "RMSNormalization": "axis epsilon",
            "RNN": f"{_SEQUENCE} unroll cell",
            "ReLU": "max_value",
            "RepeatVector": "n",
            "Rescaling": "scale offset",
            "Reshape": "target_shape",
            "SeparableConv2D": f"""
                filters {_WINDOW} depth_multiplier {_ACTIVE}
                {_of("depthwise", "pointwise", "bias")}
            """,
            "SimpleRNN": f"units {_CELL} {_RECURRENT}",
            "SimpleRNNCell": f"units {_CELL}",
            "Softmax": "axis",
            "SpatialDropout1D": "rate seed",
            "StackedRNNCells": "cells",
            "ThresholdedReLU": "theta",
            "TimeDistributed": "layer",
            "UnitNormalization": "axis",
            "UpSampling2D": "size data_format interpolation",
            "ZeroPadding2D": "padding data_format",
        }.items()
    }
)

# What TensorFlow.js takes where the config is silent, and Keras does not.
_HARD = MappingProxyType({"recurrent_activation": "hard_sigmoid"})
_DEFAULTS: Mapping[str, Config] = MappingProxyType(
    {
        "ConvLSTM2D": _HARD,
        "GRU": {**_HARD, "reset_after": False},
        "GRUCell": {**_HARD, "reset_after": False},
        "LSTM": _HARD,
        "LSTMCell": _HARD,
        "Softmax": {"axis": 1},
    }
)

# The classes of the script of layers, and what they stand for. Its GRUs are those that
# apply the reset gate after the product, which TensorFlow.js has no flag for.
_SCRIPT: Mapping[str, str] = MappingProxyType(
    {
        "KerasEinsumDense": "EinsumDense",
        "KerasGRU": "GRU",
        "KerasGRUCell": "GRUCell",
        "KerasGroupNormalization": "GroupNormalization",
        "KerasRMSNormalization": "RMSNormalization",
        "KerasUnitNormalization": "UnitNormalization",
        "KerasUpSampling2D": "UpSampling2D",
    }
)

_FOR_KERAS_3 = "write a .keras file, which Keras 3 reads"
_FOR_KERAS_2 = "write an .h5 file, which tf_keras reads"

# Layers that one version of Keras lacks, and the way out.
_ONLY: Mapping[str, tuple[Version, str]] = MappingProxyType(
    {
        "RMSNormalization": (3, _FOR_KERAS_3),
        "ThresholdedReLU": (2, _FOR_KERAS_2),
    }
)

# Layers that have nothing to train, and do not take that they are not to be.
_UNTRAINABLE = frozenset({"SpatialDropout1D"})

# Layers that TensorFlow.js computes otherwise than Keras does, whatever the options.
_DIFFERENT: Mapping[str, str] = MappingProxyType(
    {
        "CategoryEncoding": "encode in the page, with tf.oneHot()",
        "CenterCrop": "crop with Cropping2D",
        "RandomWidth": "leave it out, and augment the data in the page",
        "Resizing": "resize in the page, with tf.image.resizeBilinear()",
    }
)

# The functions that both have, by the names of TensorFlow.js in a JSON, and which
# version of Keras has them under which name.
_SAME = """
    elu gelu linear log_softmax mish relu relu6 selu sigmoid softmax softplus softsign
    tanh
"""
_ACTIVATIONS: Mapping[Version, Mapping[str, str]] = MappingProxyType(
    {
        2: {
            **{name: name for name in _SAME.split()},
            "swish": "swish",
            "hard_sigmoid": "hard_sigmoid",
        },
        3: {**{name: name for name in _SAME.split()}, "swish": "silu"},
    }
)

_INITIALIZERS: Mapping[str, str] = MappingProxyType(
    {
        "Constant": "value",
        "GlorotNormal": "seed",
        "GlorotUniform": "seed",
        "HeNormal": "seed",
        "HeUniform": "seed",
        "Identity": "gain",
        "LecunNormal": "seed",
        "LecunUniform": "seed",
        "Ones": "",
        "Orthogonal": "gain seed",
        "RandomNormal": "mean stddev seed",
        "RandomUniform": "minval maxval seed",
        "TruncatedNormal": "mean stddev seed",
        "VarianceScaling": "scale mode distribution seed",
        "Zeros": "",
    }
)
_REGULARIZERS: Mapping[str, str] = MappingProxyType(
    {"L1": "l1", "L2": "l2", "L1L2": "l1 l2"}
)
_CONSTRAINTS: Mapping[str, str] = MappingProxyType(
    {
        "MaxNorm": "max_value axis",
        "MinMaxNorm": "min_value max_value rate axis",
        "NonNeg": "",
        "UnitNorm": "axis",
    }
)
_OBJECTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "initializer": _INITIALIZERS,
        "regularizer": _REGULARIZERS,
        "constraint": _CONSTRAINTS,
    }
)


def keras_class(class_name: str) -> str:
    """The class that Keras has for one of TensorFlow.js or of the script of layers."""
    return _SCRIPT.get(class_name, class_name)


def keras_config(class_name: str, config: Config, keras: Version) -> dict[str, Any]:
    """The config of a layer for a version of Keras.

    :param class_name: as TensorFlow.js, or the script of layers, has it.
    :raises InvalidModel: Keras has no such layer, or it would compute something else.
    :raises KeyError, TypeError, ValueError: TensorFlow.js writes no such config.
    """
    where = str(config["name"])
    known = keras_class(class_name)
    _refuse_class(class_name, known, keras, where)
    told = {**_DEFAULTS.get(class_name, {}), **_without_nulls(config)}
    if class_name in ("KerasGRU", "KerasGRUCell"):
        told["reset_after"] = True
    written: dict[str, Any] = {"name": where, "dtype": "float32"}
    if known not in _UNTRAINABLE:
        written["trainable"] = config.get("trainable") is not False
    for key in sorted(CONFIG_KEYS[known] & told.keys()):
        value = _value(key, told[key], keras, where)
        if value is not None:
            written[key] = value
    rule = _RULES.get(class_name)
    if rule is not None:
        rule(written, config, keras)
    return written


def lost(class_name: str, config: Config) -> Iterator[str]:
    """The keys of *config* about training that Keras has nothing for."""
    for key in sorted(CONFIG_KEYS.get(keras_class(class_name), ())):
        role = key.rpartition("_")[2]
        value = config.get(key)
        if role in ("regularizer", "constraint") and value is not None:
            # TensorFlow.js writes the regularizer of a depthwise kernel twice
            # (tfjs-layers src/layers/convolutional_depthwise.ts).
            twice = key == "depthwise_constraint" and value == config.get(
                "depthwise_regularizer"
            )
            if _object(value, role) is None and not twice:
                yield key
    for inner in ("layer", "cell"):
        if isinstance(config.get(inner), dict):
            yield from lost(config[inner]["class_name"], config[inner]["config"])


def wrapped(class_name: str, config: Config, module: str = "keras.layers") -> Any:
    """An object as Keras writes it into a config."""
    return {
        "module": module,
        "class_name": class_name,
        "config": dict(config),
        "registered_name": None,
    }


def _refuse_class(class_name: str, known: str, keras: Version, where: str) -> None:
    if known in _DIFFERENT:
        raise InvalidModel(
            f"{class_name} computes something else in TensorFlow.js than in Keras; "
            f"{_DIFFERENT[known]}",
            where,
        )
    if known not in CONFIG_KEYS:
        raise InvalidModel(
            f"{class_name} is no layer of Keras, and no rule writes it as one; use "
            "layers of TensorFlow.js that Keras has, too",
            where,
        )
    version, instead = _ONLY.get(known, (keras, ""))
    if version != keras:
        raise InvalidModel(f"Keras {keras} has no {known}; {instead}", where)


def _without_nulls(config: Config) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}


def _value(key: str, value: Any, keras: Version, where: str) -> Any:
    """The value of a member; ``None`` leaves it out."""
    role = key.rpartition("_")[2]
    if role in _OBJECTS:
        return _object(value, role)
    if role == "activation":
        return _activation(key, value, keras, where)
    if key in ("layer", "cell"):
        return _inner(value, keras)
    if key == "cells":
        return [_inner(cell, keras) for cell in value]
    if key == "seed":
        return _seed(value)
    if key in ("padding", "data_format", "interpolation", "merge_mode"):
        return _snake_case(value) if isinstance(value, str) else value
    return value


def _inner(document: Any, keras: Version) -> Any:
    class_name, config = plain_class(document["class_name"]), document["config"]
    if class_name in MODELS:
        raise InvalidModel(
            "is a whole model within a wrapper; wrap each of its layers instead",
            str(config.get("name")),
        )
    return wrapped(keras_class(class_name), keras_config(class_name, config, keras))


def _activation(key: str, value: Any, keras: Version, where: str) -> str:
    name = _snake_case(str(value))
    if name in _ACTIVATIONS[keras]:
        return _ACTIVATIONS[keras][name]
    option = re.sub("_(.)", lambda match: match[1].upper(), key)
    if name == "hard_sigmoid":
        raise InvalidModel(
            f"{option} 'hardSigmoid' is another function in Keras 3; build it in the "
            f"page with {option}: 'sigmoid' and train it again, or {_FOR_KERAS_2}",
            where,
        )
    if name == "gelu_new":
        raise InvalidModel(
            f"Keras has no name for {option} 'gelu_new'; take 'gelu', or a layer of it "
            "after this one",
            where,
        )
    raise InvalidModel(
        f"{option} {value!r} is no function that Keras has; take another", where
    )


def _object(value: Any, role: str) -> Any:
    """An initializer, a regularizer or a constraint; ``None`` for one that Keras does
    not have: no prediction depends on it."""
    known = _OBJECTS[role]
    if not isinstance(value, dict):
        return None
    # TensorFlow.js spells LeCun as the man does.
    class_name = str(value.get("class_name")).replace("LeCun", "Lecun")
    if class_name not in known:
        return None
    config = value.get("config") or {}
    kept = {
        key: _seed(config[key]) if key == "seed" else config[key]
        for key in known[class_name].split()
        if key in config
    }
    if kept.get("distribution") == "normal":
        kept["distribution"] = "truncated_normal"
    return wrapped(class_name, kept, f"keras.{role}s")


def _seed(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _snake_case(name: str) -> str:
    return re.sub("(?<=[a-z])([A-Z])", r"_\1", name).lower()


# Rules of single classes: each changes the config that is to be written, whose values
# are those of Keras already, by what TensorFlow.js has.


def _one_axis(config: dict[str, Any], told: Config, keras: Version) -> None:
    # Once built, TensorFlow.js has a list where Keras wants a number.
    axes = axes_of(config)
    config["axis"] = axes[0] if len(axes) == 1 else axes


def _bidirectional(config: dict[str, Any], told: Config, keras: Version) -> None:
    if "merge_mode" in told:
        config["merge_mode"] = told["merge_mode"]  # None is a mode, too
    # Keras lets the other layer go backwards, too, unless it is given.
    layer = config["layer"]
    if layer["config"].get("go_backwards"):
        forwards = {**layer["config"], "go_backwards": False}
        config["backward_layer"] = {**layer, "config": forwards}


def _concatenate(config: dict[str, Any], told: Config, keras: Version) -> None:
    # To TensorFlow.js each negative axis is the last one (tfjs-layers
    # src/backend/tfjs_backend.ts, concatenate).
    config["axis"] = max(config.get("axis", -1), -1)


def _depthwise(config: dict[str, Any], told: Config, keras: Version) -> None:
    # TensorFlow.js does not dilate, whatever the config says (tfjs-layers
    # src/layers/convolutional_depthwise.ts).
    config.pop("dilation_rate", None)


def _leaky_relu(config: dict[str, Any], told: Config, keras: Version) -> None:
    alpha = config.pop("alpha", 0.3)
    config["alpha" if keras == 2 else "negative_slope"] = alpha


def _reshape(config: dict[str, Any], told: Config, keras: Version) -> None:
    sizes = config["target_shape"]
    config["target_shape"] = [-1 if size is None else size for size in sizes]


def _separable(config: dict[str, Any], told: Config, keras: Version) -> None:
    if config.get("data_format") == "channels_first":
        raise InvalidModel(
            "TensorFlow.js adds the bias of a SeparableConv2D with channels first to "
            "another axis than Keras does; build it with dataFormat: 'channelsLast'",
            config["name"],
        )


def _transposed(config: dict[str, Any], told: Config, keras: Version) -> None:
    config.pop("dilation_rate", None)


def _up_sampling(config: dict[str, Any], told: Config, keras: Version) -> None:
    if config.get("interpolation", "nearest") != "nearest":
        raise InvalidModel(
            "TensorFlow.js interpolates between other points than Keras does; build it "
            "with interpolation: 'nearest', or as a KerasUpSampling2D of the script of "
            "layers",
            config["name"],
        )


_Rule = Callable[[dict[str, Any], Config, Version], None]

_RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        "BatchNormalization": _one_axis,
        "Bidirectional": _bidirectional,
        "Concatenate": _concatenate,
        "Conv2DTranspose": _transposed,
        "Conv3DTranspose": _transposed,
        "DepthwiseConv2D": _depthwise,
        "LayerNormalization": _one_axis,
        "LeakyReLU": _leaky_relu,
        "Reshape": _reshape,
        "SeparableConv2D": _separable,
        "UpSampling2D": _up_sampling,
    }
)
