"""The files of the package below ``-/static/``: their types, validators and bounds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

import flask_tfjs
from flask_tfjs import create_blueprint
from flask_tfjs import tfjs_script

STATIC = Path(flask_tfjs.__file__).parent / "static"
SCRIPT = "/models/-/static/keras-layers.js"

FILES = {
    "icon.svg": "image/svg+xml",
    "keras-layers.js": "text/javascript; charset=utf-8",
    "keras-layers.mjs": "text/javascript; charset=utf-8",
    "pages.css": "text/css; charset=utf-8",
    "pages.mjs": "text/javascript; charset=utf-8",
}


@pytest.fixture
def client() -> FlaskClient:
    app = Flask(__name__)
    app.register_blueprint(create_blueprint(models={}))
    return app.test_client()


@pytest.mark.parametrize("name", FILES)
def test_a_file_goes_out_with_its_type_and_a_tag_of_its_content(
    client: FlaskClient, name: str
) -> None:
    content = (STATIC / name).read_bytes()
    response = client.get(f"/models/-/static/{name}")
    assert response.status_code == 200
    assert response.data == content
    assert response.content_type == FILES[name]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Accept-Encoding" in response.headers["Vary"]


def test_all_files_of_the_package_have_a_url(client: FlaskClient) -> None:
    assert sorted(path.name for path in STATIC.iterdir()) == sorted(FILES)


def test_a_known_file_is_not_sent_again(client: FlaskClient) -> None:
    tag = client.get(SCRIPT).headers["ETag"]
    again = client.get(SCRIPT, headers={"If-None-Match": tag})
    assert (again.status_code, again.data) == (304, b"")


def test_a_file_is_encoded_as_asked(client: FlaskClient) -> None:
    whole = client.get(SCRIPT)
    encoded = client.get(SCRIPT, headers={"Accept-Encoding": "gzip"})
    assert encoded.headers["Content-Encoding"] == "gzip"
    assert len(encoded.data) < len(whole.data) / 2
    assert encoded.headers["ETag"] != whole.headers["ETag"]


@pytest.mark.parametrize(
    "name",
    ["", "none.js", "../errors.py", "%2e%2e/errors.py", "keras-layers.js/", "x/y.js"],
)
def test_nothing_else_has_a_url(client: FlaskClient, name: str) -> None:
    response = client.get(f"/models/-/static/{name}")
    assert (response.status_code, response.data) == (404, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_files_are_only_read(client: FlaskClient, method: str) -> None:
    assert client.open(SCRIPT, method=method).status_code == 405


def test_who_may_not_read_models_may_read_the_script() -> None:
    app = Flask(__name__)
    closed = create_blueprint(models={}, authorize_read=lambda name: False)
    app.register_blueprint(closed)
    response = app.test_client().get(SCRIPT)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("prefix", ["/models", "/ml/v1"])
def test_a_page_gets_the_tag_behind_that_of_tfjs(prefix: str) -> None:
    app = Flask(__name__)
    app.register_blueprint(create_blueprint(models={}, url_prefix=prefix))
    with app.test_request_context():
        first, second = tfjs_script(layers=True).split("\n")
        assert first == tfjs_script()
    url = second.removeprefix('<script src="').removesuffix('"></script>')
    assert url == f"{prefix}/-/static/keras-layers.js"
    assert app.test_client().get(url).status_code == 200
