"""Every fault that files show is answered where the client looks: at the model's JSON,
500 and the reason. What a broken model consists of is withheld, without a byte."""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import resource
import shutil
import struct
import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeApp
from conftest import grow_old
from filesystem import bind
from filesystem import tick
from filesystem import time_limit
from filesystem import unprivileged_directory
from flask import Flask
from flask.testing import FlaskClient
from models import DENSE_BYTES
from models import dense_document
from models import write_model

from flask_tfjs import InvalidModel
from flask_tfjs.format import strict_json
from flask_tfjs.models.directory import ModelDirectory
from flask_tfjs.models.files import OpenFile

JSON = "/models/m/model.json"
LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 12345\n"
)

A, B = DENSE_BYTES[:16], DENSE_BYTES[16:]

Spoil = Callable[[Path], object]


@pytest.fixture(autouse=True)
def never_hang() -> Iterator[None]:
    with time_limit(30):
        yield


def write_sound(directory: Path) -> None:
    """A sound model of two shards, and beside it another one of its own."""
    document = dense_document("a.bin", "b.bin")
    write_model(directory, document=document, shards={"a.bin": A, "b.bin": B})
    write_model(
        directory,
        entry="other.json",
        document=dense_document("o.bin"),
        shards={"o.bin": DENSE_BYTES},
    )


def mend(directory: Path) -> None:
    for name in ("model.json", "a.bin", "b.bin"):
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif os.path.lexists(path):
            path.unlink()
    write_sound(directory)


def document(**members: Any) -> Spoil:
    """Another JSON in place of the sound one."""
    return raw(json.dumps({**dense_document("a.bin", "b.bin"), **members}).encode())


def manifest(*groups: Any) -> Spoil:
    return document(weightsManifest=list(groups))


def group(*weights: Any, paths: tuple[str, ...] = ("a.bin", "b.bin")) -> Any:
    return {"paths": list(paths), "weights": list(weights)}


def weight(name: str, shape: Any, dtype: Any = "float32", **members: Any) -> Any:
    return {"name": name, "shape": shape, "dtype": dtype, **members}


def raw(data: bytes, name: str = "model.json") -> Spoil:
    return lambda directory: (directory / name).write_bytes(data)


def both(*spoils: Spoil) -> Spoil:
    return lambda directory: [spoil(directory) for spoil in spoils]


def shard(data: bytes) -> Spoil:
    return raw(data, "b.bin")


def in_place_of_b(make: Callable[[Path], object]) -> Spoil:
    def spoil(directory: Path) -> None:
        (directory / "b.bin").unlink()
        make(directory / "b.bin")

    return spoil


def link_to(target: str) -> Spoil:
    return in_place_of_b(lambda path: path.symlink_to(target))


MISSING_B = (
    "weightsManifest[0].paths[1]: b.bin is missing or not a regular file; "
    "put it back or convert the model again"
)
LINK_OUT = (
    "weightsManifest[0].paths[1]: b.bin is a link that leads out of the registered "
    "directory; name the folder it leads to in TFJS_LINK_ROOTS"
)


@dataclass(frozen=True)
class Fault:
    """:ivar named: the shards that the JSON still names."""

    spoil: Spoil
    error: str
    named: tuple[str, ...] = ("a.bin", "b.bin")


FAULTS = {
    # The JSON
    "truncated": Fault(
        lambda d: os.truncate(d / "model.json", 200),
        "model.json: is not JSON: ",
        named=(),
    ),
    "empty": Fault(raw(b""), "model.json: is empty; copy it again", named=()),
    "page": Fault(
        raw(b"<!doctype html><h1>Not Found</h1>"),
        "model.json: is a page or an error message, not JSON",
        named=(),
    ),
    "JSON is a Git LFS pointer": Fault(
        raw(LFS_POINTER),
        "model.json: is a Git LFS pointer, not the file itself; run 'git lfs pull'",
        named=(),
    ),
    "not UTF-8": Fault(
        raw(b'{"modelTopology": "\xe9"}'),
        "model.json: is not UTF-8 (byte 19); save it as UTF-8",
        named=(),
    ),
    "UTF-16": Fault(
        lambda d: raw((d / "model.json").read_text().encode("utf-16"))(d),
        "model.json: is not UTF-8 (byte 0); save it as UTF-8",
        named=(),
    ),
    "NaN": Fault(
        manifest(group(weight("w", [8], quantization={"min": float("nan")}))),
        "model.json: contains NaN, which is not JSON: no browser reads it; ",
        named=(),
    ),
    "overflow": Fault(
        raw(b'{"modelTopology": 1e999}'),
        "model.json: contains the number 1e999, which a browser reads as Infinity",
        named=(),
    ),
    "nested": Fault(
        raw(b'{"modelTopology":' + b"[" * 300 + b"]" * 300 + b"}"),
        "model.json: is nested more than 200 levels deep",
        named=(),
    ),
    # Its members
    "topology": Fault(
        document(modelTopology={"layers": []}),
        "modelTopology: is neither a graph ('node') nor a Keras model",
        named=(),
    ),
    "storage dump": Fault(
        document(weightsManifest=None, weightSpecs=[], weightData=""),
        "weightSpecs: is a storage dump, which no URL can load; ",
        named=(),
    ),
    "no list": Fault(
        document(weightsManifest={"paths": []}),
        "weightsManifest: is not a list of groups",
        named=(),
    ),
    "no weights": Fault(
        manifest({"paths": ["a.bin"]}),
        "weightsManifest[0].weights: is missing",
        named=(),
    ),
    "no paths": Fault(
        manifest({"weights": []}),
        "weightsManifest[0].paths: is missing",
        named=(),
    ),
    "dtype": Fault(
        manifest(group(weight("w", [16], "float16"))),
        "weightsManifest[0].weights[0].dtype: 'float16' of weight 'w' is not a dtype",
        named=(),
    ),
    "quantization": Fault(
        manifest(group(weight("w", [8], quantization=None))),
        "weightsManifest[0].weights[0].quantization: is not an object; leave the key",
        named=(),
    ),
    "name twice": Fault(
        manifest(group(weight("w", [4]), weight("w", [4]))),
        "weightsManifest[0].weights[1].name: the name 'w' occurs twice; ",
        named=(),
    ),
    "shape": Fault(
        manifest(group(weight("w", [-8]))),
        "weightsManifest[0].weights[0].shape[0]: -8 is not a size: a whole number",
        named=(),
    ),
    "huge shape": Fault(
        manifest(group(weight("w", [2**40, 2**40]))),
        "weightsManifest[0].weights[0].shape: has more than 2**53 elements",
        named=(),
    ),
    # Where its paths lead
    "path out": Fault(
        manifest(group(weight("w", [4]), paths=("a.bin", "../m/b.bin"))),
        "weightsManifest[0].paths[1]: '../m/b.bin' leads out of the model's directory",
        named=("a.bin",),
    ),
    "path elsewhere": Fault(
        manifest(group(weight("w", [4]), paths=("a.bin", "https://h/b.bin"))),
        "weightsManifest[0].paths[1]: 'https://h/b.bin' is not a relative path; a ",
        named=("a.bin",),
    ),
    "hidden path": Fault(
        manifest(group(weight("w", [4]), paths=("a.bin", ".b.bin"))),
        "weightsManifest[0].paths[1]: '.b.bin' names a hidden file",
        named=("a.bin",),
    ),
    # The shards
    "missing": Fault(lambda d: (d / "b.bin").unlink(), MISSING_B),
    "first missing": Fault(
        lambda d: (d / "a.bin").unlink(),
        "weightsManifest[0].paths[0]: a.bin is missing or not a regular file; ",
    ),
    "directory": Fault(in_place_of_b(Path.mkdir), MISSING_B),
    "FIFO": Fault(in_place_of_b(os.mkfifo), MISSING_B),
    "socket": Fault(in_place_of_b(bind), MISSING_B),
    "dangling link": Fault(link_to("gone.bin"), MISSING_B),
    "link to itself": Fault(link_to("b.bin"), MISSING_B),
    "link to a directory": Fault(link_to("."), MISSING_B),
    "link out": Fault(link_to("../good/weights.bin"), LINK_OUT),
    "link to a device": Fault(link_to("/dev/zero"), MISSING_B),
    "Git LFS pointer": Fault(
        shard(LFS_POINTER),
        "b.bin: is a Git LFS pointer, not the weights; run 'git lfs pull'",
    ),
    "Git LFS pointer of the right size": Fault(
        both(
            manifest(group(weight("w", [16 + len(LFS_POINTER)], "bool"))),
            shard(LFS_POINTER),
        ),
        "b.bin: is a Git LFS pointer",
    ),
    "page of the right size": Fault(
        shard(b"\n <!DOCTYPE HTML>"[:16]),
        "b.bin: is a page or an error message, not weights; download it again",
    ),
    "page of another case": Fault(shard(b"<HTML><body>...."), "b.bin: is a page or"),
    "XML": Fault(shard(b"<?xml version='1"), "b.bin: is a page or"),
    "short": Fault(
        shard(B[:-1]),
        "weightsManifest[0].paths: the shards have 31 bytes, the weights need 32; "
        "copy again the one that is short (a.bin 16, b.bin 15)",
    ),
    "empty shard": Fault(
        shard(b""), "weightsManifest[0].paths: the shards have 16 bytes, the weights "
    ),
    "one short shard": Fault(
        manifest(
            group(weight("w", [4]), paths=("a.bin",)),
            group(weight("v", [5]), paths=("b.bin",)),
        ),
        "b.bin: has 16 bytes, the weights of weightsManifest[1] need 20; copy it again",
    ),
    "shifted": Fault(
        manifest(
            group(weight("w", [3]), paths=("a.bin",)),
            group(weight("v", [4]), paths=("b.bin",)),
        ),
        "weightsManifest[0].paths: the shards have 16 bytes, the weights need 12: the "
        "4 too many would shift every weight of the groups after it",
    ),
    "strings cut short": Fault(
        both(
            manifest(group(weight("w", [4]), weight("s", [2], "string"))),
            shard(struct.pack("<I4sI", 4, b"text", 9)),
        ),
        "weightsManifest[0].weights[1]: the strings of weight 's' run over the end of "
        "the shards (28 bytes); a client would read empty strings",
    ),
}

#: What is a fault with ``TFJS_REPAIR = False`` only.
MENDED_FAULTS = {
    "last shard larger": Fault(
        both(manifest(group(weight("w", [8]), weight("v", [4]))), shard(bytes(32))),
        "b.bin: is larger than the shards before it, and TensorFlow.js 4.5 and later "
        "would read weight 'v' as zeros; cut the weights into shards of one size",
    ),
}

every_fault = pytest.mark.parametrize(
    "config, fault",
    [
        *(pytest.param({}, fault, id=name) for name, fault in FAULTS.items()),
        *(
            pytest.param({"TFJS_REPAIR": False}, fault, id=name)
            for name, fault in MENDED_FAULTS.items()
        ),
    ],
)


@pytest.fixture
def config() -> dict[str, Any]:
    return {}


@pytest.fixture(params=["young", "old"])
def app(
    request: pytest.FixtureRequest,
    make_app: MakeApp,
    tmp_path: Path,
    config: dict[str, Any],
) -> Flask:
    write_sound(tmp_path / "m")
    write_model(tmp_path / "good")
    models = {"m": tmp_path / "m", "good": tmp_path / "good"}
    app = make_app(TFJS_MODELS=models, **config)
    if request.param == "old":
        grow_old(app)
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def error_of(client: FlaskClient, url: str = JSON) -> str:
    with client.get(url) as response:
        assert response.status_code == 500, response.data
        assert response.mimetype == "application/json"
        assert response.headers["Cache-Control"] == "no-store"
        error = response.get_json()["error"]
    assert isinstance(error, str)
    return error


def fetch(client: FlaskClient, name: str) -> tuple[int, bytes]:
    with client.get(f"/models/m/{name}") as response:
        return response.status_code, response.data


def assert_sound(client: FlaskClient) -> None:
    with client.get(JSON) as response:
        assert response.status_code == 200, response.data
    assert fetch(client, "a.bin") == (200, A)
    assert fetch(client, "b.bin") == (200, B)


def assert_neighbours_are_unharmed(client: FlaskClient) -> None:
    for url in ("/models/good/model.json", "/models/m/other.json"):
        with client.get(url) as response:
            assert response.status_code == 200
    for url in ("/models/good/weights.bin", "/models/m/o.bin"):
        with client.get(url) as response:
            assert (response.status_code, response.data) == (200, DENSE_BYTES)


@every_fault
def test_faults(
    client: FlaskClient,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    fault: Fault,
) -> None:
    assert_sound(client)
    tick(tmp_path)
    fault.spoil(tmp_path / "m")
    error = error_of(client)
    assert error.startswith(fault.error)
    assert str(tmp_path) not in error and len(error) < 400
    for url in ("/models/m", "/models/m/", "/models/m/model.json?a=1"):
        assert error_of(client, url) == error
    with client.head(JSON) as response:
        assert (response.status_code, response.data) == (500, b"")
    for name in ("a.bin", "b.bin"):
        led_out = fault.error == LINK_OUT and name == "b.bin"
        there = (tmp_path / "m" / name).is_file() and not led_out
        withheld = there and name in fault.named
        assert fetch(client, name) == (500 if withheld else 404, b""), name
    assert_neighbours_are_unharmed(client)
    records = [r for r in caplog.records if r.name == "flask_tfjs"]
    assert [(r.levelno, r.getMessage()) for r in records] == [
        (logging.ERROR, f"model m ({tmp_path / 'm'}) cannot be served: {error}")
    ]
    tick(tmp_path)
    mend(tmp_path / "m")
    assert_sound(client)


@every_fault
def test_a_mended_shard_needs_no_look_at_the_json(
    client: FlaskClient, tmp_path: Path, fault: Fault
) -> None:
    """The process that is asked for a shard may be another one than the one that
    served the JSON, and may know the model as it was."""
    fault.spoil(tmp_path / "m")
    error_of(client)
    fetch(client, "a.bin")
    tick(tmp_path)
    mend(tmp_path / "m")
    assert fetch(client, "a.bin") == (200, A)
    assert fetch(client, "b.bin") == (200, B)


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"labels": ["a"]}'])
def test_another_json_is_no_model(
    make_app: MakeApp, tmp_path: Path, content: str
) -> None:
    write_model(tmp_path / "m", document=content.encode())
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    with client.get(JSON) as response:
        assert response.status_code == 404
        assert response.get_json()["error"].startswith(
            "m: model.json is JSON, but not a TensorFlow.js model"
        )
    assert fetch(client, "weights.bin") == (404, b"")


def test_a_large_json(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (tmp_path / "m/model.json").stat().st_size
    monkeypatch.setattr(strict_json, "MAX_BYTES", size - 1)
    assert error_of(client) == (
        f"model.json: has {size} bytes; a model's JSON may have {size - 1}"
    )


def test_a_json_of_a_terabyte(client: FlaskClient, tmp_path: Path) -> None:
    """It is not read to be refused."""
    for name in ("model.json", "labels.json"):
        (tmp_path / "m" / name).touch()
        os.truncate(tmp_path / "m" / name, 2**40)
    assert error_of(client).startswith(f"model.json: has {2**40} bytes; a model's JSON")
    assert_neighbours_are_unharmed(client)


def test_a_shard_that_only_begins_like_a_pointer(
    client: FlaskClient, tmp_path: Path
) -> None:
    data = LFS_POINTER + bytes(2000)
    manifest(group(weight("w", [16 + len(data)], "bool")))(tmp_path / "m")
    shard(data)(tmp_path / "m")
    with client.get(JSON) as response:
        # Larger than the first, but the one weight starts before it.
        assert response.status_code == 200, response.data


def test_faults_do_not_grow(client: FlaskClient, tmp_path: Path) -> None:
    """An error that is kept and raised again drags its tracebacks along."""
    (tmp_path / "m/b.bin").unlink()
    directory = ModelDirectory("m", str(tmp_path / "m"))
    directory.digests.clock = lambda: time.time_ns() + 60_000_000_000

    def depth() -> int:
        with pytest.raises(InvalidModel) as caught:
            directory.delivery("model.json")
        return len(caught.traceback)

    assert depth() >= depth() == depth()


# What may be in a directory, or in place of it


def test_an_empty_directory(make_app: MakeApp, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    with client.get(JSON) as response:
        assert response.status_code == 404
        assert response.get_json()["error"].startswith("m: no JSON file in it")
    write_sound(tmp_path / "m")
    assert_sound(client)


def test_a_directory_that_goes_and_comes(
    client: FlaskClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert_sound(client)
    (tmp_path / "m").rename(tmp_path / "elsewhere")
    for url in (JSON, "/models/m/", "/models/m/other.json", JSON):
        assert error_of(client, url) == (
            "m: the directory cannot be read: No such file or directory; "
            "put it back or correct the path"
        )
    assert fetch(client, "a.bin") == (500, b"")
    assert fetch(client, "labels.txt") == (500, b"")
    with client.get("/models/good/model.json") as response:
        assert response.status_code == 200
    assert len([r for r in caplog.records if r.name == "flask_tfjs"]) == 1
    (tmp_path / "elsewhere").rename(tmp_path / "m")
    assert_sound(client)


A_FILE = "the path is a file; register the directory or the model's .json file"
LOOP = (
    "the directory cannot be read: Too many levels of symbolic links; "
    "put it back or correct the path"
)


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda path: path.write_bytes(b"x"), A_FILE),
        (os.mkfifo, A_FILE),
        (lambda path: path.symlink_to("/dev/zero"), A_FILE),
        (lambda path: path.symlink_to(path.name), LOOP),
    ],
    ids=["file", "FIFO", "device", "loop"],
)
def test_no_directory(
    make_app: MakeApp, tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path / "m")
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    assert error_of(client) == f"m: {reason}"


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, bind, Path.mkdir, lambda path: path.symlink_to("/dev/zero")],
    ids=["FIFO", "socket", "directory", "device"],
)
@pytest.mark.parametrize(
    "name", ["model.json", "x.json", "labels.txt", "sub/model.json"]
)
def test_what_is_no_file_is_passed_over(
    make_app: MakeApp, tmp_path: Path, name: str, make: Callable[[Path], object]
) -> None:
    write_model(tmp_path / "m", entry="sound.json")
    (tmp_path / "m/sub").mkdir()
    make(tmp_path / "m" / name)
    config = {"TFJS_MODELS": {"m": tmp_path / "m"}, "TFJS_LINK_ROOTS": ["/dev"]}
    client = make_app(**config).test_client()
    with client.get(f"/models/m/{name}") as response:
        # Whatever else answers for the directory's main entry, it is the sound model.
        main = name == "model.json"
        assert response.status_code == (200 if main else 404)
    for url in ("/models/m/sound.json", "/models/m"):
        with client.get(url) as response:
            assert response.status_code == 200


def test_a_registered_file_that_is_no_file(make_app: MakeApp, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.json")
    client = make_app(TFJS_MODELS={"m": tmp_path / "m.json"}).test_client()
    with client.get(JSON) as response:
        assert response.status_code == 404


# Permissions and failures of the system


@pytest.mark.parametrize("name", ["model.json", "b.bin"])
def test_a_file_that_nobody_may_read(make_app: MakeApp, name: str) -> None:
    with unprivileged_directory() as directory:
        write_sound(directory)
        app = make_app(TFJS_MODELS={"m": directory})
        grow_old(app)
        client = app.test_client()
        (directory / name).chmod(0)
        assert error_of(client) == f"{name}: cannot be read: Permission denied"
        assert fetch(client, "b.bin")[1] == b""
        tick(directory)
        (directory / name).chmod(0o644)
        assert_sound(client)


def test_a_directory_that_nobody_may_read(make_app: MakeApp) -> None:
    with unprivileged_directory() as directory:
        write_sound(directory)
        app = make_app(TFJS_MODELS={"m": directory})
        grow_old(app)
        client = app.test_client()
        directory.chmod(0)
        assert error_of(client) == (
            "m: the directory cannot be read: Permission denied; "
            "put it back or correct the path"
        )
        assert fetch(client, "b.bin") == (500, b"")
        tick(directory)
        directory.chmod(0o755)
        assert_sound(client)


def test_a_folder_that_nobody_may_read(make_app: MakeApp) -> None:
    with unprivileged_directory() as directory:
        write_sound(directory / "sub")
        app = make_app(TFJS_MODELS={"m": directory})
        grow_old(app)
        client = app.test_client()
        (directory / "sub").chmod(0)
        with client.get("/models/m/sub/model.json") as response:
            assert response.status_code == 404
        tick(directory)
        (directory / "sub").chmod(0o755)
        with client.get("/models/m/sub/model.json") as response:
            assert response.status_code == 200


def fail_to_read(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    inode, read = path.stat().st_ino, OpenFile.read

    def fail(file: OpenFile, offset: int, length: int) -> bytes:
        if file.identity.inode == inode:
            raise OSError(errno.EIO, "Input/output error")
        return read(file, offset, length)

    monkeypatch.setattr(OpenFile, "read", fail)


def test_a_folder_that_cannot_be_listed_just_now(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "m/sub")
    scandir = os.scandir

    def fail(path: str) -> Any:
        if path.endswith("sub"):
            raise OSError(errno.EIO, "Input/output error")
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", fail)
        with client.get("/models/m/sub/model.json") as response:
            assert response.status_code == 404
        assert_sound(client)
    with client.get("/models/m/sub/model.json") as response:
        assert response.status_code == 200


@pytest.mark.parametrize("name", ["model.json", "b.bin"])
def test_a_failing_disk(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Nothing is remembered of a failure that no time stamp tells the end of."""
    with monkeypatch.context() as patch:
        fail_to_read(patch, tmp_path / "m" / name)
        assert error_of(client) == f"{name}: cannot be read: Input/output error"
        assert fetch(client, "b.bin")[1] == b""
        assert_neighbours_are_unharmed(client)
    assert_sound(client)


def test_a_failing_disk_does_not_make_a_model_of_any_json(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good/labels.json").write_text('["a", "b"]')
    (tmp_path / "good/model.json").rename(tmp_path / "good/named.json")
    with monkeypatch.context() as patch:
        fail_to_read(patch, tmp_path / "good/labels.json")
        assert "cannot be read" in error_of(client, "/models/good/labels.json")
        with client.get("/models/good") as response:
            assert response.status_code == 404
    for url in ("/models/good/labels.json", "/models/good/named.json", "/models/good"):
        with client.get(url) as response:
            assert response.status_code == 200, url


def test_too_many_open_files(client: FlaskClient, tmp_path: Path) -> None:
    assert_sound(client)
    tick(tmp_path)
    (tmp_path / "m/b.bin").write_bytes(B)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
    taken = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        assert "Too many open files" in error_of(client)
        assert fetch(client, "b.bin")[1] == b""
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert_sound(client)


def test_a_response_that_is_dropped_leaves_no_file_open(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(response: Any) -> Any:
        raise RuntimeError("a hook of the app")

    app.after_request(fail)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    # Its records would keep the responses.
    monkeypatch.setattr(app.logger, "disabled", True)
    client = app.test_client()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with client.get("/models/m/a.bin") as response:
            assert response.status_code == 500
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
