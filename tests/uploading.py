"""What ``model.save(url)`` sends, byte by byte, and what comes of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import DENSE_BYTES
from models import dense_document

JSON_PART = "model.json"
WEIGHTS_PART = "model.weights.bin"
BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gWq"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"

OCTETS = "application/octet-stream"

Headers = dict[str, str]


def part(
    name: str, data: bytes, *, filename: str | None = "", media_type: str = OCTETS
) -> bytes:
    """One part as browsers write it.

    :param filename: the field's name for ``""``; ``None``: a field without one.
    """
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if filename is None:
        return disposition.encode() + b"\r\n\r\n" + data
    disposition += f'; filename="{filename or name}"\r\nContent-Type: {media_type}'
    return disposition.encode() + b"\r\n\r\n" + data


def multipart(*parts: bytes, boundary: str = BOUNDARY) -> bytes:
    line = b"--" + boundary.encode()
    return b"".join(line + b"\r\n" + p + b"\r\n" for p in parts) + line + b"--\r\n"


def json_part(document: Any, **how: Any) -> bytes:
    """:param document: a JSON value, or bytes as they are."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return part(JSON_PART, data, **{"media_type": "application/json", **how})


def weights_part(data: bytes, **how: Any) -> bytes:
    return part(WEIGHTS_PART, data, **how)


def saved(document: Any, weights: bytes | None) -> bytes:
    """The body that ``model.save()`` sends of a model."""
    parts = [json_part(document)]
    if weights is not None:
        parts.append(weights_part(weights))
    return multipart(*parts)


def saved_document(**members: Any) -> dict[str, Any]:
    """The JSON that it sends of the model of eight floats."""
    made = {"generatedBy": "TensorFlow.js tfjs-layers v4.22.0", "convertedBy": None}
    return dense_document(f"./{WEIGHTS_PART}", **made, **members)


def dense_body(weights: bytes = DENSE_BYTES, **members: Any) -> bytes:
    return saved(saved_document(**members), weights)


def sized_document(size: int) -> dict[str, Any]:
    """The same of a model of *size* booleans."""
    weights = [{"name": "w", "shape": [size], "dtype": "bool"}]
    return {
        **saved_document(),
        "weightsManifest": [{"paths": [f"./{WEIGHTS_PART}"], "weights": weights}],
    }


def sized_body(size: int, byte: bytes = b"\0") -> bytes:
    return saved(sized_document(size), byte * size)


def snapshot(store: Path) -> dict[str, bytes | None]:
    """All files and folders of a store, but for what its writers lock."""
    found: dict[str, bytes | None] = {}
    for folder, folders, files in os.walk(store):
        if ".locks" in folders:
            folders.remove(".locks")
        for name in folders:
            found[str(Path(folder, name).relative_to(store))] = None
        for name in files:
            path = Path(folder, name)
            # What is being written may go at any time.
            with contextlib.suppress(FileNotFoundError):
                found[str(path.relative_to(store))] = path.read_bytes()
    return found


def read_weights(folder: Path, entry: str = JSON_PART) -> bytes:
    """The weights of a published model, as they lie there for any server."""
    document = json.loads((folder / entry).read_bytes())
    groups = document if isinstance(document, list) else document["weightsManifest"]
    paths = [path for group in groups for path in group["paths"]]
    return b"".join((folder / path).read_bytes() for path in paths)


# Over sockets


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def head(
    method: str,
    target: str,
    headers: Headers,
    length: int | None = None,
    *,
    host: str = "127.0.0.1",
) -> bytes:
    """The head of a request; without a *length* its body is chunked."""
    framing = (
        {"Transfer-Encoding": "chunked"}
        if length is None
        else {"Content-Length": str(length)}
    )
    lines = [f"{method} {target} HTTP/1.1"]
    fields = {"Host": host, "Content-Type": CONTENT_TYPE, **headers, **framing}
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def chunked(blocks: Iterable[bytes]) -> Iterator[bytes]:
    for block in blocks:
        yield f"{len(block):x}\r\n".encode() + block + b"\r\n"
    yield b"0\r\n\r\n"


def read_answer(sock: socket.socket, method: str = "POST") -> Answer:
    """:raises http.client.HTTPException: the connection ended before an answer."""
    response = http.client.HTTPResponse(sock, method=method)
    try:
        response.begin()
        return Answer(response.status, response.headers, response.read())
    finally:
        response.close()


def exchange(
    address: tuple[str, int],
    method: str,
    target: str,
    body: bytes | Iterable[bytes] = b"",
    headers: Headers | None = None,
    timeout: float = 30,
) -> Answer:
    """Send all of a request, whatever the server does meanwhile, then read its answer,
    as most clients do.

    :param body: bytes, or the chunks of a chunked body.
    """
    length = len(body) if isinstance(body, bytes) else None
    blocks = [body] if isinstance(body, bytes) else chunked(body)
    with socket.create_connection(address, timeout) as sock:
        fields = {"Connection": "close", **(headers or {})}
        sock.sendall(head(method, target, fields, length))
        for block in blocks:
            sock.sendall(block)
        return read_answer(sock, method)


def has_ended(sock: socket.socket) -> bool:
    """Whether the other side has closed the connection, once it is read to its end."""
    with contextlib.suppress(ConnectionError):
        while sock.recv(65536):
            pass
    return True


def bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}
