"""flask tfjs …: what is printed where, and the exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from conftest import MakeApp
from flask import Flask
from flask import Response
from flask import request
from flask_cors import CORS
from models import DENSE_BYTES
from models import content_name
from models import dense_document
from models import write_model

from flask_tfjs import create_blueprint
from flask_tfjs.cli import tfjs


def run(app: Flask, *arguments: Any) -> Result:
    runner = app.test_cli_runner()
    vars(runner)["mix_stderr"] = False  # click 8.1 mixes unless told not to
    return runner.invoke(tfjs, [str(a) for a in arguments])


def test_list(app: Flask, tmp_path: Path) -> None:
    result = run(app, "list")
    assert (result.exit_code, result.stderr) == (0, "")
    head, row = result.stdout.splitlines()
    assert head.split() == [
        *("NAME", "KIND", "ENTRIES", "VERSIONS"),
        *("SIZE", "DIRECTORY", "URL", "STATE"),
    ]
    assert row.split() == [
        *("dense", "layers-model", "1", "-"),
        *("32", "B", str(tmp_path / "dense"), "/models/dense/model.json", "ok"),
    ]


def test_list_as_json_with_broken_ones(make_app: MakeApp, tmp_path: Path) -> None:
    write_model(tmp_path / "sound")
    write_model(tmp_path / "short", shards={"weights.bin": b"1234"})
    write_model(tmp_path / "two", entry="a.json")
    write_model(tmp_path / "two", entry="b/b.json")
    (tmp_path / "empty").mkdir()
    names = ("sound", "short", "two", "empty", "missing")
    app = make_app(TFJS_MODELS={name: tmp_path / name for name in names})
    result = run(app, "list", "--json")
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "empty": "empty",
        "missing": "missing",
        "short": "broken",
        "sound": "ok",
        "two": "ok",
    }
    assert "weights.bin" in rows["short"]["reason"]
    assert rows["two"]["entries"] == ["a.json", "b/b.json"]
    assert rows["two"]["url"] == "/models/two/"
    assert rows["sound"] == {
        "name": "sound",
        "kind": "layers-model",
        "entries": ["model.json"],
        "versions": [],
        "bytes": 32,
        "directory": str(tmp_path / "sound"),
        "url": "/models/sound/model.json",
        "state": "ok",
        "reason": None,
    }


def test_list_of_nothing(make_app: MakeApp) -> None:
    result = run(make_app(TFJS_MODELS={}), "list")
    assert (result.exit_code, result.stdout) == (
        0,
        "No models. Add one: flask tfjs register NAME PATH, or flask tfjs publish NAME "
        "PATH\n",
    )


def test_list_warns_of_a_broken_registry(make_app: MakeApp, tmp_path: Path) -> None:
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / "tfjs.json").write_text("{")
    result = run(make_app(), "list")
    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: TFJS_REGISTRY:")
    assert "dense" in result.stdout


def test_register_list_unregister(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app(TFJS_MODELS={})
    write_model(tmp_path / "new")
    result = run(app, "register", "new", tmp_path / "new")
    assert result.stdout == f"Registered new: {tmp_path / 'new'}\n"
    assert app.test_client().get("/models/new/model.json").status_code == 200
    assert "/models/new/model.json" in run(app, "list").stdout
    assert run(app, "unregister", "new").stdout == "Unregistered new\n"
    assert run(app, "unregister", "new").exit_code == 1


def test_register_a_json_file(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app(TFJS_MODELS={})
    write_model(tmp_path / "zoo", entry="cat.json")
    assert run(app, "register", "cat", tmp_path / "zoo" / "cat.json").exit_code == 0
    assert app.test_client().get("/models/cat/model.json").status_code == 200


def test_register_keeps_an_absolute_path(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    assert run(make_app(TFJS_MODELS={}), "register", "new", "new").exit_code == 0
    registered = json.loads((tmp_path / "instance" / "tfjs.json").read_text())
    assert registered == {"TFJS_MODELS": {"new": str(tmp_path / "new")}}


@pytest.mark.parametrize("shards", [{}, {"weights.bin": b"short"}])
def test_register_refuses_what_is_not_sound(
    make_app: MakeApp, tmp_path: Path, shards: dict[str, bytes]
) -> None:
    app = make_app(TFJS_MODELS={})
    document = dense_document("weights.bin") if shards else {}
    write_model(tmp_path / "new", document=document, shards=shards)
    result = run(app, "register", "new", tmp_path / "new")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert not (tmp_path / "instance").exists()
    assert run(app, "register", "--force", "new", tmp_path / "new").exit_code == 0


def test_register_takes_a_directory_with_one_sound_model(
    make_app: MakeApp, tmp_path: Path
) -> None:
    write_model(tmp_path / "zoo", entry="sound.json")
    write_model(tmp_path / "zoo", entry="short.json", shards={"short.bin": b""})
    app = make_app(TFJS_MODELS={})
    assert run(app, "register", "zoo", tmp_path / "zoo").exit_code == 0


def test_register_a_file_that_is_no_json(make_app: MakeApp, tmp_path: Path) -> None:
    write_model(tmp_path / "dense")
    app = make_app(TFJS_MODELS={})
    result = run(app, "register", "w", tmp_path / "dense" / "weights.bin")
    assert result.exit_code == 1
    assert "register the directory or the model's .json file" in result.stderr


def test_names_of_the_configuration_are_not_registered(
    app: Flask, tmp_path: Path
) -> None:
    for command in (["register", "dense", tmp_path / "dense"], ["unregister", "dense"]):
        result = run(app, *command)
        assert result.exit_code == 1
        assert "TFJS_MODELS" in result.stderr


def test_register_without_a_registry(make_app: MakeApp, tmp_path: Path) -> None:
    write_model(tmp_path / "new")
    app = make_app(TFJS_REGISTRY=None)
    result = run(app, "register", "new", tmp_path / "new")
    assert (result.exit_code, "TFJS_REGISTRY is off" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["register", "a/b", "."],
        ["register", "a"],
        ["unregister"],
        ["show"],
        ["nothing"],
        ["list", "--nothing"],
    ],
)
def test_wrong_commands_exit_2(app: Flask, arguments: list[str]) -> None:
    result = run(app, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")


def test_show(app: Flask) -> None:
    text = run(app, "show", "dense").stdout
    for fact in (
        "dense/model.json",
        'tf.loadLayersModel("/models/dense/model.json")',
        "dense [?, 3]",
        "1: Dense 1",
        "2 (float32 2), 8 parameters",
        "weights.bin 32 bytes",
    ):
        assert fact in text
    with app.test_client().get("/models/dense/weights.bin") as answer:
        digest = answer.headers["Repr-Digest"].removeprefix("sha-256=:")[:-1]
    assert digest in text


def test_show_as_json_counts_what_goes_over_the_wire(app: Flask) -> None:
    (report,) = json.loads(run(app, "show", "dense", "--json").stdout)
    client = app.test_client()
    for coding in ("identity", "gzip"):
        sent = sum(
            len(client.get(f"/models/dense/{name}", headers=headers).data)
            for name in ("model.json", "weights.bin")
            for headers in [{"Accept-Encoding": coding}]
        )
        assert report["bytes_on_the_wire"][coding] == sent
    with client.get("/models/dense/model.json") as answer:
        assert answer.headers["ETag"] == f'"{report["digest"]}"'


def test_show_a_path_and_a_broken_one(app: Flask, tmp_path: Path) -> None:
    write_model(tmp_path / "half", entry="sound.json")
    write_model(tmp_path / "half", entry="short.json", shards={"short.bin": b"12"})
    result = run(app, "show", tmp_path / "half")
    assert result.exit_code == 1
    half = tmp_path / "half"
    assert f"{half}/sound.json" in result.stdout
    assert result.stderr.startswith(f"Error: {half}/short.json: short.bin: has 2 bytes")


def test_show_nothing(app: Flask, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run(app, "show", "unknown").stderr == (
        "Error: there is no model 'unknown', and there is no such path\n"
    )
    result = run(app, "show", tmp_path / "empty")
    assert (result.exit_code, "no JSON file in it" in result.stderr) == (1, True)


def test_check(app: Flask) -> None:
    result = run(app, "check")
    assert (result.exit_code, result.stdout) == (0, "Everything loads.\n")


def test_check_of_no_models_is_a_fault(make_app: MakeApp) -> None:
    result = run(make_app(TFJS_MODELS={}), "check")
    assert (result.exit_code, "set TFJS_MODELS" in result.stdout) == (1, True)


def test_check_as_json(make_app: MakeApp, tmp_path: Path) -> None:
    write_model(tmp_path / "dense", shards={"weights.bin": b"12"})
    app = make_app(TFJS_MODELS={"dense": tmp_path / "dense"})
    result = run(app, "check", "--json")
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)
    assert finding["level"] == "error"
    assert finding["where"] == "dense/model.json"
    assert finding["message"].startswith("weights.bin: has 2 bytes")


def test_check_prefers_the_registered_name(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere" / "dense").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(app, "check", "dense").exit_code == 0
    assert run(app, "check", "./dense").exit_code == 1


def test_check_a_path_through_links(app: Flask, tmp_path: Path) -> None:
    write_model(tmp_path / "blobs")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name in ("model.json", "weights.bin"):
        (snapshot / name).symlink_to(tmp_path / "blobs" / name)
    result = run(app, "check", snapshot)
    assert (result.exit_code, "TFJS_LINK_ROOTS" in result.stdout) == (1, True)
    trusted = ("--link-root", tmp_path / "blobs")
    assert run(app, "check", snapshot, *trusted).exit_code == 0


def test_check_of_an_app_that_widens_the_policy(make_app: MakeApp) -> None:
    assert run(make_app(), "check").stdout == "Everything loads.\n"
    app = make_app(TFJS_ALLOW_ORIGINS=["https://mine.example"])
    CORS(app)
    result = run(app, "check")
    assert result.exit_code == 0
    assert "warning: dense/model.json: the app widens TFJS_ALLOW_ORIGINS" in (
        result.stdout
    )


@pytest.mark.parametrize(
    ("status", "exit_code"), [(200, 1), (302, 1), (401, 0), (403, 0), (503, 1)]
)
def test_check_of_an_app_that_answers_first(
    app: Flask, status: int, exit_code: int
) -> None:
    @app.before_request
    def log_in() -> Response:
        return Response("<h1>log in</h1>", status)

    result = run(app, "check")
    assert result.exit_code == exit_code
    assert f"the app answers {status} " in result.stdout


def test_check_of_an_app_that_refuses_shards(app: Flask) -> None:
    @app.before_request
    def limit() -> Response | None:
        return Response(status=503) if request.path.endswith(".bin") else None

    result = run(app, "check")
    assert result.exit_code == 1
    shard = content_name("weights", DENSE_BYTES)
    assert f"error: dense/{shard}: the app answers 503" in result.stdout


def test_no_hook_takes_the_cors_headers_away(app: Flask) -> None:
    @app.after_request
    def close(response: Response) -> Response:
        response.headers.pop("Access-Control-Allow-Origin")
        return response

    assert run(app, "check").stdout == "Everything loads.\n"


def test_check_of_an_app_whose_own_route_comes_first(tmp_path: Path) -> None:
    write_model(tmp_path / "dense")
    app = Flask(__name__, static_url_path="/models", static_folder=str(tmp_path))
    app.register_blueprint(create_blueprint(models={"dense": tmp_path / "dense"}))
    result = run(app, "check")
    assert result.exit_code == 1
    assert "another route" in result.stdout


def test_check_of_an_app_that_fails(app: Flask) -> None:
    @app.before_request
    def fail() -> None:
        raise RuntimeError("no database")

    result = run(app, "check")
    assert result.exit_code == 1
    assert "no database" in result.stdout


def test_several_blueprints_must_be_told_apart(
    make_app: MakeApp, tmp_path: Path
) -> None:
    app = make_app()
    write_model(tmp_path / "other")
    app.register_blueprint(
        create_blueprint("more", url_prefix="/m", models={"o": tmp_path / "other"})
    )
    result = run(app, "list")
    assert (result.exit_code, "tfjs, more" in result.stderr) == (1, True)
    assert "/m/o/model.json" in run(app, "list", "--blueprint", "more").stdout
    assert run(app, "check", "o", "--blueprint", "more").exit_code == 0


def test_an_app_without_the_blueprint() -> None:
    result = run(Flask(__name__), "list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "app.register_blueprint(tfjs_bp)" in result.stderr


def test_hostile_names_do_not_reach_the_terminal(
    make_app: MakeApp, tmp_path: Path
) -> None:
    write_model(tmp_path / "odd", entry="\x1b[2J.json")
    app = make_app(TFJS_MODELS={"odd": tmp_path / "odd"})
    for command in ("list", "show", "check"):
        result = run(app, command, *(["odd"] if command == "show" else []))
        assert "\x1b" not in result.stdout + result.stderr


def flask_command(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flask", "tfjs", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
    )


def test_a_path_is_checked_without_an_app(tmp_path: Path) -> None:
    write_model(tmp_path / "sound")
    write_model(tmp_path / "short", shards={"weights.bin": b"12"})
    for path in ("sound", "./sound", str(tmp_path / "sound" / "model.json")):
        result = flask_command(tmp_path, "check", path)
        assert (result.returncode, result.stdout) == (0, "Everything loads.\n")
    for path in ("./sound", "./sound/model.json"):
        shown = flask_command(tmp_path, "show", path)
        assert 'tf.loadLayersModel("/models/sound/model.json")' in shown.stdout
    result = flask_command(tmp_path, "check", "sound", "short")
    assert result.returncode == 1
    assert "error: short/model.json: weights.bin: has 2 bytes" in result.stdout
    result = flask_command(tmp_path, "list")
    assert (result.returncode, result.stdout) == (2, "")
    result = flask_command(tmp_path, "check", "sond")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no file or directory 'sond' here" in result.stderr


@pytest.mark.parametrize(
    "command", [["check", ""], ["show", ""], ["register", "x", ""]]
)
def test_an_empty_path_is_not_the_current_directory(
    app: Flask, command: list[str]
) -> None:
    result = run(app, *command)
    assert (result.exit_code, "a path is empty" in result.stderr) == (2, True)


def test_unregister_a_name_that_the_app_has_too(
    make_app: MakeApp, tmp_path: Path
) -> None:
    write_model(tmp_path / "dense")
    app = make_app(TFJS_MODELS={})
    assert run(app, "register", "dense", tmp_path / "dense").exit_code == 0
    result = run(make_app(), "unregister", "dense")
    assert result.stdout == (
        "Unregistered dense\nThe app's own dense is still served.\n"
    )


def test_the_command_belongs_to_flask(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from flask import Flask\nfrom flask_tfjs import tfjs_bp\n"
        "app = Flask(__name__)\napp.config['TFJS_MODELS'] = {'dense': 'dense'}\n"
        "app.register_blueprint(tfjs_bp)\n"
    )
    write_model(tmp_path / "dense")
    result = flask_command(tmp_path, "list")
    assert result.returncode == 0
    assert "/models/dense/model.json" in result.stdout
