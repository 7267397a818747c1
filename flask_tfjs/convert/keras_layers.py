"""The layers of a model of TensorFlow.js, and of the script of layers, as those of a
version of Keras."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import InvalidModel
from ..keras.graph import Call
from ..keras.graph import Graph
from ..keras.graph import Layer
from ..keras.graph import Tensor
from ..keras.masks import Masks
from ..keras.masks import tfjs_masks
from ..keras.shapes import input_shape
from .keras_configs import CONFIG_KEYS
from .keras_configs import Version
from .keras_configs import keras_class
from .keras_configs import keras_config
from .keras_faults import Faults
from .keras_mask_layers import take_out
from .keras_masking import reconcile
from .keras_masking import used_masks
from .keras_operations import Given
from .keras_operations import Made
from .keras_operations import Step
from .keras_operations import Unknown
from .keras_operations import causal_mask
from .keras_operations import steps_of

# What the script of layers computes in place of operations.
_OPERATIONS = frozenset({"KerasCausalMask", "KerasOperation"})


def translate(graph: Graph, keras: Version, faults: Faults) -> Iterator[str]:
    """Put layers of Keras in the place of those in *graph*, with the configs that its
    file will have. A Sequential with operations becomes a functional model.

    :param faults: is told of the layers that have no equal.
    :returns: what a person should know.
    """
    masks, used = tfjs_masks(graph), used_masks(graph)
    zeroed = take_out(graph, keras, faults)
    layers: list[Layer] = []
    for layer in graph.layers:
        if layer.model is not None:
            yield from translate(layer.model, keras, faults)
            kind = "Sequential" if layer.model.sequential else "Functional"
            layers.append(replace(layer, class_name=kind))
            continue
        with faults.of(layer.name):
            layers += _translated(layer, keras, masks)
    graph.layers = layers
    graph.sequential &= not any(layer.is_operation for layer in layers)
    if not faults:
        yield from reconcile(graph, used, zeroed, keras, faults)


def _translated(layer: Layer, keras: Version, masks: Masks) -> Iterator[Layer]:
    if layer.is_operation:
        yield layer
        return
    config = {**layer.config, "name": layer.name}
    if layer.class_name == "InputLayer":
        yield Layer("InputLayer", layer.name, _input_config(config), layer.calls)
        return
    steps = _steps(layer, keras)
    if steps is None:
        class_name = keras_class(layer.class_name)
        written = keras_config(layer.class_name, config, keras)
        yield Layer(class_name, layer.name, written, layer.calls)
        return
    if _hands_on(layer) and any(
        t in masks for call in layer.calls for t in call.inputs
    ):
        raise InvalidModel(
            "hands a mask on, and the operation of Keras 3 that it stands for does "
            "not; leave the mask out",
            layer.name,
        )
    yield from _expanded(layer, steps)


def _input_config(config: dict[str, Any]) -> dict[str, Any]:
    shape = input_shape(config)
    if shape is None:
        raise InvalidModel(
            "its shape is not in the file; save the model again", config["name"]
        )
    dtype = config.get("dtype") or "float32"
    return {"name": config["name"], "batch_shape": list(shape), "dtype": dtype}


def _hands_on(layer: Layer) -> bool:
    if layer.class_name == "KerasOperation":
        return bool(layer.config.get("masking"))
    return layer.class_name == "Activation"


def _steps(layer: Layer, keras: Version) -> list[Step] | None:
    """The operations of Keras 3 in the place of a layer; ``None`` for one that is a
    layer there, too."""
    if layer.class_name in _OPERATIONS:
        return _operations(layer, keras)
    if keras == 3 and layer.class_name == "ThresholdedReLU":
        theta = float(layer.config.get("theta", 1.0))
        return steps_of(
            "threshold", {"threshold": theta, "default_value": 0.0}, [Given()]
        )
    if keras == 3 and layer.class_name == "Activation":
        if layer.config["activation"] == "gelu_new":
            return steps_of("gelu", {"approximate": True}, [Given()])
    return None


def _operations(layer: Layer, keras: Version) -> list[Step]:
    if keras == 2:
        raise InvalidModel(
            f"{layer.class_name} stands for an operation of Keras 3; write a .keras "
            "file, which Keras 3 reads",
            layer.name,
        )
    if layer.class_name == "KerasCausalMask":
        return causal_mask()
    name, options = layer.config["operation"], layer.config.get("options") or {}
    try:
        return steps_of(name, options, _arguments(layer))
    except Unknown:
        raise InvalidModel(
            f"there is no operation of Keras 3 that computes {name!r} with "
            f"{dict(options)!r}; use a layer that Keras has, too",
            layer.name,
        ) from None


def _arguments(layer: Layer) -> list[Any]:
    """Constants where the layer has them, tensors in all other places."""
    count = len(layer.calls[0].inputs) if layer.calls else 1
    tensors = iter(range(count))
    constants = layer.config.get("constants") or []
    args = [Given(next(tensors)) if c is None else c for c in constants]
    return args + [Given(index) for index in tensors]


def _expanded(layer: Layer, steps: Sequence[Step]) -> Iterator[Layer]:
    """A layer for each step; the last has the name of the one that they replace."""
    last = len(steps) - 1
    names = [f"{layer.name}_{i}" if i < last else layer.name for i in range(last + 1)]
    for name, step in zip(names, steps, strict=True):
        calls = [
            Call([_argument(arg, call, index, names) for arg in step.args])
            for index, call in enumerate(layer.calls)
        ]
        config = {"name": name, **step.config}
        yield Layer(
            step.name, name, config, calls, is_operation=step.name not in CONFIG_KEYS
        )


def _argument(arg: Any, call: Call, index: int, names: Sequence[str]) -> Any:
    if isinstance(arg, Given):
        return call.inputs[arg.index]
    if isinstance(arg, Made):
        return Tensor(names[arg.step], index)
    return arg
