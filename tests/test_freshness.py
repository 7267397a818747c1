"""Files change under the running server: never old bytes under a new tag, new bytes
under an old length, or 304 for another content; and the very next answer is the new."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from conftest import MakeApp
from conftest import grow_old
from filesystem import make_clock_coarse
from filesystem import tick
from flask import Flask
from flask.testing import FlaskClient
from models import DENSE_BYTES
from models import content_name
from models import dense_document
from models import write_model

from flask_tfjs import ModelNotFound
from flask_tfjs.models import files
from flask_tfjs.models.directory import ModelDirectory
from flask_tfjs.models.files import FileChanged
from flask_tfjs.models.registry import register

JSON = "/models/dense/model.json"
SHARD = "/models/dense/weights.bin"
OTHER_BYTES = DENSE_BYTES[::-1]
HOUR = 3_600_000_000_000

Change = Callable[[Path, bytes], object]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "dense"


@pytest.fixture
def shard(directory: Path) -> Path:
    return directory / "weights.bin"


@pytest.fixture(params=["young", "coarse", "old"])
def app(
    request: pytest.FixtureRequest, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> Flask:
    """An app to which the files are as young as they are, on a file system with a fine
    or a coarse clock, or old enough to be remembered."""
    app = make_app()
    if request.param == "coarse":
        make_clock_coarse(monkeypatch)
    if request.param == "old":
        grow_old(app)
    return app


class Answers:
    """What a client was told, held against what it was told before."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client
        self.contents: dict[tuple[str, str], bytes] = {}

    def get(self, url: str, **headers: str) -> tuple[int, bytes]:
        with self.client.get(url, headers=headers) as response:
            data = response.data
            if response.status_code == 200:
                self.remember(url, response.headers["ETag"], data)
                assert response.headers["Content-Length"] == str(len(data))
                digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
                assert response.headers["Repr-Digest"] == f"sha-256=:{digest}:"
            return response.status_code, data

    def remember(self, url: str, tag: str, data: bytes) -> None:
        # One tag never names two contents.
        assert self.contents.setdefault((url, tag), data) == data

    def tag(self, url: str) -> str:
        with self.client.head(url) as response:
            assert response.status_code == 200
            return response.headers["ETag"]

    def json(self, url: str = JSON) -> Any:
        status, data = self.get(url)
        assert status == 200, data
        return json.loads(data)

    def error(self, url: str = JSON) -> str:
        status, data = self.get(url)
        assert status == 500, data
        return str(json.loads(data)["error"])


# What an app that believes its files to be old cannot know.
young = pytest.mark.parametrize("app", ["young", "coarse"], indirect=True)


@pytest.fixture
def answers(app: Flask) -> Answers:
    return Answers(app.test_client())


def in_place(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()


def in_place_same_mtime(path: Path, data: bytes) -> None:
    stat = path.stat()
    in_place(path, data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def anew(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def replace(path: Path, data: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(data)
    other.replace(path)


def replace_same_mtime(path: Path, data: bytes) -> None:
    stat = path.stat()
    replace(path, data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def in_the_future(path: Path, data: bytes) -> None:
    in_place(path, data)
    soon = time.time_ns() + HOUR
    os.utime(path, ns=(soon, soon))


def from_the_past(path: Path, data: bytes) -> None:
    in_place(path, data)
    os.utime(path, ns=(0, 0))


CHANGES: dict[str, Change] = {
    "in place": in_place,
    "in place, same mtime": in_place_same_mtime,
    "written anew": anew,
    "replaced": replace,
    "replaced, same mtime": replace_same_mtime,
    "mtime in the future": in_the_future,
    "mtime in the past": from_the_past,
}

every_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@every_change
def test_a_shard_of_the_same_size(
    answers: Answers, directory: Path, shard: Path, change: Change
) -> None:
    for data in (OTHER_BYTES, DENSE_BYTES, bytes(32)):
        answers.json()
        answers.get(SHARD)
        tags = answers.tag(JSON), answers.tag(SHARD)
        tick(directory)
        change(shard, data)
        assert answers.get(SHARD, **{"If-None-Match": tags[1]}) == (200, data)
        assert answers.get(JSON, **{"If-None-Match": tags[0]})[0] == 200
        assert answers.get(SHARD) == (200, data)
        assert (answers.tag(JSON) != tags[0]) and (answers.tag(SHARD) != tags[1])
        for url in (JSON, SHARD):
            assert answers.get(url, **{"If-None-Match": answers.tag(url)})[0] == 304


@every_change
def test_a_shard_of_another_size(
    answers: Answers, directory: Path, shard: Path, change: Change
) -> None:
    answers.get(SHARD)
    tick(directory)
    change(shard, DENSE_BYTES + b"more")
    assert answers.get(SHARD) == (200, DENSE_BYTES + b"more")
    tick(directory)
    change(shard, DENSE_BYTES[:-1])
    assert answers.get(SHARD) == (500, b"")
    assert answers.error().startswith("weights.bin: has 31 bytes")
    tick(directory)
    change(shard, b"")
    assert answers.get(SHARD) == (500, b"")
    assert answers.error().startswith("weights.bin: has 0 bytes")
    tick(directory)
    change(shard, DENSE_BYTES)
    assert answers.get(SHARD) == (200, DENSE_BYTES)
    answers.json()


@every_change
def test_the_json(answers: Answers, directory: Path, change: Change) -> None:
    answers.json()
    for note in ("a", "b"):
        tag = answers.tag(JSON)
        tick(directory)
        document = dense_document("weights.bin", note=note)
        change(directory / "model.json", json.dumps(document).encode())
        assert answers.get(JSON, **{"If-None-Match": tag})[0] == 200
        assert answers.json()["note"] == note


@every_change
def test_an_asset(answers: Answers, directory: Path, change: Change) -> None:
    (directory / "labels.txt").write_bytes(b"one")
    url = "/models/dense/labels.txt"
    for data in (b"two", b"six", b"three", b""):
        tag = answers.tag(url)
        tick(directory)
        change(directory / "labels.txt", data)
        assert answers.get(url, **{"If-None-Match": tag}) == (200, data)


@pytest.fixture(params=["fine", "coarse"])
def looked_at(
    request: pytest.FixtureRequest,
    make_app: MakeApp,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ModelDirectory:
    """Without a request around it, a look takes far less than a tick."""
    if request.param == "coarse":
        make_clock_coarse(monkeypatch)
    make_app()
    return ModelDirectory("dense", str(directory), assets=["labels.txt"])


def test_shards_within_one_tick(looked_at: ModelDirectory, shard: Path) -> None:
    digests = set()
    for i in range(300):
        data = b"%032d" % i
        in_place(shard, data)
        served = looked_at.file("weights.bin")
        assert served.digest.sha256 == hashlib.sha256(data).digest()
        digests.add(looked_at.delivery("model.json").digest)
    assert len(digests) == 300


def test_entries_within_one_tick(looked_at: ModelDirectory, directory: Path) -> None:
    path = directory / "model.json"
    model = path.read_bytes()
    for _ in range(100):
        in_place(path, b"{}".ljust(len(model)))
        assert looked_at.entries() == []
        with pytest.raises(ModelNotFound):
            looked_at.file("weights.bin")
        in_place(path, model)
        assert looked_at.entries() == ["model.json"]
        assert looked_at.file("weights.bin").shard


def test_names_of_a_listing_within_one_tick(
    looked_at: ModelDirectory, directory: Path
) -> None:
    (directory / "sub").mkdir()
    for i in range(200):
        path = directory / ("sub" if i % 2 else "") / f"{i}.txt"
        name = path.relative_to(directory).as_posix()
        path.touch()
        assert name in looked_at.listing().names
        path.unlink()
        assert name not in looked_at.listing().names


@young
def test_within_one_tick(answers: Answers, shard: Path) -> None:
    """Faster than the clock of the file system: the tags still differ."""
    stat = shard.stat()
    tags = ("", "")
    for i in range(150):
        data = b"%032d" % i
        in_place(shard, data)
        os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert answers.get(SHARD, **{"If-None-Match": tags[1]}) == (200, data)
        assert answers.get(JSON, **{"If-None-Match": tags[0]})[0] == 200
        tags = answers.tag(JSON), answers.tag(SHARD)
    assert len(answers.contents) == 300


@young
def test_the_json_within_one_tick(answers: Answers, directory: Path) -> None:
    for i in range(100):
        document = dense_document("weights.bin", note=f"{i:03}")
        in_place(directory / "model.json", json.dumps(document).encode())
        assert answers.json()["note"] == f"{i:03}"


@young
def test_names_within_one_tick(answers: Answers, directory: Path) -> None:
    for i in range(40):
        entry, asset = f"{i}.json", "labels.txt"
        url = f"/models/dense/{entry}"
        assert answers.get(url)[0] == 404
        write_model(
            directory,
            entry=entry,
            document=dense_document(f"{i}.bin"),
            shards={f"{i}.bin": DENSE_BYTES},
        )
        assert answers.json(url)
        assert answers.get(f"/models/dense/{i}.bin") == (200, DENSE_BYTES)
        assert answers.get(f"/models/dense/{asset}")[0] == 404
        (directory / asset).write_text("a")
        assert answers.get(f"/models/dense/{asset}")[0] == 200
        for name in (entry, f"{i}.bin", asset):
            (directory / name).unlink()
        assert answers.get(url)[0] == 404
        assert answers.get(f"/models/dense/{i}.bin")[0] == 404


# What comes and goes


def test_a_shard_goes_and_comes(answers: Answers, directory: Path, shard: Path) -> None:
    for _ in range(2):
        assert answers.get(SHARD) == (200, DENSE_BYTES)
        tick(directory)
        shard.unlink()
        assert answers.get(SHARD) == (404, b"")
        assert "weights.bin is missing" in answers.error()
        tick(directory)
        shard.write_bytes(DENSE_BYTES)
        assert answers.json()


def test_the_json_goes_and_comes(answers: Answers, directory: Path) -> None:
    content = (directory / "model.json").read_bytes()
    for _ in range(2):
        assert answers.get(SHARD) == (200, DENSE_BYTES)
        tick(directory)
        (directory / "model.json").unlink()
        assert answers.get(JSON)[0] == 404
        assert answers.get(SHARD) == (404, b"")
        tick(directory)
        (directory / "model.json").write_bytes(content)
        assert answers.get(SHARD) == (200, DENSE_BYTES)


def test_other_shards(answers: Answers, directory: Path) -> None:
    """An edited manifest gives URLs and takes them."""
    (directory / "a.bin").write_bytes(DENSE_BYTES[:16])
    (directory / "b.bin").write_bytes(DENSE_BYTES[16:])
    assert answers.get("/models/dense/a.bin") == (404, b"")
    assert answers.get(SHARD)[0] == 200
    tick(directory)
    document = dense_document("a.bin", "b.bin")
    (directory / "model.json").write_text(json.dumps(document))
    assert answers.get(SHARD) == (404, b"")
    assert answers.get("/models/dense/b.bin") == (200, DENSE_BYTES[16:])
    assert answers.json()["weightsManifest"][0]["paths"] == [
        content_name("a", DENSE_BYTES[:16]),
        content_name("b", DENSE_BYTES[16:]),
    ]


def test_a_more_literal_name_appears(answers: Answers, directory: Path) -> None:
    document = dense_document("w%20x.bin")
    files = {"w x.bin": DENSE_BYTES}
    write_model(directory, document=document, shards=files)
    names = [content_name(stem, DENSE_BYTES) for stem in ("w-x", "w-20x")]
    assert answers.json()["weightsManifest"][0]["paths"] == names[:1]
    assert answers.get("/models/dense/w%20x.bin") == (200, DENSE_BYTES)
    tag = answers.tag(JSON)
    tick(directory)
    (directory / "w%20x.bin").write_bytes(DENSE_BYTES)
    # The same weights under another name: a client must learn it.
    assert answers.get(JSON, **{"If-None-Match": tag})[0] == 200
    assert answers.json()["weightsManifest"][0]["paths"] == names[1:]
    for name in ("w%2520x.bin", names[1]):
        assert answers.get(f"/models/dense/{name}") == (200, DENSE_BYTES)


def test_the_only_entry_moves(answers: Answers, directory: Path) -> None:
    shutil.rmtree(directory)
    write_model(directory, entry="v1/model.json")
    urls = ("/models/dense", "/models/dense/", JSON)
    tags = {url: answers.tag(url) for url in urls}
    tick(directory)
    (directory / "v1").rename(directory / "v2")
    for url in urls:
        assert answers.get(url, **{"If-None-Match": tags[url]})[0] == 200
        (path,) = answers.json(url)["weightsManifest"][0]["paths"]
        assert f"/{path}".endswith(f"/v2/{content_name('weights', DENSE_BYTES)}")
        assert answers.get(urljoin(url, path)) == (200, DENSE_BYTES)


def test_entries_come_and_go(answers: Answers, directory: Path) -> None:
    urls = {"zoo/a.json": "/models/dense/zoo/a.json", "b.json": "/models/dense/b.json"}
    for entry, url in urls.items():
        assert answers.get(url)[0] == 404
        tick(directory)
        write_model(directory, entry=entry)
        answers.json(url)
    tick(directory)
    shutil.rmtree(directory / "zoo")
    assert answers.get(urls["zoo/a.json"])[0] == 404
    assert answers.get("/models/dense/zoo/weights.bin") == (404, b"")
    tick(directory)
    write_model(directory, entry="zoo/mobilenet/v2/model.json")
    answers.json("/models/dense/zoo/mobilenet/v2/model.json")


def test_a_name_is_registered_anew(make_app: MakeApp, tmp_path: Path) -> None:
    for name, data in (("1", DENSE_BYTES), ("2", OTHER_BYTES)):
        write_model(tmp_path / name, shards={"weights.bin": data})
    path = str(tmp_path / "tfjs.json")
    register(path, "dense", str(tmp_path / "1"))
    answers = Answers(make_app(TFJS_MODELS={}, TFJS_REGISTRY=path).test_client())
    assert answers.get(SHARD) == (200, DENSE_BYTES)
    register(path, "dense", str(tmp_path / "2"))
    assert answers.get(SHARD) == (200, OTHER_BYTES)
    answers.json()


def test_the_directory_is_replaced(answers: Answers, tmp_path: Path) -> None:
    """As a deployment does that renames a whole directory."""
    for data in (OTHER_BYTES, DENSE_BYTES):
        answers.get(SHARD)
        write_model(tmp_path / "next", shards={"weights.bin": data})
        (tmp_path / "dense").rename(tmp_path / f"old-{data[:2].hex()}")
        (tmp_path / "next").rename(tmp_path / "dense")
        assert answers.get(SHARD) == (200, data)
        answers.json()


def test_a_shard_swapped_between_two_requests(
    answers: Answers, directory: Path, shard: Path
) -> None:
    """The answer is that of the new file, tag and length and all."""
    answers.json()
    tick(directory)
    replace(shard, OTHER_BYTES)
    assert answers.get(SHARD) == (200, OTHER_BYTES)
    tick(directory)
    replace(shard, OTHER_BYTES + b"more")
    assert answers.get(SHARD) == (200, OTHER_BYTES + b"more")


def test_a_tag_goes_back_with_the_content(
    answers: Answers, directory: Path, shard: Path
) -> None:
    tags = answers.tag(JSON), answers.tag(SHARD)
    tick(directory)
    in_place(shard, OTHER_BYTES)
    answers.json()
    tick(directory)
    in_place(shard, DENSE_BYTES)
    assert (answers.tag(JSON), answers.tag(SHARD)) == tags


# Ranges


def test_ranges(answers: Answers, directory: Path, shard: Path) -> None:
    for data in (DENSE_BYTES, OTHER_BYTES, bytes(32)):
        tick(directory)
        in_place(shard, data)
        tag = answers.tag(SHARD)
        for value, part in (("0-0", data[:1]), ("5-9", data[5:10]), ("-3", data[29:])):
            headers = {"Range": f"bytes={value}", "If-Range": tag}
            assert answers.get(SHARD, **headers) == (206, part)
    headers = {"Range": "bytes=0-0", "If-Range": tag}
    tick(directory)
    in_place(shard, OTHER_BYTES)
    assert answers.get(SHARD, **headers) == (200, OTHER_BYTES)


# Changes while a body is on its way


@pytest.mark.parametrize("part", [None, "bytes=3-30"])
@pytest.mark.parametrize(
    "change",
    [*CHANGES.values(), lambda path, data: path.unlink()],
    ids=[*CHANGES, "unlinked"],
)
@pytest.mark.parametrize("data", [OTHER_BYTES, OTHER_BYTES + b"more", b"less"])
def test_a_body_on_its_way(
    app: Flask,
    directory: Path,
    shard: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Change,
    data: bytes,
    part: str | None,
) -> None:
    monkeypatch.setattr(files, "BLOCK_SIZE", 8)
    tick(directory)
    shard.write_bytes(DENSE_BYTES)
    headers = {"Range": part} if part else {}
    with app.test_client().get(SHARD, headers=headers, buffered=False) as response:
        expected = DENSE_BYTES[3:31] if part else DENSE_BYTES
        assert response.headers["Content-Length"] == str(len(expected))
        blocks = response.iter_encoded()
        given = next(blocks)
        tick(directory)
        change(shard, data)
        try:
            for block in blocks:
                given += block
        except FileChanged:
            assert len(given) < len(expected)
        else:
            assert given == expected


def test_a_change_between_the_look_and_the_opening(
    app: Flask, directory: Path, shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that is opened is another one than that of the tag: look again."""
    answers = Answers(app.test_client())
    answers.get(SHARD)
    opened = files.OpenFile.__init__
    times = iter(range(100))

    def open_late(self: files.OpenFile, path: str) -> None:
        if next(times) < 2 and path.endswith(".bin"):
            tick(directory)
            replace(shard, OTHER_BYTES + b"more")
        opened(self, path)

    monkeypatch.setattr(files.OpenFile, "__init__", open_late)
    assert answers.get(SHARD) == (200, OTHER_BYTES + b"more")


def test_files_of_two_moments_make_no_model(
    answers: Answers, directory: Path, shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The JSON has been read when another model comes in place of the whole."""
    opened = files.OpenFile.__init__
    document = dense_document("weights.bin", note="new")
    document["weightsManifest"][0]["weights"] = [
        {"name": "w", "shape": [9], "dtype": "float32"}
    ]
    written = json.dumps(document).encode()
    turns = iter(range(100))

    def open_late(self: files.OpenFile, path: str) -> None:
        if path.endswith(".bin") and next(turns) == 0:
            replace(shard, bytes(36))
            replace(directory / "model.json", written)
        opened(self, path)

    monkeypatch.setattr(files.OpenFile, "__init__", open_late)
    document["weightsManifest"][0]["paths"] = [content_name("weights", bytes(36))]
    assert answers.json() == document
    assert answers.get(SHARD) == (200, bytes(36))


SIZE = 256 * 1024


def content(turn: int) -> bytes:
    """One byte all over: any two contents mixed are seen as such."""
    return bytes([turn % 251]) * SIZE


@pytest.mark.parametrize("clock", ["fine", "coarse"])
def test_a_file_that_is_written_to_all_the_time(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: str
) -> None:
    if clock == "coarse":
        make_clock_coarse(monkeypatch)
    monkeypatch.setattr(files, "BLOCK_SIZE", 64 * 1024)
    document = dense_document("weights.bin")
    spec = {"name": "w", "shape": [SIZE], "dtype": "bool"}
    document["weightsManifest"][0]["weights"] = [spec]
    write_model(
        tmp_path / "dense", document=document, shards={"weights.bin": content(0)}
    )
    app = make_app(TFJS_MODELS={"dense": tmp_path / "dense"})
    stop = threading.Event()
    whole, parts, refused = [0], [0], [0]
    wrong: list[object] = []

    def write() -> None:
        fd = os.open(tmp_path / "dense/weights.bin", os.O_WRONLY)
        turn = 0
        while not stop.is_set():
            turn += 1
            os.pwrite(fd, content(turn), 0)
            # Long enough at times for a reader to get through.
            time.sleep(0.02 * (turn % 3))
        os.close(fd)

    def read(part: str | None) -> None:
        client = app.test_client()
        headers = {"Range": part} if part else {}
        while not stop.is_set():
            try:
                with client.get(SHARD, headers=headers) as response:
                    data = response.data
            except FileChanged:
                refused[0] += 1
                continue
            digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
            if response.status_code == 200:
                whole[0] += 1
                sound = response.headers["Repr-Digest"] == f"sha-256=:{digest}:"
                sound = sound and len(data) == SIZE
            elif response.status_code == 206:
                parts[0] += 1
                whole_content = hashlib.sha256(data[:1] * SIZE).hexdigest()[:32]
                sound = response.headers["ETag"] == f'"{whole_content}"'
                sound = sound and len(data) == 100_000
            else:
                refused[0] += 1
                sound = response.status_code in (500, 503) and not data
            if not sound or len(set(data)) > 1:
                wrong.append((response.status_code, dict(response.headers), len(data)))

    def run(target: Callable[[], None]) -> None:
        try:
            target()
        except Exception as error:
            wrong.append(error)
            stop.set()

    jobs = [write, lambda: read(None), lambda: read(None)]
    jobs.append(lambda: read("bytes=50000-149999"))
    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    stop.wait(1)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert whole[0] and parts[0]
