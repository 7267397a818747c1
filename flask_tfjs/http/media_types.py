"""Media types by role and extension. The machine's own table (``mimetypes``) differs
from one system to the next and would call a shard ``x.html`` a page."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from types import MappingProxyType

JSON = "application/json"
OCTETS = "application/octet-stream"
HTML = "text/html"

_ASSETS: Mapping[str, str] = MappingProxyType(
    {
        ".json": JSON,
        ".txt": "text/plain; charset=utf-8",
        ".csv": "text/csv; charset=utf-8",
        ".wasm": "application/wasm",
        ".zip": "application/zip",
        ".png": "image/png",
        ".jpg": "image/jpeg",
        ".jpeg": "image/jpeg",
        ".webp": "image/webp",
    }
)

# What the package itself gives to pages.
_STATIC: Mapping[str, str] = MappingProxyType(
    {
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".mjs": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }
)


def is_text(media_type: str) -> bool:
    """Whether layers around an app, such as Flask-Compress, encode this type."""
    return media_type == JSON or media_type.startswith("text/")


def of_asset(name: str) -> str:
    """The media type of an asset; nothing a browser would run in a page's name."""
    return _ASSETS.get(posixpath.splitext(name)[1].lower(), OCTETS)


def of_static(name: str) -> str:
    """The media type of a file of the package's own, scripts among them."""
    return _STATIC.get(posixpath.splitext(name)[1], OCTETS)
