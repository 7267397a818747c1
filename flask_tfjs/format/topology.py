"""What a model's topology says about it to a person: inputs, outputs, layers or ops.

Nothing here decides whether a model is served. A topology is the most varied part of
the format, so what is not understood is left out, never refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .manifest import Kind
from .manifest import ModelJSON

#: The call that loads each kind.
LOADERS: Mapping[Kind, str] = MappingProxyType(
    {
        "layers-model": "tf.loadLayersModel",
        "graph-model": "tf.loadGraphModel",
        "weights-manifest": "tf.io.loadWeights",
    }
)

# Layers of tfjs-layers that never have weights; a model inside a model has those of
# its layers.
_WITHOUT_WEIGHTS = frozenset(
    """
    Activation Add AlphaDropout Average AveragePooling1D AveragePooling2D
    AveragePooling3D CategoryEncoding CenterCrop Concatenate Cropping2D Dot Dropout ELU
    Flatten Functional GaussianDropout GaussianNoise GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalMaxPooling1D GlobalMaxPooling2D InputLayer LeakyReLU
    Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum Model Multiply
    Permute RandomWidth ReLU RepeatVector Rescaling Reshape Resizing Sequential Softmax
    SpatialDropout1D ThresholdedReLU UpSampling2D ZeroPadding2D
    """.split()
)

Shape = tuple[int | None, ...]

# Beyond this JavaScript no longer counts exactly.
_MAX_SIZE = 2**53


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output. ``None`` in *shape* is a size left open, ``None`` in its
    place a shape the topology does not tell."""

    name: str
    shape: Shape | None
    dtype: str | None


@dataclass(frozen=True, slots=True)
class Topology:
    """A topology at a glance.

    :ivar units: how many layers (layers models) or nodes (graph models) of each class
        or op, the commonest first.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    units: Mapping[str, int]


def describe(model: ModelJSON) -> Topology:
    """The topology of *model*; empty for weights alone."""
    if model.kind == "graph-model":
        return _describe_graph(model.document)
    if model.kind == "layers-model":
        return _describe_layers(model.document["modelTopology"])
    return Topology((), (), {})


def keras_model(document: Any) -> dict[str, Any]:
    """The outermost model of a layers model's document: its class and config."""
    return _model_config(_dict(_dict(document).get("modelTopology")))


def keras_layers(document: Any) -> Iterator[dict[str, Any]]:
    """The layers of a layers model's document, those of nested models after theirs."""
    yield from _layers(keras_model(document))


def layers_in(model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The layers of a model, or of a model that is a layer, but for those in them."""
    # A Sequential's config was the bare list of its layers before Keras 2.2.3.
    config = model.get("config")
    layers = config if isinstance(config, list) else _dict(config).get("layers")
    return (layer for layer in _list(layers) if isinstance(layer, dict))


def graph_nodes(document: Any) -> Iterator[dict[str, Any]]:
    """The nodes of a graph model's document, those of its functions after them."""
    topology = _dict(_dict(document).get("modelTopology"))
    library = _list(_dict(topology.get("library")).get("function"))
    bodies = [_dict(function).get("nodeDef") for function in library]
    for nodes in (topology.get("node"), *bodies):
        yield from (node for node in _list(nodes) if isinstance(node, dict))


def may_have_weights(document: Any) -> bool:
    """Whether a layer of a layers model's document may have weights."""
    return any(
        str(layer.get("class_name")) not in _WITHOUT_WEIGHTS
        for layer in keras_layers(document)
    )


def _describe_graph(document: dict[str, Any]) -> Topology:
    nodes = [
        _dict(node) for node in _list(_dict(document["modelTopology"]).get("node"))
    ]
    # The client lets the one in the metadata win (tfjs-converter graph_model.ts).
    metadata = _dict(document.get("userDefinedMetadata"))
    signature = _dict(metadata.get("signature") or document.get("signature"))
    inputs = _signature_ports(signature.get("inputs"))
    if not inputs:
        inputs = tuple(
            _placeholder(node) for node in nodes if node.get("op") == "Placeholder"
        )
    ops = Counter(str(node.get("op")) for node in nodes)
    outputs = _signature_ports(signature.get("outputs"))
    return Topology(inputs, outputs, dict(ops.most_common()))


def _signature_ports(ports: Any) -> tuple[Port, ...]:
    return tuple(
        Port(str(name), _tensor_shape(info.get("tensorShape")), _dtype(info))
        for name, info in ((name, _dict(info)) for name, info in _dict(ports).items())
    )


def _placeholder(node: dict[str, Any]) -> Port:
    attributes = _dict(node.get("attr"))
    shape = _dict(_dict(attributes.get("shape")).get("shape"))
    dtype = _dict(attributes.get("dtype"))
    return Port(str(node.get("name")), _tensor_shape(shape), _dtype(dtype, "type"))


def _tensor_shape(shape: Any) -> Shape | None:
    if not isinstance(shape, dict) or shape.get("unknownRank"):
        return None
    sizes = [_dict(dim).get("size") for dim in _list(shape.get("dim"))]
    return tuple(_size(size) for size in sizes)


def _dtype(info: dict[str, Any], key: str = "dtype") -> str | None:
    dtype = info.get(key)
    return dtype.removeprefix("DT_").lower() if isinstance(dtype, str) else None


def _describe_layers(topology: Any) -> Topology:
    config = _model_config(_dict(topology))
    layers = list(_layers(config))
    by_name = {str(_dict(layer.get("config")).get("name")): layer for layer in layers}
    inner = _dict(config.get("config"))
    inputs = _layer_names(inner.get("input_layers"))
    outputs = _layer_names(inner.get("output_layers"))
    if not inputs and not outputs and layers:  # Sequential
        names = list(by_name)
        inputs, outputs = names[:1], names[-1:]
    classes = Counter(str(layer.get("class_name")) for layer in layers)
    return Topology(
        tuple(_layer_port(name, by_name.get(name)) for name in inputs),
        tuple(Port(name, None, None) for name in outputs),
        dict(classes.most_common()),
    )


def _model_config(topology: dict[str, Any]) -> dict[str, Any]:
    return _dict(topology.get("model_config")) or topology


def _layers(model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for layer in layers_in(model):
        yield layer
        yield from _layers(layer)


def _layer_names(layers: Any) -> list[str]:
    """``[["a", 0, 0], ["b", 0, 0]]``, or one flat triple as Keras 3 writes it."""
    layers = _list(layers)
    if layers and isinstance(layers[0], str):
        return [layers[0]]
    return [str(layer[0]) for layer in layers if isinstance(layer, list) and layer]


def _layer_port(name: str, layer: dict[str, Any] | None) -> Port:
    config = _dict(_dict(layer).get("config"))
    shape = config.get("batch_input_shape", config.get("batch_shape"))
    dtype = config.get("dtype")
    return Port(
        name,
        tuple(_size(size) for size in shape) if isinstance(shape, list) else None,
        dtype if isinstance(dtype, str) else None,
    )


def _size(size: Any) -> int | None:
    # A graph has them as texts; of any length, and a number beyond this is no size.
    if isinstance(size, str) and len(size) > len(str(_MAX_SIZE)):
        return None
    try:
        number = int(size)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number <= _MAX_SIZE else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
