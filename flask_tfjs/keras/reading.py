"""From the ``config`` of a model, as Keras 2, Keras 3 or TensorFlow.js write it, to a
:class:`~flask_tfjs.keras.graph.Graph`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from ..errors import InvalidModel
from .graph import MODELS
from .graph import Call
from .graph import Graph
from .graph import Layer
from .graph import Shape
from .graph import Tensor
from .graph import to_shape

# Names that older versions gave to classes which are still there.
_CLASSES = MappingProxyType(
    {
        "BatchNormalizationV1": "BatchNormalization",
        "BatchNormalizationV2": "BatchNormalization",
        "Convolution1D": "Conv1D",
        "Convolution2D": "Conv2D",
        "Convolution2DTranspose": "Conv2DTranspose",
        "Model": "Functional",
    }
)

# Classes by which Keras 2 wraps a function of TensorFlow.
_KERAS_2_OPERATIONS = frozenset({"TFOpLambda", "SlicingOpLambda"})

# What Keras 2 writes in place of the layer where the first argument is a constant.
_CONSTANT = "_CONSTANT_VALUE"

_OPERATIONS_WITH_DTYPE = frozenset(
    """
    Cast Cumprod Cumsum Full FullLike MultiHot OneHot OnesLike Prod ZerosLike
    """.split()
)

# Arguments that are more inputs, by the layer's or the function's own name for them.
_INPUTS = (
    *("inputs", "query", "value", "key", "xs", "initial_state"),
    *("condition", "x1", "x2", "x", "y"),
)


def read_model(document: Any, keras: int | tuple[int, ...]) -> Graph:
    """The graph of a model.

    :param document: ``{"class_name": …, "config": …}``.
    :param keras: the version that wrote it; 2 for TensorFlow.js.
    :raises InvalidModel: not a Sequential or functional model, or a member is not what
        it must be.
    """
    class_name = _class_name(document, "the model")
    if class_name not in MODELS:
        raise InvalidModel(
            f"is a subclassed model ({class_name}): its layers are not in the file, "
            "but in Python code; build it as a Sequential or functional model, or "
            "export it as a SavedModel and convert that to a graph model",
            "the model",
        )
    try:
        return _read(document, (keras,) if isinstance(keras, int) else keras)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InvalidModel(
            f"its configuration is not what Keras writes ({brief(error)}); save it "
            "again",
            "the model",
        ) from None


def brief(error: Exception) -> str:
    """An error in a few words: what it quotes may be as large as the file."""
    return repr(error)[:200]


def snake_case(name: str) -> str:
    """A class's name as Keras spells it in names of weights: ``conv2d_transpose``
    (keras ``src/utils/naming.py``)."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def plain_class(name: str) -> str:
    """A class's name without the package it is registered in: ``package>Name``."""
    name = name.rpartition(">")[2]
    return _CLASSES.get(name, name)


def _read(document: dict[str, Any], version: tuple[int, ...]) -> Graph:
    config = document["config"]
    if isinstance(config, list):  # before Keras 2.2.3
        config = {"layers": config}
    sequential = _class_name(document, "the model") == "Sequential"
    layers = [_read_layer(layer, version) for layer in config["layers"]]
    name = str(config.get("name") or ("sequential" if sequential else "model"))
    if sequential:
        return _chain(name, _with_input(name, layers, config), version)
    graph = Graph(
        name,
        layers,
        _ends(config["input_layers"]),
        _ends(config["output_layers"]),
        version=version,
    )
    if any(isinstance(c, list) for ld in config["layers"] for c in _calls_of(ld)):
        _count_as_keras_3(graph)
    else:
        _count_outputs_from_0(graph)
    _check(graph)
    graph.shapes = dict(_shapes(config["layers"]))
    return graph


def _with_input(name: str, layers: list[Layer], config: dict[str, Any]) -> list[Layer]:
    """The layers of a Sequential, with an InputLayer in front where one of another
    kind tells the shape."""
    if not layers:
        raise InvalidModel("has no layers; save a model that has some", name)
    first = layers[0]
    inner: Layer | None = first
    while inner is not None and inner.model is not None:
        inner = inner.model.layers[0] if inner.model.sequential else None
    own = inner.config if inner is not None else {}
    shape = (
        own.get("batch_input_shape")
        or own.get("batch_shape")
        or config.get("build_input_shape")
    )
    if first.class_name == "InputLayer" or shape is None:
        return layers
    dtype = own.get("dtype") if inner is first else None
    made = {"batch_input_shape": shape, "dtype": dtype or "float32"}
    return [Layer("InputLayer", f"{name}_input", made), *layers]


def _shapes(layers: Any) -> Iterator[tuple[Tensor, Shape]]:
    """The shapes that Keras 3 writes beside each tensor."""
    match layers:
        case {"class_name": "__keras_tensor__", "config": config}:
            yield _tensor(config["keras_history"]), to_shape(config["shape"])
        case {"inbound_nodes": calls}:
            yield from _shapes(calls)
        case {"args": args, "kwargs": kwargs}:
            yield from _shapes([args, kwargs])
        case {"class_name": _}:
            return  # another document, a layer without calls
        case dict():
            yield from _shapes(list(layers.values()))
        case list():
            for item in layers:
                yield from _shapes(item)


def _chain(name: str, layers: list[Layer], version: tuple[int, ...]) -> Graph:
    for before, layer in zip(layers, layers[1:], strict=False):
        layer.calls = [Call([Tensor(before.name)])]
    layers[0].calls = [Call()]
    ends = [Tensor(layers[0].name)], [Tensor(layers[-1].name)]
    graph = Graph(name, layers, *ends, sequential=True, version=version)
    _check(graph)
    return graph


def _read_layer(document: dict[str, Any], version: tuple[int, ...]) -> Layer:
    class_name = _class_name(document, "a layer")
    config = document["config"]
    if class_name in MODELS:
        model = _read(document, version)
        name = str(document.get("name") or model.name)
        calls = [_read_call(call, model) for call in _calls_of(document)]
        return Layer(class_name, name, {}, calls, model=model)
    name = str(document.get("name") or config.get("name") or snake_case(class_name))
    calls = [_read_call(call, None) for call in _calls_of(document)]
    if class_name in _KERAS_2_OPERATIONS:
        function = str(config.get("function", class_name))
        return Layer(function, name, {}, calls, is_operation=True)
    if _is_keras_3_operation(document):
        return Layer(
            snake_case(class_name), name, dict(config), calls, is_operation=True
        )
    inner = config.get("layer") if class_name == "TimeDistributed" else None
    repeats = isinstance(inner, dict) and _class_name(inner, name) in MODELS
    repeated = _read(inner, version) if inner and repeats else None
    return Layer(class_name, name, dict(config), calls, repeated=repeated)


def _is_keras_3_operation(document: dict[str, Any]) -> bool:
    if ".ops." in str(document.get("module") or ""):
        return True
    # In an .h5 file they have no module; a layer has a dtype, or says whether it is
    # trainable. Of the operations only some have a dtype, too.
    config, class_name = document["config"], document["class_name"]
    is_layer = "trainable" in config or (
        "dtype" in config and class_name not in _OPERATIONS_WITH_DTYPE
    )
    calls = _calls_of(document)
    return not is_layer and any(isinstance(call, dict) for call in calls)


def _class_name(document: Any, where: str) -> str:
    if not isinstance(document, dict) or not isinstance(
        document.get("class_name"), str
    ):
        raise InvalidModel("has no class_name; save the whole model again", where)
    return plain_class(document["class_name"])


def _calls_of(document: dict[str, Any]) -> list[Any]:
    return document.get("inbound_nodes") or []


def _ends(ends: Any) -> list[Tensor]:
    """``[["a", 0, 0], …]``, one bare triple, or a mapping of them, which Keras takes
    in the order of its keys."""
    if isinstance(ends, dict):
        return [tensor for key in sorted(ends) for tensor in _ends(ends[key])]
    if len(ends) == 3 and isinstance(ends[0], str):
        return [_tensor(ends)]
    return [tensor for end in ends for tensor in _ends(end)]


def _tensor(history: Any) -> Tensor:
    name, call, index = history[:3]
    return Tensor(str(name), int(call), int(index))


def _read_call(call: Any, model: Graph | None) -> Call:
    if isinstance(call, dict):
        args = list(_flat([_keras_3_value(value) for value in call["args"]]))
        kwargs = {k: _keras_3_value(v) for k, v in call.get("kwargs", {}).items()}
    else:
        args, kwargs = _keras_2_arguments(call)
    for name in _INPUTS:
        if name in kwargs and (model is None or name == "inputs"):
            value = kwargs.pop(name)
            if value is not None:
                args += _flat([value])
    return Call(args, kwargs)


def _keras_2_arguments(call: Any) -> tuple[list[Any], dict[str, Any]]:
    # A function of one tensor is called with the bare triple.
    calls = [call] if isinstance(call[0], str) else call
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for argument in calls:
        is_constant = argument[0] == _CONSTANT
        args.append(argument[2] if is_constant else _tensor(argument))
        if len(argument) > 3:
            kwargs.update(argument[3])
    return args, {name: _keras_2_value(value) for name, value in kwargs.items()}


def _keras_2_value(value: Any) -> Any:
    match value:
        case [str(), int(), int()]:
            return _tensor(value)
        case list():
            return [_keras_2_value(item) for item in value]
        case {"start": start, "stop": stop, "step": step}:
            return slice(start, stop, step)
    return value


def _keras_3_value(value: Any) -> Any:
    match value:
        case {"class_name": "__keras_tensor__", "config": config}:
            return _tensor(config["keras_history"])
        case {"class_name": "__slice__", "config": config}:
            return slice(config["start"], config["stop"], config["step"])
        case {"class_name": "__ellipsis__"}:
            return ...
        case {"class_name": str(), "config": {"value": constant}}:
            return constant
        case dict():
            return {name: _keras_3_value(item) for name, item in value.items()}
        case list():
            return [_keras_3_value(item) for item in value]
    return value


def _flat(values: list[Any]) -> Iterator[Any]:
    """*values* without the lists around tensors; other lists are constants."""
    for value in values:
        # Keras flattens a mapping in the order of its sorted keys.
        items = [value[k] for k in sorted(value)] if isinstance(value, dict) else value
        if isinstance(items, list) and any(_holds_tensors(item) for item in items):
            yield from _flat(items)
        else:
            yield value


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, (list, dict)):
        items = value.values() if isinstance(value, dict) else value
        return any(_holds_tensors(item) for item in items)
    return isinstance(value, Tensor)


def _count_as_keras_3(graph: Graph) -> None:
    """Keras 2 counts the call by which a nested model was made as its first."""
    seen: dict[str, int] = {}
    for tensor in _all_tensors(graph):
        seen[tensor.layer] = min(seen.get(tensor.layer, tensor.call), tensor.call)
    nested = {layer.name for layer in graph.layers if layer.model is not None}

    def shift(tensor: Tensor) -> Tensor:
        first = seen[tensor.layer] if tensor.layer in nested else 0
        return Tensor(tensor.layer, tensor.call - first, tensor.index)

    graph.map_tensors(shift)


def _count_outputs_from_0(graph: Graph) -> None:
    """Keras 3 counts the calls of a nested functional model from 1 where it names the
    outputs, and there alone (keras ``src/models/functional.py``, ``get_config``)."""
    nested = {
        layer.name
        for layer in graph.layers
        if layer.model and not layer.model.sequential
    }
    graph.outputs = [
        Tensor(o.layer, max(o.call - 1, 0), o.index) if o.layer in nested else o
        for o in graph.outputs
    ]


def _all_tensors(graph: Graph) -> Iterator[Tensor]:
    for layer in graph.layers:
        for call in layer.calls:
            yield from call.tensors
    yield from graph.outputs


def _check(graph: Graph) -> None:
    """Refuse a graph that is none: what follows takes it for one."""
    layers = graph.by_name()
    if len(layers) < len(graph.layers):
        names = [layer.name for layer in graph.layers]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidModel("is the name of two layers; rename one", twice)
    for tensor in (*_all_tensors(graph), *graph.inputs):
        layer = layers.get(tensor.layer)
        if layer is None:
            raise InvalidModel(
                f"a layer takes what {tensor.layer!r} returns, which is not there; "
                "save the model again",
                graph.name,
            )
        if tensor.index < 0 or not 0 <= tensor.call < max(len(layer.calls), 1):
            raise InvalidModel(
                f"is used {len(layer.calls)} times, and yet output {tensor.index} of "
                f"call {tensor.call} is taken; save the model again",
                tensor.layer,
            )
    for layer in graph.layers:
        if layer.class_name == "InputLayer" and any(call.args for call in layer.calls):
            raise InvalidModel("is an input and is called; save it again", layer.name)
    calls = {(layer.name, i) for layer in graph.layers for i in range(len(layer.calls))}
    circle = calls - {(layer.name, index) for layer, index, _ in graph.in_order()}
    if circle:
        raise InvalidModel(
            "waits for what comes of it, since layers form a circle; save the model "
            "again",
            min(circle)[0],
        )
