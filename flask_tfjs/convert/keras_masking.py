"""Masks on the way back. Keras hands a mask on where TensorFlow.js drops it, and
TensorFlow.js keeps the last one it met for layers that have none (tfjs-layers
``src/engine/executor.ts``, ``execute``): so a layer may come to compute with another
mask than the one it was trained with."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import replace

from ..errors import InvalidModel
from ..keras.graph import Call
from ..keras.graph import Graph
from ..keras.graph import Layer
from ..keras.graph import Tensor
from ..keras.masks import Mask
from ..keras.masks import Masks
from ..keras.masks import keras_masks
from ..keras.masks import tfjs_masks
from ..keras.script import LAYERS
from ..keras.shapes import inner_layer
from .keras_configs import Version
from .keras_faults import Faults
from .keras_parts import STATEFUL

# A call of a layer: its name, and the index among its calls.
_Node = tuple[str, int]

#: The mask that each call computes with in TensorFlow.js.
Used = Mapping[_Node, Mask | None]

# Layers of Keras that compute with a mask; recurrent ones do in TensorFlow.js, too.
_IGNORED = "GlobalAveragePooling1D"
_USERS = STATEFUL | {_IGNORED, "Softmax"}


def used_masks(graph: Graph) -> Used:
    """What TensorFlow.js gives its layers: the mask of the first input, or else the
    last mask that any layer before was given."""
    formal = tfjs_masks(graph)
    layers = graph.by_name()
    used: dict[_Node, Mask | None] = {}
    last: Mask | None = None
    for name, index in _execution(graph):
        calls = layers[name].calls
        given = [
            formal.get(tensor) for tensor in (calls[index].inputs if calls else ())
        ]
        if any(given):
            last = given[0]
        used[name, index] = last
        if layers[name].class_name in LAYERS:
            last = None  # those of the script take it away behind them
    return used


def _execution(graph: Graph) -> Iterator[_Node]:
    """The calls in the order in which TensorFlow.js makes them to predict."""
    layers = graph.by_name()
    done: set[_Node] = set()
    for output in graph.outputs:
        stack = [((output.layer, output.call), False)]
        while stack:
            node, entered = stack.pop()
            if node in done:
                continue
            if entered:
                done.add(node)
                yield node
                continue
            stack.append((node, True))
            calls = layers[node[0]].calls
            inputs = calls[node[1]].inputs if calls else []
            stack += [((tensor.layer, tensor.call), False) for tensor in inputs]


def reconcile(
    graph: Graph, used: Used, zeroed: Collection[str], keras: Version, faults: Faults
) -> Iterator[str]:
    """See to it that every layer of *graph* computes with the mask it had.

    :param graph: with the layers of Keras.
    :param used: of the layers that they were.
    :param zeroed: those that returned zeros for masked steps, as they do in Keras.
    :param faults: is told of layers where nothing helps.
    :returns: what a person should know.
    """
    masks = _masks(graph, keras)
    for layer in list(graph.layers):
        with faults.of(layer.name):
            if layer.model is not None:
                _refuse_crossing(layer, graph, masks, used)
            elif _uses(layer) and _differs(layer, masks, used):
                _stop(graph, layer, keras)
    masks = _masks(graph, keras)
    for layer in graph.layers:
        with faults.of(layer.name):
            if layer.name not in zeroed and _returns_zeros(layer, masks):
                yield from _masked_steps(graph, layer, masks)


def _masks(graph: Graph, keras: Version) -> Masks:
    """The mask of each tensor that carries one in this version of Keras."""
    return keras_masks(replace(graph, version=(keras,)))


def _class(layer: Layer) -> str:
    if layer.class_name == "TimeDistributed":
        return inner_layer(layer.config)[0]
    return layer.class_name


def _uses(layer: Layer) -> bool:
    return _class(layer) in _USERS


def _differs(layer: Layer, masks: Masks, used: Used) -> bool:
    """Whether Keras gives the layer a mask that TensorFlow.js does not.

    :raises InvalidModel: it is the other way round, or another mask.
    """
    differs = False
    for index, call in enumerate(layer.calls):
        if "mask" in call.kwargs:
            continue
        mine = masks.get(call.inputs[0]) if call.inputs else None
        theirs = used.get((layer.name, index))
        if _class(layer) == "Softmax" or layer.class_name == "TimeDistributed":
            if mine or theirs:
                raise InvalidModel(
                    "has a mask, and Keras computes something else with it; leave the "
                    "mask out",
                    layer.name,
                )
        elif _class(layer) == _IGNORED:
            differs |= mine is not None
        elif theirs is not None and not _same(mine, theirs):
            raise InvalidModel(
                f"computes with the mask that {theirs.maker} made, since TensorFlow.js "
                "keeps it for layers that have none; Keras does not. Leave that mask "
                "out (maskZero: false), and train again",
                layer.name,
            )
        else:
            differs |= not _same(mine, theirs)
    return differs


def _same(one: Mask | None, other: Mask | None) -> bool:
    if one is None or other is None:
        return one is other
    # Of several masks the two make one in different ways, unless all are equal.
    return len(_contents(one) | _contents(other)) == 1


def _contents(mask: Mask) -> set[object]:
    if mask.unknown and not mask.others:
        return {mask, None}  # like no other
    return {(each.source, each.value) for each in (mask, *mask.others)}


def _stop(graph: Graph, layer: Layer, keras: Version) -> None:
    """Put an operation in front of *layer* with which a mask ends in Keras 3."""
    if keras == 2:
        raise InvalidModel(
            "computes without a mask in TensorFlow.js, and with one in Keras; leave "
            "the mask out (maskZero: false), or write a .keras file",
            layer.name,
        )
    name = f"{layer.name}_unmasked"
    stop = Layer("copy", name, {"name": name}, is_operation=True)
    for index, call in enumerate(layer.calls):
        stop.calls.append(Call(call.args[:1]))
        call.args[0] = Tensor(name, index)
    graph.layers.insert(graph.layers.index(layer), stop)
    graph.sequential = False


def _refuse_crossing(layer: Layer, graph: Graph, masks: Masks, used: Used) -> None:
    """Refuse a model within the model that a mask goes into or comes out of, and is
    used there: there the two differ in more ways."""
    model = layer.model
    assert model is not None
    enters = any(
        tensor in masks or used.get((layer.name, index))
        for index, call in enumerate(layer.calls)
        for tensor in call.inputs
    )
    inner = keras_masks(model)
    leaves = any(tensor in inner for tensor in model.outputs)
    if (enters and any(map(_uses, model.walk()))) or (
        leaves and any(map(_uses, graph.layers))
    ):
        raise InvalidModel(
            "a mask goes into this model within the model, or comes out of it; make "
            "and use masks in one and the same model",
            layer.name,
        )


def _returns_zeros(layer: Layer, masks: Masks) -> bool:
    """Whether Keras returns zeros for masked steps, where TensorFlow.js repeats the
    last output (keras ``src/layers/rnn/bidirectional.py``)."""
    if layer.class_name != "Bidirectional":
        return False
    sequences = inner_layer(layer.config)[1].get("return_sequences")
    return bool(sequences) and any(
        "mask" in call.kwargs or tensor in masks
        for call in layer.calls
        for tensor in call.inputs[:1]
    )


def _masked_steps(graph: Graph, layer: Layer, masks: Masks) -> Iterator[str]:
    """What becomes of the masked steps that *layer* returns.

    :raises InvalidModel: other steps are computed from them.
    """
    pending, seen = [layer.name], {layer.name}
    while pending:
        name = pending.pop()
        if any(output.layer == name for output in graph.outputs):
            yield (
                f"{layer.name}: for steps that are masked Keras returns zeros, where "
                "TensorFlow.js returned the last output again"
            )
        for taker in graph.layers:
            takes = any(t.layer == name for call in taker.calls for t in call.inputs)
            if not takes or taker.name in seen:
                continue
            if Tensor(taker.name) in masks and not _uses(taker):
                seen.add(taker.name)
                pending.append(taker.name)
            elif taker.class_name not in STATEFUL:
                raise InvalidModel(
                    "takes steps that are masked, for which Keras has zeros and "
                    f"TensorFlow.js the last output of {layer.name} again; leave the "
                    "mask out (maskZero: false)",
                    taker.name,
                )
