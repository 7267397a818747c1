"""Publish, roll back, take from the air: what lies in the store afterwards, and what is
refused."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import random
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import reference
from flask import Flask
from models import DENSE_BYTES
from models import FLATTEN_TOPOLOGY
from models import dense_document
from models import write_model
from publishing import LABELS
from publishing import NAME
from publishing import SHARD_BYTES
from publishing import Nursery
from publishing import collect
from publishing import current_version
from publishing import digest
from publishing import files_in
from publishing import generation_of
from publishing import grow_older
from publishing import labels
from publishing import load
from publishing import local_store
from publishing import named_files
from publishing import new_app
from publishing import nursery
from publishing import paths_of
from publishing import put
from publishing import put_generation
from publishing import release_of
from publishing import snapshot
from publishing import store_of
from publishing import version_files
from publishing import write_generation
from servers import require_program

from flask_tfjs import ConfigError
from flask_tfjs import InvalidModel
from flask_tfjs import ModelNotFound
from flask_tfjs import TFJSError
from flask_tfjs import VersionConflict
from flask_tfjs import VersionNotFound
from flask_tfjs import create_blueprint
from flask_tfjs import publish
from flask_tfjs import rollback
from flask_tfjs import unpublish
from flask_tfjs import versions
from flask_tfjs.format.strict_json import dumps
from flask_tfjs.models.directory import ModelDirectory
from flask_tfjs.models.publish import publish as publish_staged
from flask_tfjs.models.recutting import stage_directory

MAX_SHARD = 4 * 1024 * 1024


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return new_app(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return store_of(tmp_path) / NAME


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("children")) as running:
        yield running


def roll_back(app: Flask, version: int) -> Any:
    with app.app_context():
        return rollback(NAME, version)


def take_off(app: Flask, name: str = NAME) -> None:
    with app.app_context():
        unpublish(name)


def versions_of(app: Flask) -> list[Any]:
    with app.app_context():
        return versions(NAME)


# Real models


def real_models() -> list[reference.Model]:
    human = [
        "blazeface.json",
        "emotion.json",
        "movenet-lightning.json",
        "facemesh.json",
    ]
    return [
        *(m for m in reference.human_models() if m.entry in human),
        *reference.face_models(),
    ]


def read_anew(path: Path) -> reference.Fingerprints:
    """Nothing remembered: the tests replace a model under its name."""
    return reference.read_model.__wrapped__(path)


@pytest.mark.parametrize("model", real_models(), ids=str)
def test_real_models(app: Flask, folder: Path, model: reference.Model) -> None:
    version = put(app, model.path)
    require_same(folder, model, version)


@pytest.mark.parametrize("name", reference.NSFW_MODELS)
def test_models_of_nsfwjs(
    app: Flask, folder: Path, nsfw: dict[str, reference.Model], name: str
) -> None:
    require_same(folder, nsfw[name], put(app, nsfw[name].directory))


@pytest.fixture(scope="module")
def nsfw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, reference.Model]:
    directory = tmp_path_factory.mktemp("nsfw")
    reference.unpack_nsfw_models(require_program("node"), directory)
    return {model.name: model for model in reference.nsfw_models(directory)}


def require_same(folder: Path, model: reference.Model, version: Any) -> None:
    """What is published is what *model* is, weight by weight, and no more than once."""
    document = json.loads((folder / "model.json").read_bytes())
    assert read_anew(folder / "model.json") == model.fingerprints()
    load(folder)
    paths = [p for group in reference.groups_of(document) for p in group["paths"]]
    sizes = [(folder / path).stat().st_size for path in paths]
    assert max(sizes) <= MAX_SHARD
    assert (version.number, version.is_current) == (1, True)
    assert version.shards == len(set(paths))
    assert version.byte_length == version.new_bytes
    assert (
        version.etag
        == hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()[:32]
    )
    original = json.loads(model.path.read_text("utf-8-sig"))
    assert without_paths(document) == without_paths(original)


def without_paths(document: Any) -> Any:
    """All that a model says, but for where its weights are, and its release."""
    document = json.loads(json.dumps(document))
    holder = document[0] if isinstance(document, list) else document
    holder.pop("flaskTfjs", None)
    for group in reference.groups_of(document):
        del group["paths"]
    return document


def made_models(root: Path) -> dict[str, reference.Model]:
    models = [*reference.made_models(root), reference.misread_model(root)]
    return {model.name: model for model in models}


@pytest.mark.parametrize(
    "name",
    [
        *("dtypes", "dtypes-cut", "dtypes-groups", "strings", "odd-cuts", "one-scalar"),
        *("dense", "dense-saved", "dense-folders", "dense-odd-names"),
        *("dense-no-extension", "dense-adam", "list", "misread"),
    ],
)
def test_all_kinds_of_models(
    app: Flask, folder: Path, tmp_path: Path, name: str
) -> None:
    model = made_models(tmp_path / "made")[name]
    require_same(folder, model, put(app, model.directory))
    document = json.loads((folder / "model.json").read_bytes())
    rows = reference.groups_of(document)
    sizes = [(folder / p).stat().st_size for group in rows for p in group["paths"]]
    assert reference.tfjs_reads(sizes)


def test_a_model_without_weights(app: Flask, folder: Path, tmp_path: Path) -> None:
    document = {"modelTopology": FLATTEN_TOPOLOGY, "weightsManifest": []}
    version = put(app, write_model(tmp_path / "m", document=document, shards={}))
    assert (version.shards, version.byte_length, version.new_bytes) == (0, 0, 0)
    assert load(folder) == {}
    assert put_generation(app, tmp_path, 2).number == 2


def test_large_weights_are_cut(app: Flask, folder: Path, tmp_path: Path) -> None:
    data = random.Random(0).randbytes(9 * 1024 * 1024)
    weights = [{"name": "w", "shape": [len(data)], "dtype": "bool"}]
    document = {"weightsManifest": [{"paths": ["w.bin"], "weights": weights}]}
    put(app, write_model(tmp_path / "m", document=document, shards={"w.bin": data}))
    assert load(folder) == {"w": data}
    (group,) = json.loads((folder / "model.json").read_bytes())["weightsManifest"]
    sizes = [(folder / path).stat().st_size for path in group["paths"]]
    assert sizes == [MAX_SHARD, MAX_SHARD, 1024 * 1024]


def test_equal_shards_are_one_file(app: Flask, folder: Path, tmp_path: Path) -> None:
    write_generation(tmp_path / "m", 0)  # all weights are zeros
    version = put(app, tmp_path / "m")
    assert version.shards == 1
    assert version.byte_length == version.new_bytes == SHARD_BYTES
    assert generation_of(folder) == 0


# What is new of a version


def test_a_version_brings_what_changed(
    app: Flask, folder: Path, tmp_path: Path
) -> None:
    assert put_generation(app, tmp_path, 1).new_bytes == 3 * SHARD_BYTES
    before = set(folder.glob("*.bin"))
    version = put_generation(app, tmp_path, 2)
    assert (version.number, version.new_bytes) == (2, 2 * SHARD_BYTES)
    assert before < set(folder.glob("*.bin"))
    assert generation_of(folder, "model.v1.json") == 1
    assert generation_of(folder, "model.v2.json") == generation_of(folder) == 2


def test_each_publish_is_a_version(app: Flask, folder: Path, tmp_path: Path) -> None:
    etags = {put_generation(app, tmp_path, 1).etag for _ in range(3)}
    assert len(etags) == 3
    assert set(version_files(folder)) == {1, 2, 3}
    assert put(app, tmp_path / "source").new_bytes == 0


def test_the_current_version_is_that_of_its_number(
    app: Flask, folder: Path, tmp_path: Path
) -> None:
    for generation in (1, 2):
        put_generation(app, tmp_path, generation)
        text = (folder / "model.json").read_bytes()
        assert text == (folder / f"model.v{generation}.json").read_bytes()
    assert roll_back(app, 1).is_current
    text = (folder / "model.json").read_bytes()
    assert text == (folder / "model.v1.json").read_bytes()


def test_a_version_never_changes(app: Flask, folder: Path, tmp_path: Path) -> None:
    put_generation(app, tmp_path, 1)
    text = (folder / "model.v1.json").read_bytes()
    put_generation(app, tmp_path, 2)
    roll_back(app, 1)
    put_generation(app, tmp_path, 3)
    assert (folder / "model.v1.json").read_bytes() == text


def test_a_published_model_can_be_published_elsewhere(
    app: Flask, folder: Path, tmp_path: Path
) -> None:
    for generation in (1, 2):
        put_generation(app, tmp_path, generation, labels(generation))
    put(app, folder, "copy")
    put(app, folder / "model.v1.json", "older")
    copy = folder.with_name("copy")
    assert generation_of(copy) == 2
    assert current_version(copy) == 1
    assert (copy / LABELS).read_bytes() == b"labels of 2"
    assert files_in(copy) == named_files(copy)
    assert generation_of(folder.with_name("older")) == 1


# A plain directory


def test_plain_servers_can_serve_it(app: Flask, folder: Path, tmp_path: Path) -> None:
    for generation in (1, 2):
        put_generation(app, tmp_path, generation, labels(generation))
    handler = functools.partial(QuietHandler, directory=str(store_of(tmp_path)))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/{NAME}/"
            for entry in ("model.json", "model.v1.json", "model.v2.json"):
                document = json.loads(fetch(url + entry))
                for path in paths_of(document):
                    assert fetch(urljoin(url, path)) == (folder / path).read_bytes()
            assert fetch(url + LABELS) == b"labels of 2"
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url) as response:
        data: bytes = response.read()
        return data


def test_nothing_is_left_over(app: Flask, folder: Path, tmp_path: Path) -> None:
    put_generation(app, tmp_path, 1, labels(1))
    assert files_in(folder) == named_files(folder)
    hidden = {path.name for path in store_of(tmp_path).iterdir()} - {NAME}
    assert hidden == {".locks"}


def test_files_can_be_read_by_other_servers(
    app: Flask, folder: Path, tmp_path: Path
) -> None:
    put_generation(app, tmp_path, 1, labels(1))
    probe = tmp_path / "probe"
    probe.write_bytes(b"")
    modes = {path.stat().st_mode for path in folder.rglob("*") if path.is_file()}
    assert modes == {probe.stat().st_mode}


# Assets


def assets_of(folder: Path) -> dict[str, bytes]:
    """Those beside the model, as the current version names them."""
    release = release_of(json.loads((folder / "model.json").read_bytes()))
    for name, sha256 in release["assets"].items():
        assert digest(folder / name) == sha256, name
        assert digest(folder / ".assets" / sha256) == sha256, name
    plain = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith((".", "model."))
    }
    assert plain.keys() == release["assets"].keys()
    return plain


def test_assets(app: Flask, folder: Path, tmp_path: Path) -> None:
    one = {LABELS: b"a\nb\n", "metadata.json": b"{}"}
    two = {LABELS: b"c\n", "vocab.json": b"[]"}
    put_generation(app, tmp_path, 1, one)
    assert assets_of(folder) == one
    put_generation(app, tmp_path, 2, two)
    assert assets_of(folder) == two
    put_generation(app, tmp_path, 3)
    assert assets_of(folder) == {}
    roll_back(app, 1)
    assert assets_of(folder) == one
    roll_back(app, 2)
    assert assets_of(folder) == two
    put_generation(app, tmp_path, 4, two)
    assert assets_of(folder) == two


def test_only_assets_are_copied(app: Flask, folder: Path, tmp_path: Path) -> None:
    source = write_generation(tmp_path / "m", 1, labels(1))
    (source / "secrets.env").write_bytes(b"x")
    (source / "model.h5").write_bytes(b"x")
    (source / "deeper").mkdir()
    (source / "deeper" / LABELS).write_bytes(b"x")
    put(app, source)
    assert assets_of(folder) == labels(1)


def test_assets_lie_beside_their_entry(
    app: Flask, folder: Path, tmp_path: Path
) -> None:
    write_generation(tmp_path / "m" / "deeper", 1, labels(1))
    (tmp_path / "m" / LABELS).write_bytes(b"of another")
    put(app, tmp_path / "m" / "deeper" / "model.json")
    assert assets_of(folder) == labels(1)


def test_names_that_mean_something_in_the_store_are_no_assets(
    tmp_path: Path, folder: Path
) -> None:
    app = new_app(tmp_path, TFJS_ASSETS=["*"])
    hostile = {
        "model.v7.json": b"{}",
        "model.weights.0123456789abcdef0123456789abcdef.bin": b"x",
        "good.txt": b"x",
    }
    source = write_generation(tmp_path / "m", 1, hostile)
    put(app, source)
    release = release_of(json.loads((folder / "model.json").read_bytes()))
    assert not {"model.json", *hostile} - {"good.txt"} & release["assets"].keys()
    assert set(version_files(folder)) == {1}
    assert generation_of(folder) == 1
    assert (folder / "good.txt").read_bytes() == b"x"


def test_a_model_json_that_is_none_is_no_asset(tmp_path: Path, folder: Path) -> None:
    app = new_app(tmp_path, TFJS_ASSETS=["*"])
    source = write_model(tmp_path / "m", entry="hand.json")
    (source / "model.json").write_bytes(b"{}")
    put(app, source / "hand.json")
    assert set(load(folder)) == {"dense/kernel", "dense/bias"}


@pytest.mark.parametrize("spoil", ["removed", "other bytes"])
def test_a_publish_puts_plain_copies_right(
    app: Flask, folder: Path, tmp_path: Path, spoil: str
) -> None:
    """As when the last one was killed before it came to them."""
    put_generation(app, tmp_path, 1, labels(1))
    if spoil == "removed":
        (folder / LABELS).unlink()
    else:
        (folder / LABELS).write_bytes(b"labels of 0")
    put_generation(app, tmp_path, 2, labels(1))
    assert assets_of(folder) == labels(1)


# Which model


def test_another_entry_becomes_model_json(
    app: Flask, folder: Path, tmp_path: Path
) -> None:
    source = write_model(tmp_path / "m", entry="hand.json")
    put(app, source)
    assert list(load(folder).values()) == [DENSE_BYTES[:24], DENSE_BYTES[24:]]
    write_model(tmp_path / "m", entry="foot.json")
    put(app, source / "foot.json")
    assert current_version(folder) == 2


def test_an_entry_in_a_folder(app: Flask, folder: Path, tmp_path: Path) -> None:
    source = write_model(tmp_path / "m", entry="deep/er/hand.json")
    put(app, source)
    assert set(load(folder)) == {"dense/kernel", "dense/bias"}


def test_several_entries(app: Flask, tmp_path: Path) -> None:
    source = write_model(tmp_path / "m", entry="a.json")
    write_model(source, entry="b/b.json")
    with pytest.raises(ModelNotFound) as error:
        put(app, source)
    assert "a.json" in str(error.value)
    assert "b/b.json" in str(error.value)
    assert not store_of(tmp_path).exists()


def test_model_json_among_several(app: Flask, folder: Path, tmp_path: Path) -> None:
    source = write_generation(tmp_path / "m", 1)
    write_model(source, entry="b.json", shards={"b.bin": DENSE_BYTES})
    put(app, source)
    assert generation_of(folder) == 1


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (lambda m: (m / "head.bin").unlink(), InvalidModel, "head.bin is missing"),
        (lambda m: (m / "head.bin").write_bytes(b"short"), InvalidModel, "need"),
        (lambda m: (m / "model.json").write_bytes(b"{"), InvalidModel, "model.json"),
        (lambda m: (m / "model.json").unlink(), ModelNotFound, "JSON"),
        (lambda m: (m / "model.json").write_text("{}"), TFJSError, "model"),
        (shutil.rmtree, InvalidModel, "the directory cannot be read"),
        (
            lambda m: (m / "head.bin").write_bytes(reference.LFS_POINTER),
            InvalidModel,
            "LFS",
        ),
    ],
)
def test_what_cannot_be_loaded_is_not_published(
    app: Flask, tmp_path: Path, spoil: Any, error: type[TFJSError], says: str
) -> None:
    put_generation(app, tmp_path, 1)
    before = snapshot(store_of(tmp_path))
    source = write_generation(tmp_path / "m", 2)
    spoil(source)
    with pytest.raises(error, match=says):
        put(app, source)
    assert snapshot(store_of(tmp_path)) == before


def test_a_link_that_leads_out_is_not_followed(app: Flask, tmp_path: Path) -> None:
    source = write_generation(tmp_path / "m", 1)
    (source / "head.bin").rename(tmp_path / "elsewhere.bin")
    (source / "head.bin").symlink_to(tmp_path / "elsewhere.bin")
    with pytest.raises(InvalidModel, match="leads out"):
        put(app, source)
    allowing = new_app(tmp_path, TFJS_LINK_ROOTS=[tmp_path])
    assert put(allowing, source).number == 1


@pytest.mark.parametrize("after", [1, 3])
def test_a_source_that_is_written_to_meanwhile(
    app: Flask, tmp_path: Path, after: int
) -> None:
    """After that many shards have been copied."""
    source = write_generation(tmp_path / "m", 1)
    told: list[int] = []

    def change(length: int) -> None:
        told.append(length)
        if sum(told) == after * SHARD_BYTES:
            write_generation(source, 2)

    directory = ModelDirectory(NAME, str(source))
    with local_store(app).stage() as staging:
        with pytest.raises(InvalidModel, match="written to|ask again"):
            stage_directory(directory, "model.json", staging, change)
    assert sum(told) == after * SHARD_BYTES


def test_progress_is_told(app: Flask, tmp_path: Path) -> None:
    source = write_generation(tmp_path / "m", 1)
    told: list[int] = []
    with local_store(app).stage() as staging:
        directory = ModelDirectory(NAME, str(source))
        stage_directory(directory, "model.json", staging, told.append)
    assert sum(told) == 3 * SHARD_BYTES


# Names


@pytest.mark.parametrize("name", ["", "-a", "a/b", "..", ".locks", "a b", "x" * 129, 7])
def test_names_that_cannot_be(app: Flask, tmp_path: Path, name: Any) -> None:
    source = write_generation(tmp_path / "m", 1)
    with app.app_context():
        for call in (
            lambda: publish(name, source),
            lambda: versions(name),
            lambda: rollback(name, 1),
            lambda: unpublish(name),
        ):
            with pytest.raises(ConfigError, match="cannot be the name of a model"):
                call()
    assert not store_of(tmp_path).exists()


def test_registered_names_are_not_published(tmp_path: Path) -> None:
    source = write_generation(tmp_path / "m", 1)
    app = new_app(tmp_path, TFJS_MODELS={NAME: source})
    with pytest.raises(ConfigError) as error:
        put(app, source)
    assert f"{NAME!r} is registered" in str(error.value)
    assert f"flask tfjs publish {NAME} {source}" in str(error.value)
    assert not store_of(tmp_path).exists()


def test_nothing_is_published(app: Flask, tmp_path: Path) -> None:
    with app.app_context():
        for call in (
            lambda: versions(NAME),
            lambda: rollback(NAME, 1),
            lambda: unpublish(NAME),
        ):
            with pytest.raises(
                ModelNotFound, match=f"nothing is published as '{NAME}'"
            ):
                call()
    assert not store_of(tmp_path).exists()


def test_the_store_is_off(tmp_path: Path) -> None:
    app = new_app(tmp_path, TFJS_STORE=None)
    source = write_generation(tmp_path / "m", 1)
    with app.app_context():
        for call in (
            lambda: publish(NAME, source),
            lambda: versions(NAME),
            lambda: rollback(NAME, 1),
            lambda: unpublish(NAME),
        ):
            with pytest.raises(ConfigError, match="TFJS_STORE is off"):
                call()


def test_one_of_several_blueprints(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    other = create_blueprint(
        "other", url_prefix="/other", store=str(tmp_path / "other")
    )
    app.register_blueprint(other)
    source = write_generation(tmp_path / "m", 1)
    with app.app_context():
        with pytest.raises(ConfigError, match="several flask_tfjs blueprints"):
            publish(NAME, source)
        publish(NAME, source, blueprint="other")
        assert [v.number for v in versions(NAME, blueprint="other")] == [1]
        with pytest.raises(ModelNotFound):
            versions(NAME, blueprint="tfjs")
        publish(NAME, source, blueprint="other")
        rollback(NAME, 1, blueprint="other")
        unpublish(NAME, blueprint="other")
    assert not store_of(tmp_path).exists()


# Numbers


def test_versions(app: Flask, folder: Path, tmp_path: Path) -> None:
    for generation in (1, 2, 3):
        put_generation(app, tmp_path, generation)
    roll_back(app, 2)
    found = versions_of(app)
    assert [(v.number, v.is_current) for v in found] == [
        *((3, False), (2, True), (1, False))
    ]
    for version in found:
        text = (folder / version.file_name).read_bytes()
        assert version.etag == hashlib.sha256(text).hexdigest()[:32]
        assert version.published == release_of(json.loads(text))["published"]
        assert (version.shards, version.byte_length) == (3, 3 * SHARD_BYTES)


def test_rollback(app: Flask, folder: Path, tmp_path: Path) -> None:
    for generation in (1, 2, 3):
        put_generation(app, tmp_path, generation)
    version = roll_back(app, 1)
    assert (version.number, version.is_current) == (1, True)
    assert generation_of(folder) == 1
    roll_back(app, 1)
    assert generation_of(folder) == 1
    # The next is a new one, and no other goes.
    assert put_generation(app, tmp_path, 4).number == 4
    assert set(version_files(folder)) == {1, 2, 3, 4}


@pytest.mark.parametrize("version", [0, -1, 3, True, "1", 1.0, None])
def test_no_such_version(app: Flask, tmp_path: Path, version: Any) -> None:
    for generation in (1, 2):
        put_generation(app, tmp_path, generation)
    before = snapshot(store_of(tmp_path))
    with pytest.raises(VersionNotFound):
        roll_back(app, version)
    assert snapshot(store_of(tmp_path)) == before


def test_no_such_version_tells_which_there_are(app: Flask, tmp_path: Path) -> None:
    for generation in (1, 2):
        put_generation(app, tmp_path, generation)
    with pytest.raises(VersionNotFound, match="no version 7, only 1, 2$"):
        roll_back(app, 7)


def test_files_of_the_version_are_gone(
    app: Flask, folder: Path, tmp_path: Path
) -> None:
    put_generation(app, tmp_path, 1, labels(1))
    only_of_1 = set(folder.glob("*.bin"))
    put_generation(app, tmp_path, 2)
    only_of_1 -= {folder / name for name in named_by(folder, "model.json")}
    gone = sorted(only_of_1)[0]
    gone.unlink()
    before = snapshot(store_of(tmp_path))
    with pytest.raises(InvalidModel, match="version 1 lacks") as error:
        roll_back(app, 1)
    assert error.value.where == f"{NAME}/{gone.name}"
    assert snapshot(store_of(tmp_path)) == before


def named_by(folder: Path, entry: str) -> set[str]:
    return set(release_of(json.loads((folder / entry).read_bytes()))["sha256"])


def test_unpublish(app: Flask, folder: Path, tmp_path: Path) -> None:
    for generation in (1, 2):
        put_generation(app, tmp_path, generation, labels(generation))
    put_generation(app, tmp_path, 3)
    take_off(app)
    assert files_in(folder) <= {".last-version"}
    with pytest.raises(ModelNotFound):
        take_off(app)


def test_numbers_are_never_given_again(
    app: Flask, folder: Path, tmp_path: Path
) -> None:
    numbers = [
        put_generation(app, tmp_path, generation).number for generation in (1, 2)
    ]
    take_off(app)
    numbers.append(put_generation(app, tmp_path, 3).number)
    take_off(app)
    collect(app)
    numbers.append(put_generation(new_app(tmp_path), tmp_path, 4).number)
    roll_back(app, 4)
    numbers.append(put_generation(app, tmp_path, 5).number)
    assert numbers == [1, 2, 3, 4, 5]


def test_numbers_are_never_given_again_by_other_processes(
    children: Nursery, tmp_path: Path
) -> None:
    app = new_app(tmp_path, TFJS_KEEP_VERSIONS=1000)
    running = [
        children.start("many", root=str(tmp_path), times=4, keep=False)
        for _ in range(3)
    ]
    assert [child.wait() for child in running] == [0, 0, 0], children.log()
    assert put_generation(app, tmp_path, 1).number == 3 * 4 + 1


def test_several_processes_publish(children: Nursery, tmp_path: Path) -> None:
    config = {"TFJS_KEEP_VERSIONS": 1000}
    running = [
        children.start("many", root=str(tmp_path), times=5, config=config)
        for _ in range(4)
    ]
    assert [child.wait() for child in running] == [0] * 4, children.log()
    folder = store_of(tmp_path) / NAME
    assert set(version_files(folder)) == set(range(1, 21))
    assert current_version(folder) == 20
    for path in version_files(folder).values():
        generation_of(folder, path.name)


# Compare and swap


def test_the_condition_sees_what_is_there(app: Flask, tmp_path: Path) -> None:
    seen: list[str | None] = []
    for generation in (1, 2):
        publish_with(app, write_generation(tmp_path / "m", generation), seen.append)
    first = versions_of(app)[-1].etag
    assert seen == [None, first]


def test_a_condition_that_fails_changes_nothing(app: Flask, tmp_path: Path) -> None:
    put_generation(app, tmp_path, 1)
    before = snapshot(store_of(tmp_path))

    def refuse(digest: str | None) -> None:
        raise VersionConflict("no")

    with pytest.raises(VersionConflict):
        publish_with(app, write_generation(tmp_path / "m", 2), refuse)
    assert snapshot(store_of(tmp_path)) == before


def publish_with(app: Flask, source: Path, condition: Any) -> None:
    store = local_store(app)
    with store.stage() as staging:
        model = stage_directory(
            ModelDirectory(NAME, str(source)), "model.json", staging
        )
        publish_staged(store, NAME, staging, model, condition)


def test_no_update_is_lost(children: Nursery, tmp_path: Path) -> None:
    processes, times = 4, 6
    config = {"TFJS_KEEP_VERSIONS": 1000}
    put_generation(new_app(tmp_path, **config), tmp_path, 0)
    running = [
        children.start("count", root=str(tmp_path), times=times, config=config)
        for _ in range(processes)
    ]
    assert [child.wait() for child in running] == [0] * processes, children.log()
    folder = store_of(tmp_path) / NAME
    assert generation_of(folder) == processes * times
    found = version_files(folder)
    assert set(found) == set(range(1, processes * times + 2))
    for number, path in found.items():
        assert generation_of(folder, path.name) == number - 1


# What was changed by hand


def test_what_is_not_ours_is_not_replaced(
    app: Flask, folder: Path, tmp_path: Path
) -> None:
    write_model(folder)
    before = snapshot(store_of(tmp_path))
    for act in (lambda: put_generation(app, tmp_path, 1), lambda: take_off(app)):
        with pytest.raises(InvalidModel, match="is not a published model"):
            act()
        assert snapshot(store_of(tmp_path)) == before


@pytest.mark.parametrize("text", [b"{", b"{}", dumps(dense_document("weights.bin"))])
def test_a_damaged_current_version_can_be_replaced(
    app: Flask, folder: Path, tmp_path: Path, text: bytes
) -> None:
    put_generation(app, tmp_path, 1)
    put_generation(app, tmp_path, 2)
    (folder / "model.json").write_bytes(text)
    roll_back(app, 1)
    assert generation_of(folder) == 1
    (folder / "model.json").write_bytes(text)
    assert put_generation(app, tmp_path, 3).number == 3
    assert generation_of(folder) == 3
    (folder / "model.json").write_bytes(text)
    take_off(app)
    assert put_generation(app, tmp_path, 4).number == 4


def test_a_shard_of_another_size_is_put_right(
    app: Flask, folder: Path, tmp_path: Path
) -> None:
    put_generation(app, tmp_path, 1)
    for shard in folder.glob("*.bin"):
        shard.write_bytes(b"cut")
    put_generation(app, tmp_path, 1)
    assert generation_of(folder) == 1


def test_a_removed_store_begins_anew(app: Flask, folder: Path, tmp_path: Path) -> None:
    """What a running server remembers of the old one counts for nothing."""
    for generation in (1, 2, 3):
        put_generation(app, tmp_path, generation)
    shutil.rmtree(store_of(tmp_path))
    for generation in (11, 12, 13):
        put_generation(app, tmp_path, generation)
    grow_older(folder, 10**6)
    put_generation(app, tmp_path, 14)
    assert set(version_files(folder)) == {1, 2, 3, 4}
    for number in (1, 2, 3, 4):
        assert generation_of(folder, f"model.v{number}.json") == number + 10
