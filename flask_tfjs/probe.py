"""Ask the app itself, as a page on another origin would: what lies between a model and
its clients is the whole app, with its hooks and extensions."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask

from .errors import InvalidModel
from .models.findings import Finding
from .state import State
from .state import url_of

# Reserved for examples (RFC 2606): nobody's real page.
_STRANGER = "https://stranger.example"


def probe(app: Flask, state: State, name: str, entry: str) -> Iterator[Finding]:
    """What the app makes of the answers for a sound model: its JSON, and one shard.

    :param name: the name of the model.
    :param entry: its JSON, relative to the model's directory.
    """
    try:
        delivery = state.catalogue.model(name).delivery(entry)
    except InvalidModel as fault:  # since it was found sound
        yield Finding("error", f"{name}/{entry}", str(fault))
        return
    expected = {entry: delivery.digest}
    for shard, piece in list(delivery.pieces.items())[:1]:
        expected[shard] = piece.digest.sha256.hex()[:32]
    for file, etag in expected.items():
        yield from _probe(app, state, f"{name}/{file}", etag)


def _probe(app: Flask, state: State, where: str, etag: str) -> Iterator[Finding]:
    url = url_of(app, state, f"/{where}")
    try:
        with app.test_client() as client:
            # By https, so that an app that redirects http to it answers at once.
            response = client.head(
                url, headers={"Origin": _STRANGER}, url_scheme="https"
            )
            response.close()
    except Exception as error:  # any, since the app's own code runs
        yield Finding("error", where, f"the app fails on it: {error!r}")
        return
    below = url_of(app, state, "")
    if response.status_code in (401, 403):
        yield Finding(
            "warning",
            where,
            f"the app answers {response.status}, which is as it should be where a "
            f"login guards the model; otherwise exempt the URLs below {below} from it",
        )
        return
    if response.status_code != 200 or response.get_etag()[0] != etag:
        yield Finding(
            "error",
            where,
            f"the app answers {response.status} ({response.mimetype}) in its place: "
            "another route, a login, a limit or another hook of the app comes first; "
            f"keep it away from the URLs below {below}",
        )
        return
    allowed = response.headers.get("Access-Control-Allow-Origin")
    if allowed is None and state.cors.allows(_STRANGER):
        yield Finding(
            "error",
            where,
            "the app takes the CORS headers away, so no page of another origin can "
            "load it, though TFJS_ALLOW_ORIGINS lets it; keep the hook that does so "
            f"away from the URLs below {below}",
        )
    elif allowed is not None and not state.cors.allows(_STRANGER):
        yield Finding(
            "warning",
            where,
            "the app widens TFJS_ALLOW_ORIGINS: another origin may read it "
            f"(Access-Control-Allow-Origin: {allowed}); keep flask-cors, or the hook "
            f"that adds the header, away from the URLs below {below}",
        )
