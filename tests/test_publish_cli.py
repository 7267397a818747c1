"""flask tfjs publish, versions, rollback, unpublish, gc: what is printed where, and the
exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from models import write_model
from publishing import NAME
from publishing import SHARD_BYTES
from publishing import current_version
from publishing import files_in
from publishing import generation_of
from publishing import grow_older
from publishing import labels
from publishing import named_files
from publishing import new_app
from publishing import put_generation
from publishing import snapshot
from publishing import store_of
from publishing import version_files
from publishing import write_generation

from flask_tfjs import create_blueprint
from flask_tfjs.cli import tfjs


def run(app: Flask, *arguments: Any) -> Result:
    runner = app.test_cli_runner()
    vars(runner)["mix_stderr"] = False  # click 8.1 mixes unless told not to
    result = runner.invoke(tfjs, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def require_fault(result: Result, *says: str) -> None:
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    for text in says:
        assert text in result.stderr


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return new_app(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return store_of(tmp_path) / NAME


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_generation(tmp_path / "source", 1, labels(1))


# publish


def test_publish(app: Flask, source: Path, folder: Path, tmp_path: Path) -> None:
    result = run(app, "publish", NAME, source)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == (
        f"Published {NAME}, version 1: 3 shards, 12.3 kB, 12.3 kB new\n"
        f"/models/{NAME}/model.json\n"
    )
    assert generation_of(folder) == 1
    write_generation(tmp_path / "source", 2)
    result = run(app, "publish", NAME, source / "model.json")
    assert result.stdout.startswith(
        f"Published {NAME}, version 2: 3 shards, 12.3 kB, 8.2 kB new\n"
    )
    assert run(app, "publish", NAME, source).stdout.startswith(
        f"Published {NAME}, version 3: 3 shards, 12.3 kB, 0 B new\n"
    )


def test_progress_goes_to_standard_error(app: Flask, source: Path) -> None:
    assert "Publishing" in run(app, "publish", NAME, source).stderr
    assert "Cleaning up" in run(app, "gc").stderr


def test_publish_refused(app: Flask, source: Path, tmp_path: Path) -> None:
    (source / "head.bin").unlink()
    require_fault(run(app, "publish", NAME, source), "head.bin is missing")
    require_fault(run(app, "publish", NAME, tmp_path / "none"), "cannot be read")
    (tmp_path / "empty").mkdir()
    require_fault(run(app, "publish", NAME, tmp_path / "empty"), "JSON")
    require_fault(run(app, "publish", "a/b", source), "letters, digits")
    write_model(tmp_path / "two", entry="a.json")
    write_model(tmp_path / "two", entry="b.json")
    require_fault(run(app, "publish", NAME, tmp_path / "two"), "a.json", "b.json")
    assert not store_of(tmp_path).exists()


def test_publish_one_of_several(app: Flask, folder: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "two", entry="a.json")
    write_model(tmp_path / "two", entry="b.json")
    result = run(app, "publish", NAME, tmp_path / "two" / "a.json")
    assert result.exit_code == 0, result.stderr
    assert (folder / "model.json").exists()


def test_publish_from_here(
    app: Flask, source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source)
    assert run(app, "publish", NAME, ".").exit_code == 0
    monkeypatch.chdir(source.parent)
    assert run(app, "publish", NAME, "source").exit_code == 0
    assert current_version(folder) == 2


def test_a_full_disk(app: Flask, source: Path, tmp_path: Path) -> None:
    (tmp_path / "instance").write_bytes(b"a file where a folder is to be")
    result = run(app, "publish", NAME, source)
    require_no_traceback(result)
    assert "Error: TFJS_STORE: " in result.stderr


def require_no_traceback(result: Result) -> None:
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr


# versions


def test_versions(app: Flask, folder: Path, tmp_path: Path) -> None:
    for generation in (1, 2):
        put_generation(app, tmp_path, generation)
    run(app, "rollback", NAME, 1)
    result = run(app, "versions", NAME)
    assert (result.exit_code, result.stderr) == (0, "")
    head, newer, older = result.stdout.splitlines()
    assert head.split() == ["VERSION", "PUBLISHED", "SHARDS", "SIZE", "URL"]
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    url = f"/models/{NAME}/model.v"
    assert re.fullmatch(rf"2 +{stamp} +3 +12.3 kB +{url}2.json", newer)
    assert re.fullmatch(rf"1 +{stamp} +3 +12.3 kB +{url}1.json +current", older)


def test_versions_as_json(app: Flask, tmp_path: Path) -> None:
    for generation in (1, 2):
        put_generation(app, tmp_path, generation)
    rows = json.loads(run(app, "versions", NAME, "--json").stdout)
    assert [(row["version"], row["current"]) for row in rows] == [(2, True), (1, False)]
    client = app.test_client()
    for row in rows:
        assert (row["shards"], row["bytes"]) == (3, 3 * SHARD_BYTES)
        with client.get(row["url"]) as r:
            assert r.headers["ETag"] == f'"{row["etag"]}"'
            release = r.get_json()["flaskTfjs"]
        assert (release["version"], release["published"]) == (
            row["version"],
            row["published"],
        )


# rollback, unpublish


def test_rollback(app: Flask, folder: Path, tmp_path: Path) -> None:
    for generation in (1, 2):
        put_generation(app, tmp_path, generation)
    result = run(app, "rollback", NAME, 1)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{NAME} is version 1 again\n"
    assert generation_of(folder) == 1
    require_fault(run(app, "rollback", NAME, 7), "has no version 7, only 1, 2")


@pytest.mark.parametrize("version", ["0", "-1", "x", "1.5", ""])
def test_what_is_no_version_is_a_wrong_command(app: Flask, version: str) -> None:
    assert run(app, "rollback", NAME, version).exit_code == 2


def test_unpublish(app: Flask, folder: Path, tmp_path: Path) -> None:
    put_generation(app, tmp_path, 1)
    result = run(app, "unpublish", NAME)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"Unpublished {NAME}\n"
    assert files_in(folder) == {".last-version"}
    assert "No models." in run(app, "list").stdout


@pytest.mark.parametrize("command", [["versions"], ["rollback", "1"], ["unpublish"]])
def test_nothing_is_published(app: Flask, command: list[str], tmp_path: Path) -> None:
    name, *rest = command
    require_fault(run(app, name, NAME, *rest), f"nothing is published as '{NAME}'")
    require_fault(run(app, name, "a/b", *rest), "letters, digits")
    assert not store_of(tmp_path).exists()


@pytest.mark.parametrize(
    "command",
    [["publish", NAME, "."], ["versions", NAME], ["rollback", NAME, "1"], ["gc"]],
)
def test_the_store_is_off(tmp_path: Path, source: Path, command: list[str]) -> None:
    app = new_app(tmp_path, TFJS_STORE=None)
    if command[0] == "publish":
        command = [*command[:2], str(source)]
    result = run(app, *command)
    require_no_traceback(result)
    assert "TFJS_STORE is off" in result.stderr


# gc


def test_gc(app: Flask, folder: Path, tmp_path: Path) -> None:
    for generation in (1, 2, 3):
        put_generation(app, tmp_path, generation)
    result = run(app, "gc")
    assert result.exit_code == 0
    assert result.stdout == "Removed 0 files, 0 B freed\n"
    grow_older(folder, 10**6)
    strict = new_app(tmp_path, TFJS_KEEP_VERSIONS=2, TFJS_GRACE=0)
    text = len((folder / "model.v1.json").read_bytes())
    result = run(strict, "gc")
    assert result.exit_code == 0
    assert (
        result.stdout
        == f"Removed 3 files, {(2 * SHARD_BYTES + text) / 1000:.1f} kB freed\n"
    )
    assert set(version_files(folder)) == {2, 3}
    assert files_in(folder) == named_files(folder)


def test_gc_of_all_names(app: Flask, source: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "a", "b"):
        assert run(app, "publish", name, source).exit_code == 0
    grow_older(store_of(tmp_path), 10**6)
    strict = new_app(tmp_path, TFJS_KEEP_VERSIONS=1, TFJS_GRACE=0)
    assert run(strict, "gc").stdout.startswith("Removed 2 files, ")


def test_gc_refuses_where_a_json_was_changed(
    app: Flask, folder: Path, tmp_path: Path
) -> None:
    for generation in (1, 2):
        put_generation(app, tmp_path, generation)
    grow_older(folder, 10**6)
    (folder / "model.json").write_bytes(b"{}")
    before = snapshot(folder)
    result = run(new_app(tmp_path, TFJS_KEEP_VERSIONS=1, TFJS_GRACE=0), "gc")
    assert result.exit_code == 1
    assert result.stdout == "Removed 0 files, 0 B freed\n"
    assert f"Error: {NAME}/model.json: " in result.stderr
    assert snapshot(folder) == before


# Several blueprints, no blueprint


def test_blueprint(app: Flask, source: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "other")
    app.register_blueprint(create_blueprint("other", url_prefix="/o", store=store))
    which = ["--blueprint", "other"]
    for command in (
        ["publish", NAME, source],
        ["versions", NAME],
        ["rollback", NAME, 1],
        ["gc"],
        ["unpublish", NAME],
    ):
        require_fault(run(app, *command), "several flask_tfjs blueprints")
        assert run(app, *command, *which).exit_code == 0, command
    assert run(app, "publish", NAME, source, *which).stdout.endswith(
        f"/o/{NAME}/model.json\n"
    )
    assert not store_of(tmp_path).exists()


def test_no_blueprint(source: Path) -> None:
    result = run(Flask("host"), "publish", NAME, source)
    require_fault(result, "register_blueprint(tfjs_bp)")


@pytest.mark.parametrize("command", ["publish", "versions", "rollback", "unpublish"])
def test_arguments_are_missing(app: Flask, command: str) -> None:
    assert run(app, command).exit_code == 2


def test_a_real_process(tmp_path: Path, source: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from flask import Flask\n"
        "from flask_tfjs import tfjs_bp\n"
        "app = Flask(__name__)\n"
        "app.register_blueprint(tfjs_bp)\n"
    )
    command = [sys.executable, "-m", "flask", "--app", "app", "tfjs"]
    for arguments in (["publish", NAME, "source"], ["check", NAME]):
        result = subprocess.run(
            [*command, *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
    assert generation_of(store_of(tmp_path) / NAME) == 1
