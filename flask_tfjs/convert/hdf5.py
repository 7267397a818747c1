"""HDF5 files of others, read with care.

A file that is damaged, or made to do harm, crashes the HDF5 library, hangs it, or lets
it take all memory; and it opens other files that such a file names. So what Keras
writes is read here, byte by byte and within bounds: nothing outside of the file is
opened, and no more is read or kept than the file can hold.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Iterator
from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidModel
from ..keras.weights import Stored
from . import hdf5_format as parts
from .hdf5_bytes import Bytes
from .hdf5_bytes import Read as Read
from .hdf5_format import Attribute
from .hdf5_format import Cursor
from .hdf5_format import Damaged
from .hdf5_format import Message
from .hdf5_format import Place
from .hdf5_format import Unusual
from .hdf5_format import decoded

SIGNATURE = b"\x89HDF\r\n\x1a\n"

# What an entry takes in memory, and reading a node in time, about, in bytes.
_ENTRY, _NODE = 256, 512

# How the format writes a link to a path, and a text that is filled up with blanks.
_SOFT, _BLANKS = 2, 2


@contextlib.contextmanager
def faults_of(where: str) -> Iterator[None]:
    """Turns what is wrong with a file into :class:`InvalidModel`."""
    try:
        yield
    except Damaged as fault:
        raise InvalidModel(
            f"is damaged or cut ({fault}); save it or copy it again", where
        ) from None
    except Unusual as fault:
        raise InvalidModel(
            f"{fault}, as Keras does not do; load the model with Keras and save it "
            "again",
            where,
        ) from None


def open_file(read: Read, size: int, where: str) -> Group:
    """The root of a file of *size* bytes.

    :raises InvalidModel: it is no HDF5, or damaged.
    """
    with faults_of(where):
        root = _File(Bytes(read, size)).root()
    if not isinstance(root, Group):
        raise InvalidModel("holds no groups; save the model again", where)
    return root


class Group:
    """:ivar name: its path in the file."""

    def __init__(self, file: _File, name: str, messages: list[Message]) -> None:
        self.name = name
        self._file = file
        self._messages = messages

    @cached_property
    def links(self) -> Mapping[str, int | None]:
        """Addresses by name; ``None`` for what leads elsewhere than to a place in the
        file."""
        links: dict[str, int | None] = {}
        for kind, _, data in self._messages:
            if kind == parts.SYMBOL_TABLE:
                links.update(self._file.symbols(data))
            elif kind == parts.LINK:
                name, address = parts.link(data)
                links[decoded(name)] = address
            elif kind == parts.LINK_INFO and parts.is_dense(data, 8):
                raise Unusual("has groups in the format of newer versions")
        return links

    def member(self, name: str) -> Group | Dataset | None:
        address = self.links.get(name)
        if address is None:
            return None
        return self._file.member(address, f"{self.name.rstrip('/')}/{name}")

    def texts(self, attribute: str) -> list[str] | None:
        """The texts in an attribute; ``None``: it has no such attribute."""
        wanted = attribute.encode()
        for kind, flags, data in self._messages:
            if kind == parts.ATTRIBUTE and not flags & parts.SHARED:
                found = parts.attribute(data)
                if found.name == wanted:
                    return self._file.texts(found)
            elif kind == parts.ATTRIBUTE_INFO and parts.is_dense(data, 2):
                raise Unusual("has attributes in the format of newer versions")
        return None


class Dataset:
    """Values in a file."""

    def __init__(self, held: Bytes, name: str, messages: list[Message]) -> None:
        self.name = name
        self._bytes = held
        self._messages = {kind: (flags, data) for kind, flags, data in messages}

    def _message(self, kind: int) -> bytes:
        flags, data = self._messages[kind]
        if flags & parts.SHARED:
            raise Unusual("has types that are kept apart from what has them")
        return data

    def stored(self, name: str) -> Stored:
        """See :func:`stored`."""
        datatype = parts.datatype(self._message(parts.DATATYPE))
        if datatype.dtype is None:
            raise InvalidModel(
                f"holds {datatype.what}, not numbers such as float32; save the model "
                "with float32 weights",
                name,
            )
        if parts.EXTERNAL in self._messages:
            raise Unusual("is stored in other files")
        place = parts.layout(self._message(parts.LAYOUT))
        shape = parts.dataspace(self._message(parts.DATASPACE))
        if shape is None:
            raise Unusual("has no values")
        dtype, size = datatype.dtype, math.prod(shape) * datatype.size
        if size > place.size:
            raise InvalidModel(
                f"claims the shape {list(shape)}, and the file holds {place.size} "
                "bytes of it; save the model again",
                name,
            )
        self._hold(place, size)

        def read() -> NDArray[np.float32]:
            with faults_of(name):
                data = self._values(place, size)
            return _floats(data, dtype).reshape(shape)

        return Stored(name, shape, _name(dtype), read)

    def _hold(self, place: Place, size: int) -> None:
        if size and place.data is None:
            self._bytes.hold(place.address, size)

    def _values(self, place: Place, size: int) -> bytes:
        if size and place.data is None:
            return self._bytes.values(place.address, size)
        return (place.data or b"")[:size]


def child(group: Group, path: str) -> Group | Dataset | None:
    """What lies under *path* in *group*; ``None``: nothing.

    :raises InvalidModel: there is a link on the way, to another file or path.
    """
    here: Group | Dataset | None = group
    for step in filter(None, path.split("/")):
        if not isinstance(here, Group):
            return None
        if here.links.get(step, 0) is None:
            raise InvalidModel(
                "is a link to somewhere else, which is not followed; load the model "
                "with Keras and save it again",
                f"{here.name.rstrip('/')}/{step}",
            )
        here = here.member(step)
    return here


def subgroup(group: Group | None, name: str) -> Group | None:
    """The group under *name*, if there is one."""
    found = child(group, name) if group is not None else None
    return found if isinstance(found, Group) else None


def names(group: Group, attribute: str) -> list[str]:
    """A list of names in an attribute. Keras cuts those over 64 kB into ``name0``,
    ``name1``, … (keras ``src/legacy/saving/legacy_h5_format.py``)."""
    found = group.texts(attribute) or []
    part = 0
    while (more := group.texts(f"{attribute}{part}")) is not None:
        found += more
        part += 1
    return found


def text(group: Group, attribute: str) -> str | None:
    """A text in an attribute; ``None``: it has no such attribute."""
    found = group.texts(attribute)
    if found is not None and len(found) != 1:
        raise Damaged(f"its {attribute} is not one text")
    return None if found is None else found[0]


def stored(dataset: Dataset, name: str) -> Stored:
    """A dataset as a weight that is read later.

    :raises InvalidModel: it holds no numbers, lies in other files, or claims to hold
        more than the file does.
    """
    with faults_of(name):
        return dataset.stored(name)


def _floats(data: bytes, dtype: str) -> NDArray[np.float32]:
    # What float32 cannot hold becomes infinite; whoever writes it looks for that.
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == "bfloat16":
            upper = np.frombuffer(data, "<u2").astype("<u4")
            return (upper << 16).view("<f4").astype(np.float32, copy=False)
        return np.frombuffer(data, dtype).astype(np.float32, copy=False)


def _name(dtype: str) -> str:
    return dtype if dtype == "bfloat16" else np.dtype(dtype).name


class _File:
    """The structure of a file: what lies where."""

    def __init__(self, held: Bytes) -> None:
        self.bytes = held
        self._heaps: dict[int, Mapping[int, bytes]] = {}
        self._members: dict[int, Group | Dataset | None] = {}

    def root(self) -> Group | Dataset | None:
        head = Cursor(self.bytes.part(0, min(self.bytes.size, 96)))
        if head.take(8) != SIGNATURE:
            raise Damaged("it does not begin as HDF5 does")
        version = head.number(1)
        if version > 3:
            raise Unusual(f"is HDF5 of version {version}")
        if version < 2:
            head.take(4)
        if (head.number(1), head.number(1)) != (8, 8):
            raise Unusual("has addresses of another size")
        head.take({0: 9, 1: 13}.get(version, 1))
        base, _, end = (head.number(8) for _ in range(3))
        if base != 0:
            raise Unusual("has something else in front of it")
        if end > self.bytes.size:
            raise Damaged(f"it has {self.bytes.size} bytes of {end}")
        if version < 2:
            head.take(16)
        return self.member(head.number(8), "/")

    def member(self, address: int, name: str) -> Group | Dataset | None:
        """What lies at an address; ``None``: something else, such as a type."""
        if address not in self._members:
            messages = list(self._messages(address))
            kinds = {message.kind for message in messages}
            made: Group | Dataset | None = None
            if kinds & {parts.SYMBOL_TABLE, parts.LINK_INFO}:
                made = Group(self, name, messages)
            elif {parts.DATASPACE, parts.DATATYPE, parts.LAYOUT} <= kinds:
                made = Dataset(self.bytes, name, messages)
            self._members[address] = made
        return self._members[address]

    def _messages(self, address: int) -> Iterator[Message]:
        """The description of what lies at an address, in blocks that each tell of the
        next ones."""
        head = self.bytes.part(address, 16)
        if head.startswith(b"OHDR"):
            yield from self._newer_messages(address)
            return
        version, count, size = struct.unpack("<BxH4xI4x", head)
        if version != 1:
            raise Damaged("the description of a group or a weight is not there")
        blocks = [(address + 16, size)]
        while blocks:
            for message in parts.messages(self.bytes.part(*blocks.pop(0))):
                if message.kind == parts.CONTINUATION:
                    blocks.append(_range(message.data))
                if (count := count - 1) < 0:
                    return
                yield message

    def _newer_messages(self, address: int) -> Iterator[Message]:
        room = self.bytes.size - address
        head = Cursor(self.bytes.part(address, min(room, 34)))
        head.take(5)
        flags = head.number(1)
        head.take((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
        size = head.number(1 << (flags & 3))
        blocks = [(address + head.at, size)]
        while blocks:
            block = self.bytes.part(*blocks.pop(0))
            for message in parts.newer_messages(block, bool(flags & 4)):
                if message.kind == parts.CONTINUATION:
                    start, size = _range(message.data)
                    # Without its signature and its checksum.
                    blocks.append((start + 4, max(size - 8, 0)))
                yield message

    def symbols(self, table: bytes) -> Iterator[tuple[str, int | None]]:
        """The links that a symbol table tells of."""
        tree, heap = _range(table)
        kind, size, start = struct.unpack("<4s4xQ8xQ", self.bytes.part(heap, 32))
        if kind != b"HEAP":
            raise Damaged("the names of a group are not there")
        names = self.bytes.part(start, size)
        for address in self._leaves(tree, None):
            yield from self._leaf(address, names)

    def _leaves(self, address: int, level: int | None) -> Iterator[int]:
        """The nodes below that of a B-tree, whose level is known but for the root."""
        head = self.bytes.part(address, 24)
        kind, here, count = struct.unpack("<4sxBH16x", head)
        if kind != b"TREE" or level not in (None, here):
            raise Damaged("the index of a group is not there")
        self.bytes.spend(_NODE)
        entries = struct.unpack(
            f"<{2 * count}Q", self.bytes.part(address + 24, 16 * count)
        )
        for below in entries[1::2]:
            if here == 0:
                yield below
            else:
                yield from self._leaves(below, here - 1)

    def _leaf(self, address: int, names: bytes) -> Iterator[tuple[str, int | None]]:
        kind, count = struct.unpack("<4s2xH", self.bytes.part(address, 8))
        if kind != b"SNOD":
            raise Damaged("the entries of a group are not there")
        self.bytes.spend(_NODE)
        entries = self.bytes.part(address + 8, 40 * count)
        for at, member, how, _, _, _ in struct.iter_unpack("<QQIIQQ", entries):
            end = names.find(b"\0", at)
            self.bytes.spend(_ENTRY + max(end - at, 0))
            yield decoded(names[at:end]), None if how == _SOFT else member

    def texts(self, attribute: Attribute) -> list[str]:
        datatype, count = attribute.datatype, attribute.count
        if count == 0:
            return []
        size = datatype.size
        if not size or count > len(attribute.data) // size:
            raise Damaged("an attribute ends too early")
        self.bytes.spend(count * _ENTRY)
        values = [attribute.data[i * size : (i + 1) * size] for i in range(count)]
        if datatype.is_text:
            values = [self._text(value) for value in values]
        elif datatype.padding is None:
            raise Damaged(f"its {decoded(attribute.name)} is no text")
        elif datatype.padding == _BLANKS:
            values = [value.rstrip(b" ") for value in values]
        else:
            values = [value.partition(b"\0")[0] for value in values]
        return [decoded(value) for value in values]

    def _text(self, reference: bytes) -> bytes:
        length, address, index = struct.unpack("<IQI", reference)
        if length == 0:
            return b""
        if address not in self._heaps:
            self._heaps[address] = dict(self._heap(address))
        value = self._heaps[address].get(index, b"")
        if len(value) < length:
            raise Damaged("a text is not there")
        self.bytes.spend(length)
        return value[:length]

    def _heap(self, address: int) -> Iterator[tuple[int, bytes]]:
        """The texts at an address, and their numbers."""
        kind, size = struct.unpack("<4s4xQ", self.bytes.part(address, 16))
        if kind != b"GCOL":
            raise Damaged("the texts are not there")
        heap = Cursor(self.bytes.part(address + 16, max(size - 16, 0)))
        while heap.left >= 16:
            index, size = struct.unpack("<H6xQ", heap.take(16))
            if index == 0:
                return
            self.bytes.spend(_ENTRY + size)
            yield index, heap.take(size)
            heap.take(min(-size % 8, heap.left))


def _range(data: bytes) -> tuple[int, int]:
    """Two addresses, or an address and a size."""
    cursor = Cursor(data)
    return cursor.number(8), cursor.number(8)
