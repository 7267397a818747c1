"""What is mended on the way out, so that unchanged clients read a model rightly. No
file changes: a repair is another JSON and other cuts of the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidModel
from ..errors import printable
from .layout import Layout
from .layout import PlacedWeight
from .layout import Shard
from .manifest import ModelJSON
from .manifest import shown
from .topology import may_have_weights

Cuts = tuple[tuple["Slice", ...], ...]


@dataclass(frozen=True, slots=True)
class Repair:
    """A fault and how it is mended.

    :ivar where: the file or the member of the JSON at fault.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return printable(f"{self.where}: {self.message}")


@dataclass(frozen=True, slots=True)
class Slice:
    """The bytes ``[offset, offset + length)`` of the shard *name*, a file."""

    name: str
    offset: int
    length: int


def mend_manifest(model: ModelJSON) -> tuple[Any, list[Repair]]:
    """The JSON's document as the loaders read it, and what was mended for that.

    ``loadGraphModel`` refuses a missing manifest (tfjs-converter ``graph_model.ts``,
    ``loadSync``), ``loadLayersModel`` with ``onProgress`` an empty one (tfjs-core
    ``src/io/progress.ts``). The latter stays where a layer may have weights: without
    it the browser would make them up, silently.
    """
    if model.is_list:
        return model.document, []
    manifest = model.document.get("weightsManifest")
    if model.kind == "graph-model" and manifest is None:
        return {**model.document, "weightsManifest": []}, [_ADDED]
    if model.kind == "layers-model" and manifest is not None:
        weightless = not any(True for _ in model.weights)
        if weightless and not may_have_weights(model.document):
            document = dict(model.document)
            del document["weightsManifest"]
            return document, [_LEFT_OUT]
    return model.document, []


_ADDED = Repair(
    "weightsManifest",
    "is missing, which loadGraphModel() refuses; an empty one is added",
)
_LEFT_OUT = Repair(
    "weightsManifest",
    "is empty, which loadLayersModel() with onProgress refuses; it is left out",
)


def whole(shards: Sequence[Sequence[Shard]]) -> Cuts:
    """Each shard of each group as one slice."""
    return tuple(tuple(_whole(shard) for shard in group) for group in shards)


def recut(
    model: ModelJSON, shards: Sequence[Sequence[Shard]], layout: Layout
) -> tuple[Cuts, list[Repair]]:
    """Each group's shards in cuts that tfjs reads right, and what was mended for that.

    :param shards: for each group its shards, in the order of ``paths``.
    """
    cuts, repairs = list(whole(shards)), []
    for fault in zero_reads(model, shards, layout):
        row = [shard for group in fault.groups for shard in shards[group]]
        last = max(group for group in fault.groups if shards[group])
        if row[0].size == 0:
            # Only the last shard holds anything: without the others it reads right.
            for group in fault.groups:
                cuts[group] = ()
            cuts[last] = (_whole(fault.shard),)
        else:
            cuts[last] = (*cuts[last][:-1], *_halves(fault.shard))
        repairs.append(
            Repair(
                fault.shard.name,
                f"{fault.reason}; it is served in other cuts",
            )
        )
    return tuple(cuts), repairs


def refuse_zero_reads(
    model: ModelJSON, shards: Sequence[Sequence[Shard]], layout: Layout
) -> None:
    """Refuse what :func:`recut` would mend.

    :raises InvalidModel: tfjs 4.5 and later would read weights as zeros.
    """
    for fault in zero_reads(model, shards, layout):
        raise InvalidModel(
            f"{fault.reason}; cut the weights into shards of one size, the last one "
            "not larger, or let TFJS_REPAIR do so",
            fault.shard.name,
        )


@dataclass(frozen=True, slots=True)
class ZeroRead:
    """A cut at which tfjs loses weights.

    :ivar groups: the indices of the groups whose shards are joined.
    :ivar shard: the last of these shards, which is larger than the others.
    :ivar weight: the first that is lost.
    """

    groups: range
    shard: Shard
    weight: PlacedWeight

    @property
    def reason(self) -> str:
        return (
            "is larger than the shards before it, and TensorFlow.js 4.5 and later "
            f"would read weight {shown(self.weight.spec.name)} as zeros"
        )


def zero_reads(
    model: ModelJSON, shards: Sequence[Sequence[Shard]], layout: Layout
) -> Iterator[ZeroRead]:
    """The cuts at which tfjs loses weights: one at most, but for a bare list, whose
    groups ``tf.io.loadWeights`` joins each for itself."""
    weights = iter(layout.weights)
    offset = 0
    for groups in model.joined:
        row = [shard for group in groups for shard in shards[group]]
        placed = [
            next(weights) for group in groups for _ in model.groups[group].weights
        ]
        unread = first_unread_byte([shard.size for shard in row])
        lost = unread is not None and _first_lost(placed, offset + unread)
        if lost:
            yield ZeroRead(groups, row[-1], lost)
        offset += sum(shard.size for shard in row)


def _first_lost(weights: Sequence[PlacedWeight], unread: int) -> PlacedWeight | None:
    for weight in weights:
        # Of a string weight the client looks up each element, not only its start.
        seen_at = weight.end - 1 if weight.spec.dtype == "string" else weight.start
        if weight.end > weight.start and seen_at >= unread:
            return weight
    return None


def _whole(shard: Shard) -> Slice:
    return Slice(shard.name, 0, shard.size)


def _halves(shard: Shard) -> tuple[Slice, Slice]:
    """Two cuts in place of a last shard that is larger than all others: the first is
    either as large as they are, and the second not larger, or it differs from them,
    and the client looks for each byte instead of dividing."""
    middle = (shard.size + 1) // 2
    return (
        Slice(shard.name, 0, middle),
        Slice(shard.name, middle, shard.size - middle),
    )


def first_unread_byte(sizes: Sequence[int]) -> int | None:
    """The first byte at which tfjs >= 4.5 loses a weight that starts there, or
    ``None``.

    ``CompositeArrayBuffer`` takes the size of the first shard for the size of all when
    all but the last agree, and divides by it to find a shard; beyond the last index it
    reads nothing and leaves zeros (tfjs-core ``src/io/composite_array_buffer.ts``).

    :param sizes: bytes of each shard that the client joins: those of all groups in one
        row, or those of one group of a bare list.
    """
    if len(sizes) < 2 or any(size != sizes[0] for size in sizes[:-1]):
        return None
    return len(sizes) * sizes[0] if sizes[-1] > sizes[0] else None
