"""Referees that nobody here wrote: the validator of PEP 3333, REDbot, and whether
real servers stay in step with a client on one connection."""

from __future__ import annotations

import collections.abc as cabc
import hashlib
import json
import subprocess
import sys
import typing as t
from pathlib import Path
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from conftest import MakeApp
from conftest import grow_old
from flask import Flask
from models import dense_document
from models import write_model
from servers import SERVERS
from servers import Server
from servers import module_found
from servers import require
from servers import serve

#: Large enough to be worth a part, and to be sent in several blocks.
FLOATS = 300_000
SHARD = bytes(range(240)) * (FLOATS * 4 // 240)


def write_models(directory: Path) -> dict[str, str]:
    weights = [{"name": "w", "shape": [FLOATS], "dtype": "float32"}]
    manifest = [{"paths": ["weights.bin"], "weights": weights}]
    write_model(
        directory / "dense",
        document=dense_document(weightsManifest=manifest),
        shards={"weights.bin": SHARD},
    )
    (directory / "dense" / "labels.txt").write_bytes(b"cat\ndog\n")
    (directory / "dense" / "metadata.json").write_bytes(b'{"labels": []}')
    write_model(directory / "broken", shards={"weights.bin": b"short"})
    return {name: str(directory / name) for name in ("dense", "broken")}


class Answer(t.NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def call(app: Flask, method: str, path: str, headers: dict[str, str]) -> Answer:
    """One request by the letter of PEP 3333."""
    environ: dict[str, t.Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        **{
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in headers.items()
        },
    }
    setup_testing_defaults(environ)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: t.Any = None
    ) -> cabc.Callable[[bytes], object]:
        started.append((status, headers))
        return lambda data: None

    iterator = t.cast(t.Any, validator(app)(environ, start_response))
    try:
        body = b"".join(iterator)
    finally:
        iterator.close()
    [(status, answered)] = started
    return Answer(int(status[:3]), dict(answered), body)


@pytest.fixture
def app(make_app: MakeApp, tmp_path: Path) -> Flask:
    return make_app(TFJS_MODELS=write_models(tmp_path), TFJS_INDEX=True)


SHARD_PATH = "/models/dense/weights.bin"
JSON_PATH = "/models/dense/model.json"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/models", {}, 200),
        ("GET", "/models/dense", {}, 200),
        ("GET", JSON_PATH, {}, 200),
        ("GET", JSON_PATH, {"Accept-Encoding": "gzip"}, 200),
        ("GET", JSON_PATH, {"If-None-Match": "*"}, 304),
        ("GET", JSON_PATH, {"If-Match": '"x"'}, 412),
        ("HEAD", JSON_PATH, {}, 200),
        ("GET", SHARD_PATH, {}, 200),
        ("GET", SHARD_PATH, {"Range": "bytes=7-600000"}, 206),
        ("GET", SHARD_PATH, {"Range": "bytes=99999999-"}, 416),
        ("GET", SHARD_PATH, {"If-None-Match": "*"}, 304),
        ("GET", SHARD_PATH, {"If-Match": '"x"'}, 412),
        ("HEAD", SHARD_PATH, {}, 200),
        ("HEAD", SHARD_PATH, {"If-None-Match": "*"}, 304),
        ("GET", "/models/dense/labels.txt", {}, 200),
        ("GET", "/models/dense/metadata.json", {}, 200),
        ("GET", "/models/dense/missing.bin", {}, 404),
        ("HEAD", "/models/dense/missing.bin", {}, 404),
        ("GET", "/models/unknown", {}, 404),
        ("GET", "/models/broken/model.json", {}, 500),
        ("GET", "/models/broken/weights.bin", {}, 500),
        ("POST", JSON_PATH, {}, 405),
        ("DELETE", SHARD_PATH, {}, 405),
        ("OPTIONS", JSON_PATH, {"Origin": "https://other.example"}, 204),
        ("OPTIONS", SHARD_PATH, {}, 204),
    ],
)
@pytest.mark.parametrize("aged", [False, True], ids=["young", "old"])
def test_answers_pass_the_validator(
    app: Flask,
    aged: bool,
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
) -> None:
    if aged:
        grow_old(app)
    answer = call(app, method, path, headers)
    assert answer.status == status
    if method == "HEAD" or status in (204, 304):
        assert answer.body == b""
    else:
        assert answer.headers["Content-Length"] == str(len(answer.body))


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> cabc.Iterator[Server]:
    directory = tmp_path_factory.mktemp(request.param)
    config = {"TFJS_MODELS": write_models(directory)}
    with serve(request.param, directory, config) as server:
        yield server


@pytest.fixture(scope="module")
def gunicorn(tmp_path_factory: pytest.TempPathFactory) -> cabc.Iterator[Server]:
    directory = tmp_path_factory.mktemp("referee")
    config = {"TFJS_MODELS": write_models(directory)}
    with serve("gunicorn", directory, config) as server:
        yield server


@pytest.mark.parametrize(
    "path",
    [
        JSON_PATH,
        "/models/dense",
        "/models/dense/",
        SHARD_PATH,
        "/models/dense/labels.txt",
        "/models/dense/metadata.json",
        "/models/dense/missing.bin",
        "/models/unknown",
        "/models/broken/model.json",
    ],
)
def test_redbot_finds_nothing_bad(gunicorn: Server, path: str) -> None:
    require(module_found("redbot"), "redbot")
    # The loop that it runs on is the only one of its process.
    command = [sys.executable, "-m", "redbot.cli", "-o", "har", gunicorn.url + path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    [entry] = json.loads(ended.stdout)["log"]["entries"]
    notes = entry["_red_messages"]
    assert notes
    for note in notes:
        print(f"{note['level']:7} {note['note_id']}: {note['summary']}")
    assert not [note for note in notes if note["level"] in ("BAD", "WARN")]


@pytest.mark.parametrize("path", [JSON_PATH, SHARD_PATH, "/models/dense/missing.bin"])
@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("HEAD", {}, None),
        ("HEAD", {"Range": "bytes=0-1"}, None),
        ("GET", {"If-None-Match": "*"}, None),
        ("GET", {"If-Match": '"x"'}, None),
        ("GET", {"Range": "bytes=99999999-"}, None),
        ("GET", {"Range": "bytes=5-600000"}, None),
        ("OPTIONS", {}, None),
        ("POST", {}, b"x" * 1000),
        ("FROB", {}, None),
    ],
)
def test_connection_stays_in_step(
    server: Server,
    path: str,
    method: str,
    headers: dict[str, str],
    body: bytes | None,
) -> None:
    connection = server.http()
    connection.request(method, path, body=body, headers=headers)
    with connection.getresponse() as answer:
        received = answer.read()
        length = answer.getheader("Content-Length")
        if method == "HEAD" or answer.status in (204, 304):
            assert received == b""
        else:
            assert length == str(len(received))
    connection.request("GET", SHARD_PATH)
    with connection.getresponse() as answer:
        assert answer.status == 200
        assert hashlib.sha256(answer.read()).digest() == hashlib.sha256(SHARD).digest()
    connection.close()


@pytest.mark.parametrize(
    "target",
    [
        "/models/../passwd",
        "/models/dense/../../passwd",
        "/models/dense/%2e%2e/%2e%2e/passwd",
        "/models/dense/..%2f..%2fpasswd",
        "/models/dense/..%5c..%5cpasswd",
        "/models/dense/..\\..\\passwd",
        "/models/dense/%252e%252e/passwd",
        "/models/dense/%c0%ae%c0%ae/passwd",
        "/models/dense//weights.bin",
        "/models/dense/./weights.bin",
        "/models/dense/weights.bin/",
        "/models/dense/weights.bin%00",
        "/models/dense/%zz%",
        "/models/dense/" + "a" * 3000,
    ],
    ids=lambda target: str(target)[:40],
)
def test_raw_targets_are_refused(server: Server, target: str) -> None:
    with server.connect() as wire:
        lines = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        wire.sendall(lines.encode("latin-1"))
        received = b""
        while block := wire.recv(65536):
            received += block
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.split()[1] in (b"400", b"404")
    assert SHARD[:100] not in body
