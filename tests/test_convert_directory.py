"""Directories and files that converting writes: whole or not at all, and nothing that
was there is lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import typing as t
import zipfile
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from clients.drivers import Node
from clients.drivers import start_node
from filesystem import bind
from filesystem import unprivileged_directory
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from models import DENSE_BYTES
from models import DENSE_WEIGHTS
from models import FLATTEN_TOPOLOGY
from models import LAYERS_TOPOLOGY
from models import dense_document
from models import write_model
from publishing import snapshot
from publishing import without_waiting
from reference import graph_model
from reference import read_model
from servers import TESTS
from servers import serve_pages

from flask_tfjs import InvalidModel
from flask_tfjs import TFJSError
from flask_tfjs.convert import directory as directory_module
from flask_tfjs.convert.directory import SHARD_BYTES
from flask_tfjs.convert.directory import NewDirectory
from flask_tfjs.convert.directory import new_file
from flask_tfjs.format.repair import first_unread_byte
from flask_tfjs.models.directory import ModelDirectory
from flask_tfjs.models.findings import check_model

DOCUMENT = {"format": "layers-model", "modelTopology": LAYERS_TOPOLOGY}

Weights = list[tuple[dict[str, t.Any], bytes]]


def dense_weights(data: bytes = DENSE_BYTES) -> Weights:
    return [(DENSE_WEIGHTS[0], data[:24]), (DENSE_WEIGHTS[1], data[24:])]


def write(destination: Path, data: bytes = DENSE_BYTES, **how: t.Any) -> None:
    with NewDirectory(destination, **how) as new:
        new.write_model(DOCUMENT, dense_weights(data))


def holds(directory: Path, data: bytes = DENSE_BYTES) -> bool:
    """Whether the model in *directory* is whole and has these weights."""
    document = json.loads((directory / "model.json").read_bytes())
    [group] = document["weightsManifest"]
    joined = b"".join((directory / path).read_bytes() for path in group["paths"])
    return joined == data and group["weights"] == DENSE_WEIGHTS


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".tfjs-")]


# What is written


def test_a_model(tmp_path: Path) -> None:
    write(tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["new"]
    assert snapshot(tmp_path / "new") == {
        "group1-shard1of1.bin": DENSE_BYTES,
        "model.json": json.dumps(
            {
                **DOCUMENT,
                "weightsManifest": [
                    {"paths": ["group1-shard1of1.bin"], "weights": DENSE_WEIGHTS}
                ],
            },
            separators=(",", ":"),
        ).encode(),
    }
    model = ModelDirectory("new", str(tmp_path / "new"))
    assert not list(check_model(model))


def test_the_shards_of_a_large_model(tmp_path: Path) -> None:
    elements = SHARD_BYTES // 4 * 2 + 1
    values = np.arange(elements, dtype="<f4")
    spec = {"name": "w", "shape": [elements], "dtype": "float32"}
    with NewDirectory(tmp_path / "new") as new:
        assert new.write_model(DOCUMENT, [(spec, values)]) == values.nbytes
    sizes = {
        path.name: path.stat().st_size for path in (tmp_path / "new").glob("*.bin")
    }
    assert sizes == {
        "group1-shard1of3.bin": SHARD_BYTES,
        "group1-shard2of3.bin": SHARD_BYTES,
        "group1-shard3of3.bin": 4,
    }
    assert read_model(tmp_path / "new" / "model.json")["w"]["shape"] == [elements]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=8))
def test_any_sizes(pieces: list[bytes]) -> None:
    """The same bytes in the same order, in shards in which every client finds them."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as name:
        folder = Path(name)
        patch.setattr(directory_module, "SHARD_BYTES", 16)
        patch.setattr(os, "fsync", without_waiting)
        weights = [
            ({"name": str(i), "shape": [len(piece)], "dtype": "bool"}, piece)
            for i, piece in enumerate(pieces)
        ]
        with NewDirectory(folder / "new") as new:
            new.write_model(DOCUMENT, weights)
        document = json.loads((folder / "new" / "model.json").read_bytes())
        shards = [
            (folder / "new" / path).read_bytes()
            for group in document["weightsManifest"]
            for path in group["paths"]
        ]
        assert b"".join(shards) == b"".join(pieces)
        sizes = [len(shard) for shard in shards]
        assert all(size == 16 for size in sizes[:-1])
        assert first_unread_byte(sizes) is None
        assert len(shards) == len(os.listdir(folder / "new")) - 1


ARRAYS = [
    np.arange(6, dtype="<f4").reshape(3, 2),
    np.arange(6, dtype="<f4").reshape(2, 3).T,
    np.arange(12, dtype="<f4")[::2],
    np.array(5, "<f4"),
    np.empty((0, 3), "<f4"),
]


@pytest.mark.parametrize("values", ARRAYS, ids=lambda one: str(one.shape))
def test_arrays(tmp_path: Path, values: t.Any) -> None:
    spec = {"name": "w", "shape": list(values.shape), "dtype": "float32"}
    with NewDirectory(tmp_path / "new") as new:
        new.write_model(DOCUMENT, [(spec, values)])
    assert (tmp_path / "new/group1-shard1of1.bin").read_bytes() == values.tobytes()


def test_it_is_the_same_each_time(tmp_path: Path) -> None:
    write(tmp_path / "one")
    write(tmp_path / "two")
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


def test_each_weight_is_asked_for_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written before need not stay in memory."""
    monkeypatch.setattr(directory_module, "SHARD_BYTES", 100)
    written: list[int] = []

    def weights() -> Iterator[tuple[dict[str, t.Any], bytes]]:
        for index in range(3):
            sizes = [path.stat().st_size for path in Path(new.path).iterdir()]
            written.append(sum(sizes))
            yield {"name": str(index), "shape": [100], "dtype": "bool"}, b"\1" * 100

    with NewDirectory(tmp_path / "new") as new:
        new.write_model(DOCUMENT, weights())
    assert written == [0, 100, 200]


@pytest.mark.parametrize(
    ("document", "manifest"),
    [
        ({"modelTopology": FLATTEN_TOPOLOGY}, None),
        ({"modelTopology": LAYERS_TOPOLOGY}, []),
        (graph_model([]), []),
    ],
    ids=["layers without weights", "layers", "graph"],
)
def test_without_weights(
    tmp_path: Path, document: dict[str, t.Any], manifest: object
) -> None:
    """As the loader of that kind reads it."""
    with NewDirectory(tmp_path / "new") as new:
        assert new.write_model(document, []) == 0
    assert os.listdir(tmp_path / "new") == ["model.json"]
    written = json.loads((tmp_path / "new/model.json").read_bytes())
    assert written.get("weightsManifest") == manifest


def test_other_members_stay_and_an_old_manifest_does_not(tmp_path: Path) -> None:
    document = dense_document("old.bin", userDefinedMetadata={"a": [1, None]})
    with NewDirectory(tmp_path / "new") as new:
        new.write_model(document, dense_weights())
    written = json.loads((tmp_path / "new/model.json").read_bytes())
    assert written["userDefinedMetadata"] == {"a": [1, None]}
    assert holds(tmp_path / "new")


def test_two_weights_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="occurs twice"):
        with NewDirectory(tmp_path / "new") as new:
            new.write_model(DOCUMENT, [*dense_weights(), *dense_weights()])
    assert not os.listdir(tmp_path)


def test_a_weight_whose_bytes_are_not_those_of_its_spec(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="bytes and specs differ"):
        write(tmp_path / "new", DENSE_BYTES[:-1])
    assert not os.listdir(tmp_path)


def test_a_file_beside_it(tmp_path: Path) -> None:
    with NewDirectory(tmp_path / "new") as new:
        new.write_model(DOCUMENT, dense_weights())
        new.write_file("labels.txt", [b"cat\n", b"dog\n"])
    assert (tmp_path / "new/labels.txt").read_bytes() == b"cat\ndog\n"
    assert holds(tmp_path / "new")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with start_node(tmp_path_factory.mktemp("node")) as node:
        yield node


def test_tfjs_loads_it(
    tmp_path: Path, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a plain file server, cut into many shards; and what has nothing but weights
    without values."""
    monkeypatch.setattr(directory_module, "SHARD_BYTES", 5)
    write(tmp_path / "dense")
    empty = {"name": "w", "shape": [0, 3], "dtype": "float32"}
    with NewDirectory(tmp_path / "empty") as new:
        new.write_model(graph_model([(empty, b"")]), [(empty, b"")])
    with serve_pages(tmp_path) as pages:
        for name, loader in (("dense", "layers"), ("empty", "graph")):
            url = f"{pages.origin}/{name}/model.json"
            for progress in (False, True):
                result = node.run({"loader": loader, "url": url, "progress": progress})
                assert result.get("weights") == read_model(
                    tmp_path / name / "model.json"
                ), result


# Where it may go


Prepare = Callable[[Path], object]


def _folder_with(*names: str) -> Prepare:
    def prepare(path: Path) -> None:
        path.mkdir()
        for name in names:
            (path / name).write_bytes(b"{}")

    return prepare


def _folder_of_source(path: Path) -> None:
    write_model(path)
    shutil.copy(path / "model.json", path.parent / "copy")
    (path / "model.keras").write_bytes(b"source")


REFUSED: list[tuple[str, Prepare, bool, str]] = [
    ("a file", lambda path: path.write_bytes(b""), False, "is not a directory; name"),
    ("a file", lambda path: path.write_bytes(b""), True, "is not a directory; name"),
    ("a socket", bind, True, "is not a directory; name another"),
    ("a model", write_model, False, "is there and not empty; --force replaces"),
    ("others", _folder_with("app.py"), False, "is there and not empty; --force"),
    ("others", _folder_with("app.py"), True, "is there and holds no model.json, so"),
    ("the source", _folder_of_source, False, "is or holds what is read, "),
    ("the source", _folder_of_source, True, "is or holds what is read, "),
]


@pytest.mark.parametrize(
    ("prepare", "force", "sentence"),
    [
        pytest.param(*row[1:], id=f"{row[0]}{', --force' if row[2] else ''}")
        for row in REFUSED
    ],
)
def test_a_destination_that_is_refused(
    tmp_path: Path, prepare: Prepare, force: bool, sentence: str
) -> None:
    """Before anything is done, and nothing has changed."""
    place = tmp_path / "place"
    prepare(place)
    source = place / "model.keras"
    before = snapshot(tmp_path)
    with pytest.raises(TFJSError) as refused:
        with NewDirectory(
            place, force=force, source=source if source.exists() else None
        ):
            raise AssertionError("it was let in")
    assert str(refused.value).startswith(f"{place} ")
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert snapshot(tmp_path) == before


def test_the_source_itself(tmp_path: Path) -> None:
    """By whatever name it goes."""
    write_model(tmp_path / "place")
    (tmp_path / "link").symlink_to("place")
    (tmp_path / "file").symlink_to("place/weights.bin")
    for place in ("place", "link"):
        for source in ("place", "link", "place/weights.bin", "file"):
            with pytest.raises(TFJSError, match="is or holds what is read"):
                write(tmp_path / place, force=True, source=tmp_path / source)
    assert holds(tmp_path / "place")


def test_beside_and_in_the_source(tmp_path: Path) -> None:
    """What lies beside it or in it is not it."""
    source = write_model(tmp_path / "model")
    write(tmp_path / "model-16", source=source)
    write(source / "16", source=source)
    assert holds(tmp_path / "model-16") and holds(source / "16") and holds(source)


def test_parents_are_made(tmp_path: Path) -> None:
    """And are removed if nothing comes into them."""
    for path in (tmp_path / "a/b/c", tmp_path / "a/b/d"):
        write(path)
        assert holds(path)
    put(tmp_path / "e/f.keras")
    (tmp_path / "g").mkdir()
    before = snapshot(tmp_path)
    for path in (tmp_path / "g/h/i/j", tmp_path / "a/x"):
        with pytest.raises(KeyboardInterrupt), NewDirectory(path) as new:
            new.write_model(DOCUMENT, dense_weights())
            raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt), new_file(path):
            raise KeyboardInterrupt
        for number in (1, 2, 3, 4):
            with failing(number, once=False), pytest.raises(TFJSError):
                write(path)
            assert snapshot(tmp_path) == before


def test_a_parent_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file/new", tmp_path / "file/a/new"):
        for attempt in (write, put):
            with pytest.raises(TFJSError) as refused:
                attempt(path)
            assert str(refused.value) == f"{path} cannot be written: Not a directory"
    with pytest.raises(TFJSError, match="destination is empty"):
        NewDirectory("")


def test_where_nobody_may_write() -> None:
    with unprivileged_directory() as folder:
        write_model(folder / "old")
        folder.chmod(0o555)
        for path in (folder / "new", folder / "a/new", folder / "old"):
            with pytest.raises(TFJSError) as refused:
                write(path, force=True)
            assert str(refused.value) == f"{path} cannot be written: Permission denied"
        assert os.listdir(folder) == ["old"]


def test_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "place"
    (place / "inner").mkdir(parents=True)
    for here in (place / "inner", place):
        monkeypatch.chdir(here)
        for force in (False, True):
            with pytest.raises(TFJSError, match="is the current directory, or a mount"):
                write(place, force=force)
    with pytest.raises(TFJSError, match=r"^\. is the current directory"):
        NewDirectory(".").__enter__()
    write(Path("inner"))
    assert holds(place / "inner")
    assert Path("/proc").is_mount()
    with pytest.raises(TFJSError, match="mount point"):
        write(Path("/proc"))


def test_an_empty_directory(tmp_path: Path) -> None:
    """It takes its place, and lets in whom it let in."""
    place = tmp_path / "place"
    place.mkdir(mode=0o750)
    place.chmod(0o750)
    write(place)
    assert holds(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o750
    assert os.listdir(tmp_path) == ["place"]


def test_who_may_read_it(tmp_path: Path) -> None:
    """Whoever may read what else this process makes: the server may be another user."""
    previous = os.umask(0o027)
    try:
        write(tmp_path / "new")
        with new_file(tmp_path / "file") as file:
            file.write(b"")
    finally:
        os.umask(previous)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*")}
    assert modes == {
        "new": 0o750,
        "model.json": 0o640,
        "group1-shard1of1.bin": 0o640,
        "file": 0o640,
    }


# In place of another


OTHER_BYTES = DENSE_BYTES[::-1]


def test_a_model_is_replaced(tmp_path: Path) -> None:
    place = write_model(tmp_path / "place")
    place.chmod(0o700)
    write(place, OTHER_BYTES, force=True)
    assert holds(place, OTHER_BYTES)
    assert sorted(os.listdir(place)) == ["group1-shard1of1.bin", "model.json"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert os.listdir(tmp_path) == ["place"]


def test_what_else_is_there_stays(tmp_path: Path) -> None:
    """Encodings of the old files go with them: a server would send them for the new."""
    place = write_model(
        tmp_path / "place",
        shards={"group1-shard1of2.bin": DENSE_BYTES, "group1-shard2of2.bin": b""},
    )
    (place / "labels.txt").write_bytes(b"cat")
    (place / ".git").mkdir()
    (place / ".git/config").write_bytes(b"mine")
    (place / "new.txt").write_bytes(b"old")
    for encoding in ("model.json.gz", "group1-shard1of2.bin.br"):
        (place / encoding).write_bytes(b"old")
    with NewDirectory(place, force=True) as new:
        new.write_model(DOCUMENT, dense_weights(OTHER_BYTES))
        new.write_file("new.txt", [b"new"])
    assert holds(place, OTHER_BYTES)
    assert snapshot(place).keys() - {"model.json", "group1-shard1of1.bin"} == {
        *("labels.txt", ".git", ".git/config", "new.txt")
    }
    assert (place / ".git/config").read_bytes() == b"mine"
    assert (place / "new.txt").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["place"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    write_model(tmp_path / "v1")
    link = tmp_path / "current"
    link.symlink_to("v1")
    write(link, OTHER_BYTES, force=True)
    assert link.is_symlink() and holds(tmp_path / "v1", OTHER_BYTES)
    (tmp_path / "nowhere").symlink_to("v2")
    write(tmp_path / "nowhere")
    assert holds(tmp_path / "v2")


def test_a_broken_model_is_replaced(tmp_path: Path) -> None:
    place = tmp_path / "place"
    _folder_with("model.json", "group1-shard1of1.bin")(place)
    (place / "model.json").write_bytes(b'{"modelTopology": ')
    write(place, force=True)
    assert holds(place)


APPEARS: list[tuple[Prepare, bool]] = [
    (write_model, False),
    (_folder_with("a"), False),
    (_folder_with("a"), True),
    (lambda path: path.write_bytes(b"file"), False),
    (lambda path: path.write_bytes(b"file"), True),
]


@pytest.mark.parametrize(("prepare", "force"), APPEARS)
def test_what_appears_meanwhile_stays(
    tmp_path: Path, prepare: Prepare, force: bool
) -> None:
    before: dict[str, bytes | None] = {}
    with pytest.raises(TFJSError):
        with NewDirectory(tmp_path / "place", force=force) as new:
            new.write_model(DOCUMENT, dense_weights(OTHER_BYTES))
            prepare(tmp_path / "place")
            before = look_around(tmp_path)
    assert look_around(tmp_path) == before
    assert not hidden(tmp_path)


def look_around(folder: Path) -> dict[str, bytes | None]:
    found = snapshot(folder).items()
    return {name: data for name, data in found if not name.startswith(".tfjs-")}


def test_what_appears_at_the_last_moment_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last look: the system itself refuses."""
    monkeypatch.setattr(NewDirectory, "_refuse", lambda self: None)
    monkeypatch.setattr(directory_module, "_refuse_file", lambda place, force: None)
    _folder_with("a")(tmp_path / "place")
    (tmp_path / "file").write_bytes(b"other")
    before = snapshot(tmp_path)
    with pytest.raises(TFJSError, match="cannot be written: Directory not empty"):
        write(tmp_path / "place")
    with pytest.raises(TFJSError, match="cannot be written: Not a directory"):
        write(tmp_path / "file")
    with pytest.raises(TFJSError, match="cannot be written: File exists"):
        put(tmp_path / "file")
    assert snapshot(tmp_path) == before


# When it fails


@pytest.fixture(params=[False, True], ids=["new", "replaced"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    place = tmp_path / "folder/place"
    place.parent.mkdir()
    if request.param:
        write_model(place)
        (place / "labels.txt").write_bytes(b"cat")
    return place


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_failure_leaves_nothing(
    place: Path, error: type[BaseException], moment: str
) -> None:
    before = snapshot(place.parent)

    def weights() -> Iterator[tuple[dict[str, t.Any], bytes]]:
        first, second = dense_weights(OTHER_BYTES)
        yield first
        if moment == "between":
            raise error
        yield second

    with pytest.raises(error):
        with NewDirectory(place, force=True) as new:
            if moment == "before":
                raise error
            new.write_model(DOCUMENT, weights())
            raise error
    assert snapshot(place.parent) == before


def test_a_source_that_cannot_be_read_is_not_blamed_on_the_destination(
    place: Path,
) -> None:
    def weights() -> Iterator[tuple[dict[str, t.Any], bytes]]:
        yield from ()
        raise OSError(errno.EIO, "the source")

    with pytest.raises(OSError, match="the source"):
        with NewDirectory(place, force=True) as new:
            new.write_model(DOCUMENT, weights())
    assert not hidden(place.parent)


#: What needs room on a disk, but for the writing itself.
CALLS = ("fsync", "mkdir", "rename", "replace", "link")


@contextlib.contextmanager
def failing(number: int, *, once: bool) -> Iterator[list[str]]:
    """Calls of the system that change the disk fail: that of the number, or from there
    on. Yields those made."""
    calls: list[str] = []

    def use(name: str, function: Callable[..., t.Any]) -> Callable[..., t.Any]:
        def call(*arguments: t.Any, **named: t.Any) -> t.Any:
            calls.append(name)
            if len(calls) == number or (len(calls) > number and not once):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, use(name, getattr(os, name)))
        yield calls


def restore(folder: Path, found: dict[str, bytes | None]) -> None:
    """What :func:`publishing.snapshot` found."""
    shutil.rmtree(folder)
    folder.mkdir()
    for name, data in found.items():
        if data is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data)


def test_a_disk_that_is_full_at_each_step(place: Path) -> None:
    before = snapshot(place.parent)
    refused, told = 0, ""
    for number in range(1, 100):
        with failing(number, once=True) as calls:
            try:
                write(place, OTHER_BYTES, force=True)
            except TFJSError as error:
                told = str(error)
                assert told.startswith(f"{place} cannot be written: No space")
                refused += 1
        if len(calls) < number:
            break
        if snapshot(place.parent) == before:
            continue
        # What failed comes after the new model was in its place.
        assert holds(place, OTHER_BYTES)
        for kept in hidden(place.parent):
            assert told.endswith(f"; what was in it is now in {kept}")
            assert (kept / "labels.txt").read_bytes() == b"cat"
        restore(place.parent, before)
    assert refused >= 7
    assert holds(place, OTHER_BYTES)


def test_what_cannot_be_put_back_is_told_of(tmp_path: Path) -> None:
    place = write_model(tmp_path / "place")
    with failing(10**6, once=False) as calls:
        write(place, OTHER_BYTES, force=True)
    last = len(calls) - calls[::-1].index("rename")  # brings the new model
    with failing(last, once=False), pytest.raises(TFJSError) as refused:
        write(place, DENSE_BYTES, force=True)
    [kept] = hidden(tmp_path)
    assert str(refused.value).endswith(f"; what was in it is now in {kept}")
    assert holds(kept, OTHER_BYTES)


KILLED = """
import os, signal, sys
from pathlib import Path
from test_convert_directory import *

os.fsync = without_waiting
task, root, force = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "True"
STEPS = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir")

def run(step):
    done = 0
    def count(event, arguments):
        nonlocal done
        opens = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if opens or event in STEPS:
            done += 1
            if done > step:
                os.kill(os.getpid(), signal.SIGKILL)
    if force:
        write_model(root / str(step) / "place")
    else:
        (root / str(step)).mkdir()
    sys.addaudithook(count)
    globals()[task](root / str(step) / "place", force)
    os._exit(0)

for step in range(100):
    child = os.fork()
    if not child:
        try:
            run(step)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status)
    if status != -signal.SIGKILL:
        break
"""


def killed(task: str, root: Path, force: bool) -> Iterator[Path]:
    """The folder that each run leaves that is killed at a step, and last that of one
    which is not."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, task, str(root), str(force)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    ended = [int(line) for line in done.stdout.split()]
    assert ended[-1] == 0, done.stderr
    assert ended[:-1] == [-signal.SIGKILL] * (len(ended) - 1)
    assert len(ended) > 3
    for step in range(len(ended)):
        yield root / str(step)


def write_place(place: Path, force: bool) -> None:
    write(place, OTHER_BYTES, force=force)


@pytest.mark.parametrize("force", [False, True], ids=["new", "replaced"])
def test_killed_at_each_step(tmp_path: Path, force: bool) -> None:
    old = DENSE_BYTES if force else None
    states = []
    for folder in killed("write_place", tmp_path, force):
        place = folder / "place"
        if not place.exists():
            states.append("none")
            if force:  # between two moves: both are there, beside it
                moved = [p for p in hidden(folder) if (p / "model.json").exists()]
                assert len(moved) == 2
        elif holds(place, OTHER_BYTES):
            states.append("new")
        else:
            assert old is not None and holds(place, old)
            states.append("old")
    none, new = states.count("none"), states.count("new")
    assert new and states[-new:] == ["new"] * new
    if force:
        assert none == 1 and states[-new - 1] == "none" and states[0] == "old"
    else:
        assert states == ["none"] * none + ["new"] * new
    # Whoever comes next is not hindered by what was left.
    write(tmp_path / "0" / "place", OTHER_BYTES, force=True)


# Files


def put(destination: Path, data: bytes = b"new", **how: t.Any) -> None:
    with new_file(destination, **how) as file:
        file.write(data)


def test_a_file(tmp_path: Path) -> None:
    with new_file(tmp_path / "m.keras") as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("config.json", "{}")
        assert not (tmp_path / "m.keras").exists()
    assert os.listdir(tmp_path) == ["m.keras"]
    assert zipfile.is_zipfile(tmp_path / "m.keras")


def test_a_file_of_hdf5(tmp_path: Path) -> None:
    import h5py

    with new_file(tmp_path / "m.h5") as file, h5py.File(file, "w") as h5:
        h5["w"] = np.arange(5)
    with h5py.File(tmp_path / "m.h5") as h5:
        assert h5["w"][4] == 4


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with pytest.raises(TFJSError) as refused:
        put(path)
    assert str(refused.value) == f"{path} is there; --force replaces it"
    (tmp_path / "link").symlink_to(path.name)
    with pytest.raises(TFJSError, match="is what is read; name another"):
        put(tmp_path / "link", force=True, source=path)
    assert path.read_bytes() == b"old"
    put(tmp_path / "link", force=True)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "m.keras"]
    put(tmp_path / "other", force=True)


NO_FILES: list[tuple[str, Prepare]] = [
    ("a directory", lambda path: path.mkdir()),
    ("a socket", bind),
    ("a device", lambda path: path.symlink_to("/dev/null")),
]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("prepare", [pytest.param(p, id=n) for n, p in NO_FILES])
def test_what_is_no_file_stays(tmp_path: Path, prepare: Prepare, force: bool) -> None:
    prepare(tmp_path / "place")
    with pytest.raises(TFJSError, match="is there and is not a file; name another"):
        put(tmp_path / "place", force=force)
    assert os.listdir(tmp_path) == ["place"]


def test_a_file_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    with pytest.raises(TFJSError, match="is there; --force"):
        with new_file(tmp_path / "m"):
            (tmp_path / "m").write_bytes(b"other")
    assert (tmp_path / "m").read_bytes() == b"other"
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_fails(
    tmp_path: Path, error: type[BaseException], force: bool
) -> None:
    if force:
        (tmp_path / "m").write_bytes(b"old")
    before = snapshot(tmp_path)
    with pytest.raises(error):
        with new_file(tmp_path / "m", force=force) as file:
            file.write(b"half")
            raise error
    assert snapshot(tmp_path) == before


def put_place(place: Path, force: bool) -> None:
    put(place / "model.json" if force else place, b"x" * 100_000, force=force)


@pytest.mark.parametrize("force", [False, True], ids=["new", "replaced"])
def test_a_file_whose_writer_is_killed(tmp_path: Path, force: bool) -> None:
    for folder in killed("put_place", tmp_path, force):
        path = folder / "place/model.json" if force else folder / "place"
        data = path.read_bytes() if path.exists() else None
        if data != b"x" * 100_000:
            assert data == (
                json.dumps(dense_document("weights.bin")).encode() if force else None
            )


def test_a_file_on_a_disk_that_is_full_at_each_step(tmp_path: Path) -> None:
    for old in (None, b"old"):
        for number in range(1, 100):
            path = tmp_path / "m"
            path.unlink(missing_ok=True)
            if old is not None:
                path.write_bytes(old)
            with failing(number, once=False) as calls:
                try:
                    put(path, force=old is not None)
                except TFJSError as error:
                    assert str(error).startswith(f"{path} cannot be written: No space")
            assert not hidden(tmp_path)
            if len(calls) < number:
                assert number > 2
                break
            if path.exists():
                assert path.read_bytes() in (old, b"new")


FULL = """
import os, resource, signal, sys
from pathlib import Path
import h5py
import numpy as np
from test_convert_directory import *

place = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

def model():
    spec = {"name": "w", "shape": [200_000], "dtype": "bool"}
    with NewDirectory(place) as new:
        new.write_model(DOCUMENT, [(spec, bytes(200_000))])

def small():
    names = [str(index) for index in range(100)]
    specs = [{"name": name, "shape": [3000], "dtype": "bool"} for name in names]
    with NewDirectory(place) as new:
        new.write_model(DOCUMENT, [(spec, bytes(3000)) for spec in specs])

def beside():
    with NewDirectory(place) as new:
        new.write_file("a", [bytes(150_000), bytes(50_000)])

def plain():
    put(place, bytes(200_000))

def archive():
    with new_file(place) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", bytes(200_000))

def hdf5():
    with new_file(place) as file, h5py.File(file, "w") as h5:
        h5["w"] = np.zeros(200_000)

for task in (model, small, beside, plain, archive, hdf5):
    try:
        task()
    except TFJSError as error:
        assert str(error) == f"{place} cannot be written: File too large", error
    else:
        raise AssertionError(task)
    assert os.listdir(place.parent) == [], task
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """What a full disk does, without one."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL, str(tmp_path / "place")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
