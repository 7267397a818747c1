"""Who may read: ``TFJS_AUTHORIZE_READ`` on every URL, and what who may not is told."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask_login
import pytest
from conftest import OPEN_CORS
from conftest import MakeApp
from conftest import grow_old
from filesystem import time_limit
from flask import Flask
from flask import Response
from flask import abort
from flask import make_response
from flask import redirect
from flask import request
from flask_httpauth import HTTPBasicAuth
from flask_httpauth import HTTPTokenAuth
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from hypothesis import given
from hypothesis import strategies as st
from models import DENSE_BYTES
from models import content_name
from models import write_model
from test_tags import preload
from test_tags import ready
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import TooManyRequests
from werkzeug.exceptions import Unauthorized
from werkzeug.routing import RequestRedirect
from werkzeug.test import TestResponse
from werkzeug.wrappers import Response as WerkzeugResponse

from flask_tfjs import ConfigError
from flask_tfjs import allow_all
from flask_tfjs import auth
from flask_tfjs import bearer_token
from flask_tfjs import create_blueprint
from flask_tfjs import tfjs_preload

SECRET = "s3cret/+=~-._"
BEARER = {"Authorization": f"Bearer {SECRET}"}

SHARD = "/models/dense/weights.bin"
HASHED = f"/models/dense/{content_name('weights', DENSE_BYTES)}"
JSON = [
    "/models/dense",
    "/models/dense/",
    "/models/dense/model.json",
    "/models/dense/other.json",
]
NOT_JSON = [SHARD, HASHED, "/models/dense/missing.bin", "/models/dense/-/s/x"]
OF_A_MODEL = [*JSON, *NOT_JSON]


@pytest.fixture(autouse=True)
def never_hang() -> Iterator[None]:
    with time_limit(60):
        yield


def refuse(name: str) -> bool:
    return False


def readers(make_app: MakeApp, authorize: Any, **config: Any) -> Flask:
    return make_app(TFJS_AUTHORIZE_READ=authorize, **config)


def get(app: Flask, url: str, method: str = "GET", **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.test_client(use_cookies=False).open(url, method=method, headers=named)


def check_refused(response: TestResponse, url: str, status: int) -> None:
    """As every refusal is."""
    assert response.status_code == status
    assert response.headers["Cache-Control"] == "no-store"
    assert OPEN_CORS.items() <= dict(response.headers).items()
    assert ("WWW-Authenticate" in response.headers) >= (status == 401)
    assert "Location" not in response.headers
    assert "ETag" not in response.headers
    if url in NOT_JSON or response.request.method == "HEAD":
        assert response.data == b""
    else:
        assert response.data
    if url in NOT_JSON:
        assert response.headers["Content-Length"] == "0"


# bearer_token and allow_all


@pytest.mark.parametrize(
    ("authorization", "allowed"),
    [
        (f"Bearer {SECRET}", True),
        (f"bearer {SECRET}", True),
        (f"BEARER   {SECRET} ", True),
        (f"Bearer {SECRET}x", False),
        (f"Bearer {SECRET[:-1]}", False),
        (f"Bearer {SECRET.upper()}", False),
        (f"Bearer x {SECRET}", False),
        (f"Basic {SECRET}", False),
        (f"Bearer\t{SECRET}", False),
        ("Bearer", False),
        ("Bearer ", False),
        (SECRET, False),
        ("", False),
        ("Bearer ÿ", False),
        ("Bearer \ud800", False),
        (None, False),
    ],
)
def test_bearer_token(authorization: str | None, allowed: bool) -> None:
    environ = {} if authorization is None else {"HTTP_AUTHORIZATION": authorization}
    with Flask(__name__).test_request_context(environ_overrides=environ):
        assert bearer_token(SECRET)("dense") is allowed


@given(st.text(max_size=50))
def test_no_other_token(token: str) -> None:
    environ = {"HTTP_AUTHORIZATION": f"Bearer {token}"}
    with Flask(__name__).test_request_context(environ_overrides=environ):
        assert bearer_token(SECRET)("dense") is (token.strip(" ") == SECRET)


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        (None, "a NoneType.*environment variable"),
        ("", "an empty text.*environment variable"),
        (b"bytes", "a bytes"),
        (7, "an? int"),
        (" hidden", "blank"),
        ("secret\n", "blank"),
        ("secret\u00a0", "blank"),
        ("a\tb", "printable"),
        ("a\x00b", "printable"),
        ("größe", "ASCII"),
    ],
)
def test_what_is_no_secret(secret: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as raised:
        bearer_token(secret)
    assert secret in (None, "", 7) or str(secret) not in str(raised.value)


def test_allow_all() -> None:
    assert allow_all("dense") is True


def test_a_token_opens_all(make_app: MakeApp) -> None:
    app = readers(make_app, bearer_token(SECRET))
    for url in ["/models/dense", "/models/dense/", "/models/dense/model.json", HASHED]:
        assert get(app, url, **BEARER).status_code == 200
        assert get(app, url).status_code == 401
        assert get(app, url, Authorization="Bearer other").status_code == 403


# What is refused


@pytest.mark.parametrize(
    "outcome",
    [False, None, 0, 1, "True", b"", (), ("no", 401), [True], object(), 1.0, ...],
)
@pytest.mark.parametrize("url", OF_A_MODEL)
def test_only_true_allows(make_app: MakeApp, outcome: Any, url: str) -> None:
    app = readers(make_app, lambda name: outcome)
    for method in ("GET", "HEAD", "POST", "DELETE"):
        response = get(app, url, method)
        check_refused(response, url, 401)
        assert response.headers["WWW-Authenticate"] == "Bearer"
        response = get(app, url, method, Authorization="Bearer x")
        check_refused(response, url, 403)
        assert "WWW-Authenticate" not in response.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Cookie": "other=1"}, 401),
        ({"Cookie": "session=1"}, 401),
        ({"Cookie": "mine=anything"}, 403),
        ({"Authorization": "Basic x"}, 403),
        ({"Authorization": ""}, 403),
    ],
)
def test_whether_credentials_came(
    make_app: MakeApp, headers: dict[str, str], status: int
) -> None:
    app = readers(make_app, refuse, SESSION_COOKIE_NAME="mine")
    assert get(app, SHARD, **headers).status_code == status


def test_what_a_person_reads(make_app: MakeApp) -> None:
    app = readers(make_app, refuse)
    for headers, words in [
        ({}, "the model 'dense' asks for authorisation: send 'Authorization: Bearer"),
        (BEARER, "do not give leave for this with the model 'dense'"),
    ]:
        response = get(app, JSON[0], **headers)
        assert response.mimetype == "application/json"
        assert words in response.get_json()["error"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def answer(status: int, **headers: str) -> Callable[[], Response]:
    def make() -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named |= {"Set-Cookie": "a=b", "ETag": '"x"', "Location": "/login"}
        return Response("<h1>theirs</h1>", status, named, mimetype="text/html")

    return make


def aborted(make: Callable[[], Any]) -> Callable[[], Any]:
    def give_up() -> Any:
        abort(make())

    return give_up


BASIC = 'Basic realm="x"'

#: What a callable does -> the status, WWW-Authenticate and Retry-After of the answer,
#: and what is in its body on a JSON URL.
ANSWERED: list[tuple[Callable[[], Any], int, str | None, str | None, str]] = [
    (answer(401), 401, "Bearer", None, "<h1>theirs"),
    (answer(401, WWW_Authenticate=BASIC), 401, BASIC, None, "<h1>theirs"),
    (answer(403), 403, None, None, "<h1>theirs"),
    (answer(403, WWW_Authenticate=BASIC), 403, BASIC, None, "<h1>theirs"),
    (answer(404), 404, None, None, "<h1>theirs"),
    (answer(429, Retry_After="7"), 429, None, "7", "<h1>theirs"),
    (answer(503, Retry_After="7"), 503, None, "7", "<h1>theirs"),
    *((answer(s), 401, "Bearer", None, '{"error"') for s in (300, 301, 302, 303)),
    *((answer(s), 401, "Bearer", None, '{"error"') for s in (304, 307, 308)),
    *((answer(s), 401, "Bearer", None, '{"error"') for s in (100, 200, 204, 299)),
    (answer(302, WWW_Authenticate=BASIC), 401, BASIC, None, '{"error"'),
    (answer(600), 401, "Bearer", None, '{"error"'),
    (lambda: redirect("/login"), 401, "Bearer", None, '{"error"'),
    (lambda: make_response("theirs", 401), 401, "Bearer", None, "theirs"),
    (lambda: WerkzeugResponse("theirs", 403), 403, None, None, "theirs"),
    (lambda: Response(iter(["the", "irs"]), 403), 403, None, None, "theirs"),
    (
        lambda: Response(
            io.BytesIO(b"theirs"), 403, direct_passthrough=True
        ),  # as of send_file
        403,
        None,
        None,
        "theirs",
    ),
    (lambda: abort(401), 401, "Bearer", None, '{"error": "The server could not'),
    (lambda: abort(403, "not you"), 403, None, None, '{"error": "not you"}'),
    (lambda: abort(404), 404, None, None, '{"error"'),
    (lambda: abort(429), 429, None, None, '{"error"'),
    (lambda: abort(503), 503, None, None, '{"error"'),
    (aborted(answer(401, WWW_Authenticate=BASIC)), 401, BASIC, None, "<h1>theirs"),
    (aborted(answer(429, Retry_After="7")), 429, None, "7", "<h1>theirs"),
    (aborted(answer(302)), 401, "Bearer", None, '{"error"'),
    (aborted(answer(200)), 401, "Bearer", None, '{"error"'),
]


def raised(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


ANSWERED += [
    (raised(TooManyRequests(retry_after=9)), 429, None, "9", '{"error"'),
    (raised(RequestRedirect("/login")), 401, "Bearer", None, '{"error"'),
    (raised(HTTPException()), 401, "Bearer", None, '{"error"'),
]


@pytest.mark.parametrize("number", range(len(ANSWERED)))
@pytest.mark.parametrize("url", OF_A_MODEL)
def test_what_a_callable_answers(make_app: MakeApp, number: int, url: str) -> None:
    outcome, status, challenge, retry_after, body = ANSWERED[number]
    app = readers(make_app, lambda name: outcome())
    for method in ("GET", "HEAD"):
        response = get(app, url, method)
        check_refused(response, url, status)
        assert response.headers.get("WWW-Authenticate") == challenge
        assert response.headers.get("Retry-After") == retry_after
        assert "Set-Cookie" not in response.headers
        if url in JSON and method == "GET":
            assert response.text.startswith(body)
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            is_json = response.mimetype == "application/json"
            assert is_json is body.startswith("{")


def test_success_of_a_callable_is_no_leave(make_app: MakeApp) -> None:
    """Only ``True`` is; with credentials it is they that are refused."""
    app = readers(make_app, lambda name: Response("ok", 200))
    check_refused(get(app, SHARD, Authorization="Basic x"), SHARD, 403)
    app = readers(make_app, lambda name: redirect("/login"))
    check_refused(get(app, SHARD, Authorization="Basic x"), SHARD, 401)


def test_several_challenges(make_app: MakeApp) -> None:
    theirs = Response(status=401)
    theirs.headers.add("www-authenticate", "Basic")
    theirs.headers.add("www-authenticate", "Digest")
    app = readers(make_app, lambda name: theirs)
    found = get(app, SHARD).headers.getlist("WWW-Authenticate")
    assert found == ["Basic", "Digest"]


def test_their_response_is_closed(make_app: MakeApp) -> None:
    closed: list[str] = []
    for url in (SHARD, JSON[0]):
        for status in (302, 403):
            theirs = Response("x", status)
            theirs.call_on_close(lambda: closed.append("yes"))
            get(readers(make_app, lambda name, theirs=theirs: theirs), url)
    assert len(closed) == 4


@pytest.mark.parametrize("url", [JSON[2], SHARD])
def test_a_callable_that_fails(make_app: MakeApp, url: str) -> None:
    def fail(name: str) -> bool:
        raise RuntimeError("no database")

    app = readers(make_app, fail, TESTING=False, PROPAGATE_EXCEPTIONS=False)
    response = get(app, url)
    assert response.status_code == 500
    assert b"database" not in response.data
    assert (response.data == b"") is (url == SHARD)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(RuntimeError, match="no database"):
        get(app, url)


# Whom it asks about, and when


def test_what_is_asked(make_app: MakeApp) -> None:
    asked: list[str] = []

    def authorize(name: str) -> bool:
        asked.append(name)
        return True

    app = readers(make_app, authorize)
    for url in OF_A_MODEL:
        get(app, url)
    assert asked == ["dense"] * len(OF_A_MODEL)
    asked.clear()
    for url in ["/models/%2e%2e/x", "/models/a%20b", "/models/-/s/x", "/models//dense"]:
        assert get(app, url).status_code == 404
    assert asked == []


def test_nobody_learns_which_models_there_are(make_app: MakeApp) -> None:
    app = readers(make_app, refuse)
    for rest in ("", "/", "/model.json", "/weights.bin", "/no.bin", "/no/x.json"):
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
            seen = []
            for name in ("dense", "there"):
                response = get(app, f"/models/{name}{rest}", method)
                body = response.text.replace(name, "")
                headers = [h for h in response.headers if h[0] != "Content-Length"]
                seen.append((response.status_code, headers, body))
            assert seen[0] == seen[1]


def test_a_preflight_is_never_asked(make_app: MakeApp) -> None:
    def fail(name: str) -> bool:
        raise AssertionError("asked")

    app, free = readers(make_app, fail), make_app()
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
    for url in OF_A_MODEL:
        response = get(app, url, "OPTIONS", **headers)
        assert response.status_code == 204
        assert response.headers == get(free, url, "OPTIONS", **headers).headers


def test_cors_with_listed_origins(make_app: MakeApp) -> None:
    app = readers(make_app, refuse, TFJS_ALLOW_ORIGINS=["https://mine.example"])
    for origin in ("https://mine.example", "https://other.example"):
        response = get(app, SHARD, Origin=origin)
        allowed = response.headers.get("Access-Control-Allow-Origin")
        assert allowed == (origin if "mine" in origin else None)
        assert response.headers["Vary"] == "Origin"


def test_a_blueprint_at_the_root(tmp_path: Path) -> None:
    app = Flask(__name__)
    models = {"dense": write_model(tmp_path / "dense")}
    app.register_blueprint(
        create_blueprint(url_prefix="", models=models, authorize_read=refuse)
    )
    assert get(app, "/dense/model.json").status_code == 401
    response = get(app, "/dense/weights.bin")
    assert (response.status_code, response.data) == (401, b"")


def test_error_pages_of_the_app(make_app: MakeApp) -> None:
    """They are for the app's own pages."""
    app = readers(make_app, lambda name: abort(429))
    app.register_error_handler(Exception, lambda error: redirect("/login"))
    for url in (SHARD, JSON[2]):
        check_refused(get(app, url), url, 429)


# Private


@pytest.mark.parametrize(
    ("url", "headers", "status", "value"),
    [
        ("/models/dense", {}, 200, "private, no-cache"),
        ("/models/dense/", {}, 200, "private, no-cache"),
        ("/models/dense/model.json", {}, 200, "private, no-cache"),
        ("/models/dense/model.json", {"If-None-Match": "*"}, 304, "private, no-cache"),
        ("/models/dense/model.json", {"If-Match": '"x"'}, 412, "private, no-cache"),
        (SHARD, {}, 200, "private, no-cache"),
        (SHARD, {"Range": "bytes=0-3"}, 206, "private, no-cache"),
        (SHARD, {"If-None-Match": "*"}, 304, "private, no-cache"),
        (SHARD, {"Range": "bytes=99-"}, 416, "private, no-cache"),
        (HASHED, {}, 200, "private, max-age=31536000, immutable"),
        (HASHED, {"Range": "bytes=0-3"}, 206, "private, max-age=31536000, immutable"),
        (
            HASHED,
            {"If-None-Match": "*"},
            304,
            "private, max-age=31536000, immutable",
        ),
        (HASHED, {"If-Match": '"x"'}, 412, "no-store"),
        (HASHED, {"Range": "bytes=99-"}, 416, "no-store"),
        ("/models/dense/missing.bin", {}, 404, "no-store"),
        ("/models/dense/missing.json", {}, 404, "no-store"),
        ("/models/there/model.json", {}, 404, "no-store"),
        ("/models/", {}, 404, "no-store"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_private(
    make_app: MakeApp,
    method: str,
    url: str,
    headers: dict[str, str],
    status: int,
    value: str,
) -> None:
    if method == "HEAD" and "Range" in headers:
        return
    app = readers(make_app, allow_all)
    for _ in range(2):
        response = get(app, url, method, **headers)
        assert response.status_code == status
        assert response.headers.getlist("Cache-Control") == [value]
    public = get(make_app(), url, method, **headers)
    assert public.headers["Cache-Control"] == value.removeprefix("private, ")
    assert public.data == response.data
    for name in set(public.headers.keys()) - {"Cache-Control"}:
        assert public.headers.getlist(name) == response.headers.getlist(name)


def test_private_for_a_while(make_app: MakeApp) -> None:
    app = readers(make_app, allow_all, TFJS_MODEL_MAX_AGE=60)
    found = get(app, "/models/dense/model.json").headers["Cache-Control"]
    assert found == "private, max-age=60"


def test_a_public_blueprint_beside(tmp_path: Path) -> None:
    """What is kept of one is not used for the other."""
    app = Flask(__name__)
    models = {"dense": write_model(tmp_path / "dense")}
    for name, authorize in (("open", None), ("closed", allow_all)):
        app.register_blueprint(
            create_blueprint(
                name, url_prefix=f"/{name}", models=models, authorize_read=authorize
            )
        )
    for _ in range(2):
        for name, value in (("open", "no-cache"), ("closed", "private, no-cache")):
            response = get(app, f"/{name}/dense/model.json")
            assert response.headers["Cache-Control"] == value


# Lists and pages


@pytest.fixture
def zoo(make_app: MakeApp, tmp_path: Path) -> Callable[..., Flask]:
    models = {n: write_model(tmp_path / n) for n in ("ape", "bear", "cat")}

    def make(authorize: Any, **config: Any) -> Flask:
        app = readers(
            make_app, authorize, TFJS_MODELS=models, TFJS_INDEX=True, **config
        )
        grow_old(app)
        return app

    return make


def listed(app: Flask, **headers: str) -> list[str]:
    response = get(app, "/models/", **headers)
    assert response.status_code == 200
    return [model["name"] for model in response.get_json()["models"]]


def only_the_bear(name: str) -> Any:
    return name == "bear"


@pytest.mark.parametrize(
    "others",
    [
        lambda: False,
        lambda: 1,
        lambda: redirect("/login"),
        lambda: Response("ok"),
        lambda: abort(401),
        lambda: abort(429),
        raised(RequestRedirect("/login")),
    ],
)
def test_the_list(zoo: Callable[..., Flask], others: Callable[[], Any]) -> None:
    app = zoo(lambda name: only_the_bear(name) or others())
    assert listed(app) == ["bear"]
    assert [bool(preload(app, name)) for name in ("ape", "bear")] == [False, True]
    for status, headers in [(200, {}), (304, {"If-None-Match": "*"})]:
        response = get(app, "/models/", **headers)
        assert response.status_code == status
        assert response.headers["Cache-Control"] == "private, no-cache"


def test_the_list_of_each_reader(zoo: Callable[..., Flask]) -> None:
    app = zoo(lambda name: request.headers.get("Authorization") == f"Bearer {name}")
    assert listed(app) == []
    tags = set()
    for name in ("ape", "bear"):
        headers = {"Authorization": f"Bearer {name}"}
        assert listed(app, **headers) == [name]
        tags.add(get(app, "/models/", **headers).headers["ETag"])
    assert len(tags) == 2


def test_the_list_of_a_callable_that_fails(zoo: Callable[..., Flask]) -> None:
    app = zoo(lambda name: 1 / 0, TESTING=False, PROPAGATE_EXCEPTIONS=False)
    assert get(app, "/models/").status_code == 500


def test_preload(zoo: Callable[..., Flask], caplog: pytest.LogCaptureFixture) -> None:
    """Nothing where the page's reader may not read, which is no fault."""
    app = zoo(only_the_bear, SECRET_KEY="x")
    assert len(ready(app, "bear")) == 2
    for _ in range(2):
        assert preload(app, "ape") == []
    assert caplog.records == []
    assert len(ready(app, "ape", expires_in=60)) == 2


def test_preload_where_the_callable_fails(
    zoo: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(name: str) -> bool:
        raise RuntimeError(f"no database for a {request.method}")

    app = zoo(fail)
    for _ in range(2):
        assert preload(app, "ape") == []
    (record,) = caplog.records
    assert "tfjs_preload('ape') preloads nothing" in record.message
    caplog.clear()
    with app.app_context():  # outside of a request nobody is there to be asked about
        assert tfjs_preload("ape") == ""
    assert len(caplog.records) == 1


# As users of other extensions write it


def test_httpauth_token(make_app: MakeApp) -> None:
    tokens = HTTPTokenAuth(scheme="Bearer", realm="models")
    tokens.verify_token(lambda token: "ann" if token == "abc" else None)
    tokens.get_user_roles(lambda user: ["reader"])
    credentials = {"Authorization": "Bearer abc"}

    def authorize(name: str) -> bool:
        return bool(tokens.current_user() == "ann")

    app = readers(make_app, tokens.login_required(authorize))
    check_login(app, credentials, 'Bearer realm="models"')
    app = readers(make_app, tokens.login_required(role="reader")(authorize))
    assert get(app, SHARD, **credentials).status_code == 200
    app = readers(make_app, tokens.login_required(role="admin")(authorize))
    check_refused(get(app, SHARD, **credentials), SHARD, 403)
    check_refused(get(app, JSON[0], **credentials), JSON[0], 403)


def check_login(app: Flask, headers: dict[str, str], challenge: str) -> None:
    for url in (*JSON[:3], SHARD):
        assert get(app, url, **headers).status_code == 200
        response = get(app, url)
        check_refused(response, url, 401)
        assert response.headers["WWW-Authenticate"] == challenge


def test_httpauth_basic(make_app: MakeApp) -> None:
    basic = HTTPBasicAuth()
    basic.verify_password(lambda user, password: (user, password) == ("ann", "pass"))
    app = readers(make_app, basic.login_required(lambda name: True))
    credentials = {"Authorization": "Basic YW5uOnBhc3M="}
    check_login(app, credentials, 'Basic realm="Authentication Required"')


# Flask-Login has no types.
class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, id: str) -> None:
        self.id = id


def with_logins(app: Flask) -> Flask:
    manager = flask_login.LoginManager(app)
    manager.login_view = "login"
    manager.user_loader(User)

    @app.get("/login")
    def login() -> str:
        flask_login.login_user(User(request.args["user"]))
        return "hello"

    @app.get("/page")
    def page() -> str:
        return tfjs_preload("dense")

    return app


def signed_in(name: str) -> bool:
    return bool(flask_login.current_user.is_authenticated)


@pytest.mark.parametrize(
    "authorize", [signed_in, flask_login.login_required(lambda name: True)]
)
def test_flask_login(make_app: MakeApp, authorize: Any) -> None:
    """With ``login_required`` too, which would send a person to the login page."""
    app = with_logins(readers(make_app, authorize, SECRET_KEY="x"))
    grow_old(app)
    for url in (*JSON[:3], SHARD):
        check_refused(get(app, url), url, 401)
    visitor = app.test_client()
    assert visitor.get("/page").data == b""
    visitor.get("/login?user=ann")
    for url in (*JSON[:3], SHARD):
        with visitor.get(url) as response:
            assert response.status_code == 200
            assert response.headers["Cache-Control"] == "private, no-cache"
    assert visitor.get("/page").text.count("<link") == 2


def test_flask_login_by_name(make_app: MakeApp) -> None:
    def authorize(name: str) -> bool:
        return bool(signed_in(name) and flask_login.current_user.id == "bob")

    app = with_logins(readers(make_app, authorize, SECRET_KEY="x"))
    for user, status in [("ann", 403), ("bob", 200)]:
        visitor = app.test_client()
        visitor.get(f"/login?user={user}")
        with visitor.get(SHARD) as response:
            assert response.status_code == status


def test_flask_limiter(make_app: MakeApp) -> None:
    limiter = Limiter(get_remote_address, storage_uri="memory://")

    @limiter.limit("2/hour")
    def authorize(name: str) -> bool:
        return True

    for url in (JSON[2], SHARD):
        app = readers(make_app, authorize, RATELIMIT_HEADERS_ENABLED=True)
        limiter.init_app(app)
        limiter.reset()
        assert [get(app, url).status_code for _ in range(2)] == [200, 200]
        response = get(app, url)
        check_refused(response, url, 429)
        if url in JSON:
            assert json.loads(response.data) == {"error": "2 per 1 hour"}


# Of other edges of the package


@pytest.mark.parametrize("outcome", [True, False, Unauthorized])
def test_refusal_is_for_any_path(outcome: Any) -> None:
    def authorize(name: str) -> bool:
        if outcome is Unauthorized:
            raise Unauthorized
        return bool(outcome)

    around = [("X-Around", "yes")]
    with Flask(__name__).test_request_context():
        for is_json in (True, False):
            found = auth.refusal(authorize, "m", is_json=is_json, around=around)
            assert (found is None) is (outcome is True)
            if found is not None:
                assert found.headers["X-Around"] == "yes"
                assert bool(found.data) is is_json


def test_a_session_is_not_made(make_app: MakeApp) -> None:
    """Asking whether a cookie came does not open the session."""
    app = readers(make_app, refuse, SECRET_KEY="x")
    assert "Vary" not in get(app, SHARD).headers


@pytest.mark.parametrize("outcome", [1, "yes", ("no", 429), object()])
def test_what_is_neither_true_nor_false_is_told(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, outcome: Any
) -> None:
    client = make_app(TFJS_AUTHORIZE_READ=lambda name: outcome).test_client()
    assert client.get(SHARD).status_code == 401
    assert f"returned a {type(outcome).__name__}; only True allows" in caplog.text


@pytest.mark.parametrize("outcome", [False, None])
def test_a_refusal_is_not_told(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, outcome: Any
) -> None:
    client = make_app(TFJS_AUTHORIZE_READ=lambda name: outcome).test_client()
    assert client.get(SHARD).status_code == 401
    assert caplog.text == ""
