"""Where each weight lies in the shards: exact byte arithmetic, since the client checks
neither status nor length of a shard (tfjs-core ``src/io/weights_loader.ts``)."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import InvalidModel
from .manifest import ModelJSON
from .manifest import WeightsManifestGroup
from .manifest import WeightSpec
from .manifest import shown

# Bytes before each element of a string weight: its length, little endian.
_LENGTH_PREFIX = 4


class GroupBytes(Protocol):
    """The shards of one group, joined."""

    def read(self, offset: int, length: int) -> bytes:
        """*length* bytes from *offset*; fewer only at the end."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard as it lies on disk: its relative name and its size in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class PlacedWeight:
    """A weight and its bytes ``[start, end)`` in the joined shards of all groups."""

    spec: WeightSpec
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How the weights lie in the shards.

    :ivar surplus: bytes after the last weight, which clients ignore.
    """

    weights: tuple[PlacedWeight, ...]
    surplus: int


def lay_out(
    model: ModelJSON,
    shards: Sequence[Sequence[Shard]],
    group_bytes: Sequence[GroupBytes],
) -> Layout:
    """Place every weight.

    :param shards: for each group its shards, in the order of ``paths``.
    :param group_bytes: for each group its joined bytes; read for string weights only.
    :raises InvalidModel: the shards of a group are shorter than its weights; they are
        longer and another group follows, which the client would then read shifted; or
        a string weight runs over the end.
    """
    placed: list[PlacedWeight] = []
    offset = surplus = 0
    last = max(
        (i for i, g in enumerate(model.groups) if any(w.elements for w in g.weights)),
        default=0,
    )
    for index, group in enumerate(model.groups):
        size = sum(shard.size for shard in shards[index])
        ends = _weight_ends(group, group_bytes[index], size)
        start = offset
        for weight, end in zip(group.weights, ends, strict=True):
            placed.append(PlacedWeight(weight, start, offset + end))
            start = offset + end
        needed = start - offset
        surplus += _surplus(group, shards[index], size, needed)
        if surplus and index < last and not model.is_list:
            raise InvalidModel(
                f"the shards have {size} bytes, the weights need {needed}: the "
                f"{surplus} too many would shift every weight of the groups after it",
                f"{group.where}.paths",
            )
        offset += size
    return Layout(tuple(placed), surplus)


def _weight_ends(
    group: WeightsManifestGroup, data: GroupBytes, size: int
) -> Iterator[int]:
    end = 0
    for index, weight in enumerate(group.weights):
        length = weight.byte_length
        if length is None:
            end = _end_of_strings(
                weight, data, end, size, f"{group.where}.weights[{index}]"
            )
        else:
            end += length
        yield end


def _end_of_strings(
    weight: WeightSpec, data: GroupBytes, start: int, size: int, where: str
) -> int:
    # A hostile shape must not be walked: each element takes four bytes at least.
    fits = start + weight.elements * _LENGTH_PREFIX <= size
    end = start
    for _ in range(weight.elements if fits else 0):
        prefix = data.read(end, _LENGTH_PREFIX)
        end += _LENGTH_PREFIX + int.from_bytes(prefix, "little")
        fits = len(prefix) == _LENGTH_PREFIX and end <= size
        if not fits:
            break
    if not fits:
        raise InvalidModel(
            f"the strings of weight {shown(weight.name)} run over the end of the "
            f"shards ({size} bytes); a client would read empty strings",
            where,
        )
    return end


def _surplus(
    group: WeightsManifestGroup, shards: Sequence[Shard], size: int, needed: int
) -> int:
    if size >= needed:
        return size - needed
    if len(shards) == 1:
        raise InvalidModel(
            f"has {size} bytes, the weights of {group.where} need {needed}; "
            "copy it again",
            shards[0].name,
        )
    sizes = ", ".join(f"{shard.name} {shard.size}" for shard in shards[:8])
    raise InvalidModel(
        f"the shards have {size} bytes, the weights need {needed}; copy again the "
        f"one that is short ({sizes}{', …' if len(shards) > 8 else ''})",
        f"{group.where}.paths",
    )
