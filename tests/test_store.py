"""How files get into the store: whole or not at all, whoever else writes, whatever the
file system can do, and however full the disk is."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filesystem import time_limit
from flask import Flask
from publishing import NAME
from publishing import Nursery
from publishing import await_sleep
from publishing import collect
from publishing import generation_of
from publishing import labels
from publishing import local_store
from publishing import new_app
from publishing import nursery
from publishing import paths_of
from publishing import put
from publishing import put_generation
from publishing import snapshot
from publishing import store_of
from publishing import version_files
from publishing import without_waiting
from publishing import write_generation

from flask_tfjs import ConfigError
from flask_tfjs import rollback
from flask_tfjs import unpublish
from flask_tfjs.models import store as store_module
from flask_tfjs.models.store import Folder
from flask_tfjs.models.store import LocalStore


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("children")) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(store_of(tmp_path)))


def staging_in(store: LocalStore) -> list[str]:
    return [name for name in os.listdir(store.path) if name.startswith(".tmp-")]


# Staging


def test_staging_is_a_folder_in_the_store(store: LocalStore) -> None:
    with store.stage() as staging:
        assert os.path.dirname(staging.path) == store.path
        paths = [staging.write(b"one"), staging.copy([b"t", b"wo"])]
        with staging.create() as file:
            paths.append(file.name)
        assert [Path(path).read_bytes() for path in paths] == [b"one", b"two", b""]
        assert {os.path.dirname(path) for path in paths} == {staging.path}


def test_staging_is_removed(store: LocalStore) -> None:
    os.makedirs(store.path)
    with store.stage() as staging:
        staging.write(b"x")
    assert os.listdir(store.path) == []
    with pytest.raises(KeyError), store.stage() as staging:
        staging.write(b"x")
        raise KeyError
    assert os.listdir(store.path) == []


def test_a_store_that_nothing_got_into_is_not_there(store: LocalStore) -> None:
    with store.stage() as staging:
        staging.write(b"x")
    assert not os.path.exists(store.path)


def test_each_has_a_staging_folder_of_its_own(store: LocalStore) -> None:
    with store.stage() as one, store.stage() as other:
        assert one.path != other.path
        assert len(staging_in(store)) == 2


def test_the_living_are_not_swept(
    children: Nursery, store: LocalStore, tmp_path: Path
) -> None:
    child = children.start("stage", root=str(tmp_path))
    await_sleep(tmp_path)
    with store.stage() as mine:
        mine.write(b"x")
        assert store.sweep_staging() == 0
        assert len(staging_in(store)) == 2
        child.kill()
        child.wait()
        assert store.sweep_staging() == len(b"unfinished")
        assert staging_in(store) == [os.path.basename(mine.path)]


def test_who_is_about_to_make_a_lock_is_not_swept(store: LocalStore) -> None:
    staging = Path(store.path, ".tmp-0123")
    staging.mkdir(parents=True)
    store.sweep_staging()
    assert staging.exists()
    long_ago = time.time() - 61
    os.utime(staging, (long_ago, long_ago))
    store.sweep_staging()
    assert not staging.exists()


def test_nothing_to_sweep(store: LocalStore) -> None:
    assert store.sweep_staging() == 0
    os.makedirs(store.path)
    assert store.sweep_staging() == 0


def test_what_else_lies_in_the_store_is_not_swept(store: LocalStore) -> None:
    for name in (".tmp", "tmp-1", ".locks", "gesture", ".hidden"):
        Path(store.path, name).mkdir(parents=True)
    store.sweep_staging()
    assert len(os.listdir(store.path)) == 5


def test_staging_while_others_sweep(store: LocalStore) -> None:
    """Whoever sweeps must not take a folder for dead that is locked just now."""
    os.makedirs(store.path)
    until = time.monotonic() + 1
    faults: list[BaseException] = []

    def repeat(work: Callable[[], None]) -> None:
        try:
            while time.monotonic() < until:
                work()
        except BaseException as fault:
            faults.append(fault)

    def stage() -> None:
        with store.stage() as staging:
            assert os.path.exists(staging.path)
            path = staging.write(b"x")
            os.rename(path, f"{path}-renamed")

    def sweep() -> None:
        store.sweep_staging()

    threads = [
        threading.Thread(target=repeat, args=[work])
        for work in (stage, stage, sweep, sweep)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert staging_in(store) == []


# Writers of one name


def test_writers_of_one_name_wait_for_each_other(store: LocalStore) -> None:
    order = []

    def write(name: str) -> None:
        with store.writing(name):
            order.append(name)

    with store.writing("a"):
        threads = [threading.Thread(target=write, args=[name]) for name in "ab"]
        for thread in threads:
            thread.start()
        threads[1].join(10)
        time.sleep(0.05)
        assert order == ["b"]
    threads[0].join(10)
    assert order == ["b", "a"]


def test_two_stores_of_one_directory(store: LocalStore, tmp_path: Path) -> None:
    """As two apps of one process have them."""
    got = threading.Event()

    def write() -> None:
        with LocalStore(store.path).writing(NAME):
            got.set()

    with store.writing(NAME):
        thread = threading.Thread(target=write)
        thread.start()
        assert not got.wait(0.05)
    thread.join(10)
    assert got.is_set()


def test_writers_of_another_process(
    children: Nursery, store: LocalStore, tmp_path: Path
) -> None:
    child = children.start("write", root=str(tmp_path))
    await_sleep(tmp_path)
    with pytest.raises(TimeoutError), time_limit(0.1), store.writing(NAME):
        raise AssertionError("two writers of one name")
    with time_limit(5), store.writing("another"):
        pass
    child.kill()
    child.wait()
    with time_limit(5), store.writing(NAME) as folder:
        assert folder.path == os.path.join(store.path, NAME)


# Claiming a version

REFUSALS = [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOSYS]


def without_links(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def link(source: str, destination: str) -> None:
        raise OSError(code, os.strerror(code), source, None, destination)

    monkeypatch.setattr(os, "link", link)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "staged").write_bytes(b"new")
    (tmp_path / NAME).mkdir()
    return Folder(str(tmp_path / NAME))


@pytest.mark.parametrize("code", [None, *REFUSALS])
@pytest.mark.parametrize("there", ["file", "dangling link"])
def test_a_claim_overwrites_nothing(
    folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    there: str,
    code: int | None,
) -> None:
    if code is not None:
        without_links(monkeypatch, code)
    taken = Path(folder.join("model.v1.json"))
    if there == "file":
        taken.write_bytes(b"old")
    else:
        taken.symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        folder.claim(str(tmp_path / "staged"), "model.v1.json")
    assert taken.is_symlink() or taken.read_bytes() == b"old"
    folder.claim(str(tmp_path / "staged"), "model.v2.json")
    assert Path(folder.join("model.v2.json")).read_bytes() == b"new"


@pytest.mark.parametrize("code", REFUSALS)
def test_without_hard_links_all_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    without_links(monkeypatch, code)
    app = new_app(tmp_path, TFJS_GRACE=0, TFJS_KEEP_VERSIONS=2)
    folder = store_of(tmp_path) / NAME
    for generation in (1, 2, 3):
        put_generation(app, tmp_path, generation, labels(generation))
        assert generation_of(folder) == generation
    assert set(version_files(folder)) == {2, 3}
    with app.app_context():
        rollback(NAME, 2)
    assert generation_of(folder) == 2
    assert generation_of(folder, "model.v3.json") == 3
    with app.app_context():
        unpublish(NAME)
    assert put_generation(app, tmp_path, 4).number == 4
    assert not staging_in(local_store(app))
    with app.test_client() as client:
        with client.get(f"/models/{NAME}/model.json") as r:
            assert r.status_code == 200


# A disk that is full


class FullDisk:
    """Fails at the call of that number that needs room or writes; from then on, or once
    only."""

    def __init__(self, fails_at: int, *, once: bool, code: int) -> None:
        self.fails_at = fails_at
        self.once = once
        self.code = code
        self.count = 0

    @property
    def has_failed(self) -> bool:
        return self.count >= self.fails_at

    def step(self) -> None:
        self.count += 1
        if self.count == self.fails_at or (self.has_failed and not self.once):
            raise OSError(self.code, os.strerror(self.code))

    def use(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            self.step()
            return function(*arguments, **named)

        return wrapper

    def open(self, path: str, mode: str = "r", **named: Any) -> Any:
        if "x" not in mode:
            return open(path, mode, **named)
        self.step()
        return io.BufferedRandom(FileOnDisk(self, path))


class FileOnDisk(io.FileIO):
    def __init__(self, disk: FullDisk, path: str) -> None:
        super().__init__(path, "x+")
        self._disk = disk
        self.name = path

    def write(self, data: Any) -> int:
        self._disk.step()
        return super().write(data)


#: What needs room on a disk, but for the writing itself.
CALLS = ("fsync", "link", "replace", "rename", "mkdir", "makedirs", "utime")


@contextlib.contextmanager
def full(fails_at: int, *, once: bool, code: int = errno.ENOSPC) -> Iterator[FullDisk]:
    disk = FullDisk(fails_at, once=once, code=code)
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, disk.use(getattr(os, name)))
        patch.setattr(store_module, "open", disk.open, raising=False)
        yield disk


def publish_new(app: Flask, root: Path) -> None:
    put(app, root / "next")


def publish_first(app: Flask, root: Path) -> None:
    put(app, root / "next", "another")


def roll_back(app: Flask, root: Path) -> None:
    with app.app_context():
        rollback(NAME, 1)


def take_off(app: Flask, root: Path) -> None:
    with app.app_context():
        unpublish(NAME)


@pytest.mark.parametrize(
    ("act", "becomes", "once"),
    [
        pytest.param(publish_new, {NAME: 3}, True, id="publish"),
        pytest.param(publish_new, {NAME: 3}, False, id="publish, and stays full"),
        pytest.param(publish_first, {NAME: 2, "another": 3}, True, id="first"),
        pytest.param(roll_back, {NAME: 1}, True, id="rollback"),
        pytest.param(roll_back, {NAME: 1}, False, id="rollback, and stays full"),
        pytest.param(take_off, {}, True, id="unpublish"),
        pytest.param(take_off, {}, False, id="unpublish, and stays full"),
    ],
)
def test_a_disk_that_fails_at_each_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Flask, Path], None],
    becomes: dict[str, int],
    once: bool,
) -> None:
    """Either it is done, or nothing has changed and its reason is told."""
    publish_two(tmp_path)
    write_generation(tmp_path / "next", 3, {**labels(3), "dict.txt": b"new"})
    before = snapshot(store_of(tmp_path))
    monkeypatch.setattr(os, "fsync", without_waiting)
    refused = 0
    for step in range(1, 200):
        root = tmp_path / f"{step}"
        shutil.copytree(store_of(tmp_path), store_of(root))
        app = new_app(root)
        with full(step, once=once) as disk:
            try:
                act(app, tmp_path)
                done = True
            except ConfigError as error:
                assert "No space left on device" in str(error)
                done = False
        after = snapshot(store_of(root))
        assert served(app) == (becomes if done else {NAME: 2}), f"step {step}"
        shutil.rmtree(root)
        if not disk.has_failed:
            break
        if not done:
            refused += 1
            after.pop(f"{NAME}/.last-version", None)  # only a number
            assert after == before, f"step {step}"
    else:
        raise AssertionError("it fails for ever")
    assert refused >= 3


def publish_two(root: Path) -> None:
    app = new_app(root)
    for generation in (1, 2):
        put_generation(app, root, generation, labels(generation))


def served(app: Flask) -> dict[str, int]:
    """The generation of each model that is on the air, all of whose versions are whole,
    as files and over HTTP."""
    store, found = local_store(app), {}
    for name in store.names():
        folder = Path(store.folder(name).path)
        found[name] = generation_of(folder)
        for version in version_files(folder).values():
            generation_of(folder, version.name)
    with app.test_client() as client:
        for name, generation in found.items():
            with client.get(f"/models/{name}/model.json") as r:
                assert r.status_code == 200
                document = r.get_json()
            assert document["userDefinedMetadata"]["generation"] == generation
            for path in paths_of(document):
                with client.get(f"/models/{name}/{path}") as r:
                    assert r.status_code == 200
    assert collect(app) == ()
    return found


def test_another_fault_of_the_disk_is_told_too(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    write_generation(tmp_path / "next", 3)
    with full(3, once=True, code=errno.EIO), pytest.raises(ConfigError) as error:
        put(app, tmp_path / "next")
    assert "TFJS_STORE" in str(error.value)
    assert "Input/output error" in str(error.value)


def test_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    (tmp_path / "instance").write_bytes(b"a file")
    write_generation(tmp_path / "next", 3)
    with pytest.raises(ConfigError, match="TFJS_STORE: .*instance"):
        put(app, tmp_path / "next")


# What is not ours


def test_folders(store: LocalStore) -> None:
    assert store.folders() == store.names() == []
    for name in ("b", "a", ".hidden", "-", "a b", "x" * 129):
        Path(store.path, name).mkdir(parents=True)
    Path(store.path, "file").write_bytes(b"")
    assert store.folders() == ["a", "b"]
    assert store.names() == []
    Path(store.path, "a", "model.json").mkdir()
    assert store.names() == []
    Path(store.path, "b", "model.json").write_bytes(b"{}")
    assert store.names() == ["b"]


def test_versions_are_counted_from_all_there_ever_were(store: LocalStore) -> None:
    folder = store.folder(NAME)
    assert (folder.versions(), folder.last_version()) == ([], 0)
    os.makedirs(folder.path)
    names = ["model.v2.json", "model.v10.json", "model.v9.json"]
    ignored = ["model.v0.json", "model.v02.json", "model.v.json", "model.v1.json.bak"]
    for name in [*names, *ignored, "model.v-1.json", f"model.v{'9' * 30}.json"]:
        Path(folder.join(name)).write_bytes(b"{}")
    assert (folder.versions(), folder.last_version()) == ([10, 9, 2], 10)
    Path(folder.join(".last-version")).write_bytes(b"12")
    assert folder.last_version() == 12
    Path(folder.join(".last-version")).write_bytes(b"\xff junk")
    assert folder.last_version() == 10


def test_a_damaged_file_is_mended_and_does_not_count_as_new(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "store"))
    with store.stage() as staging, store.writing("m") as folder:
        folder.make()
        path = folder.join("x.bin")
        assert folder.adopt(staging.write(b"right"), path)
        Path(path).write_bytes(b"wrong")
        assert not folder.adopt(staging.write(b"right"), path)
        assert Path(path).read_bytes() == b"right"
        same = os.stat(path).st_ino
        assert not folder.adopt(staging.write(b"right"), path)
        assert os.stat(path).st_ino == same
