"""Files are opened without blocking and sent to the last byte only while they are what
was promised."""

from __future__ import annotations

import errno
import gc
import hashlib
import itertools
import os
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest
from filesystem import bind
from filesystem import tick
from filesystem import time_limit
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_tfjs.models import files
from flask_tfjs.models.files import Body
from flask_tfjs.models.files import FileChanged
from flask_tfjs.models.files import OpenFile
from flask_tfjs.models.files import Promise
from flask_tfjs.models.files import Root
from flask_tfjs.models.files import identify

DATA = bytes(range(40))
BLOCK = 8


def promise(data: bytes, offset: int = 0) -> Promise:
    return Promise(offset, len(data), hashlib.sha256(data).digest())


@pytest.fixture(autouse=True)
def never_hang() -> Iterator[None]:
    with time_limit(30):
        yield


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(files, "BLOCK_SIZE", BLOCK)
    (tmp_path / "w.bin").write_bytes(DATA)
    return tmp_path / "w.bin"


def link_to_fifo(path: Path) -> None:
    os.mkfifo(path.with_name("fifo"))
    path.symlink_to("fifo")


NO_FILES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "directory": Path.mkdir,
    "FIFO": os.mkfifo,
    "socket": bind,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "dangling link": lambda path: path.symlink_to("nothing"),
    "loop": lambda path: path.symlink_to(path.name),
    "link to a FIFO": link_to_fifo,
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
def test_no_file(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "x")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    assert identify(str(tmp_path / "x")) is None
    assert Root(str(tmp_path)).identify("x") is None
    with pytest.raises(OSError):
        OpenFile(str(tmp_path / "x"))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ["a\0b", "a" * 300, "w.bin/x", "\ud800", ""])
def test_no_name(path: Path, name: str) -> None:
    assert identify(str(path.parent) + "/" + name) is None


def test_identities(path: Path) -> None:
    first = identify(str(path))
    assert first is not None and first.size == len(DATA)
    assert first.stamps == (path.stat().st_mtime_ns, path.stat().st_ctime_ns)
    assert identify(str(path)) == first
    (path.parent / "link").symlink_to(path.name)
    assert identify(str(path.parent / "link")) == first
    tick(path.parent)
    os.utime(path, ns=(0, first.modified_ns))
    again = identify(str(path))
    assert again is not None and again[:4] == first[:4] and again != first


def test_not_a_regular_file_is_said_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(OSError, match="is not a regular file") as caught:
        OpenFile(str(tmp_path / "x"))
    assert caught.value.errno == errno.EINVAL
    assert caught.value.filename == "x"


def test_reading(path: Path) -> None:
    with OpenFile(str(path)) as file:
        assert (file.name, file.identity) == ("w.bin", identify(str(path)))
        assert file.read(0, 40) == DATA
        assert file.read(30, 5) == DATA[30:35]
        assert file.read(35, 100) == DATA[35:]
        assert file.read(40, 1) == file.read(90, 1) == file.read(3, 0) == b""
    file.close()
    with pytest.raises(OSError):
        file.read(0, 1)


def test_a_read_that_gives_less(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of network file systems and of more than 2 GB do."""
    read = os.read
    monkeypatch.setattr(os, "read", lambda fd, length: read(fd, min(length, 3)))
    with OpenFile(str(path)) as file:
        assert file.read(0, 40) == DATA
        assert file.read(35, 100) == DATA[35:]
        assert list(file.blocks()) == [DATA[i : i + 8] for i in range(0, 40, 8)]


def test_blocks(path: Path) -> None:
    with OpenFile(str(path)) as file:
        assert list(file.blocks()) == [DATA[i : i + 8] for i in range(0, 40, 8)]
        assert list(file.blocks(3, 21)) == [DATA[3:11], DATA[11:19], DATA[19:21]]
        assert list(file.blocks(3, 3)) == list(file.blocks(40)) == []


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60), block=st.integers(1, 20), bounds=st.data())
def test_any_part(
    tmp_path_factory: pytest.TempPathFactory,
    data: bytes,
    block: int,
    bounds: st.DataObject,
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    offset = bounds.draw(st.integers(0, len(data)))
    end = bounds.draw(st.integers(offset, len(data)))
    start = bounds.draw(st.integers(offset, end))
    stop = bounds.draw(st.integers(start, end))
    of_all, of_slice = promise(data), promise(data[offset:end], offset)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK_SIZE", block)
        for promised in (None, of_all, of_slice):
            body = Body(OpenFile(str(path)), start, stop, promised)
            assert b"".join(body) == data[start:stop]
            body.close()
        for promised in (of_all, of_slice):
            broken = promised._replace(sha256=promised.sha256[::-1])
            given: list[bytes] = []
            with pytest.raises(FileChanged), OpenFile(str(path)) as file:
                given.extend(Body(file, start, stop, broken))
            assert stop == start or len(b"".join(given)) < stop - start


# Changes in the midst


def in_place(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)


def grow_and_cut(path: Path) -> None:
    in_place(path, DATA + b"\xff")
    os.truncate(path, 40)


def in_place_same_mtime(path: Path) -> None:
    stat = path.stat()
    in_place(path, DATA[::-1])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replace(path: Path, data: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(data)
    other.replace(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "same size": lambda path: in_place(path, DATA[::-1]),
    "same size and mtime": in_place_same_mtime,
    "the first byte": lambda path: in_place(path, b"\xff"),
    "the last byte": lambda path: in_place(path, DATA[:-1] + b"\xff"),
    "truncated": lambda path: os.truncate(path, 39),
    "truncated to what is sent": lambda path: os.truncate(path, BLOCK),
    "emptied": lambda path: os.truncate(path, 0),
    "grown": lambda path: in_place(path, DATA + b"\xff"),
    "grown and cut again": grow_and_cut,
    "written anew": lambda path: path.write_bytes(DATA[::-1]),
}
# The bytes that were promised stay, in a file without a name.
REPLACEMENTS: dict[str, Callable[[Path], object]] = {
    "replaced": lambda path: replace(path, DATA[::-1]),
    "replaced by another size": lambda path: replace(path, DATA * 2),
    "unlinked": Path.unlink,
}


PARTS = [(0, 40), (0, 39), (5, 20), (32, 40)]
# Without the digest for a file that is known by its identity, with it for a young one.
PROMISES = pytest.mark.parametrize(
    "promised", [None, promise(DATA)], ids=["known", "young"]
)


@PROMISES
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_in_the_midst(
    path: Path, change: Callable[[Path], object], promised: Promise | None
) -> None:
    for (start, stop), sent in itertools.product(PARTS, range(5)):
        path.write_bytes(DATA)
        body = Body(OpenFile(str(path)), start, stop, promised)
        blocks = iter(body)
        given = b"".join(itertools.islice(blocks, sent))
        if len(given) == stop - start:
            body.close()
            continue
        tick(path.parent)
        change(path)
        try:
            for block in blocks:
                given += block
        except FileChanged as error:
            assert "w.bin was written to" in str(error)
            assert len(given) < stop - start
        else:
            # All had been read, and found to be as promised, before the change.
            assert promised is not None or stop - start <= BLOCK
            assert given == DATA[start:stop]
        body.close()


@PROMISES
@pytest.mark.parametrize("change", REPLACEMENTS.values(), ids=REPLACEMENTS)
def test_a_replacement_in_the_midst(
    path: Path, change: Callable[[Path], object], promised: Promise | None
) -> None:
    for sent in range(5):
        path.write_bytes(DATA)
        body = Body(OpenFile(str(path)), 0, 40, promised)
        blocks = iter(body)
        given = b"".join(itertools.islice(blocks, sent))
        tick(path.parent)
        change(path)
        try:
            for block in blocks:
                given += block
        except FileChanged:
            assert len(given) < 40
        assert given == DATA[: len(given)]
        body.close()


def test_an_earlier_change_is_found_by_the_digest(path: Path) -> None:
    """Within one tick of the clock, the identity may be that of the old content."""
    promised = promise(DATA[::-1])
    for start, stop in ((0, 40), (0, 1), (39, 40), (9, 30)):
        given: list[bytes] = []
        with pytest.raises(FileChanged), OpenFile(str(path)) as file:
            given.extend(Body(file, start, stop, promised))
        assert len(b"".join(given)) < stop - start


def test_an_empty_file(path: Path) -> None:
    path.write_bytes(b"")
    for promised in (None, promise(b"")):
        body = Body(OpenFile(str(path)), 0, 0, promised)
        assert b"".join(body) == b""
        body.close()
    with pytest.raises(FileChanged), OpenFile(str(path)) as file:
        Body(file, 0, 0, Promise(0, 0, hashlib.sha256(b"x").digest()))


def test_a_slice_is_as_good_as_a_file(path: Path) -> None:
    """Of a shard that is served in two cuts, only the one that is sent is read."""
    for offset, length in ((0, 20), (20, 20), (3, 30), (8, 8), (40, 0)):
        data = DATA[offset : offset + length]
        body = Body(OpenFile(str(path)), offset, offset + length, promise(data, offset))
        assert b"".join(body) == data
        body.close()
    given: list[bytes] = []
    with pytest.raises(FileChanged), OpenFile(str(path)) as file:
        given.extend(Body(file, 20, 40, promise(DATA[:20], 20)))
    assert len(b"".join(given)) < 20


def test_a_change_before_the_first_block_is_told_at_once(path: Path) -> None:
    """While there is still time for another answer."""
    file = OpenFile(str(path))
    in_place(path, DATA[::-1])
    os.utime(path, (1, 1))
    with pytest.raises(FileChanged):
        Body(file, 32, 40)
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.read(0, 1)


def test_files_are_closed(path: Path) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    body = Body(OpenFile(str(path)), 0, 40)
    next(iter(body))
    body.close()
    body.close()
    assert len(os.listdir("/proc/self/fd")) == before
    body = Body(OpenFile(str(path)), 0, 40)
    next(iter(body))
    del body
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_process_does_not_inherit_the_file(path: Path) -> None:
    with OpenFile(str(path)) as file:
        assert not os.get_inheritable(file._fd)


# Roots


def test_join(tmp_path: Path) -> None:
    assert Root(str(tmp_path)).join("a/b.bin") == str(tmp_path / "a" / "b.bin")


def test_holds(tmp_path: Path) -> None:
    for folder in ("m", "m2", "trusted", "trusted2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w.bin").write_bytes(DATA)
    root = Root(str(tmp_path / "m"), (str(tmp_path / "trusted"),))
    links = {
        "w.bin": True,
        "../m/w.bin": True,
        "../trusted/w.bin": True,
        "../m2/w.bin": False,
        "../trusted2/w.bin": False,
        "/etc/hostname": False,
        "..": False,
        ".": True,
    }
    for i, (target, held) in enumerate(links.items()):
        link = tmp_path / "m" / f"{i}"
        link.symlink_to(target)
        assert root.holds(str(link)) is held, target
        assert (root.identify(f"{i}") is not None) == (held and target != "."), target
    # A root of everything, and one that is itself reached by a link.
    assert Root(str(tmp_path / "m"), ("/",)).holds("/etc/hostname")
    (tmp_path / "alias").symlink_to("m")
    assert Root(str(tmp_path / "alias")).holds(str(tmp_path / "alias/w.bin"))
    assert Root(str(tmp_path / "alias")).holds(str(tmp_path / "m/w.bin"))


def test_no_block_of_another_content_is_sent(path: Path) -> None:
    """A cache may keep a part that was cut and have it completed later."""
    path.write_bytes(b"old" * 1000)
    with OpenFile(str(path)) as file:
        blocks = iter(Body(file, 0, 3000))
        assert next(blocks) == (b"old" * 1000)[:BLOCK]
        tick(path.parent)
        in_place(path, b"new" * 1000)
        with pytest.raises(FileChanged):
            next(blocks)
