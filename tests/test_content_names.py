"""A model's JSON names its shards by their content: such a URL means those bytes for
ever, or nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import OPEN_CORS
from conftest import MakeApp
from conftest import grow_old
from filesystem import make_clock_coarse
from filesystem import tick
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
from models import DENSE_BYTES
from models import DENSE_WEIGHTS
from models import dense_document
from models import write_model

from flask_tfjs.format.paths import content_name
from flask_tfjs.format.paths import content_stem
from flask_tfjs.format.paths import stem
from flask_tfjs.models import directory as directory_module
from flask_tfjs.models import served
from flask_tfjs.models.delivery import Verdict
from flask_tfjs.models.delivery import judge
from flask_tfjs.models.files import FileChanged
from flask_tfjs.models.files import OpenFile
from flask_tfjs.models.files import Root

JSON = "/models/dense/model.json"
OTHER_BYTES = DENSE_BYTES[::-1]
HASHED = re.compile(r"(?:.*/)?[A-Za-z0-9_][A-Za-z0-9._-]*\.([0-9a-f]{32})\.bin")
IMMUTABLE = "max-age=31536000, immutable"

HTTP = "http"
LIST = "list"


def hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def name_of(stem: str, data: bytes) -> str:
    return f"{stem}.{hash_of(data)}.bin"


def manifest(client: FlaskClient, url: str) -> list[str]:
    """The paths in the JSON at *url*, those of all groups in one row."""
    with client.get(url) as response:
        assert response.status_code == 200, response.data
        document = response.get_json()
    groups = document if isinstance(document, list) else document["weightsManifest"]
    return [path for group in groups for path in group["paths"]]


def shard_urls(client: FlaskClient, url: str, loader: str = HTTP) -> list[str]:
    """What TensorFlow.js asks for after the JSON at *url* (tfjs-core ``http.ts``,
    ``parseUrl``; ``weights_loader.ts`` for ``tf.io.loadWeights``)."""
    paths = manifest(client, url)
    folder, _, last = url.rpartition("/")
    if loader == LIST:
        return [f"{folder}/{path}" for path in paths]
    query = last[last.index("?") :] if "?" in last else ""
    return [f"{folder}/{path}{query}" for path in paths]


def get(client: FlaskClient, url: str, **headers: str) -> tuple[int, bytes]:
    with client.get(url, headers=headers) as response:
        return response.status_code, response.data


def expect_content(client: FlaskClient, url: str, data: bytes) -> None:
    found = HASHED.fullmatch(url.partition("?")[0])
    assert found is not None and found[1] == hash_of(data), url
    with client.get(url) as response:
        assert (response.status_code, response.data) == (200, data), url
        assert response.headers["Cache-Control"] == IMMUTABLE


def in_place(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()


def replace(path: Path, data: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(data)
    other.replace(path)


# Where the names lead to


@pytest.mark.parametrize(
    "url",
    [
        "/models/dense/model.json",
        "/models/dense/model.json?v=1",
        "/models/dense/",
        "/models/dense/?v=1",
        "/models/dense",
        "/models/dense?v=1",
        "/models/dense/model.json?tfjs-format=file",
        "/models/dense?tfjs-format=file",
    ],
)
def test_every_url_of_a_model(client: FlaskClient, url: str) -> None:
    (shard,) = shard_urls(client, url)
    expect_content(client, shard, DENSE_BYTES)
    assert shard.partition("?")[0] == "/models/dense/" + name_of("weights", DENSE_BYTES)


HALVES = {"a.bin": DENSE_BYTES[:16], "b.bin": DENSE_BYTES[16:]}


@pytest.mark.parametrize(
    ("entry", "shards"),
    [
        ("v1/model.json", {"w.bin": DENSE_BYTES}),
        ("zoo/mobilenet/v2/model.json", HALVES),
        ("v1/model.json", {"weights/w.bin": DENSE_BYTES}),
        ("v1/model.json", {"../w.bin": DENSE_BYTES}),
        ("v1/model.json", {"../v2/a.bin": HALVES["a.bin"], "b.bin": HALVES["b.bin"]}),
    ],
)
def test_nested_entries(
    make_app: MakeApp, tmp_path: Path, entry: str, shards: dict[str, bytes]
) -> None:
    """The names are in the JSON's folder, wherever the files are."""
    (tmp_path / "zoo" / entry).parent.mkdir(parents=True)
    write_model(tmp_path / "zoo", entry=entry, shards=shards)
    client = make_app(TFJS_MODELS={"zoo": tmp_path / "zoo"}).test_client()
    urls = shard_urls(client, f"/models/zoo/{entry}")
    folder = f"/models/zoo/{entry}".rpartition("/")[0]
    assert {url.rpartition("/")[0] for url in urls} == {folder}
    for url, data in zip(urls, shards.values(), strict=True):
        expect_content(client, url, data)
    for url in ("/models/zoo", "/models/zoo/", "/models/zoo/model.json"):
        for shard, data in zip(shard_urls(client, url), shards.values(), strict=True):
            expect_content(client, shard, data)


def test_several_entries_of_a_folder(make_app: MakeApp, tmp_path: Path) -> None:
    """Files of one name in two folders, one file of two entries, one stem of two."""
    files = {
        "a.json": {"w.bin": DENSE_BYTES},
        "b.json": {"w.bin": DENSE_BYTES},
        "c.json": {"w": OTHER_BYTES},
        "d.json": {"sub/w.bin": DENSE_BYTES[::2] * 2},
        "sub/e.json": {"w.bin": DENSE_BYTES[::2] * 2},
    }
    for entry, shards in files.items():
        write_model(tmp_path / "zoo", entry=entry, shards=shards)
    client = make_app(TFJS_MODELS={"zoo": tmp_path / "zoo"}).test_client()
    urls = {entry: shard_urls(client, f"/models/zoo/{entry}") for entry in files}
    for entry, shards in files.items():
        for url, data in zip(urls[entry], shards.values(), strict=True):
            expect_content(client, url, data)
    assert urls["a.json"] == urls["b.json"] != urls["c.json"]
    # A folder's URLs are those of its own entries.
    assert urls["sub/e.json"] == [u.replace("/w.", "/sub/w.") for u in urls["d.json"]]
    (flat,) = urls["a.json"]
    assert get(client, flat.replace("/zoo/", "/zoo/sub/")) == (404, b"")


def test_a_bare_list(make_app: MakeApp, tmp_path: Path) -> None:
    kernel, bias = DENSE_BYTES[:24], DENSE_BYTES[24:]
    document = [
        {"paths": ["kernel.bin"], "weights": DENSE_WEIGHTS[:1]},
        {"paths": ["bias"], "weights": DENSE_WEIGHTS[1:]},
    ]
    shards = {"kernel.bin": kernel, "bias": bias}
    write_model(tmp_path / "l", entry="n.json", document=document, shards=shards)
    client = make_app(TFJS_MODELS={"l": tmp_path / "l"}).test_client()
    urls = shard_urls(client, "/models/l/n.json", LIST)
    for url, data in zip(urls, (kernel, bias), strict=True):
        expect_content(client, url, data)


@pytest.mark.parametrize("count", [1, 3])
def test_one_file_named_several_times(
    make_app: MakeApp, tmp_path: Path, count: int
) -> None:
    weights = [{"name": "w", "shape": [8 * count], "dtype": "float32"}]
    document = {"weightsManifest": [{"paths": ["w.bin"] * count, "weights": weights}]}
    write_model(tmp_path / "m", document=document, shards={"w.bin": DENSE_BYTES})
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    urls = shard_urls(client, "/models/m/model.json")
    assert len(urls) == count
    expect_content(client, urls[-1], DENSE_BYTES)


# What such a URL answers


@pytest.fixture
def url(client: FlaskClient) -> str:
    (url,) = shard_urls(client, JSON)
    return url


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_headers(client: FlaskClient, url: str, method: str) -> None:
    digest = base64.b64encode(hashlib.sha256(DENSE_BYTES).digest()).decode()
    with client.open(url, method=method) as response:
        assert response.status_code == 200
        assert dict(response.headers) == {
            **OPEN_CORS,
            "Accept-Ranges": "bytes",
            "Cache-Control": IMMUTABLE,
            "Content-Length": str(len(DENSE_BYTES)),
            "Content-Type": "application/octet-stream",
            "ETag": f'"{hash_of(DENSE_BYTES)}"',
            "Repr-Digest": f"sha-256=:{digest}:",
            "X-Content-Type-Options": "nosniff",
        }
        assert response.data == (DENSE_BYTES if method == "GET" else b"")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_not_modified(client: FlaskClient, url: str, method: str) -> None:
    headers = {"If-None-Match": f'"{hash_of(DENSE_BYTES)}"'}
    with client.open(url, method=method, headers=headers) as response:
        assert (response.status_code, response.data) == (304, b"")
        assert response.headers["Cache-Control"] == IMMUTABLE
        assert response.headers["ETag"] == headers["If-None-Match"]
    assert get(client, url, **{"If-None-Match": '"other"'}) == (200, DENSE_BYTES)


def test_ranges(client: FlaskClient, url: str) -> None:
    parts = []
    for start in range(0, 32, 7):
        with client.get(url, headers={"Range": f"bytes={start}-{start + 6}"}) as part:
            assert part.status_code == 206
            assert part.headers["Cache-Control"] == IMMUTABLE
            assert part.headers["ETag"] == f'"{hash_of(DENSE_BYTES)}"'
            parts.append(part.data)
    assert b"".join(parts) == DENSE_BYTES
    headers = {"Range": "bytes=0-6", "If-Range": f'"{hash_of(OTHER_BYTES)}"'}
    assert get(client, url, **headers) == (200, DENSE_BYTES)
    headers["If-Range"] = f'"{hash_of(DENSE_BYTES)}"'
    assert get(client, url, **headers) == (206, DENSE_BYTES[:7])


@pytest.mark.parametrize(
    "name",
    [
        name_of("weights", b"unknown"),
        name_of("unknown", DENSE_BYTES),
        name_of("", DENSE_BYTES),
        name_of("sub/weights", DENSE_BYTES),
        name_of("/weights", DENSE_BYTES),
        f"weights.{hash_of(DENSE_BYTES).upper()}.bin",
        f"weights.{hash_of(DENSE_BYTES)[:-1]}.bin",
        f"weights.{hash_of(DENSE_BYTES)}0.bin",
        f"weights.{hash_of(DENSE_BYTES)}",
        f"weights.{hash_of(DENSE_BYTES)}.BIN",
        f"{hash_of(DENSE_BYTES)}.bin",
        f"weights.{hash_of(DENSE_BYTES)}.bin/",
    ],
)
def test_no_such_name(client: FlaskClient, name: str) -> None:
    for _ in range(2):
        assert get(client, f"/models/dense/{name}") == (404, b"")
        manifest(client, JSON)  # from now on it is known what there is


def test_own_names_are_served_too(client: FlaskClient, url: str) -> None:
    with client.get("/models/dense/weights.bin") as own:
        assert own.data == DENSE_BYTES
        assert own.headers["Cache-Control"] == "no-cache"
        assert own.headers["ETag"] == f'"{hash_of(DENSE_BYTES)}"'


# Several processes


def test_the_json_came_from_another_process(make_app: MakeApp, tmp_path: Path) -> None:
    first, second = make_app(), make_app()
    for _ in range(2):
        for url in shard_urls(first.test_client(), JSON):
            expect_content(
                second.test_client(), url, (tmp_path / "dense/weights.bin").read_bytes()
            )
        tick(tmp_path / "dense")
        in_place(tmp_path / "dense/weights.bin", OTHER_BYTES)


def test_another_process_does_not_judge_what_cannot_be_meant(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder with a thousand models, one is hashed to answer for a shard."""
    write_model(tmp_path / "zoo", entry="0/3.json", shards={"3.bin": DENSE_BYTES})
    for i in range(5):
        write_model(
            tmp_path / "zoo", entry=f"{i}.json", shards={f"{i}.bin": DENSE_BYTES}
        )
    judged: list[str] = []

    def watched(root: Root, entry: str, *rest: Any, **more: Any) -> Verdict:
        judged.append(entry)
        return judge(root, entry, *rest, **more)

    monkeypatch.setattr(directory_module, "judge", watched)
    client = make_app(TFJS_MODELS={"zoo": tmp_path / "zoo"}).test_client()
    expect_content(client, "/models/zoo/" + name_of("3", DENSE_BYTES), DENSE_BYTES)
    assert set(judged) == {"3.json"}


# Change


@pytest.fixture(params=["young", "old"])
def aged(request: pytest.FixtureRequest, make_app: MakeApp) -> Flask:
    app = make_app()
    if request.param == "old":
        grow_old(app)
    return app


@pytest.fixture(params=[in_place, replace])
def change(request: pytest.FixtureRequest) -> Callable[[Path, bytes], None]:
    way: Callable[[Path, bytes], None] = request.param
    return way


@pytest.mark.parametrize("ask", ["old name first", "JSON first"])
def test_the_file_changes(
    aged: Flask, tmp_path: Path, change: Callable[[Path, bytes], None], ask: str
) -> None:
    client = aged.test_client()
    contents = [DENSE_BYTES, OTHER_BYTES, bytes(32), DENSE_BYTES]
    for before, after in zip(contents, contents[1:], strict=False):
        (old,) = shard_urls(client, JSON)
        expect_content(client, old, before)
        tick(tmp_path / "dense")
        change(tmp_path / "dense" / "weights.bin", after)
        if ask == "JSON first":
            manifest(client, JSON)
        assert get(client, old) == (404, b"")
        assert get(client, old, **{"Range": "bytes=0-3"}) == (404, b"")
        # Its bytes are gone, so nobody may be told that they are still the same.
        assert get(client, old, **{"If-None-Match": f'"{hash_of(before)}"'})[0] == 404
        (new,) = shard_urls(client, JSON)
        expect_content(client, new, after)


def test_only_the_json_changes(aged: Flask, tmp_path: Path) -> None:
    """Who has the JSON of a moment ago can still load all of it."""
    client = aged.test_client()
    directory = write_model(
        tmp_path / "dense", shards={"a.bin": HALVES["a.bin"], "b.bin": HALVES["b.bin"]}
    )
    old = shard_urls(client, JSON)
    tick(directory)
    document = dense_document("c.bin", note="new")
    write_model(directory, document=document, shards={"c.bin": OTHER_BYTES})
    (new,) = shard_urls(client, JSON)
    expect_content(client, new, OTHER_BYTES)
    for url, data in zip(old, HALVES.values(), strict=True):
        expect_content(client, url, data)
    (directory / "a.bin").unlink()
    assert get(client, old[0]) == (404, b"")
    expect_content(client, old[1], HALVES["b.bin"])


def test_the_json_breaks(aged: Flask, tmp_path: Path) -> None:
    client = aged.test_client()
    (url,) = shard_urls(client, JSON)
    tick(tmp_path / "dense")
    (tmp_path / "dense" / "model.json").write_text('{"weightsManifest": 1}')
    assert client.get(JSON).status_code == 500
    expect_content(client, url, DENSE_BYTES)


def test_the_json_goes(aged: Flask, tmp_path: Path) -> None:
    """Who removes the JSON takes the model from the air."""
    client = aged.test_client()
    (url,) = shard_urls(client, JSON)
    tick(tmp_path / "dense")
    (tmp_path / "dense" / "model.json").rename(tmp_path / "aside")
    assert get(client, url) == (404, b"")
    (tmp_path / "aside").rename(tmp_path / "dense" / "model.json")
    expect_content(client, url, DENSE_BYTES)


def test_the_bytes_come_back(aged: Flask, tmp_path: Path) -> None:
    """Under a name that was gone."""
    client = aged.test_client()
    path = tmp_path / "dense" / "weights.bin"
    (url,) = shard_urls(client, JSON)
    for data, status in ((OTHER_BYTES, 404), (DENSE_BYTES, 200), (bytes(32), 404)):
        tick(path.parent)
        in_place(path, data)
        assert get(client, url)[0] == status


def test_a_young_file_is_verified_while_it_is_sent(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that leaves no trace in the identity of the file."""
    make_clock_coarse(monkeypatch)
    path = tmp_path / "dense" / "weights.bin"
    stat = path.stat()
    (url,) = shard_urls(client, JSON)
    expect_content(client, url, DENSE_BYTES)
    in_place(path, OTHER_BYTES)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    for headers in ({}, {"Range": "bytes=0-3"}):
        status, data = get(client, url, **headers)
        assert status in (404, 503) and data == b""
    (new,) = shard_urls(client, JSON)
    expect_content(client, new, OTHER_BYTES)


def test_written_to_between_the_look_and_the_opening(
    aged: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = aged.test_client()
    path = tmp_path / "dense" / "weights.bin"
    (url,) = shard_urls(client, JSON)
    contents = [OTHER_BYTES]

    def written_and_opened(name: str) -> OpenFile:
        if contents:
            tick(path.parent)
            in_place(path, contents.pop())
        return OpenFile(name)

    monkeypatch.setattr(served, "OpenFile", written_and_opened)
    assert get(client, url) == (404, b"")
    assert not contents


# A file of the user's own that looks like one of ours


def test_a_file_that_looks_hashed(make_app: MakeApp, tmp_path: Path) -> None:
    name = name_of("w", b"something else")
    write_model(tmp_path / "m", shards={name: DENSE_BYTES})
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    for _ in range(2):
        with client.get(f"/models/m/{name}") as own:
            assert own.data == DENSE_BYTES
            assert own.headers["Cache-Control"] == "no-cache"
            assert own.headers["ETag"] == f'"{hash_of(DENSE_BYTES)}"'
        (url,) = shard_urls(client, "/models/m/model.json")
        expect_content(client, url, DENSE_BYTES)
        assert url != f"/models/m/{name}"


def test_a_file_called_as_another_is_by_content(
    make_app: MakeApp, tmp_path: Path
) -> None:
    name = name_of("w", HALVES["a.bin"])
    shards = {"w.bin": HALVES["a.bin"], name: HALVES["b.bin"]}
    write_model(tmp_path / "m", shards=shards)
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    first, second = shard_urls(client, "/models/m/model.json")
    assert first == f"/models/m/{name}"
    expect_content(client, first, HALVES["a.bin"])
    expect_content(client, second, HALVES["b.bin"])


def test_a_file_that_no_manifest_names(client: FlaskClient, tmp_path: Path) -> None:
    name = name_of("weights", b"not named")
    (tmp_path / "dense" / name).write_bytes(b"not named")
    assert get(client, f"/models/dense/{name}") == (404, b"")


# Stems


STEMS = [
    ("weights.bin", "weights"),
    ("group1-shard1of2.bin", "group1-shard1of2"),
    ("group1-shard1of2", "group1-shard1of2"),
    ("w.bin.bin", "w.bin"),
    ("w.BIN", "w.BIN"),
    ("w.weights", "w.weights"),
    ("a b  c.bin", "a-b-c"),
    ("größe.bin", "gr-e"),
    ("重み.bin", "shard"),
    ("重み1.bin", "1"),
    ("_.bin", "_"),
    ("-w.bin", "w"),
    ("%20.bin", "20"),
    ("w?v=1#x&y.bin", "w-v-1-x-y"),
    ("x" * 240 + ".bin", "x" * 100),
    ("<script>.bin", "script-"),
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *STEMS,
        ("sub/dir/w.bin", "w"),
        (".bin", "shard"),
        ("...bin", "shard"),
    ],
)
def test_stem(make_app: MakeApp, tmp_path: Path, name: str, expected: str) -> None:
    assert stem(name) == expected


@pytest.mark.parametrize(("name", "expected"), STEMS)
def test_files_with_odd_names(
    make_app: MakeApp, tmp_path: Path, name: str, expected: str
) -> None:
    write_model(tmp_path / "m", shards={name: DENSE_BYTES})
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    url = "/models/m/" + name_of(expected, DENSE_BYTES)
    # In a process that did not make the JSON.
    expect_content(client, url, DENSE_BYTES)
    assert shard_urls(client, "/models/m/model.json") == [url]


SEGMENTS = st.text(st.sampled_from("a.-_ b/\nß%?x"), min_size=1) | st.text(min_size=1)


@given(SEGMENTS, st.binary())
@example("\n", b"")
@example("a\nb", b"")
@example("/", b"")
@example(name_of("w", b""), b"")
def test_any_stem(name: str, data: bytes) -> None:
    sha256 = hashlib.sha256(data).digest()
    assert re.fullmatch("[A-Za-z0-9._-]{1,100}", stem(name))
    made = content_name(name, sha256)
    assert re.fullmatch("[A-Za-z0-9._-]+", made) and not made.startswith((".", "-"))
    assert content_stem(made) == stem(name)
    for folder in ("some/folder", "some\nfolder", "."):
        assert content_stem(f"{folder}/{made}") == stem(name)
    assert made.endswith(f".{hash_of(data)}.bin")


# Never other bytes


class Fetched:
    """Asks for every name it ever heard of, and holds the bytes against the name."""

    def __init__(self, *clients: FlaskClient) -> None:
        self.clients = clients
        self.urls: list[str] = []
        self.statuses: set[int] = set()

    def hear(self, client: FlaskClient, url: str) -> None:
        with client.get(url) as response:
            if response.status_code == 200:
                document: Any = json.loads(response.data)
                paths = document["weightsManifest"][0]["paths"]
                folder = url.rpartition("/")[0]
                new = {f"{folder}/{path}" for path in paths}.difference(self.urls)
                self.urls += sorted(new)

    def ask(self, client: FlaskClient, url: str, **headers: str) -> None:
        try:
            with client.get(url, headers=headers) as response:
                status, data = response.status_code, response.data
                cache_control = response.headers["Cache-Control"]
                length = int(response.headers["Content-Length"])
        except FileChanged:
            return  # on a real server: the connection is cut
        self.statuses.add(status)
        if status == 200:
            found = HASHED.fullmatch(url)
            assert found is not None and found[1] == hash_of(data)
            assert cache_control == IMMUTABLE
        elif status == 206:
            assert len(data) == length
        else:
            assert data == b"" and cache_control == "no-store"


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("clock", ["young", "coarse", "old"])
def test_random_writes(
    make_app: MakeApp,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clock: str,
    seed: int,
) -> None:
    """Two processes, files that are written, replaced, swapped, or come back."""
    if clock == "coarse":
        make_clock_coarse(monkeypatch)
    directory = write_model(tmp_path / "dense", shards=HALVES)
    write_model(
        directory,
        entry="other.json",
        shards={"a.bin": HALVES["a.bin"], "c.bin": HALVES["b.bin"]},
    )
    apps = [make_app(TFJS_MODELS={"dense": directory}) for _ in range(2)]
    if clock == "old":
        for app in apps:
            grow_old(app)
    fetched = Fetched(*(app.test_client() for app in apps))
    chance = random.Random(seed)
    contents = [bytes([i]) * 16 for i in range(6)]
    names = ["a.bin", "b.bin", "c.bin"]

    def write() -> None:
        path = directory / chance.choice(names)
        data, stat = chance.choice(contents), path.stat()
        if clock == "old":
            tick(directory)
        match chance.randrange(5):
            case 0:
                in_place(path, data)
            case 1:
                replace(path, data)
            case 2:
                in_place(path, data)
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            case 3:
                other = directory / chance.choice(names)
                path.rename(directory / "aside")
                if other.exists():
                    other.rename(path)
                (directory / "aside").rename(other)
            case 4:
                paths = chance.sample(names, 2)
                document = json.dumps(dense_document(*paths, note=chance.random()))
                replace(directory / "model.json", document.encode())
        for name in names:
            if not (directory / name).exists():
                (directory / name).write_bytes(data)

    for _ in range(120):
        write()
        client = chance.choice(fetched.clients)
        if chance.random() < 0.6:
            entry = chance.choice(["model.json", "other.json"])
            fetched.hear(client, f"/models/dense/{entry}")
        for url in chance.sample(fetched.urls, min(4, len(fetched.urls))):
            headers = {"Range": "bytes=0-7"} if chance.random() < 0.2 else {}
            fetched.ask(chance.choice(fetched.clients), url, **headers)
    assert {200, 404} <= fetched.statuses <= {200, 206, 404, 503}


def test_written_to_while_it_is_read(make_app: MakeApp, tmp_path: Path) -> None:
    """Large enough to be read in several blocks."""
    count = 400_000
    weights = [{"name": "w", "shape": [count], "dtype": "float32"}]
    document = {"weightsManifest": [{"paths": ["w.bin"], "weights": weights}]}
    directory = write_model(
        tmp_path / "m", document=document, shards={"w.bin": bytes(4 * count)}
    )
    app = make_app(TFJS_MODELS={"m": directory})
    stop = threading.Event()

    def write() -> None:
        for i in range(1_000_000):
            in_place(directory / "w.bin", bytes([i % 251]) * 4 * count)
            if stop.wait(0.01):
                return

    writer = threading.Thread(target=write)
    writer.start()
    fetched = Fetched(app.test_client())
    try:
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            (client,) = fetched.clients
            fetched.hear(client, "/models/m/model.json")
            for url in fetched.urls[-3:]:
                fetched.ask(client, url)
    finally:
        stop.set()
        writer.join()
    fetched.hear(client, "/models/m/model.json")
    expect_content(client, fetched.urls[-1], (directory / "w.bin").read_bytes())
