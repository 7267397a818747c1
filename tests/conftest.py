"""Fixtures that most rooms share: a model, an app that serves it, its clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask.testing import FlaskCliRunner
from models import write_model

from flask_tfjs import tfjs_bp
from flask_tfjs.models import delivery
from flask_tfjs.models import quiet

MakeApp = Callable[..., Flask]

#: The CORS headers of every answer under the default policy.
OPEN_CORS = {
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": (
        "Accept-Ranges, Content-Encoding, Content-Range, ETag, Location, Repr-Digest"
    ),
    "Timing-Allow-Origin": "*",
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models count as soon as they are written: nearly all tests write one and ask for
    it. Those about the wait set it back with :func:`be_patient`."""
    monkeypatch.setattr(quiet, "QUIET_NS", 0)
    monkeypatch.setattr(delivery, "_SECOND_LOOK", 0)


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "QUIET_NS", 500_000_000)


@pytest.fixture
def make_app(tmp_path: Path) -> MakeApp:
    """``make_app(TFJS_X=…)``: an app with the ready-made blueprint; no settings: one
    small model named ``dense``, in ``tmp_path / "dense"``."""

    def make(**config: Any) -> Flask:
        app = Flask(__name__, instance_path=str(tmp_path / "instance"))
        app.config.update(TESTING=True)
        if "TFJS_MODELS" not in config:
            write_model(tmp_path / "dense")
            config["TFJS_MODELS"] = {"dense": tmp_path / "dense"}
        app.config.update(config)
        app.register_blueprint(tfjs_bp)
        return app

    return make


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def runner(app: Flask) -> FlaskCliRunner:
    return app.test_cli_runner()


def grow_old(app: Flask) -> None:
    """Let *app* believe that all files were written long ago, so that what it remembers
    of them counts. Nothing else can: a file's change time cannot be set."""
    for state in app.extensions["tfjs"].values():
        state.catalogue.digests.clock = lambda: time.time_ns() + 60_000_000_000
