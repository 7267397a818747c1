"""Locks keep out other threads and other processes, and end with their holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filesystem import time_limit
from publishing import Nursery
from publishing import await_sleep
from publishing import nursery

from flask_tfjs import locks
from flask_tfjs.locks import KeyedLocks
from flask_tfjs.locks import locked
from flask_tfjs.locks import locked_at_once


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("children")) as running:
        yield running


@pytest.fixture(autouse=True)
def all_threads_end() -> Iterator[None]:
    """Those that had to wait get their lock at the end: not in the midst of another
    test, which may have no locks at all."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10)


@pytest.fixture(params=["file", "folder"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return str(tmp_path / "lock") if request.param == "file" else str(tmp_path)


def overlaps(hold: contextlib.AbstractContextManager[None], seconds: float) -> bool:
    """Whether another thread gets *hold* within that time."""
    got = threading.Event()

    def take() -> None:
        with hold:
            got.set()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    return got.wait(seconds)


def is_locked(path: str) -> bool:
    with locked_at_once(path) as got:
        return not got


def test_other_threads_wait(path: str) -> None:
    with locked(path):
        assert not overlaps(locked(path), 0.05)
    assert overlaps(locked(path), 10)


def test_each_lock_for_itself(tmp_path: Path) -> None:
    with locked(str(tmp_path / "a")):
        assert overlaps(locked(str(tmp_path / "b")), 10)


def test_a_lock_ends_with_an_exception(path: str) -> None:
    with pytest.raises(KeyError), locked(path):
        raise KeyError
    assert overlaps(locked(path), 10)


def test_the_file_is_made_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(str(path)):
        assert path.exists()
    inode = path.stat().st_ino
    with locked(str(path)):
        assert path.stat().st_ino == inode


def test_no_folder_for_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked(str(tmp_path / "none" / "lock")):
        pass


def test_impatient_ones_go_on(path: str) -> None:
    with locked(path):
        with time_limit(5), locked(path, patience=0.05):
            pass
        # What they did not hold they do not let go.
        assert not overlaps(locked(path), 0.05)


def test_other_processes_wait_until_the_holder_is_killed(
    children: Nursery, tmp_path: Path
) -> None:
    path = str(tmp_path / "lock")
    child = children.start("lock", root=str(tmp_path))
    await_sleep(tmp_path)
    assert is_locked(path)
    assert not overlaps(locked(path), 0.1)
    child.kill()
    child.wait()
    with time_limit(5), locked(path):
        pass


def test_a_forked_child_holds_nothing(tmp_path: Path) -> None:
    """It has the same open file, and lives on."""
    path = str(tmp_path / "lock")
    with locked(path):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(reader, 1)
            os._exit(0)
    try:
        assert not is_locked(path)
        with time_limit(5), locked(path):
            pass
    finally:
        os.write(writer, b"x")
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)


def test_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with pytest.raises(FileNotFoundError), locked_at_once(path):
        pass
    with locked(path):
        assert is_locked(path)
        assert is_locked(path)
    assert not is_locked(path)
    assert not is_locked(path)


def test_who_got_a_lock_at_once_has_it(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with locked(path):
        pass
    with locked_at_once(path) as got:
        assert got
        assert is_locked(path)
        assert not overlaps(locked(path), 0.05)
    assert overlaps(locked(path), 10)


def test_who_did_not_takes_it_from_nobody(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with locked(path):
        with time_limit(5), locked_at_once(path) as got:
            assert not got
        assert not overlaps(locked(path), 0.05)


def test_without_file_locks(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: nobody is kept out, and no owner counts as dead."""
    monkeypatch.setattr(locks, "fcntl", None)
    with locked(path):
        assert overlaps(locked(path), 10)
    assert is_locked(path)


def test_a_lock_is_that_of_other_programs(tmp_path: Path) -> None:
    with locked(str(tmp_path / "lock")), (tmp_path / "lock").open() as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# Within a process


def test_one_holder_for_each_key() -> None:
    held = KeyedLocks()
    with held.hold("a"):
        assert not overlaps(held.hold("a"), 0.05)
        assert overlaps(held.hold("b"), 10)
    assert overlaps(held.hold("a"), 10)


def test_keys_are_forgotten() -> None:
    held = KeyedLocks()
    with held.hold("a"), held.hold("b"):
        pass
    with pytest.raises(KeyError), held.hold("a"):
        raise KeyError
    assert not vars(held)["_locks"]


def test_many_threads_one_after_the_other() -> None:
    held, inside, most, turns = KeyedLocks(), 0, 0, 0

    def work() -> None:
        nonlocal inside, most, turns
        for _ in range(50):
            with held.hold("key"):
                inside += 1
                most = max(most, inside)
                turns += 1
                time.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns, vars(held)["_locks"]) == (1, 400, {})
