"""Signed URLs: whoever has one loads one model, whole, for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import OPEN_CORS
from conftest import MakeApp
from conftest import grow_old
from filesystem import time_limit
from flask import Flask
from flask import render_template_string
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from models import DENSE_BYTES
from models import DENSE_WEIGHTS
from models import write_model
from test_tags import HALVES
from test_tags import asked_for
from test_tags import preload
from test_tags import ready
from test_tags import urls
from werkzeug.test import TestResponse

from flask_tfjs import ConfigError
from flask_tfjs import ModelNotFound
from flask_tfjs import auth
from flask_tfjs import create_blueprint
from flask_tfjs import tfjs_preload
from flask_tfjs import tfjs_url

HOUR = 3600


@pytest.fixture(autouse=True)
def never_hang() -> Iterator[None]:
    with time_limit(60):
        yield


def refuse(name: str) -> bool:
    return False


@pytest.fixture
def closed(make_app: MakeApp, tmp_path: Path) -> Flask:
    """An app that lets nobody read but who has a signed URL."""
    models = {
        "dense": write_model(tmp_path / "dense"),
        "halves": write_model(tmp_path / "halves", shards=HALVES),
        "broken": write_model(tmp_path / "broken", shards={"weights.bin": b"short"}),
        "list": write_model(
            tmp_path / "list",
            entry="list.json",
            document=[{"paths": list(HALVES), "weights": DENSE_WEIGHTS}],
            shards=HALVES,
        ),
        "nested": write_model(tmp_path / "nested", entry="v1/größe 1.json"),
    }
    return make_app(
        TFJS_MODELS=models,
        TFJS_AUTHORIZE_READ=refuse,
        SECRET_KEY="key",
        TFJS_INDEX=True,
    )


def url_of(app: Flask, *arguments: Any, **options: Any) -> str:
    options = {"expires_in": HOUR, **options}
    with app.app_context():
        return tfjs_url(*arguments, **options)


def folder_of(app: Flask, name: str, **options: Any) -> str:
    """The signed URL of *name* itself."""
    return url_of(app, name, **options).removesuffix("/model.json")


def get(app: Flask, url: str, method: str = "GET", **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.test_client().open(url, method=method, headers=named)


def token_of(url: str) -> str:
    return url.split("/-/s/")[1].partition("/")[0]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    def set_to(now: float) -> None:
        monkeypatch.setattr(auth, "time", SimpleNamespace(time=lambda: now))

    return set_to


# Loading


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("dense", None),
        ("dense", "model.json"),
        ("halves", None),
        ("list", None),
        ("list", "list.json"),
        ("nested", "v1/größe 1.json"),
        ("nested", None),
    ],
)
def test_a_whole_load(closed: Flask, name: str, entry: str | None) -> None:
    url = url_of(closed, name, entry)
    asked = asked_for(closed, url)
    assert len(asked) >= 2
    for shard in asked[1:]:
        assert token_of(shard) == token_of(url)
        response = get(closed, shard)
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == (
            "private, max-age=31536000, immutable"
        )
        assert response.data in (DENSE_BYTES, *HALVES.values())
        assert (
            get(closed, shard.replace(f"-/s/{token_of(url)}/", "")).status_code == 401
        )


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("name", ["dense", "nested"])
def test_the_bare_form(closed: Flask, name: str, slash: str) -> None:
    url = folder_of(closed, name) + slash
    response = get(closed, url)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "private, no-cache"
    paths = [p for g in response.get_json()["weightsManifest"] for p in g["paths"]]
    assert paths
    for path in paths:
        assert path.startswith(f"{name}/") is not bool(slash)
    for shard in asked_for(closed, url)[1:]:
        assert get(closed, shard).data == DENSE_BYTES


@pytest.mark.parametrize(
    ("rest", "headers", "status", "value"),
    [
        ("/model.json", {}, 200, "private, no-cache"),
        ("/model.json", {"If-None-Match": "*"}, 304, "private, no-cache"),
        ("/model.json", {"If-Match": '"x"'}, 412, "private, no-cache"),
        ("/weights.bin", {}, 200, "private, no-cache"),
        ("/weights.bin", {"Range": "bytes=4-7"}, 206, "private, no-cache"),
        ("/weights.bin", {"Range": "bytes=99-"}, 416, "private, no-cache"),
        ("/missing.bin", {}, 404, "no-store"),
        ("/missing.json", {}, 404, "no-store"),
        ("/../halves/model.json", {}, 404, "no-store"),
    ],
)
@pytest.mark.parametrize("authorize", [None, refuse])
def test_every_answer_is_private(
    make_app: MakeApp,
    authorize: Any,
    rest: str,
    headers: dict[str, str],
    status: int,
    value: str,
) -> None:
    """Also of a model that all may read: the URL is meant for one."""
    app = make_app(TFJS_AUTHORIZE_READ=authorize, SECRET_KEY="key")
    response = get(app, folder_of(app, "dense") + rest, **headers)
    assert response.status_code == status
    assert response.headers["Cache-Control"] == value
    assert OPEN_CORS.items() <= dict(response.headers).items()
    if status == 206:
        assert response.data == DENSE_BYTES[4:8]
    if status >= 400:
        assert bool(response.data) is rest.endswith(".json")


def test_a_broken_model(closed: Flask) -> None:
    folder = folder_of(closed, "broken")
    for rest in ("", "/", "/model.json", "/weights.bin"):
        response = get(closed, folder + rest)
        assert response.status_code == 500
        assert bool(response.data) is (rest != "/weights.bin")


@pytest.mark.parametrize("rest", ["", "/", "/model.json", "/weights.bin"])
def test_methods(closed: Flask, rest: str) -> None:
    url = folder_of(closed, "dense") + rest
    for method in ("POST", "PUT", "DELETE", "PATCH", "FROB"):
        response = get(closed, url, method)
        assert response.status_code == 405
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
        assert bool(response.data) is (rest != "/weights.bin")
    head, full = get(closed, url, "HEAD"), get(closed, url)
    assert head.data == b""
    assert dict(head.headers) == dict(full.headers)


@pytest.mark.parametrize("token", [None, "junk"])
def test_preflight(closed: Flask, token: str | None) -> None:
    url = url_of(closed, "dense")
    url = url if token is None else url.replace(token_of(url), token)
    response = get(closed, url, "OPTIONS", Origin="https://a.example")
    assert response.status_code == 204
    assert response.headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    "path",
    ["/-", "/-/", "/-/s", "/-/s/", "/-/s/x", "/-/s/x/", "/-/s//dense", "/-/s/x//dense"],
)
@pytest.mark.parametrize("authorize", [None, refuse])
def test_what_is_below_it_else(make_app: MakeApp, path: str, authorize: Any) -> None:
    app = make_app(TFJS_AUTHORIZE_READ=authorize, SECRET_KEY="key")
    assert get(app, f"/models{path}").status_code == 404


def test_the_list_stays_closed(closed: Flask) -> None:
    token = token_of(url_of(closed, "dense"))
    assert get(closed, f"/models/-/s/{token}/").status_code == 404
    assert get(closed, "/models/").get_json() == {"models": []}


# What a URL looks like


def test_the_url(closed: Flask) -> None:
    url = url_of(closed, "dense")
    token = token_of(url)
    assert url == f"/models/-/s/{token}/dense/model.json"
    assert set(token) <= set("0123456789abcdefghijklmnopqrstuvwxyz-_.") | set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    )
    with closed.test_request_context(base_url="https://h.example"):
        found = tfjs_url("dense", expires_in=HOUR, external=True)
        assert found == f"https://h.example{url}"
        template = "{{ tfjs_url('dense', 'a.json', expires_in=3600) }}"
        shown = render_template_string(template)
        assert shown == f"/models/-/s/{token}/dense/a.json"
    version = url_of(closed, "dense", version=7)
    assert version == f"/models/-/s/{token}/dense/model.v7.json"
    as_delta = url_of(closed, "dense", expires_in=timedelta(hours=1))
    assert as_delta == url


@pytest.mark.parametrize("expires_in", [1, 7, 60, HOUR, 10**12])
@pytest.mark.parametrize("now", [1_800_000_000.0, 1_800_000_000.1, 1_799_999_999.9])
def test_how_long_it_holds(
    closed: Flask, clock: Callable[[float], None], expires_in: int, now: float
) -> None:
    clock(now)
    url = url_of(closed, "dense", expires_in=expires_in)
    expiry = int(token_of(url).partition(".")[0])
    assert expiry % expires_in == 0
    assert now + expires_in <= expiry < now + 2 * expires_in + 1
    for moment, status in [
        (now, 200),
        (expiry - 0.01, 200),
        (expiry, 403),
        (expiry + 0.01, 403),
        (expiry * 2, 403),
    ]:
        clock(moment)
        assert get(closed, url).status_code == status


def test_the_same_for_a_while(closed: Flask, clock: Callable[[float], None]) -> None:
    start = 1_800_000_000
    found = set()
    for now in (start + 1, start + 60, start + HOUR - 1, start + HOUR):
        clock(now)
        found.add(url_of(closed, "dense"))
    assert len(found) == 1
    clock(start + HOUR + 1)
    assert url_of(closed, "dense") not in found


@pytest.mark.parametrize(
    "expires_in",
    [
        *(0, -1, True, False, 1.0, 0.5, "60", b"60", [60], float("inf")),
        *(timedelta(), timedelta(milliseconds=1500), timedelta(seconds=-5)),
    ],
)
def test_what_is_no_time(closed: Flask, expires_in: Any) -> None:
    with pytest.raises(ConfigError, match="whole number of seconds"):
        url_of(closed, "dense", expires_in=expires_in)
    assert preload(closed, "dense", expires_in=expires_in) == []


def test_invalid_names(closed: Flask) -> None:
    with pytest.raises(ModelNotFound):
        url_of(closed, "a/b")


# What is refused


def check_refused(response: TestResponse, *, is_json: bool, words: str = "") -> None:
    assert response.status_code == 403
    assert response.headers["Cache-Control"] == "no-store"
    assert OPEN_CORS.items() <= dict(response.headers).items()
    assert bool(response.data) is is_json
    if is_json:
        assert words in response.get_json()["error"]


FORMS = [("", True), ("/", True), ("/model.json", True), ("/weights.bin", False)]


@pytest.mark.parametrize(("rest", "is_json"), FORMS)
def test_expired(
    closed: Flask, clock: Callable[[float], None], rest: str, is_json: bool
) -> None:
    url = folder_of(closed, "dense") + rest
    clock(time.time() + 3 * HOUR)
    check_refused(get(closed, url), is_json=is_json, words="has expired")


@pytest.mark.parametrize(("rest", "is_json"), FORMS)
@pytest.mark.parametrize("name", ["halves", "there", "Dense", "dens", "-", "a b"])
def test_another_model(closed: Flask, name: str, rest: str, is_json: bool) -> None:
    token = token_of(url_of(closed, "dense"))
    response = get(closed, f"/models/-/s/{token}/{name}{rest}")
    check_refused(response, is_json=is_json, words="not one of this site's")


@pytest.mark.parametrize("name", ["7.dense", "7dense", "dense7", "dense.7"])
def test_a_name_and_an_expiry_stay_two(closed: Flask, name: str) -> None:
    """``x7`` signed until 8 is not ``x`` signed until 78, and so on."""
    expiry, _, signature = token_of(url_of(closed, name)).partition(".")
    for forged in (expiry, f"{expiry}.7", f"{expiry}7", f"7{expiry}", f"7.{expiry}"):
        url = f"/models/-/s/{forged}.{signature}/dense/model.json"
        check_refused(get(closed, url), is_json=True)


@pytest.mark.parametrize(
    "token",
    [
        *(
            "x",
            ".",
            "..",
            "...",
            "9999999999",
            "9999999999.",
            ".abc",
            "é.ü",
            "%00",
            "%FF",
        ),
        *("9" * 5000, "1." + "A" * 5000, "-1.x", "1e9.x", "²."),
    ],
)
def test_junk(closed: Flask, token: str) -> None:
    for rest, is_json in FORMS:
        response = get(closed, f"/models/-/s/{token}/dense{rest}")
        check_refused(response, is_json=is_json)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_tampering(closed: Flask, data: st.DataObject) -> None:
    token = token_of(url_of(closed, "dense"))
    start = data.draw(st.integers(0, len(token)))
    stop = data.draw(st.integers(start, min(start + 3, len(token))))
    letters = st.characters(exclude_characters="/?#", exclude_categories=["Cs"])
    between = data.draw(st.text(st.sampled_from(token) | letters, max_size=3))
    forged = token[:start] + between + token[stop:]
    if forged in (token, ""):
        return
    environ = {"PATH_INFO": f"/models/-/s/{forged}/dense/weights.bin"}
    environ["PATH_INFO"] = environ["PATH_INFO"].encode().decode("latin-1")
    response = closed.test_client().get("/", environ_overrides=environ)
    check_refused(response, is_json=False)


def test_no_other_spelling(closed: Flask) -> None:
    """Base64 has several for one signature."""
    token = token_of(url_of(closed, "dense"))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for last in alphabet.replace(token[-1], ""):
        url = f"/models/-/s/{token[:-1]}{last}/dense/model.json"
        assert get(closed, url).status_code == 403
    for other in (token + "=", token + "~", f" {token}", f"0{token}", f"+{token}"):
        url = f"/models/-/s/{other}/dense/model.json"
        assert get(closed, url).status_code == 403


# Keys


def test_without_a_key(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody needs one who signs nothing."""
    app = make_app(TFJS_AUTHORIZE_READ=refuse)
    with pytest.raises(ConfigError, match="SECRET_KEY"):
        url_of(app, "dense")
    assert preload(app, "dense", expires_in=HOUR) == []
    assert "SECRET_KEY" in caplog.text
    assert get(app, "/models/-/s/1.x/dense/model.json").status_code == 403
    with app.app_context():
        assert tfjs_url("dense") == "/models/dense/model.json"


@pytest.mark.parametrize(
    ("key", "fallbacks", "status"),
    [
        ("key", None, 200),
        ("key", [], 200),
        (b"key", None, 200),
        ("new", None, 403),
        ("new", ["other"], 403),
        ("new", ["key"], 200),
        ("new", ["other", "key"], 200),
        ("new", ("key", "other"), 200),
        ("new", "key", 200),
        ("new", ["k", "e", "y"], 403),
        (None, ["key"], 200),
        (None, None, 403),
        ("new", [""], 403),
    ],
)
def test_rotation(closed: Flask, key: Any, fallbacks: Any, status: int) -> None:
    url = url_of(closed, "dense")
    closed.config.update(SECRET_KEY=key, SECRET_KEY_FALLBACKS=fallbacks)
    assert get(closed, url).status_code == status
    if key:
        signed_anew = url_of(closed, "dense")
        assert get(closed, signed_anew).status_code == 200
        assert (signed_anew == url) is (key in ("key", b"key"))
        closed.config["SECRET_KEY_FALLBACKS"] = None
        assert get(closed, signed_anew).status_code == 200


def test_several_blueprints(tmp_path: Path) -> None:
    """Of one app, and of two that share a key."""
    models = {"dense": write_model(tmp_path / "dense")}
    app = Flask(__name__)
    app.secret_key = "key"
    for name in ("one", "two"):
        app.register_blueprint(
            create_blueprint(
                name, url_prefix=f"/{name}", models=models, authorize_read=refuse
            )
        )
    found = {name: url_of(app, "dense", blueprint=name) for name in ("one", "two")}
    for name, other in (("one", "two"), ("two", "one")):
        assert get(app, found[name]).status_code == 200
        moved = found[name].replace(f"/{name}/", f"/{other}/")
        assert get(app, moved).status_code == 403


@pytest.mark.parametrize("prefix", ["", "/", "/deep/er"])
def test_prefixes(tmp_path: Path, prefix: str) -> None:
    models = {"dense": write_model(tmp_path / "dense")}
    app = Flask(__name__)
    app.secret_key = "key"
    app.register_blueprint(
        create_blueprint(url_prefix=prefix, models=models, authorize_read=refuse)
    )
    url = url_of(app, "dense")
    assert [get(app, u).status_code for u in asked_for(app, url)] == [200, 200]
    check_refused(get(app, url.replace("/s/", "/s/x")), is_json=True)
    shard = url.replace("/s/", "/s/x").replace("model.json", "weights.bin")
    check_refused(get(app, shard), is_json=False)


# Preload


@pytest.mark.parametrize(
    ("name", "entry", "count"),
    [("dense", None, 2), ("halves", None, 3), ("nested", "v1/größe 1.json", 2)],
)
def test_preload(closed: Flask, name: str, entry: str | None, count: int) -> None:
    grow_old(closed)
    url = url_of(closed, name, entry)
    found = ready(closed, name, entry, count=count, expires_in=HOUR)
    assert found == asked_for(closed, url)
    assert preload(closed, name, entry) == []


def test_preload_is_for_one_page(closed: Flask) -> None:
    grow_old(closed)
    ready(closed, "dense", expires_in=HOUR)
    with closed.test_request_context(base_url="https://h.example"):
        found = urls(tfjs_preload("dense", expires_in=HOUR, external=True))
    folder = folder_of(closed, "dense")
    assert len(found) == 2
    assert all(url.startswith(f"https://h.example{folder}/") for url in found)


def test_an_error_of_a_hook(closed: Flask) -> None:
    """Of the app, on a signed URL: a person reads those that are JSON."""

    @closed.before_request
    def limit() -> tuple[str, int]:
        return "slow down", 429

    folder = folder_of(closed, "dense")
    for rest, is_json in FORMS:
        response = get(closed, folder + rest)
        assert response.status_code == 429
        assert bool(response.data) is is_json
