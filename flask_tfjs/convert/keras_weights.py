"""Which saved weight belongs to which layer, as TensorFlow.js finds out when it loads a
model (tfjs-layers ``src/engine/container.ts``, ``loadWeights``)."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import InvalidModel
from ..keras.graph import Graph
from ..keras.graph import Layer
from ..keras.graph import Shape
from ..keras.shapes import infer
from ..keras.weights import Stored
from .keras_faults import Faults
from .keras_parts import parts_of


class _Target(NamedTuple):
    """A weight that a layer has.

    :ivar key: of :attr:`Layer.weights`.
    :ivar shape: with ``None`` for what is not known.
    """

    layer: Layer
    key: str
    shape: Shape | None


def complete(graph: Graph, weights: Mapping[str, Stored]) -> None:
    """Put into configs what TensorFlow.js forgets to write and weights tell: by how
    much a SeparableConv2D multiplies its channels (tfjs-layers
    ``src/layers/convolutional.ts``, ``SeparableConv.getConfig``)."""
    for layer in graph.walk():
        kernel = weights.get(f"{layer.name}/depthwise_kernel")
        if layer.class_name == "SeparableConv2D" and kernel and len(kernel.shape) == 4:
            told = {"depth_multiplier": kernel.shape[-1]}
            layer.config = {**told, **layer.config}


def adopt(graph: Graph, weights: Mapping[str, Stored], faults: Faults) -> None:
    """Give the layers of *graph* their weights.

    :param weights: by the names in the file.
    :param faults: is told of weights that are missing, that have another shape than the
        layer gives them, and that no layer has.
    """
    targets: dict[str, _Target] = {}
    for name, target in _targets(graph, (), faults):
        if name in targets:
            reason = f"two weights of the model are called {name}; rename a layer"
            faults.add(InvalidModel(reason, target.layer.name))
        targets[name] = target
    found: dict[str, Stored] = {}
    for name, weight in weights.items():
        wanted = name if name in targets else _without_cell(name)
        if wanted in targets and wanted not in found:
            found[wanted] = weight
        else:
            faults.add(
                InvalidModel(
                    "is a weight of no layer of the model; save the model again", name
                )
            )
    for name, (layer, key, shape) in targets.items():
        with faults.of(layer.name):
            layer.weights[key] = _checked(name, found.get(name), shape, layer.name)


def _targets(
    graph: Graph, inputs: Sequence[Shape | None], faults: Faults
) -> Iterator[tuple[str, _Target]]:
    shapes = infer(graph, inputs)
    for layer in graph.layers:
        taken = layer.calls[0].inputs if layer.calls else []
        given = [shapes.get(tensor) for tensor in taken]
        if layer.model is not None:
            yield from _targets(layer.model, given, faults)
        elif not layer.is_operation:
            with faults.of(layer.name):
                for part in parts_of(layer, given):
                    for slot, shape in part.slots.items():
                        target = _Target(layer, part.key + slot, shape)
                        yield part.tfjs + slot, target


def _without_cell(name: str) -> str:
    """``lstm/lstm_cell/kernel``, as TensorFlow 2.2 and later write it, without the
    cell."""
    *scopes, slot = name.split("/")
    return "/".join([*scopes[:-1], slot])


def _checked(
    name: str, weight: Stored | None, shape: Shape | None, layer: str
) -> Stored:
    if weight is None:
        raise InvalidModel(
            f"its weight {name} is not among those saved; save the model again", layer
        )
    if weight.dtype != "float32":
        raise InvalidModel(
            f"its weight {name} is of dtype {weight.dtype}, and must be float32; save "
            "the model again",
            layer,
        )
    if shape is not None and not _fits(weight.shape, shape):
        raise InvalidModel(
            f"its weight {name} has the shape {_shown(weight.shape)}, and must have "
            f"{_shown(shape)}; save the model again",
            layer,
        )
    return weight


def _fits(shape: Sequence[int], wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(
        size is None or size == have for have, size in zip(shape, wanted, strict=True)
    )


def _shown(shape: Shape) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
