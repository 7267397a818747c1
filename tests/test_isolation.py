"""State belongs to one registered blueprint of one app and leaks nowhere."""

from __future__ import annotations

import collections.abc as cabc
import json
import typing as t
from pathlib import Path

import pytest
from flask import Blueprint
from flask import Flask
from flask.testing import FlaskClient
from models import DENSE_BYTES
from models import content_name
from models import write_model

from flask_tfjs import create_blueprint
from flask_tfjs import tfjs_bp

OTHER_BYTES = DENSE_BYTES[::-1]
ORIGIN = "https://mine.example"


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return write_model(tmp_path / "one")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return write_model(tmp_path / "two", shards={"weights.bin": OTHER_BYTES})


def new_app(tmp_path: Path, **config: t.Any) -> Flask:
    app = Flask("host", instance_path=str(tmp_path / "instance"))
    app.config.update(TESTING=True, **config)
    return app


def weights(client: FlaskClient, url: str) -> bytes:
    with client.get(url) as r:
        assert r.status_code == 200, url
        path = json.loads(r.data)["weightsManifest"][0]["paths"][0]
    with client.get(f"{url.rpartition('/')[0]}/{path}") as r:
        assert r.status_code == 200, url
        body: bytes = r.data
        return body


def status(client: FlaskClient, url: str) -> int:
    with client.get(url) as r:
        return r.status_code


def header(client: FlaskClient, url: str, name: str) -> str | None:
    with client.get(url, headers={"Origin": ORIGIN}) as r:
        return r.headers.get(name)


def test_two_apps_share_the_ready_made_blueprint(
    tmp_path: Path, one: Path, two: Path
) -> None:
    first = new_app(tmp_path, TFJS_MODELS={"m": one, "only": one}, TFJS_INDEX=True)
    second = new_app(
        tmp_path,
        TFJS_MODELS={"m": two},
        TFJS_ALLOW_ORIGINS=[ORIGIN],
        TFJS_MODEL_MAX_AGE=60,
        TFJS_ASSETS=["notes.txt"],
    )
    (one / "notes.txt").write_text("private")
    (two / "notes.txt").write_text("public")
    for app in (first, second):
        app.register_blueprint(tfjs_bp)
    clients = first.test_client(), second.test_client()
    for _ in range(2):
        assert weights(clients[0], "/models/m") == DENSE_BYTES
        assert weights(clients[1], "/models/m") == OTHER_BYTES
        url = "/models/m/model.json"
        allowed = [header(c, url, "Access-Control-Allow-Origin") for c in clients]
        assert allowed == ["*", ORIGIN]
        cached = [header(c, url, "Cache-Control") for c in clients]
        assert cached == ["no-cache", "max-age=60"]
        assert [status(c, "/models/only") for c in clients] == [200, 404]
        assert [status(c, "/models") for c in clients] == [200, 404]
        assert [status(c, "/models/m/notes.txt") for c in clients] == [404, 200]
    assert first.extensions["tfjs"] is not second.extensions["tfjs"]


def test_config_is_read_at_registration_only(
    tmp_path: Path, one: Path, two: Path
) -> None:
    app = new_app(tmp_path, TFJS_MODELS={"m": one})
    app.register_blueprint(tfjs_bp)
    app.config.update(TFJS_MODELS={"m": two}, TFJS_ALLOW_ORIGINS=[])
    client = app.test_client()
    assert weights(client, "/models/m") == DENSE_BYTES
    assert header(client, "/models/m", "Access-Control-Allow-Origin") == "*"


def test_config_of_the_caller_may_change_afterwards(
    tmp_path: Path, one: Path, two: Path
) -> None:
    models = {"m": one}
    origins = [ORIGIN]
    app = new_app(tmp_path)
    app.register_blueprint(create_blueprint(models=models, allow_origins=origins))
    models["m"] = two
    models["n"] = two
    origins.clear()
    client = app.test_client()
    assert weights(client, "/models/m") == DENSE_BYTES
    assert status(client, "/models/n") == 404
    assert header(client, "/models/m", "Access-Control-Allow-Origin") == ORIGIN


def test_two_blueprints_with_settings_of_their_own(
    tmp_path: Path, one: Path, two: Path
) -> None:
    app = new_app(tmp_path)
    app.register_blueprint(
        create_blueprint("open", url_prefix="/open", models={"m": one})
    )
    app.register_blueprint(
        create_blueprint(
            "closed",
            url_prefix="/closed",
            models={"m": two, "n": two},
            allow_origins=[],
            index=True,
        )
    )
    client = app.test_client()
    assert weights(client, "/open/m") == DENSE_BYTES
    assert weights(client, "/closed/m") == OTHER_BYTES
    assert status(client, "/open/n") == 404
    assert [status(client, prefix) for prefix in ("/open", "/closed")] == [404, 200]
    names = "Access-Control-Allow-Origin", "Cross-Origin-Resource-Policy"
    for url in ("/m", "/m/weights.bin", "/m/missing.bin", "/unknown"):
        opened = [header(client, f"/open{url}", name) for name in names]
        closed = [header(client, f"/closed{url}", name) for name in names]
        assert opened == ["*", "cross-origin"]
        assert closed == [None, "same-origin"]


@pytest.mark.parametrize("swapped", [False, True])
def test_errors_of_others_get_the_policy_of_their_blueprint(
    tmp_path: Path, one: Path, swapped: bool
) -> None:
    app = new_app(tmp_path)
    blueprints = [
        create_blueprint("open", url_prefix="/open", models={"m": one}),
        create_blueprint(
            "closed", url_prefix="/closed", models={"m": one}, allow_origins=[]
        ),
    ]
    for blueprint in reversed(blueprints) if swapped else blueprints:
        app.register_blueprint(blueprint)

    @app.before_request
    def refuse() -> tuple[str, int]:
        return "no", 403

    client = app.test_client()
    name = "Access-Control-Allow-Origin"
    assert header(client, "/open/m/weights.bin", name) == "*"
    assert header(client, "/closed/m/weights.bin", name) is None
    assert header(client, "/elsewhere", name) is None


def test_same_content_under_different_settings(tmp_path: Path, one: Path) -> None:
    app = new_app(tmp_path)
    for name, max_age in (("a", 0), ("b", 60)):
        app.register_blueprint(
            create_blueprint(
                name, url_prefix=f"/{name}", models={"m": one}, model_max_age=max_age
            )
        )
    client = app.test_client()
    for _ in range(2):
        assert header(client, "/a/m", "Cache-Control") == "no-cache"
        assert header(client, "/b/m", "Cache-Control") == "max-age=60"
    assert header(client, "/a/m", "ETag") == header(client, "/b/m", "ETag")


def test_same_content_under_two_names(tmp_path: Path, one: Path) -> None:
    app = new_app(tmp_path, TFJS_MODELS={"a": one, "b": one})
    app.register_blueprint(tfjs_bp)
    client = app.test_client()
    for name in ("a", "b", "a"):
        with client.get(f"/models/{name}") as r:
            paths = json.loads(r.data)["weightsManifest"][0]["paths"]
            assert paths == [f"{name}/{content_name('weights', DENSE_BYTES)}"]
        assert weights(client, f"/models/{name}") == DENSE_BYTES


def test_one_directory_in_two_places_of_a_tree(tmp_path: Path) -> None:
    write_model(tmp_path / "zoo" / "a")
    write_model(tmp_path / "zoo" / "b" / "c")
    app = new_app(tmp_path, TFJS_MODELS={"zoo": tmp_path / "zoo"})
    app.register_blueprint(tfjs_bp)
    client = app.test_client()
    for entry in ("a/model.json", "b/c/model.json"):
        with client.get(f"/models/zoo/{entry}") as r:
            paths = json.loads(r.data)["weightsManifest"][0]["paths"]
            assert paths == [content_name("weights", DENSE_BYTES)]
        assert weights(client, f"/models/zoo/{entry}") == DENSE_BYTES


def test_settings_win_over_config(tmp_path: Path, one: Path, two: Path) -> None:
    app = new_app(
        tmp_path,
        TFJS_MODELS={"m": one},
        TFJS_ALLOW_ORIGINS=[],
        TFJS_MODEL_MAX_AGE=60,
    )
    blueprint = create_blueprint(models={"m": two}, allow_origins=[ORIGIN])
    app.register_blueprint(blueprint)
    client = app.test_client()
    assert weights(client, "/models/m") == OTHER_BYTES
    assert header(client, "/models/m", "Access-Control-Allow-Origin") == ORIGIN
    assert header(client, "/models/m", "Cache-Control") == "max-age=60"


def test_one_blueprint_registered_under_two_names(tmp_path: Path, one: Path) -> None:
    app = new_app(tmp_path, TFJS_MODELS={"m": one})
    app.register_blueprint(tfjs_bp)
    app.register_blueprint(tfjs_bp, name="again", url_prefix="/again")
    client = app.test_client()
    for prefix in ("/models", "/again"):
        assert weights(client, f"{prefix}/m") == DENSE_BYTES
    states = app.extensions["tfjs"]
    assert list(states) == ["tfjs", "again"]
    assert states["tfjs"].catalogue is not states["again"].catalogue
    assert states["tfjs"].representations is not states["again"].representations


def test_one_name_cannot_be_registered_twice(tmp_path: Path, one: Path) -> None:
    app = new_app(tmp_path, TFJS_MODELS={"m": one})
    app.register_blueprint(tfjs_bp)
    with pytest.raises(ValueError, match="tfjs"):
        app.register_blueprint(tfjs_bp, url_prefix="/again")


def test_nested_blueprints(tmp_path: Path, one: Path, two: Path) -> None:
    app = new_app(tmp_path, TFJS_MODELS={"m": one})
    inner = create_blueprint("inner", url_prefix="/inner", models={"m": two})
    middle = Blueprint("middle", "middle", url_prefix="/middle")
    middle.register_blueprint(inner)
    middle.register_blueprint(tfjs_bp)
    outer = Blueprint("outer", "outer", url_prefix="/outer")
    outer.register_blueprint(middle)
    app.register_blueprint(outer)
    app.register_blueprint(tfjs_bp)
    client = app.test_client()
    assert weights(client, "/models/m") == DENSE_BYTES
    assert weights(client, "/outer/middle/models/m") == DENSE_BYTES
    assert weights(client, "/outer/middle/inner/m") == OTHER_BYTES
    assert sorted(app.extensions["tfjs"]) == [
        "outer.middle.inner",
        "outer.middle.tfjs",
        "tfjs",
    ]
    for url in ("/outer/middle/inner/m/missing.bin", "/outer/middle/models/m/nothing"):
        with client.get(url) as r:
            assert (r.status_code, r.data) == (404, b"")
            assert r.headers["Access-Control-Allow-Origin"] == "*"


def test_hooks_of_an_outer_blueprint_run(tmp_path: Path, one: Path) -> None:
    app = new_app(tmp_path, TFJS_MODELS={"m": one})
    outer = Blueprint("outer", "outer", url_prefix="/outer")
    outer.before_request(lambda: ("please log in", 401))
    outer.register_blueprint(tfjs_bp)
    app.register_blueprint(outer)
    app.register_blueprint(tfjs_bp)
    client = app.test_client()
    assert status(client, "/models/m/weights.bin") == 200
    with client.get("/outer/models/m/weights.bin") as r:
        assert (r.status_code, r.data) == (401, b"")
        assert r.headers["Access-Control-Allow-Origin"] == "*"


CreateOrRegister = cabc.Callable[[Flask, str | None], None]


def by_creation(app: Flask, prefix: str | None) -> None:
    app.register_blueprint(create_blueprint(url_prefix=prefix))


def by_registration(app: Flask, prefix: str | None) -> None:
    app.register_blueprint(create_blueprint(url_prefix=None), url_prefix=prefix)


@pytest.mark.parametrize("register", [by_creation, by_registration])
@pytest.mark.parametrize(
    ("prefix", "base"),
    [
        (None, ""),
        ("", ""),
        ("/", ""),
        ("/ml", "/ml"),
        ("/ml/", "/ml"),
        ("/a/b/", "/a/b"),
    ],
)
def test_prefix(
    tmp_path: Path,
    one: Path,
    register: CreateOrRegister,
    prefix: str | None,
    base: str,
) -> None:
    app = new_app(tmp_path, TFJS_MODELS={"m": one}, TFJS_INDEX=True)
    app.add_url_rule("/page", "page", lambda: "a page")
    register(app, prefix)
    client = app.test_client()
    for url in ("/m", "/m/", "/m/model.json"):
        assert weights(client, base + url) == DENSE_BYTES
    assert status(client, f"{base}/") == 200
    for url in (
        "/m//",
        "/m/model.json/",
        "/m/weights.bin/",
        "/m/x/y/z.bin",
        "/nothing",
    ):
        assert status(client, base + url) == 404
    assert status(client, "/page") == 200
    with client.options(f"{base}/m/model.json") as r:
        assert r.headers["Access-Control-Max-Age"] == "7200"


def test_changes_of_one_model_touch_no_other(
    tmp_path: Path, one: Path, two: Path
) -> None:
    app = new_app(tmp_path, TFJS_MODELS={"one": one, "two": two})
    app.register_blueprint(tfjs_bp)
    client = app.test_client()
    tag = header(client, "/models/two", "ETag")
    (one / "weights.bin").write_bytes(b"short")
    assert status(client, "/models/one") == 500
    assert weights(client, "/models/two") == OTHER_BYTES
    assert header(client, "/models/two", "ETag") == tag


def test_a_host_of_its_own(tmp_path: Path, one: Path) -> None:
    app = Flask(__name__, host_matching=True, static_host="www.example.org")
    app.config["TFJS_MODELS"] = {"m": one}
    app.register_blueprint(tfjs_bp, host="cdn.example.org")
    client = app.test_client()
    for host, expected in (("cdn.example.org", 200), ("www.example.org", 404)):
        with client.get("/models/m/model.json", base_url=f"https://{host}") as r:
            assert r.status_code == expected
