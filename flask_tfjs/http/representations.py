"""Representations (RFC 9110 section 3.2): a body and the headers that describe it,
made once per content and kept within a bound."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Hashable
from dataclasses import dataclass

from ..locks import KeyedLocks
from . import media_types
from .codings import IDENTITY
from .codings import encode

Header = tuple[str, str]

#: Fresh for a year, the longest that caches are asked for, and never to be asked about
#: (RFC 8246).
IMMUTABLE = "max-age=31536000, immutable"

_VARY = ("Vary", "Accept-Encoding")


@dataclass(frozen=True, slots=True)
class Representation:
    """What a URL answers with, apart from who asks.

    :ivar etag: the opaque tag, without quotes; strong.
    :ivar length: bytes of the body.
    :ivar headers: those a 304 repeats (RFC 9110 15.4.5), the tag among them.
    :ivar content_headers: those that come with a body only.
    :ivar body: ``None`` for a body that is read from a file.
    :ivar ranges: whether ``Range`` is honoured.
    """

    etag: str
    length: int
    headers: tuple[Header, ...]
    content_headers: tuple[Header, ...]
    body: bytes | None = None
    ranges: bool = False

    @property
    def media_type(self) -> str:
        return dict(self.content_headers)["Content-Type"]


def json_representation(
    text: bytes,
    *,
    tag: str | None = None,
    coding: str = IDENTITY,
    max_age: int = 0,
    immutable: bool = False,
) -> Representation:
    """A model's JSON in a content coding; see :func:`text_representation`."""
    return text_representation(
        text,
        media_types.JSON,
        tag=tag,
        coding=coding,
        max_age=max_age,
        immutable=immutable,
    )


def text_representation(
    text: bytes,
    media_type: str,
    *,
    tag: str | None = None,
    coding: str = IDENTITY,
    max_age: int = 0,
    immutable: bool = False,
) -> Representation:
    """A text in a content coding.

    :param tag: names this text, whatever the coding; ``None``: its digest does.
    :param max_age: seconds of reuse without asking; 0 = ask each time.
    :param immutable: whether its URL means this text for ever.
    """
    tag = tag or hashlib.sha256(text).hexdigest()[:32]
    body = encode(text, coding)
    fresh = f"max-age={max_age}" if max_age else "no-cache"
    coded = () if coding == IDENTITY else (("Content-Encoding", coding),)
    etag = tag if coding == IDENTITY else f"{tag}-{coding}"
    return Representation(
        etag=etag,
        length=len(body),
        headers=(
            *_validators(etag, IMMUTABLE if immutable else fresh),
            _VARY,
        ),
        content_headers=(
            *_content(media_type, hashlib.sha256(body).digest()),
            *coded,
            ("Accept-Ranges", "none"),
        ),
        body=body,
    )


def file_representation(
    sha256: bytes,
    length: int,
    media_type: str,
    *,
    immutable: bool = False,
    varies: bool = False,
) -> Representation:
    """A file, or a part of one.

    :param sha256: the digest of its content, 32 bytes.
    :param length: its size in bytes.
    :param immutable: whether its URL means these bytes for ever.
    :param varies: whether there is an encoded representation too.
    """
    # A part of a text is of no use to anyone, and a layer that encodes a 206 makes
    # it wrong.
    ranges = not media_types.is_text(media_type)
    return _of_file(
        etag=sha256.hex()[:32],
        length=length,
        content=_content(media_type, sha256),
        immutable=immutable,
        varies=varies,
        ranges=ranges,
    )


def encoded_representation(
    sha256: bytes, coding: str, encoded: bytes, length: int, *, immutable: bool
) -> Representation:
    """A shard that was encoded before.

    :param sha256: the digest of its content, 32 bytes.
    :param encoded: the digest of the encoded bytes. They are part of the tag, since
        another machine's encoder may make others of the same content.
    :param length: the number of encoded bytes.
    """
    return _of_file(
        etag=f"{sha256.hex()[:32]}.{encoded.hex()[:8]}-{coding}",
        length=length,
        content=(
            *_content(media_types.OCTETS, encoded),
            ("Content-Encoding", coding),
        ),
        immutable=immutable,
        varies=True,
        ranges=True,
    )


def _of_file(
    *,
    etag: str,
    length: int,
    content: tuple[Header, ...],
    immutable: bool,
    varies: bool,
    ranges: bool,
) -> Representation:
    headers = _validators(etag, IMMUTABLE if immutable else "no-cache")
    return Representation(
        etag=etag,
        length=length,
        headers=(*headers, _VARY) if varies else headers,
        content_headers=(*content, ("Accept-Ranges", "bytes" if ranges else "none")),
        ranges=ranges,
    )


def _validators(etag: str, cache_control: str) -> tuple[Header, ...]:
    return ("ETag", f'"{etag}"'), ("Cache-Control", cache_control)


def _content(media_type: str, sha256: bytes) -> tuple[Header, ...]:
    digest = base64.b64encode(sha256).decode("ascii")
    return (
        ("Content-Type", media_type),
        ("X-Content-Type-Options", "nosniff"),
        ("Repr-Digest", f"sha-256=:{digest}:"),
    )


class Representations:
    """Representations of JSON by what they represent, the least used forgotten first.

    :param max_bytes: of all bodies together.
    """

    def __init__(self, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Representation] = OrderedDict()
        self._making = KeyedLocks()

    def get(self, key: Hashable, make: Callable[[], Representation]) -> Representation:
        """The representation kept under *key*, made by *make* where there is none."""
        kept = self._get(key)
        if kept is None:
            with self._making.hold(key):  # one maker for each key
                kept = self._get(key)
                if kept is None:
                    kept = make()
                    self._keep(key, kept)
        return kept

    def _get(self, key: Hashable) -> Representation | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
            return kept

    def _keep(self, key: Hashable, made: Representation) -> None:
        with self._lock:
            self._kept[key] = made
            self._bytes += made.length
            while self._bytes > self._max_bytes and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].length
