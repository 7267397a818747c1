"""What an attacker found, kept from coming back."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeApp
from conftest import grow_old
from filesystem import time_limit
from flask import Flask
from flask import Response
from flask import request
from flask.testing import FlaskClient
from models import DENSE_BYTES
from models import DENSE_WEIGHTS
from models import LAYERS_TOPOLOGY
from models import dense_document
from models import write_model

from flask_tfjs.cli import tfjs
from flask_tfjs.http.representations import Representations
from flask_tfjs.http.representations import json_representation
from flask_tfjs.models.digests import Digests
from flask_tfjs.models.directory import ModelDirectory
from flask_tfjs.models.files import Root

SECRET = b"outside: " + b"s" * 23  # as long as the shard it may stand for


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "labels.txt").write_bytes(SECRET)
    (folder / "weights.bin").write_bytes(SECRET)
    return folder


def turn(link: Path, target: Path | str) -> None:
    """Point *link* elsewhere, in one step."""
    new = link.with_name("new")
    new.symlink_to(target)
    new.replace(link)


def test_an_asset_behind_a_hidden_link_that_is_turned(
    make_app: MakeApp, tmp_path: Path, outside: Path
) -> None:
    model = write_model(tmp_path / "m")
    (model / ".v" / "1").mkdir(parents=True)
    (model / ".v" / "1" / "labels.txt").write_bytes(b"cat")
    (model / ".v" / "cur").symlink_to("1")
    (model / "labels.txt").symlink_to(".v/cur/labels.txt")
    client = make_app(TFJS_MODELS={"m": model}).test_client()
    assert client.get("/models/m/labels.txt").data == b"cat"
    turn(model / ".v" / "cur", outside)
    assert SECRET not in client.get("/models/m/labels.txt").data


@pytest.mark.parametrize("name", ["weights.bin", "labels.txt"])
def test_a_link_that_is_turned_between_every_look(
    tmp_path: Path, outside: Path, name: str
) -> None:
    model = write_model(tmp_path / "m")
    inside = {"weights.bin": DENSE_BYTES, "labels.txt": b"l" * 32}[name]
    (model / "kept").mkdir()
    (model / "kept" / name).write_bytes(inside)
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(f"kept/{name}")
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            turn(model / name, outside / name)
            turn(model / name, f"kept/{name}")

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        for _ in range(400):
            root = Root(str(model))
            try:
                with root.open(name) as file:
                    assert file.read(0, 32) == inside
            except OSError:
                continue
    finally:
        stop.set()
        thread.join()


def test_a_link_that_goes_away_while_it_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: str) -> str:
        raise FileNotFoundError(2, "No such file or directory", path)

    monkeypatch.setattr(os.path, "realpath", gone)
    assert not Root(str(tmp_path)).holds(str(tmp_path / "x"))


@pytest.mark.parametrize("status", [200, 500])
def test_a_hook_that_fails_puts_no_page_on_a_shard(
    make_app: MakeApp, status: int
) -> None:
    app = make_app(PROPAGATE_EXCEPTIONS=False, TESTING=False)

    @app.after_request
    def fail(response: Response) -> Response:
        raise RuntimeError("no database")

    app.register_error_handler(Exception, lambda error: ("x" * 500, status))
    client = app.test_client()
    with client.get("/models/dense/weights.bin") as answer:
        assert (answer.status_code, answer.data) == (500, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    with client.get("/models/dense/model.json") as answer:
        assert answer.status_code == 500
        assert answer.get_json() == {"error": "the server failed"}


@pytest.mark.parametrize("max_age", [0, 60])
def test_an_error_that_a_hook_makes_of_our_answer_is_not_kept(
    make_app: MakeApp, max_age: int
) -> None:
    app = make_app(TFJS_MODEL_MAX_AGE=max_age)

    @app.after_request
    def refuse(response: Response) -> Response:
        if "refuse" in request.args:
            response.status_code = 503
        return response

    client = app.test_client()
    document = client.get("/models/dense/model.json").get_json()
    (name,) = document["weightsManifest"][0]["paths"]
    for path in ("model.json", name, "weights.bin"):
        with client.get(f"/models/dense/{path}?refuse") as answer:
            assert answer.status_code == 503
            assert "max-age" not in answer.headers["Cache-Control"]
            if path == name:
                assert "Repr-Digest" not in answer.headers


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("evil", "/tmp/a\0b"),
        ("evil", "/tmp/\ud800"),
        ("../q", "/tmp"),
        ("", "/tmp"),
        ("\x1b[31mred\n", "/tmp"),
    ],
)
def test_a_bad_registry_entry_spoils_no_other(
    make_app: MakeApp, tmp_path: Path, name: str, path: str
) -> None:
    write_model(tmp_path / "m")
    (tmp_path / "instance").mkdir()
    registry = {"TFJS_MODELS": {name: path, "ok": str(tmp_path / "m")}}
    (tmp_path / "instance" / "tfjs.json").write_text(json.dumps(registry))
    app = make_app(TFJS_MODELS={}, TFJS_INDEX=True)
    client = app.test_client()
    assert client.get("/models/ok/model.json").status_code == 200
    with client.get("/models/") as answer:
        assert [model["name"] for model in answer.get_json()["models"]] == ["ok"]
    result = app.test_cli_runner().invoke(tfjs, ["check"])
    assert result.exit_code == 1
    assert "is not the name of a model and an absolute path" in result.output
    assert "\x1b" not in result.output


def test_a_folder_of_models_that_can_be_entered_but_not_listed(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "zoo" / "one")
    app = make_app(TFJS_MODELS=tmp_path / "zoo")
    folder = app.extensions["tfjs"]["tfjs"].catalogue.sources.folders[0]

    def refuse() -> dict[str, str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folder, "_look", refuse)
    with app.test_client().get("/models/one/model.json") as answer:
        assert answer.status_code == 500
        assert "Permission denied" in answer.get_json()["error"]


def test_one_path_a_hundred_thousand_times(make_app: MakeApp, tmp_path: Path) -> None:
    paths = ["weights.bin"] * 100_000
    manifest = [{"paths": paths, "weights": DENSE_WEIGHTS}]
    document = {"modelTopology": LAYERS_TOPOLOGY, "weightsManifest": manifest}
    write_model(tmp_path / "m", document=document, shards={"weights.bin": DENSE_BYTES})
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    with time_limit(20):
        assert client.get("/models/m/model.json").status_code == 200


def test_a_path_of_megabytes_is_not_repeated(
    make_app: MakeApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    document = dense_document("w" * 3_000_000)
    write_model(tmp_path / "m", document=document, shards={})
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    with client.get("/models/m/model.json") as answer:
        assert answer.status_code == 500
        assert len(answer.data) < 1000
    assert len(caplog.text) < 2000


def test_one_model_in_the_making_holds_up_no_other() -> None:
    kept = Representations()
    started, go_on = threading.Event(), threading.Event()

    def slowly() -> Any:
        started.set()
        assert go_on.wait(10)
        return json_representation(b"{}", tag="slow")

    thread = threading.Thread(target=lambda: kept.get("slow", slowly))
    thread.start()
    assert started.wait(10)
    quick = kept.get("quick", lambda: json_representation(b"{}", tag="quick"))
    go_on.set()
    thread.join()
    assert quick.etag == "quick"


def test_one_content_is_encoded_once() -> None:
    kept = Representations()
    made: list[int] = []

    def make() -> Any:
        made.append(1)
        return json_representation(b"{}", tag="one")

    threads = [threading.Thread(target=lambda: kept.get("one", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


EVIL = "a\x1b[2J\nEverything loads.\x9b8m\u202e.json"


def test_no_name_reaches_a_terminal_or_a_log_raw(
    make_app: MakeApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_model(tmp_path / "m", entry=EVIL, shards={"weights.bin": b""})
    app = make_app(TFJS_MODELS={"m": tmp_path / "m"})
    runner = app.test_cli_runner()
    output = ""
    for command in (["check"], ["list"], ["show", "m"], ["register", "x", "m"]):
        # Without a terminal click itself would take some of it away.
        output += runner.invoke(tfjs, command, color=True).output
    with caplog.at_level(logging.ERROR, "flask_tfjs"):
        app.test_client().get("/models/m/model.json").close()
    for text in (output, caplog.text):
        assert not set(text) & {"\x1b", "\x9b", "\u202e"}
        assert "\nEverything loads." not in text


def test_a_huge_registry_is_not_read_whole(make_app: MakeApp, tmp_path: Path) -> None:
    (tmp_path / "instance").mkdir()
    with (tmp_path / "instance" / "tfjs.json").open("wb") as file:
        file.truncate(8 << 30)
    with time_limit(20):
        client = make_app().test_client()
        assert client.get("/models/dense/model.json").status_code == 200
        assert client.get("/models/other/model.json").status_code == 404


def test_registering_through_a_link_keeps_the_link(
    make_app: MakeApp, tmp_path: Path
) -> None:
    write_model(tmp_path / "m")
    (tmp_path / "instance").mkdir()
    (tmp_path / "shared.json").write_text("{}")
    link = tmp_path / "instance" / "tfjs.json"
    link.symlink_to(tmp_path / "shared.json")
    runner = make_app(TFJS_MODELS={}).test_cli_runner()
    result = runner.invoke(tfjs, ["register", "m", str(tmp_path / "m")])
    assert result.exit_code == 0
    assert link.is_symlink()
    assert "TFJS_MODELS" in json.loads((tmp_path / "shared.json").read_text())


def test_what_came_and_went_is_forgotten(tmp_path: Path) -> None:
    directory = ModelDirectory("m", str(tmp_path), digests=Digests())
    for number in range(20):
        write_model(tmp_path, entry=f"{number}.json")
        directory.delivery(f"{number}.json")
        (tmp_path / f"{number}.json").unlink()
    assert directory.entries() == []
    assert not directory._verdicts
    assert not directory._candidates
    assert not directory._delivered._deliveries
    assert not directory._delivered._owners
    assert not directory._judging._locks


def test_an_asset_that_is_written_to_says_so(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    (tmp_path / "dense" / "metadata.json").write_text("{}")
    digests = app.extensions["tfjs"]["tfjs"].catalogue.digests
    of = digests.of

    def write_meanwhile(path: str, *part: int) -> Any:
        if path.endswith("metadata.json"):
            Path(path).write_text('{"a": 1}')
        return of(path, *part)

    monkeypatch.setattr(digests, "of", write_meanwhile)
    with app.test_client().get("/models/dense/metadata.json") as answer:
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert "is being written to; ask again" in answer.get_json()["error"]


def test_a_shard_called_json_has_no_body_either(
    make_app: MakeApp, tmp_path: Path
) -> None:
    write_model(tmp_path / "m", shards={"w.json": b"[]"})
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    with client.get("/models/m/w.json") as answer:
        assert (answer.status_code, answer.data) == (500, b"")


def test_a_shard_written_to_before_its_first_block_is_sent_anew(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer has no length and no tag yet, so there is no need to cut it."""
    from flask_tfjs.models import files

    app = make_app()
    shard = tmp_path / "dense" / "weights.bin"
    blocks = files.OpenFile.blocks
    left = [1]

    def write_meanwhile(file: Any, *part: int) -> Iterator[bytes]:
        if file.name == "weights.bin" and part and left:
            left.pop()
            shard.write_bytes(DENSE_BYTES[::-1])
        return blocks(file, *part)

    with app.test_client() as client:
        client.get("/models/dense/model.json").close()
        state = app.extensions["tfjs"]["tfjs"]
        state.catalogue.digests.clock = lambda: 2**62
        client.get("/models/dense/model.json").close()
        monkeypatch.setattr(files.OpenFile, "blocks", write_meanwhile)
        with client.get("/models/dense/weights.bin") as answer:
            assert (answer.status_code, answer.data) == (200, DENSE_BYTES[::-1])
    assert not left


def test_the_wsgi_interface_is_closed_on_every_path(app: Flask) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for method in ("GET", "HEAD"):
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": "/models/dense/weights.bin",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
        }
        body: Any = app.wsgi_app(environ, lambda *status: lambda data: None)
        body.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_two_broken_models_in_turn_do_not_fill_the_log(
    make_app: MakeApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "ab":
        document = dense_document(f"missing-{name}.bin")
        write_model(tmp_path / "m", entry=f"{name}.json", document=document, shards={})
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    for _ in range(5):
        for name in "ab":
            client.get(f"/models/m/{name}.json").close()
    assert len(caplog.records) == 2


def test_what_many_ask_for_or_is_made_anew_counts_once() -> None:
    made = json_representation(b"{}", tag="one")
    kept = Representations(max_bytes=2 * made.length)
    for _ in range(3):
        for key in "abc":  # one more than there is room for
            with ThreadPoolExecutor(8) as pool:
                asked = pool.map(lambda key: kept.get(key, lambda: made), [key] * 8)
                assert all(one is made for one in asked)
    assert kept._bytes == 2 * made.length


@pytest.mark.parametrize("status", [204, 302])
def test_an_answer_that_a_hook_makes_another_is_not_kept(
    make_app: MakeApp, status: int
) -> None:
    app = make_app()

    @app.after_request
    def change(response: Response) -> Response:
        if "change" in request.args:
            response.status_code = status
        return response

    client = app.test_client()
    document = client.get("/models/dense/model.json").get_json()
    (name,) = document["weightsManifest"][0]["paths"]
    with client.get(f"/models/dense/{name}?change") as answer:
        assert answer.status_code == status
        assert answer.headers["Cache-Control"] == "no-store"
        assert "ETag" not in answer.headers and "Repr-Digest" not in answer.headers


def test_removed_models_are_forgotten(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app(TFJS_MODELS=str(tmp_path / "all"))
    catalogue = app.extensions["tfjs"]["tfjs"].catalogue
    client = app.test_client()
    for number in range(3):
        write_model(tmp_path / "all" / f"m{number}")
        assert client.get(f"/models/m{number}/model.json").status_code == 200
    shutil.rmtree(tmp_path / "all" / "m0")
    shutil.rmtree(tmp_path / "all" / "m1")
    assert client.get("/models/m0/model.json").status_code == 404
    assert catalogue.names() == ["m2"]
    assert list(catalogue._directories) == ["m2"]


def test_long_preferences_are_not_remembered(client: FlaskClient, app: Flask) -> None:
    for number in range(10):
        accepted = f"gzip;q=0.{number}, {'x' * 1000}"
        client.get("/models/dense/model.json", headers={"Accept-Encoding": accepted})
    assert not app.extensions["tfjs"]["tfjs"].ranked


def test_a_file_that_is_cut_before_it_is_stamped(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux cuts a file first: for a moment it looks old and broken."""
    grow_old(app)
    path = tmp_path / "dense" / "weights.bin"
    data = path.read_bytes()
    path.write_bytes(b"")

    def stamp(seconds: float) -> None:
        if not path.stat().st_size:
            path.write_bytes(data)

    monkeypatch.setattr(time, "sleep", stamp)
    assert app.test_client().get("/models/dense/model.json").status_code == 200
