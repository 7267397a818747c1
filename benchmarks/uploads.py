"""Save a large model, and measure what that costs the server. See README.md."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import machine
from common import add_choice
from common import missing
from common import rotated
from common import temporary_folder
from contenders import Running
from contenders import Server
from contenders import Site
from contenders import running
from report import markdown_list
from report import markdown_table

TESTS = Path(__file__).resolve().parents[1] / "tests"
MODULES = {"granian": "granian", "gunicorn": "gunicorn", "waitress": "waitress"}
if not missing((), {"pytest": "pytest"}):
    sys.path.append(str(TESTS))
    import models
    import resident
    import uploading

VERSIONS_OF = ("flask", "werkzeug", "gunicorn", "waitress", "granian")
OURS, PLAIN = "ours", "plain"
MEGABYTE = 1_000_000
WEIGHT_BYTES = 4 * MEGABYTE

#: Seconds between two questions of who asks meanwhile.
PAUSE = 0.05
TIME_LIMIT = 300
SEND_BLOCK = 1024 * 1024

Command = Callable[[str, int], list[str]]


def _gunicorn(*options: str) -> Command:
    def command(application: str, port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "gunicorn", f"{application}:app", *options),
            *("--workers", "1", "--bind", f"127.0.0.1:{port}"),
            *("--log-level", "warning", "--no-control-socket", "--timeout", "300"),
        ]

    return command


def _dev(application: str, port: int) -> list[str]:
    # What it would print of each request is no part of the comparison.
    script = (
        "import importlib, logging, sys; from werkzeug.serving import run_simple; "
        "logging.getLogger('werkzeug').setLevel('ERROR'); "
        "app = importlib.import_module(sys.argv[1]).app; "
        "run_simple('127.0.0.1', int(sys.argv[2]), app, threaded=True)"
    )
    return [sys.executable, "-c", script, application, str(port)]


def _waitress(application: str, port: int) -> list[str]:
    listen = f"--listen=127.0.0.1:{port}"
    return [sys.executable, "-m", "waitress", listen, f"{application}:app"]


def _granian(application: str, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "granian", "--interface", "wsgi"),
        *("--host", "127.0.0.1", "--port", str(port), "--blocking-threads", "4"),
        *("--no-log", f"{application}:app"),
    ]


KINDS: dict[str, tuple[str, Command]] = {
    "gthread": (
        "gunicorn gthread, 1 worker x 4 threads",
        _gunicorn("--worker-class", "gthread", "--threads", "4"),
    ),
    "sync": ("gunicorn sync, 1 worker", _gunicorn("--worker-class", "sync")),
    "dev": ("the development server", _dev),
    "waitress": ("waitress, 4 threads", _waitress),
    "granian": ("granian, 1 worker x 4 threads", _granian),
}


@dataclass(frozen=True)
class Sample:
    """One upload.

    :ivar memory: bytes of the worker's peak above what it had before.
    :ivar answers: seconds that each answer to somebody else took meanwhile.
    """

    kind: str
    server: str
    seconds: float
    cpu_seconds: float
    memory: int
    answers: list[float]


@dataclass(frozen=True)
class Upload:
    path: Path
    length: int
    sha256: str


def main() -> int:
    options = _options()
    to_install = missing((), {**MODULES, "pytest": "pytest"})
    if to_install:
        print(to_install, file=sys.stderr)
        return 2
    facts = _facts(options)
    samples: list[Sample] = []
    with temporary_folder() as folder:
        models.write_model(folder / "models/small")
        warm_up = _write_upload(folder / "small.body", MEGABYTE)
        upload = _write_upload(folder / "large.body", options.megabytes * MEGABYTE)
        for kind in options.servers:
            print(KINDS[kind][0], file=sys.stderr)
            with _started(kind, folder) as servers:
                samples += _measure_all(kind, servers, warm_up, upload, options.rounds)
    rows = [_row(kind, samples) for kind in options.servers]
    print(f"{markdown_list(facts)}\n\n{markdown_table(HEADER, rows)}")
    if options.json:
        document = {"facts": facts, "samples": [asdict(one) for one in samples]}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500, help="of one upload")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    add_choice(parser, "--servers", list(KINDS))
    parser.set_defaults(servers=["gthread"])
    return parser.parse_args()


def _facts(options: argparse.Namespace) -> dict[str, str]:
    return {
        "command": shlex.join(["python", *sys.argv]),
        "method": (
            f"uploads of {options.megabytes} MB, {options.rounds} rounds; meanwhile "
            f"another client asks for a small model.json every {PAUSE * 1000:.0f} ms"
        ),
        **machine.description(VERSIONS_OF),
    }


def _write_upload(path: Path, size: int) -> Upload:
    """What ``model.save()`` sends of a model of *size* bytes."""
    count = max(size // WEIGHT_BYTES, 1)
    shape = [size // count // 4]
    specs = [
        {"name": f"weight-{i}", "shape": shape, "dtype": "float32"}
        for i in range(count)
    ]
    document = {
        **uploading.saved_document(),
        "weightsManifest": [{"paths": ["./model.weights.bin"], "weights": specs}],
    }
    end = f"\r\n--{uploading.BOUNDARY}--\r\n".encode()
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        file.write(uploading.saved(document, b"").removesuffix(end))
        for _ in specs:
            weight = os.urandom(size // count)
            hasher.update(weight)
            file.write(weight)
        file.write(end)
    return Upload(path, path.stat().st_size, hasher.hexdigest())


@contextmanager
def _started(kind: str, folder: Path) -> Iterator[list[Running]]:
    title, command = KINDS[kind]

    def server(name: str, application: str) -> Server:
        def started(site: Site, port: int) -> list[str]:
            return command(application, port)

        return Server(name, name, title, started)

    both = [server(OURS, "uploads_ours"), server(PLAIN, "uploads_plain")]
    here = folder / kind
    here.mkdir()
    with running(both, folder / "models", here) as servers:
        yield servers


def _measure_all(
    kind: str, servers: list[Running], warm_up: Upload, upload: Upload, rounds: int
) -> Iterator[Sample]:
    for server in servers:
        _send(server, warm_up)
        _get(server, "/models/small/model.json")
    for number in range(rounds):
        for server in rotated(servers, number):
            yield _measure(kind, server, upload)


def _measure(kind: str, server: Running, upload: Upload) -> Sample:
    pid = int(_get(server, "/pid"))
    before = resident.resident(pid)
    resident.forget_peak(pid)
    cpu_seconds = server.cpu_seconds()
    with _asking(server) as answers:
        began = time.perf_counter()
        _send(server, upload)
        seconds = time.perf_counter() - began
    cpu_seconds = server.cpu_seconds() - cpu_seconds
    memory = resident.peak(pid) - before
    return Sample(kind, server.server.name, seconds, cpu_seconds, memory, answers)


@contextmanager
def _asking(server: Running) -> Iterator[list[float]]:
    """Ask for a small model.json again and again, as long as the context lasts."""
    answers: list[float] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            began = time.perf_counter()
            _get(server, "/models/small/model.json")
            answers.append(time.perf_counter() - began)
            over.wait(PAUSE)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def _get(server: Running, path: str) -> bytes:
    with _connection(server) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{server.server.name}: {answer.status} of {path}")
    return body


def _send(server: Running, upload: Upload) -> None:
    headers = {
        "Content-Type": uploading.CONTENT_TYPE,
        "Content-Length": str(upload.length),
    }
    with _connection(server) as connection, upload.path.open("rb") as body:
        connection.request("POST", "/models/large", body, headers)
        answer = connection.getresponse()
        value = json.loads(answer.read())
    if answer.status != 201 or value.get("sha256", upload.sha256) != upload.sha256:
        raise RuntimeError(f"{server.server.name}: {answer.status}, {value}")


@contextmanager
def _connection(server: Running) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(
        "127.0.0.1", server.port, timeout=TIME_LIMIT, blocksize=SEND_BLOCK
    )
    with contextlib.closing(connection):
        yield connection


HEADER = [
    "server",
    "CPU s",
    "plain",
    "x plain",
    "seconds",
    "plain",
    "MB above start",
    "plain",
    "answers meanwhile",
    "slowest ms",
]


def _row(kind: str, samples: list[Sample]) -> list[str]:
    here = [one for one in samples if one.kind == kind]
    ours = [one for one in here if one.server == OURS]
    plain = [one for one in here if one.server == PLAIN]
    times = median(
        mine.cpu_seconds / theirs.cpu_seconds
        for mine, theirs in zip(ours, plain, strict=True)
    )
    answers = [seconds for one in ours for seconds in one.answers]
    return [
        KINDS[kind][0],
        *(f"{median(s.cpu_seconds for s in both):.2f}" for both in (ours, plain)),
        f"{times:.2f}",
        *(f"{median(s.seconds for s in both):.1f}" for both in (ours, plain)),
        *(f"{max(s.memory for s in both) / 1e6:.1f}" for both in (ours, plain)),
        f"{len(answers)}",
        f"{max(answers) * 1000:.0f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
