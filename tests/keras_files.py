"""Files that Keras saved, and what Keras predicts of them: made by a process of Keras
(zoo/save.py), for this package works without it."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from servers import TESTS
from servers import module_found
from servers import require
from zoo.sweep import SWEEP
from zoo.sweep import Case

ZOO = TESTS / "zoo"
_CACHE = TESTS / ".zoo_cache"
_COMMAND = [sys.executable, "-m", "zoo.save"]
_OLDER = TESTS.parent / ".venv-older-keras"

Array = npt.NDArray[t.Any]
Job = dict[str, t.Any]
Kind = t.Literal["keras", "h5"]
KINDS: tuple[Kind, ...] = ("keras", "h5")


@dataclass(frozen=True)
class Example:
    """A model in files, and what it predicts.

    :ivar stem: the path of its files without their suffix.
    """

    name: str
    stem: Path

    def __str__(self) -> str:
        return self.name

    def file(self, kind: Kind) -> Path:
        return self.stem.with_name(f"{self.stem.name}.{kind}")

    @property
    def inputs(self) -> list[Array]:
        return self._arrays("input")

    @property
    def outputs(self) -> list[Array]:
        return self._arrays("output")

    def _arrays(self, prefix: str) -> list[Array]:
        with np.load(f"{self.stem}.npz") as arrays:
            count = sum(name.startswith(prefix) for name in arrays)
            return [arrays[f"{prefix}_{i}"] for i in range(count)]


class KerasFailed(Exception):
    """Keras could not do it."""


def model_names() -> list[str]:
    """The functions of zoo/models.py, whose import would import Keras."""
    module = ast.parse((ZOO / "models.py").read_text(encoding="utf-8"))
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    return [node.name for node in functions if not node.name.startswith("_")]


def model_jobs(names: Sequence[str] | None = None) -> dict[str, Job]:
    return {name: {"model": name} for name in names or model_names()}


def sweep_jobs() -> dict[str, Job]:
    return {str(case): _case_job(case) for case in SWEEP}


def _case_job(case: Case) -> Job:
    inputs = [[one.shape, one.dtype] for one in case.inputs]
    return {"expression": case.expression, "inputs": inputs}


class Keras:
    """A process of Keras that does one job after another, as zoo/save.py takes them."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def ask(self, job: Job) -> t.Any:
        """:raises KerasFailed: it could not be done."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, f"Keras ended:\n{self._log.read_text()[-4000:]}"
        answer = json.loads(line)
        if "error" in answer:
            raise KerasFailed(answer["error"])
        return answer

    def make(self, name: str, job: Job, directory: Path) -> Example:
        """Let a model be made and saved into *directory*."""
        example = Example(name, directory / name)
        self.ask({**job, "stem": str(example.stem)})
        return example


@contextlib.contextmanager
def start_keras(
    directory: Path, *, version: Path | None = None, backend: str = "numpy"
) -> Iterator[Keras]:
    """
    :param directory: gets its log.
    :param version: where another version of Keras is installed.
    """
    require_keras()
    log = directory / "keras.log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=_environment(version, backend),
            text=True,
        ) as process,
    ):
        # The end of its standard input ends it.
        yield Keras(process, log)


def require_keras() -> None:
    for name in ("keras", "jax", "scipy"):
        require(module_found(name), f"{name}: pip install --group keras")


def older_keras() -> Path:
    """Where another version of Keras is."""
    require(
        _OLDER.is_dir(), f"pip install --no-deps --target {_OLDER.name} keras==3.3.3"
    )
    return _OLDER


def _environment(version: Path | None, backend: str) -> Mapping[str, str]:
    path = [str(TESTS)] if version is None else [str(version), str(TESTS)]
    return {
        **os.environ,
        "KERAS_BACKEND": backend,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(path),
    }


def examples(
    jobs: Mapping[str, Job], *, version: Path | None = None, backend: str = "numpy"
) -> dict[str, Example]:
    """What these jobs make, by their names: made anew when Keras or the scripts are
    others than last time.

    :raises KerasFailed: one of them could not be done.
    """
    made, failed = examples_and_failures(jobs, version=version, backend=backend)
    if failed:
        raise KerasFailed(failed)
    return made


def examples_and_failures(
    jobs: Mapping[str, Job], *, version: Path | None = None, backend: str = "numpy"
) -> tuple[dict[str, Example], dict[str, str]]:
    """The same, and why some could not be made."""
    require_keras()
    directory = _CACHE / _key(jobs, version, backend)
    if not directory.exists():
        _CACHE.mkdir(exist_ok=True)
        # Two sessions may be at it, so it appears when it is whole.
        with tempfile.TemporaryDirectory(dir=_CACHE) as new:
            whole = Path(new) / directory.name
            whole.mkdir()
            failed = _make_all(list(jobs.values()), whole, version, backend)
            (whole / "failed.json").write_text(json.dumps(failed))
            with contextlib.suppress(OSError):
                whole.rename(directory)
    failed = json.loads((directory / "failed.json").read_text())
    stems = {name: _stem(i) for i, name in enumerate(jobs)}
    return (
        {n: Example(n, directory / s) for n, s in stems.items() if s not in failed},
        {n: failed[s] for n, s in stems.items() if s in failed},
    )


def _stem(index: int) -> str:
    return f"{index:03d}"


def _key(jobs: Mapping[str, Job], version: Path | None, backend: str) -> str:
    known = json.dumps([list(jobs.items()), str(version), backend, sys.version])
    digest = hashlib.sha256(known.encode())
    for package in ("keras", "jax", "numpy"):
        digest.update(importlib.metadata.version(package).encode())
    for path in sorted(ZOO.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _make_all(
    jobs: Sequence[Job], directory: Path, version: Path | None, backend: str
) -> dict[str, str]:
    """Do *jobs* in as many processes as there are processors; memory is for four.

    :returns: why some could not be done, by their stems.
    """
    numbered = list(enumerate(jobs))
    count = min(os.cpu_count() or 1, 4, len(jobs))
    failed: dict[str, str] = {}

    def make(share: int) -> None:
        log = directory / f"share-{share}"
        log.mkdir()
        with start_keras(log, version=version, backend=backend) as keras:
            for i, job in numbered[share::count]:
                try:
                    keras.make(_stem(i), job, directory)
                except KerasFailed as error:
                    failed[_stem(i)] = str(error)

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(make, share) for share in range(count)]:
            done.result()
    return failed
