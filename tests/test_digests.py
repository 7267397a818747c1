"""A digest is remembered only where the same identity must mean the same content."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest
from filesystem import make_clock_coarse
from filesystem import tick
from filesystem import time_limit

from flask_tfjs.models import digests as digests_module
from flask_tfjs.models.digests import Digests
from flask_tfjs.models.digests import is_settled
from flask_tfjs.models.files import FileChanged
from flask_tfjs.models.files import OpenFile

MILLISECOND = 1_000_000
SECOND = 1000 * MILLISECOND
HOUR = 3600 * SECOND


@pytest.fixture(autouse=True)
def never_hang() -> Iterator[None]:
    with time_limit(30):
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "w.bin").write_bytes(b"first")
    return tmp_path / "w.bin"


def after(path: Path, nanoseconds: int) -> Callable[[], int]:
    """A clock that stands still so long after the last change of *path*."""
    now = path.stat().st_ctime_ns + nanoseconds
    return lambda: now


def while_reading(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something once, while the next file is read."""
    read = OpenFile.read

    def read_and_act(file: OpenFile, offset: int, length: int) -> bytes:
        monkeypatch.setattr(OpenFile, "read", read)
        data = file.read(offset, length)
        act()
        return data

    monkeypatch.setattr(OpenFile, "read", read_and_act)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    "stamps, settled",
    [
        ([], True),
        ([0], False),
        ([-1], False),
        ([-2 * SECOND - 20 * MILLISECOND], False),
        ([-2 * SECOND - 200 * MILLISECOND], True),
        ([-HOUR], True),
        ([1], False),
        ([2 * SECOND + 20 * MILLISECOND], False),
        ([2 * SECOND + 200 * MILLISECOND], True),
        ([HOUR], True),
        ([-HOUR, -HOUR], True),
        ([-HOUR, -SECOND], False),
        ([-SECOND, -HOUR], False),
        ([HOUR, -SECOND], False),
    ],
)
def test_settled(stamps: list[int], settled: bool) -> None:
    now = 1_700_000_000 * SECOND
    assert is_settled([now + stamp for stamp in stamps], now) is settled


@pytest.mark.parametrize(
    "age, remembered",
    [
        (0, False),
        (SECOND, False),
        (2 * SECOND, False),
        (3 * SECOND, True),
        (HOUR, True),
        # The clock was set back.
        (-SECOND, False),
        (-HOUR, True),
    ],
)
def test_age(path: Path, age: int, remembered: bool) -> None:
    os.utime(path, ns=(0, 0))
    digests = Digests(after(path, age))
    first, second = digests.of(str(path)), digests.of(str(path))
    assert first == second
    assert first.sha256 == sha256(b"first")
    assert first.settled is remembered
    assert (first is second) is remembered


def test_an_old_mtime_does_not_make_a_file_old(path: Path) -> None:
    os.utime(path, ns=(0, 0))
    assert not Digests(after(path, SECOND)).of(str(path)).settled


def test_a_future_mtime(path: Path) -> None:
    changed = path.stat().st_ctime_ns
    os.utime(path, ns=(changed + HOUR, changed + HOUR))
    digests = Digests(after(path, HOUR // 2))
    assert digests.of(str(path)).settled
    assert digests.of(str(path)) is digests.of(str(path))
    tick(path.parent)
    path.write_bytes(b"other")
    assert digests.of(str(path)).sha256 == sha256(b"other")
    # As soon as time comes near it, it is as young as any.
    os.utime(path, ns=(changed + HOUR, changed + HOUR))
    digests = Digests(lambda: changed + HOUR + SECOND)
    assert not digests.of(str(path)).settled


def test_same_size_and_mtime(path: Path) -> None:
    digests = Digests(after(path, HOUR))
    stat = path.stat()
    assert digests.of(str(path)).sha256 == sha256(b"first")
    for data in (b"other", b"third"):
        tick(path.parent)
        path.write_bytes(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert path.stat().st_size == stat.st_size
        assert path.stat().st_mtime_ns == stat.st_mtime_ns
        assert digests.of(str(path)).sha256 == sha256(data)


def test_while_young_every_look_is_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clock_coarse(monkeypatch)
    digests = Digests()
    for i in range(300):
        data = b"%05d" % i
        with path.open("r+b") as file:
            file.write(data)
        os.utime(path, ns=(SECOND, SECOND))
        assert digests.of(str(path)).sha256 == sha256(data)


def test_the_age_is_that_before_reading(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may be written to, and grow old, while a large one is read."""
    os.utime(path, ns=(0, 0))
    age = SECOND

    def grow_old() -> None:
        nonlocal age
        age = HOUR

    changed = path.stat().st_ctime_ns
    digests = Digests(lambda: changed + age)
    while_reading(monkeypatch, grow_old)
    assert not digests.of(str(path)).settled
    assert digests.of(str(path)).settled


@pytest.mark.parametrize("age", [SECOND, HOUR])
def test_written_to_while_it_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, age: int
) -> None:
    def write() -> None:
        tick(path.parent)
        path.write_bytes(b"other")

    digests = Digests(lambda: path.stat().st_ctime_ns + age)
    while_reading(monkeypatch, write)
    with pytest.raises(FileChanged, match="w.bin was written to while"):
        digests.of(str(path))
    assert digests.of(str(path)).sha256 == sha256(b"other")


def test_replaced_by_another(path: Path) -> None:
    digests = Digests(after(path, HOUR))
    assert digests.of(str(path)).sha256 == sha256(b"first")
    other = path.with_name("other")
    other.write_bytes(b"other")
    stat = path.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)
    assert digests.of(str(path)).sha256 == sha256(b"other")


def test_files_of_one_size_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of one size, written within one tick of the clock."""
    make_clock_coarse(monkeypatch)
    paths = [tmp_path / f"{i}.bin" for i in range(100)]
    for path in paths:
        path.write_bytes(f"{path.name:>20}".encode())
        os.utime(path, ns=(0, 0))
    digests = Digests(after(paths[-1], HOUR))
    for path in paths * 2:
        assert digests.of(str(path)).sha256 == sha256(f"{path.name:>20}".encode())


def test_one_content_of_several_names(path: Path) -> None:
    os.link(path, path.with_name("link"))
    digests = Digests(after(path, HOUR))
    assert digests.of(str(path)) is digests.of(str(path.with_name("link")))


def test_empty_and_large(path: Path) -> None:
    for data in (b"", bytes(3_000_000)):
        path.write_bytes(data)
        assert Digests().of(str(path)).sha256 == sha256(data)


@pytest.mark.parametrize(
    "make",
    [lambda path: None, Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path)],
    ids=["nothing", "directory", "FIFO", "loop"],
)
def test_no_file(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "x")
    with pytest.raises(OSError):
        Digests().of(str(tmp_path / "x"))


def test_the_number_of_remembered_digests_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests_module, "_MAX_REMEMBERED", 3)
    paths = [tmp_path / str(i) for i in range(5)]
    for path in paths:
        path.write_bytes(path.name.encode())
    digests = Digests(after(paths[-1], HOUR))
    known = [digests.of(str(path)) for path in paths]
    assert all(digests.of(str(paths[i])) is known[i] for i in (2, 3, 4))
    assert digests.of(str(paths[0])) is not known[0]
    assert digests.of(str(paths[0])) == known[0]


def test_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests_module, "_MAX_REMEMBERED", 10)
    paths = [tmp_path / str(i) for i in range(30)]
    for path in paths:
        path.write_bytes(path.name.encode())
    digests = Digests(after(paths[-1], HOUR))
    wrong: list[object] = []

    def look(turn: int) -> None:
        try:
            for i in range(300):
                path = paths[(i * (turn + 1)) % len(paths)]
                if digests.of(str(path)).sha256 != sha256(path.name.encode()):
                    wrong.append(path)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=look, args=(turn,)) for turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
