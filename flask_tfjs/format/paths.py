"""Paths of a weights manifest: from what the JSON says to a file below the model's
directory, and from such a file to a path that a client resolves to it.

The client appends a path to the URL of the model's directory and lets ``fetch`` parse
the result (tfjs-core ``src/io/http.ts``); nothing here touches the file system.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import quote
from urllib.parse import unquote

from ..errors import InvalidModel

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

# The part of a content-addressed name that tells people which shard it was.
_MAX_STEM = 100
_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")
_CONTENT_NAME = re.compile(r"(?:.*/)?([^/]*)\.[0-9a-f]{32}\.bin", re.DOTALL)


def file_names(directory: str, path: str, where: str) -> tuple[str, ...]:
    """The files that *path* may mean, most literal first, relative to the model's root.

    The second is what a browser asks a plain file server for: without query and
    fragment, percent-decoded. Some manifests are written for that.

    :param directory: the JSON's own directory, relative to the root; ``""`` is the
        root.
    :raises InvalidModel: the path can only mean a file outside the root, a hidden
        file, another host, or holds characters that no shard needs.
    """
    asked_for = unquote(re.split(r"[?#]", path, maxsplit=1)[0])
    names, faults = [], []
    for meant in dict.fromkeys((path, asked_for)):
        try:
            names.append(_file_name(directory, meant, where))
        except InvalidModel as fault:
            faults.append(fault)
    if not names:
        raise faults[0]
    return tuple(names)


def stem(name: str) -> str:
    """What a content-addressed name keeps of the file *name*."""
    base = posixpath.basename(name).removesuffix(".bin")
    return _UNUSUAL.sub("-", base).lstrip(".-")[:_MAX_STEM] or "shard"


def content_name(name: str, sha256: bytes) -> str:
    """The name by content of the file *name*, or of a slice of it.

    :param sha256: the digest of its bytes.
    """
    return f"{stem(name)}.{sha256.hex()[:32]}.bin"


def content_stem(name: str) -> str | None:
    """The stem of a name that looks as :func:`content_name` makes it."""
    found = _CONTENT_NAME.fullmatch(name)
    return found and found[1]


def relative_url(directory: str, name: str) -> str:
    """The path that leads from the URL of *directory* to the file *name*, both relative
    to the model's root, escaped for a URL."""
    # Both absolute, or relpath() would look up the current directory.
    return quote(posixpath.relpath(f"/{name}", f"/{directory}"), safe="/")


def _file_name(directory: str, path: str, where: str) -> str:
    if _SCHEME.match(path):
        raise InvalidModel(
            f"{path[:80]!r} is not a relative path; a client would append it to the "
            "model's own URL. Put the file beside the JSON",
            where,
        )
    if "\\" in path or _CONTROL.search(path):
        raise InvalidModel(
            f"{path[:80]!r} holds a backslash or a control character; "
            "rename the file and write '/' between folders",
            where,
        )
    segments = directory.split("/") if directory else []
    for segment in path.split("/"):
        if segment == "..":
            if not segments:
                raise InvalidModel(
                    f"{path[:80]!r} leads out of the model's directory", where
                )
            segments.pop()
        elif segment.startswith(".") and segment != ".":
            raise InvalidModel(f"{path[:80]!r} names a hidden file", where)
        elif segment not in ("", "."):
            segments.append(segment)
    if segment in ("", ".", ".."):
        raise InvalidModel(f"{path[:80]!r} names no file", where)
    return "/".join(segments)
