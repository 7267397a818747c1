"""Regular files below a trusted root: which of two looks saw the same content, how to
open without blocking, and how to send a file that may be written to meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

#: Bytes read and sent at once. Large blocks keep Python's share of a transfer small.
BLOCK_SIZE = 512 * 1024

# Not on Windows, which needs O_BINARY instead.
_READ_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # opening a FIFO would wait for its writer
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


# A file that is replaced between the opening and the look after it is opened anew.
_OPEN_ATTEMPTS = 3


class Identity(NamedTuple):
    """What ``stat`` tells of a content: two equal identities saw one content, unless
    it was written twice within the grain of the file system's clock."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @property
    def stamps(self) -> tuple[int, int]:
        return self.modified_ns, self.changed_ns


class FileChanged(OSError):
    """A file was written to while it was being read."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was written to while it was being read")
        self.name = name


def identify(path: str) -> Identity | None:
    """The identity of the regular file that *path* leads to; ``None`` where there is
    none."""
    try:
        return _identity(os.stat(path))
    except (OSError, ValueError):
        return None


def _identity(status: os.stat_result) -> Identity | None:
    if not stat.S_ISREG(status.st_mode):
        return None
    return Identity(
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


class OpenFile:
    """A regular file open for reading, that knows which content it holds.

    :raises OSError: it is missing, unreadable, or not a regular file.
    """

    _fd = -1

    def __init__(self, path: str) -> None:
        self.name = os.path.basename(path)
        self._fd = os.open(path, _READ_FLAGS)
        identity = self.current_identity()
        if identity is None:
            self.close()
            raise OSError(errno.EINVAL, "is not a regular file", self.name)
        self.identity = identity

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A response that a failing hook of the app drops is never closed.
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def current_identity(self) -> Identity | None:
        return _identity(os.fstat(self._fd))

    def read(self, offset: int, length: int) -> bytes:
        """*length* bytes from *offset*; fewer only at the end of the file."""
        os.lseek(self._fd, offset, os.SEEK_SET)
        data = os.read(self._fd, length)
        while 0 < len(data) < length:
            more = os.read(self._fd, length - len(data))
            if not more:
                break
            data += more
        return data

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes ``[start, stop)``.

        :raises FileChanged: the file is no longer the one that was opened. No block is
            yielded before that is known, since a cache may keep a part and have it
            completed later (RFC 9111 3.4).
        """
        stop = self.identity.size if stop is None else stop
        offset = start
        while offset < stop:
            block = self.read(offset, min(BLOCK_SIZE, stop - offset))
            offset += len(block)
            if not block or not self.is_unchanged():
                raise FileChanged(self.name)
            yield block

    def is_unchanged(self) -> bool:
        return self.current_identity() == self.identity


class Promise(NamedTuple):
    """The bytes ``[offset, offset + length)`` of a file, by their SHA-256."""

    offset: int
    length: int
    sha256: bytes


class Body:
    """The bytes ``[start, stop)`` of a file as a WSGI body.

    A registered directory can be written to while it is served. Headers with a tag and
    a length have gone out by then, so the only honest end is to cut the connection:
    iteration raises :class:`FileChanged`, and every client sees a transfer that is too
    short.

    :raises FileChanged: it has changed before the first block was read.
    :param promise: for a file whose identity is too young to be trusted: all bytes of
        the promise are then read, whatever part of them is sent.
    """

    def __init__(
        self, file: OpenFile, start: int, stop: int, promise: Promise | None = None
    ) -> None:
        self._file = file
        if promise is None:
            blocks = file.blocks(start, stop)
        else:
            blocks = verified_blocks(file, promise, start, stop)
        try:
            # Now, while there is still time for another answer.
            first = next(blocks, b"")
        except BaseException:
            file.close()
            raise
        self._blocks = chain([first], blocks) if first else blocks

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def close(self) -> None:
        self._file.close()


def verified_blocks(
    file: OpenFile, promise: Promise, start: int, stop: int
) -> Iterator[bytes]:
    """The bytes ``[start, stop)`` of *file*, which lie within *promise*.

    :raises FileChanged: the file does not hold what was promised. The last block is
        not yielded before that is known.
    """
    hasher, held, offset = hashlib.sha256(), b"", promise.offset
    for block in file.blocks(offset, offset + promise.length):
        hasher.update(block)
        part = block[max(start - offset, 0) : max(stop - offset, 0)]
        offset += len(block)
        if part:
            if held:
                yield held
            held = part
    if hasher.digest() != promise.sha256:
        raise FileChanged(file.name)
    yield held


@dataclass(frozen=True, slots=True)
class Root:
    """A registered directory and where links inside it may lead.

    :ivar path: absolute, as registered; links in it are followed anew on each look.
    :ivar link_roots: absolute real paths of trusted folders outside.
    """

    path: str
    link_roots: tuple[str, ...] = ()

    def join(self, name: str) -> str:
        return os.path.join(self.path, *name.split("/"))

    def holds(self, path: str) -> bool:
        """Whether *path*, links resolved, is in the root or in a trusted folder."""
        return self._inside(path) is not None

    def open(self, name: str) -> OpenFile:
        """Open a file of the root.

        What is opened is compared with what lies inside, since a link may be turned
        between a look at it and the opening.

        :raises OSError: there is no such regular file, or a link leads out.
        """
        path = self.join(name)
        for _ in range(_OPEN_ATTEMPTS):
            file = OpenFile(path)
            real = self._inside(path)
            inside = real and identify(real)
            if inside and inside[:2] == file.identity[:2]:
                return file
            file.close()
        raise PermissionError(errno.EACCES, "a link leads out of the directory", name)

    def _inside(self, path: str) -> str | None:
        """The real path of *path*, if that is in the root or in a trusted folder."""
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):  # a link that goes away while it is followed
            return None
        for root in (os.path.realpath(self.path), *self.link_roots):
            if real == root or real.startswith(root.rstrip(os.sep) + os.sep):
                return real
        return None

    def identify(self, name: str) -> Identity | None:
        """The identity of a file of the root; ``None`` where there is none or a link
        leads out."""
        path = self.join(name)
        identity = identify(path)
        return identity if identity is not None and self.holds(path) else None
