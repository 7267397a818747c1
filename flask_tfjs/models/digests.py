"""Content digests, computed once per content."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass

from .files import Identity
from .files import OpenFile
from .files import identify

# A write within the grain of the file system's clock leaves no trace in the identity.
# Two seconds is the coarsest grain in use (FAT), and git's "racy" rule; a tenth more,
# since a kernel stamps with the time of its last tick, which lies behind ours.
_GRAIN_NS = 2_100_000_000

_MAX_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class Digest:
    """The SHA-256 of a file's content.

    :ivar settled: whether the same identity means the same content from now on.
    """

    identity: Identity
    sha256: bytes
    settled: bool


class Digests:
    """Digests of files, remembered by identity.

    :ivar clock: nanoseconds since the epoch, as the file system stamps them.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._remembered: OrderedDict[Identity, Digest] = OrderedDict()

    def of(self, path: str) -> Digest:
        """The digest of the file at *path* as it is now.

        :raises OSError: it cannot be read, or is written to all the time.
        """
        identity = identify(path)
        if identity is not None:
            known = self._remembered.get(identity)
            if known is not None:
                return known
        with OpenFile(path) as file:
            started = self.clock()
            hasher = hashlib.sha256()
            for block in file.blocks():
                hasher.update(block)
            settled = is_settled(file.identity.stamps, started)
            digest = Digest(file.identity, hasher.digest(), settled)
        if digest.settled:
            self._remember(digest)
        return digest

    def _remember(self, digest: Digest) -> None:
        with self._lock:
            self._remembered[digest.identity] = digest
            while len(self._remembered) > _MAX_REMEMBERED:
                self._remembered.popitem(last=False)


def is_settled(stamps: Iterable[int], now_ns: int) -> bool:
    """Whether all time stamps differ from *now_ns* by more than the clock's grain.

    A stamp in the future is as good as one in the past: the next write changes it.
    """
    return all(abs(now_ns - stamp) > _GRAIN_NS for stamp in stamps)
