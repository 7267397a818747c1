"""A graph as an HDF5 file, as Keras 2 saves a whole model; tf_keras reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any
from typing import BinaryIO
from typing import NamedTuple

import h5py
import numpy as np

from ..keras.graph import Call
from ..keras.graph import Graph
from ..keras.graph import Layer
from ..keras.graph import Tensor
from ..keras.weights import Stored
from ..keras.weights import Weight
from .keras_parts import parts_of
from .keras_parts import trains

# Such files have been the same since long before.
_WRITER = MappingProxyType({"keras_version": "2.15.0", "backend": "tensorflow"})

# Bytes that an attribute may have; a longer list is cut (keras
# ``src/legacy/saving/legacy_h5_format.py``).
_MAX_ATTRIBUTE = 64512


def write_hdf5(graph: Graph, file: BinaryIO) -> None:
    """Write *graph*, whose layers are those of Keras 2 and have their weights.

    Weights are read and written one after another.
    """
    with h5py.File(file, "w") as store:
        store.attrs.update(_WRITER)
        store.attrs["model_config"] = json.dumps(model_config(graph))
        weights = store.create_group("model_weights")
        weights.attrs.update(_WRITER)
        _write_names(weights, "layer_names", [layer.name for layer in _layers(graph)])
        for layer in _layers(graph):
            _write_layer(weights.create_group(layer.name), layer)
        top = weights.create_group("top_level_model_weights")
        _write_names(top, "weight_names", [])


# The config


def model_config(graph: Graph) -> dict[str, Any]:
    """The config of a model, as Keras 2 serializes it."""
    config: dict[str, Any] = {
        "name": graph.name,
        "layers": [_layer(layer, graph) for layer in graph.layers],
    }
    if graph.sequential:
        return {"class_name": "Sequential", "config": config}
    config["input_layers"] = [_history(tensor, graph) for tensor in graph.inputs]
    config["output_layers"] = [_history(tensor, graph) for tensor in graph.outputs]
    return {"class_name": "Functional", "config": config}


def _layer(layer: Layer, graph: Graph) -> dict[str, Any]:
    if layer.model is not None:
        written = model_config(layer.model)
    else:
        written = {"class_name": layer.class_name, "config": _config(layer)}
    if graph.sequential:
        return written
    calls = [] if layer.class_name == "InputLayer" else layer.calls
    nodes = [_node(call, graph) for call in calls]
    return {**written, "name": layer.name, "inbound_nodes": nodes}


def _config(layer: Layer) -> dict[str, Any]:
    if layer.class_name != "InputLayer":
        return layer.config
    config = dict(layer.config)
    shape = config.pop("batch_shape")
    return {"batch_input_shape": shape, "sparse": False, "ragged": False, **config}


def _history(tensor: Tensor, graph: Graph) -> list[Any]:
    # The call by which a nested model was made is its first.
    first = 1 if graph.by_name()[tensor.layer].model is not None else 0
    return [tensor.layer, tensor.call + first, tensor.index]


def _node(call: Call, graph: Graph) -> list[Any]:
    return [[*_history(tensor, graph), {}] for tensor in call.inputs]


# The weights


class _Named(NamedTuple):
    """A weight by its name in the group of its layer."""

    name: str
    weight: Weight
    trains: bool


def _layers(graph: Graph) -> list[Layer]:
    """The layers that a Sequential or a functional model counts as such."""
    if not graph.sequential:
        return graph.layers
    return [layer for layer in graph.layers if layer.class_name != "InputLayer"]


def _write_layer(group: Any, layer: Layer) -> None:
    named = list(_named(layer))
    # So Keras lists the weights of a nested model, and finds them by this order.
    named.sort(key=lambda one: not one.trains)
    _write_names(group, "weight_names", [one.name for one in named])
    for name, weight, _ in named:
        assert isinstance(weight, Stored) and weight.read is not None
        group.create_dataset(name, data=weight.read())


def _named(layer: Layer) -> Iterator[_Named]:
    if layer.model is not None:
        for inner in layer.model.layers:
            yield from _named(inner)
        return
    for part in parts_of(layer):
        for slot in part.slots:
            yield _Named(
                f"{part.keras_2}{slot}:0",
                layer.weights[part.key + slot],
                trains(layer) and not slot.startswith("moving_"),
            )


def _write_names(group: Any, key: str, names: Sequence[str]) -> None:
    """An attribute of names, in several parts where one cannot hold them."""
    values = np.array([name.encode() for name in names], "S") if names else np.zeros(0)
    if values.nbytes <= _MAX_ATTRIBUTE:
        group.attrs[key] = values
        return
    parts = -(-values.nbytes // _MAX_ATTRIBUTE)
    for index, part in enumerate(np.array_split(values, parts)):
        group.attrs[f"{key}{index}"] = part
