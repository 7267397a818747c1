"""A graph as a ``.keras`` file, which Keras 3 reads: an archive of the config, and of
the weights as HDF5."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any
from typing import BinaryIO

import h5py
import numpy as np

from ..keras.graph import Call
from ..keras.graph import Graph
from ..keras.graph import Layer
from ..keras.graph import Shape
from ..keras.graph import Tensor
from ..keras.reading import snake_case
from ..keras.shapes import Shapes
from ..keras.shapes import infer
from ..keras.weights import Stored
from .keras_configs import wrapped
from .keras_operations import LISTING
from .keras_operations import MODULES
from .keras_parts import STATEFUL
from .keras_parts import numbered
from .keras_parts import parts_of

# The oldest version that reads what is written here.
_METADATA = MappingProxyType(
    {"keras_version": "3.0.0", "date_saved": "1980-01-01@00:00:00"}
)

# What the clock of a ZIP file starts with: equal models make equal files.
_MODIFIED = (1980, 1, 1, 0, 0, 0)

_MODULES = MappingProxyType(
    {"Functional": "keras.src.models.functional", "Sequential": "keras"}
)


def write_archive(graph: Graph, file: BinaryIO) -> None:
    """Write *graph*, whose layers are those of Keras 3 and have their weights.

    Weights are read and written one after another.
    """
    folder = os.path.dirname(file.name)
    with (
        tempfile.TemporaryFile(dir=folder) as weights,
        zipfile.ZipFile(file, "w") as archive,
    ):
        with h5py.File(weights, "w") as store:
            _write_state(graph, store)
        archive.writestr(_member("metadata.json"), json.dumps(dict(_METADATA)))
        archive.writestr(_member("config.json"), json.dumps(model_config(graph)))
        weights.seek(0)
        with archive.open(_member("model.weights.h5"), "w", force_zip64=True) as member:
            shutil.copyfileobj(weights, member)


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, _MODIFIED)


# The config


def model_config(graph: Graph) -> dict[str, Any]:
    """The config of a model, as Keras 3 serializes it."""
    return _model(graph, infer(graph))


def _model(graph: Graph, shapes: Shapes) -> dict[str, Any]:
    class_name = "Sequential" if graph.sequential else "Functional"
    config: dict[str, Any] = {
        "name": graph.name,
        "trainable": True,
        "layers": [_layer(layer, graph, shapes) for layer in graph.layers],
    }
    if not graph.sequential:
        config["input_layers"] = _ends(graph.inputs, graph)
        config["output_layers"] = _ends(graph.outputs, graph)
    return _object(class_name, config)


def _object(class_name: str, config: dict[str, Any]) -> dict[str, Any]:
    written = wrapped(class_name, config, _MODULES.get(class_name, "keras.layers"))
    return {**written, "registered_name": _registered(class_name)}


def _registered(class_name: str) -> str | None:
    return class_name if class_name == "Functional" else None


def _layer(layer: Layer, graph: Graph, shapes: Shapes) -> dict[str, Any]:
    if layer.model is not None:
        given = [shapes.get(tensor) for tensor in _first_call(layer).inputs]
        written = _model(layer.model, infer(layer.model, given))
    elif layer.is_operation:
        written = _operation(layer)
    else:
        written = _object(layer.class_name, layer.config)
    if graph.sequential:
        return written
    calls = [] if layer.class_name == "InputLayer" else layer.calls
    nodes = [_node(layer, call, shapes) for call in calls]
    return {**written, "name": layer.name, "inbound_nodes": nodes}


def _first_call(layer: Layer) -> Call:
    return layer.calls[0] if layer.calls else Call()


def _operation(layer: Layer) -> dict[str, Any]:
    class_name = "".join(part.capitalize() for part in layer.class_name.split("_"))
    written = wrapped(class_name, layer.config, MODULES[layer.class_name])
    return {**written, "registered_name": class_name}


def _ends(ends: list[Tensor], graph: Graph) -> Any:
    """The inputs or outputs of a model; one alone without a list around it.

    Here, and only here, Keras 3 counts the calls of a nested functional model from one
    (keras ``src/models/functional.py``, ``get_config``).
    """
    layers = graph.by_name()
    written = []
    for tensor in ends:
        model = layers[tensor.layer].model
        first = 1 if model is not None and not model.sequential else 0
        written.append([tensor.layer, tensor.call + first, tensor.index])
    return written if len(written) > 1 else written[0]


def _node(layer: Layer, call: Call, shapes: Shapes) -> dict[str, Any]:
    args = [_value(arg, shapes) for arg in call.args]
    kwargs = {key: _value(call.kwargs[key], shapes) for key in _told(call)}
    if layer.is_operation:
        args = [args] if layer.class_name in LISTING else args
    elif layer.class_name in STATEFUL and len(args) > 1:
        args, kwargs["initial_state"] = args[:1], args[1:]
    elif len(args) > 1:
        args = [args]
    return {"args": args, "kwargs": kwargs}


def _told(call: Call) -> list[str]:
    return [key for key in ("mask",) if isinstance(call.kwargs.get(key), Tensor)]


def _value(value: Any, shapes: Shapes) -> Any:
    """An argument of a call."""
    if isinstance(value, Tensor):
        return _tensor(value, shapes.get(value))
    if isinstance(value, np.ndarray):
        config = {"value": value.tolist(), "dtype": value.dtype.name}
        return {"class_name": "__numpy__", "config": config}
    if isinstance(value, slice):
        config = {"start": value.start, "stop": value.stop, "step": value.step}
        return {"class_name": "__slice__", "config": config}
    if value is ...:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(value, tuple):
        return [_value(item, shapes) for item in value]
    return value


def _tensor(tensor: Tensor, shape: Shape | None) -> dict[str, Any]:
    # The shape and the dtype must be there, and are not looked at.
    config = {
        "shape": list(shape or (None,)),
        "dtype": "float32",
        "keras_history": [tensor.layer, tensor.call, tensor.index],
    }
    return {"class_name": "__keras_tensor__", "config": config}


# The weights


def _write_state(graph: Graph, group: Any) -> None:
    """Write the weights of a model, whose layers are found by their class and their
    order (keras ``src/saving/saving_lib.py``)."""
    group.create_group("vars")
    layers = group.create_group("layers")
    used: Counter[str] = Counter()
    for layer in graph.layers:
        if layer.is_operation:
            continue
        own = layers.create_group(numbered(snake_case(layer.class_name), used))
        if layer.model is not None:
            _write_state(layer.model, own)
            continue
        for path, weights in _variables(layer):
            variables = own.require_group(f"{path}vars")
            for index, weight in enumerate(weights):
                assert weight.read is not None
                variables.create_dataset(str(index), data=weight.read())


def _variables(layer: Layer) -> Iterator[tuple[str, list[Stored]]]:
    """The groups of a layer, and the weights in each of them."""
    for part in parts_of(layer):
        weights = [layer.weights[part.key + slot] for slot in part.slots]
        yield part.keras_3, [w for w in weights if isinstance(w, Stored)]
