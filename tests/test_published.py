"""A published model over HTTP: what was stored byte for byte, for ever or anew each
time, and nothing else of what lies in the store."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import brotli
import pytest
from click.testing import Result
from conftest import OPEN_CORS
from conftest import grow_old
from filesystem import unprivileged_directory
from flask import Flask
from flask import render_template_string
from flask.testing import FlaskClient
from models import dense_document
from models import write_model
from publishing import LABELS
from publishing import NAME
from publishing import SHARD_BYTES
from publishing import Nursery
from publishing import labels
from publishing import load
from publishing import local_store
from publishing import new_app
from publishing import nursery
from publishing import paths_of
from publishing import put
from publishing import put_generation
from publishing import store_of
from publishing import weights_of
from publishing import write_generation
from uploading import CONTENT_TYPE
from uploading import dense_body
from werkzeug.test import TestResponse

from flask_tfjs import allow_all
from flask_tfjs import create_blueprint
from flask_tfjs import rollback
from flask_tfjs import tfjs_preload
from flask_tfjs import tfjs_url
from flask_tfjs import unpublish
from flask_tfjs.cli import tfjs
from flask_tfjs.format.cutting import MIN_SHARD_BYTES
from flask_tfjs.models import files
from flask_tfjs.models import published
from flask_tfjs.models.files import Identity

URL = f"/models/{NAME}"
MAIN = f"{URL}/model.json"
IMMUTABLE = "max-age=31536000, immutable"
ORIGIN = {"Origin": "https://page.example"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return store_of(tmp_path) / NAME


@pytest.fixture(params=["young", "old"])
def app(tmp_path: Path, request: pytest.FixtureRequest) -> Flask:
    """Two versions; nothing is remembered of young files."""
    app = new_app(tmp_path, TFJS_INDEX=True)
    for generation in (1, 2):
        put_generation(app, tmp_path, generation, labels(generation))
    if request.param == "old":
        grow_old(app)
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("children")) as running:
        yield running


def get(client: FlaskClient, url: str, **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = client.get(url, headers=named)
    with response:
        assert response.data is not None  # before it is closed
    return response


def shards_of(client: FlaskClient, url: str = MAIN) -> list[str]:
    """The URLs of the shards, as a client makes them."""
    document = get(client, url).get_json()
    base = url.rpartition("/")[0]
    return [f"{base}/{path}" for path in paths_of(document)]


def weights_at(client: FlaskClient, url: str = MAIN) -> dict[str, bytes]:
    names = weights_of(0)
    bodies = []
    for shard in shards_of(client, url):
        r = get(client, shard)
        assert r.status_code == 200
        bodies.append(r.data)
    return dict(zip(names, bodies, strict=True))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def repr_digest(data: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return f"sha-256=:{digest}:"


# The JSON


def test_model_json(client: FlaskClient, folder: Path) -> None:
    stored = (folder / "model.json").read_bytes()
    # Browsers are answered with a page at the second.
    varies = {MAIN: "Accept-Encoding", f"{URL}/": "Accept-Encoding, Accept"}
    for url, vary in varies.items():
        r = get(client, url, **ORIGIN)
        assert (r.status_code, r.data) == (200, stored)
        headers = dict(r.headers)
        headers.pop("Date", None)
        assert headers == {
            "Content-Type": "application/json",
            "Content-Length": str(len(stored)),
            "ETag": f'"{sha256(stored)[:32]}"',
            "Cache-Control": "no-cache",
            "Vary": vary,
            "X-Content-Type-Options": "nosniff",
            "Repr-Digest": repr_digest(stored),
            "Accept-Ranges": "none",
            **OPEN_CORS,
        }


@pytest.mark.parametrize("entry", ["model.json", "model.v1.json"])
def test_byte_for_byte(client: FlaskClient, folder: Path, entry: str) -> None:
    """However another release of this package may write it."""
    path = folder / entry
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=1))
    r = get(client, f"{URL}/{entry}")
    assert (r.status_code, r.data) == (200, path.read_bytes())
    assert r.headers["ETag"] == f'"{sha256(r.data)[:32]}"'


def test_the_bare_url(client: FlaskClient, folder: Path) -> None:
    stored = (folder / "model.json").read_bytes()
    r = get(client, URL)
    assert r.headers["ETag"] == f'"{sha256(stored)[:32]}.bare"'
    assert r.headers["Cache-Control"] == "no-cache"
    document, original = r.get_json(), json.loads(stored)
    assert paths_of(document) == [f"{NAME}/{name}" for name in paths_of(original)]
    for group in [*document["weightsManifest"], *original["weightsManifest"]]:
        del group["paths"]
    assert document == original
    assert weights_at(client, URL) == weights_of(2)


@pytest.mark.parametrize("version", [1, 2])
def test_a_pinned_version(client: FlaskClient, folder: Path, version: int) -> None:
    stored = (folder / f"model.v{version}.json").read_bytes()
    url = f"{URL}/model.v{version}.json"
    r = get(client, url)
    assert (r.status_code, r.data, r.content_type) == (200, stored, "application/json")
    assert r.headers["Cache-Control"] == IMMUTABLE
    assert r.headers["ETag"] == f'"{sha256(stored)[:32]}"'
    assert weights_at(client, url) == weights_of(version)


@pytest.mark.parametrize(
    ("coding", "decode"), [("br", brotli.decompress), ("gzip", gzip.decompress)]
)
@pytest.mark.parametrize(
    ("url", "mark"), [(MAIN, ""), (URL, ".bare"), (f"{URL}/model.v1.json", "")]
)
def test_encoded(
    client: FlaskClient, url: str, mark: str, coding: str, decode: Any
) -> None:
    plain = get(client, url)
    r = get(client, url, Accept_Encoding=coding)
    assert r.headers["Content-Encoding"] == coding
    assert decode(r.data) == plain.data
    tag = plain.headers["ETag"].strip('"')
    assert tag.endswith(mark)
    assert r.headers["ETag"] == f'"{tag}-{coding}"'
    assert r.headers["Repr-Digest"] == repr_digest(r.data)


@pytest.mark.parametrize("accepted", ["identity", "br", "gzip"])
@pytest.mark.parametrize(
    "path", ["", "/", "/model.json", "/model.v1.json", "/labels.txt"]
)
def test_not_modified(client: FlaskClient, path: str, accepted: str) -> None:
    r = get(client, URL + path, Accept_Encoding=accepted)
    tag = r.headers["ETag"]
    again = get(client, URL + path, Accept_Encoding=accepted, If_None_Match=tag)
    assert (again.status_code, again.data) == (304, b"")
    for name in ("ETag", "Cache-Control"):
        assert again.headers[name] == r.headers[name]
    other = get(client, URL + path, Accept_Encoding=accepted, If_None_Match='"x"')
    assert other.status_code == 200


def test_a_range_of_json_is_ignored(client: FlaskClient, folder: Path) -> None:
    r = get(client, MAIN, Range="bytes=0-3")
    assert (r.status_code, r.data) == (200, (folder / "model.json").read_bytes())


# Shards and assets


def test_shards(client: FlaskClient, folder: Path) -> None:
    urls = shards_of(client)
    assert len(urls) == 3
    for url in urls:
        stored = (folder / url.rpartition("/")[2]).read_bytes()
        r = get(client, url, **ORIGIN)
        assert (r.status_code, r.data) == (200, stored)
        headers = dict(r.headers)
        headers.pop("Date", None)
        assert headers == {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(stored)),
            "ETag": f'"{sha256(stored)[:32]}"',
            "Cache-Control": IMMUTABLE,
            "X-Content-Type-Options": "nosniff",
            "Repr-Digest": repr_digest(stored),
            "Accept-Ranges": "bytes",
            **OPEN_CORS,
        }
        again = get(client, url, If_None_Match=r.headers["ETag"])
        assert (again.status_code, again.data) == (304, b"")


def test_a_part_of_a_shard(client: FlaskClient) -> None:
    url = shards_of(client)[2]
    whole = get(client, url)
    r = get(client, url, Range="bytes=4-11", If_Range=whole.headers["ETag"])
    assert (r.status_code, r.data) == (206, whole.data[4:12])
    assert r.headers["Content-Range"] == f"bytes 4-11/{len(whole.data)}"
    assert r.headers["Repr-Digest"] == whole.headers["Repr-Digest"]
    r = get(client, url, Range=f"bytes={len(whole.data)}-")
    assert (r.status_code, r.data) == (416, b"")


def test_shards_of_an_older_version_first(tmp_path: Path, app: Flask) -> None:
    """A worker that has just begun is asked for what another has named."""
    for version in (1, 2):
        url = f"{URL}/model.v{version}.json"
        shard = shards_of(app.test_client(), url)[2]
        fresh = new_app(tmp_path).test_client()
        r = get(fresh, shard)
        assert (r.status_code, r.data) == (200, weights_of(version)["head"])
        assert r.headers["Repr-Digest"] == repr_digest(r.data)


def test_assets(client: FlaskClient, app: Flask) -> None:
    r = get(client, f"{URL}/{LABELS}")
    assert (r.status_code, r.data) == (200, b"labels of 2")
    assert r.content_type == "text/plain; charset=utf-8"
    assert r.headers["Cache-Control"] == "no-cache"
    assert r.headers["ETag"] == f'"{sha256(r.data)[:32]}"'
    with app.app_context():
        rollback(NAME, 1)
    assert get(client, f"{URL}/{LABELS}").data == b"labels of 1"


def test_an_asset_that_is_json(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    put_generation(app, tmp_path, 1, {"metadata.json": b'{"a": 1}'})
    r = get(app.test_client(), f"{URL}/metadata.json")
    assert (r.status_code, r.data) == (200, b'{"a": 1}')
    assert r.headers["Cache-Control"] == "no-cache"


def test_the_asset_that_is_named_is_served(client: FlaskClient, folder: Path) -> None:
    """Not the copy beside it, which is for others."""
    (folder / LABELS).write_bytes(b"changed by hand")
    assert get(client, f"{URL}/{LABELS}").data == b"labels of 2"


def test_nothing_else_is_served(client: FlaskClient, folder: Path, app: Flask) -> None:
    asset = next((folder / ".assets").iterdir())
    (folder / ".last-version").write_bytes(b"2")
    (folder / ".tmp-0123").mkdir()
    (folder / ".tmp-0123" / "1").write_bytes(b"x")
    orphan = f"model.weights.{'0' * 32}.bin"
    for name in (
        "notes.txt",
        "dict.txt",
        "other.json",
        "x.bin",
        "model.v3.json",
        orphan,
    ):
        (folder / name).write_bytes(b"{}")
    write_model(folder, entry="mine.json", shards={"mine.bin": bytes(32)})
    for path in (
        *(".last-version", f".assets/{asset.name}", ".assets", ".assets/"),
        *(".tmp-0123/1", "lock", "notes.txt", "dict.txt", "other.json", "x.bin"),
        *("mine.json", "mine.bin", orphan, f"../{NAME}/model.json", "model.v9.json"),
        *(f"../.locks/{NAME}", f"x/../{LABELS}", f"./{LABELS}", f"{LABELS}/"),
        *("model.v02.json", "model.v0.json", "model.v.json", "MODEL.JSON", "\0"),
    ):
        r = get(client, f"{URL}/{path}")
        assert r.status_code == 404, path
        if not path.endswith(".json"):
            assert r.data == b"", path
    for path in ("/models/.locks", f"/models/.locks/{NAME}", "/models/.tmp-1/1"):
        assert get(client, path).status_code == 404


def test_a_json_that_somebody_put_there(client: FlaskClient, folder: Path) -> None:
    """It claims to be a version, and is none of ours."""
    write_model(folder, entry="model.v9.json", shards={"mine.bin": bytes(32)})
    r = get(client, f"{URL}/model.v9.json")
    assert r.status_code == 500
    assert "is not a published model" in r.get_json()["error"]


# Changes


def test_a_publish_is_seen_at_once(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    old = get(client, MAIN)
    assert weights_at(client) == weights_of(2)
    put_generation(app, tmp_path, 3, labels(3))
    assert weights_at(client) == weights_of(3)
    assert get(client, f"{URL}/{LABELS}").data == b"labels of 3"
    assert get(client, MAIN, If_None_Match=old.headers["ETag"]).status_code == 200
    with app.app_context():
        rollback(NAME, 2)
    assert get(client, MAIN, If_None_Match=old.headers["ETag"]).status_code == 304
    assert weights_at(client) == weights_of(2)
    assert weights_at(client, f"{URL}/model.v3.json") == weights_of(3)


def test_another_process_is_seen_at_once(
    client: FlaskClient, children: Nursery, tmp_path: Path
) -> None:
    assert weights_at(client) == weights_of(2)
    source = str(write_generation(tmp_path / "next", 3))
    assert children.start("publish", root=str(tmp_path), source=source).wait() == 0
    assert weights_at(client) == weights_of(3)
    assert children.start("rollback", root=str(tmp_path), version=1).wait() == 0
    assert weights_at(client) == weights_of(1)
    shards = [*shards_of(client), *shards_of(client, f"{URL}/model.v3.json")]
    assert children.start("unpublish", root=str(tmp_path)).wait() == 0
    pinned = [f"{URL}/model.v{number}.json" for number in (1, 2, 3)]
    for url in (MAIN, URL, f"{URL}/", *pinned):
        r = get(client, url)
        assert (r.status_code, r.is_json) == (404, True), url
    for url in (*shards, f"{URL}/{LABELS}"):
        r = get(client, url)
        assert (r.status_code, r.data) == (404, b""), url
    assert children.start("publish", root=str(tmp_path), source=source).wait() == 0
    assert weights_at(client) == weights_of(3)
    assert get(client, f"{URL}/model.v4.json").status_code == 200


def test_only_model_json_is_gone(client: FlaskClient, folder: Path) -> None:
    """As in the midst of taking a model from the air: nothing of it is served."""
    urls = [f"{URL}/model.v1.json", f"{URL}/{LABELS}", *shards_of(client)]
    (folder / "model.json").unlink()
    for url in (MAIN, *urls):
        assert get(client, url).status_code == 404, url


def test_a_shard_is_gone(client: FlaskClient, folder: Path, tmp_path: Path) -> None:
    gone, kept = shards_of(client)[2], shards_of(client, f"{URL}/model.v1.json")
    path = folder / gone.rpartition("/")[2]
    data = path.read_bytes()
    path.unlink()
    for url in (MAIN, URL, f"{URL}/", f"{URL}/model.v2.json"):
        r = get(client, url)
        assert (r.status_code, r.is_json) == (500, True), url
        assert f"{path.name} is missing" in r.get_json()["error"]
        assert str(tmp_path) not in r.text
    r = get(client, gone)
    assert (r.status_code, r.data) == (404, b"")
    assert weights_at(client, f"{URL}/model.v1.json") == weights_of(1)
    assert all(get(client, url).status_code == 200 for url in kept)
    path.write_bytes(data)
    assert weights_at(client) == weights_of(2)


def test_a_shard_is_cut(client: FlaskClient, folder: Path) -> None:
    path = folder / shards_of(client)[2].rpartition("/")[2]
    path.write_bytes(b"short")
    r = get(client, MAIN)
    assert r.status_code == 500
    assert "the weights need 12288" in r.get_json()["error"]


@pytest.mark.parametrize(
    "text", [b"{", b"{}", b"[]", b"", b'{"weightsManifest": []}', b"\xff"]
)
def test_model_json_is_spoiled(client: FlaskClient, folder: Path, text: bytes) -> None:
    assert get(client, MAIN).status_code == 200
    shards = shards_of(client)
    (folder / "model.json").write_bytes(text)
    for url in (MAIN, URL):
        r = get(client, url)
        assert (r.status_code, r.is_json) == (500, True)
        assert r.get_json()["error"].startswith("model.json: ")
    assert weights_at(client, f"{URL}/model.v1.json") == weights_of(1)
    assert all(get(client, url).status_code == 200 for url in shards)
    r = get(client, f"{URL}/{LABELS}")
    assert (r.status_code, r.data) == (500, b"")


def test_a_path_that_needs_decoding(client: FlaskClient, folder: Path) -> None:
    """Changed by hand to a name that only a browser resolves to the shard."""
    document = json.loads((folder / "model.json").read_bytes())
    (path, *_) = document["weightsManifest"][0]["paths"]
    document["weightsManifest"][0]["paths"][0] = f"{path}?v=2"
    digests = document["flaskTfjs"]["sha256"]
    digests[f"{path}?v=2"] = digests.pop(path)
    (folder / "model.json").write_text(json.dumps(document))
    r = get(client, MAIN)
    assert (r.status_code, r.is_json) == (500, True)


def test_a_json_that_may_not_be_read() -> None:
    with unprivileged_directory() as directory:
        app = new_app(directory, PROPAGATE_EXCEPTIONS=False)
        put_generation(app, directory, 1)
        path = store_of(directory) / NAME / "model.json"
        path.chmod(0)
        try:
            r = get(app.test_client(), MAIN)
            assert (r.status_code, r.is_json) == (500, True)
            assert "cannot be read: Permission denied" in r.get_json()["error"]
            result = run(app, "list", "--json")
            assert result.exit_code == 0, result.exception
            assert json.loads(result.stdout)[0]["state"] == "broken"
        finally:
            path.chmod(0o644)


# Registered and published


def test_beside_registered_ones(tmp_path: Path) -> None:
    write_model(tmp_path / "dense")
    app = new_app(tmp_path, TFJS_MODELS={"dense": tmp_path / "dense"}, TFJS_INDEX=True)
    put_generation(app, tmp_path, 1)
    client = app.test_client()
    assert weights_at(client) == weights_of(1)
    assert get(client, "/models/dense/model.json").status_code == 200
    models = get(client, "/models/").get_json()["models"]
    assert [model["name"] for model in models] == ["dense", NAME]


def test_in_a_folder_of_models(tmp_path: Path) -> None:
    write_model(tmp_path / "zoo" / "dense")
    app = new_app(tmp_path, TFJS_MODELS=str(tmp_path / "zoo"), TFJS_INDEX=True)
    put_generation(app, tmp_path, 1)
    models = get(app.test_client(), "/models/").get_json()["models"]
    assert [model["name"] for model in models] == ["dense", NAME]
    assert weights_at(app.test_client()) == weights_of(1)


def test_in_the_index(client: FlaskClient, app: Flask) -> None:
    assert get(client, "/models/").get_json() == {
        "models": [
            {
                "name": NAME,
                "state": "ok",
                "entries": [{"path": f"{NAME}/model.json", "kind": "weights-manifest"}],
                "bytes": 3 * SHARD_BYTES,
            }
        ]
    }
    with app.app_context():
        unpublish(NAME)
    assert get(client, "/models/").get_json() == {"models": []}


def test_an_empty_store_costs_nothing(tmp_path: Path) -> None:
    app = new_app(tmp_path, TFJS_INDEX=True)
    client = app.test_client()
    assert get(client, "/models/").get_json() == {"models": []}
    assert get(client, MAIN).status_code == 404
    assert not (tmp_path / "instance").exists()


# Tags


def test_urls_and_preload(app: Flask, client: FlaskClient) -> None:
    with app.test_request_context():
        assert tfjs_url(NAME) == MAIN
        assert tfjs_url(NAME, version=1) == f"{URL}/model.v1.json"
        assert preloaded(str(tfjs_preload(NAME))) == [MAIN, *shards_of(client)]
        pinned = f"{URL}/model.v1.json"
        assert preloaded(str(tfjs_preload(NAME, version=1))) == [
            *(pinned, *shards_of(client, pinned))
        ]
        assert render_template_string("{{ tfjs_preload('gesture') }}")


def test_nothing_to_preload(
    app: Flask, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "model.json").unlink()
    with app.test_request_context():
        assert tfjs_preload(NAME) == tfjs_preload(NAME, version=1) == ""
    assert "preloads nothing" in caplog.text


def preloaded(tags: str) -> list[str]:
    return [line.partition('href="')[2].partition('"')[0] for line in tags.splitlines()]


# Commands on published models


def run(app: Flask, *arguments: Any) -> Result:
    runner = app.test_cli_runner()
    vars(runner)["mix_stderr"] = False  # click 8.1 mixes unless told not to
    return runner.invoke(tfjs, [str(a) for a in arguments])


def test_list(app: Flask, folder: Path) -> None:
    (row,) = json.loads(run(app, "list", "--json").stdout)
    assert row == {
        "name": NAME,
        "kind": "weights-manifest",
        "entries": ["model.json"],
        "versions": [2, 1],
        "bytes": 3 * SHARD_BYTES,
        "directory": str(folder),
        "url": MAIN,
        "state": "ok",
        "reason": None,
    }
    next(folder.glob("*.bin")).unlink()
    assert json.loads(run(app, "list", "--json").stdout)[0]["state"] == "broken"


def test_show(app: Flask, client: FlaskClient, folder: Path) -> None:
    result = run(app, "show", NAME, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    (shown,) = json.loads(result.stdout)
    stored = (folder / "model.json").read_bytes()
    assert shown["path"] == f"{NAME}/model.json"
    assert shown["digest"] == sha256(stored)[:32]
    assert MAIN in shown["loader"]
    assert {f"{URL}/{name}" for name in shown["shards"]} == set(shards_of(client))
    assert shown["bytes_on_the_wire"]["identity"] == len(stored) + 3 * SHARD_BYTES


def test_check(app: Flask, folder: Path) -> None:
    result = run(app, "check")
    assert result.exit_code == 0, result.stdout
    shard = sorted(folder.glob("*.bin"))[0]
    load(folder)
    os.truncate(shard, 4)
    os.truncate(sorted(folder.glob("*.bin"))[1], 4)
    os.truncate(sorted(folder.glob("*.bin"))[2], 4)
    for arguments in (["check"], ["check", NAME]):
        result = run(app, *arguments)
        assert result.exit_code == 1
        assert NAME in result.stdout


def test_registered_and_published(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    """Nobody does that but with two machines or by hand."""
    write_model(tmp_path / "dense")
    registry = {"TFJS_MODELS": {NAME: str(tmp_path / "dense")}}
    (tmp_path / "instance" / "tfjs.json").write_text(json.dumps(registry))
    result = run(app, "check")
    assert result.exit_code == 1
    assert "is registered and published" in result.stdout
    assert f"flask tfjs unpublish {NAME}" in result.stdout
    assert len(shards_of(client)) == 1  # the registered one is served


def test_compress(app: Flask, client: FlaskClient, folder: Path) -> None:
    result = run(app, "compress", NAME, "--json")
    assert result.exit_code == 0, result.stderr
    made = json.loads(result.stdout)
    assert {row["coding"] for row in made} == {"br", "gzip"}
    assert all(row["kept"] for row in made)
    plain = weights_of(2)
    for url, data in zip(shards_of(client), plain.values(), strict=True):
        r = get(client, url, Accept_Encoding="br")
        assert r.headers["Content-Encoding"] == "br"
        assert brotli.decompress(r.data) == data
        assert r.headers["Cache-Control"] == IMMUTABLE
        assert r.headers["Vary"] == "Accept-Encoding"
        assert get(client, url).data == data
    # Nothing was written into the store.
    assert {path.name for path in folder.parent.iterdir()} == {NAME, ".locks"}


def test_many_versions_of_one_shard(tmp_path: Path) -> None:
    app = new_app(tmp_path, TFJS_KEEP_VERSIONS=50)
    source = write_generation(tmp_path / "m", 1)
    for _ in range(5):
        put(app, source)
    client = app.test_client()
    with contextlib.ExitStack() as stack:
        urls = [f"{URL}/model.v{number}.json" for number in range(1, 6)]
        responses = [stack.enter_context(client.get(url)) for url in urls]
        assert len({r.headers["ETag"] for r in responses}) == 5
    assert len({tuple(shards_of(client, url)) for url in urls}) == 1


def test_a_version_that_says_it_is_another(
    client: FlaskClient, app: Flask, folder: Path
) -> None:
    path = folder / "model.v1.json"
    document = json.loads(path.read_bytes())
    document["flaskTfjs"]["version"] = 9
    path.write_text(json.dumps(document))
    r = get(client, f"{URL}/model.v1.json")
    assert (r.status_code, r.is_json) == (500, True)
    assert "changed by hand" in r.get_json()["error"]
    assert run(app, "gc").exit_code == 1
    assert run(app, "rollback", NAME, 1).exit_code == 1


# What an attack found


def test_bytes_that_changed_on_the_disk_are_found_and_mended(
    client: FlaskClient, app: Flask, tmp_path: Path, folder: Path
) -> None:
    shard = shards_of(client)[2].rpartition("/")[2]
    data = (folder / shard).read_bytes()
    (folder / shard).write_bytes(bytes(len(data)))
    result = run(app, "check", NAME)
    assert result.exit_code == 1
    assert f"{NAME}/{shard}: its bytes are not those" in result.stdout
    put_generation(app, tmp_path, 2)
    assert (folder / shard).read_bytes() == data
    assert run(app, "check", NAME).exit_code == 0


def test_weights_that_look_like_a_page_are_weights(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    weights = b"<!doctype html>".ljust(32)
    # In the midst of a shard there, at the beginning of one here.
    before = bytes(MIN_SHARD_BYTES)
    document = dense_document("weights.bin")
    first = {"name": "x", "shape": [len(before)], "dtype": "bool"}
    group = document["weightsManifest"][0]
    document["weightsManifest"] = [{**group, "weights": [first, *group["weights"]]}]
    shards = {"weights.bin": before + weights}
    write_model(tmp_path / "source", document=document, shards=shards)
    put(app, tmp_path / "source")
    assert get(app.test_client(), MAIN).status_code == 200
    assert get(app.test_client(), shards_of(app.test_client())[1]).data == weights


def test_names_with_a_folder_are_not_looked_for(
    client: FlaskClient,
) -> None:
    shard = shards_of(client)[0].rpartition("/")[2]
    for name in (
        f"x/../{shard}",
        f"../{NAME}/{shard}",
        f"./{shard}",
        f".assets/{shard}",
    ):
        assert get(client, f"{URL}/{name}").status_code == 404


def test_another_spelling_is_another_name(client: FlaskClient, app: Flask) -> None:
    """Whatever the file system makes of it: here a link stands for one that takes
    capital letters for small ones."""
    store = local_store(app)
    assert store.spells(NAME) and not store.spells(NAME.upper())
    assert get(client, MAIN.replace(NAME, NAME.upper())).status_code == 404


def test_a_prefix_with_values(tmp_path: Path) -> None:
    app = Flask("host", instance_path=str(tmp_path / "instance"))
    app.register_blueprint(
        create_blueprint(
            url_prefix="/<tenant>/models",
            store=tmp_path / "store",
            uploads="*",
            authorize_publish=allow_all,
        )
    )
    answer = app.test_client().post(
        "/t1/models/x", data=dense_body(), content_type=CONTENT_TYPE
    )
    assert answer.status_code == 201
    assert answer.get_json()["url"] == "http://localhost/t1/models/x/model.json"
    assert app.test_client().get(answer.get_json()["pinned_url"]).status_code == 200


def test_versions_are_looked_at_by_several_threads(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is remembered while another thread goes through those remembered."""
    model = app.extensions["tfjs"]["tfjs"].catalogue.model(NAME)
    assert get(client, MAIN).status_code == 200
    known = model._known

    def identify(path: str) -> Identity | None:
        known.setdefault(f"model.v{len(known) + 10}.json", known["model.json"])
        return files.identify(path)

    monkeypatch.setattr(published, "identify", identify)
    assert get(client, f"{URL}/model.v1.json").status_code == 200
