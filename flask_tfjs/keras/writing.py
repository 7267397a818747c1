"""A graph as the topology of a TensorFlow.js layers model, and the names under which
TensorFlow.js looks for its weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .graph import Graph
from .graph import Layer
from .graph import Tensor
from .weights import Weight


def topology(graph: Graph) -> dict[str, Any]:
    """``model_config`` of a layers model."""
    nested = {layer.name for layer in graph.layers if layer.model is not None}

    def history(tensor: Tensor) -> list[Any]:
        # TensorFlow.js, as Keras 2, counts the call by which a nested model was made.
        return [tensor.layer, tensor.call + (tensor.layer in nested), tensor.index]

    layers = [_layer(layer) for layer in graph.layers]
    config: dict[str, Any] = {"name": graph.name, "layers": layers}
    if not graph.sequential:
        for document, layer in zip(layers, graph.layers, strict=True):
            document["name"] = layer.name
            document["inbound_nodes"] = [
                [[*history(tensor), {}] for tensor in call.inputs]
                for call in layer.calls
                if call.inputs
            ]
        config["input_layers"] = [history(tensor) for tensor in graph.inputs]
        config["output_layers"] = [history(tensor) for tensor in graph.outputs]
    class_name = "Sequential" if graph.sequential else "Functional"
    return {"class_name": class_name, "config": config}


def named_weights(graph: Graph) -> Iterator[tuple[str, Weight]]:
    """Each weight under the name that TensorFlow.js gives its variable: the layer's and
    the slot's; nested models add nothing."""
    for layer in graph.walk():
        for slot, weight in layer.weights.items():
            yield f"{layer.name}/{slot}", weight


def _layer(layer: Layer) -> dict[str, Any]:
    if layer.model is not None:
        document = topology(layer.model)
        document["config"]["name"] = layer.name
        return document
    config = dict(layer.config)
    if layer.class_name != "InputLayer":
        config["dtype"] = "float32"
    return {"class_name": layer.class_name, "config": config}
