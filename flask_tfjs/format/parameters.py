"""How the parameters of a model are spread over its layers or ops, for a person.

A weight tells by its name whose it is: ``dense/kernel`` is a layer's (tfjs-layers
``src/engine/container.ts``, ``loadWeights``), and that of a graph model is the name of
the node whose value it holds (tfjs-converter ``src/executor/graph_model.ts``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from .manifest import ModelJSON
from .topology import graph_nodes
from .topology import keras_model
from .topology import layers_in

#: What the parameters are put under that no layer or op can be found for.
OTHER = "other"

# Of a weight's name that are looked at.
_MAX_PARTS = 16

# Ops that hand a constant on to the one that computes with it.
_PASSING = frozenset({"Identity", "ReadVariableOp", "Cast"})
_MAX_PASSED = 100


@dataclass(slots=True)
class LayerParameters:
    """One layer, and how many parameters are its own.

    :ivar inner: the layers of a model that is a layer, by name.
    """

    name: str
    class_name: str
    parameters: int = 0
    inner: dict[str, LayerParameters] = field(default_factory=dict)


def layers_of(model: ModelJSON) -> list[LayerParameters]:
    """The layers of a layers model in their order, those of nested models after
    theirs; none for the other kinds. Parameters that belong to no layer stand last."""
    if model.kind != "layers-model":
        return []
    every: list[LayerParameters] = []
    outermost = _read_layers(keras_model(model.document), every)
    by_name = {layer.name: layer for layer in reversed(every)}
    other = LayerParameters(OTHER, OTHER)
    for weight in model.weights:
        # Keras 2 writes no more than the inner name of a weight in a nested model.
        path = weight.name.split("/")[:_MAX_PARTS]
        owner = _find(path, outermost) or _find(path, by_name) or other
        owner.parameters += weight.elements
    return [*every, other] if other.parameters else every


def parameters_by_unit(
    model: ModelJSON, layers: Iterable[LayerParameters]
) -> Mapping[str, int]:
    """The parameters of all layers of a class, or of all ops of a kind.

    :param layers: those of *model*, as :func:`layers_of` finds them.
    """
    counts: Counter[str] = Counter()
    for layer in layers:
        counts[layer.class_name] += layer.parameters
    if model.kind == "graph-model":
        consumers = _consumers(model.document)
        for weight in model.weights:
            counts[consumers.get(weight.name, OTHER)] += weight.elements
    return +counts


def _read_layers(
    model: dict[str, Any], every: list[LayerParameters]
) -> dict[str, LayerParameters]:
    """The layers of *model* by name.

    :param every: gets them, and those in them.
    """
    found: dict[str, LayerParameters] = {}
    for layer in layers_in(model):
        config = layer.get("config")
        name = str(config.get("name") if isinstance(config, dict) else None)
        made = LayerParameters(name, str(layer.get("class_name")))
        every.append(made)
        made.inner = _read_layers(layer, every)
        found.setdefault(name, made)
    return found


def _find(
    path: list[str], layers: Mapping[str, LayerParameters]
) -> LayerParameters | None:
    """The layer whose weight has this name: the outermost that is named in it, or in a
    model the one in that. What stands before is the name of the model."""
    for begin in range(len(path) - 1):
        for end in range(len(path) - 1, begin, -1):  # names have slashes, too
            layer = layers.get("/".join(path[begin:end]))
            if layer is not None:
                return _find(path[end:], layer.inner) or layer
    return None


def _consumers(document: Any) -> dict[str, str]:
    """The op that computes with each node's value: the first that names it, behind
    those that only hand it on."""
    ops: dict[str, str] = {}
    next_node: dict[str, str] = {}
    for node in graph_nodes(document):
        name = str(node.get("name"))
        ops[name] = str(node.get("op"))
        for source in _inputs(node):
            next_node.setdefault(source, name)
    return {name: _behind(name, next_node, ops) for name in next_node}


def _behind(name: str, next_node: Mapping[str, str], ops: Mapping[str, str]) -> str:
    for _ in range(_MAX_PASSED):  # a cycle has no end
        name = next_node[name]
        if ops[name] not in _PASSING or name not in next_node:
            break
    return ops[name]


def _inputs(node: Mapping[str, Any]) -> Iterator[str]:
    """The nodes whose values *node* takes; ``name:1`` is another output of ``name``."""
    inputs = node.get("input")
    for source in inputs if isinstance(inputs, list) else ():
        if isinstance(source, str):  # "^name", which only waits for one, names none
            yield source.partition(":")[0]
