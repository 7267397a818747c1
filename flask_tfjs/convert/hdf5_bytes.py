"""The bytes of an HDF5 file, of which no more is taken than it holds."""

from __future__ import annotations

from collections.abc import Callable

from .hdf5_format import Damaged

#: Returns so many bytes from a place in the file; fewer only at its end.
Read = Callable[[int, int], bytes]

# Bytes of all that describes the values, and of one part of it: parts of a file may
# overlap, so that it describes more than it holds. A layer takes about 3 kB.
_LEAST, _MOST, _MOST_AT_ONCE = 64 << 20, 192 << 20, 32 << 20

# Times that the values may be more than the file: a weight may be there under several
# names, but not under many.
_MOST_NAMES = 4

# Bytes read at once, for most parts are small and close together.
_WINDOW = 64 << 10


class Bytes:
    """:ivar size: how many there are."""

    def __init__(self, read: Read, size: int) -> None:
        self.size = size
        self._read = read
        self._room = min(_LEAST + size, _MOST)
        self._held = _MOST_NAMES * size
        self._start, self._window = 0, b""

    def part(self, at: int, size: int) -> bytes:
        """A part of what describes the values.

        :raises Damaged: it is not all in the file, or there are too many parts.
        """
        if at + size > self.size:
            raise Damaged("a part of it lies behind its end")
        if size > _MOST_AT_ONCE:
            raise Damaged(f"a part of it claims to have {size} bytes")
        self.spend(size)
        if size > _WINDOW // 2:
            return self._whole(at, size)
        if not self._start <= at <= self._start + len(self._window) - size:
            self._start = at - at % (_WINDOW // 2)
            self._window = self._read(self._start, _WINDOW)
        data = self._window[at - self._start : at - self._start + size]
        return data if len(data) == size else self._whole(at, size)

    def spend(self, size: int) -> None:
        """Count what a description takes in memory.

        :raises Damaged: it is too much.
        """
        self._room -= size
        if self._room < 0:
            raise Damaged("its parts overlap")

    def hold(self, at: int, size: int) -> None:
        """Count the values of a weight.

        :raises Damaged: they are not all in the file, or too many in all.
        """
        if at + size > self.size:
            raise Damaged("its values lie behind its end")
        self._held -= size
        if self._held < 0:
            raise Damaged("its values overlap")

    def values(self, at: int, size: int) -> bytes:
        """Values that were counted."""
        return self._whole(at, size)

    def _whole(self, at: int, size: int) -> bytes:
        data = self._read(at, size)
        if len(data) < size:
            raise Damaged("it became shorter while it was read")
        return data
