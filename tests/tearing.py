"""Models that are rewritten while TensorFlow.js loads them, and a verdict on each load:
whole, failed, or torn, which is weights or JSON of two states in one model.

Every file has a version, and all that a client can see of it tells which. A load is
whole when what arrived is exactly one of the states that were written; what nobody
wrote, be it a mixture or an error page taken for weights, is torn.
"""

from __future__ import annotations

import collections.abc as cabc
import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import os
import random
import shutil
import struct
import subprocess
import threading
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

from reference import CLIENTS
from reference import graph_model

ENTRY = "model.json"

#: How a model is replaced: each file overwritten, a bit at a time; each by a file that
#: is renamed onto it; the whole directory, by a link that leads to another one.
MODES = ("overwritten", "renamed", "switched")

# Small enough for the buffers of a connection: tfjs in Node reads no shard before the
# headers of all have come, and a server must not wait for it with all of its threads.
SHARD_BYTES = 256 * 1024
FLOATS = SHARD_BYTES // 4
SHARDS = 5
QUANTIZED = 4
SCALE = 0.5

# Weight -> (shard, elements of it) in order; two of them lie in two shards each.
PIECES = {
    "kernel": [(0, FLOATS), (1, FLOATS // 2)],
    "bias": [(1, FLOATS - FLOATS // 2), (2, FLOATS)],
    "dense": [(3, FLOATS)],
    "quantized": [(QUANTIZED, SHARD_BYTES)],
}

# Five digits in every JSON and every name, so that no size tells two states apart.
FIRST_VERSION = 10_001
NO_LABEL = "00000"

# Seconds. A state is written in some tens of milliseconds and then left alone.
FILE_PAUSE = 0.03
CHUNK_PAUSE = 0.004
REST = (0.8, 1.6)

# Seconds without a write after which a server may well take a state for finished. A
# busy machine can hold a writer up for so long; what is seen of that state is no proof.
HELD_UP = 0.4

# What becomes new, and how often: all of it under the same names; all of it, and the
# names of the shards; the JSON and some shards; the shards alone.
KINDS = {"all": 5, "named": 2, "some": 2, "weights": 1}

# States whose files stay, as deployments leave them for those who still load.
KEPT_STATES = 3

# What copying tools make of a time stamp: seconds since the epoch, long ago.
OLD_STAMP = 1_700_000_000


@dataclass(frozen=True)
class State:
    """The version of each file; `label` is a part of the names of the shards."""

    document: int
    shards: tuple[int, ...]
    label: str = NO_LABEL

    def shard_name(self, index: int) -> str:
        return f"group1-shard{index + 1}of{SHARDS}-{self.label}.bin"

    def files(self) -> dict[str, bytes]:
        shards = {
            self.shard_name(index): shard_bytes(index, version)
            for index, version in enumerate(self.shards)
        }
        return {ENTRY: self.document_bytes(), **shards}

    def document_bytes(self) -> bytes:
        specs = [weight_spec(name, self.document) for name in PIECES]
        paths = [self.shard_name(index) for index in range(SHARDS)]
        document = {
            **graph_model([(spec, b"") for spec in specs]),
            "userDefinedMetadata": {"version": self.document},
            "weightsManifest": [{"paths": paths, "weights": specs}],
        }
        return json.dumps(document).encode()

    def sight(self) -> Sight:
        """What a client sees that loads all of this and nothing else."""
        weights = {name: self._runs(pieces) for name, pieces in PIECES.items()}
        return {"document": self.document, "weights": weights}

    def _runs(self, pieces: list[tuple[int, int]]) -> list[list[float]]:
        values = [(self._value(shard), count) for shard, count in pieces]
        return [
            [value, sum(count for _, count in run)]
            for value, run in itertools.groupby(values, key=lambda piece: piece[0])
        ]

    def _value(self, shard: int) -> float:
        version = self.shards[shard]
        if shard == QUANTIZED:
            return self.document + quantized_byte(version) * SCALE
        return version


class Sight(t.TypedDict):
    document: int
    weights: dict[str, list[list[float]]]


class Report(t.TypedDict, total=False):
    """A line of torn.mjs."""

    url: str
    document: int
    weights: dict[str, list[list[float]]]
    error: str


def quantized_byte(version: int) -> int:
    return version % 251


def shard_bytes(index: int, version: int) -> bytes:
    if index == QUANTIZED:
        return bytes([quantized_byte(version)]) * SHARD_BYTES
    return struct.pack("<f", version) * FLOATS


def weight_spec(name: str, document: int) -> dict[str, t.Any]:
    """The quantized weight is worth something else with the JSON of another state."""
    shape = [sum(count for _, count in PIECES[name])]
    spec: dict[str, t.Any] = {"name": name, "shape": shape, "dtype": "float32"}
    if name == "quantized":
        quantization = {"dtype": "uint8", "scale": SCALE, "min": float(document)}
        spec["quantization"] = quantization
    return spec


# Writing


class Writer:
    """Writes one state after the other into a directory, as `MODES` says.

    :ivar directory: what a server is to serve.
    :ivar states: all that were ever begun.
    :ivar held_up: versions whose writing took a pause that it should not.
    """

    def __init__(self, mode: str, folder: Path, seed: int) -> None:
        self.mode = mode
        self.directory = folder / "models" / mode
        self.states = [State(FIRST_VERSION, (FIRST_VERSION,) * SHARDS)]
        self.held_up: set[int] = set()
        self._random = random.Random(f"{mode} {seed}")
        self._versions = folder / "versions"
        self._last_write = 0.0
        self._longest_pause = 0.0
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        if mode == "switched":
            self._prepare(FIRST_VERSION, self.states[0])
            self._switch(FIRST_VERSION)
        else:
            write_all(self.directory, self.states[0].files())

    def run(self, stop: threading.Event) -> None:
        for version in itertools.count(FIRST_VERSION + 1):
            state = self._next_state(self.states[-1], version)
            early = self.mode == "switched" and self._coin()
            if early:
                self._prepare(version, state)
            if stop.wait(self._random.uniform(*REST)):
                return
            if self.mode == "switched" and not early:
                self._prepare(version, state)
            self._replace(version, state)

    def _coin(self) -> bool:
        return self._random.random() < 0.5

    def _replace(self, version: int, state: State) -> None:
        before = self.states[-1]
        self.states.append(state)
        self._last_write, self._longest_pause = time.monotonic(), 0.0
        if self.mode == "switched":
            self._switch(version)
        else:
            self._write_files(before, state)
            self._remove_old_files()
        if self._longest_pause > HELD_UP:
            self.held_up.add(version)

    def _next_state(self, before: State, version: int) -> State:
        (kind,) = self._random.choices(list(KINDS), list(KINDS.values()))
        shards = [version] * SHARDS
        if kind == "all":
            return State(version, tuple(shards))
        if kind == "named":
            return State(version, tuple(shards), str(version))
        if kind == "weights":
            return dataclasses.replace(before, shards=tuple(shards))
        for index in self._random.sample(range(SHARDS), self._random.randint(1, 3)):
            shards[index] = before.shards[index]
        return State(version, tuple(shards), before.label)

    def _write_files(self, before: State, state: State) -> None:
        """The files that differ, in any order."""
        old, new = before.files(), state.files()
        names = [name for name in new if new[name] != old.get(name)]
        self._random.shuffle(names)
        how = "wb" if self._coin() else "r+b"
        stamp = self._coin()
        for name in names:
            path = self.directory / name
            if self.mode == "renamed":
                temporary = path.with_name(f".{name}.part")
                self._write_file(temporary, new[name], how, stamp)
                temporary.replace(path)
            else:
                self._write_file(path, new[name], how, stamp)
            self._pause(FILE_PAUSE)

    def _write_file(self, path: Path, data: bytes, how: str, stamp: bool) -> None:
        path.touch()
        size = len(data) // 3 + 1
        with path.open(how, buffering=0) as file:
            for start in range(0, len(data), size):
                file.write(data[start : start + size])
                self._pause(CHUNK_PAUSE)
        if stamp:
            os.utime(path, (OLD_STAMP, OLD_STAMP))

    def _prepare(self, version: int, state: State) -> None:
        write_all(self._versions / str(version), state.files())

    def _switch(self, version: int) -> None:
        link = self._versions / "link"
        link.symlink_to(self._versions / str(version), target_is_directory=True)
        link.replace(self.directory)
        old = self._versions / str(version - KEPT_STATES)
        shutil.rmtree(old, ignore_errors=True)

    def _remove_old_files(self) -> None:
        names = {name for state in self.states[-KEPT_STATES:] for name in state.files()}
        for path in self.directory.iterdir():
            if path.name not in names:
                path.unlink()

    def _pause(self, longest: float) -> None:
        time.sleep(self._random.uniform(0, longest))
        now = time.monotonic()
        self._longest_pause = max(self._longest_pause, now - self._last_write)
        self._last_write = now


def write_all(directory: Path, files: dict[str, bytes]) -> None:
    directory.mkdir()
    for name, data in files.items():
        (directory / name).write_bytes(data)


@contextlib.contextmanager
def rewriting(folder: Path, seed: int) -> cabc.Iterator[dict[str, Writer]]:
    """A model for each mode below ``folder / "models"``, rewritten as long as the
    context lasts.
    """
    (folder / "versions").mkdir(parents=True)
    writers = {mode: Writer(mode, folder, seed) for mode in MODES}
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(len(writers)) as pool:
        running = [pool.submit(writer.run, stop) for writer in writers.values()]
        try:
            yield writers
        finally:
            stop.set()
    for writer in running:
        writer.result()


# Loading

PROCESSES = 2
LANES = 4
PAUSE_MS = 500

# A load of a server on this machine takes some 30 ms, which is hardly ever between two
# states. Those who load from another continent are there more often.
DELAY_MS = 200


def load(node: str, models_url: str, loads: int, folder: Path) -> list[Report]:
    """What real clients got, who loaded the models of all modes so many times together.

    :param models_url: of which the models are below.
    """
    logs = [folder / f"loads-{number}" for number in range(PROCESSES)]
    with contextlib.ExitStack() as stack:
        processes = []
        for number, log in enumerate(logs):
            job = {
                "urls": [f"{models_url}/{mode}/{ENTRY}" for mode in MODES],
                "loads": (loads + number) // PROCESSES,
                "lanes": LANES,
                "pause": PAUSE_MS,
                "delay": DELAY_MS,
            }
            processes.append(stack.enter_context(start_loads(node, job, log)))
        codes = [process.wait() for process in processes]
    assert codes == [0] * PROCESSES, [errors(log) for log in logs]
    lines = [line for log in logs for line in log.read_text().splitlines()]
    assert len(lines) == loads
    return [json.loads(line) for line in lines]


@contextlib.contextmanager
def start_loads(
    node: str, job: dict[str, t.Any], log: Path
) -> cabc.Iterator[subprocess.Popen[bytes]]:
    # Into files: nobody reads a pipe of one while waiting for the other.
    with log.open("wb") as stdout, log.with_suffix(".log").open("wb") as stderr:
        process = subprocess.Popen(
            [node, str(CLIENTS / "torn.mjs"), json.dumps(job)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def errors(log: Path) -> str:
    return log.with_suffix(".log").read_text(errors="replace")[-4000:]


# Judging


@dataclass(frozen=True)
class Load:
    """What became of a load.

    :ivar verdict: ``whole``, ``failed``, ``torn``, or ``unclear``: torn, but its writer
        was held up meanwhile.
    :ivar detail: the state that it is, or the client's error, or what was torn.
    """

    mode: str
    verdict: str
    detail: str


class Judge:
    def __init__(self, writer: Writer) -> None:
        self._mode = writer.mode
        self._held_up = writer.held_up
        self._sights = [(state, state.sight()) for state in writer.states]

    def judge(self, report: Report) -> Load:
        return Load(self._mode, *self._verdict(report))

    def _verdict(self, report: Report) -> tuple[str, str]:
        if "error" in report:
            return "failed", report["error"]
        seen: Sight = {"document": report["document"], "weights": report["weights"]}
        for state, sight in self._sights:
            if sight == seen:
                return "whole", str(max(state.document, *state.shards))
        verdict = "unclear" if versions(seen) & self._held_up else "torn"
        return verdict, json.dumps(seen)


def versions(sight: Sight) -> set[float]:
    values = (value for runs in sight["weights"].values() for value, _ in runs)
    return {sight["document"], *values}


def judge(reports: list[Report], writers: dict[str, Writer]) -> list[Load]:
    judges = {mode: Judge(writer) for mode, writer in writers.items()}
    return [judges[report["url"].split("/")[-2]].judge(report) for report in reports]
