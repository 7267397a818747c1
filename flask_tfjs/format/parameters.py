"""How the parameters of a model are spread over its layers or ops, for a person.

A weight tells by its name whose it is: ``dense/kernel`` is a layer's (tfjs-layers
``src/engine/container.ts``, ``loadWeights``), and that of a graph model is the name of
the node whose value it holds (tfjs-converter ``src/executor/graph_model.ts``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from .manifest import ModelJSON
from .topology import graph_nodes
from .topology import keras_layers

#: What the parameters are put under that no layer or op can be found for.
OTHER = "other"

# Ops that hand a constant on to the one that computes with it.
_PASSING = frozenset({"Identity", "ReadVariableOp", "Cast"})


class LayerParameters(NamedTuple):
    """One layer, and how many parameters are its own."""

    name: str
    class_name: str
    parameters: int


def layers_of(model: ModelJSON) -> list[LayerParameters]:
    """The layers of a layers model in their order, those of nested models after
    theirs; none for the other kinds. Parameters that belong to no layer stand last."""
    if model.kind != "layers-model":
        return []
    classes: dict[str, str] = {}
    for layer in keras_layers(model.document):
        config = layer.get("config")
        name = config.get("name") if isinstance(config, dict) else None
        classes.setdefault(str(name), str(layer.get("class_name")))
    counts: Counter[str | None] = Counter()
    for weight in model.weights:
        counts[_owner(weight.name, classes)] += weight.elements
    rows = [LayerParameters(n, c, counts[n]) for n, c in classes.items()]
    if counts[None]:
        rows.append(LayerParameters(OTHER, OTHER, counts[None]))
    return rows


def parameters_by_unit(model: ModelJSON) -> Mapping[str, int]:
    """The parameters of all layers of a class, or of all ops of a kind."""
    counts: Counter[str] = Counter()
    if model.kind == "layers-model":
        for layer in layers_of(model):
            counts[layer.class_name] += layer.parameters
    elif model.kind == "graph-model":
        consumers = _consumers(model.document)
        for weight in model.weights:
            counts[consumers.get(weight.name, OTHER)] += weight.elements
    return +counts


def _owner(weight: str, layers: Mapping[str, str]) -> str | None:
    # The innermost: in a nested model's "model/inner/dense/kernel" it is "dense".
    parts = weight.split("/")[:-1]
    return next((part for part in reversed(parts) if part in layers), None)


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
    for _ in range(len(_PASSING) + 1):  # a cycle has no end
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
