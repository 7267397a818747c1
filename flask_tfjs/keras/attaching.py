"""Which of the weights that Keras stored belongs into which slot of which layer."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Protocol

from ..errors import InvalidModel
from .graph import Call
from .graph import Graph
from .graph import Layer
from .graph import Shape
from .reading import snake_case
from .shapes import each_step
from .shapes import infer
from .shapes import inner_layer
from .slots import Slots
from .slots import slots_of
from .weights import Stored

#: What a layer keeps beside its weights: the state of its random numbers, and how many
#: samples a Normalization has seen.
STATES = frozenset({"count", "seed_generator_state"})

#: A place in a layout: what one layer or nested model has there.
Place = Any

#: A weight and the path of names that leads to it.
Found = tuple[list[str], Stored]


class Source(Protocol):
    """A layout of weights."""

    def top(self, layers: Sequence[Layer]) -> list[Place]:
        """The places of the layers of the model, in their order."""

    def nested(self, place: Place, layers: Sequence[Layer]) -> list[Place]:
        """Those of the layers of a nested model."""

    def direction(self, place: Place, index: int) -> Place:
        """In a Bidirectional: forward 0, backward 1."""

    def wrapped(self, place: Place) -> Place:
        """The layer in a TimeDistributed."""

    def weights(self, place: Place, class_name: str) -> list[Found]:
        """The weights there."""


def attach(graph: Graph, source: Source) -> None:
    """Give each layer of *graph* its weights.

    :raises InvalidModel: some are missing, or have other shapes than the layer's
        config says.
    """
    _attach(graph, source, source.top(graph.layers))


def _attach(graph: Graph, source: Source, places: Sequence[Place]) -> None:
    shapes = infer(graph)
    for layer, place in zip(graph.layers, places, strict=True):
        call = layer.calls[0] if layer.calls else Call()
        inputs = [shapes.get(tensor) for tensor in call.inputs]
        if layer.model is not None:
            inner = layer.model
            _attach(inner, source, source.nested(place, inner.layers))
        elif layer.repeated is not None:
            inner = layer.repeated
            _attach(inner, source, source.nested(source.wrapped(place), inner.layers))
        elif not layer.is_operation:
            layer.weights = dict(_weights_of(layer, place, source, inputs))


def _weights_of(
    layer: Layer, place: Place, source: Source, inputs: Sequence[Shape | None]
) -> Iterator[tuple[str, Stored]]:
    if layer.class_name == "Bidirectional":
        for index, direction in enumerate(("forward", "backward")):
            class_name, config = inner_layer(layer.config)
            here = source.direction(place, index)
            found = _slotted(layer, source, here, class_name, config, inputs)
            yield from ((f"{direction}/{slot}", w) for slot, w in found.items())
    elif layer.class_name == "TimeDistributed":
        class_name, config = inner_layer(layer.config)
        steps = [each_step(shape) for shape in inputs]
        here = source.wrapped(place)
        yield from _slotted(layer, source, here, class_name, config, steps).items()
    else:
        yield from _slotted(
            layer, source, place, layer.class_name, layer.config, inputs
        ).items()


def _slotted(
    layer: Layer,
    source: Source,
    place: Place,
    class_name: str,
    config: Mapping[str, Any],
    inputs: Sequence[Shape | None],
) -> dict[str, Stored]:
    found = source.weights(place, class_name)
    slots = slots_of(class_name, config, inputs)
    if slots is None:
        return _own_names(layer, found)
    if len(found) != len(slots):
        raise InvalidModel(
            f"is a {class_name} and has {len(slots)} weights ({_listed(slots)}), but "
            f"the file holds {len(found)} of it; save the model again, as .keras",
            layer.name,
        )
    by_name = _by_name(slots, found)
    ordered = by_name or [weight for _, weight in found]
    for (slot, expected), weight in zip(slots.items(), ordered, strict=True):
        _check_shape(layer, slot, expected, weight)
    return dict(zip(slots, ordered, strict=True))


def _own_names(layer: Layer, found: Sequence[Found]) -> dict[str, Stored]:
    """The weights of a class of the user's, by the names that it gave them."""
    named: dict[str, Stored] = {}
    for path, weight in found:
        start = path.index(layer.name) + 1 if layer.name in path[:-1] else -1
        name = "/".join(path[start:])
        if name in named:
            raise InvalidModel(
                f"has two weights {name}; give them names of their own", layer.name
            )
        named[name] = weight
    return named


def _listed(slots: Slots) -> str:
    return ", ".join(slots) or "none"


def _by_name(slots: Slots, found: Sequence[Found]) -> list[Stored] | None:
    """The weights in the order of *slots*, where their names tell."""
    ordered = []
    for slot in slots:
        steps = slot.split("/")
        hits = [weight for path, weight in found if path[-len(steps) :] == steps]
        if len(hits) != 1:
            return None
        ordered += hits
    return ordered


def _check_shape(
    layer: Layer, slot: str, expected: Shape | None, weight: Stored
) -> None:
    if expected is None:
        return
    fits = len(expected) == len(weight.shape) and all(
        size is None or size == held
        for size, held in zip(expected, weight.shape, strict=True)
    )
    if not fits:
        sizes = ", ".join("?" if size is None else str(size) for size in expected)
        raise InvalidModel(
            f"its {slot} has the shape {list(weight.shape)} in the file, but the "
            f"layer's config asks for [{sizes}]; save the model again, as .keras",
            layer.name,
        )


class Tree(Protocol):
    """Groups within groups, as a ``.keras`` file has them."""

    def child(self, place: Place | None, name: str) -> Place | None:
        """The group *name* in the group *place*, if there is one."""

    def variables(self, place: Place | None) -> list[Found]:
        """The weights ``vars/0``, ``vars/1``, … in a group, in this order."""


class ByClass:
    """``.keras``: each layer under its class in snake case, counted, and its weights
    under ``vars/0``, ``vars/1``, … (keras ``src/saving/saving_lib.py``)."""

    #: Where layers lie, in the files of the versions since 2.12.
    BOXES = ("layers", "_layer_checkpoint_dependencies", "_self_tracked_trackables")

    # The layers in a MultiHeadAttention, in the order of their slots.
    _ATTENTION = ("query", "key", "value", "output")

    def __init__(self, tree: Tree, root: Place) -> None:
        self._tree = tree
        self._root = root

    def top(self, layers: Sequence[Layer]) -> list[Place]:
        return self.nested(self._root, layers)

    def nested(self, place: Place, layers: Sequence[Layer]) -> list[Place]:
        boxes = (self._tree.child(place, name) for name in self.BOXES)
        box = next((box for box in boxes if box is not None), None)
        counts: dict[str, int] = {}
        places: list[Place] = []
        for layer in layers:
            if layer.is_operation:
                places.append(None)
                continue
            name = snake_case(layer.class_name)
            count = counts[name] = counts.get(name, -1) + 1
            places.append(self._tree.child(box, f"{name}_{count}" if count else name))
        return places

    def direction(self, place: Place, index: int) -> Place:
        return self._tree.child(place, ("forward_layer", "backward_layer")[index])

    def wrapped(self, place: Place) -> Place:
        return self._tree.child(place, "layer")

    def weights(self, place: Place, class_name: str) -> list[Found]:
        if class_name != "MultiHeadAttention":
            return self._variables(place, class_name)
        found: list[Found] = []
        for part in self._ATTENTION:
            inner = self._tree.child(place, f"{part}_dense")
            inner = inner or self._tree.child(place, f"_{part}_dense")
            found += self._variables(inner, class_name)
        return found

    def _variables(self, place: Place | None, class_name: str) -> list[Found]:
        cell = self._tree.child(place, "cell")
        found = self._tree.variables(cell if cell is not None else place)
        # The count of a Normalization comes after what it counted for.
        return found[:2] if class_name == "Normalization" else found
