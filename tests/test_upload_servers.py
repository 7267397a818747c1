"""Uploads over real sockets: each server reads, frames and gives up bodies in its own
way, and nginx in front of them sends a body on before it listens."""

from __future__ import annotations

import collections.abc as cabc
import concurrent.futures
import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest
from models import DENSE_BYTES
from models import write_model
from servers import HOST
from servers import Server
from servers import require_program
from servers import serve
from servers import serve_nginx
from uploading import CONTENT_TYPE
from uploading import Answer
from uploading import Headers
from uploading import bearer
from uploading import dense_body
from uploading import exchange
from uploading import has_ended
from uploading import head
from uploading import multipart
from uploading import part
from uploading import read_answer
from uploading import read_weights
from uploading import saved
from uploading import saved_document
from uploading import sized_body
from uploading import snapshot

KINDS = ["werkzeug", "gunicorn-sync", "gunicorn-one-worker", "waitress", "granian"]
KEEP_ALIVE = ["gunicorn-one-worker", "waitress", "granian"]
THREADED = ["werkzeug", "gunicorn-one-worker"]

TOKEN = "s3cret"
BEARER = bearer(TOKEN)
LIMIT = 4 * 1024 * 1024
URL = "/models/dense/model.json"

# A connection is ended without more ado.
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Saver:
    """A server, where whoever has the token may save ``dense`` and others."""

    server: Server
    store: Path

    @property
    def kind(self) -> str:
        return self.server.kind

    def send(
        self,
        method: str = "POST",
        target: str = URL,
        body: bytes | cabc.Iterable[bytes] | None = None,
        headers: Headers = BEARER,
    ) -> Answer:
        body = dense_body() if body is None else body
        return exchange(self.server.address, method, target, body, headers)

    def get(self, target: str) -> Answer:
        return exchange(self.server.address, "GET", target)

    def pid(self) -> bytes:
        """Of a worker."""
        return self.get("/ready").body

    def snapshot(self) -> dict[str, bytes | None]:
        return snapshot(self.store)

    def settled(self, before: dict[str, bytes | None]) -> bool:
        """Whether the store becomes what it was."""
        deadline = time.monotonic() + 10
        while self.snapshot() != before:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


@contextlib.contextmanager
def serve_saver(kind: str, directory: Path, **config: t.Any) -> cabc.Iterator[Saver]:
    registered = write_model(directory / "registered")
    defaults = {
        "TFJS_MODELS": {"registered": str(registered)},
        "TFJS_UPLOADS": ["dense", "new", "counter"],
        "TFJS_MAX_UPLOAD": LIMIT,
    }
    with serve(kind, directory, {**defaults, **config}, token=TOKEN) as server:
        yield Saver(server, directory / "instance" / "tfjs-models")


@pytest.fixture(scope="module", params=KINDS)
def saver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> cabc.Iterator[Saver]:
    directory = tmp_path_factory.mktemp(request.param)
    with serve_saver(request.param, directory) as saver:
        assert saver.send().status == 201
        yield saver
        # Nothing of all that was sent is left, and nothing was unforeseen.
        assert not list(saver.store.glob(".tmp-*"))
        assert "Traceback" not in saver.server.log()


# The case table


def blocks(data: bytes, size: int = 1000) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


LARGE = sized_body(LIMIT)
ALLOWED = sized_body(3_000_000, b"\1")
CUT_OFF = dense_body()[:-6]

#: What is sent -> the status, and words of the reason.
REFUSED: dict[str, tuple[dict[str, t.Any], int, str]] = {
    "nobody": ({"headers": {}}, 401, "Bearer"),
    "nobody, large": ({"headers": {}, "body": LARGE}, 401, "Bearer"),
    "another": ({"headers": bearer("other")}, 403, "credentials"),
    "another, chunked": (
        {"headers": bearer("other"), "body": blocks(LARGE, 100_000)},
        403,
        "credentials",
    ),
    "another site": (
        {"headers": {"Origin": "https://evil.example"}},
        403,
        "another site",
    ),
    "registered": ({"target": "/models/registered"}, 405, "not allowed"),
    "registered, large": (
        {"target": "/models/registered", "body": LARGE},
        405,
        "not allowed",
    ),
    "unknown": ({"target": "/models/unknown", "body": LARGE}, 404, "unknown"),
    "not the model": ({"target": "/models/dense/x.json"}, 404, "x.json"),
    "conflict": ({"headers": {**BEARER, "If-Match": '"x"'}}, 412, "load it again"),
    "there": (
        {"headers": {**BEARER, "If-None-Match": "*"}, "body": ALLOWED},
        412,
        "load it again",
    ),
    "too large": ({"body": LARGE}, 413, f"allows {LIMIT}"),
    "too large, chunked": ({"body": blocks(LARGE, 65_536)}, 413, f"allows {LIMIT}"),
    "text": ({"headers": {**BEARER, "Content-Type": "text/plain"}}, 415, "multipart"),
    "gzip": (
        {"headers": {**BEARER, "Content-Encoding": "gzip"}},
        415,
        "Content-Encoding",
    ),
    "empty": ({"body": b""}, 400, "cut off"),
    "empty, chunked": ({"body": []}, 400, "cut off"),
    "cut off": ({"body": CUT_OFF}, 400, "last boundary"),
    "cut off, chunked": ({"body": blocks(CUT_OFF)}, 400, "last boundary"),
    "junk": ({"body": b"x" * 1_000_000}, 400, "multipart"),
    "junk, chunked": ({"body": blocks(b"x" * 1_000_000, 99_999)}, 400, "multipart"),
    "another part": ({"body": multipart(part("x", b"y"))}, 400, "'x'"),
    "a byte too few": ({"body": dense_body(DENSE_BYTES[:-1])}, 400, "31 bytes"),
    "bytes too many": ({"body": dense_body(bytes(99_999))}, 400, "99999 bytes"),
    "NaN": ({"body": saved(b'{"modelTopology": NaN}', b"")}, 400, "NaN"),
    "no weights": ({"body": saved(saved_document(), None)}, 400, "streamWeights"),
}


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_refused(saver: Saver, method: str) -> None:
    """Soon, with a reason, and the store is as it was."""
    before = saver.snapshot()
    for name, (request, status, words) in REFUSED.items():
        start = time.monotonic()
        answer = saver.send(method, **request)
        assert answer.status == status, (name, answer)
        assert words in answer.json["error"], name
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert time.monotonic() - start < 3, name
        assert saver.snapshot() == before, name


def test_stored(saver: Saver) -> None:
    version = saver.send().json["version"]
    sent: list[tuple[t.Any, int]] = [
        (dense_body(), 32),
        (blocks(dense_body(), 7), 32),
        (ALLOWED, 3_000_000),
        (blocks(ALLOWED, 65_537), 3_000_000),
    ]
    for body, length in sent:
        for method, status in (("POST", 201), ("PUT", 200)):
            version += 1
            answer = saver.send(method, body=body)
            assert answer.status == status, answer
            base = f"http://{HOST}"
            assert answer.json == {
                "name": "dense",
                "version": version,
                "url": base + URL,
                "pinned_url": f"{base}/models/dense/model.v{version}.json",
                "etag": answer.headers["ETag"].strip('"'),
            }
            assert answer.headers["Location"] == answer.json["pinned_url"]
            assert len(read_weights(saver.store / "dense")) == length


def test_curl(saver: Saver, tmp_path: Path) -> None:
    """Another client, which asks first (``Expect: 100-continue``)."""
    curl = require_program("curl")
    (tmp_path / "model.json").write_text(json.dumps(saved_document()))
    (tmp_path / "weights").write_bytes(DENSE_BYTES)
    (tmp_path / "large").write_bytes(bytes(LIMIT))

    def send(weights: str, *options: str) -> str:
        command = [
            *(curl, "--silent", "--show-error", "--noproxy", "*", "--max-time", "20"),
            *("--output", "answer", "--write-out", "%{http_code}", *options),
            *("--header", "Expect: 100-continue"),
            *("--form", "model.json=@model.json;type=application/json"),
            *("--form", f"model.weights.bin=@{weights}", saver.server.url + URL),
        ]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout

    token = ("--header", f"Authorization: Bearer {TOKEN}")
    assert send("weights", *token) == "201"
    assert send("weights", *token, "--request", "PUT") == "200"
    assert send("weights") == "401"
    assert send("large", *token) == "413"
    chunked = ("--header", "Transfer-Encoding: chunked")
    assert send("weights", *token, *chunked) == "201"


def test_connection_stays_in_step(saver: Saver) -> None:
    """What is left of a refused body is not the next request."""
    hidden = f"GET {URL} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 5000
    with contextlib.closing(saver.server.http()) as connection:
        for name, (request, status, _) in REFUSED.items():
            body = request.get("body", hidden)
            headers = {"Content-Type": CONTENT_TYPE, **request.get("headers", BEARER)}
            connection.request("POST", request.get("target", URL), body, headers)
            response = connection.getresponse()
            response.read()
            assert response.status in (status, 400), name
            connection.request("GET", "/ready")
            response = connection.getresponse()
            assert response.status == 200, name
            assert response.read().isdigit(), name


# Clients that are gone


def leave(sock: socket.socket, how: str) -> int | None:
    """End a connection; return the status of what comes yet."""
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    if how != "half":
        sock.close()
        return None
    sock.shutdown(socket.SHUT_WR)
    try:
        return read_answer(sock).status
    except (ConnectionError, http.client.HTTPException):
        return None


@pytest.mark.parametrize("how", ["close", "reset", "half"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_client_is_gone(saver: Saver, how: str, framing: str) -> None:
    """In the midst of the JSON, of the weights, before the last boundary; nothing of it
    stays, and the worker lives."""
    assert saver.send().status == 201
    before, pid = saver.snapshot(), saver.pid()
    body = sized_body(2_000_000, b"\2")
    for sent in (0, 100, 1_000_000, len(body) - 3):
        with saver.server.connect() as sock:
            if framing == "length":
                sock.sendall(head("POST", URL, BEARER, len(body)) + body[:sent])
            else:
                sock.sendall(head("POST", URL, BEARER))
                for block in blocks(body[:sent], 50_000):
                    sock.sendall(f"{len(block):x}\r\n".encode() + block + b"\r\n")
            status = leave(sock, how)
            assert status in (None, 400), (sent, status)
    assert saver.settled(before)
    assert saver.pid() == pid
    assert saver.send().status == 201


@pytest.mark.parametrize("headers", [BEARER, {}], ids=["allowed", "refused"])
def test_a_chunked_body_that_is_damaged(saver: Saver, headers: Headers) -> None:
    before, pid = saver.snapshot(), saver.pid()
    for damage in (b"zz\r\n", b"-5\r\nabcde\r\n", b"5\r\nabcdefgh\r\n", b"\r\n", b"5;"):
        with saver.server.connect(timeout=10) as sock:
            block = dense_body()[:300]
            sock.sendall(head("POST", URL, {**headers, "Connection": "close"}))
            sock.sendall(f"{len(block):x}\r\n".encode() + block + b"\r\n" + damage)
            status = leave(sock, "half")
            assert status in (None, 400, 401), (damage, status)
    assert saver.settled(before)
    assert saver.pid() == pid


def test_no_framing(saver: Saver) -> None:
    """A POST that announces no body has none."""
    before = saver.snapshot()
    with saver.server.connect() as sock:
        lines = head("POST", URL, {**BEARER, "Connection": "close"}, 0)
        sock.sendall(lines.replace(b"Content-Length: 0\r\n", b""))
        assert read_answer(sock).status in (400, 411)
    assert saver.settled(before)


def test_a_client_that_stalls(tmp_path: Path) -> None:
    """Nobody waits for the rest of a refused body for more than some seconds, be it
    that nothing comes or very little."""
    length = 30_000_000
    cases = [("stalls", {}, 401), ("trickles", {}, 401), ("stalls", BEARER, 413)]

    def wait(saver: Saver, how: str, headers: Headers, status: int) -> float:
        start = time.monotonic()
        with saver.server.connect(timeout=20) as sock:
            sock.sendall(head("POST", URL, headers, length) + b"x" * 100_000)
            stop = threading.Event()
            trickling = threading.Thread(target=trickle, args=(sock, stop))
            if how == "trickles":
                trickling.start()
            try:
                with contextlib.suppress(TimeoutError):
                    assert read_answer(sock).status == status
                    assert has_ended(sock)
            finally:
                stop.set()
                if how == "trickles":
                    trickling.join()
        return time.monotonic() - start

    def trickle(sock: socket.socket, stop: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(0.2):
                sock.sendall(b"x")

    with contextlib.ExitStack() as stack:
        savers = [
            stack.enter_context(serve_saver(kind, tmp_path / kind)) for kind in THREADED
        ]
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(6))
        waits = {
            (saver.kind, how, status): pool.submit(wait, saver, how, headers, status)
            for saver in savers
            for how, headers, status in cases
        }
        took = {case: future.result() for case, future in waits.items()}
        assert max(took.values()) < 8, took
        for saver in savers:
            assert saver.send().status == 201


# Others meanwhile


def test_other_requests_go_on(tmp_path: Path) -> None:
    """One worker of four threads, and a client that takes its time."""
    size = 20_000_000
    with serve_saver(
        "gunicorn-one-worker", tmp_path, TFJS_MAX_UPLOAD=2 * size
    ) as saver:
        assert saver.send().status == 201
        body = sized_body(size)
        targets = URL, "/models/registered", "/models/registered/weights.bin"
        waits = []
        with saver.server.connect() as sock:
            sock.sendall(head("PUT", "/models/new", BEARER, len(body)))
            for block in blocks(body, 500_000):
                # Before the block, since the last one may publish it at once.
                assert saver.get("/models/new").status == 404
                sock.sendall(block)
                for target in targets:
                    start = time.monotonic()
                    assert saver.get(target).status == 200
                    waits.append(time.monotonic() - start)
            answer = read_answer(sock)
        assert answer.status == 201, answer
        assert len(waits) > 100 and max(waits) < 2
        assert saver.get("/models/new").status == 200


def test_compare_and_swap(tmp_path: Path) -> None:
    """Eight clients count to ten each, at the same time, in one model."""
    threads, times = 8, 10
    url = "/models/counter/model.json"

    def body(count: int) -> bytes:
        return dense_body(userDefinedMetadata={"count": count})

    with serve_saver("gunicorn", tmp_path) as saver:
        assert saver.send(target=url, body=body(0)).status == 201

        def count(number: int) -> int:
            conflicts = done = 0
            coding = ["identity", "gzip", "br"][number % 3]
            target = [url, "/models/counter"][number % 2]
            while done < times:
                asked = {"Accept-Encoding": coding}
                now = exchange(saver.server.address, "HEAD", target, headers=asked)
                read = saver.get(url)
                digest = read.headers["ETag"].strip('"')
                if digest not in now.headers["ETag"]:
                    continue  # somebody was faster
                n = read.json["userDefinedMetadata"]["count"]
                headers = {**BEARER, "If-Match": now.headers["ETag"]}
                answer = saver.send("PUT", url, body(n + 1), headers)
                assert answer.status in (200, 412), answer
                done += answer.status == 200
                conflicts += answer.status == 412
            return conflicts

        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            conflicts = sum(pool.map(count, range(threads)))
        last = saver.get(url).json
        assert last["userDefinedMetadata"]["count"] == threads * times
        assert last["flaskTfjs"]["version"] == threads * times + 1
        assert conflicts > 0
        for version in range(1, threads * times + 2):
            path = saver.store / "counter" / f"model.v{version}.json"
            metadata = json.loads(path.read_bytes())["userDefinedMetadata"]
            assert metadata == {"count": version - 1}


def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    """In the midst of an upload: nothing of it is visible, and the next sweeps it."""
    with serve_saver("gunicorn-one-worker", tmp_path) as saver:
        assert saver.send().status == 201
        before = saver.snapshot()
        for _ in range(3):
            body = sized_body(3_000_000, b"\3")
            pid = int(saver.pid())
            with saver.server.connect() as sock:
                sock.sendall(head("POST", URL, BEARER, len(body)) + body[:2_000_000])
                wait_for(lambda: any(saver.store.glob(".tmp-*/[0-9]*")))
                os.kill(pid, signal.SIGKILL)
                assert has_ended(sock)
            visible = {n: d for n, d in saver.snapshot().items() if n[0] != "."}
            assert visible == {n: d for n, d in before.items() if n[0] != "."}
            wait_for(lambda pid=pid: int(saver.pid()) != pid)  # type: ignore[misc]
            assert saver.get(URL).status == 200
            assert any(saver.store.glob(".tmp-*"))
            assert saver.send().status == 201
            assert not any(saver.store.glob(".tmp-*"))
            before = saver.snapshot()


def wait_for(true: cabc.Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if true():
                return
        assert time.monotonic() < deadline
        time.sleep(0.02)


# nginx in front

MANY = 30_000_000

#: Of each refusal; without the draining, every other is a 502.
TRIES = int(os.environ.get("FLASK_TFJS_TRIES", "1"))

#: Refusals of an upload of 30 MB.
BEHIND_NGINX: dict[int, tuple[str, Headers]] = {
    401: (URL, {}),
    403: (URL, bearer("other")),
    404: ("/models/unknown", BEARER),
    405: ("/models/registered", BEARER),
    412: (URL, {**BEARER, "If-Match": '"x"'}),
    413: ("/models/new", BEARER),
    415: (URL, {**BEARER, "Content-Type": "text/plain"}),
}


@pytest.mark.parametrize("kind", ["gunicorn-one-worker", "granian"])
def test_behind_nginx(kind: str, tmp_path: Path) -> None:
    """A refusal comes as such, not as 502, every time."""
    limit = MANY + 1000
    with (
        serve_saver(kind, tmp_path, TFJS_MAX_UPLOAD=limit) as saver,
        serve_nginx(tmp_path / "nginx", saver.server) as nginx,
    ):
        through = Saver(nginx, saver.store)
        assert through.send().status == 201
        before = saver.snapshot()

        def send(status: int) -> int:
            target, headers = BEHIND_NGINX[status]
            size = limit if status == 413 else MANY
            return through.send("POST", target, sized_body(size), headers).status

        wanted = list(BEHIND_NGINX) * TRIES
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            seen = list(pool.map(send, wanted))
        assert seen == wanted
        assert saver.snapshot() == before
        # What is refused for its content, after it was read, too.
        for body in (ALLOWED[:-9], dense_body(bytes(3_000_000))):
            assert through.send(body=body).status == 400
        answer = through.send("PUT", "/models/new", blocks(ALLOWED, 9999))
        assert answer.status == 201
        assert answer.json["url"] == f"http://{HOST}/models/new/model.json"


def test_hostile_heads(saver: Saver) -> None:
    """Header values of any bytes are no fault of ours."""
    before = saver.snapshot()
    values = ["\xff", '"', "W/", "*" * 500, "\t", "boundary=", ";;;=", "'%00"]
    names = ["If-Match", "If-None-Match", "Content-Type", "Origin", "Content-Encoding"]
    for name, value in itertools.product(names, values):
        answer = saver.send(headers={**BEARER, name: value})
        assert answer.status < 500, (name, value)
        if answer.status < 400:
            before = saver.snapshot()
    assert saver.settled(before)
