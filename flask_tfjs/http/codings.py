"""Content codings (RFC 9110 section 8.4) and the choice between them (12.5.3)."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from collections.abc import Mapping
from types import MappingProxyType

from werkzeug.datastructures import Accept

IDENTITY = "identity"

# The mtime is fixed so that one content has one encoding on every machine.
_GZIP_LEVEL = 6


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, _GZIP_LEVEL, mtime=0)


#: Codings by their registered name, the preferred one first.
CODINGS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType({"gzip": _gzip})


def choose(accepted: Accept) -> str:
    """The coding for a client: the best it names, :data:`IDENTITY` where it names
    none of ours. A client that refuses even that gets it all the same, which RFC 9110
    12.5.3 allows, since an answer beats none."""
    return accepted.best_match([*CODINGS, IDENTITY], default=IDENTITY)


def encode(data: bytes, coding: str) -> bytes:
    return data if coding == IDENTITY else CODINGS[coding](data)
