"""Who may save, told by the extensions that apps have, set up as their users do."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask_login
import pytest
from filesystem import time_limit
from flask import Flask
from flask import request
from flask.testing import FlaskClient
from flask_httpauth import HTTPBasicAuth
from flask_httpauth import HTTPTokenAuth
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_wtf.csrf import CSRFProtect
from flask_wtf.csrf import generate_csrf
from uploading import CONTENT_TYPE
from uploading import bearer
from uploading import dense_body
from uploading import snapshot
from werkzeug.test import TestResponse

from flask_tfjs import allow_all
from flask_tfjs import create_blueprint

Authorize = Callable[[str], Any]

OTHER_SITE = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
OWN_SITE = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}


@pytest.fixture(autouse=True)
def never_hang() -> Iterator[None]:
    with time_limit(60):
        yield


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    app = Flask(__name__, instance_path=str(tmp_path))
    app.config.update(SECRET_KEY="secret", TESTING=True)
    return app


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "tfjs-models"


def add_uploads(app: Flask, authorize: Authorize) -> FlaskClient:
    app.config["TFJS_UPLOADS"] = ["dense"]
    app.config["TFJS_AUTHORIZE_PUBLISH"] = authorize
    app.register_blueprint(create_blueprint())
    return app.test_client()


def save(client: FlaskClient, headers: dict[str, str] | None = None) -> TestResponse:
    return client.post(
        "/models/dense",
        data=dense_body(),
        headers={"Content-Type": CONTENT_TYPE, **OWN_SITE, **(headers or {})},
    )


def check_refused(response: TestResponse, status: int, store: Path) -> None:
    assert response.status_code == status, response.text
    assert "Location" not in response.headers
    assert ("WWW-Authenticate" in response.headers) is (status == 401)
    assert snapshot(store) == {}


# Flask-Login


# Flask-Login has no types.
class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, id: str) -> None:
        self.id = id

    @property
    def may_publish(self) -> bool:
        return self.id == "owner"


@pytest.fixture
def logins(app: Flask) -> flask_login.LoginManager:
    manager = flask_login.LoginManager(app)
    manager.login_view = "login"

    @manager.user_loader  # type: ignore[untyped-decorator]
    def load_user(id: str) -> User:
        return User(id)

    @app.route("/login", methods=["GET", "POST"])
    def login() -> str:
        if request.method == "POST":
            flask_login.login_user(User(request.form["id"]))
        return "<h1>log in</h1>"

    return manager


def by_role(name: str) -> bool:
    user = flask_login.current_user
    return bool(user.is_authenticated and user.may_publish)


@flask_login.login_required  # type: ignore[untyped-decorator]
def by_decorator(name: str) -> bool:
    return bool(flask_login.current_user.may_publish)


@pytest.mark.parametrize("authorize", [by_role, by_decorator])
@pytest.mark.usefixtures("logins")
def test_flask_login(app: Flask, store: Path, authorize: Authorize) -> None:
    client = add_uploads(app, authorize)
    check_refused(save(client), 401, store)
    client.post("/login", data={"id": "guest"})
    check_refused(save(client), 403, store)
    client.post("/login", data={"id": "owner"})
    # The browser would send the cookie from any site.
    check_refused(save(client, OTHER_SITE), 403, store)
    check_refused(save(client, {"Sec-Fetch-Site": "same-site"}), 403, store)
    response = save(client)
    assert response.status_code == 201
    assert response.get_json()["url"] == "http://localhost/models/dense/model.json"


@pytest.mark.usefixtures("logins")
def test_a_login_page_is_no_success(app: Flask, store: Path) -> None:
    """Who follows its redirect would find a page there, and take it for one."""
    client = add_uploads(app, by_decorator)
    response = client.post(
        "/models/dense",
        data=dense_body(),
        headers={"Content-Type": CONTENT_TYPE},
        follow_redirects=True,
    )
    check_refused(response, 401, store)
    assert "<h1>" not in response.text


# Flask-HTTPAuth


def test_token_auth(app: Flask, store: Path) -> None:
    auth = HTTPTokenAuth("Bearer")
    tokens = {"one": "owner", "two": "guest"}

    @auth.verify_token  # type: ignore[untyped-decorator]
    def verify_token(token: str) -> str | None:
        return tokens.get(token)

    @auth.get_user_roles  # type: ignore[untyped-decorator]
    def get_user_roles(user: str) -> str:
        return user

    client = add_uploads(app, auth.login_required(role="owner")(lambda name: True))
    check_refused(save(client), 401, store)
    check_refused(save(client, bearer("wrong")), 401, store)
    response = save(client, bearer("two"))
    assert response.status_code == 403
    assert snapshot(store) == {}
    # A page of another site cannot know the token, so who sends it may.
    assert save(client, {**bearer("one"), **OTHER_SITE}).status_code == 201


def test_basic_auth(app: Flask, store: Path) -> None:
    auth = HTTPBasicAuth(realm="models")

    @auth.verify_password  # type: ignore[untyped-decorator]
    def verify_password(user: str, password: str) -> str | None:
        return user if password == "right" else None

    client = add_uploads(app, auth.login_required(lambda name: True))
    response = save(client)
    check_refused(response, 401, store)
    assert response.headers["WWW-Authenticate"] == 'Basic realm="models"'
    headers = {"Content-Type": CONTENT_TYPE, **OWN_SITE}

    def send(password: str, **more: str) -> TestResponse:
        return client.post(
            "/models/dense",
            data=dense_body(),
            headers={**headers, **more},
            auth=("me", password),
        )

    check_refused(send("wrong"), 401, store)
    # A browser sends it by itself, from any site.
    check_refused(send("right", **OTHER_SITE), 403, store)
    assert send("right").status_code == 201


# Flask-Limiter


def make_limiter(app: Flask) -> Limiter:
    app.config["RATELIMIT_HEADERS_ENABLED"] = True
    return Limiter(get_remote_address, app=app, storage_uri="memory://")


def check_limited(client: FlaskClient, store: Path) -> None:
    assert [save(client).status_code for _ in range(2)] == [201, 201]
    before = snapshot(store)
    for _ in range(2):
        response = save(client)
        assert response.status_code == 429
        assert 0 < int(response.headers["Retry-After"]) <= 3600
        assert snapshot(store) == before
    assert client.get("/models/dense/model.json").status_code == 200


def test_limiter_as_decorator(app: Flask, store: Path) -> None:
    limiter = make_limiter(app)

    @limiter.limit("2/hour")
    def authorize(name: str) -> bool:
        return True

    check_limited(add_uploads(app, authorize), store)


def test_limiter_in_the_callable(app: Flask, store: Path) -> None:
    limiter = make_limiter(app)

    def authorize(name: str) -> bool:
        with limiter.limit("2/hour"):
            return True

    check_limited(add_uploads(app, authorize), store)


def test_limiter_of_the_blueprint(app: Flask, store: Path) -> None:
    """It refuses before we are asked."""
    limiter = make_limiter(app)
    app.config["TFJS_UPLOADS"] = ["dense"]
    app.config["TFJS_AUTHORIZE_PUBLISH"] = allow_all
    blueprint = create_blueprint()
    limiter.limit("2/hour", methods=["POST", "PUT"])(blueprint)
    app.register_blueprint(blueprint)
    check_limited(app.test_client(), store)


# Flask-WTF


def test_csrf_protect(app: Flask, store: Path) -> None:
    """It refuses all uploads, and reads their body, unless it leaves the blueprint
    alone, which has a rule of its own for pages of other sites."""
    csrf = CSRFProtect(app)

    @app.get("/token")
    def token() -> str:
        return str(generate_csrf())

    blueprint = create_blueprint(uploads=["dense"], authorize_publish=allow_all)
    app.register_blueprint(blueprint)
    client = app.test_client()
    assert save(client).status_code == 400
    sent = {"X-CSRFToken": client.get("/token").text}
    response = save(client, sent)
    assert response.status_code == 400
    assert "hooks of the app" in response.get_json()["error"]
    assert snapshot(store) == {}
    csrf.exempt(blueprint)
    check_refused(save(client, OTHER_SITE), 403, store)
    assert save(client).status_code == 201
