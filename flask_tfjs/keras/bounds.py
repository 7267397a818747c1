"""What is not tried: models whose mending would take much longer than their files are
large."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidModel
from ..format.topology import keras_layers
from .graph import Graph
from .weight_names import layers_of

#: Layers that a model may have, each use of a nested one counted. Those that come with
#: Keras have up to 1,100.
MAX_LAYERS = 5000

# Members, and elements of lists, of the whole topology.
_MAX_MEMBERS = 2_000_000

# Layers of one name, in models within models.
_MAX_NAMESAKES = 1000

# Pairs of tensors that layers are called with at once.
_MAX_PAIRS = 500_000

# Axes of a tensor, heads of attention, parts of a split tensor.
_MAX_AXES = 32
_MAX_PARTS = 1000

#: The way out for a model that Keras still has.
CONVERT = "convert the Keras file itself: flask tfjs convert model.keras DIRECTORY"


def refuse_endless_shapes(document: Any) -> None:
    """:raises InvalidModel: shapes are longer than any tensor's, or there are too many
    layers. What follows takes time in their product."""
    for count, _ in enumerate(keras_layers(document)):
        if count >= MAX_LAYERS:
            raise _too_many()
    pending = [document["modelTopology"]]
    for _ in range(_MAX_MEMBERS):
        if not pending:
            return
        value = pending.pop()
        if isinstance(value, dict):
            for key, item in value.items():
                if "shape" in key and isinstance(item, list) and len(item) > _MAX_AXES:
                    raise InvalidModel(
                        f"has a shape of {len(item)} axes; {CONVERT}", "modelTopology"
                    )
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    raise InvalidModel(
        f"has more than {_MAX_MEMBERS} members, which are not looked at; {CONVERT}",
        "modelTopology",
    )


def refuse_endless(graph: Graph) -> None:
    """:raises InvalidModel: a layer stands for too many others; two layers of one model
    have one name."""
    if _size(graph) > MAX_LAYERS:
        raise _too_many()
    counts: dict[str, int] = {}
    pairs = 0
    for layer in layers_of(graph):
        pairs += sum(len(call.tensors) ** 2 for call in layer.calls)
        if pairs > _MAX_PAIRS:
            raise InvalidModel(
                f"is called with too many tensors to be looked at; {CONVERT}",
                layer.name[:200],
            )
        counts[layer.name] = counts.get(layer.name, 0) + 1
        if counts[layer.name] > _MAX_NAMESAKES:
            raise InvalidModel(
                f"is the name of more than {_MAX_NAMESAKES} layers; rename them",
                layer.name[:200],
            )
        given = [layer.config.get("num_heads"), layer.config.get("indices_or_sections")]
        given += [value for call in layer.calls for value in call.args]
        if any(isinstance(v, (int, float)) and v > _MAX_PARTS for v in given):
            if layer.class_name in ("MultiHeadAttention", "split"):
                raise InvalidModel(
                    f"becomes more than {_MAX_PARTS} layers; {CONVERT}", layer.name
                )


def _size(graph: Graph) -> int:
    """How many layers are called, those of a nested model with each call of it."""
    names: set[str] = set()
    size = 0
    for layer in graph.layers:
        if layer.name in names:
            raise InvalidModel("is the name of two layers; rename one", layer.name)
        names.add(layer.name)
        inner = layer.model or layer.repeated
        size += max(len(layer.calls), 1) * (1 + (_size(inner) if inner else 0))
    return size


def _too_many() -> InvalidModel:
    return InvalidModel(
        f"has more than {MAX_LAYERS} layers, which are not looked at; {CONVERT}",
        "modelTopology",
    )
