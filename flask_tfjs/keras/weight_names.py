"""The weights of a directory that the official converter made: which is whose, by the
names that it took over from a ``.keras`` or an ``.h5`` file."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType

from ..errors import InvalidModel
from .attaching import STATES
from .attaching import ByClass
from .attaching import Found
from .attaching import Place
from .attaching import attach
from .graph import Graph
from .graph import Layer
from .shapes import inner_layer
from .slots import slots_of
from .weights import Stored

# A name in a .keras file; those in an .h5 file end in that of a slot.
_VARIABLE = re.compile(r"(.*/)?vars/\d+", re.DOTALL)

# What Keras 3 calls a weight that TensorFlow.js calls otherwise.
_ALIASES = MappingProxyType({"depthwise_kernel": "kernel"})

# Weights, characters of a name, and parts of it, that are looked at.
_MAX_WEIGHTS = 20_000
_MAX_NAME = 1000
_MAX_DEPTH = 16


def attach_by_names(graph: Graph, weights: Sequence[Stored]) -> list[Stored]:
    """Give each layer of *graph* its weights.

    :returns: those that belong to no layer: the optimizer's, counts, seeds.
    :raises InvalidModel: the names do not tell, weights are missing or have other
        shapes than the layer's config says, or nothing takes them.
    """
    if len(weights) > _MAX_WEIGHTS:
        raise InvalidModel(
            f"holds {len(weights)} weights; up to {_MAX_WEIGHTS} are named anew",
            "weightsManifest",
        )
    for weight in weights:
        if len(weight.name) > _MAX_NAME or weight.name.count("/") > _MAX_DEPTH:
            raise InvalidModel(
                "is no name that Keras gives a weight; convert the Keras file again",
                weight.name[:200],
            )
    if all(is_variable(weight.name) for weight in weights):
        attach(graph, ByClass(_Names(weights), ""))
    else:
        _attach_by_paths(graph, weights)
    taken = {w.name for layer in layers_of(graph) for _, w in stored_in(layer)}
    rest = [weight for weight in weights if weight.name not in taken]
    for weight in rest:
        if not _is_state(weight):
            raise InvalidModel(
                "is a weight that no layer takes; convert the Keras file again",
                weight.name[:200],
            )
    return rest


def is_variable(name: str) -> bool:
    """Whether a weight is named as in a ``.keras`` file: ``layers/dense/vars/0``."""
    return _VARIABLE.fullmatch(name) is not None


def stored_in(layer: Layer) -> Iterator[tuple[str, Stored]]:
    """The weights of a layer that is not rewritten yet, by slot."""
    return ((s, w) for s, w in layer.weights.items() if isinstance(w, Stored))


def layers_of(graph: Graph) -> Iterator[Layer]:
    """The layers of a model, those of the models in it too."""
    for layer in graph.layers:
        yield layer
        for model in (layer.model, layer.repeated):
            if model is not None:
                yield from layers_of(model)


def _is_state(weight: Stored) -> bool:
    path = weight.name.split("/")
    return (
        # In a .keras file the optimizer's and those of metrics lie beside the layers.
        (is_variable(weight.name) and path[0] not in ByClass.BOXES)
        or path[-1] in STATES
        or "seed_generator" in path
        # Of a Normalization, the count comes third.
        or (path[-2:] == ["vars", "2"] and weight.shape == ())
    )


# .keras


class _Names:
    """The names as groups within groups. A place is what all names in it begin with."""

    def __init__(self, weights: Sequence[Stored]) -> None:
        self._weights = sorted(weights, key=lambda weight: weight.name)
        self._names = [weight.name for weight in self._weights]

    def child(self, place: str | None, name: str) -> str | None:
        inner = None if place is None else f"{place}{name}/"
        found = inner is not None and any(True for _ in self._under(inner))
        return inner if found else None

    def variables(self, place: str | None) -> list[Found]:
        inner = self.child(place, "vars")
        if inner is None:
            return []
        found = {w.name.removeprefix(inner): w for w in self._under(inner)}
        names = sorted((name for name in found if name.isdecimal()), key=int)
        return [([name], found[name]) for name in names]

    def _under(self, place: str) -> Iterator[Stored]:
        index = bisect_left(self._names, place)
        while index < len(self._names) and self._names[index].startswith(place):
            yield self._weights[index]
            index += 1


# .h5


def _attach_by_paths(graph: Graph, weights: Sequence[Stored]) -> None:
    found = [(weight.name.split("/"), weight) for weight in weights]
    own = [entry for entry in found if not _is_state(entry[1])]
    try:
        attach(graph, _InOrder(own))
        _check_names(graph)
    except InvalidModel:
        # Somebody may have put them into another order.
        leaves = (layer for layer in layers_of(graph) if layer.model is None)
        attach(graph, _ByPath(own, frozenset(layer.name for layer in leaves)))
        _check_names(graph)


def _check_names(graph: Graph) -> None:
    """A weight's path names its slot and its layer, and in a Bidirectional the
    direction; the mean and variance of a Keras 2 Normalization have no path."""
    for layer in layers_of(graph):
        for slot, weight in stored_in(layer):
            path = weight.name.split("/")
            bare = len(path) == 1 and layer.class_name == "Normalization"
            directed = layer.class_name != "Bidirectional" or _is_directed(
                path, layer, ("forward", "backward").index(slot.partition("/")[0])
            )
            last = slot.rpartition("/")[2]
            fits = directed and path[-1] in (last, _ALIASES.get(last))
            if not (fits and (bare or _is_under(path, layer.name))):
                raise InvalidModel(
                    f"the weight in the place of its {slot} is called "
                    f"{weight.name[:200]!r}; convert the Keras file again",
                    layer.name,
                )


def _is_directed(path: Sequence[str], layer: Layer, direction: int) -> bool:
    """Whether a weight in a Bidirectional is of its forward layer (0), or of the other.
    Keras 3 has named both before it writes them, Keras 2 names them then."""
    _, config = inner_layer(layer.config)
    forward = str(config.get("name"))
    names = {forward, f"forward_{forward}"}
    if direction:
        names = {f"backward_{forward.removeprefix('forward_')}"}
        backward = layer.config.get("backward_layer")
        if isinstance(backward, dict):
            own = str(backward["config"].get("name"))
            names |= {own, f"backward_{own}"}
    return not names.isdisjoint(path)


def _is_under(path: Sequence[str], name: str) -> bool:
    return f"/{name}/" in f"/{'/'.join(path)}"


@dataclass(frozen=True, slots=True)
class _Listed:
    """The weights of a layer or a nested model: those that are trained, the others."""

    trained: list[Found]
    others: list[Found]


class _InOrder:
    """The order in which the converter finds them: layer by layer in the order of their
    names (HDF5), those of a nested model all in one, what is trained first (keras
    ``src/legacy/saving/legacy_h5_format.py``)."""

    def __init__(self, found: Sequence[Found]) -> None:
        self._found = found

    def top(self, layers: Sequence[Layer]) -> list[Place]:
        places: dict[int, _Listed] = {}
        start = 0
        for layer in sorted(layers, key=lambda layer: layer.name.split("/")):
            trained, others = _counts(layer)
            middle, end = start + trained, start + trained + others
            places[id(layer)] = _Listed(
                list(self._found[start:middle]), list(self._found[middle:end])
            )
            start = end
        if start != len(self._found):
            raise InvalidModel(
                f"has {start} weights in its layers, and the manifest "
                f"{len(self._found)}; convert the Keras file again",
                "weightsManifest",
            )
        return [places[id(layer)] for layer in layers]

    def nested(self, place: Place, layers: Sequence[Layer]) -> list[Place]:
        trained, others = iter(place.trained), iter(place.others)
        places = []
        for layer in layers:
            first, second = _counts(layer)
            places.append(
                _Listed(list(islice(trained, first)), list(islice(others, second)))
            )
        return places

    def direction(self, place: Place, index: int) -> Place:
        return _Listed(_half(place.trained, index), _half(place.others, index))

    def wrapped(self, place: Place) -> Place:
        return place

    def weights(self, place: Place, class_name: str) -> list[Found]:
        return [*place.trained, *place.others]


def _half(found: list[Found], index: int) -> list[Found]:
    half = len(found) // 2
    return found[index * half : (index + 1) * half]


def _counts(layer: Layer) -> tuple[int, int]:
    """How many weights of a layer are trained, and how many are not.

    :raises InvalidModel: its class is not known.
    """
    if layer.is_operation:
        return 0, 0
    model = layer.model or layer.repeated
    if model is not None:
        counts = [_counts(inner) for inner in model.layers]
        return sum(t for t, _ in counts), sum(o for _, o in counts)
    class_name, config, times = layer.class_name, layer.config, 1
    frozen = config.get("trainable") is False
    if class_name in ("Bidirectional", "TimeDistributed"):
        times = 2 if class_name == "Bidirectional" else 1
        class_name, config = inner_layer(config)
        frozen = frozen or config.get("trainable") is False
    slots = slots_of(class_name, config, ())
    if slots is None:
        raise InvalidModel(
            f"is a {class_name}, whose weights are not known", layer.name
        )
    others = len(slots) if frozen else len(_NEVER_TRAINED.intersection(slots))
    return times * (len(slots) - others), times * others


_NEVER_TRAINED = frozenset({"mean", "moving_mean", "moving_variance", "variance"})


@dataclass(frozen=True, slots=True)
class _Owned:
    """The weights whose path names a layer."""

    layer: Layer
    found: list[Found]


class _ByPath:
    """In whatever order: by the names of layers in the paths."""

    def __init__(self, found: Sequence[Found], layers: frozenset[str]) -> None:
        self._by_layer: dict[str, list[Found]] = {}
        for path, weight in found:
            # The mean and variance of a Keras 2 Normalization have no path.
            owner = next((p for p in _subpaths(path[:-1]) if p in layers), "")
            self._by_layer.setdefault(owner, []).append((path, weight))

    def top(self, layers: Sequence[Layer]) -> list[Place]:
        return [self._of_layer(layer) for layer in layers]

    def nested(self, place: Place, layers: Sequence[Layer]) -> list[Place]:
        # The name of a model need not be among those of its layers' weights.
        return self.top(layers)

    def _of_layer(self, layer: Layer) -> Place:
        found = self._by_layer.get(layer.name)
        if found is None and layer.class_name == "Normalization":
            found = self._by_layer.get("")
        return _Owned(layer, found or [])

    def direction(self, place: Place, index: int) -> Place:
        layer = place.layer
        found = [entry for entry in place.found if _is_directed(entry[0], layer, index)]
        return _Owned(layer, found)

    def wrapped(self, place: Place) -> Place:
        return place

    def weights(self, place: Place, class_name: str) -> list[Found]:
        if not class_name.startswith("DepthwiseConv"):
            return list(place.found)
        slots = {alias: slot for slot, alias in _ALIASES.items()}
        return [
            ([*path[:-1], slots.get(path[-1], path[-1])], weight)
            for path, weight in place.found
        ]


def _subpaths(path: Sequence[str]) -> Iterator[str]:
    """All that a layer may be called whose weight has this path: what stands last
    first, for before it are the models that the layer is in."""
    for stop in range(len(path), 0, -1):
        for start in range(stop):
            yield "/".join(path[start:stop])
