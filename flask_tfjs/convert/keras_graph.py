"""The graph of a model as Keras builds it when it loads one: with an input of its own
for every model in it, without what no output needs, its layers in Keras' order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..errors import InvalidModel
from ..keras.graph import Call
from ..keras.graph import Graph
from ..keras.graph import Layer
from ..keras.graph import Tensor
from ..keras.shapes import input_shape

# A call of a layer: its name, and the index among its calls.
_Node = tuple[str, int]

# What TensorFlow, Keras 3 and HDF5 all take as a name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

# A group that a Keras 2 file has beside those of its layers.
_TAKEN = "top_level_model_weights"


def add_inputs(graph: Graph) -> None:
    """Give every Sequential in *graph* an InputLayer; one that was built in JavaScript
    has its shape on its first layer.

    :raises InvalidModel: the shape of an input is not told.
    """
    for layer in graph.layers:
        if layer.model is not None:
            add_inputs(layer.model)
    first = graph.layers[0]
    if not graph.sequential or first.class_name == "InputLayer":
        return
    config = _input_config(first)
    if input_shape(config) is None:
        raise InvalidModel(
            "the shape of its input is not in the file; build it with inputShape",
            first.name,
        )
    name = _free(f"{first.name}_input", {layer.name for layer in graph.layers})
    graph.layers.insert(0, Layer("InputLayer", name, {**config, "name": name}))
    first.calls = [Call([Tensor(name)])]
    graph.inputs = [Tensor(name)]


def _input_config(layer: Layer) -> dict[str, Any]:
    """What the first layer of a Sequential says of its input."""
    if layer.model is not None:
        source = layer.model.by_name()[layer.model.inputs[0].layer]
        return _input_config(source)
    keys = ("batch_shape", "batch_input_shape", "dtype")
    return {key: layer.config[key] for key in keys if key in layer.config}


def prune(graph: Graph) -> None:
    """Drop the layers and the calls that no output depends on, and put the layers in
    the order in which Keras has them once it has loaded the model: by that, and not by
    their names, it finds their weights (keras ``src/ops/function.py``, ``map_graph``;
    the same in Keras 2 and in tfjs-layers ``src/engine/container.ts``)."""
    for layer in graph.layers:
        if layer.model is not None:
            prune(layer.model)
    if graph.sequential:
        return
    nodes = _needed(graph)
    kept = dict(_renumbered(graph, nodes))
    order = _order(graph, nodes)
    layers = graph.by_name()
    for layer in layers.values():
        layer.calls = [
            call for i, call in enumerate(layer.calls) if (layer.name, i) in kept
        ]
    graph.layers = [layers[name] for name in order]
    graph.map_tensors(lambda t: Tensor(t.layer, kept[t.layer, t.call], t.index))


def _renumbered(graph: Graph, nodes: list[_Node]) -> Iterator[tuple[_Node, int]]:
    needed = set(nodes)
    for layer in graph.layers:
        calls = (i for i in range(max(len(layer.calls), 1)))
        kept = [(layer.name, i) for i in calls if (layer.name, i) in needed]
        yield from ((node, index) for index, node in enumerate(kept))


def _parents(graph: Graph) -> dict[_Node, list[_Node]]:
    return {
        (layer.name, index): [(tensor.layer, tensor.call) for tensor in call.tensors]
        for layer in graph.layers
        for index, call in enumerate(layer.calls or [Call()])
    }


def _needed(graph: Graph) -> list[_Node]:
    """The calls that the outputs depend on, each after those that it depends on.

    :raises InvalidModel: a call depends on itself.
    """
    parents = _parents(graph)
    done: dict[_Node, None] = {}
    for output in graph.outputs:
        end = (output.layer, output.call)
        # The calls on the way there, with their parents that are still to be visited.
        path = {} if end in done else {end: iter(parents[end])}
        while path:
            node, rest = next(reversed(path.items()))
            parent = next(rest, None)
            if parent is None:
                done[node] = None
                del path[node]
            elif parent in path:
                raise InvalidModel("takes what is made of what it returns", node[0])
            elif parent not in done:
                path[parent] = iter(parents[parent])
    return list(done)


def _order(graph: Graph, nodes: list[_Node]) -> list[str]:
    """The names of the layers: the farther from the outputs the earlier, and of equally
    far ones that first which is met first on the way back from the outputs."""
    parents = _parents(graph)
    met = {name: index for index, name in enumerate(_met(graph, parents))}
    of_node: dict[_Node, int] = {}
    of_layer: dict[str, int] = {}
    for node in reversed(nodes):
        depth = max(of_node.get(node, 0), of_layer.get(node[0], 0))
        of_node[node] = of_layer[node[0]] = depth
        for parent in parents[node]:
            of_node[parent] = max(of_node.get(parent, 0), depth + 1)
    for tensor in graph.inputs:  # those that no output needs
        if tensor.layer not in of_layer:
            of_layer[tensor.layer], met[tensor.layer] = 0, -1
    return sorted(of_layer, key=lambda name: (-of_layer[name], met[name]))


def _met(graph: Graph, parents: dict[_Node, list[_Node]]) -> dict[str, None]:
    """The layers in the order in which a walk from the outputs meets them."""
    met: dict[str, None] = {}
    seen: set[_Node] = set()
    stack = [(t.layer, t.call) for t in reversed(graph.outputs)]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            met.setdefault(node[0])
            stack += reversed(parents[node])
    return met


def rename(graph: Graph) -> dict[str, str]:
    """Give layers other names whose own Keras does not take.

    :returns: the new names, by the old ones.
    """
    taken = {layer.name for layer in graph.walk()} | {_TAKEN}
    names: dict[str, str] = {}
    for layer in graph.walk():
        if layer.name not in names and not _is_name(layer.name):
            names[layer.name] = _free(_named(layer.name), taken)
            taken.add(names[layer.name])
    _rename(graph, names)
    return names


def _rename(graph: Graph, names: dict[str, str]) -> None:
    graph.name = _named(graph.name)
    for layer in graph.layers:
        layer.name = names.get(layer.name, layer.name)
        if layer.model is not None:
            _rename(layer.model, names)
            layer.model.name = layer.name
        else:
            layer.config = {**_renamed_within(layer.config), "name": layer.name}

    def renamed(tensor: Tensor) -> Tensor:
        name = names.get(tensor.layer, tensor.layer)
        return Tensor(name, tensor.call, tensor.index)

    graph.map_tensors(renamed)
    graph.inputs = [renamed(tensor) for tensor in graph.inputs]


def _renamed_within(value: Any) -> Any:
    """A config with the names of the layers in it as Keras takes them."""
    if isinstance(value, list):
        return [_renamed_within(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _renamed_within(item) for key, item in value.items()}
    if isinstance(value.get("name"), str):
        changed["name"] = _named(value["name"])
    return changed


def _is_name(name: str) -> bool:
    return name != _TAKEN and _NAME.fullmatch(name) is not None


def _named(name: str) -> str:
    if _NAME.fullmatch(name):
        return name
    return re.sub("[^A-Za-z0-9_.-]", "_", name).lstrip("_.-") or "layer"


def _free(name: str, taken: set[str]) -> str:
    """*name*, or with a number behind it that makes it free."""
    number, free = 0, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
