"""A layers model of TensorFlow.js as it lies on disk: its topology, and its weights one
at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidModel
from ..errors import ModelNotFound
from ..format.layout import PlacedWeight
from ..format.layout import Shard
from ..format.manifest import Kind
from ..keras.weights import Stored
from ..models.delivery import BeingWritten
from ..models.delivery import Delivery
from ..models.delivery import Examination
from ..models.delivery import unreadable
from ..models.directory import ModelDirectory
from ..models.files import Root
from .quantize import decode

# The member of a weight's spec that tells a part of the optimizer's state
# (tfjs-layers ``src/engine/training.ts``).
_OPTIMIZER = "optimizer"


@dataclass(frozen=True, slots=True)
class Source:
    """A sound layers model.

    :ivar topology: ``{"class_name": …, "config": …}``.
    :ivar weights: by name, without those of the optimizer; each is read when asked.
    :ivar is_trained: whether it was saved with its optimizer, or with how it was
        trained.
    """

    topology: Any
    weights: Mapping[str, Stored]
    is_trained: bool


@contextlib.contextmanager
def open_source(source: str | os.PathLike[str]) -> Iterator[Source]:
    """The model in a directory, or in a ``.json`` file and beside it.

    :raises InvalidModel: there is none, or several; it is no layers model; its files do
        not add up; or something has written to it by the end of the block.
    """
    directory = _directory(os.fspath(source))
    delivery, found = _examine(directory)
    weights = {weight.name: weight for weight in _weights(found, directory.root)}
    topology = _topology(found.model.kind, found.document, delivery.entry)
    yield Source(topology, weights, _is_trained(found.document))
    # The weights were read one after another, long after they were looked at.
    if directory.delivery(delivery.entry).digest != delivery.digest:
        raise BeingWritten(delivery.entry)


def _directory(label: str) -> ModelDirectory:
    path = os.path.abspath(os.path.expanduser(label))
    if os.path.isfile(path) and not path.endswith(".json"):
        raise InvalidModel(
            "is not a directory or .json file of a TensorFlow.js model", label
        )
    return ModelDirectory(os.path.basename(path), path, label=label)


def _examine(directory: ModelDirectory) -> tuple[Delivery, Examination]:
    try:
        delivery = directory.main()
        return delivery, directory.examine(delivery.entry)
    except ModelNotFound as error:
        raise InvalidModel(str(error), directory.label) from None


def _topology(kind: Kind, document: Any, entry: str) -> Any:
    if kind == "graph-model":
        raise InvalidModel(
            "is a graph model: operations, and no layers that Keras could take; go "
            "back to the model that it was converted from",
            entry,
        )
    if kind == "weights-manifest":
        raise InvalidModel(
            "holds weights without a model; save the whole model with model.save()",
            entry,
        )
    topology = document["modelTopology"]
    return topology.get("model_config") or topology


def _is_trained(document: Mapping[str, Any]) -> bool:
    return bool(document.get("trainingConfig")) or any(map(_is_state, _specs(document)))


def _is_state(spec: Mapping[str, Any]) -> bool:
    return spec.get("group") == _OPTIMIZER


def _specs(document: Any) -> list[dict[str, Any]]:
    """The weights' specs as the JSON has them."""
    if not isinstance(document, dict):
        return []
    groups = document.get("weightsManifest") or []
    return [spec for group in groups for spec in group["weights"]]


def _weights(found: Examination, root: Root) -> Iterator[Stored]:
    shards = list(found.every_shard)
    for placed, spec in zip(found.layout.weights, _specs(found.document), strict=False):
        if not _is_state(spec):
            read = _Reader(root, shards, placed, spec.get("quantization"))
            yield Stored(spec["name"], placed.spec.shape, placed.spec.dtype, read)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads a weight when it is called.

    :ivar shards: all of the model, in the order in which a client joins them.
    """

    root: Root
    shards: Sequence[Shard]
    placed: PlacedWeight
    quantization: Mapping[str, Any] | None

    def __call__(self) -> NDArray[np.float32]:
        """:raises InvalidModel: a shard cannot be read, or is being written to."""
        spec = self.placed.spec
        stored = np.frombuffer(
            self._bytes(), np.dtype(spec.wire_dtype).newbyteorder("<")
        )
        return decode(stored, self.quantization).reshape(spec.shape)

    def _bytes(self) -> bytes:
        parts, first = [], 0
        for shard in self.shards:
            begin = max(self.placed.start - first, 0)
            end = min(self.placed.end - first, shard.size)
            if begin < end:
                parts.append(self._part(shard.name, begin, end - begin))
            first += shard.size
        return b"".join(parts)

    def _part(self, name: str, offset: int, length: int) -> bytes:
        try:
            with self.root.open(name) as file:
                data = file.read(offset, length)
        except OSError as error:
            raise unreadable(error, name) from None
        if len(data) != length:
            raise BeingWritten(name)
        return data
