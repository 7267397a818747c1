"""The shapes of the tensors in a graph, as Keras infers them. What cannot be told is
``None``; a rule that needs it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from .functions import ELEMENTWISE
from .functions import function_name
from .graph import Call
from .graph import Graph
from .graph import Layer
from .graph import Shape
from .graph import Tensor
from .graph import to_shape
from .slots import channels_of
from .slots import rank_of
from .slots import sizes

Shapes = Mapping[Tensor, Shape | None]

Config = Mapping[str, Any]
Inputs = Sequence[Shape]


def infer(
    graph: Graph, inputs: Sequence[Shape | None] = (), known: _Inferred | None = None
) -> dict[Tensor, Any]:
    """The shape of every tensor in *graph* (``Shape | None``).

    :param inputs: those of a nested model's inputs, which its own do not tell.
    :param known: what was inferred of nested models already.
    """
    known = {} if known is None else known
    key = (id(graph), tuple(inputs))
    if key not in known:
        known[key] = _infer(graph, inputs, known)
    return known[key]


_Inferred = dict[tuple[int, tuple[Shape | None, ...]], dict[Tensor, Any]]


def _infer(
    graph: Graph, inputs: Sequence[Shape | None], known: _Inferred
) -> dict[Tensor, Any]:
    shapes: dict[Tensor, Any] = dict(graph.shapes)
    if len(inputs) == len(graph.inputs):
        shapes.update(zip(graph.inputs, inputs, strict=True))
    uncalled = ((layer, 0, Call()) for layer in graph.layers if not layer.calls)
    for layer, index, call in (*uncalled, *graph.in_order()):
        given = [shapes.get(tensor) for tensor in call.inputs]
        for number, shape in enumerate(_outputs(layer, call, given, known)):
            output = Tensor(layer.name, index, number)
            shapes[output] = shapes.get(output) or shape
    return shapes


def outputs_of(
    class_name: str, config: Config, inputs: Sequence[Shape | None]
) -> list[Shape | None]:
    """The shapes of what a layer returns."""
    if class_name == "InputLayer":
        return [input_shape(config)]
    rule = _RULES.get(class_name)
    if rule is None or any(shape is None for shape in inputs) or not inputs:
        return [None]
    try:
        shape = rule(class_name, config, [s for s in inputs if s is not None])
    except (IndexError, KeyError, TypeError, ValueError):
        return [None]
    return list(shape) if isinstance(shape, list) else [shape]


def input_shape(config: Config) -> Shape | None:
    """The shape that a layer's config gives its input."""
    shape = config.get("batch_shape") or config.get("batch_input_shape")
    if shape is None and config.get("shape") is not None:
        shape = [None, *config["shape"]]
    return None if shape is None else to_shape(shape)


def _outputs(
    layer: Layer, call: Call, inputs: Sequence[Shape | None], inferred: _Inferred
) -> list[Shape | None]:
    if layer.model is not None:
        inner = infer(layer.model, inputs, inferred)
        return [inner.get(output) for output in layer.model.outputs]
    if layer.repeated is not None:
        return [_repeated(layer.repeated, inputs[0] if inputs else None, inferred)]
    if layer.is_operation:
        known = [shape for shape in inputs if shape is not None]
        elementwise = function_name(layer.class_name) in ELEMENTWISE
        whole = elementwise and known and len(known) == len(inputs)
        return [broadcast(known) if whole else None]
    if not inputs:  # the first of a Sequential without an InputLayer
        inputs = [input_shape(layer.config)]
    if layer.class_name == "InputLayer":
        return [input_shape(layer.config)]
    return outputs_of(layer.class_name, layer.config, inputs)


def each_step(shape: Shape | None) -> Shape | None:
    """The shape of one step of a sequence."""
    return None if shape is None else (shape[0], *shape[2:])


def _repeated(model: Graph, shape: Shape | None, inferred: _Inferred) -> Shape | None:
    inner = infer(model, [each_step(shape)], inferred).get(model.outputs[0])
    if inner is None or shape is None:
        return None
    return (*shape[:2], *inner[1:])


def broadcast(shapes: Sequence[Shape]) -> Shape | None:
    """The shape of an elementwise operation on tensors of *shapes*."""
    rank = max(len(shape) for shape in shapes)
    sizes: list[int | None] = []
    for axis in range(-rank, 0):
        along = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        if len(along - {None}) > 1:
            return None
        sizes.append(next(iter(along - {None} or along), 1))
    return tuple(sizes)


def element_count(shape: Sequence[int | None]) -> int | None:
    """How many elements a tensor of that shape has."""
    known = [size for size in shape if size is not None]
    return math.prod(known) if len(known) == len(shape) else None


def _same(class_name: str, config: Config, inputs: Inputs) -> Shape:
    return inputs[0]


def _dense(class_name: str, config: Config, inputs: Inputs) -> Shape:
    return (*inputs[0][:-1], int(config["units"]))


def _flatten(class_name: str, config: Config, inputs: Inputs) -> Shape:
    return (inputs[0][0], element_count(inputs[0][1:]))


def _reshape(class_name: str, config: Config, inputs: Inputs) -> Shape:
    return (inputs[0][0], *filled(config["target_shape"], inputs[0][1:]))


def filled(target: Sequence[int | None], shape: Sequence[int | None]) -> Shape:
    """*target* with the size that is left open, -1 or ``None``, filled in."""
    total = element_count(shape)
    known = [int(size) for size in target if size is not None and size >= 0]
    rest = total // max(math.prod(known), 1) if total is not None else None
    return tuple(rest if size is None or size < 0 else int(size) for size in target)


def _permute(class_name: str, config: Config, inputs: Inputs) -> Shape:
    return (inputs[0][0], *(inputs[0][axis] for axis in config["dims"]))


def _repeat(class_name: str, config: Config, inputs: Inputs) -> Shape:
    return (inputs[0][0], int(config["n"]), inputs[0][1])


def _embedding(class_name: str, config: Config, inputs: Inputs) -> Shape:
    return (*inputs[0], int(config["output_dim"]))


def _merge(class_name: str, config: Config, inputs: Inputs) -> Shape | None:
    return broadcast(inputs)


def concatenated(inputs: Sequence[Shape], axis: int) -> Shape:
    """The shape of tensors of shapes *inputs* put together along *axis*."""
    shape = list(inputs[0])
    along = [one[axis] for one in inputs]
    known = [size for size in along if size is not None]
    shape[axis] = sum(known) if len(known) == len(along) else None
    return tuple(shape)


def _concatenate(class_name: str, config: Config, inputs: Inputs) -> Shape:
    return concatenated(inputs, int(config.get("axis", -1)))


def _dot(class_name: str, config: Config, inputs: Inputs) -> Shape:
    axes = config["axes"]
    first, second = [axes, axes] if isinstance(axes, int) else axes
    left, right = list(inputs[0]), list(inputs[1])
    left.pop(first)
    right.pop(second)
    shape = (*left, *right[1:])
    return shape if len(shape) > 1 else (*shape, 1)


def _space(config: Config, shape: Shape) -> slice:
    return slice(2, None) if _channels_first(config) else slice(1, len(shape) - 1)


def _channels_first(config: Config) -> bool:
    return config.get("data_format") == "channels_first"


def _with_space(
    config: Config, shape: Shape, space: Sequence[int | None], channels: int | None
) -> Shape:
    if _channels_first(config):
        return (shape[0], channels, *space)
    return (shape[0], *space, channels)


def _windows(
    config: Config, shape: Shape, window: Sequence[int], strides: Sequence[int]
) -> list[int | None]:
    """The sizes of space after a window moved over it."""
    same = config.get("padding", "valid") in ("same", "causal")
    dilations = sizes(config.get("dilation_rate") or 1, len(window))
    space: list[int | None] = []
    along = zip(shape[_space(config, shape)], window, strides, dilations, strict=True)
    for size, width, stride, dilation in along:
        if size is None:
            space.append(None)
        else:
            lost = 0 if same else (width - 1) * dilation
            space.append(max(-(-(size - lost) // stride), 0))
    return space


def _convolution(class_name: str, config: Config, inputs: Inputs) -> Shape:
    shape, rank = inputs[0], rank_of(class_name)
    window = sizes(config["kernel_size"], rank)
    strides = sizes(config.get("strides") or 1, rank)
    channels: int | None
    if class_name.startswith("Depthwise"):
        before = channels_of(shape, config)
        multiplier = int(config.get("depth_multiplier") or 1)
        channels = None if before is None else before * multiplier
    else:
        channels = int(config["filters"])
    space = _windows(config, shape, window, strides)
    return _with_space(config, shape, space, channels)


def _transposed(class_name: str, config: Config, inputs: Inputs) -> Shape:
    shape, rank = inputs[0], rank_of(class_name)
    window = sizes(config["kernel_size"], rank)
    strides = sizes(config.get("strides") or 1, rank)
    if config.get("output_padding") is not None:
        raise ValueError
    space: list[int | None] = []
    along = zip(shape[_space(config, shape)], window, strides, strict=True)
    for size, width, stride in along:
        more = 0 if config.get("padding") == "same" else max(width - stride, 0)
        space.append(None if size is None else size * stride + more)
    return _with_space(config, shape, space, int(config["filters"]))


def _pooling(class_name: str, config: Config, inputs: Inputs) -> Shape:
    shape, rank = inputs[0], rank_of(class_name)
    window = sizes(config["pool_size"], rank)
    strides = sizes(config.get("strides") or window, rank)
    space = _windows({**config, "dilation_rate": 1}, shape, window, strides)
    return _with_space(config, shape, space, channels_of(shape, config))


def _global_pooling(class_name: str, config: Config, inputs: Inputs) -> Shape:
    shape, channels = inputs[0], channels_of(inputs[0], config)
    if config.get("keepdims") or config.get("keep_dims"):
        return _with_space(config, shape, (1,) * rank_of(class_name), channels)
    return (shape[0], channels)


def margins(value: Any, rank: int) -> list[tuple[int, int]]:
    """``padding`` or ``cropping``: before and after on each axis of space."""
    if isinstance(value, int):
        return [(value, value)] * rank
    if rank == 1 and all(isinstance(item, int) for item in value):
        value = [value]
    return [(i, i) if isinstance(i, int) else (int(i[0]), int(i[1])) for i in value]


def _padded(class_name: str, config: Config, inputs: Inputs) -> Shape:
    shape, sign = inputs[0], 1
    value = config.get("padding")
    if class_name.startswith("Cropping"):
        sign, value = -1, config.get("cropping")
    along = zip(
        shape[_space(config, shape)], margins(value, rank_of(class_name)), strict=True
    )
    space = [None if s is None else s + sign * (b + a) for s, (b, a) in along]
    return _with_space(config, shape, space, channels_of(shape, config))


def _up_sampling(class_name: str, config: Config, inputs: Inputs) -> Shape:
    shape = inputs[0]
    times = sizes(config["size"], rank_of(class_name))
    along = zip(shape[_space(config, shape)], times, strict=True)
    space = [None if size is None else size * n for size, n in along]
    return _with_space(config, shape, space, channels_of(shape, config))


def _recurrent(
    class_name: str, config: Config, inputs: Inputs
) -> Shape | list[Shape | None]:
    batch, steps = inputs[0][:2]
    units = int(config["units"])
    output: Shape = (batch, steps, units) if config.get("return_sequences") else ()
    output = output or (batch, units)
    if not config.get("return_state"):
        return output
    states = 2 if class_name == "LSTM" else 1
    return [output, *[(batch, units)] * states]


def _convolutional_lstm(
    class_name: str, config: Config, inputs: Inputs
) -> Shape | list[Shape | None]:
    batch, steps, *frame = inputs[0]
    state = _convolution(class_name, config, [(batch, *frame)])
    output = (batch, steps, *state[1:]) if config.get("return_sequences") else state
    return [output, state, state] if config.get("return_state") else output


def inner_layer(config: Config) -> tuple[str, dict[str, Any]]:
    """The class and config of the layer that a wrapper wraps."""
    layer = config["layer"]
    return str(layer["class_name"]).rpartition(">")[2], layer["config"]


def _bidirectional(
    class_name: str, config: Config, inputs: Inputs
) -> Shape | list[Shape | None]:
    inner = outputs_of(*inner_layer(config), inputs[:1])
    output, states = inner[0], inner[1:]
    if output is None:
        raise ValueError
    mode = config.get("merge_mode", "concat")
    if mode is None:
        return [output, output, *states, *states]
    if mode == "concat" and output[-1] is not None:
        output = (*output[:-1], 2 * output[-1])
    return [output, *states, *states] if states else output


def _time_distributed(class_name: str, config: Config, inputs: Inputs) -> Shape | None:
    batch, steps, *frame = inputs[0]
    (inner,) = outputs_of(*inner_layer(config), [(batch, *frame)])
    return None if inner is None else (batch, steps, *inner[1:])


def _attention(class_name: str, config: Config, inputs: Inputs) -> Shape:
    return (*inputs[0][:-1], inputs[1][-1])


def _multi_head_attention(class_name: str, config: Config, inputs: Inputs) -> Shape:
    out = config.get("output_shape")
    if not out:
        return inputs[0]
    return (*inputs[0][:-1], *((out,) if isinstance(out, int) else out))


_Rule = Callable[[str, Config, Inputs], Any]

_RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        **dict.fromkeys(
            """
        Activation ActivityRegularization AlphaDropout BatchNormalization Dropout ELU
        GaussianDropout GaussianNoise GroupNormalization Identity KerasCausalMask
        KerasGroupNormalization KerasMask KerasRMSNormalization KerasUnitNormalization
        KerasZeroMasked LayerNormalization
        LeakyReLU Masking Normalization PReLU RMSNormalization RandomBrightness
        RandomContrast RandomFlip RandomRotation RandomTranslation RandomZoom ReLU
        Rescaling Softmax SpatialDropout1D SpatialDropout2D SpatialDropout3D
        SpectralNormalization ThresholdedReLU UnitNormalization
        """.split(),
            _same,
        ),
        **dict.fromkeys(
            "Add Average Maximum Minimum Multiply Subtract".split(), _merge
        ),
        **dict.fromkeys(
            """
        Conv1D Conv2D Conv3D DepthwiseConv1D DepthwiseConv2D SeparableConv1D
        SeparableConv2D
        """.split(),
            _convolution,
        ),
        **{f"Conv{rank}DTranspose": _transposed for rank in (1, 2, 3)},
        **{
            f"{kind}Pooling{n}D": _pooling
            for kind in ("Max", "Average")
            for n in (1, 2, 3)
        },
        **{
            f"Global{kind}Pooling{n}D": _global_pooling
            for kind in ("Max", "Average")
            for n in (1, 2, 3)
        },
        **{
            f"{kind}{n}D": _padded
            for kind in ("ZeroPadding", "Cropping")
            for n in (1, 2, 3)
        },
        **{f"UpSampling{rank}D": _up_sampling for rank in (1, 2, 3)},
        **{f"ConvLSTM{rank}D": _convolutional_lstm for rank in (1, 2, 3)},
        **dict.fromkeys(("GRU", "KerasGRU", "LSTM", "SimpleRNN"), _recurrent),
        **dict.fromkeys(("AdditiveAttention", "Attention"), _attention),
        "Bidirectional": _bidirectional,
        "Concatenate": _concatenate,
        "Dense": _dense,
        "Dot": _dot,
        "Embedding": _embedding,
        "Flatten": _flatten,
        "KerasUpSampling2D": _up_sampling,
        "MultiHeadAttention": _multi_head_attention,
        "Permute": _permute,
        "RepeatVector": _repeat,
        "Reshape": _reshape,
        "TimeDistributed": _time_distributed,
    }
)
