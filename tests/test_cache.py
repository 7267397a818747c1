"""Digests are computed once for all processes and restarts; and whatever becomes of the
cache, it only costs time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeApp
from conftest import grow_old
from filesystem import time_limit
from filesystem import unprivileged_directory
from flask import Flask
from models import DENSE_BYTES
from models import write_model

from flask_tfjs.locks import locked
from flask_tfjs.models import cache as cache_module
from flask_tfjs.models import files
from flask_tfjs.models.cache import Cache
from flask_tfjs.models.digests import Digest
from flask_tfjs.models.digests import Digests
from flask_tfjs.models.files import Identity
from flask_tfjs.models.files import OpenFile

SECOND = 1_000_000_000
DATABASE = "digests-1.sqlite3"
JSON = "/models/dense/model.json"


@pytest.fixture(autouse=True)
def never_hang() -> Iterator[None]:
    with time_limit(60):
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "w.bin").write_bytes(DENSE_BYTES)
    return tmp_path / "w.bin"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class Counting(Digests):
    """Digests of a process that has just started, long after all files were written."""

    def __init__(self, folder: Path | None, age: int = 60 * SECOND) -> None:
        cache = None if folder is None else Cache(str(folder))
        super().__init__(lambda: time.time_ns() + age, cache)
        self.computed = 0

    def _compute(self, file: OpenFile, key: str, offset: int, stop: int) -> Digest:
        self.computed += 1
        return super()._compute(file, key, offset, stop)


def computed(folder: Path | None, path: Path, *part: int) -> int:
    """How often a new process computes the digest of *path*. It must be right."""
    digests = Counting(folder)
    data = path.read_bytes()
    start, length = part or (0, len(data))
    for _ in range(2):
        digest = digests.of(str(path), *part)
        assert digest.sha256 == sha256(data[start : start + length])
        assert (digest.offset, digest.length, digest.settled) == (start, length, True)
    return digests.computed


# Once


def test_remembered_after_a_restart(folder: Path, path: Path) -> None:
    assert [computed(folder, path) for _ in range(3)] == [1, 0, 0]
    path.write_bytes(DENSE_BYTES[::-1])
    assert [computed(folder, path) for _ in range(2)] == [1, 0]


def test_parts_of_a_file(folder: Path, path: Path) -> None:
    parts = [(), (0, 16), (16, 16), (16, 8), (0, 0)]
    assert [computed(folder, path, *part) for part in parts] == [1] * 5
    assert [computed(folder, path, *part) for part in parts] == [0] * 5


def test_without_a_cache(path: Path) -> None:
    assert [computed(None, path) for _ in range(2)] == [1, 1]


def test_an_app_remembers(make_app: MakeApp, tmp_path: Path, folder: Path) -> None:
    counts = []
    for _ in range(2):
        app = make_app(TFJS_CACHE=folder)
        state = app.extensions["tfjs"]["tfjs"]
        assert state.cache.path == str(folder)
        counting = Counting(folder)
        state.catalogue.digests = counting
        assert app.test_client().get(JSON).status_code == 200
        counts.append(counting.computed)
    # The second app writes the model anew.
    assert counts == [1, 1]
    app = make_app(TFJS_CACHE=folder, TFJS_MODELS={"dense": tmp_path / "dense"})
    app.extensions["tfjs"]["tfjs"].catalogue.digests = counting
    assert app.test_client().get(JSON).status_code == 200
    assert counting.computed == 1


@pytest.mark.parametrize(
    ("age", "kept"), [(0, False), (1, False), (2, False), (3, True), (3600, True)]
)
def test_the_young_are_never_stored(
    folder: Path, path: Path, age: int, kept: bool
) -> None:
    """A write that leaves no trace would make the row wrong for ever."""
    os.utime(path, (1, 1))
    now = path.stat().st_ctime_ns + age * SECOND
    digests = Digests(lambda: now, Cache(str(folder)))
    assert digests.of(str(path)).settled is kept
    assert folder.exists() is kept
    assert computed(folder, path) == (0 if kept else 1)


def test_nothing_is_made_before_it_is_needed(app: Flask, tmp_path: Path) -> None:
    app.test_client().get("/models/unknown/model.json")
    assert not (tmp_path / "instance").exists()
    grow_old(app)
    app.test_client().get(JSON)
    assert (tmp_path / "instance" / "tfjs-cache" / DATABASE).exists()


def test_locks_are_not_left_behind(folder: Path, path: Path) -> None:
    assert computed(folder, path) == 1
    assert list((folder / "locks").iterdir()) == []


# Across processes

SCRIPT = """
import json, os, signal, sys, time
from flask_tfjs.models.cache import Cache
from flask_tfjs.models.digests import Digests

folder, path = sys.argv[1:3]

class Counting(Digests):
    computed = 0

    def _compute(self, *arguments):
        self.computed += 1
        return super()._compute(*arguments)

digests = Counting(lambda: time.time_ns() + 60_000_000_000, Cache(folder))
print("ready", flush=True)
sys.stdin.readline()
"""

DIGEST = """
digest = digests.of(path).sha256.hex()
print(json.dumps([digest, digests.computed]), flush=True)
"""


@contextlib.contextmanager
def processes(
    count: int, script: str, *arguments: Path
) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ready to go on with *script* at the next line of input."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    with contextlib.ExitStack() as stack:
        started = []
        for _ in range(count):
            process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT + script, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            started.append(process)
        for process in started:
            assert process.stdout and process.stdout.readline() == "ready\n"
        yield started


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> Any:
    assert process.stdout
    return json.loads(process.stdout.readline())


def test_another_process_remembers(folder: Path, path: Path) -> None:
    with processes(1, DIGEST, folder, path) as (process,):
        go(process)
        assert answer(process) == [sha256(DENSE_BYTES).hex(), 1]
    assert computed(folder, path) == 0


def test_one_hasher_for_all_processes(folder: Path, tmp_path: Path) -> None:
    data = os.urandom(1_000_000) * 64
    (tmp_path / "large.bin").write_bytes(data)
    with processes(8, DIGEST, folder, tmp_path / "large.bin") as started:
        for process in started:
            go(process)
        answers = [answer(process) for process in started]
    assert {digest for digest, _ in answers} == {sha256(data).hex()}
    assert sorted(count for _, count in answers) == [0] * 7 + [1]


HOLD = """
with digests._cache.alone("key"):
    print(json.dumps("held"), flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process(folder: Path, path: Path) -> None:
    took = []

    def take() -> None:
        with Cache(str(folder)).alone("key"):
            took.append(time.monotonic())

    with processes(1, HOLD, folder, path) as (process,):
        go(process)
        assert answer(process) == "held"
        waiting = threading.Thread(target=take)
        waiting.start()
        time.sleep(0.2)
        assert not took
        killed = time.monotonic()
        process.kill()
        waiting.join()
    assert took[0] - killed < 2


FORK = """
import threading

started, go_on = threading.Event(), threading.Event()
compute = digests._compute

def slowly(*arguments):
    started.set()
    go_on.wait()
    return compute(*arguments)

if len(sys.argv) > 3:
    digests._compute = slowly
    thread = threading.Thread(target=digests.of, args=(path,))
    thread.start()
    started.wait()
    digests._compute = compute
else:
    digests.of(path)
children = []
for _ in range(4):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(3)
        os.write(write, digests.of(path).sha256)
        os._exit(0)
    os.close(write)
    children.append((pid, read))
if len(sys.argv) > 3:
    time.sleep(0.3)  # until the children wait for the same digest
    go_on.set()
found = [os.read(read, 32).hex() for _, read in children]
ended = [os.waitpid(pid, 0)[1] for pid, _ in children]
print(json.dumps([found, ended]), flush=True)
"""


@pytest.mark.parametrize("hashing", [False, True], ids=["at rest", "while hashing"])
def test_forks(folder: Path, path: Path, hashing: bool) -> None:
    """As servers do that load the app first: neither a lock that a thread of the parent
    held nor a connection may go wrong in the children."""
    arguments = [path] if hashing else []
    with processes(1, FORK, folder, path, *arguments) as (process,):
        go(process)
        assert answer(process) == [[sha256(DENSE_BYTES).hex()] * 4, [0] * 4]


def test_one_hasher_for_all_threads(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(1_000_000) * 32)
    for cache in (folder, None):
        digests = Counting(cache)
        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(digests.of, [str(path)] * 8))
        assert (len(found), digests.computed) == (1, 1)


def test_hashing_does_not_block_others(make_app: MakeApp, tmp_path: Path) -> None:
    """The first request for a large model, and meanwhile requests for small ones, known
    and unknown."""
    count = 75_000_000
    weights = [{"name": "w", "shape": [count], "dtype": "float32"}]
    document = {"weightsManifest": [{"paths": ["w.bin"], "weights": weights}]}
    large = write_model(tmp_path / "large", document=document, shards={})
    with (large / "w.bin").open("wb") as file:
        file.truncate(4 * count)
    models = {"large": large, "dense": write_model(tmp_path / "dense")}
    for i in range(20):
        models[f"dense{i}"] = write_model(tmp_path / f"dense{i}")
    app = make_app(TFJS_MODELS=models)
    grow_old(app)
    assert app.test_client().get(JSON).status_code == 200

    def get(url: str) -> tuple[int, float]:
        started = time.monotonic()
        status = app.test_client().get(url).status_code
        return status, time.monotonic() - started

    with ThreadPoolExecutor(1) as pool:
        hashing = pool.submit(get, "/models/large/model.json")
        time.sleep(0.05)
        others = []
        for i in range(20):
            if hashing.done():
                break
            others += [get(f"/models/dense{i}/model.json"), get(JSON)]
        status, seconds = hashing.result()
    assert status == 200
    assert len(others) >= 4 and {status for status, _ in others} == {200}
    assert max(seconds for _, seconds in others) < seconds / 2


# Damage


def damage_row(database: Path) -> None:
    """One byte of the digest, as after a crash of the machine."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        ((key, digest),) = connection.execute("SELECT key, sha256 FROM digests")
        wrong = bytes([digest[0] ^ 1]) + digest[1:]
        connection.execute("UPDATE digests SET sha256 = ? WHERE key = ?", (wrong, key))


def row_of_another(database: Path) -> None:
    Cache(str(database.parent)).remember("another", sha256(b"another"))
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "UPDATE digests SET (sha256, proof) = "
            "(SELECT sha256, proof FROM digests WHERE key = 'another')"
        )


def empty_row(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE digests SET sha256 = NULL, proof = NULL")


def odd_row(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE digests SET sha256 = 'text', day = 'text'")


def other_table(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DROP TABLE digests")
        connection.execute("CREATE TABLE digests (key TEXT, other TEXT)")


def flip_all(database: Path) -> None:
    data = database.read_bytes()
    database.write_bytes(data[:100] + bytes(255 - byte for byte in data[100:]))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda database: database.write_bytes(b""),
    "garbage": lambda database: database.write_bytes(b"garbage" * 1000),
    "short": lambda database: os.truncate(database, 50),
    "truncated": lambda database: os.truncate(database, 4096),
    "half": lambda database: os.truncate(database, 6000),
    "flipped": flip_all,
    "row": damage_row,
    "row of another": row_of_another,
    "nothing in the row": empty_row,
    "text in the row": odd_row,
    "removed": os.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_database(
    folder: Path, path: Path, damage: Callable[[Path], object]
) -> None:
    assert computed(folder, path) == 1
    damage(folder / DATABASE)
    # Never believed, and mended: at the latest by what is stored next.
    assert computed(folder, path) == 1
    counts = [computed(folder, path) for _ in range(2)]
    assert counts[-1] == 0, counts


def test_every_flipped_byte(folder: Path, path: Path) -> None:
    """A digest that is believed is right, whatever else it costs."""
    assert computed(folder, path) == 1
    database = folder / DATABASE
    good = database.read_bytes()
    end = good.rindex(sha256(DENSE_BYTES)) + 60
    for position in [*range(0, 100, 9), *range(end - 220, min(end, len(good)))]:
        for flipped in (1, 2, 0xFF):
            spoiled = bytearray(good)
            spoiled[position] ^= flipped
            database.write_bytes(spoiled)
            computed(folder, path)


def test_another_layout_of_the_table(folder: Path, path: Path) -> None:
    """As another version may have made."""
    assert computed(folder, path) == 1
    other_table(folder / DATABASE)
    assert computed(folder, path) == 1


# What the cache can meet


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


def serves(app: Flask) -> bool:
    grow_old(app)
    client = app.test_client()
    with client.get(JSON) as response:
        ((shard,),) = [g["paths"] for g in response.get_json()["weightsManifest"]]
    with client.get(f"/models/dense/{shard}") as response:
        return bool(response.data == DENSE_BYTES)


OBSTACLES: dict[str, Callable[[Path], object]] = {
    "file": lambda folder: folder.write_bytes(b""),
    "loop": lambda folder: folder.symlink_to(folder),
    "dangling": lambda folder: folder.symlink_to("/nowhere/at/all"),
    "database is a folder": lambda folder: (folder / DATABASE).mkdir(parents=True),
    "locks is a file": lambda folder: write_model(folder, shards={"locks": b""}),
}


@pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=OBSTACLES)
def test_obstacles(
    make_app: MakeApp,
    folder: Path,
    path: Path,
    obstacle: Callable[[Path], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    obstacle(folder)
    app = make_app(TFJS_CACHE=folder)
    assert serves(app) and serves(app)
    found = warnings(caplog)
    assert found and len(set(found)) == len(found)
    for message in found:
        assert message.startswith(f"the cache {folder} (TFJS_CACHE): ")
        assert "all works without it" in message


def test_it_is_off(
    make_app: MakeApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert serves(make_app(TFJS_CACHE=None))
    assert not (tmp_path / "instance").exists()
    assert warnings(caplog) == []


def test_a_read_only_directory(caplog: pytest.LogCaptureFixture) -> None:
    """It is read all the same."""
    with unprivileged_directory() as folder:
        for name in ("known.bin", "unknown.bin"):
            (folder / name).write_bytes(DENSE_BYTES)
        cache = folder / "cache"
        assert computed(cache, folder / "known.bin") == 1
        cache.chmod(0o555)
        (cache / DATABASE).chmod(0o444)
        with contextlib.closing(sqlite3.connect(cache / DATABASE)) as connection:
            before = list(connection.execute("SELECT * FROM digests"))
        assert [computed(cache, folder / "known.bin") for _ in range(2)] == [0, 0]
        assert warnings(caplog) == []
        assert [computed(cache, folder / "unknown.bin") for _ in range(2)] == [1, 1]
        with contextlib.closing(sqlite3.connect(cache / DATABASE)) as connection:
            assert list(connection.execute("SELECT * FROM digests")) == before
        cache.chmod(0o755)
    assert warnings(caplog)


def test_a_failure_to_write_does_not_end_reading() -> None:
    with unprivileged_directory() as folder:
        for name in ("known.bin", "unknown.bin"):
            (folder / name).write_bytes(DENSE_BYTES)
        cache = folder / "cache"
        assert computed(cache, folder / "known.bin") == 1
        cache.chmod(0o555)
        digests = Counting(cache)
        for name in ("unknown.bin", "known.bin", "known.bin"):
            digests.of(str(folder / name))
        assert digests.computed == 1
        cache.chmod(0o755)


def test_a_read_only_directory_on_another_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can note when a digest was used last, it is used all the same."""
    with unprivileged_directory() as folder:
        (folder / "w.bin").write_bytes(DENSE_BYTES)
        cache = folder / "cache"
        with monkeypatch.context() as patch:
            patch.setattr(cache_module, "_today", lambda: 1)
            assert computed(cache, folder / "w.bin") == 1
        cache.chmod(0o555)
        assert computed(cache, folder / "w.bin") == 0


def test_a_directory_that_nobody_may_read(caplog: pytest.LogCaptureFixture) -> None:
    with unprivileged_directory() as folder:
        (folder / "w.bin").write_bytes(DENSE_BYTES)
        (folder / "cache").mkdir(0o000)
        assert [computed(folder / "cache", folder / "w.bin") for _ in range(2)] == [
            1,
            1,
        ]
        (folder / "cache").chmod(0o755)
    assert warnings(caplog)


FULL = """
import resource

# No file may grow: what a full disk does, without one.
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
"""


def test_a_full_disk(folder: Path, path: Path) -> None:
    with processes(1, FULL + DIGEST, folder, path) as (process,):
        go(process)
        assert answer(process) == [sha256(DENSE_BYTES).hex(), 1]
    assert computed(folder, path) == 1
    assert computed(folder, path) == 0


def test_another_process_writes_for_long(
    folder: Path,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cache_module, "_PATIENCE_SECONDS", 0.1)
    assert computed(folder, path) == 1
    database = folder / DATABASE
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        assert computed(folder, path) == 1
        assert time.monotonic() - started < 2
    assert "locked" in warnings(caplog)[0]
    assert computed(folder, path) == 0


def test_a_python_without_sqlite(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    assert [computed(folder, path) for _ in range(2)] == [1, 1]


def test_a_warning_is_given_once(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_bytes(b"")
    digests = Counting(folder)
    for i in range(5):
        path = tmp_path / str(i)
        path.write_bytes(b"")
        digests.of(str(path))
    assert len(caplog.records) == len(set(warnings(caplog))) <= 2
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert {record.name for record in caplog.records} == {"flask_tfjs"}


# Bounds


def rows(folder: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as connection:
        return {key for (key,) in connection.execute("SELECT key FROM digests")}


def test_the_number_of_digests(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_DIGESTS", 20)
    cache = Cache(str(folder))
    for i in range(100):
        cache.remember(f"key {i}", sha256(b"%d" % i))
        assert len(rows(folder)) <= 20
        assert cache.digest(f"key {i}") == sha256(b"%d" % i)
    assert len(rows(folder)) >= 18


def test_the_least_used_go_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_DIGESTS", 20)
    today = 20_000
    monkeypatch.setattr(cache_module, "_today", lambda: today)
    cache = Cache(str(folder))
    for i in range(20):
        cache.remember(f"key {i}", sha256(b"%d" % i))
    today += 1
    used = {f"key {i}" for i in range(0, 20, 2)}
    for key in used:
        assert cache.digest(key) is not None
    today += 1
    cache.remember("new", sha256(b"new"))
    assert used | {"new"} <= rows(folder)
    assert len(rows(folder)) == 18


def test_many_processes_write(folder: Path, path: Path) -> None:
    """All at once, each row once."""
    script = """
cache, pid = digests._cache, os.getpid()
keys = [f"{pid} {i}" for i in range(40)]
for key in keys:
    cache.remember(key, b"x" * 32)
print(json.dumps([cache.digest(key) == b"x" * 32 for key in keys]))
"""
    with processes(4, script, folder, path) as started:
        for process in started:
            go(process)
        assert [answer(process) for process in started] == [[True] * 40] * 4
    assert len(rows(folder)) == 160


def test_signals_reach_who_waits(folder: Path) -> None:
    """A worker that waits for a lock can still be stopped."""
    with Cache(str(folder)).alone("key"):
        with processes(1, HOLD, folder, folder) as (process,):
            go(process)
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == -signal.SIGTERM


def test_after_a_failure_it_pauses(folder: Path, tmp_path: Path) -> None:
    """A request asks for many digests: it must not wait for each."""
    shards = [tmp_path / f"{number}.bin" for number in range(20)]
    for shard in shards:
        shard.write_bytes(DENSE_BYTES)
    digests = Counting(folder)
    digests.of(str(shards[0]))
    with sqlite3.connect(folder / DATABASE) as other:
        other.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        for shard in shards:
            assert digests.of(str(shard)).sha256 == sha256(DENSE_BYTES)
        assert time.monotonic() - started < 2
    other.close()


def test_nobody_waits_for_ever_for_another_process(folder: Path, path: Path) -> None:
    with locked(str(path)):
        started = time.monotonic()
        with locked(str(path), 0.1):
            assert 0.1 <= time.monotonic() - started < 5
        # It was never held, so it was not released either.
        with locked(str(path), 0):
            pass


@pytest.mark.parametrize(("age_ns", "stored"), [(0, False), (1, True)])
def test_stamps_that_no_clock_made_are_not_stored(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch, age_ns: int, stored: bool
) -> None:
    """In images that were built with a fixed date, files of two builds have the same
    identity."""
    built = Identity(1, 2, len(DENSE_BYTES), 0, 1_000_000_000 + age_ns)
    monkeypatch.setattr(files, "_identity", lambda status: built)
    assert computed(folder, path) == 1
    assert computed(folder, path) == (0 if stored else 1)
