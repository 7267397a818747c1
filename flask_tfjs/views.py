"""The URLs below the prefix, all methods under one rule: look up, then respond."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable
from collections.abc import Iterable
from functools import partial

from flask import Response
from flask import current_app
from flask import request

from .errors import InvalidModel
from .errors import ModelNotFound
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
from .models.digests import Digest
from .models.directory import MAIN
from .models.directory import ModelDirectory
from .models.directory import ServedFile
from .models.files import Body
from .models.files import FileChanged
from .models.files import OpenFile
from .models.summary import summarize
from .state import State

ALLOWED = "GET, HEAD, OPTIONS"

_ALLOWED_ORIGIN = "Access-Control-Allow-Origin"

# How often a file is looked up anew that changes between the look and the opening.
_ATTEMPTS = 3

# Different values of Accept-Encoding that are remembered.
_MAX_RANKED = 256
_LONGEST_RANKED = 200

_RETRY_AFTER = ("Retry-After", "1")

_Respond = Callable[[list[Header]], Response]


def serve(state: State, path: str) -> Response:
    """Answer the URL *path* below the prefix, whatever the method."""
    origin = request.headers.get("Origin")
    if request.method == "OPTIONS":
        return _options(state, origin)
    around = cors.response_headers(state.cors, origin)
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
        state.log_fault(path.removeprefix("/").partition("/")[0], error)
        if readable:
            return _error(path, 500, str(error), around)
    message = f"{request.method} is not allowed here, only {ALLOWED}"
    return _error(path, 405, message, [*around, ("Allow", ALLOWED)])


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
    if response.status_code >= 400:
        _mend_error(response)
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


def _mend_error(response: Response) -> None:
    if not _is_json(_requested_path()):
        replace_body(response, b"", media_types.OCTETS)
    elif response.status_code == 500 and response.mimetype == "text/html":
        replace_body(response, error_text("the server failed"), media_types.JSON)


def _requested_path() -> str:
    return str((request.view_args or {}).get("path", ""))


def _options(state: State, origin: str | None) -> Response:
    requested = request.headers.get("Access-Control-Request-Headers")
    headers = cors.preflight_headers(state.cors, origin, requested, ALLOWED)
    return empty(204, headers, ("Allow", ALLOWED))


def _is_json(path: str) -> bool:
    """Whether a person or ``response.json()`` reads what *path* answers."""
    rest = path.removeprefix("/").partition("/")[2]
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
    name, slash, rest = path.removeprefix("/").partition("/")
    if not name:
        return _index(state, slash + rest)
    directory = state.catalogue.directory(name)
    if not slash:
        # The client cuts the URL after its last slash, so the name goes before paths.
        return partial(_model, state, directory.main(), f"{name}/", "")
    if rest in ("", MAIN):
        return partial(_model, state, directory.main(), "", "")
    if rest.endswith(".json"):
        try:
            delivery = directory.delivery(rest)
        except ModelNotFound:
            return _file_called_json(state, directory, rest)
        return partial(_model, state, delivery, "", posixpath.dirname(rest))
    return _file(state, directory, rest)


def _index(state: State, rest: str) -> _Respond:
    shown = current_app.debug if state.settings.index is None else state.settings.index
    if rest or not shown:
        raise ModelNotFound(
            "there is nothing at this URL"
            if rest.strip("/")
            else "the list of models is off; TFJS_INDEX turns it on"
        )
    return partial(_list, state)


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
    ]
    text = json.dumps({"models": models}).encode()
    tag = hashlib.sha256(text).hexdigest()[:32]
    return represent(request, json_representation(text, tag=tag), around)


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
    makes = (*state.codings, codings.IDENTITY)
    coding = next(coding for coding in _ranked(state) if coding in makes)

    def make() -> Representation:
        text = delivery.manifest(folder, prefix)
        return json_representation(
            text, tag=tag, coding=coding, max_age=state.settings.model_max_age
        )

    key = (prefix, delivery.entry, tag, coding)
    return represent(request, state.representations.get(key, make), around)


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


def _file_called_json(state: State, directory: ModelDirectory, name: str) -> _Respond:
    try:
        return _file(state, directory, name)
    except InvalidModel:
        # A shard may have any name, and its errors have no body.
        if directory.is_shard(name):
            return partial(empty, 500)
        raise


def _file(state: State, directory: ModelDirectory, name: str) -> _Respond:
    return partial(_send, state, directory, directory.file(name))


def _send(
    state: State, directory: ModelDirectory, served: ServedFile, around: list[Header]
) -> Response:
    for _ in range(_ATTEMPTS):
        try:
            return _send_once(state, served, around)
        except OSError:  # it changed since
            served = directory.file(served.name)
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
    return represent(request, representation, around, partial(_open, path, digest))


def _open(path: str, digest: Digest, start: int, stop: int) -> Body:
    file = OpenFile(path)
    if file.identity != digest.identity:
        file.close()
        raise FileChanged(file.name)
    return Body(
        file,
        digest.offset + start,
        digest.offset + stop,
        None if digest.settled else digest.promise,
    )
