"""What goes over real sockets: gunicorn, waitress and the Werkzeug server each frame,
buffer and cut answers in their own way.
"""

from __future__ import annotations

import collections.abc as cabc
import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import socket
import struct
import subprocess
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import reference
from models import content_name
from reference import Model
from servers import HOST
from servers import SERVERS
from servers import Server
from servers import require_program
from servers import serve

SHARD = "group1-shard1of1.bin"
SIZE = 3_000_001  # not a multiple of any block
LARGE = 32 * 1024 * 1024  # more than sockets and servers buffer
OLD, NEW = b"\x00", b"\x01"
DATA = np.random.default_rng(7).integers(0, 2, SIZE, np.uint8).tobytes()

Headers = dict[str, str]


def bytes_model(directory: Path, data: bytes) -> Model:
    """A model whose only weight is as many booleans as there are bytes."""
    values = np.frombuffer(data, np.bool_)
    groups = [[reference.weight("bytes", values, "bool")]]
    document = reference.graph_model(groups[0])
    path = reference.write_model(directory, document, groups, shard_size=len(data))
    return Model(directory.name, directory, path.name, "graph")


@dataclass(frozen=True)
class Change:
    """What happens to a file while a client slowly reads it. After some, the old
    bytes can still come whole: the server had the file open.
    """

    name: str
    act: cabc.Callable[[Path], object]
    may_be_whole: bool = False

    def __str__(self) -> str:
        return self.name


def rewrite(path: Path) -> None:
    """In place, with the same size and the same modification time."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(NEW * LARGE)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(NEW * LARGE)
    other.replace(path)


CHANGES = [
    Change("rewritten", rewrite),
    Change("truncated", lambda path: os.truncate(path, LARGE // 2)),
    Change("shortened", lambda path: os.truncate(path, LARGE - 1)),
    Change("replaced", replace, may_be_whole=True),
    Change("removed", lambda path: path.unlink(), may_be_whole=True),
]


# What is younger than two seconds may be written to without a trace in its times.
AGES = ["settled", "young"]

# By its own name, and by that of its content, which means these bytes for ever.
NAMES = {"own": SHARD, "hashed": content_name("group1-shard1of1", OLD * LARGE)}


@dataclass(frozen=True)
class Served:
    server: Server
    models: dict[str, Model]

    def file(self, name: str) -> Path:
        return self.models[name].directory / SHARD


@pytest.fixture(scope="module", params=SERVERS)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> cabc.Iterator[Served]:
    """A server of a model, of a broken one, and of large ones that change."""
    directory = tmp_path_factory.mktemp(request.param)
    models = {
        "bytes": bytes_model(directory / "bytes", DATA),
        "broken": bytes_model(directory / "broken", DATA[:1000]),
    }
    (models["broken"].directory / SHARD).unlink()
    large = [
        *(f"{a}-{c}-{name}" for a in AGES for c in CHANGES for name in NAMES),
        "left",
    ]
    for name in large:
        models[name] = bytes_model(directory / name, OLD * LARGE)
    config = {"TFJS_MODELS": {name: str(m.directory) for name, m in models.items()}}
    with serve(request.param, directory, config) as server:
        time.sleep(2.1)  # until then no file is old enough to be remembered
        yield Served(server, models)
    for name in large:
        (directory / name / SHARD).unlink(missing_ok=True)


# A connection, byte by byte


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Wire:
    """One connection, kept alive as long as the server keeps it. Nothing may come
    that the headers have not announced.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.stack = contextlib.ExitStack()
        self.open: tuple[socket.socket, t.BinaryIO] | None = None
        self.connections = 0

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def exchange(
        self, method: str, target: str, headers: Headers, body: bytes = b""
    ) -> Answer:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}:{self.server.port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        kept = self.open is not None
        try:
            sock, stream, status_line = self.send(request)
        except ConnectionError:
            # A server may close an idle connection at any time.
            assert kept
            self.close()
            sock, stream, status_line = self.send(request)
        assert status_line.startswith(b"HTTP/1.1 "), status_line
        status = int(status_line.split()[1])
        received = http.client.parse_headers(stream)
        assert "Transfer-Encoding" not in received
        without = method == "HEAD" or status in (204, 304)
        length = 0 if without else int(received["Content-Length"])
        content = stream.read(length)
        assert len(content) == length
        if (received["Connection"] or "").lower() == "close":
            sock.shutdown(socket.SHUT_WR)  # the Werkzeug server waits for it
            assert stream.read() == b""
            self.close()
        return Answer(status, received, content)

    def send(self, request: bytes) -> tuple[socket.socket, t.BinaryIO, bytes]:
        if self.open is None:
            self.connections += 1
            sock = self.stack.enter_context(self.server.connect())
            file = self.stack.enter_context(sock.makefile("rwb"))
            self.open = sock, t.cast(t.BinaryIO, file)
        sock, stream = self.open
        stream.write(request)
        stream.flush()
        status_line = stream.readline()
        if not status_line:
            raise ConnectionError("closed")
        return sock, stream, status_line

    def close(self) -> None:
        self.open = None
        self.stack.close()

    def check_kept(self, *kinds: str) -> None:
        """All went over one connection, on the servers that keep it."""
        assert self.connections == 1 or self.server.kind not in kinds


@pytest.fixture
def wire(served: Served) -> cabc.Iterator[Wire]:
    with Wire(served.server) as wire:
        yield wire


def etag_of(wire: Wire, target: str) -> str:
    return wire.exchange("HEAD", target, {}).headers["ETag"]


JSON_URL = "/models/bytes/model.json"
SHARD_URL = f"/models/bytes/{SHARD}"
HASHED_URL = f"/models/bytes/{content_name('group1-shard1of1', DATA)}"
SHARD_URLS = [SHARD_URL, HASHED_URL]
URLS = [JSON_URL, *SHARD_URLS, "/models/bytes", "/models/bytes/"]
MISSING = [
    "/models/bytes/no.bin",
    "/models/no/no.bin",
    f"/models/bytes/{content_name('group1-shard1of1', OLD)}",
]
MISSING_JSON = ["/models/bytes/no.json", "/models/no", "/models/no/model.json"]


@pytest.mark.parametrize("target", URLS)
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_head_then_get(wire: Wire, target: str, coding: str) -> None:
    """HEAD has the headers of GET and no body, and the connection stays in step."""
    headers = {"Accept-Encoding": coding, "Origin": "https://example.org"}
    seen = [wire.exchange(method, target, headers) for method in ("HEAD", "GET") * 2]
    for answer in seen:
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert lasting(answer.headers) == lasting(seen[0].headers)
    for answer in seen[1::2]:
        assert len(answer.body) == int(answer.headers["Content-Length"])
    wire.check_kept("gunicorn", "waitress")


def lasting(headers: http.client.HTTPMessage) -> list[tuple[str, str]]:
    passing = ("date", "connection")
    return sorted(
        (name, value) for name, value in headers.items() if name.lower() not in passing
    )


@pytest.mark.parametrize(
    "target, cached",
    [(SHARD_URL, "no-cache"), (HASHED_URL, "max-age=31536000, immutable")],
)
def test_shard_is_the_file(
    wire: Wire, served: Served, target: str, cached: str
) -> None:
    answer = wire.exchange("GET", target, {})
    assert answer.body == served.file("bytes").read_bytes()
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Cache-Control"] == cached


METHODS = ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "BREW", "M-SEARCH"]


@pytest.mark.parametrize("body", [b"", b"x" * 100_000], ids=["bare", "body"])
@pytest.mark.parametrize("method", METHODS)
def test_other_methods(wire: Wire, method: str, body: bytes) -> None:
    """They are refused on every URL, and a body that nobody reads does not become
    the next request.
    """
    for target in [*URLS, *MISSING]:
        answer = wire.exchange(method, target, {}, body)
        missing = target in MISSING
        assert answer.status == (404 if missing else 405), target
        if not missing:
            assert "GET" in answer.headers["Allow"]
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        if target.endswith(".bin"):
            assert answer.body == b""
        else:
            assert "error" in json.loads(answer.body)
    assert len(wire.exchange("GET", SHARD_URL, {}).body) == SIZE


@pytest.mark.parametrize("target", [*URLS, *MISSING, *MISSING_JSON, "/models/broken"])
def test_options_has_no_body(wire: Wire, target: str) -> None:
    headers = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization, x-custom",
    }
    for _ in range(2):
        answer = wire.exchange("OPTIONS", target, headers)
        assert answer.status == 204
        assert answer.body == b""
        assert answer.headers["Content-Length"] in (None, "0")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        allowed = answer.headers["Access-Control-Allow-Headers"].lower()
        assert {"authorization", "x-custom"} <= set(allowed.split(", "))
    assert wire.exchange("GET", JSON_URL, {}).status == 200
    wire.check_kept("gunicorn")  # waitress closes after every 204 and 304


def test_answers_in_step(wire: Wire, served: Served) -> None:
    """Answers with and without a body, of all statuses, on one connection."""
    data = served.file("bytes").read_bytes()
    tag = etag_of(wire, SHARD_URL)
    json_tag = etag_of(wire, JSON_URL)
    broken = "/models/broken/model.json"
    steps: list[tuple[str, Headers, int]] = [
        *(
            step
            for target in SHARD_URLS
            for step in (
                # Range belongs to GET alone.
                (target, {"Range": "bytes=10-19"}, 206),
                (target, {"Range": f"bytes={SIZE}-"}, 416),
                (target, {"If-None-Match": tag}, 304),
                (target, {"If-Match": '"other"'}, 412),
            )
        ),
        (JSON_URL, {"If-None-Match": json_tag}, 304),
        (JSON_URL, {"If-Match": '"other"'}, 412),
        *((target, {}, 404) for target in [*MISSING, *MISSING_JSON]),
        (broken, {}, 500),
        (f"/models/broken/{SHARD}", {}, 404),
    ]
    for target, headers, status in steps * 2:
        for method in ("HEAD", "GET"):
            answer = wire.exchange(method, target, headers)
            whole = method == "HEAD" and "Range" in headers
            assert answer.status == (200 if whole else status), (method, target)
            if target.endswith(".bin") and status >= 400:
                assert answer.body == b""
            elif method == "GET" and status in (404, 500):
                assert "error" in json.loads(answer.body)
        assert wire.exchange("GET", SHARD_URL, {}).body == data
    wire.check_kept("gunicorn")


# Parts of a file


@pytest.mark.parametrize("target", SHARD_URLS)
def test_parallel_ranges(served: Served, target: str) -> None:
    data = served.file("bytes").read_bytes()
    with Wire(served.server) as wire:
        tag = etag_of(wire, target)
    step = SIZE // 16 + 1
    spans = [(start, min(start + step, SIZE)) for start in range(0, SIZE, step)]

    def fetch(span: tuple[int, int]) -> bytes:
        start, stop = span
        with contextlib.closing(served.server.http()) as connection:
            headers = {"Range": f"bytes={start}-{stop - 1}", "If-Range": tag}
            connection.request("GET", target, headers=headers)
            response = connection.getresponse()
            assert response.status == 206
            span_line = f"bytes {start}-{stop - 1}/{SIZE}"
            assert response.headers["Content-Range"] == span_line
            return response.read()

    with concurrent.futures.ThreadPoolExecutor(len(spans)) as pool:
        parts = list(pool.map(fetch, spans))
    assert len(parts) == 16
    assert b"".join(parts) == data


@pytest.mark.parametrize("have", [1, SIZE // 2, SIZE - 1])
def test_curl_resumes(served: Served, tmp_path: Path, have: int) -> None:
    curl = require_program("curl")
    data = served.file("bytes").read_bytes()
    partial = tmp_path / "partial"
    partial.write_bytes(data[:have])
    command = [
        *(curl, "--silent", "--show-error", "--noproxy", "*"),
        *("--continue-at", "-", "--output", str(partial)),
        *("--write-out", "%{http_code} %{size_download}"),
        served.server.url + SHARD_URL,
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == f"206 {SIZE - have}"
    assert sha256(partial) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("have", [1, SIZE // 2, SIZE])
def test_wget_resumes(served: Served, tmp_path: Path, have: int) -> None:
    wget = require_program("wget")
    data = served.file("bytes").read_bytes()
    partial = tmp_path / SHARD
    partial.write_bytes(data[:have])
    command = [
        *(wget, "--no-proxy", "--no-verbose", "--server-response", "--tries=1"),
        *("--continue", served.server.url + SHARD_URL),
    ]
    done = subprocess.run(
        command, check=False, cwd=tmp_path, capture_output=True, text=True
    )
    assert ("416" if have == SIZE else "206") in done.stderr
    assert sha256(partial) == hashlib.sha256(data).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == [SHARD]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Files that change while they are read


@contextlib.contextmanager
def slow_connection(server: Server) -> cabc.Iterator[socket.socket]:
    """A client that takes in little unless it reads."""
    with socket.socket() as sock:
        sock.settimeout(30)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        sock.connect((HOST, server.port))
        yield sock


def start_download(
    sock: socket.socket, server: Server, target: str
) -> tuple[int, t.BinaryIO]:
    request = (
        f"GET {target} HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nConnection: close"
    )
    sock.sendall(request.encode() + b"\r\n\r\n")
    stream = t.cast(t.BinaryIO, sock.makefile("rb"))
    status = stream.readline()
    assert b" 200 " in status, status
    headers = http.client.parse_headers(stream)
    return int(headers["Content-Length"]), stream


def read_what_comes(stream: t.BinaryIO) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := stream.read(1024 * 1024):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("called", NAMES)
@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_change_during_download(
    served: Served, change: Change, age: str, called: str
) -> None:
    """A transfer of the announced length is one content whole; any other is cut
    short, which every client notices.
    """
    name = f"{age}-{change}-{called}"
    path = served.file(name)
    if age == "young":
        path.write_bytes(OLD * LARGE)
    wait_for_file(served, name)

    with slow_connection(served.server) as sock:
        target = f"/models/{name}/{NAMES[called]}"
        length, stream = start_download(sock, served.server, target)
        with stream:
            assert length == LARGE
            body = stream.read(1024 * 1024)
            change.act(path)
            body += read_what_comes(stream)

    assert len(body) <= LARGE
    if len(body) == LARGE:
        assert change.may_be_whole
        assert body == OLD * LARGE


def wait_for_file(served: Served, name: str) -> None:
    """Until the server has seen the file, perhaps just written."""
    deadline = time.monotonic() + 10
    while True:
        with contextlib.closing(served.server.http()) as connection:
            connection.request("GET", f"/models/{name}/model.json")
            response = connection.getresponse()
            response.read()
        if response.status == 200:
            return
        assert time.monotonic() < deadline, response.status
        time.sleep(0.1)


def test_clients_that_leave(served: Served) -> None:
    """Readers that break off do not take the server's workers with them."""
    target = f"/models/left/{SHARD}"
    abort = struct.pack("ii", 1, 0)  # a reset, not an orderly end

    for _ in range(20):
        with slow_connection(served.server) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abort)
            _, stream = start_download(sock, served.server, target)
            with stream:
                stream.read(1024)

    with Wire(served.server) as wire:
        answer = wire.exchange("GET", SHARD_URL, {})
    assert answer.body == served.file("bytes").read_bytes()


# Apps that do more


@pytest.mark.parametrize("kind", SERVERS)
def test_among_other_extensions(kind: str, tmp_path: Path) -> None:
    """Flask-CORS, Flask-Compress, error pages and hooks of the app change nothing
    that a client depends on.
    """
    model = bytes_model(tmp_path / "bytes", DATA)
    config = {"TFJS_MODELS": {"bytes": str(model.directory)}}
    with (
        serve(
            kind, tmp_path, config, cors=True, compress=True, error_pages=True
        ) as server,
        Wire(server) as wire,
    ):
        headers = {"Origin": "https://example.org", "Accept-Encoding": "gzip"}
        for target in (JSON_URL, *SHARD_URLS, *MISSING, *MISSING_JSON):
            answers = [wire.exchange(m, target, headers) for m in ("GET", "HEAD")]
            for answer in answers:
                allowed = answer.headers.get_all("Access-Control-Allow-Origin")
                assert allowed == ["*"], target
            assert answers[0].headers["X-Stamped"] == "yes"
            if target in SHARD_URLS:
                assert answers[0].body == DATA
            elif target in MISSING:
                assert answers[0].body == b""
            elif target in MISSING_JSON:
                assert answers[0].status == 404
                assert answers[0].headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("kind", SERVERS)
def test_two_blueprints(kind: str, tmp_path: Path) -> None:
    settings = []
    for name in ("one", "two"):
        model = bytes_model(tmp_path / name, OLD * 10 if name == "one" else NEW * 10)
        settings.append(
            {
                "name": name,
                "url_prefix": f"/{name}",
                "models": {"bytes": str(model.directory)},
            }
        )
    with serve(kind, tmp_path, {}, blueprints=settings) as server, Wire(server) as wire:
        for name, data in (("one", OLD * 10), ("two", NEW * 10)):
            assert wire.exchange("GET", f"/{name}/bytes", {}).status == 200
            answer = wire.exchange("GET", f"/{name}/bytes/{SHARD}", {})
            assert answer.body == data
