"""Content codings (RFC 9110 section 8.4) and the choice between them (12.5.3).

``gzip`` is always there; ``br`` and ``zstd`` are where the extra ``compress`` is.
"""

from __future__ import annotations

import importlib.util
import zlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from werkzeug.datastructures import Accept

IDENTITY = "identity"

#: The command that installs the packages behind ``br`` and ``zstd``.
INSTALL = "pip install 'flask-tfjs[compress]'"

# Above these levels encoding takes many times as long, for a few percent at most.
_BROTLI_QUALITY = 5
_ZSTD_LEVEL = 9
_GZIP_LEVEL = 6

_GZIP_FORMAT = 16 + zlib.MAX_WBITS


class Encoder(Protocol):
    """Encodes one body, block by block."""

    def compress(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...


class _Brotli:
    def __init__(self) -> None:
        import brotli

        self._compressor = brotli.Compressor(quality=_BROTLI_QUALITY)

    def compress(self, data: bytes) -> bytes:
        encoded: bytes = self._compressor.process(data)
        return encoded

    def flush(self) -> bytes:
        encoded: bytes = self._compressor.finish()
        return encoded


def _zstd() -> Encoder:
    import zstandard

    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()


def _gzip() -> Encoder:
    return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)


_ENCODERS: Mapping[str, Callable[[], Encoder]] = MappingProxyType(
    {"br": _Brotli, "zstd": _zstd, "gzip": _gzip}
)

#: All content codings by their registered names, the one that gains most first.
CODINGS = tuple(_ENCODERS)

_PACKAGES = MappingProxyType({"br": "brotli", "zstd": "zstandard"})


def installed() -> tuple[str, ...]:
    """The codings that can be made here, the one that gains most first."""
    return tuple(coding for coding in CODINGS if _can_make(coding))


def _can_make(coding: str) -> bool:
    package = _PACKAGES.get(coding)
    return package is None or importlib.util.find_spec(package) is not None


def rank(accepted: Accept) -> tuple[str, ...]:
    """The codings that a client takes, the best first.

    :data:`IDENTITY` is always among them: a client that refuses even that gets it all
    the same where there is nothing else, which RFC 9110 12.5.3 allows, since an answer
    beats none. A coding counts for more than an identity that is not mentioned.
    """
    qualities = {coding: accepted.quality(coding) for coding in [*CODINGS, IDENTITY]}
    wanted = [coding for coding, quality in qualities.items() if quality > 0]
    wanted.sort(key=lambda coding: -qualities[coding])
    return tuple(wanted) if IDENTITY in wanted else (*wanted, IDENTITY)


def encoded_blocks(blocks: Iterable[bytes], coding: str) -> Iterator[bytes]:
    """*blocks* in a coding that is installed."""
    encoder = _ENCODERS[coding]()
    for block in blocks:
        yield encoder.compress(block)
    yield encoder.flush()


def encode(data: bytes, coding: str) -> bytes:
    if coding == IDENTITY:
        return data
    return b"".join(encoded_blocks([data], coding))
