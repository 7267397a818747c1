"""Where a file of Keras holds the weights of each layer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Sequence

from ..errors import InvalidModel
from ..keras.attaching import STATES
from ..keras.attaching import ByClass
from ..keras.attaching import Found
from ..keras.attaching import Place
from ..keras.attaching import attach as attach
from ..keras.graph import Layer
from . import hdf5

_NUMBER = re.compile("[0-9]{1,9}")


class ByName:
    """``.h5``: for each layer of the model a list of named weights, those of a nested
    model in one list."""

    def __init__(self, root: hdf5.Group) -> None:
        self._root = root

    def top(self, layers: Sequence[Layer]) -> list[Place]:
        return [list(self._entries(layer)) for layer in layers]

    def nested(self, place: Place, layers: Sequence[Layer]) -> list[Place]:
        hits: dict[str, list[Found]] = {}
        for path, weight in place:
            for name in set(path[:-1]):
                hits.setdefault(name, []).append((path, weight))
        # The names of a model within a model may be left out of the paths.
        return [
            hits.get(layer.name) or (place if layer.model is not None else [])
            for layer in layers
        ]

    def direction(self, place: Place, index: int) -> Place:
        half = len(place) // 2
        return place[index * half : (index + 1) * half]

    def wrapped(self, place: Place) -> Place:
        return place

    def weights(self, place: Place, class_name: str) -> list[Found]:
        return list(place)

    def _entries(self, layer: Layer) -> Iterator[Found]:
        group = hdf5.subgroup(self._root, layer.name)
        if group is None:
            return
        for name in hdf5.names(group, "weight_names"):
            path = re.sub(r":\d+$", "", name).split("/")
            if path[-1] in STATES or "seed_generator" in path:
                continue
            dataset = hdf5.child(group, name)
            if not isinstance(dataset, hdf5.Dataset):
                raise InvalidModel(
                    f"the file lacks its weight {name} (Keras stopped while it wrote "
                    "the file); save the model as .keras",
                    layer.name,
                )
            yield path, hdf5.stored(dataset, name)


def by_class(root: hdf5.Group) -> ByClass:
    """``.keras``: the weights in ``model.weights.h5``."""
    return ByClass(_Groups(), root)


class _Groups:
    """The groups of an HDF5 file."""

    def child(self, place: hdf5.Group | None, name: str) -> hdf5.Group | None:
        return hdf5.subgroup(place, name)

    def variables(self, place: hdf5.Group | None) -> list[Found]:
        group = hdf5.subgroup(place, "vars")
        if group is None:
            return []
        found: list[Found] = []
        for name in sorted(filter(_NUMBER.fullmatch, group.links), key=int):
            dataset = hdf5.child(group, name)
            if isinstance(dataset, hdf5.Dataset):
                found.append(([name], hdf5.stored(dataset, f"{group.name}/{name}")))
        return found
