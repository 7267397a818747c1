"""A file that Keras saved: its topology as a graph, its weights where they lie.

The two layouts: ``.keras``, a zip with ``config.json`` and ``model.weights.h5`` (keras
``src/saving/saving_lib.py``), and ``.h5`` (``src/legacy/saving/legacy_h5_format.py``).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any
from typing import BinaryIO

from ..errors import InvalidModel
from ..format import strict_json
from ..keras.attaching import Source
from ..keras.attaching import attach
from ..keras.graph import Graph
from ..keras.reading import read_model
from ..models.files import OpenFile
from . import foreign
from . import hdf5
from .stored_weights import ByName
from .stored_weights import by_class

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

# Bytes of one JSON, and commas and brackets in it, each of which takes up to a hundred
# bytes in memory. A layer has about 1,000 and 60.
_MOST_JSON, _MOST_VALUES = 12 << 20, 1_000_000

# Bytes of a zip's directory, and those read at once.
_MOST_AT_ONCE = 1 << 20

# What compressed weights may become: Keras does not compress them, and whoever does
# gains little.
_ALWAYS_UNPACKED, _MAX_RATIO = 64 << 20, 20

_ENCRYPTED = 1

# What zipfile raises on files that are damaged.
_ZIP_FAULTS = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error),
    *(EOFError, IndexError, NotImplementedError, OverflowError, RuntimeError),
    ValueError,
)

# What comes of numbers, lists and texts in a configuration where others belong.
_CONFIG_FAULTS = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError),
    ValueError,
)


@contextlib.contextmanager
def open_model(path: str) -> Iterator[Graph]:
    """The model in the file at *path*. Its weights can be read until the end.

    :raises InvalidModel: it is no such file, or damaged, or holds no whole model; or
        something has written to it before the last weight is read.
    """
    where = os.path.basename(path)
    with contextlib.ExitStack() as stack:
        with _os_errors(where):
            file = _File(stack.enter_context(OpenFile(path)), where)
            head = file.part(0, foreign.HEAD)
            if head.startswith(b"PK"):
                graph = _open_archive(file, stack)
            elif head.startswith(hdf5.SIGNATURE):
                graph = _open_hdf5(file)
            else:
                raise InvalidModel(foreign.what_instead(head, where), where)
        yield graph


@contextlib.contextmanager
def _os_errors(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidModel(
            f"cannot be read: {error.strerror or error}", where
        ) from None


class _File(io.RawIOBase):
    """A file as :mod:`zipfile` reads it.

    :ivar where: its name.
    :ivar size: in bytes.
    """

    def __init__(self, file: OpenFile, where: str) -> None:
        self._file = file
        self.where = where
        self.size = file.identity.size
        self._at = 0

    def part(self, at: int, size: int) -> bytes:
        """The bytes ``[at, at + size)``, fewer only at the end.

        :raises InvalidModel: they cannot be read, or are others by now.
        """
        with _os_errors(self.where):
            data = self._file.read(at, max(min(size, self.size - at), 0))
            unchanged = self._file.is_unchanged()
        if not unchanged:
            raise InvalidModel(
                "was written to while it was read; convert it when it is whole",
                self.where,
            )
        return data

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}
        if (at := base[whence] + offset) < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = at
        return at

    def read(self, size: int = -1) -> bytes:
        size = max(self.size - self._at, 0) if size < 0 else size
        if size > _MOST_AT_ONCE:
            raise ValueError("its directory is too large")
        data = self.part(self._at, size)
        self._at += len(data)
        return data


def _open_hdf5(file: _File) -> Graph:
    root = hdf5.open_file(file.part, file.size, file.where)
    with hdf5.faults_of(file.where):
        config = hdf5.text(root, "model_config")
        version = hdf5.text(root, "keras_version")
        weights = hdf5.subgroup(root, "model_weights")
        if config is None or weights is None:
            raise InvalidModel(foreign.WEIGHTS_ONLY, file.where)
        document = _document(config.encode(), f"{file.where}: model_config")
        return _graph(document, _version(version or "2"), ByName(weights), file.where)


def _open_archive(file: _File, stack: contextlib.ExitStack) -> Graph:
    with _zip_faults(file.where):
        archive = stack.enter_context(zipfile.ZipFile(file))
        names = set(archive.namelist())
        if not {_CONFIG, _WEIGHTS} <= names:
            raise InvalidModel(foreign.what_zip_instead(names), file.where)
        config = _json(archive, _CONFIG, file.where)
        metadata = _json(archive, _METADATA, file.where) if _METADATA in names else {}
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    where = f"{file.where}/{_WEIGHTS}"
    with _zip_faults(where):
        read, size = _weights_file(archive, file, stack)
    root = hdf5.open_file(read, size, where)
    with hdf5.faults_of(where):
        number = _version(str(version or "3"))
        return _graph(config, number, by_class(root), file.where)


def _graph(
    document: Any, version: tuple[int, ...], weights: Source, where: str
) -> Graph:
    try:
        graph = read_model(document, version)
        attach(graph, weights)
    except _CONFIG_FAULTS as error:
        raise InvalidModel(
            f"has a configuration that is not what Keras writes ({_first_line(error)})"
            "; save the model again",
            where,
        ) from None
    return graph


def _version(text: str) -> tuple[int, ...]:
    numbers = re.findall(r"\d+", text.partition("-")[0])[:2]
    return tuple(int(number[:4]) for number in numbers) or (3,)


def _document(data: bytes, where: str) -> Any:
    _refuse_more("bytes", len(data), _MOST_JSON, where)
    count = sum(map(data.count, (b",", b"[", b"{")))
    _refuse_more("values", count, _MOST_VALUES, where)
    return strict_json.loads(data, where)


def _refuse_more(what: str, count: int, most: int, where: str) -> None:
    if count > most:
        raise InvalidModel(
            f"has {count} {what}; the configuration of a model may have {most}", where
        )


@contextlib.contextmanager
def _zip_faults(where: str) -> Iterator[None]:
    try:
        yield
    except _ZIP_FAULTS as fault:
        reason = _first_line(fault)
        raise InvalidModel(
            f"is damaged or cut ({reason}); save it or copy it again", where
        ) from None


def _first_line(fault: BaseException) -> str:
    return str(fault).partition("\n")[0][:200] or type(fault).__name__


def _json(archive: zipfile.ZipFile, name: str, where: str) -> Any:
    where = f"{where}/{name}"
    _refuse_more("bytes", archive.getinfo(name).file_size, _MOST_JSON, where)
    return _document(b"".join(_blocks(archive, name, where)), where)


def _weights_file(
    archive: zipfile.ZipFile, file: _File, stack: contextlib.ExitStack
) -> tuple[hdf5.Read, int]:
    """The weights, which can be read anywhere, and how many bytes they have. Keras does
    not compress them, so that they are read where they lie; others go into a nameless
    file first."""
    where = f"{file.where}/{_WEIGHTS}"
    info = archive.getinfo(_WEIGHTS)
    if info.compress_type == zipfile.ZIP_STORED:
        if info.compress_size != info.file_size:
            raise zipfile.BadZipFile("a member of it has two sizes")
        for _ in _blocks(archive, _WEIGHTS, where):
            pass  # zipfile compares the checksum at the end
        start = _data_offset(file, info)

        def read(at: int, size: int) -> bytes:
            return file.part(start + at, min(size, info.file_size - at))

        return read, info.file_size
    if info.file_size > max(_ALWAYS_UNPACKED, info.compress_size * _MAX_RATIO):
        raise InvalidModel(
            f"claims to unpack from {info.compress_size} to {info.file_size} bytes; "
            "save the model again",
            where,
        )
    unpacked = _unpacked(_blocks(archive, _WEIGHTS, where), where, stack)
    return _reader(unpacked), info.file_size


def _unpacked(
    blocks: Iterator[bytes], where: str, stack: contextlib.ExitStack
) -> BinaryIO:
    try:
        file: BinaryIO = stack.enter_context(tempfile.TemporaryFile())
        for block in blocks:
            file.write(block)
        file.flush()
    except OSError as error:
        raise InvalidModel(
            f"cannot be unpacked to {tempfile.gettempdir()}: "
            f"{error.strerror or error}; TMPDIR names another directory",
            where,
        ) from None
    return file


def _reader(file: BinaryIO) -> hdf5.Read:
    def read(at: int, size: int) -> bytes:
        file.seek(at)
        return file.read(size)

    return read


def _blocks(archive: zipfile.ZipFile, name: str, where: str) -> Iterator[bytes]:
    """The content of a member.

    :raises InvalidModel: it is encrypted, or compressed in an unusual way.
    """
    info = archive.getinfo(name)
    if info.flag_bits & _ENCRYPTED:
        raise InvalidModel("is encrypted; save the model without a password", where)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidModel(
            "is compressed in a way that Keras does not read; save the model again",
            where,
        )
    with archive.open(info) as member:
        while block := member.read(_MOST_AT_ONCE):
            yield block


def _data_offset(file: _File, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin: behind its local header, whose name and extra
    field may be longer than the directory says (APPNOTE.TXT 4.3.7)."""
    lengths = file.part(info.header_offset + 26, 4)
    name, extra = struct.unpack("<HH", lengths)
    return info.header_offset + 30 + int(name) + int(extra)
