"""A model that several processes publish at once, while TensorFlow.js loads it, and a
verdict on each load. As in tearing.py, all that a client sees of a file tells which
version it is of.

Run as a script, it is one of those processes.
"""

from __future__ import annotations

import collections.abc as cabc
import contextlib
import http.client
import itertools
import json
import os
import shutil
import struct
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import tearing
from clients.drivers import Chromium
from publishing import NAME
from publishing import collect
from publishing import new_app
from publishing import put
from publishing import store_of
from servers import HOST
from servers import TESTS
from servers import Server
from servers import serve
from tearing import FIRST_VERSION
from tearing import SHARDS
from tearing import Report
from tearing import State
from uploading import CONTENT_TYPE
from uploading import bearer
from uploading import dense_body
from uploading import read_weights
from uploading import saved

from flask_tfjs.models import quiet

TOKEN = "s3cret"

#: Processes that publish, by what they do it with.
WRITERS = ("publish()", "model.save()", "publish()", "model.save()")

# Shorter than anybody would set it, for it to matter: seconds.
GRACE = 5
RETENTION = {"TFJS_KEEP_VERSIONS": 2, "TFJS_GRACE": GRACE}

# As many versions as have the first shards in common.
SERIES = 8

# Between two cleanings, which others do after each version anyway.
GC_PAUSE = 0.1

KEEP_ALL = {"TFJS_KEEP_VERSIONS": 10_000}


def state_of(version: int) -> State:
    """Some shards of it are those of versions before."""
    shared = version // SERIES * SERIES
    return State(version, (shared, shared) + (version,) * (SHARDS - 2))


def verdict(report: Report) -> str:
    """As :class:`tearing.Load` has it."""
    if "error" in report:
        return "failed"
    seen: tearing.Sight = {"document": report["document"], "weights": report["weights"]}
    return "whole" if state_of(seen["document"]).sight() == seen else "torn"


# Publishing


@contextlib.contextmanager
def serving(root: Path, config: dict[str, t.Any]) -> cabc.Iterator[Server]:
    """A server of the model that is published below *root*."""
    config = {**config, "TFJS_UPLOADS": [NAME]}
    with serve("gunicorn", root, config, token=TOKEN) as server:
        yield server


@contextlib.contextmanager
def republishing(root: Path, server: Server) -> cabc.Iterator[None]:
    """Publish as fast as it goes, and clean up, as long as the context lasts."""
    jobs = [
        {"task": task, "writer": number, "root": str(root), "port": server.port}
        for number, task in enumerate([*WRITERS, "gc"])
    ]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(start(job, root / f"writer-{number}.log"))
            for number, job in enumerate(jobs)
        ]

        def require_running() -> None:
            for number, process in enumerate(processes):
                log = (root / f"writer-{number}.log").read_text()
                assert process.poll() is None, log[-4000:]

        while last_version(root) < 2 * len(WRITERS):
            require_running()
            time.sleep(0.05)
        yield
        require_running()


@contextlib.contextmanager
def start(job: dict[str, t.Any], log: Path) -> cabc.Iterator[subprocess.Popen[bytes]]:
    path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(job)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def last_version(root: Path) -> int:
    try:
        document = json.loads((store_of(root) / NAME / "model.json").read_bytes())
    except FileNotFoundError:
        return 0
    version: int = document["flaskTfjs"]["version"]
    return version


# Loading


def load(
    node: str, chromium: Chromium | None, server: Server, loads: int, folder: Path
) -> list[Report]:
    """What real clients got, who loaded the model so many times together.

    :param chromium: with the page ``loads.html``, that takes every third load.
    """
    urls = [f"{server.url}/models/{NAME}{end}" for end in ("/model.json", "", "/")]
    rates = {"lanes": tearing.LANES, "pause": 50, "delay": tearing.DELAY_MS}
    shares = [loads - 2 * (loads // 3), loads // 3, loads // 3]
    if chromium is None:
        shares = [loads - loads // 2, loads // 2, 0]
    *in_node, in_chromium = [{"urls": urls, "loads": n, **rates} for n in shares]
    logs = [folder / f"loads-{number}" for number in range(len(in_node))]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(tearing.start_loads(node, job, log))
            for job, log in zip(in_node, logs, strict=True)
        ]
        job: t.Any = in_chromium
        found: t.Any = [] if chromium is None else chromium.run(job)
        codes = [process.wait() for process in processes]
    assert codes == [0] * len(logs), [tearing.errors(log) for log in logs]
    lines = [line for log in logs for line in log.read_text().splitlines()]
    reports: list[Report] = [*found, *map(json.loads, lines)]
    assert len(reports) == loads
    return reports


# Counting


class Counts(t.NamedTuple):
    """What came of updates, each made of what its writer had loaded.

    :ivar updates: how many of them are in the model.
    :ivar versions: all there are, the oldest first.
    :ivar retries: how often somebody else was faster.
    """

    updates: int
    versions: list[int]
    retries: int


def count(root: Path, processes: int, times: int) -> Counts:
    """Let so many processes each add one so many times, over HTTP."""
    with serving(root, KEEP_ALL) as server, contextlib.ExitStack() as stack:
        save(server.port, counted(0), {})
        logs = [root / f"count-{number}.log" for number in range(processes)]
        job = {"task": "count", "port": server.port, "times": times}
        running = [stack.enter_context(start(job, log)) for log in logs]
        codes = [process.wait() for process in running]
    assert codes == [0] * processes, [log.read_text()[-2000:] for log in logs]
    folder = store_of(root) / NAME
    weights = set(struct.unpack("<8f", read_weights(folder)))
    assert len(weights) == 1
    numbers = [int(path.name.split(".")[1][1:]) for path in folder.glob("model.v*")]
    retries = sum(int(log.read_text()) for log in logs)
    return Counts(int(weights.pop()), sorted(numbers), retries)


def counted(number: int) -> bytes:
    """The upload of a model that has counted so far."""
    weights = struct.pack("<8f", *[number] * 8)
    return dense_body(weights, userDefinedMetadata={"count": number})


def save(port: int, body: bytes, headers: dict[str, str]) -> int:
    """The status of an upload."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    with contextlib.closing(connection):
        headers = {**headers, **bearer(TOKEN), "Content-Type": CONTENT_TYPE}
        connection.request("POST", f"/models/{NAME}", body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status


def look(port: int) -> tuple[int, str]:
    """How far it is counted, and the tag of that."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", f"/models/{NAME}/model.json")
        answer = connection.getresponse()
        document = json.loads(answer.read())
        assert answer.status == 200, document
        return document["userDefinedMetadata"]["count"], answer.headers["ETag"]


# The processes


def _write(job: dict[str, t.Any]) -> None:
    root = Path(job["root"])
    app = new_app(root, **RETENTION)
    source = root / f"source-{job['writer']}"
    first = FIRST_VERSION + job["writer"]
    for version in itertools.count(first, len(WRITERS)):
        state = state_of(version)
        if job["task"] == "publish()":
            shutil.rmtree(source, ignore_errors=True)
            tearing.write_all(source, state.files())
            put(app, source)
        else:
            shards = state.files()
            document = json.loads(shards.pop(tearing.ENTRY))
            status = save(job["port"], saved(document, b"".join(shards.values())), {})
            assert status == 201, status


def _clean(job: dict[str, t.Any]) -> None:
    app = new_app(Path(job["root"]), **RETENTION)
    while True:
        assert not collect(app)
        time.sleep(GC_PAUSE)


def _count(job: dict[str, t.Any]) -> None:
    retries = 0
    for _ in range(job["times"]):
        while True:
            number, etag = look(job["port"])
            status = save(job["port"], counted(number + 1), {"If-Match": etag})
            if status == 201:
                break
            assert status == 412, status
            retries += 1
    print(retries)


if __name__ == "__main__":
    quiet.QUIET_NS = 0  # what is published here is whole
    given = json.loads(sys.argv[1])
    {"gc": _clean, "count": _count}.get(given["task"], _write)(given)
