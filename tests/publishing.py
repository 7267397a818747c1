"""What the tests of published models share: models of many generations, apps that
publish them, a look at all that a store holds, and processes that publish until they
are killed.

Run as a script, it is the parent of those processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
import typing as t
from array import array
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flask import Flask
from models import write_model
from reference import groups_of
from reference import pieces_of

from flask_tfjs import TFJSError
from flask_tfjs import VersionConflict
from flask_tfjs import publish
from flask_tfjs import rollback
from flask_tfjs import tfjs_bp
from flask_tfjs import unpublish
from flask_tfjs import versions
from flask_tfjs.locks import locked
from flask_tfjs.models import quiet
from flask_tfjs.models.directory import ModelDirectory
from flask_tfjs.models.publish import Version
from flask_tfjs.models.recutting import stage_directory
from flask_tfjs.models.store import Folder
from flask_tfjs.models.store import LocalStore
from flask_tfjs.models.versions import current
from flask_tfjs.publishing import collect_all
from flask_tfjs.publishing import commit
from flask_tfjs.state import State

NAME = "gesture"

#: Elements and bytes of a weight. Each is a group, and so a shard, of its own.
FLOATS = 1024
SHARD_BYTES = 4 * FLOATS

#: The first is the same in all generations.
WEIGHTS = ("base", "middle", "head")

LABELS = "labels.txt"


def write_generation(
    directory: Path, generation: int, assets: Mapping[str, bytes] | None = None
) -> Path:
    """Write a model of three shards, all of whose parts tell its generation."""
    shards = {f"{name}.bin": data for name, data in weights_of(generation).items()}
    manifest = [
        {
            "paths": [f"{name}.bin"],
            "weights": [{"name": name, "shape": [FLOATS], "dtype": "float32"}],
        }
        for name in WEIGHTS
    ]
    document = {
        "userDefinedMetadata": {"generation": generation},
        "weightsManifest": manifest,
    }
    shutil.rmtree(directory, ignore_errors=True)
    write_model(directory, document=document, shards=shards)
    for name, data in (assets or {}).items():
        (directory / name).write_bytes(data)
    return directory


def weights_of(generation: int) -> dict[str, bytes]:
    values = zip(WEIGHTS, (0, generation, -generation), strict=True)
    return {name: array("f", [value]).tobytes() * FLOATS for name, value in values}


def labels(generation: int) -> dict[str, bytes]:
    return {LABELS: b"labels of %d" % generation}


# Apps and their stores


def new_app(root: Path, **config: t.Any) -> Flask:
    """An app without registered models, whose store is ``store_of(root)``."""
    app = Flask("host", instance_path=str(root / "instance"))
    app.config.update({"TESTING": True, "TFJS_MODELS": {}, **config})
    app.register_blueprint(tfjs_bp)
    return app


def store_of(root: Path) -> Path:
    return root / "instance" / "tfjs-models"


def state_of(app: Flask) -> State:
    state = app.extensions["tfjs"]["tfjs"]
    assert isinstance(state, State)
    return state


def local_store(app: Flask) -> LocalStore:
    store = state_of(app).catalogue.store
    assert store is not None
    return store


def put(app: Flask, source: Path, name: str = NAME) -> Version:
    with app.app_context():
        return publish(name, source)


def put_generation(
    app: Flask, root: Path, generation: int, assets: Mapping[str, bytes] | None = None
) -> Version:
    return put(app, write_generation(root / "source", generation, assets))


def collect(app: Flask) -> tuple[str, ...]:
    with app.app_context():
        return collect_all(state_of(app)).faults


def grow_older(folder: Path, seconds: float) -> None:
    """Let all files of a folder look as if they had been written earlier."""
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            os.utime(path, (status.st_atime, status.st_mtime - seconds))


# What lies in a store


def snapshot(store: Path) -> dict[str, bytes | None]:
    """All files and folders with what is in them, but for the locks."""
    return {
        str(path.relative_to(store)): path.read_bytes() if path.is_file() else None
        for path in sorted(store.rglob("*"))
        if ".locks" not in path.parts
    }


def release_of(document: t.Any) -> dict[str, t.Any]:
    holder = document[0] if isinstance(document, list) else document
    member: dict[str, t.Any] = holder["flaskTfjs"]
    return member


def load(folder: Path, entry: str = "model.json") -> dict[str, bytes]:
    """The weights of a published model, as files alone tell, each of them checked."""
    document = json.loads((folder / entry).read_bytes())
    release = release_of(document)
    groups = groups_of(document)
    assert set(release["sha256"]) == {p for group in groups for p in group["paths"]}
    for name, sha256 in release["sha256"].items():
        assert name == f"model.weights.{sha256[:32]}.bin"
        assert digest(folder / name) == sha256, name
    for sha256 in release["assets"].values():
        assert digest(folder / ".assets" / sha256) == sha256
    return {
        spec["name"]: piece
        for group in groups
        for spec, piece in pieces_of(folder, group)
    }


def paths_of(document: t.Any) -> list[str]:
    """The shards that a model names, in their order."""
    return [path for group in groups_of(document) for path in group["paths"]]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def generation_of(folder: Path, entry: str = "model.json") -> int:
    """Which generation a published model is, all of it."""
    weights = load(folder, entry)
    document = json.loads((folder / entry).read_bytes())
    generation: int = document["userDefinedMetadata"]["generation"]
    assert weights == weights_of(generation)
    return generation


def version_files(folder: Path) -> dict[int, Path]:
    """The JSON of each version that is there."""
    return {
        int(path.name.removeprefix("model.v").removesuffix(".json")): path
        for path in folder.glob("model.v*.json")
    }


def current_version(folder: Path) -> int:
    number: int = release_of(json.loads((folder / "model.json").read_bytes()))[
        "version"
    ]
    return number


def named_files(folder: Path) -> set[str]:
    """All files that the current version or another that is kept needs."""
    named: set[str] = set()
    for path in [folder / "model.json", *version_files(folder).values()]:
        release = release_of(json.loads(path.read_bytes()))
        named |= {path.name, *release["sha256"]}
        named |= {f".assets/{sha256}" for sha256 in release["assets"].values()}
    main = release_of(json.loads((folder / "model.json").read_bytes()))
    return named | set(main["assets"])


def files_in(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


# Processes that can be killed


@dataclass(frozen=True)
class Child:
    """A process that a :class:`Nursery` has begun."""

    pid: int
    nursery: Nursery

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """How it ended: 0, or minus the signal that killed it."""
        status: int = self.nursery.ask({"wait": self.pid})
        return status


class Nursery:
    """A process that forks others: importing takes far longer than what they do."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def start(self, task: str, **arguments: t.Any) -> Child:
        return Child(self.ask({"start": task, "arguments": arguments}), self)

    def ask(self, order: t.Any) -> t.Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, Path(self._log.name).read_text()
        return json.loads(line)

    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
        self._log.close()


@contextlib.contextmanager
def nursery(folder: Path) -> Iterator[Nursery]:
    folder.mkdir(parents=True, exist_ok=True)
    running = Nursery(folder / "children.log")
    try:
        yield running
    finally:
        running.close()


def _nurse() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                _run(order["start"], order["arguments"])
        print(json.dumps(answer), flush=True)


def _run(task: str, arguments: dict[str, t.Any]) -> t.NoReturn:
    signal.alarm(120)  # nobody is left behind when the tests are killed
    os.dup2(2, 1)
    code = 1
    try:
        quiet.QUIET_NS = 0
        vars(os)["fsync"] = without_waiting
        step = arguments.pop("dies_at", None)
        root = Path(arguments.pop("root"))
        work = TASKS[task]
        app = new_app(root, **arguments.pop("config", {}))
        if step is not None:
            _die_at(step)
        work(app, root, **arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def without_waiting(fd: int) -> None:
    """In place of ``os.fsync``: nothing that is written is lost when only a process
    ends, and waiting for the disk takes most of the time."""


# What changes a file or a folder.
_STEPS = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.utime")


def _die_at(step: int) -> None:
    """Be killed before the change of that number to a file or a folder."""
    done = 0

    def count(event: str, arguments: tuple[t.Any, ...]) -> None:
        nonlocal done
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in _STEPS:
            done += 1
            if done > step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def _publish(app: Flask, root: Path, source: str) -> None:
    put(app, Path(source))


def _roll_back(app: Flask, root: Path, version: int) -> None:
    with app.app_context():
        rollback(NAME, version)


def _unpublish(app: Flask, root: Path) -> None:
    with app.app_context():
        unpublish(NAME)


def _collect(app: Flask, root: Path) -> None:
    assert not collect(app)


def _churn(app: Flask, root: Path, seed: str, generation: int) -> None:
    """Publish, mostly, without end."""
    chance = random.Random(seed)
    source = root / f"source-{seed}"
    while True:
        act = chance.choices(["publish", "rollback", "gc", "unpublish"], [6, 2, 1, 1])
        if act == ["publish"]:
            generation += 1
            put(app, write_generation(source, generation, labels(generation)))
            continue
        with contextlib.suppress(TFJSError), app.app_context():
            if act == ["rollback"]:
                rollback(NAME, chance.choice(versions(NAME)).number)
            elif act == ["gc"]:
                collect(app)
            else:
                unpublish(NAME)


def _count(app: Flask, root: Path, times: int) -> None:
    """Replace the current generation by the next, each time from what is there."""
    store = local_store(app)
    folder = store.folder(NAME)
    source = root / f"source-{os.getpid()}"
    for _ in range(times):
        while not _try_to_count(app, store, folder, source):
            pass


def _try_to_count(app: Flask, store: LocalStore, folder: Folder, source: Path) -> bool:
    before = current(folder)
    assert before is not None
    generation = before.model.document["userDefinedMetadata"]["generation"]
    directory = ModelDirectory(NAME, str(write_generation(source, generation + 1)))

    def unchanged(digest: str | None) -> None:
        if digest != before.digest:
            raise VersionConflict("somebody was faster")

    with app.app_context(), store.stage() as staging:
        model = stage_directory(directory, "model.json", staging)
        try:
            commit(state_of(app), store, NAME, staging, model, unchanged)
        except VersionConflict:
            return False
    return True


def _many(app: Flask, root: Path, times: int, keep: bool = True) -> None:
    """Publish, and take from the air each time."""
    source = root / f"source-{os.getpid()}"
    for generation in range(times):
        put(app, write_generation(source, generation))
        if not keep:
            with contextlib.suppress(TFJSError), app.app_context():
                unpublish(NAME)


def _stage(app: Flask, root: Path) -> None:
    with local_store(app).stage() as staging:
        staging.write(b"unfinished")
        _sleep(root)


def _write(app: Flask, root: Path) -> None:
    with local_store(app).writing(NAME):
        _sleep(root)


def _lock(app: Flask, root: Path) -> None:
    with locked(str(root / "lock")):
        _sleep(root)


def _sleep(root: Path) -> t.NoReturn:
    (root / "asleep").touch()
    while True:
        time.sleep(1)


def await_sleep(root: Path) -> None:
    """Wait until a child of that *root* holds what it is to hold."""
    while not (root / "asleep").exists():
        time.sleep(0.002)


TASKS: dict[str, Callable[..., None]] = {
    "publish": _publish,
    "rollback": _roll_back,
    "unpublish": _unpublish,
    "gc": _collect,
    "churn": _churn,
    "count": _count,
    "many": _many,
    "stage": _stage,
    "write": _write,
    "lock": _lock,
}


if __name__ == "__main__":
    _nurse()
