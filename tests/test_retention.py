"""What is kept of a published model, for how long, and that nothing else is removed."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from publishing import LABELS
from publishing import NAME
from publishing import collect
from publishing import current_version
from publishing import files_in
from publishing import generation_of
from publishing import grow_older
from publishing import labels
from publishing import named_files
from publishing import new_app
from publishing import paths_of
from publishing import put
from publishing import put_generation
from publishing import snapshot
from publishing import state_of
from publishing import store_of
from publishing import version_files
from publishing import weights_of
from publishing import write_generation

from flask_tfjs import TFJSError
from flask_tfjs import rollback
from flask_tfjs import unpublish
from flask_tfjs import versions
from flask_tfjs.publishing import collect_all

DAY = 24 * 60 * 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return store_of(tmp_path) / NAME


def kept(folder: Path) -> set[int]:
    """The versions that are kept, all of which are whole; and nothing else is there."""
    found = version_files(folder)
    for path in found.values():
        generation_of(folder, path.name)
    generation_of(folder)
    assert files_in(folder) - {".last-version"} == named_files(folder)
    return set(found)


def put_all(app: Flask, root: Path, *generations: int) -> None:
    for generation in generations:
        put_generation(app, root, generation, labels(generation))


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_newest_are_kept(tmp_path: Path, folder: Path, keep: int) -> None:
    app = new_app(tmp_path, TFJS_KEEP_VERSIONS=keep, TFJS_GRACE=0)
    put_all(app, tmp_path, *range(1, 8))
    assert kept(folder) == set(range(8 - keep, 8))


def test_the_defaults(tmp_path: Path, folder: Path) -> None:
    app = new_app(tmp_path)
    put_all(app, tmp_path, *range(1, 8))
    assert kept(folder) == set(range(1, 8))
    grow_older(folder, DAY - 60)
    collect(app)
    assert kept(folder) == set(range(1, 8))
    grow_older(folder, 120)
    collect(app)
    assert kept(folder) == {3, 4, 5, 6, 7}


def test_the_young_are_kept(tmp_path: Path, folder: Path) -> None:
    app = new_app(tmp_path, TFJS_KEEP_VERSIONS=1, TFJS_GRACE=100)
    put_all(app, tmp_path, 1, 2)
    grow_older(folder, 90)
    put_all(app, tmp_path, 3)
    assert kept(folder) == {1, 2, 3}
    grow_older(folder, 20)
    # The second was current 20 seconds ago, though it is older.
    collect(app)
    assert kept(folder) == {2, 3}
    grow_older(folder, 90)
    collect(app)
    assert kept(folder) == {3}


def test_who_was_current_a_moment_ago_keeps_its_shards(
    tmp_path: Path, folder: Path
) -> None:
    """A page that has its model.json still asks for them."""
    app = new_app(tmp_path, TFJS_KEEP_VERSIONS=1, TFJS_GRACE=100)
    put_all(app, tmp_path, 1)
    grow_older(folder, 10**6)
    put_all(app, tmp_path, 2)
    assert kept(folder) == {1, 2}
    grow_older(folder, 101)
    collect(app)
    assert kept(folder) == {2}


def test_who_was_current_after_a_rollback_keeps_its_shards(
    tmp_path: Path, folder: Path
) -> None:
    app = new_app(tmp_path, TFJS_KEEP_VERSIONS=1, TFJS_GRACE=100)
    put_all(app, tmp_path, 1, 2)
    roll_back(app, 1)
    grow_older(folder, 10**6)
    put_all(app, tmp_path, 3)
    assert kept(folder) == {1, 3}  # the second was not current for long
    grow_older(folder, 10**6)
    (folder / "model.v1.json").touch()
    roll_back(app, 1)
    collect(app)
    assert kept(folder) == {1, 3}


def roll_back(app: Flask, version: int) -> None:
    with app.app_context():
        rollback(NAME, version)


def test_the_current_version_is_kept(tmp_path: Path, folder: Path) -> None:
    app = new_app(tmp_path, TFJS_KEEP_VERSIONS=2, TFJS_GRACE=10**9)
    put_all(app, tmp_path, 1, 2, 3, 4)
    roll_back(app, 1)
    grow_older(folder, 10**6)
    strict = new_app(tmp_path, TFJS_KEEP_VERSIONS=2, TFJS_GRACE=0)
    collect(strict)
    assert kept(folder) == {1, 3, 4}
    assert (current_version(folder), generation_of(folder)) == (1, 1)
    assert (folder / LABELS).read_bytes() == b"labels of 1"
    put_all(strict, tmp_path, 5)
    assert kept(folder) == {4, 5}


def test_a_shard_of_several_versions_is_kept(tmp_path: Path, folder: Path) -> None:
    app = new_app(tmp_path, TFJS_KEEP_VERSIONS=1, TFJS_GRACE=0)
    source = write_generation(tmp_path / "m", 1, labels(1))
    for _ in range(3):
        put(app, source)
        grow_older(folder, 10**6)
    collect(app)
    assert kept(folder) == {3}


def test_a_shard_that_comes_back(tmp_path: Path, folder: Path) -> None:
    app = new_app(tmp_path, TFJS_KEEP_VERSIONS=1, TFJS_GRACE=0)
    put_all(app, tmp_path, 1, 2, 1, 2, 1)
    assert kept(folder) == {5}
    assert generation_of(folder) == 1


def test_what_is_removed_is_told(tmp_path: Path, folder: Path) -> None:
    app = new_app(tmp_path, TFJS_KEEP_VERSIONS=5)
    put_all(app, tmp_path, 1, 2)
    grow_older(folder, 10**6)
    before = snapshot(folder)
    strict = new_app(tmp_path, TFJS_KEEP_VERSIONS=1, TFJS_GRACE=60)
    told: list[int] = []
    with strict.app_context():
        swept = collect_all(state_of(strict), told.append)
    gone = before.keys() - snapshot(folder).keys()
    assert len(gone) == 4  # its JSON, two shards, its labels
    assert swept.files == 4
    assert swept.byte_length == sum(len(before[name] or b"") for name in gone)
    assert (swept.faults, told) == ((), [1])


def test_what_crashes_leave_goes_once_it_is_old(tmp_path: Path, folder: Path) -> None:
    app = new_app(tmp_path, TFJS_GRACE=100)
    put_all(app, tmp_path, 1)
    orphans = [
        folder / f"model.weights.{'0' * 32}.bin",
        folder / ".assets" / ("0" * 64),
    ]
    for path in orphans:
        path.write_bytes(b"x")
    collect(app)
    assert all(path.exists() for path in orphans)
    grow_older(folder, 101)
    collect(app)
    assert not any(path.exists() for path in orphans)
    assert kept(folder) == {1}


def test_what_unpublish_left_goes(tmp_path: Path, folder: Path) -> None:
    app = new_app(tmp_path, TFJS_GRACE=0)
    put_all(app, tmp_path, 1, 2)
    put_generation(app, tmp_path, 3)
    (folder / "model.json").unlink()  # and then it was killed
    time.sleep(0.002)
    collect(app)
    assert files_in(folder) == {".last-version"}
    assert put_generation(app, tmp_path, 4).number == 4


def test_foreign_files_stay(tmp_path: Path, folder: Path) -> None:
    app = new_app(tmp_path, TFJS_KEEP_VERSIONS=1, TFJS_GRACE=0)
    put_all(app, tmp_path, 1)
    foreign = {
        *("README.md", "notes.txt", "model.canary.json", "weights.bin", ".htaccess"),
        *("model.weights.bin", "group1-shard1of1.bin", "x.0123456789.bin"),
        f"{'0' * 32}.bin",
        "deeper/file.txt",
    }
    for name in foreign:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"{}")
        os.utime(folder / name, (0, 0))
    elsewhere = ["foreign/file.txt", "file.txt", ".git/config"]
    for name in elsewhere:
        path = store_of(tmp_path) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    put_all(app, tmp_path, 2, 3)
    assert collect(app) == ()
    assert files_in(folder) == named_files(folder) | foreign
    assert all((store_of(tmp_path) / name).exists() for name in elsewhere)
    assert set(version_files(folder)) == {3}


@pytest.mark.parametrize("entry", ["model.json", "model.v2.json"])
@pytest.mark.parametrize("text", [b"", b"{", b"{}", b'{"weightsManifest": []}'])
def test_nothing_is_removed_where_a_json_was_changed(
    tmp_path: Path, folder: Path, entry: str, text: bytes
) -> None:
    """Nobody knows what it named."""
    app = new_app(tmp_path)
    put_all(app, tmp_path, 1, 2, 3)
    grow_older(store_of(tmp_path), 10**6)
    other = "another"
    source = write_generation(tmp_path / "m", 9)
    for _ in range(2):
        put(app, source, other)
    grow_older(store_of(tmp_path) / other, 10**6)
    (folder / entry).write_bytes(text)
    before = snapshot(folder)
    strict = new_app(tmp_path, TFJS_KEEP_VERSIONS=2, TFJS_GRACE=0)
    (fault,) = collect(strict)
    assert f"{NAME}/{entry}" in fault
    assert snapshot(folder) == before
    # The other names are cleaned all the same.
    collect(new_app(tmp_path, TFJS_KEEP_VERSIONS=1, TFJS_GRACE=0))
    assert set(version_files(folder.with_name(other))) == {2}


def test_a_publish_succeeds_where_the_cleaning_does_not(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = new_app(tmp_path, TFJS_KEEP_VERSIONS=2, TFJS_GRACE=0)
    put_all(app, tmp_path, 1, 2)
    (folder / "model.v2.json").write_bytes(b"{")
    strict = new_app(tmp_path, TFJS_GRACE=0)
    assert put_generation(strict, tmp_path, 3, labels(3)).number == 3
    assert (folder / LABELS).read_bytes() == b"labels of 3"
    assert "was published, but not cleaned up" in caplog.text
    assert generation_of(folder) == 3


def test_names_without_a_model(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    assert collect(app) == ()
    assert not store_of(tmp_path).exists()
    (store_of(tmp_path) / "mine").mkdir(parents=True)
    (store_of(tmp_path) / "mine" / "file.txt").write_bytes(b"x")
    assert collect(app) == ()
    assert (store_of(tmp_path) / "mine" / "file.txt").exists()


# While others write


def test_every_load_is_whole_while_others_write_and_clean(
    tmp_path: Path, folder: Path
) -> None:
    """As clients load: model.json first, then each shard; for the grace of a second."""
    config = {"TFJS_KEEP_VERSIONS": 2, "TFJS_GRACE": 1}
    app = new_app(tmp_path, **config)
    put_all(app, tmp_path, 0)
    until = time.monotonic() + 2
    faults: list[BaseException] = []
    done = {"write": 0, "clean": 0, "load": 0}

    def repeat(name: str, work: Callable[[], None]) -> None:
        try:
            while time.monotonic() < until:
                work()
                done[name] += 1
        except BaseException as fault:
            faults.append(fault)

    def writer(number: int) -> Callable[[], None]:
        # One of them of the same process as the loads, one as another process has it.
        mine = app if number == 0 else new_app(tmp_path, **config)
        chance = random.Random(number)
        source = tmp_path / f"source-{number}"

        def write() -> None:
            if chance.random() < 0.3:
                with mine.app_context():
                    try:
                        rollback(NAME, chance.choice(versions(NAME)).number)
                    except TFJSError:
                        pass  # it went meanwhile
            else:
                generation = chance.randint(1, 10**6)
                put(mine, write_generation(source, generation, labels(generation)))

        return write

    def clean() -> None:
        assert collect(app) == ()
        time.sleep(0.01)

    client = app.test_client()

    def load() -> None:
        with client.get(f"/models/{NAME}/model.json") as r:
            assert r.status_code == 200, r.data
            document: Any = json.loads(r.data)
        bodies = []
        for path in paths_of(document):
            with client.get(f"/models/{NAME}/{path}") as r:
                assert r.status_code == 200, path
                bodies.append(r.data)
            time.sleep(0.001)
        generation = document["userDefinedMetadata"]["generation"]
        assert bodies == list(weights_of(generation).values())

    work = [
        ("write", writer(0)),
        ("write", writer(1)),
        ("clean", clean),
        ("load", load),
    ]
    threads = [threading.Thread(target=repeat, args=pair) for pair in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert min(done.values()) > 5, done
    with app.app_context():
        numbers = {version.number for version in versions(NAME)}
        assert numbers == set(version_files(folder))
        for number in numbers:
            generation_of(folder, f"model.v{number}.json")
        unpublish(NAME)
