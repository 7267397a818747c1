"""Whoever writes to the store may be killed at any moment: what is served is whole, the
next writer gets on, and a cleaning removes what was left.

``FLASK_TFJS_CRASHES``: how many are killed at random moments.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from publishing import NAME
from publishing import Child
from publishing import Nursery
from publishing import collect
from publishing import current_version
from publishing import files_in
from publishing import generation_of
from publishing import grow_older
from publishing import labels
from publishing import load
from publishing import named_files
from publishing import new_app
from publishing import nursery
from publishing import put_generation
from publishing import release_of
from publishing import store_of
from publishing import version_files
from publishing import without_waiting
from publishing import write_generation

CRASHES = int(os.environ.get("FLASK_TFJS_CRASHES", "15"))
SHORT = {"TFJS_KEEP_VERSIONS": 2, "TFJS_GRACE": 0}

LAST = 3  # the version that is current before


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("children")) as running:
        yield running


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", without_waiting)


def require_sound(root: Path) -> set[int]:
    """All that can be loaded is whole. Returns the versions that are there."""
    folder = store_of(root) / NAME
    found = version_files(folder)
    if (folder / "model.json").exists():
        generation_of(folder)
        assert current_version(folder) in found
        for number, path in found.items():
            generation_of(folder, path.name)
            assert path.read_bytes() == json_of(folder, number)
    return set(found)


def json_of(folder: Path, number: int) -> bytes:
    text = (folder / f"model.v{number}.json").read_bytes()
    assert release_of(json.loads(text))["version"] == number
    return text


def require_next(root: Path, above: int) -> int:
    """The next publish works, and a cleaning then leaves nothing but what is needed."""
    app = new_app(root, **SHORT)
    generation = 9999
    version = put_generation(app, root, generation, labels(generation))
    assert version.number > above
    folder = store_of(root) / NAME
    assert generation_of(folder) == generation
    require_sound(root)
    collect_all_of_it(app, root)
    assert os.listdir(store_of(root)).count(NAME) == 1
    assert not list(store_of(root).glob(".tmp-*"))
    assert files_in(folder) - {".last-version"} == named_files(folder)
    assert (folder / "labels.txt").read_bytes() == labels(generation)["labels.txt"]
    load(folder)
    return version.number


def collect_all_of_it(app: Flask, root: Path) -> None:
    for staging in store_of(root).glob(".tmp-*"):
        if not (staging / "lock").exists():
            # Its owner may be about to make the lock, for a minute.
            os.utime(staging, (0, 0))
    time.sleep(0.002)  # what is as old as the grace, which is none, is kept
    assert not collect(app)


# At each step in turn


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions, the shards of none of them young."""
    root = tmp_path_factory.mktemp("before")
    app = new_app(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flask_tfjs.models.quiet.QUIET_NS", 0)
        for generation in range(1, LAST + 1):
            put_generation(app, root, generation, labels(generation))
    grow_older(store_of(root), 3600)
    return root


TASKS: dict[str, dict[str, t.Any]] = {
    "publish": {"source": "next"},
    "rollback": {"version": 1},
    "unpublish": {},
    "gc": {},
}


@pytest.mark.parametrize("task", TASKS)
def test_killed_at_each_step(
    children: Nursery, before: Path, tmp_path: Path, task: str
) -> None:
    arguments = dict(TASKS[task])
    if "source" in arguments:
        source = write_generation(tmp_path / "next", LAST + 1, {"dict.txt": b"new"})
        arguments["source"] = str(source)
    for step in range(1000):
        root = tmp_path / str(step)
        shutil.copytree(store_of(before), store_of(root))
        child = children.start(
            task, root=str(root), dies_at=step, config=SHORT, **arguments
        )
        ended = child.wait()
        last = max(require_sound(root), default=LAST)
        if (store_of(root) / NAME / "model.json").exists():
            assert generation_of(store_of(root) / NAME) in {1, LAST, LAST + 1}
        require_cleaned(root)
        assert require_next(root, max(last, LAST)) == max(last, LAST) + 1
        shutil.rmtree(root)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL, children.log()
    assert 5 < step < 900


def require_cleaned(root: Path) -> None:
    """A cleaning without a publish before, which would put some things right itself."""
    copy = root / "copy"
    shutil.copytree(store_of(root), store_of(copy))
    collect_all_of_it(new_app(copy, **SHORT), copy)
    folder = store_of(copy) / NAME
    assert not list(store_of(copy).glob(".tmp-*"))
    published = (folder / "model.json").exists()
    needed = named_files(folder) if published else set()
    assert files_in(folder) - {".last-version"} == needed


# At random moments


def test_killed_at_any_moment(children: Nursery, tmp_path: Path) -> None:
    chance = random.Random(os.environ.get("FLASK_TFJS_SEED", "1"))
    app = new_app(tmp_path, **SHORT)
    last = put_generation(app, tmp_path, 1).number
    for crash in range(CRASHES):
        child = begin_to_churn(children, tmp_path, f"{crash}")
        time.sleep(chance.uniform(0.01, 0.12))
        child.kill()
        assert child.wait() == -signal.SIGKILL, children.log()
        require_sound(tmp_path)
        last = require_next(tmp_path, last)
        shutil.rmtree(tmp_path / f"source-{crash}", ignore_errors=True)


def begin_to_churn(children: Nursery, root: Path, seed: str) -> Child:
    return children.start(
        "churn", root=str(root), seed=seed, generation=int(seed) * 100, config=SHORT
    )


def test_several_killed_in_the_midst_of_each_other(
    children: Nursery, tmp_path: Path
) -> None:
    chance = random.Random(1)
    last = put_generation(new_app(tmp_path, **SHORT), tmp_path, 1).number
    for crash in range(3):
        churning = [
            begin_to_churn(children, tmp_path, f"{crash * 3 + number}")
            for number in range(3)
        ]
        for child in churning:
            time.sleep(chance.uniform(0.02, 0.1))
            child.kill()
        for child in churning:
            assert child.wait() == -signal.SIGKILL, children.log()
        require_sound(tmp_path)
        last = require_next(tmp_path, last)
