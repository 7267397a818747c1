"""The limit: the least a WSGI application can do and still give these answers.

Every header and every coded JSON body is made before the first request; shards and
ranges of them are files for ``wsgi.file_wrapper``. It trusts its clients.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import brotli

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIEnvironment

Headers = list[tuple[str, str]]

MODELS = Path(os.environ["BENCHMARK_MODELS"])
CORS = ("Access-Control-Allow-Origin", "*")


def file_headers(path: Path) -> Headers:
    return [
        ("Content-Type", "application/octet-stream"),
        ("Cache-Control", "no-cache"),
        ("ETag", etag(path.read_bytes())),
        ("Accept-Ranges", "bytes"),
        CORS,
    ]


def json_headers(body: bytes, coding: str) -> Headers:
    headers = [
        ("Content-Type", "application/json"),
        ("Cache-Control", "no-cache"),
        ("ETag", etag(body)),
        ("Vary", "Accept-Encoding"),
        ("Content-Length", str(len(body))),
        CORS,
    ]
    if coding:
        headers.append(("Content-Encoding", coding))
    return headers


def etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def representations(path: Path) -> list[tuple[str, Headers, bytes]]:
    """The codings of a JSON file, the preferred first, the identity last."""
    plain = path.read_bytes()
    bodies = {"br": brotli.compress(plain), "gzip": gzip.compress(plain), "": plain}
    return [
        (coding, json_headers(body, coding), body) for coding, body in bodies.items()
    ]


def url_path(path: Path) -> str:
    return f"/models/{path.relative_to(MODELS).as_posix()}"


JSON = {url_path(path): representations(path) for path in MODELS.rglob("*.json")}
SHARDS = {
    url_path(path): (str(path), path.stat().st_size, file_headers(path))
    for path in MODELS.rglob("*.bin")
}


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path in JSON:
        return answer_json(path, environ, start_response)
    if path in SHARDS:
        return answer_shard(path, environ, start_response)
    start_response("404 Not Found", [("Content-Length", "0")])
    return []


def answer_json(
    path: str, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    accepted = environ.get("HTTP_ACCEPT_ENCODING", "")
    headers, body = next(
        (headers, body) for coding, headers, body in JSON[path] if coding in accepted
    )
    if environ.get("HTTP_IF_NONE_MATCH") == headers[2][1]:
        start_response("304 Not Modified", headers[1:4] + [CORS])
        return []
    start_response("200 OK", headers)
    return [body]


def answer_shard(
    path: str, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    name, size, headers = SHARDS[path]
    file = open(name, "rb")
    asked = environ.get("HTTP_RANGE")
    if asked is None:
        start_response("200 OK", [*headers, ("Content-Length", str(size))])
    else:
        first, _, last = asked.removeprefix("bytes=").partition("-")
        file.seek(int(first))
        length = ("Content-Length", str(int(last) - int(first) + 1))
        part = ("Content-Range", f"bytes {first}-{last}/{size}")
        start_response("206 Partial Content", [*headers, length, part])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file, 64 * 1024)
    return wrapped
