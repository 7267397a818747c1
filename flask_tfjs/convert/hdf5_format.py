"""HDF5 on paper: what the bytes of a message say.

After the HDF5 File Format Specification, version 3.0, chapter IV. Only what h5py uses
when Keras saves: numbers, texts, and values in one piece. Chunks, compression, other
files and the like are told apart and refused.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

#: An address that is not defined.
NOWHERE = 0xFFFF_FFFF_FFFF_FFFF

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT = 0x01, 0x02, 0x03, 0x06, 7, 8
ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 0x0C, 0x10, 0x11, 0x15

#: What is said in place of a message that lies elsewhere, which Keras never writes.
SHARED = 0x02

_CLASSES = (
    *("integers", "floats", "times", "texts", "bit fields", "opaque bytes"),
    *("compounds", "references", "enumerations", "lists", "arrays", "complex numbers"),
)
_FIXED, _FLOAT, _STRING, _OPAQUE, _ENUMERATION, _LISTS = 0, 1, 3, 5, 8, 9

# By bytes, bits of the exponent and of the mantissa.
_FLOATS = MappingProxyType({(2, 5, 10): "f2", (4, 8, 23): "f4", (8, 11, 52): "f8"})


class Fault(Exception):
    """Carries what is wrong to whoever knows the name of the file."""


class Damaged(Fault):
    """What the file says contradicts itself."""


class Unusual(Fault):
    """The file is sound, for all that is known, but no file as Keras writes it."""


class Message(NamedTuple):
    """A part of the description of a group or a dataset."""

    kind: int
    flags: int
    data: bytes


# The heads of messages: kind, size, flags.
_HEAD, _NEWER_HEAD = struct.Struct("<HHB3x"), struct.Struct("<BHB")


def messages(block: bytes) -> Iterator[Message]:
    """The messages in a block, which fill it or end before it does."""
    return _messages(block, _HEAD, 0)


def newer_messages(block: bytes, in_order: bool) -> Iterator[Message]:
    """The same in the format of newer versions.

    :param in_order: whether the order of their making is kept with them.
    """
    return _messages(block, _NEWER_HEAD, 2 if in_order else 0)


def _messages(block: bytes, head: struct.Struct, skipped: int) -> Iterator[Message]:
    at = 0
    while len(block) - at >= head.size + skipped:
        kind, size, flags = head.unpack_from(block, at)
        at += head.size + skipped
        if size > len(block) - at:
            raise Damaged("a part of it ends too early")
        yield Message(kind, flags, block[at : at + size])
        at += size


class Cursor:
    """Reads bytes from the start to the end.

    :ivar at: how many it has read.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self.at

    def take(self, size: int) -> bytes:
        """:raises Damaged: there are fewer."""
        if size > self.left:
            raise Damaged("a part of it ends too early")
        start, self.at = self.at, self.at + size
        return self._data[start : self.at]

    def number(self, size: int) -> int:
        """A number without a sign, of so many bytes."""
        return int.from_bytes(self.take(size), "little")

    def rest(self) -> bytes:
        return self.take(self.left)


@dataclass(frozen=True, slots=True)
class Datatype:
    """What values are.

    :ivar size: bytes of each.
    :ivar what: for a sentence.
    :ivar dtype: that of NumPy, for numbers; ``"bfloat16"``, which NumPy lacks.
    :ivar padding: of a text of fixed size: what it is filled up with.
    :ivar is_text: of any size; the values are references to it.
    """

    size: int
    what: str
    dtype: str | None = None
    padding: int | None = None
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Attribute:
    """:ivar shape: ``None`` where it has no value at all."""

    name: bytes
    datatype: Datatype
    shape: tuple[int, ...] | None
    data: bytes

    @property
    def count(self) -> int:
        """How many values it has."""
        return 0 if self.shape is None else math.prod(self.shape)


class Place(NamedTuple):
    """Where the values of a dataset lie, in one piece.

    :ivar data: these themselves, where they lie in the description.
    """

    address: int
    size: int
    data: bytes | None = None


def decoded(text: bytes) -> str:
    """:raises Damaged: it is not UTF-8."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise Damaged("a name or text is not UTF-8") from None


def datatype(data: bytes) -> Datatype:
    """What a datatype message says."""
    cursor = Cursor(data)
    kind = cursor.number(1) & 15
    bits = cursor.number(3)
    size = cursor.number(4)
    what = _CLASSES[kind] if kind < len(_CLASSES) else "an unknown type"
    if kind == _FIXED:
        dtype = f"{_order(bits)}{'i' if bits & 8 else 'u'}{size}"
        return Datatype(size, what, dtype if size in (1, 2, 4, 8) else None)
    if kind == _FLOAT:
        return Datatype(size, what, _float(size, bits, cursor))
    if kind == _STRING:
        return Datatype(size, what, padding=bits & 15)
    if kind == _OPAQUE and size == 2:
        # How h5py writes bfloat16, the only type of two bytes that it does not know.
        return Datatype(size, what, "bfloat16")
    if kind == _ENUMERATION:  # how h5py writes booleans
        base = datatype(cursor.rest())
        return Datatype(size, what, base.dtype if base.size == size else None)
    if kind == _LISTS and bits & 15 == 1 and size == 16:
        return Datatype(size, "texts", is_text=True)
    return Datatype(size, what)


def _order(bits: int) -> str:
    return ">" if bits & 1 else "<"


def _float(size: int, bits: int, cursor: Cursor) -> str | None:
    offset, precision = cursor.number(2), cursor.number(2)
    exponent_at, exponent = cursor.number(1), cursor.number(1)
    mantissa_at, mantissa = cursor.number(1), cursor.number(1)
    bias = cursor.number(4)
    plain = (
        (offset, precision, exponent_at, mantissa_at) == (0, 8 * size, mantissa, 0)
        and bias == (1 << exponent >> 1) - 1
        and not bits & 0x40  # the order of a VAX
    )
    name = _FLOATS.get((size, exponent, mantissa)) if plain else None
    return None if name is None else _order(bits) + name


def dataspace(data: bytes) -> tuple[int, ...] | None:
    """The shape that a dataspace message gives; ``None``: no values at all."""
    cursor = Cursor(data)
    version, rank = cursor.number(1), cursor.number(1)
    cursor.take(1)
    if version == 1:
        cursor.take(5)
    elif version != 2 or cursor.number(1) == 2:
        return None
    if rank > 32:
        raise Damaged(f"it claims to have values of {rank} axes")
    return tuple(cursor.number(8) for _ in range(rank))


def attribute(data: bytes) -> Attribute:
    """What an attribute message says."""
    cursor = Cursor(data)
    version, flags = cursor.number(1), cursor.number(1)
    sizes = [cursor.number(2) for _ in range(3)]
    if version == 3:
        cursor.take(1)  # the encoding of the name
    elif version == 1:
        flags = 0
    elif version != 2:
        raise Damaged(f"an attribute is of version {version}")
    if flags & 3:
        raise Unusual("has types that are kept apart from what has them")
    parts = [cursor.take(-size % 8 + size if version == 1 else size) for size in sizes]
    name, kind, space = parts
    return Attribute(
        name.partition(b"\0")[0], datatype(kind), dataspace(space), cursor.rest()
    )


def layout(data: bytes) -> Place:
    """Where the values lie that a layout message tells of.

    :raises Unusual: they lie in chunks, or in other files.
    """
    cursor = Cursor(data)
    version, kind = cursor.number(1), cursor.number(1)
    if version not in (3, 4) or kind not in (0, 1):
        raise Unusual("is stored in chunks, compressed or in other files")
    if kind == 0:
        size = cursor.number(2)
        return Place(0, size, cursor.take(size))
    address, size = cursor.number(8), cursor.number(8)
    return Place(address, 0 if address == NOWHERE else size)


def link(data: bytes) -> tuple[bytes, int | None]:
    """The name of a link, and where it leads to; ``None``: to a path or a file."""
    cursor = Cursor(data)
    version, flags = cursor.number(1), cursor.number(1)
    if version != 1:
        raise Damaged(f"a link is of version {version}")
    kind = cursor.number(1) if flags & 0x08 else 0
    cursor.take((8 if flags & 0x04 else 0) + (1 if flags & 0x10 else 0))
    name = cursor.take(cursor.number(1 << (flags & 3)))
    return name, cursor.number(8) if kind == 0 else None


def is_dense(data: bytes, skipped: int) -> bool:
    """Whether links or attributes lie in a heap, which the message of their kind
    tells.

    :param skipped: bytes of a number that is there if the first flag is set.
    """
    cursor = Cursor(data)
    cursor.take(1)
    cursor.take(skipped if cursor.number(1) & 1 else 0)
    return cursor.number(8) != NOWHERE
