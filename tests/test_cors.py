"""Cross-origin answers: the CORS protocol of Fetch and the headers around it."""

from __future__ import annotations

import collections.abc as cabc
from pathlib import Path

import pytest
from conftest import MakeApp
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from models import write_model

from flask_tfjs import ConfigError
from flask_tfjs.http.cors import EXPOSED
from flask_tfjs.http.cors import Policy
from flask_tfjs.http.cors import preflight_headers
from flask_tfjs.http.cors import response_headers

MINE = "https://mine.example"
ALSO_MINE = "http://localhost:3000"
OTHER = "https://other.example"

LISTED = {"TFJS_ALLOW_ORIGINS": [MINE, ALSO_MINE]}
CREDENTIALED = {**LISTED, "TFJS_ALLOW_CREDENTIALS": True}
CLOSED: dict[str, object] = {"TFJS_ALLOW_ORIGINS": []}

# None is a request without an Origin. Only the very text of an origin is that origin.
ORIGINS = [None, MINE, ALSO_MINE, OTHER]
STRANGERS = [
    OTHER,
    "null",
    "",
    "*",
    "https://mine.example.evil.example",
    "https://evil-mine.example",
    "https://evilmine.example",
    "https://mine.example:443",
    "https://mine.example/",
    "https://mine.example, https://other.example",
    "HTTPS://MINE.EXAMPLE",
    "http://mine.example",
    "//mine.example",
    "mine.example",
    "http://localhost",
    "http://localhost:30000",
    " https://mine.example",
]

NO_CORS = {
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Expose-Headers",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Allow-Private-Network",
    "Access-Control-Max-Age",
    "Timing-Allow-Origin",
}


def crash(app: Flask) -> None:
    """Let everything below the prefix fail in a way nobody thought of."""

    @app.before_request
    def fail() -> None:
        raise RuntimeError("nobody thought of this")

    app.config.update(TESTING=False, PROPAGATE_EXCEPTIONS=False)


#: An answer of every status, as (method, URL, request headers, status).
ANSWERS: list[tuple[str, str, dict[str, str], int]] = [
    ("GET", "/models/dense/model.json", {}, 200),
    ("GET", "/models/dense", {}, 200),
    ("GET", "/models/dense/weights.bin", {}, 200),
    ("HEAD", "/models/dense/weights.bin", {}, 200),
    ("GET", "/models/dense/weights.bin", {"Range": "bytes=0-1"}, 206),
    ("GET", "/models/dense/model.json", {"If-None-Match": "*"}, 304),
    ("GET", "/models/dense/weights.bin", {"If-None-Match": "*"}, 304),
    ("GET", "/models/unknown/model.json", {}, 404),
    ("GET", "/models/dense/missing.bin", {}, 404),
    ("GET", "/models", {}, 404),
    ("POST", "/models/dense/model.json", {}, 405),
    ("DELETE", "/models/dense/weights.bin", {}, 405),
    ("GET", "/models/dense/model.json", {"If-Match": '"x"'}, 412),
    ("GET", "/models/dense/weights.bin", {"If-Match": '"x"'}, 412),
    ("GET", "/models/dense/weights.bin", {"Range": "bytes=99-"}, 416),
    ("GET", "/models/broken/model.json", {}, 500),
    ("GET", "/models/broken/weights.bin", {}, 500),
]


@pytest.fixture
def make(make_app: MakeApp, tmp_path: Path) -> MakeApp:
    """``make_app`` with one sound and one broken model."""
    write_model(tmp_path / "dense")
    write_model(tmp_path / "broken", shards={"weights.bin": b"short"})
    models = {name: tmp_path / name for name in ("dense", "broken")}
    return lambda **config: make_app(TFJS_MODELS=models, **config)


def with_origin(origin: str | None, **headers: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return named if origin is None else {"Origin": origin, **named}


def answers(
    client: FlaskClient, origin: str | None
) -> cabc.Iterator[tuple[int, dict[str, list[str]]]]:
    """Status and headers of every answer there is."""
    for method, url, headers, status in ANSWERS:
        headers = {**headers, **with_origin(origin)}
        with client.open(url, method=method, headers=headers) as r:
            assert r.status_code == status, (method, url, headers)
            yield status, {name: r.headers.getlist(name) for name in r.headers.keys()}


def vary(headers: dict[str, list[str]]) -> set[str]:
    lines = headers.get("Vary", [])
    assert len(lines) <= 1
    return {name for line in lines for name in line.split(", ")}


@pytest.mark.parametrize("origin", [None, MINE, "null", "", "not an origin"])
def test_any_origin_gets_one_constant_star(make: MakeApp, origin: str | None) -> None:
    for _, headers in answers(make().test_client(), origin):
        assert headers["Access-Control-Allow-Origin"] == ["*"]
        assert headers["Access-Control-Expose-Headers"] == [EXPOSED]
        assert headers["Timing-Allow-Origin"] == ["*"]
        assert headers["Cross-Origin-Resource-Policy"] == ["cross-origin"]
        assert "Access-Control-Allow-Credentials" not in headers
        assert "Origin" not in vary(headers)


@pytest.mark.parametrize("origin", [MINE, ALSO_MINE])
def test_listed_origin_is_allowed_on_every_status(make: MakeApp, origin: str) -> None:
    for _, headers in answers(make(**LISTED).test_client(), origin):
        assert headers["Access-Control-Allow-Origin"] == [origin]
        assert headers["Access-Control-Expose-Headers"] == [EXPOSED]
        assert headers["Timing-Allow-Origin"] == [origin]
        assert headers["Cross-Origin-Resource-Policy"] == ["cross-origin"]
        assert "Access-Control-Allow-Credentials" not in headers
        assert "Origin" in vary(headers)


@pytest.mark.parametrize("origin", [None, OTHER])
def test_vary_origin_also_without_and_for_denied_origins(
    make: MakeApp, origin: str | None
) -> None:
    for _, headers in answers(make(**LISTED).test_client(), origin):
        assert "Origin" in vary(headers)
        assert not NO_CORS & headers.keys()
        assert headers["Cross-Origin-Resource-Policy"] == ["cross-origin"]


@pytest.mark.parametrize("origin", STRANGERS)
@pytest.mark.parametrize("config", [LISTED, CREDENTIALED], ids=["plain", "credentials"])
def test_no_stranger_is_reflected(
    make: MakeApp, config: dict[str, object], origin: str
) -> None:
    client = make(**config).test_client()
    for method in ("GET", "OPTIONS"):
        headers = with_origin(origin, Access_Control_Request_Method="GET")
        with client.open(
            "/models/dense/model.json", method=method, headers=headers
        ) as r:
            assert not NO_CORS & set(r.headers.keys())
            assert "Origin" in r.headers["Vary"].split(", ")


@pytest.mark.parametrize("origins", ["*", ["*"]])
def test_star_with_credentials_is_refused(make: MakeApp, origins: object) -> None:
    with pytest.raises(ConfigError, match="TFJS_ALLOW_CREDENTIALS"):
        make(TFJS_ALLOW_ORIGINS=origins, TFJS_ALLOW_CREDENTIALS=True)


@pytest.mark.parametrize("origin", [MINE, ALSO_MINE])
def test_credentials_for_a_listed_origin(make: MakeApp, origin: str) -> None:
    for _, headers in answers(make(**CREDENTIALED).test_client(), origin):
        assert headers["Access-Control-Allow-Origin"] == [origin]
        assert headers["Access-Control-Allow-Credentials"] == ["true"]
        assert "Origin" in vary(headers)


@pytest.mark.parametrize("origin", ORIGINS)
def test_no_cors_at_all(make: MakeApp, origin: str | None) -> None:
    for _, headers in answers(make(**CLOSED).test_client(), origin):
        assert not NO_CORS & headers.keys()
        assert headers["Cross-Origin-Resource-Policy"] == ["same-origin"]
        assert "Origin" not in vary(headers)


@pytest.mark.parametrize(
    ("config", "value"),
    [({}, "Accept-Encoding"), (LISTED, "Accept-Encoding, Origin")],
    ids=["star", "list"],
)
@pytest.mark.parametrize("headers", [{}, {"If-None-Match": "*"}], ids=["200", "304"])
def test_vary_is_one_line(
    make: MakeApp, config: dict[str, object], headers: dict[str, str], value: str
) -> None:
    client = make(**config).test_client()
    with client.get("/models/dense/model.json", headers=headers) as r:
        assert r.headers.getlist("Vary") == [value]


def test_exposed_headers() -> None:
    assert {"ETag", "Content-Range", "Accept-Ranges", "Content-Encoding"} <= set(
        EXPOSED.split(", ")
    )


@pytest.mark.parametrize(
    "url",
    [
        "/models",
        "/models/",
        "/models/dense",
        "/models/dense/model.json",
        "/models/dense/weights.bin",
        "/models/dense/missing.bin",
        "/models/unknown/model.json",
        "/models/broken/model.json",
    ],
)
def test_preflight_is_the_same_everywhere(make: MakeApp, url: str) -> None:
    headers = with_origin(
        OTHER,
        Access_Control_Request_Method="GET",
        Access_Control_Request_Headers="authorization,x-token",
    )
    with make().test_client().options(url, headers=headers) as r:
        assert (r.status_code, r.data) == (204, b"")
        assert dict(r.headers) == {
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
            "Access-Control-Allow-Headers": "authorization,x-token",
            "Access-Control-Expose-Headers": EXPOSED,
            "Access-Control-Max-Age": "7200",
            "Allow": "GET, HEAD, OPTIONS",
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "cross-origin",
            "Timing-Allow-Origin": "*",
        }


@pytest.mark.parametrize("asked", ["GET", "HEAD", "POST", "PUT", "DELETE", "FROB", ""])
def test_preflight_grants_the_least_methods(make: MakeApp, asked: str) -> None:
    headers = with_origin(OTHER, Access_Control_Request_Method=asked)
    with make().test_client().options("/models/dense", headers=headers) as r:
        assert r.headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    "requested", ["range", "range,if-range", "if-match, if-none-match,if-range"]
)
def test_preflight_allows_range_and_conditions(make: MakeApp, requested: str) -> None:
    headers = with_origin(MINE, Access_Control_Request_Headers=requested)
    with make(**LISTED).test_client().options("/models/dense", headers=headers) as r:
        assert r.headers["Access-Control-Allow-Headers"] == requested
        assert r.headers["Access-Control-Allow-Origin"] == MINE


@pytest.mark.parametrize("origin", [None, OTHER])
@pytest.mark.parametrize("config", [LISTED, CREDENTIALED, CLOSED])
def test_preflight_of_a_denied_origin(
    make: MakeApp, config: dict[str, object], origin: str | None
) -> None:
    headers = with_origin(origin, Access_Control_Request_Headers="authorization")
    with make(**config).test_client().options("/models/dense", headers=headers) as r:
        assert (r.status_code, r.data) == (204, b"")
        assert not NO_CORS & set(r.headers.keys())
        assert r.headers.get("Vary") == (None if config is CLOSED else "Origin")


def test_preflight_with_credentials(make: MakeApp) -> None:
    headers = with_origin(MINE, Access_Control_Request_Headers="authorization")
    client = make(**CREDENTIALED).test_client()
    with client.options("/models/dense/model.json", headers=headers) as r:
        assert r.headers["Access-Control-Allow-Origin"] == MINE
        assert r.headers["Access-Control-Allow-Credentials"] == "true"
        # With credentials "*" would stand for a header of that name.
        assert r.headers["Access-Control-Allow-Headers"] == "authorization"


@pytest.mark.parametrize(
    "requested",
    [
        "",
        ",",
        "a b",
        "a,,b",
        "a;b",
        "a:b",
        'a"b',
        "(a)",
        "a/b",
        "a\xe9",
        "a@b",
        "a,b\x00",
        "a\tb",
        "<script>",
        "a=b",
        "a,",
        "x" * 5000 + ":",
        "a" + " " * 5000 + "b",
        "a, " * 3000 + "\xff",
    ],
    ids=lambda value: ascii(value[:12]),
)
def test_preflight_echoes_field_names_only(requested: str) -> None:
    headers = dict(preflight_headers(Policy("*"), OTHER, requested, "GET"))
    assert "Access-Control-Allow-Headers" not in headers
    assert headers["Access-Control-Allow-Origin"] == "*"


NAME = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=20)


@given(st.lists(NAME, min_size=1), st.sampled_from([",", ", ", " ,", "\t, "]))
def test_preflight_echoes_any_list_of_field_names(names: list[str], comma: str) -> None:
    requested = comma.join(names)
    headers = dict(preflight_headers(Policy("*"), OTHER, requested, "GET"))
    assert headers["Access-Control-Allow-Headers"] == requested


@given(st.text(max_size=50))
def test_preflight_never_splits_headers(requested: str) -> None:
    for _, value in preflight_headers(Policy("*"), OTHER, requested, "GET"):
        assert value.isprintable() and value.isascii()


@pytest.mark.parametrize("config", [{}, LISTED, CREDENTIALED])
def test_private_network_is_not_granted(
    make: MakeApp, config: dict[str, object]
) -> None:
    headers = with_origin(
        MINE,
        Access_Control_Request_Method="GET",
        Access_Control_Request_Private_Network="true",
        Access_Control_Request_Local_Network="true",
    )
    client = make(**config).test_client()
    for method in ("OPTIONS", "GET"):
        with client.open("/models/dense", method=method, headers=headers) as r:
            assert not any("network" in name.lower() for name in r.headers.keys())


def test_every_body_forbids_sniffing(make: MakeApp) -> None:
    client = make().test_client()
    for method, url, headers, _ in ANSWERS:
        with client.open(url, method=method, headers=headers) as r:
            if r.data:
                assert r.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("url", ["/models/dense/model.json", "/models/dense/w.bin"])
@pytest.mark.parametrize(
    ("config", "origin", "allowed", "varies"),
    [
        ({}, OTHER, "*", None),
        (LISTED, MINE, MINE, "Origin"),
        (LISTED, OTHER, None, "Origin"),
        (LISTED, None, None, "Origin"),
        (CLOSED, OTHER, None, None),
    ],
)
def test_crash_in_the_app_is_readable_across_origins(
    make: MakeApp,
    url: str,
    config: dict[str, object],
    origin: str | None,
    allowed: str | None,
    varies: str | None,
) -> None:
    app = make(**config)
    crash(app)
    with app.test_client().get(url, headers=with_origin(origin)) as r:
        assert r.status_code == 500
        assert r.headers.get("Access-Control-Allow-Origin") == allowed
        assert r.headers.get("Timing-Allow-Origin") == allowed
        assert r.headers.get("Vary") == varies
        policy = "same-origin" if config is CLOSED else "cross-origin"
        assert r.headers["Cross-Origin-Resource-Policy"] == policy


@given(
    origin=st.none() | st.text() | st.sampled_from([MINE, ALSO_MINE]),
    listed=st.sets(st.sampled_from([MINE, ALSO_MINE])),
    credentials=st.booleans(),
)
def test_only_a_listed_origin_is_ever_named(
    origin: str | None, listed: set[str], credentials: bool
) -> None:
    policy = Policy(frozenset(listed), credentials)
    headers = response_headers(policy, origin)
    named = dict(headers)
    assert len(named) == len(headers)
    assert ("Vary" in named) == bool(listed)
    if origin in listed:
        assert named["Access-Control-Allow-Origin"] == origin
        assert ("Access-Control-Allow-Credentials" in named) == credentials
    else:
        assert not NO_CORS & named.keys()
