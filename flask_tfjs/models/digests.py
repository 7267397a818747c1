"""Content digests, computed once per content."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass

from ..locks import KeyedLocks
from .cache import Cache
from .files import Identity
from .files import OpenFile
from .files import Promise
from .files import identify

# A write within the grain of the file system's clock leaves no trace in the identity.
# Two seconds is the coarsest grain in use (FAT), and git's "racy" rule; a tenth more,
# since a kernel stamps with the time of its last tick, which lies behind ours.
_GRAIN_NS = 2_100_000_000

_MAX_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class Digest:
    """The SHA-256 of the bytes ``[offset, offset + length)`` of a file.

    :ivar settled: whether the same identity means the same content from now on.
    """

    identity: Identity
    offset: int
    length: int
    sha256: bytes
    settled: bool

    @property
    def promise(self) -> Promise:
        return Promise(self.offset, self.length, self.sha256)


class Digests:
    """Digests of files, remembered by identity.

    :ivar clock: nanoseconds since the epoch, as the file system stamps them.
    :param cache: remembers them for other processes and after a restart.
    """

    def __init__(
        self, clock: Callable[[], int] = time.time_ns, cache: Cache | None = None
    ) -> None:
        self.clock = clock
        self._cache = cache
        self._lock = threading.Lock()
        self._hashing = KeyedLocks()
        self._remembered: OrderedDict[str, Digest] = OrderedDict()

    def of(self, path: str, offset: int = 0, length: int | None = None) -> Digest:
        """The digest of the file at *path* as it is now, or of *length* bytes of it.

        Others that ask for the same meanwhile, in this process or another, wait.

        :raises OSError: it cannot be read, or is written to all the time.
        """
        identity = identify(path)
        known = identity and self._remembered.get(_key(identity, offset, length))
        if known:
            return known
        with OpenFile(path) as file:
            return self._of(file, offset, length)

    def _of(self, file: OpenFile, offset: int, length: int | None) -> Digest:
        stop = file.identity.size if length is None else offset + length
        key = _key(file.identity, offset, length)
        if not is_settled(file.identity.stamps, self.clock()):
            return self._compute(file, key, offset, stop)  # nobody else may use it
        with self._hashing.hold(key):
            known = self._recall(key, file.identity, offset, stop)
            if known is not None or self._cache is None:
                return known or self._compute(file, key, offset, stop)
            with self._cache.alone(key):
                known = self._recall(key, file.identity, offset, stop)
                return known or self._compute(file, key, offset, stop)

    def _recall(
        self, key: str, identity: Identity, offset: int, stop: int
    ) -> Digest | None:
        known = self._remembered.get(key)
        if known is None and self._cache is not None:
            sha256 = self._cache.digest(key)
            if sha256 is not None:
                known = Digest(identity, offset, stop - offset, sha256, settled=True)
                self._remember(key, known)
        return known

    def _compute(self, file: OpenFile, key: str, offset: int, stop: int) -> Digest:
        started = self.clock()
        hasher = hashlib.sha256()
        for block in file.blocks(offset, stop):
            hasher.update(block)
        settled = is_settled(file.identity.stamps, started)
        sha256 = hasher.digest()
        digest = Digest(file.identity, offset, stop - offset, sha256, settled)
        if settled:
            self._remember(key, digest)
            if self._cache is not None and _tells(file.identity):
                self._cache.remember(key, sha256)
        return digest

    def _remember(self, key: str, digest: Digest) -> None:
        with self._lock:
            self._remembered[key] = digest
            while len(self._remembered) > _MAX_REMEMBERED:
                self._remembered.popitem(last=False)


def is_settled(stamps: Iterable[int], now_ns: int) -> bool:
    """Whether all time stamps differ from *now_ns* by more than the clock's grain.

    A stamp in the future is as good as one in the past: the next write changes it.
    """
    return all(abs(now_ns - stamp) > _GRAIN_NS for stamp in stamps)


def _tells(identity: Identity) -> bool:
    """Whether the stamps are those of a clock. In an image that was built with a fixed
    date the files of two builds have the same."""
    return identity.changed_ns % 1_000_000_000 != 0


def _key(identity: Identity, offset: int, length: int | None) -> str:
    part = "" if offset == 0 and length is None else f" {offset}+{length}"
    return " ".join(map(str, identity)) + part
