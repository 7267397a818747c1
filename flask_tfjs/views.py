"""The URLs below the prefix, all methods under one rule: look up, then respond."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable
from collections.abc import Iterable
from functools import partial
from typing import Any

from flask import Response
from flask import request

from . import auth
from . import receiving
from . import static_files
from .errors import InvalidModel
from .errors import ModelNotFound
from .errors import printable
from .http import codings
from .http import cors
from .http import media_types
from .http.representations import Header
from .http.representations import Representation
from .http.representations import encoded_representation
from .http.representations import file_representation
from .http.representations import json_representation
from .http.responses import empty
from .http.responses import error_text
from .http.responses import is_altered
from .http.responses import json_error
from .http.responses import replace_body
from .http.responses import represent
from .models.delivery import BeingWritten
from .models.delivery import Delivery
from .models.names import MAIN
from .models.names import is_name
from .models.served import ServedFile
from .models.served import ServedModel
from .models.served import open_body
from .models.summary import summarize
from .pages import rendering as pages
from .pages.content import list_page
from .pages.content import model_page
from .state import State

ALLOWED = "GET, HEAD, OPTIONS"

#: Below the prefix: where a load balancer asks.
HEALTH = "-/health"

_ALLOWED_ORIGIN = "Access-Control-Allow-Origin"

# How often a file is looked up anew that changes between the look and the opening.
_ATTEMPTS = 3

# Different values of Accept-Encoding that are remembered.
_MAX_RANKED = 256
_LONGEST_RANKED = 200

# The redirects after which a POST goes on as a GET (Fetch, "HTTP-redirect fetch").
_TURNED_TO_GET = (301, 302, 303)

_RETRY_AFTER = ("Retry-After", "1")

_Respond = Callable[[list[Header]], Response]


def serve(state: State, path: str) -> Response:
    """Answer the URL *path* below the prefix, whatever the method."""
    origin = request.headers.get("Origin")
    if request.method == "OPTIONS":
        return _options(state, path, origin)
    around = cors.response_headers(state.cors, origin)
    if request.method in receiving.METHODS:
        return _receive(state, path, around)
    return _read(state, path, around)


def _read(state: State, path: str, around: list[Header]) -> Response:
    token, path = _unsigned(path)
    if token is None and state.settings.authorize_read is None:
        return _serve(state, path, around)
    refused = _refusal(state, token, path, around)
    return _keep_private(_serve(state, path, around) if refused is None else refused)


def _serve(state: State, path: str, around: list[Header]) -> Response:
    """Answer *path* to someone who may read it."""
    readable = request.method in ("GET", "HEAD")
    try:
        respond = _look_up(state, path)
        if readable:
            return respond(around)
    except ModelNotFound as error:
        return _error(path, 404, str(error), around)
    except BeingWritten as error:
        if readable:
            return _error(path, 503, str(error), [*around, _RETRY_AFTER])
    except InvalidModel as error:
        state.log_fault(_name(path), error)
        if readable:
            return _error(path, 500, str(error), around)
    allowed = _allowed(state, path)
    message = f"{request.method} is not allowed here, only {allowed}"
    if request.method in receiving.METHODS and _saved_to(path):
        message += "; TFJS_UPLOADS names the models that may be saved to"
    return _error(path, 405, message, [*around, ("Allow", allowed)])


def _receive(state: State, path: str, around: list[Header]) -> Response:
    name = _saved_to(path)
    if name is not None and receiving.may_be_saved(state, name):
        return receiving.receive(state, name, around)
    receiving.drain()
    return _read(state, path, around)


def _saved_to(path: str) -> str | None:
    """The model that ``model.save()`` writes to at this URL."""
    name, _, rest = path.removeprefix("/").partition("/")
    return name if name and rest in ("", MAIN) else None


def _refusal(
    state: State, token: str | None, path: str, around: list[Header]
) -> Response | None:
    """The answer to who may not read *path*; asked before anything is looked up, since
    nobody is to learn which models there are."""
    name = _name(path)
    if token is not None:
        fault = auth.token_fault(state, token, name)
        return None if fault is None else _error(path, 403, fault, around)
    authorize = state.settings.authorize_read
    if authorize is None or not is_name(name):
        return None
    return auth.refusal(authorize, name, is_json=_is_json(path), around=around)


def _keep_private(response: Response) -> Response:
    """Keep an answer that not everybody may have from caches that many share."""
    directives = response.headers.get("Cache-Control", "no-cache")
    if "no-store" not in directives and "private" not in directives:
        response.headers["Cache-Control"] = f"private, {directives}"
    return response


def _unsigned(path: str) -> tuple[str | None, str]:
    """The token of a signed URL, and the path it is for."""
    path = path.removeprefix("/")
    if path.startswith(auth.SIGNED):
        token, _, rest = path.removeprefix(auth.SIGNED).partition("/")
        if token and _name(rest):
            return token, rest
    return None, path


def _name(path: str) -> str:
    return path.partition("/")[0]


def keep_safe(state: State, response: Response, *, crashed: bool = False) -> Response:
    """Mend what others answered or changed on our URLs, after all other hooks.

    An error page of the app, of a rate limiter or of a login on a shard's URL would be
    read as weights, and without CORS headers a page could not read an error at all. A
    page about a crash is of no use to who asked for JSON. A layer that encoded our
    JSON anew made its digest wrong.
    """
    headers = response.headers
    if crashed and response.status_code < 400:
        response.status_code = 500  # whatever a handler makes of it, it is no model
    if is_altered(response) and "max-age" in headers.get("Cache-Control", ""):
        # Nobody is to keep for a year what was meant for another answer.
        headers["Cache-Control"] = "no-store"
        for name in ("ETag", "Repr-Digest"):
            headers.pop(name, None)
    if request.method in receiving.METHODS and response.status_code in _TURNED_TO_GET:
        _refuse_redirect(response)
    if response.status_code >= 400:
        _mend_error(response)
    if "Set-Cookie" in headers:
        _keep_private(response)  # a shared cache would hand one's session to others
    if not ("Cross-Origin-Resource-Policy" in headers and _ALLOWED_ORIGIN in headers):
        around = cors.response_headers(state.cors, request.headers.get("Origin"))
        for name, value in around:
            if name == "Vary":
                response.vary.add(value)
            else:
                headers.setdefault(name, value)
    coding = headers.get("Content-Encoding")
    if coding and not headers.get("ETag", "").endswith(f'-{coding}"'):
        headers.pop("Repr-Digest", None)
    return response


def _refuse_redirect(response: Response) -> None:
    """Answer 401 in place of a login's redirect. A client that saves would ask for that
    page instead, and take its 200 for success (tfjs-core ``src/io/http.ts``)."""
    response.status_code = 401
    response.headers.pop("Location", None)
    response.headers.setdefault("WWW-Authenticate", "Bearer")
    text = error_text("the app redirects this request, to a login or to another URL")
    replace_body(response, text, media_types.JSON)


def _mend_error(response: Response) -> None:
    if not _is_json(_requested_path()):
        replace_body(response, b"", media_types.OCTETS)
    elif response.status_code == 500 and response.mimetype == "text/html":
        replace_body(response, error_text("the server failed"), media_types.JSON)


def _requested_path() -> str:
    return _unsigned(_path())[1]


def _path() -> str:
    """What follows the prefix in the URL."""
    return str((request.view_args or {}).get("path", ""))


def _options(state: State, path: str, origin: str | None) -> Response:
    requested = request.headers.get("Access-Control-Request-Headers")
    allowed = _allowed(state, path)
    headers = cors.preflight_headers(state.cors, origin, requested, allowed)
    return empty(204, headers, ("Allow", allowed))


def _allowed(state: State, path: str) -> str:
    name = _saved_to(path)
    if name is not None and receiving.may_be_saved(state, name):
        return ", ".join([ALLOWED, *receiving.METHODS])
    return ALLOWED


def _is_json(path: str) -> bool:
    """Whether a person or ``response.json()`` reads what *path* answers."""
    rest = path.partition("/")[2]
    return not rest or rest.endswith(".json")


def _error(path: str, status: int, message: str, around: Iterable[Header]) -> Response:
    if _is_json(path):
        return json_error(status, message, around)
    return empty(status, around)


def _look_up(state: State, path: str) -> _Respond:
    """Whatever *path* names, ready to be answered with.

    :raises ModelNotFound: it names nothing.
    :raises InvalidModel: it names a model that cannot be loaded.
    """
    name, slash, rest = path.partition("/")
    if not name:
        return _index(state, slash + rest)
    if path == HEALTH:
        return partial(_health, state)
    if path.startswith(static_files.PREFIX):
        return partial(_static, state, path.removeprefix(static_files.PREFIX))
    model = state.catalogue.model(name)
    if not rest:
        return _directory(state, model, slash)
    if rest == MAIN:
        return partial(_model, state, model.main(), "", "")
    if rest.endswith(".json"):
        try:
            delivery = model.delivery(rest)
        except ModelNotFound:
            return _file_called_json(state, model, rest)
        return partial(_model, state, delivery, "", posixpath.dirname(rest))
    return _file(state, model, rest)


def _health(state: State, around: list[Header]) -> Response:
    """Whether the models can be found, not whether each is sound: one that is broken
    must not take a server out of service that serves all others."""
    fault = state.catalogue.fault
    if fault is None:
        return empty(200, around)
    state.log_once(printable(fault))
    return empty(503, around)


def _static(state: State, name: str, around: list[Header]) -> Response:
    coding = _coding(state)
    make = partial(static_files.representation_of, name, coding)
    found = state.representations.get((static_files.PREFIX, name, coding), make)
    return represent(request, found, around)


def _directory(state: State, model: ServedModel, slash: str) -> _Respond:
    """The model at its directory's own URL, or the page about it."""
    if _wants_page(state):
        asked = request.args.get("entry")
        values = partial(model_page, state, model, asked)
        return partial(_page, state, "model.html", values)
    # The client cuts the URL after its last slash, so the name goes before paths.
    prefix = "" if slash else f"{model.name}/"
    respond = partial(_model, state, model.main(), prefix, "")
    return _varying(respond) if pages.are_shown(state) else respond


def _wants_page(state: State) -> bool:
    # A signed URL is for a page of the app; ours would link to what it does not open.
    return pages.is_wanted(state) and _unsigned(_path())[0] is None


def _page(
    state: State,
    template: str,
    make: Callable[[], dict[str, Any]],
    around: list[Header],
) -> Response:
    page = pages.render(state, template, _coding(state), make())
    return represent(request, page, [*around, *pages.headers(state)])


def _varying(respond: _Respond) -> _Respond:
    """Tell caches that a browser would be answered with a page."""
    return lambda around: respond([*around, pages.VARY])


def _index(state: State, rest: str) -> _Respond:
    if rest:
        raise ModelNotFound("there is nothing at this URL")
    if not pages.are_shown(state):
        raise ModelNotFound(
            "the list of models is off; TFJS_INDEX or debug mode turns it on"
        )
    if _wants_page(state):
        return partial(_page, state, "list.html", partial(list_page, state))
    return _varying(partial(_list, state))


def _list(state: State, around: list[Header]) -> Response:
    models = [
        {
            "name": summary.name,
            "state": summary.state,
            "entries": [
                {"path": f"{summary.name}/{entry.name}", "kind": entry.kind}
                for entry in summary.entries
            ],
            "bytes": summary.byte_length,
        }
        for summary in summarize(state.catalogue)
        if auth.may_read(state, summary.name)
    ]
    text = json.dumps({"models": models}).encode()
    return represent(request, json_representation(text), around)


def _model(
    state: State, delivery: Delivery, prefix: str, folder: str, around: list[Header]
) -> Response:
    """The JSON of a model.

    :param prefix: what leads from the URL's own folder to *folder*.
    :param folder: the folder, relative to the model's root, that paths start from.
    """
    tag = delivery.digest
    if prefix:
        tag += ".bare"
    elif folder != posixpath.dirname(delivery.entry):
        tag += ".root"
    coding = _coding(state)

    def make() -> Representation:
        text = delivery.manifest(folder, prefix)
        return json_representation(
            text,
            tag=tag,
            coding=coding,
            max_age=state.settings.model_max_age,
            immutable=delivery.pinned,
        )

    key = (prefix, delivery.entry, tag, coding)
    return represent(request, state.representations.get(key, make), around)


def _coding(state: State) -> str:
    """The content coding for a text, made here."""
    makes = (*state.codings, codings.IDENTITY)
    return next(coding for coding in _ranked(state) if coding in makes)


def _ranked(state: State) -> tuple[str, ...]:
    # A server sees few different values, and parsing one takes as long as all the rest
    # of finding an answer.
    accepted = request.environ.get("HTTP_ACCEPT_ENCODING", "")
    ranked = state.ranked.get(accepted)
    if ranked is None:
        ranked = codings.rank(request.accept_encodings)
        if len(state.ranked) < _MAX_RANKED and len(accepted) <= _LONGEST_RANKED:
            state.ranked[accepted] = ranked
    return ranked


def _file_called_json(state: State, model: ServedModel, name: str) -> _Respond:
    try:
        return _file(state, model, name)
    except InvalidModel:
        # A shard may have any name, and its errors have no body.
        if model.is_shard(name):
            return partial(empty, 500)
        raise


def _file(state: State, model: ServedModel, name: str) -> _Respond:
    return partial(_send, state, model, model.file(name))


def _send(
    state: State, model: ServedModel, served: ServedFile, around: list[Header]
) -> Response:
    for _ in range(_ATTEMPTS):
        try:
            return _send_once(state, served, around)
        except OSError:  # it changed since
            served = model.file(served.name)
    message = f"{served.name} cannot be read now; ask again"
    return _error(_requested_path(), 503, message, [*around, _RETRY_AFTER])


def _send_once(state: State, served: ServedFile, around: list[Header]) -> Response:
    path, digest = served.path, served.digest
    encodings = state.encodings.of(digest.sha256) if served.shard else {}
    offered = (*encodings, codings.IDENTITY)
    coding = next(coding for coding in _ranked(state) if coding in offered)
    if coding != codings.IDENTITY:
        path, digest = encodings[coding].path, encodings[coding].digest
        representation = encoded_representation(
            served.digest.sha256,
            coding,
            digest.sha256,
            digest.length,
            immutable=served.immutable,
        )
    else:
        representation = file_representation(
            digest.sha256,
            digest.length,
            media_types.OCTETS if served.shard else media_types.of_asset(served.name),
            immutable=served.immutable,
            varies=bool(encodings),
        )
    return represent(request, representation, around, partial(open_body, path, digest))
