"""Layers that stay as they are, that are left out, that are refused; and those too
small for a room of their own."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ...errors import InvalidModel
from ..configs import number
from ..rewrite import Outcome
from ..rewrite import Port
from ..rewrite import Rewrite
from ..rewrite import Rule
from .activations import activate
from .activations import affine
from .activations import softmax_layer
from .space import to_channels_last

#: Layers that TensorFlow.js has, with the same config and the same values.
STOCK = frozenset(
    """
    Add AlphaDropout Average AveragePooling1D AveragePooling2D AveragePooling3D
    Cropping2D Dropout Embedding GaussianDropout GaussianNoise
    Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum Multiply PReLU
    Permute RepeatVector Reshape SpatialDropout1D ThresholdedReLU ZeroPadding2D
    """.split()
)

#: Layers that do nothing when a model predicts.
ONLY_IN_TRAINING = frozenset(
    """
    ActivityRegularization AugMix CutMix Identity MixUp RandAugment RandomBrightness
    RandomColorDegeneration RandomColorJitter RandomContrast
    RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale
    RandomHeight RandomHue RandomInvert RandomPerspective RandomPosterization
    RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation
    RandomWidth RandomZoom
    """.split()
)

_IN_THE_PAGE = (
    "works in TensorFlow.js otherwise or not at all; do this in the page, before the "
    "model"
)

# Why a layer is refused, and the way out.
_REFUSALS = MappingProxyType(
    {
        **dict.fromkeys(
            """
        AutoContrast CategoryEncoding CenterCrop Discretization Equalization
        HashedCrossing Hashing IntegerLookup MaxNumBoundingBoxes MelSpectrogram
        RandomCrop Resizing STFTSpectrogram Solarization StringLookup TextVectorization
        """.split(),
            _IN_THE_PAGE,
        ),
        "Lambda": (
            "is Python code, which a browser cannot run; use Rescaling, Activation or "
            "other layers in its place, or export the model as a SavedModel and "
            "convert that to a graph model"
        ),
        "StackedRNNCells": "is not a layer that can be converted; stack whole layers",
        "RNN": "holds cells; use LSTM, GRU or SimpleRNN layers instead",
    }
)


def refusal(rewrite: Rewrite) -> InvalidModel:
    """Why there is no rule for a layer."""
    class_name = rewrite.layer.class_name
    reason = _REFUSALS.get(class_name)
    if reason is not None:
        return rewrite.refusal(f"{class_name} {reason}")
    return rewrite.refusal(
        f"TensorFlow.js has no layer {class_name}; use other layers, or register a "
        f"class {class_name} in the page and convert with --custom {class_name}"
    )


def kept(rewrite: Rewrite) -> Outcome:
    return rewrite.keep()


def left_out(rewrite: Rewrite) -> Outcome:
    rewrite.note(
        f"{rewrite.layer.class_name} does nothing when a model predicts; left out"
    )
    return rewrite.input()


def activation(rewrite: Rewrite) -> Outcome:
    given = rewrite.layer.config.get("activation")
    return activate(rewrite, rewrite.input(), given, suffix="")


def advanced(
    rule: Callable[[Rewrite, Port, Mapping[str, Any], str], Port],
) -> Rule:
    """A layer that is an activation."""

    def apply(rewrite: Rewrite) -> Outcome:
        return rule(rewrite, rewrite.input(), rewrite.layer.config, "")

    return apply


def softmax(rewrite: Rewrite) -> Outcome:
    if rewrite.masks and rewrite.masks[0] is not None:
        raise rewrite.refusal(
            "is given a mask, which TensorFlow.js applies otherwise; use mask_zero="
            "False, or an Activation('softmax')"
        )
    if len(rewrite.call.inputs) > 1:
        raise rewrite.refusal("is called with a mask; leave it out")
    return softmax_layer(rewrite, rewrite.input(), rewrite.layer.config, "")


def subtract(rewrite: Rewrite) -> Outcome:
    negative = affine(rewrite, rewrite.input(1), -1.0, suffix="negative")
    return rewrite.add("Add", [rewrite.input(0), negative])


def rescaling(rewrite: Rewrite) -> Outcome:
    scale, offset = (
        _constant(rewrite.layer.config.get(key, default))
        for key, default in (("scale", 1.0), ("offset", 0.0))
    )
    return rewrite.add("Rescaling", None, {"scale": scale, "offset": offset})


def _constant(value: Any) -> Any:
    if isinstance(value, dict):
        value = value.get("config", {}).get("value")
    return value if isinstance(value, list) else number(value)


def concatenate(rewrite: Rewrite) -> Outcome:
    """TensorFlow.js takes a negative axis for the last one."""
    axis = int(rewrite.config.get("axis", -1))
    return rewrite.keep(axis=axis if axis == -1 else axis % len(rewrite.shape))


def flatten(rewrite: Rewrite) -> Outcome:
    """Nothing is to be done to rows, which TensorFlow.js refuses."""
    shape = rewrite.shapes[0] if rewrite.shapes else None
    if shape is not None and len(shape) == 2:
        return rewrite.input()
    return rewrite.keep()


def dot(rewrite: Rewrite) -> Outcome:
    if any(shape is None or len(shape) > 3 for shape in rewrite.shapes):
        raise rewrite.refusal(
            "a Dot of tensors of more than three axes is not in TensorFlow.js; use "
            "keras.ops.matmul or reshape them"
        )
    axes = rewrite.config["axes"]
    pair = [axes, axes] if isinstance(axes, int) else list(axes)
    ranks = [len(shape) for shape in rewrite.shapes if shape is not None]
    return rewrite.keep(axes=[a % rank for a, rank in zip(pair, ranks, strict=True)])


def einsum_dense(rewrite: Rewrite) -> Outcome:
    config = dict(rewrite.config)
    given = config.pop("activation", None)
    done = rewrite.script_layer(
        "KerasEinsumDense",
        None,
        {**config, "activation": "linear"},
        rewrite.weights,
        instead="use Dense",
    )
    if given in (None, "linear"):
        return done
    return activate(rewrite, done, rewrite.layer.config["activation"])


# Layers whose config names where the channels are.
_SPATIAL = frozenset(
    {
        *(f"{kind}Pooling{n}D" for kind in ("Average", "Max") for n in (1, 2, 3)),
        *(f"Global{kind}Pooling{n}D" for kind in ("Average", "Max") for n in (1, 2, 3)),
        *(f"Conv{n}D" for n in (1, 2, 3)),
        *(f"Conv{n}DTranspose" for n in (1, 2, 3)),
        *(f"{kind}Conv{n}D" for kind in ("Depthwise", "Separable") for n in (1, 2)),
        *(f"{kind}{n}D" for kind in ("Cropping", "ZeroPadding") for n in (1, 2, 3)),
        *(f"UpSampling{n}D" for n in (1, 2, 3)),
        *(f"SpatialDropout{n}D" for n in (2, 3)),
        "Flatten",
    }
)


def is_channels_first(rewrite: Rewrite) -> bool:
    """Whether the channels stand behind the batch, and that means something."""
    return (
        rewrite.layer.class_name in _SPATIAL
        and rewrite.layer.config.get("data_format") == "channels_first"
    )


def with_channels_last(rewrite: Rewrite, rule: Rule) -> Outcome:
    """The rule for channels at the end, the axes moved before and back after: what is
    behind the batch in TensorFlow.js is not computed on every backend."""
    rank = len(rewrite.shape)
    if rank < 3:
        return rule(rewrite)
    dims = [*range(2, rank), 1]
    x = rewrite.add("Permute", rewrite.input(), {"dims": dims}, suffix="channels_last")
    rewrite.moved = x
    rewrite.config["data_format"] = "channels_last"
    rewrite.shapes = [to_channels_last(rewrite.shape)]
    after = [s and to_channels_last(s) for s in rewrite.output_shapes]
    rewrite.output_shapes = after
    done = rule(rewrite)
    assert isinstance(done, Port)
    keeps = rewrite.config.get("keepdims") or rewrite.config.get("keep_dims")
    pools = rewrite.layer.class_name.startswith("Global") and not keeps
    if pools or rewrite.layer.class_name == "Flatten":
        return done
    back = {"dims": [rank - 1, *range(1, rank - 1)]}
    return rewrite.add("Permute", done, back, suffix="channels_first")
