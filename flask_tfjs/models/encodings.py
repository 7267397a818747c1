"""Shards encoded ahead of time (``flask tfjs compress``), kept in ``TFJS_CACHE`` under
the digest of what they encode. So none can be stale: another content has another name.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass

from ..http.codings import encoded_blocks
from .cache import Cache
from .delivery import Piece
from .digests import Digest
from .digests import Digests
from .files import Identity
from .files import Root
from .files import identify
from .files import verified_blocks
from .listing import FolderNames

#: The codings that shards are encoded in, where they can be made. Who takes zstd takes
#: br as well, which makes weights smaller.
SHARD_CODINGS = ("br", "gzip")

#: The share of its bytes that an encoded shard must save to be kept.
MIN_GAIN = 0.05

_MAX_PROVEN = 10_000


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """An encoded shard.

    :ivar digest: of the encoded bytes.
    """

    path: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Encoding:
    """What became of a shard, or a slice of one.

    :ivar name: by content.
    :ivar length: its bytes; *encoded*: as they are encoded.
    :ivar kept: whether that saves enough.
    """

    name: str
    coding: str
    length: int
    encoded: int
    kept: bool


class Encodings:
    """The encoded shards in a cache."""

    def __init__(self, cache: Cache | None, digests: Digests) -> None:
        self._cache = cache
        self._digests = digests
        # The clock is looked up at each call: it may be set after this.
        self._names = FolderNames(lambda: digests.clock())
        self._proven: dict[Identity, EncodedFile] = {}

    def of(self, sha256: bytes) -> dict[str, EncodedFile]:
        """All undamaged encodings of the content *sha256*, by coding."""
        if self._cache is None:
            return {}
        names = self._names.of(self._cache.encoded_folder)
        if not names:
            return {}
        found = {}
        for coding in SHARD_CODINGS:
            name = _name(sha256, coding)
            encoded = self._find(self._cache, name) if name in names else None
            if encoded is not None:
                found[coding] = encoded
        return found

    def _find(self, cache: Cache, name: str) -> EncodedFile | None:
        path = cache.encoded_path(name)
        identity = identify(path)
        if identity is None:
            return None
        known = self._proven.get(identity)
        if known is None:
            known = self._prove(cache, name, path)
            if known is not None and known.digest.settled:
                if len(self._proven) >= _MAX_PROVEN:
                    self._proven.clear()
                self._proven[identity] = known
        return known

    def _prove(self, cache: Cache, name: str, path: str) -> EncodedFile | None:
        expected = cache.digest(name)
        try:
            digest = self._digests.of(path)
        except OSError:
            return None  # it was removed to make room
        return EncodedFile(path, digest) if digest.sha256 == expected else None

    def length(self, digest: Digest, coding: str) -> int:
        """Bytes of a shard as a client gets it that takes *coding*."""
        found = self.of(digest.sha256).get(coding)
        return digest.length if found is None else found.digest.length

    def make(
        self,
        root: Root,
        name: str,
        piece: Piece,
        coding: str,
        progress: Callable[[int], object],
    ) -> Encoding:
        """Encode what a delivery serves as *name*, and keep that if it saves enough.

        :param progress: is called with the number of bytes read since the last call.
        :raises OSError: the file cannot be read or is not what it was, or the cache
            cannot be written.
        """
        assert self._cache is not None
        digest = piece.digest
        found = self.of(digest.sha256).get(coding)
        if found is not None:
            progress(digest.length)
            return Encoding(name, coding, digest.length, found.digest.length, kept=True)
        most = int(digest.length * (1 - MIN_GAIN))
        with root.open(piece.file) as file:
            start, stop = digest.offset, digest.offset + digest.length
            blocks = verified_blocks(file, digest.promise, start, stop)
            length = self._cache.write_encoded(
                _name(digest.sha256, coding),
                encoded_blocks(_counted(blocks, progress), coding),
                most,
            )
        return Encoding(name, coding, digest.length, length, kept=length <= most)


def _counted(
    blocks: Iterable[bytes], progress: Callable[[int], object]
) -> Iterator[bytes]:
    for block in blocks:
        progress(len(block))
        yield block


def _name(sha256: bytes, coding: str) -> str:
    return f"{sha256.hex()}.{coding}"
