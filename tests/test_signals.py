"""What an app hears of its published models, and that its ears change nothing."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blinker import NamedSignal
from flask import Flask
from flask import current_app
from publishing import NAME
from publishing import collect
from publishing import current_version
from publishing import generation_of
from publishing import new_app
from publishing import put
from publishing import put_generation
from publishing import store_of
from publishing import write_generation

from flask_tfjs import TFJSError
from flask_tfjs import create_blueprint
from flask_tfjs import model_published
from flask_tfjs import model_rolled_back
from flask_tfjs import publish
from flask_tfjs import rollback
from flask_tfjs import unpublish
from flask_tfjs import upload_rejected
from flask_tfjs import versions
from flask_tfjs.cli import tfjs

Heard = list[tuple[str, Any, dict[str, Any]]]


@contextlib.contextmanager
def listening() -> Iterator[Heard]:
    """All that is sent: the signal, its sender, what it says."""
    heard: Heard = []
    with contextlib.ExitStack() as stack:
        for signal in (model_published, model_rolled_back, upload_rejected):

            def hear(sender: Any, _name: str = signal.name, **facts: Any) -> None:
                heard.append((_name, sender, facts))

            stack.enter_context(signal.connected_to(hear))
        yield heard


def roll_back(app: Flask, version: int) -> None:
    with app.app_context():
        rollback(NAME, version)


def test_names() -> None:
    names = [s.name for s in (model_published, model_rolled_back, upload_rejected)]
    assert names == ["model-published", "model-rolled-back", "upload-rejected"]


def test_published_and_rolled_back(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    with listening() as heard:
        put_generation(app, tmp_path, 1)
        put_generation(app, tmp_path, 2)
        roll_back(app, 1)
    facts = {"name": NAME, "blueprint": "tfjs"}
    assert heard == [
        ("model-published", app, {**facts, "version": 1}),
        ("model-published", app, {**facts, "version": 2}),
        ("model-rolled-back", app, {**facts, "version": 1}),
    ]


def test_other_acts_say_nothing(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    put_generation(app, tmp_path, 1)
    with listening() as heard, app.app_context():
        versions(NAME)
        collect(app)
        unpublish(NAME)
    assert heard == []


def test_what_fails_says_nothing(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    put_generation(app, tmp_path, 1)
    (tmp_path / "source" / "head.bin").unlink()
    with listening() as heard:
        for act in (lambda: put(app, tmp_path / "source"), lambda: roll_back(app, 7)):
            with pytest.raises(TFJSError):
                act()
    assert heard == []


def test_each_app_hears_its_own(tmp_path: Path) -> None:
    one, other = new_app(tmp_path / "one"), new_app(tmp_path / "other")
    heard = []

    def hear(sender: Flask, **facts: Any) -> None:
        heard.append(sender)

    with model_published.connected_to(hear, sender=one):
        put_generation(one, tmp_path, 1)
        put_generation(other, tmp_path, 1)
    assert heard == [one]


def test_which_of_several_blueprints(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    other = create_blueprint("other", url_prefix="/o", store=str(tmp_path / "other"))
    app.register_blueprint(other)
    source = write_generation(tmp_path / "m", 1)
    with listening() as heard, app.app_context():
        publish(NAME, source, blueprint="other")
    assert [facts["blueprint"] for _, _, facts in heard] == ["other"]


def test_it_is_sent_when_the_model_is_served(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    served = []

    def hear(sender: Flask, name: str, version: int, **extra: Any) -> None:
        assert current_app == sender
        with sender.test_client().get(f"/models/{name}/model.json") as r:
            served.append((version, r.get_json()["flaskTfjs"]["version"]))

    with model_published.connected_to(hear), model_rolled_back.connected_to(hear):
        put_generation(app, tmp_path, 1)
        put_generation(app, tmp_path, 2)
        roll_back(app, 1)
    assert served == [(1, 1), (2, 2), (1, 1)]


def test_a_receiver_may_publish(tmp_path: Path) -> None:
    """No lock is held meanwhile, and the model's own name is free."""
    app = new_app(tmp_path)

    def copy(sender: Flask, name: str, version: int, **extra: Any) -> None:
        if version == 1:
            publish(NAME, tmp_path / "source")

    with model_published.connected_to(copy):
        put_generation(app, tmp_path, 1)
    assert current_version(store_of(tmp_path) / NAME) == 2


@pytest.mark.parametrize("signal", [model_published, model_rolled_back])
def test_a_failing_receiver_changes_nothing(
    tmp_path: Path, signal: NamedSignal, caplog: pytest.LogCaptureFixture
) -> None:
    app = new_app(tmp_path)
    put_generation(app, tmp_path, 1)

    def fail(sender: Flask, **facts: Any) -> None:
        raise KeyError("a fault of the app")

    with signal.connected_to(fail), caplog.at_level(logging.ERROR, "flask_tfjs"):
        put_generation(app, tmp_path, 2)
        roll_back(app, 1)
    assert generation_of(store_of(tmp_path) / NAME) == 1
    assert f"a receiver of {signal.name} failed" in caplog.text
    assert "a fault of the app" in caplog.text


def test_a_failing_receiver_hinders_no_cleaning(tmp_path: Path) -> None:
    app = new_app(tmp_path, TFJS_KEEP_VERSIONS=1, TFJS_GRACE=0)

    def fail(sender: Flask, **facts: Any) -> None:
        raise KeyError

    with model_published.connected_to(fail):
        put_generation(app, tmp_path, 1)
        put_generation(app, tmp_path, 2)
    assert not (store_of(tmp_path) / NAME / "model.v1.json").exists()


def test_commands_send_them_too(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    source = write_generation(tmp_path / "m", 1)
    with listening() as heard:
        runner = app.test_cli_runner()
        for arguments in (["publish", NAME, source], ["publish", NAME, source]):
            result = runner.invoke(tfjs, [str(a) for a in arguments])
            assert result.exit_code == 0, result.output
        assert runner.invoke(tfjs, ["rollback", NAME, "1"]).exit_code == 0
    assert [(name, facts["version"]) for name, _, facts in heard] == [
        ("model-published", 1),
        ("model-published", 2),
        ("model-rolled-back", 1),
    ]
