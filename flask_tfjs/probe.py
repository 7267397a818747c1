"""Ask the app itself, as a page on another origin would: what lies between a model and
its clients is the whole app, with its hooks and extensions."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask

from .models.findings import Finding
from .state import State
from .state import url_of

# Reserved for examples (RFC 2606): nobody's real page.
_STRANGER = "https://stranger.example"


def probe(app: Flask, state: State, name: str, entry: str) -> Iterator[Finding]:
    """What the app makes of the answer for a sound model.

    :param name: the registered name.
    :param entry: its JSON, relative to the registered directory.
    """
    url = url_of(app, state, f"/{name}/{entry}")
    where = f"{name}/{entry}"
    try:
        with app.test_client() as client:
            # By https, so that an app that redirects http to it answers at once.
            response = client.get(
                url, headers={"Origin": _STRANGER}, url_scheme="https"
            )
    except Exception as error:  # any, since the app's own code runs
        yield Finding("error", where, f"the app fails on it: {error!r}")
        return
    if response.status_code != 200 or response.mimetype != "application/json":
        yield Finding(
            "warning" if response.status_code in (401, 403) else "error",
            where,
            f"the app answers {response.status} ({response.mimetype}) in its place: a "
            "login, a limit or another hook of the app comes first; exempt the URLs "
            f"below {url_of(app, state, '')} from it",
        )
    allowed = response.headers.get("Access-Control-Allow-Origin")
    if allowed is not None and not state.cors.allows(_STRANGER):
        yield Finding(
            "warning",
            where,
            "the app widens TFJS_ALLOW_ORIGINS: another origin may read it "
            f"(Access-Control-Allow-Origin: {allowed}); keep flask-cors, or the hook "
            f"that adds the header, away from the URLs below {url_of(app, state, '')}",
        )
