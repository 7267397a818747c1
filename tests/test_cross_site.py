"""Which writes a page of another site may have made: a table of request headers."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_tfjs import allow_all
from flask_tfjs import auth
from flask_tfjs import bearer_token
from flask_tfjs import create_blueprint
from flask_tfjs.http.cross_site import bearer_of
from flask_tfjs.http.cross_site import is_forged

HOST = "example.org"
OWN = "https://example.org"
LISTED = "https://partner.example"
OTHER = "https://evil.example"


def forged(
    origin: str | None = None,
    fetch_site: str | None = None,
    host: str | None = HOST,
    authorization: str | None = None,
) -> bool:
    return is_forged(
        origin=origin,
        fetch_site=fetch_site,
        host=host,
        authorization=authorization,
        listed=frozenset({LISTED}),
    )


@pytest.mark.parametrize("origin", [None, OWN, LISTED, OTHER, "null", ""])
@pytest.mark.parametrize("fetch_site", ["same-origin", "none"])
def test_a_browser_vouches(origin: str | None, fetch_site: str) -> None:
    assert not forged(origin, fetch_site)


@pytest.mark.parametrize(
    "fetch_site",
    [
        *("same-site", "cross-site", "", "junk", "SAME-ORIGIN", " none"),
        *("same-origin, cross-site", "none, none", "same-origin\x00"),
    ],
)
@pytest.mark.parametrize(
    ("origin", "refused"),
    [
        (None, True),
        (OWN, True),  # nobody but the browser knows better
        (OTHER, True),
        ("null", True),
        ("", True),
        (f"{LISTED}:443", True),
        (LISTED.upper(), True),
        (LISTED, False),
    ],
)
def test_another_site(fetch_site: str, origin: str | None, refused: bool) -> None:
    assert forged(origin, fetch_site) is refused


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (OWN, HOST),
        ("http://example.org", HOST),  # a proxy ends TLS
        ("https://EXAMPLE.org", HOST),
        ("HTTPS://example.org", "Example.ORG"),
        (OWN, "example.org:443"),
        ("https://example.org:443", HOST),
        ("http://example.org:80", HOST),
        ("http://example.org", "example.org:80"),
        ("http://example.org:8080", "example.org:8080"),
        ("http://127.0.0.1:5000", "127.0.0.1:5000"),
        ("http://[::1]:5000", "[::1]:5000"),
        ("http://[::1]", "[::1]:80"),
        (LISTED, HOST),
        (LISTED, None),
        (None, HOST),
        (None, None),
        (None, ""),
    ],
)
def test_no_fetch_metadata(origin: str | None, host: str | None) -> None:
    assert not forged(origin, host=host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (OTHER, HOST),
        ("null", HOST),
        ("null", "null"),
        ("null", None),
        ("", HOST),
        ("", ""),
        ("", None),
        ("https://", ""),
        (OWN, None),
        (OWN, ""),
        (OWN, "example.org:80"),
        (OWN, "example.org:8443"),
        ("http://example.org", "example.org:443"),
        ("http://example.org:8080", HOST),
        ("http://example.org:443", HOST),
        ("https://example.org.evil.example", HOST),
        ("https://evil-example.org", HOST),
        ("https://evil.example@example.org", HOST),
        ("https://example.org@evil.example", HOST),
        ("https://example.org/", HOST),
        ("https://example.org, https://evil.example", HOST),
        ("//example.org", HOST),
        ("example.org", HOST),
        ("capacitor://example.org", HOST),
        ("chrome-extension://example.org", HOST),
        ("*", HOST),
        ("*", "*"),
    ],
)
def test_no_fetch_metadata_and_another_origin(origin: str, host: str | None) -> None:
    assert forged(origin, host=host)


@pytest.mark.parametrize(
    ("authorization", "refused"),
    [
        ("Bearer abc", False),
        ("bearer abc", False),
        ("BEARER  abc", False),
        (None, True),
        ("", True),
        ("Bearer", True),
        ("Bearer ", True),
        ("Bearerabc", True),
        ("Basic dXNlcjpwYXNz", True),  # a browser adds it by itself
        ("Negotiate abc", True),
        (" Bearer abc", True),
        ("Basic x, Bearer abc", True),
    ],
)
@pytest.mark.parametrize("fetch_site", [None, "cross-site", "same-site"])
def test_a_token(
    authorization: str | None, refused: bool, fetch_site: str | None
) -> None:
    assert forged(OTHER, fetch_site, authorization=authorization) is refused


def test_the_token() -> None:
    assert bearer_of("Bearer  a b ") == "a b"
    assert bearer_of(None) == bearer_of("Basic abc") == ""


@given(*[st.none() | st.text(max_size=40)] * 4)
def test_any_text_has_an_answer(
    origin: str | None,
    fetch_site: str | None,
    host: str | None,
    authorization: str | None,
) -> None:
    assert forged(origin, fetch_site, host, authorization) in (True, False)


# In a request


def app_with(**settings: Any) -> Flask:
    app = Flask(__name__)
    app.register_blueprint(create_blueprint(models={}, registry=None, **settings))
    return app


def forgery(app: Flask, **headers: str) -> str | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with app.test_request_context("/models/m", method="POST", headers=named):
        return auth.forgery(app.extensions["tfjs"]["tfjs"])


@pytest.mark.parametrize("authorize", [None, allow_all, bearer_token("s")])
def test_a_star_lists_nobody(authorize: object) -> None:
    for origins, refused in [("*", True), ([LISTED], False), ([], True)]:
        app = app_with(allow_origins=origins, authorize_publish=authorize)
        fault = forgery(app, Origin=LISTED, Sec_Fetch_Site="cross-site")
        assert (fault is not None) is refused
        assert forgery(app, Origin=LISTED) == fault
        assert forgery(app, Origin="http://localhost") is None
        assert forgery(app) is None
    assert fault is not None and "TFJS_ALLOW_ORIGINS" in fault


def test_a_token_that_nobody_checks() -> None:
    """Any page may send one, since the default policy lets all add headers."""
    headers = {
        "Origin": OTHER,
        "Sec_Fetch_Site": "cross-site",
        "Authorization": "Bearer x",
    }
    assert forgery(app_with(authorize_publish=bearer_token("s")), **headers) is None
    fault = forgery(app_with(authorize_publish=allow_all), **headers)
    assert fault is not None and "Bearer" not in fault
