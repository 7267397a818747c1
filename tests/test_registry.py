"""The file that register and unregister write, and that a running server reads."""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeApp
from models import write_model

from flask_tfjs import ConfigError
from flask_tfjs import ModelNotFound
from flask_tfjs.models.registry import Registry
from flask_tfjs.models.registry import register
from flask_tfjs.models.registry import unregister


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "instance" / "tfjs.json"


def test_register_and_unregister(path: Path) -> None:
    registry = Registry(str(path))
    assert registry.models() == {}
    register(str(path), "b", "/srv/b")
    register(str(path), "a", "/srv/a")
    assert registry.models() == {"a": "/srv/a", "b": "/srv/b"}
    assert json.loads(path.read_text()) == {
        "TFJS_MODELS": {"a": "/srv/a", "b": "/srv/b"}
    }
    unregister(str(path), "b")
    assert registry.models() == {"a": "/srv/a"}
    with pytest.raises(ModelNotFound, match="'b'"):
        unregister(str(path), "b")


def test_unregister_makes_nothing(path: Path) -> None:
    with pytest.raises(ModelNotFound):
        unregister(str(path), "a")
    assert not path.parent.exists()


def test_other_members_and_the_mode_of_the_file_stay(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"SECRET": "x"}')
    path.chmod(0o640)
    register(str(path), "a", "/srv/a")
    assert json.loads(path.read_text()) == {
        "SECRET": "x",
        "TFJS_MODELS": {"a": "/srv/a"},
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == ["tfjs.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"TFJS_MODELS": []}',
        '{"TFJS_MODELS": {"a": 1}}',
        '{"TFJS_MODELS": {"a": "relative/path"}}',
        '{"TFJS_MODELS": {"a": NaN}}',
    ],
)
def test_a_broken_file_is_not_overwritten(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"TFJS_REGISTRY.*mend the file or remove it"):
        register(str(path), "a", "/srv/a")
    assert path.read_text() == content


def test_a_broken_file_keeps_what_was_registered(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register(str(path), "a", "/srv/a")
    registry = Registry(str(path))
    registry.models()
    path.write_text('{"TFJS_MODELS": {')
    with caplog.at_level(logging.ERROR, "flask_tfjs"):
        for _ in range(3):
            assert registry.models() == {"a": "/srv/a"}
    assert caplog.text.count("mend the file") == 1
    assert registry.fault is not None
    path.write_text('{"TFJS_MODELS": {"b": "/srv/b"}}')
    assert registry.models() == {"b": "/srv/b"}
    assert registry.fault is None
    path.unlink()
    assert registry.models() == {}


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        register(str(tmp_path / "file" / "tfjs.json"), "a", "/srv/a")


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        register(str(tmp_path), "a", "/srv/a")


def test_an_interrupted_write_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(str(path), "a", "/srv/a")

    def full_disk(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ConfigError, match="No space left"):
        register(str(path), "b", "/srv/b")
    assert Registry(str(path)).models() == {"a": "/srv/a"}
    assert os.listdir(path.parent) == ["tfjs.json"]


def test_two_commands_at_once_lose_nothing(path: Path) -> None:
    names = [f"m{number}" for number in range(24)]

    def work(mine: list[str]) -> None:
        for name in mine:
            register(str(path), name, f"/srv/{name}")

    threads = [threading.Thread(target=work, args=(names[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(Registry(str(path)).models()) == sorted(names)


def test_an_unchanged_file_is_read_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(str(path), "a", "/srv/a")
    late = path.stat().st_ctime_ns + 60_000_000_000
    registry = Registry(str(path), clock=lambda: late)
    registry.models()
    monkeypatch.setattr(
        "flask_tfjs.models.registry.OpenFile", lambda path: pytest.fail("read again")
    )
    assert registry.models() == {"a": "/srv/a"}


def test_a_running_server_notices(
    make_app: MakeApp, tmp_path: Path, path: Path
) -> None:
    client = make_app(TFJS_MODELS={}).test_client()
    assert client.get("/models/late/model.json").status_code == 404
    register(str(path), "late", str(write_model(tmp_path / "late")))
    assert client.get("/models/late/model.json").status_code == 200
    unregister(str(path), "late")
    assert client.get("/models/late/model.json").status_code == 404


def test_the_app_wins(make_app: MakeApp, tmp_path: Path, path: Path) -> None:
    register(str(path), "dense", "/nowhere")
    client = make_app().test_client()
    assert client.get("/models/dense/model.json").status_code == 200
