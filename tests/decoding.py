"""What undoes a content coding."""

from __future__ import annotations

import gzip
import importlib
import sys
import zlib
from collections.abc import Callable
from collections.abc import Mapping


def _unzstd(data: bytes) -> bytes:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    decoded: bytes = importlib.import_module(name).decompress(data)
    return decoded


def _unbrotli(data: bytes) -> bytes:
    decoded: bytes = importlib.import_module("brotli").decompress(data)
    return decoded


#: By the value of ``Content-Encoding``; ``None`` where there is none.
DECODE: Mapping[str | None, Callable[[bytes], bytes]] = {
    None: lambda data: data,
    "identity": lambda data: data,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "br": _unbrotli,
    "zstd": _unzstd,
}
