"""Layers of the script that end, give or apply a mask where TensorFlow.js does not by
itself: on the way back Keras does so by itself, or is told to."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import InvalidModel
from ..keras.graph import Call
from ..keras.graph import Graph
from ..keras.graph import Layer
from ..keras.graph import Tensor
from .keras_configs import Version
from .keras_faults import Faults
from .keras_parts import STATEFUL


def take_out(graph: Graph, keras: Version, faults: Faults) -> frozenset[str]:
    """Take such layers out of *graph*.

    :param faults: is told of those that stand where Keras has no way for it.
    :returns: the layers that return zeros for masked steps in TensorFlow.js, too.
    """
    left_out: dict[str, Layer] = {}
    zeroed: set[str] = set()
    layers = graph.by_name()
    for layer in graph.layers:
        with faults.of(layer.name):
            if layer.class_name == "KerasMask":
                _tell_mask(graph, layer, keras)
            elif layer.class_name == "KerasZeroMasked":
                zeroed.add(_zeroing(graph, layers, layer).name)
                left_out[layer.name] = layer
            elif _ends_mask(layer):
                # Where one must end in Keras is found out anew.
                left_out[layer.name] = layer

    def resolve(tensor: Tensor) -> Tensor:
        while tensor.layer in left_out:
            tensor = left_out[tensor.layer].calls[tensor.call].inputs[0]
        return tensor

    graph.layers = [layer for layer in graph.layers if layer.name not in left_out]
    graph.map_tensors(resolve)
    return frozenset(zeroed)


def _ends_mask(layer: Layer) -> bool:
    is_operation = layer.class_name == "KerasOperation"
    return is_operation and layer.config.get("operation") == "identity"


def _takers(graph: Graph, name: str) -> list[Layer]:
    """The layers that take what the layer *name* returns."""
    return [
        layer
        for layer in graph.layers
        if any(tensor.layer == name for call in layer.calls for tensor in call.inputs)
    ]


def _zeroing(graph: Graph, layers: Mapping[str, Layer], layer: Layer) -> Layer:
    """The layer whose masked steps *layer* makes zeros; from now on it does so itself.

    :raises InvalidModel: it cannot.
    """
    (taken,) = {call.inputs[0].layer for call in layer.calls}
    before = layers[taken]
    alone = _takers(graph, taken) == [layer] and all(
        output.layer != taken for output in graph.outputs
    )
    if not alone or before.class_name not in STATEFUL:
        raise InvalidModel(
            "makes zeros of masked steps, which Keras does for what a recurrent layer "
            "returns, for all who take it; leave it out",
            layer.name,
        )
    if before.class_name != "Bidirectional":  # which always does
        before.config = {**before.config, "zero_output_for_mask": True}
    return before


def _tell_mask(graph: Graph, layer: Layer, keras: Version) -> None:
    """Tell the recurrent layers that *layer* gives a mask to of it.

    :raises InvalidModel: others take it, or Keras 2 is to.
    """
    takers = _takers(graph, layer.name)
    if keras == 2 or any(taker.class_name not in STATEFUL for taker in takers):
        raise InvalidModel(
            "gives a mask that is computed in the model, which only recurrent layers "
            "of Keras 3 take; write a .keras file, or use maskZero or Masking",
            layer.name,
        )
    for taker in takers:
        for call in taker.calls:
            tensor = call.inputs[0]
            if tensor.layer == layer.name:
                call.args[0] = layer.calls[tensor.call].inputs[0]
                call.kwargs["mask"] = Tensor(layer.name, tensor.call)
    # What is left of it is the mask, as truth values.
    layer.class_name, layer.is_operation = "cast", True
    layer.config = {"name": layer.name, "dtype": "bool"}
    layer.calls = [Call([call.inputs[1]]) for call in layer.calls]
