"""Methods, statuses and bodies: RFC 9110 sections 9 and 15, and what a client that
takes any body for weights must never be given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import OPEN_CORS
from conftest import MakeApp
from conftest import grow_old
from flask import Flask
from flask import abort
from flask.testing import FlaskClient
from models import DENSE_BYTES
from models import write_model
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

ALLOWED = "GET, HEAD, OPTIONS"

JSON_ERROR = {
    **OPEN_CORS,
    "Cache-Control": "no-store",
    "Content-Type": "application/json",
    "X-Content-Type-Options": "nosniff",
}

EMPTY_ERROR = {
    **OPEN_CORS,
    "Cache-Control": "no-store",
    "Content-Type": "application/octet-stream",
    "Content-Length": "0",
}

FOUND_JSON = [
    "/models",
    "/models/",
    "/models/dense",
    "/models/dense/",
    "/models/dense/model.json",
    "/models/dense/metadata.json",
    "/models/zoo/deep/er/model.json",
    "/models/zoo/",
]
FOUND_FILES = [
    "/models/dense/weights.bin",
    "/models/dense/labels.txt",
    "/models/zoo/deep/er/weights.bin",
]
FOUND = [*FOUND_JSON, *FOUND_FILES]

MISSING_JSON = [
    "/models/unknown",
    "/models/unknown/",
    "/models/unknown/model.json",
    "/models/dense/missing.json",
    "/models/dense/deep/model.json",
    "/models/several",
    "/models/several/",
    "/models/several/model.json",
]
MISSING_FILES = [
    "/models/unknown/weights.bin",
    "/models/dense/missing.bin",
    "/models/dense/missing",
    "/models/dense/weights.bin/",
    "/models/dense/model.json/",
    "/models/zoo/deep/",
    "/models/zoo/deep",
    "/models/dense/note.py",
]
BROKEN_JSON = ["/models/broken", "/models/broken/", "/models/broken/model.json"]
BROKEN_FILES = ["/models/broken/weights.bin"]
GONE_JSON = ["/models/gone", "/models/gone/model.json"]
GONE_FILES = ["/models/gone/weights.bin"]


@pytest.fixture
def app(make_app: MakeApp, tmp_path: Path) -> Flask:
    dense = write_model(tmp_path / "dense")
    (dense / "labels.txt").write_bytes(b"cat\ndog\n")
    (dense / "metadata.json").write_bytes(b'{"labels": []}')
    (dense / "note.py").write_bytes(b"secret = 1")
    write_model(tmp_path / "zoo", entry="deep/er/model.json")
    write_model(tmp_path / "several", entry="one.json")
    write_model(tmp_path / "several", entry="two.json")
    write_model(tmp_path / "broken", shards={"weights.bin": b"short"})
    names = ("dense", "zoo", "several", "broken", "gone")
    return make_app(
        TFJS_MODELS={name: tmp_path / name for name in names}, TFJS_INDEX=True
    )


def head_and_get(
    client: FlaskClient, url: str, headers: dict[str, str]
) -> tuple[Response, Response]:
    with client.head(url, headers=headers) as head:
        with client.get(url, headers=headers) as get:
            assert head.data == b""
            return head, get


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Accept-Encoding": "gzip"},
        {"If-None-Match": "*"},
        {"If-Match": '"x"'},
        {"Origin": "https://other.example"},
    ],
    ids=lambda headers: "".join(headers) or "plain",
)
@pytest.mark.parametrize("aged", [False, True], ids=["young", "old"])
def test_head_is_get_without_the_body(
    app: Flask, headers: dict[str, str], aged: bool
) -> None:
    if aged:
        grow_old(app)
    client = app.test_client()
    urls = [*FOUND, *MISSING_JSON, *MISSING_FILES, *BROKEN_JSON, *BROKEN_FILES]
    for url in urls:
        head, get = head_and_get(client, url, headers)
        assert head.status_code == get.status_code
        assert dict(head.headers) == dict(get.headers)
        if get.status_code != 304:
            assert get.headers["Content-Length"] == str(len(get.data))


def unreadable(path: str) -> None:
    raise OSError(5, "Input/output error")


def test_head_opens_no_file(client: FlaskClient) -> None:
    url = "/models/dense/weights.bin"
    client.get(url).close()
    grow_old(client.application)
    client.get(url).close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flask_tfjs.models.served.OpenFile", unreadable)
        assert client.head(url).status_code == 200
        assert client.get(url).status_code == 503


@pytest.mark.parametrize("url", FOUND)
def test_success(app: Flask, url: str) -> None:
    with app.test_client().get(url) as r:
        assert r.status_code == 200
        json_url = url in FOUND_JSON
        assert (r.headers["Content-Type"] == "application/json") == json_url
        assert r.headers["Cache-Control"] == "no-cache"
        assert r.headers["ETag"]


def test_headers_of_json(client: FlaskClient) -> None:
    with client.get("/models/dense/model.json") as r:
        assert r.headers.pop("ETag") and r.headers.pop("Repr-Digest")
        assert dict(r.headers) == {
            **OPEN_CORS,
            "Cache-Control": "no-cache",
            "Vary": "Accept-Encoding",
            "Content-Type": "application/json",
            "X-Content-Type-Options": "nosniff",
            "Accept-Ranges": "none",
            "Content-Length": str(len(r.data)),
        }


def test_headers_of_a_shard(client: FlaskClient) -> None:
    with client.get("/models/dense/weights.bin") as r:
        assert r.data == DENSE_BYTES
        assert r.headers.pop("ETag") and r.headers.pop("Repr-Digest")
        assert dict(r.headers) == {
            **OPEN_CORS,
            "Cache-Control": "no-cache",
            "Content-Type": "application/octet-stream",
            "X-Content-Type-Options": "nosniff",
            "Accept-Ranges": "bytes",
            "Content-Length": str(len(DENSE_BYTES)),
        }


OTHER_METHODS = ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "FROB", "X-Y"]


@pytest.mark.parametrize("method", OTHER_METHODS)
@pytest.mark.parametrize("body", [None, b"x" * 1000], ids=["bare", "body"])
def test_405_says_what_is_allowed(app: Flask, method: str, body: bytes | None) -> None:
    client = app.test_client()
    for url in [*FOUND_JSON, *BROKEN_JSON]:
        with client.open(url, method=method, data=body) as r:
            assert r.status_code == 405
            assert list(r.get_json()) == ["error"]
            length = {"Content-Length": str(len(r.data))}
            assert dict(r.headers) == {**JSON_ERROR, **length, "Allow": ALLOWED}
    for url in [*FOUND_FILES, *BROKEN_FILES]:
        with client.open(url, method=method, data=body) as r:
            assert (r.status_code, r.data) == (405, b"")
            assert dict(r.headers) == {**EMPTY_ERROR, "Allow": ALLOWED}


@pytest.mark.parametrize("method", ["GET", "HEAD", *OTHER_METHODS])
def test_404_before_405(app: Flask, method: str) -> None:
    client = app.test_client()
    for url in [*MISSING_JSON, *MISSING_FILES]:
        with client.open(url, method=method) as r:
            assert r.status_code == 404
            assert "Allow" not in r.headers


def test_no_redirect_anywhere(app: Flask) -> None:
    client = app.test_client()
    urls = [*FOUND, *MISSING_JSON, *MISSING_FILES, *BROKEN_JSON, *GONE_JSON]
    for url in [*urls, "/models//", "/models//dense", "/models/dense//model.json"]:
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT"):
            with client.open(url, method=method) as r:
                assert not 300 <= r.status_code < 400, (method, url)
                assert "Location" not in r.headers


@pytest.mark.parametrize(
    ("urls", "status"),
    [(MISSING_JSON, 404), (BROKEN_JSON, 500), (GONE_JSON, 500)],
    ids=["missing", "broken", "gone"],
)
def test_error_of_a_json_url_is_json(app: Flask, urls: list[str], status: int) -> None:
    client = app.test_client()
    for url in urls:
        with client.get(url) as r:
            assert r.status_code == status
            assert list(r.get_json()) == ["error"]
            length = {"Content-Length": str(len(r.data))}
            assert dict(r.headers) == {**JSON_ERROR, **length}


@pytest.mark.parametrize(
    ("urls", "status"),
    [(MISSING_FILES, 404), (BROKEN_FILES, 500), (GONE_FILES, 500)],
    ids=["missing", "broken", "gone"],
)
def test_error_elsewhere_is_empty(app: Flask, urls: list[str], status: int) -> None:
    client = app.test_client()
    for url in urls:
        with client.get(url) as r:
            assert (r.status_code, r.data) == (status, b"")
            assert dict(r.headers) == EMPTY_ERROR


def test_directory_of_several_models_names_them(app: Flask) -> None:
    with app.test_client().get("/models/several") as r:
        assert r.status_code == 404
        assert "one.json, two.json" in r.get_json()["error"]


def test_errors_tell_no_path_of_the_machine(app: Flask, tmp_path: Path) -> None:
    client = app.test_client()
    for url in [*MISSING_JSON, *BROKEN_JSON, *GONE_JSON]:
        with client.get(url) as r:
            assert str(tmp_path) not in r.get_data(as_text=True)


@pytest.mark.parametrize("index", [False, None])
def test_index_is_off_unless_asked_for(make_app: MakeApp, index: bool | None) -> None:
    client = make_app(TFJS_INDEX=index).test_client()
    for url in ("/models", "/models/"):
        with client.get(url) as r:
            assert r.status_code == 404
            assert list(r.get_json()) == ["error"]
        with client.post(url) as r:
            assert r.status_code == 404


def test_index_has_one_url(app: Flask) -> None:
    client = app.test_client()
    for url in ("/models", "/models/"):
        with client.get(url) as r:
            assert r.status_code == 200
            assert [m["name"] for m in r.get_json()["models"]] == [
                "broken",
                "dense",
                "gone",
                "several",
                "zoo",
            ]
    for url in ("/models//", "/models///"):
        with client.get(url) as r:
            assert r.status_code == 404


HEALTH = "/models/-/health"


def test_health_is_that_of_the_server(app: Flask) -> None:
    """Models are broken and gone here."""
    client = app.test_client()
    for method in ("GET", "HEAD"):
        with client.open(HEALTH, method=method) as r:
            assert (r.status_code, r.data) == (200, b"")
            assert r.headers["Cache-Control"] == "no-store"
    with client.post(HEALTH) as r:
        assert r.status_code == 405
    with client.get(f"{HEALTH}/") as r:
        assert r.status_code == 404


def spoil_the_registry(folder: Path) -> None:
    (folder / "instance").mkdir()
    (folder / "instance/tfjs.json").write_text("{")


def spoil_the_store(folder: Path) -> None:
    (folder / "instance").mkdir()
    (folder / "instance/tfjs-models").write_text("no directory")


@pytest.mark.parametrize("spoil", [spoil_the_registry, spoil_the_store])
def test_health_says_when_models_cannot_be_found(
    make_app: MakeApp,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = make_app(
        TFJS_AUTHORIZE_READ=lambda name: False  # a load balancer has no token
    ).test_client()
    assert client.get(HEALTH).status_code == 200
    spoil(tmp_path)
    for _ in range(2):
        with client.get(HEALTH) as r:
            assert (r.status_code, r.data) == (503, b"")
    assert len(caplog.records) >= 1


def test_health_says_when_the_folder_of_models_is_gone(
    make_app: MakeApp, tmp_path: Path
) -> None:
    client = make_app(TFJS_MODELS=str(tmp_path / "zoo")).test_client()
    assert client.get(HEALTH).status_code == 503
    (tmp_path / "zoo").mkdir()
    assert client.get(HEALTH).status_code == 200


def page(error: Exception) -> tuple[str, int]:
    code = error.code if isinstance(error, HTTPException) else None
    return "<!doctype html>" + "oops " * 1000, code or 500


HANDLED: list[list[int | type[Exception]]] = [
    [],
    [404],
    [500],
    [404, 405, 412, 416, 500],
    [HTTPException],
    [Exception],
]


@pytest.mark.parametrize("handled", HANDLED, ids=str)
def test_error_handlers_of_the_app_are_not_asked(
    app: Flask, handled: list[int | type[Exception]]
) -> None:
    for error in handled:
        app.register_error_handler(error, page)
    client = app.test_client()
    for url in [*MISSING_JSON, *BROKEN_JSON, *GONE_JSON]:
        with client.get(url) as r:
            assert r.status_code in (404, 500)
            assert list(r.get_json()) == ["error"]
    for url in [*MISSING_FILES, *BROKEN_FILES, *GONE_FILES]:
        with client.get(url) as r:
            assert r.status_code in (404, 500)
            assert r.data == b""
    for header, status in (("If-Match", 412), ("Range", 416)):
        headers = {header: '"x"' if header == "If-Match" else "bytes=999-"}
        with client.get("/models/dense/weights.bin", headers=headers) as r:
            assert (r.status_code, r.data) == (status, b"")


@pytest.mark.parametrize("handled", HANDLED, ids=str)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_crash_of_a_view_is_no_weights(
    app: Flask,
    monkeypatch: pytest.MonkeyPatch,
    handled: list[int | type[Exception]],
    method: str,
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr("flask_tfjs.views._look_up", fail)
    app.config.update(TESTING=False, PROPAGATE_EXCEPTIONS=False)
    for error in handled:
        app.register_error_handler(error, page)
    client = app.test_client()
    for url in FOUND_JSON:
        with client.open(url, method=method) as r:
            assert r.status_code == 500
            assert r.headers["Content-Type"] == "application/json"
            assert r.headers["Access-Control-Allow-Origin"] == "*"
            if method == "GET":
                assert list(json.loads(r.data)) == ["error"]
                assert b"nobody thought" not in r.data
    for url in FOUND_FILES:
        with client.open(url, method=method) as r:
            assert (r.status_code, r.data) == (500, b"")
            assert r.headers["Content-Type"] == "application/octet-stream"
            assert r.headers["Content-Length"] == "0"
            assert r.headers["Access-Control-Allow-Origin"] == "*"


def test_crash_is_propagated_where_the_app_wants_it(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr("flask_tfjs.views._look_up", fail)
    with pytest.raises(RuntimeError, match="nobody thought of this"):
        app.test_client().get("/models/dense/model.json")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 429, 500, 503])
def test_error_of_a_hook_is_no_weights(app: Flask, status: int) -> None:
    @app.before_request
    def refuse() -> None:
        abort(status)

    client = app.test_client()
    for url in [*FOUND_FILES, *MISSING_FILES]:
        with client.get(url) as r:
            assert (r.status_code, r.data) == (status, b"")
            assert r.headers["Content-Length"] == "0"
            assert r.headers["Access-Control-Allow-Origin"] == "*"
    with client.get("/models/dense/model.json") as r:
        assert r.status_code == status
        assert r.headers["Access-Control-Allow-Origin"] == "*"


def test_json_that_a_hook_answers_is_kept(app: Flask) -> None:
    @app.before_request
    def refuse() -> tuple[dict[str, str], int, dict[str, str]]:
        return {"why": "sold out"}, 500, {"WWW-Authenticate": "Bearer"}

    with app.test_client().get("/models/dense/model.json") as r:
        assert (r.status_code, r.get_json()) == (500, {"why": "sold out"})
        assert r.headers["WWW-Authenticate"] == "Bearer"


def test_file_that_cannot_be_opened_is_asked_for_again(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = app.test_client()
    for url in ("/models/dense/weights.bin", "/models/dense/metadata.json"):
        client.get(url).close()
    monkeypatch.setattr("flask_tfjs.models.served.OpenFile", unreadable)
    with client.get("/models/dense/weights.bin") as r:
        assert (r.status_code, r.data) == (503, b"")
        assert dict(r.headers) == {**EMPTY_ERROR, "Retry-After": "1"}
    with client.get("/models/dense/metadata.json") as r:
        assert r.status_code == 503
        assert list(r.get_json()) == ["error"]
        length = {"Content-Length": str(len(r.data))}
        assert dict(r.headers) == {**JSON_ERROR, **length, "Retry-After": "1"}


def test_answers_set_no_cookie_and_need_no_session(app: Flask) -> None:
    app.secret_key = "test"
    client = app.test_client()
    for url in FOUND:
        with client.get(url) as r:
            assert "Set-Cookie" not in r.headers
            assert "Cookie" not in r.headers.get("Vary", "")
