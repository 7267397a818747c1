"""What the masks of Keras ask of a rewriting. TensorFlow.js hands most masks on by
itself (:mod:`.masks`); the others are given, stopped, or refused here."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import InvalidModel
from . import masks
from .graph import Graph
from .graph import Layer
from .graph import Tensor
from .masks import Mask
from .masks import Masks
from .rewrite import Rewrite
from .rules import space

# Recurrent layers, which both Keras and TensorFlow.js give a mask by themselves.
_NATIVE = frozenset({"ConvLSTM2D", "GRU", "LSTM", "SimpleRNN"})


@dataclass(frozen=True, slots=True)
class MaskUse:
    """What a rewriting must know of the masks in one graph.

    :ivar flow: the mask of each tensor in Keras.
    :ivar needed: the layers whose mask a recurrent layer uses.
    :ivar exposed: the recurrent layers whose steps are all read, by layers that leave
        none out or as an output.
    """

    flow: Masks
    needed: frozenset[str]
    exposed: frozenset[str]


def mask_use(graph: Graph) -> MaskUse:
    """What the masks of *graph* are, and who uses them."""
    flow = masks.keras_masks(graph)
    return MaskUse(flow, _needed(graph, flow), _exposed(graph))


def _exposed(graph: Graph) -> frozenset[str]:
    readers = [
        tensor.layer
        for layer in graph.layers
        if not is_recurrent(layer)
        for call in layer.calls
        for tensor in call.inputs
    ]
    return frozenset([*readers, *(tensor.layer for tensor in graph.outputs)])


def zeroes(layer: Layer) -> bool:
    """Whether Keras gives zeros for steps that do not count."""
    config = layer.config
    if layer.class_name == "Bidirectional":
        return bool(config["layer"]["config"].get("return_sequences"))
    return bool(config.get("return_sequences") and config.get("zero_output_for_mask"))


def _needed(graph: Graph, flow: Masks) -> frozenset[str]:
    """The layers whose mask must be made in TensorFlow.js, too: those that a layer
    there takes it from by itself."""
    return frozenset(
        mask.maker
        for layer in graph.layers
        if is_recurrent(layer) or layer.model is not None
        for call in layer.calls
        for tensor in call.inputs[:1]
        for mask in [flow.get(tensor)]
        if mask is not None
    )


def is_recurrent(layer: Layer) -> bool:
    """Whether the layer takes its mask by itself, in Keras and in TensorFlow.js."""
    return _inner_class(layer) in _NATIVE


def _inner_class(layer: Layer) -> str:
    if layer.class_name == "Bidirectional":
        inner = layer.config.get("layer")
        if isinstance(inner, dict):
            return str(inner.get("class_name")).rpartition(">")[2]
    return layer.class_name


def stop_stale_mask(done: Rewrite) -> None:
    """TensorFlow.js keeps the last mask it computed for all layers after it
    (tfjs-layers ``src/engine/executor.ts``, ``execute``): without this a layer that has
    none would use that of another branch."""
    if done.options.stock_layers:
        raise done.refusal(
            "has no mask, and another layer of the model makes one, which "
            "TensorFlow.js would use here, too; leave out --stock-layers, or use "
            "mask_zero=False"
        )
    done.moved = done.add(
        "KerasOperation", done.input(), {"operation": "identity"}, suffix="unmasked"
    )


def give_mask(done: Rewrite, mask: Mask) -> None:
    """Let the layer be called with a tensor that carries *mask*."""
    values = space.mask_values(done, mask)
    done.moved = done.add("KerasMask", [done.input(), values], {}, suffix="masked")


def own_masks(whole: Graph, graph: Graph, flow: Masks) -> Iterator[InvalidModel]:
    """Layers that are called with another mask than the one that comes with their
    input, which Keras 3 names in the call, too."""
    for layer in graph.layers:
        if layer.is_operation:
            continue
        given = [
            (value, call.inputs[index : index + 1])
            for call in layer.calls
            for name, index in masks.ARGUMENTS.items()
            if isinstance(value := call.kwargs.get(name), Tensor)
        ]
        for value, taken in given:
            carried = [flow[tensor] for tensor in taken if tensor in flow]
            if not any(
                mask.others or mask.unknown or masks.stands_for(whole, value, mask)
                for mask in carried
            ):
                yield InvalidModel(
                    "is called with a mask of its own, which TensorFlow.js cannot "
                    "take; use Masking or mask_zero=True",
                    layer.name,
                )


def mask_faults(graph: Graph) -> Iterator[InvalidModel]:
    """Layers that TensorFlow.js gives a mask which it then refuses or mistakes."""
    flow = masks.tfjs_masks(graph)
    for layer in graph.layers:
        for call in layer.calls:
            given = [flow[tensor] for tensor in call.inputs if tensor in flow]
            if given and not masks.hands_on_in_tfjs(layer):
                yield InvalidModel(
                    f"is given the mask of {given[0].maker!r}, which "
                    f"{layer.class_name} does not take in TensorFlow.js; use "
                    "mask_zero=False, leave Masking out, or move the layer behind the "
                    "recurrent ones",
                    layer.name,
                )


def lost_masks(
    graph: Graph, flow: Masks, result: Graph, resolve: Callable[[Tensor], Tensor]
) -> Iterator[InvalidModel]:
    """Recurrent layers of *graph* whose mask does not reach them in *result*.

    :param resolve: finds the tensor that stands for one of *graph* in *result*.
    """
    there = masks.tfjs_masks(result)
    for layer in graph.layers:
        if not is_recurrent(layer):
            continue
        for call in layer.calls:
            mask = flow.get(call.inputs[0]) if call.inputs else None
            if mask is None:
                continue
            found = there.get(resolve(call.inputs[0]))
            plain = not mask.others and not mask.unknown
            if not (
                found and plain and found.maker == resolve(Tensor(mask.maker)).layer
            ):
                yield InvalidModel(
                    f"is given the mask of {mask.maker!r}, which does not come so far "
                    "in TensorFlow.js; use mask_zero=False, or put the layer directly "
                    "behind the one that makes the mask",
                    layer.name,
                )
