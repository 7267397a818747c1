"""Who may: the callables of ``TFJS_AUTHORIZE_*``, what those hear whom they refuse,
signed URLs, and writes that a page of another site makes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from flask import Response
from flask import current_app
from flask import request
from itsdangerous import Signer
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from .config import Authorize
from .errors import ConfigError
from .errors import printable
from .http import cross_site
from .http import media_types
from .http.representations import Header
from .http.responses import empty
from .http.responses import error_text
from .http.responses import json_error
from .http.responses import replace_body
from .state import State

logger = logging.getLogger("flask_tfjs")

#: Below the prefix: what signed URLs start with.
SIGNED = "-/s/"

_KEPT = ("WWW-Authenticate", "Retry-After")
_CHALLENGE = ("WWW-Authenticate", "Bearer")
_NO_SNIFF = ("X-Content-Type-Options", "nosniff")


def bearer_token(secret: str) -> Authorize:
    """Allow whoever sends ``Authorization: Bearer <secret>``.

    :returns: a callable for ``TFJS_AUTHORIZE_PUBLISH`` or ``TFJS_AUTHORIZE_READ``.
    :raises ConfigError: *secret* is empty, or no header can carry it.
    """
    expected = _checked_secret(secret)

    def authorize(name: str) -> bool:
        sent = cross_site.bearer_of(request.headers.get("Authorization"))
        return hmac.compare_digest(sent.encode("utf-8", "replace"), expected)

    return authorize


def allow_all(name: str) -> bool:
    """Allow anyone, which has to be said: a callable for ``TFJS_AUTHORIZE_*``."""
    return True


def refusal(
    authorize: Authorize, name: str, *, is_json: bool, around: Iterable[Header]
) -> Response | None:
    """Ask *authorize* about the model *name*.

    :param is_json: whether a person or ``response.json()`` reads what the URL answers;
        otherwise a refusal has no body.
    :param around: headers that every answer carries (CORS).
    :returns: ``None`` where it is allowed; else the answer, which is never a redirect:
        clients would follow it to a page, and take that for a model or a success.
    """
    outcome = _ask(authorize, name)
    if outcome is True:
        return None
    theirs = outcome if isinstance(outcome, AnyResponse) else None
    if theirs is None and outcome is not None and outcome is not False:
        logger.warning(
            "whoever asks for the model %s is refused, since the callable returned a "
            "%s; only True allows",
            name,
            type(outcome).__name__,
        )
    status = _status(theirs)
    headers = [*around, *_kept_headers(theirs, status)]
    if not is_json:
        response = empty(status, headers)
    elif theirs is None or theirs.status_code != status:
        response = json_error(status, _reason(status, name), headers)
    else:
        response = empty(status, headers, _NO_SNIFF)
        theirs.direct_passthrough = False
        media_type = theirs.headers.get("Content-Type", "text/plain")
        replace_body(response, theirs.get_data(), media_type)
    if theirs is not None:
        theirs.close()
    return response


def may_read(state: State, name: str) -> bool:
    """Whether the current request may know of the model *name*."""
    authorize = state.settings.authorize_read
    if authorize is None:
        return True
    try:
        return authorize(name) is True
    except HTTPException:
        return False


def forgery(state: State) -> str | None:
    """Why a POST or PUT is refused that a page of another site may have made without
    its user's will; ``None`` for any other."""
    # A page can send any token where all are allowed, so none says whose will it is.
    vouched = state.settings.authorize_publish is not allow_all
    origins = state.cors.origins
    origin, host = request.headers.get("Origin"), request.headers.get("Host")
    if not cross_site.is_forged(
        origin=origin,
        fetch_site=request.headers.get("Sec-Fetch-Site"),
        host=host,
        authorization=request.headers.get("Authorization") if vouched else None,
        listed=origins if isinstance(origins, frozenset) else frozenset(),
    ):
        return None
    cure = "list its origin in TFJS_ALLOW_ORIGINS"
    if vouched:
        cure += ", or send 'Authorization: Bearer <token>'"
    return printable(
        f"a page of another site ({origin}) may not write here ({host}); {cure}"
    )


def sign(state: State, name: str, expires_in: int | timedelta) -> str:
    """A token that lets its holder read the model *name* for a while.

    It is the same for up to *expires_in*, so that what was cached under its URL is of
    use, and holds for that time at least and twice that time at most.

    :raises ConfigError: *expires_in* is not a whole number of seconds, or the app has
        no secret key.
    """
    seconds = _checked_seconds(expires_in)
    key = current_app.secret_key
    if not key:
        raise ConfigError("tfjs_url(expires_in=…) needs the app's SECRET_KEY; set it")
    expiry = str(-(-(math.ceil(time.time()) + seconds) // seconds) * seconds)
    return f"{expiry}.{_signature(key, state, name, expiry)}"


def token_fault(state: State, token: str, name: str) -> str | None:
    """Why *token* does not let its holder read the model *name*; ``None``: it does."""
    expiry, _, signature = token.partition(".")
    sent = signature.encode("utf-8", "replace")
    for key in _keys():
        # The text is compared: many a text decodes to the same signature.
        expected = _signature(key, state, name, expiry).encode()
        if hmac.compare_digest(sent, expected):
            break
    else:
        return "this link is not one of this site's; copy all of it"
    if time.time() >= int(expiry):
        return "this link has expired; open the page that it came from again"
    return None


def _checked_secret(secret: str) -> bytes:
    if not isinstance(secret, str) or not secret:
        given = "an empty text" if secret == "" else f"a {type(secret).__name__}"
        raise ConfigError(
            f"bearer_token() was given {given}, not a secret; is the environment "
            "variable set that it comes from?"
        )
    if secret != secret.strip() or not (secret.isascii() and secret.isprintable()):
        raise ConfigError(
            "the secret of bearer_token() starts or ends with a blank, or has "
            "characters that are not printable ASCII, which not all clients can send; "
            "strip it, or choose another"
        )
    return secret.encode()


def _checked_seconds(expires_in: int | timedelta) -> int:
    seconds, rest = expires_in, timedelta()
    if isinstance(expires_in, timedelta):
        seconds, rest = divmod(expires_in, timedelta(seconds=1))
    if rest or not isinstance(seconds, int) or isinstance(seconds, bool) or seconds < 1:
        raise ConfigError(
            f"expires_in is {expires_in!r}; give a whole number of seconds, 1 or more"
        )
    return seconds


def _keys() -> list[str | bytes]:
    """The app's secret keys, the current one first."""
    fallbacks = current_app.config.get("SECRET_KEY_FALLBACKS") or []
    if isinstance(fallbacks, (str, bytes)):
        fallbacks = [fallbacks]
    return [key for key in (current_app.secret_key, *fallbacks) if key]


def _signature(key: str | bytes, state: State, name: str, expiry: str) -> str:
    signer = Signer(
        key,
        salt=f"flask-tfjs.read.{state.name}",
        key_derivation="hmac",
        digest_method=hashlib.sha256,
    )
    return signer.get_signature(f"{expiry}.{name}").decode("ascii")


def _ask(authorize: Authorize, name: str) -> Any:
    try:
        return authorize(name)
    except HTTPException as error:
        if error.response is not None:
            return error.response
        text = error_text(error.description or error.name)
        headers = error.get_headers()
        return AnyResponse(text, error.code, headers, content_type=media_types.JSON)


def _status(theirs: AnyResponse | None) -> int:
    """Of a refusal, where *theirs* is what the callable answers."""
    if theirs is not None and 400 <= theirs.status_code < 600:
        return theirs.status_code
    if theirs is not None and 300 <= theirs.status_code < 400:
        return 401
    cookie = current_app.session_interface.get_cookie_name(current_app)
    came = "Authorization" in request.headers or cookie in request.cookies
    return 403 if came else 401


def _kept_headers(theirs: AnyResponse | None, status: int) -> list[Header]:
    kept = []
    if theirs is not None:
        kept = [(n, value) for n in _KEPT for value in theirs.headers.getlist(n)]
    if status == 401 and _CHALLENGE[0] not in dict(kept):
        kept.append(_CHALLENGE)
    return kept


def _reason(status: int, name: str) -> str:
    if status == 401:
        return (
            f"the model {name!r} asks for authorisation: send 'Authorization: Bearer "
            "<token>' (in TensorFlow.js by requestInit.headers), or log in"
        )
    return (
        f"these credentials do not give leave for this with the model {name!r}; send "
        "others, or ask whoever runs this server"
    )
