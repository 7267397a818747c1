"""``model.save(url)``: an upload comes in, a new version goes on the air, or nothing
changes and the client hears why."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import threading
import time
from collections.abc import Iterable
from collections.abc import Iterator
from typing import IO
from typing import cast

from flask import Response
from flask import request
from flask import url_for
from werkzeug.datastructures import ETags
from werkzeug.wsgi import get_input_stream

from . import auth
from . import publishing
from . import signals
from .errors import InvalidModel
from .errors import UploadRefused
from .errors import VersionConflict
from .errors import printable
from .http.conditional import may_write
from .http.representations import Header
from .http.responses import json_answer
from .http.responses import json_error
from .models import uploads
from .models import versions
from .models.names import MAIN
from .models.names import is_name
from .models.publish import Condition
from .models.publish import Version
from .state import State

logger = logging.getLogger("flask_tfjs")

METHODS = ("POST", "PUT")

#: What is read at most of a body that is refused. A proxy sends on before it listens,
#: and takes a connection that is closed meanwhile for a failure of ours (502).
MAX_DRAINED_BYTES = 256 * 1024 * 1024
MAX_DRAINED_SECONDS = 5.0

# Where servers tell which socket a request came from.
_SOCKETS = ("gunicorn.socket", "werkzeug.socket")

_BODY = "flask_tfjs.body"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def may_be_saved(state: State, name: str) -> bool:
    """Whether ``model.save()`` may be tried on the model *name*."""
    settings = state.settings
    if not settings.uploads or not settings.may_be_saved(name) or not is_name(name):
        return False
    # Where not everybody may read, nobody is to learn so which names are registered.
    return settings.authorize_read is not None or not _is_registered(state, name)


def _is_registered(state: State, name: str) -> bool:
    return state.catalogue.sources.path(name) is not None


def receive(state: State, name: str, around: list[Header]) -> Response:
    """Store the body of a POST or PUT as a new version of *name*.

    :param around: headers that every answer carries (CORS).
    """
    try:
        refused = _refusal(state, name, around)
    except UploadRefused as error:
        status, reason = error.status, str(error)
        refused = json_error(status, reason, around)
    except Exception:  # of the app's own callable
        drain()
        raise
    else:
        reason = "TFJS_AUTHORIZE_PUBLISH does not allow it"
    if refused is not None:
        return _refused(state, name, refused, reason)
    try:
        version, is_new = _receive(state, name)
    except UploadRefused as error:
        status, reason = error.status, str(error)
    except VersionConflict as error:
        status, reason = 412, str(error)
    except InvalidModel as error:  # what lies in the store
        status, reason = 500, str(error)
    except OSError as error:
        status = 507 if error.errno in _FULL else 500
        reason = f"it cannot be stored: {error.strerror}"
    else:
        return _stored(state, name, version, is_new, around)
    return _refused(state, name, json_error(status, reason, around), reason)


def drain() -> None:
    """Read what is left of the request's body, within bounds."""
    deadline = time.monotonic() + MAX_DRAINED_SECONDS
    left = MAX_DRAINED_BYTES
    # Servers raise what they like, and there is an answer already.
    with contextlib.suppress(Exception), _deafness_after(MAX_DRAINED_SECONDS):
        stream = _body()
        while left > 0 and time.monotonic() < deadline:
            data = stream.read(min(uploads.READ_SIZE, left))
            if not data:
                return
            left -= len(data)


def _refusal(state: State, name: str, around: list[Header]) -> Response | None:
    forgery = auth.forgery(state)
    if forgery is not None:
        raise UploadRefused(403, forgery)
    authorize = state.settings.authorize_publish
    assert authorize is not None  # since there are uploads
    return auth.refusal(authorize, name, is_json=True, around=around)


def _receive(state: State, name: str) -> tuple[Version, bool]:
    store = state.catalogue.store
    assert store is not None  # since there are uploads
    if _is_registered(state, name):
        raise UploadRefused(409, "a registered model cannot be saved to")
    boundary = _boundary()
    most = state.settings.max_upload
    length = request.content_length
    if length is not None and length > most:
        raise UploadRefused(413, _too_large(length, most))
    condition = _condition()
    folder = store.folder(name)
    condition(versions.stated_digest(folder, versions.replaceable(folder)))
    is_new = not folder.is_published
    with store.stage() as staging:
        body = _Counted(_body(), most)
        try:
            model = uploads.receive(body.read, boundary, staging, most)
            version = publishing.commit(state, store, name, staging, model, condition)
        except InvalidModel as error:
            raise UploadRefused(400, str(error)) from None
    return version, is_new


def _boundary() -> bytes:
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding != "identity":
        raise UploadRefused(
            415, f"the Content-Encoding {printable(coding)!r} is not decoded; send none"
        )
    boundary = request.mimetype_params.get("boundary")
    if request.mimetype != "multipart/form-data" or not boundary:
        raise UploadRefused(
            415,
            "the body is no multipart/form-data with a boundary; send the model with "
            "model.save(), and leave the header Content-Type to it",
        )
    return boundary.encode("latin-1", "replace")


def _condition() -> Condition:
    if_match = _etags(request.if_match, "If-Match")
    if_none_match = _etags(request.if_none_match, "If-None-Match")

    def check(digest: str | None) -> None:
        if not may_write(digest, if_match=if_match, if_none_match=if_none_match):
            there = f"{digest} by now" if digest else "not there"
            raise VersionConflict(
                f"the model is {there}, which is not what If-Match or If-None-Match "
                "asks for; load it again and save anew"
            )

    return check


def _etags(etags: ETags, header: str) -> ETags | None:
    return etags if header in request.headers else None


def _body() -> IO[bytes]:
    # TFJS_MAX_UPLOAD takes the place of MAX_CONTENT_LENGTH, which request.stream heeds.
    # One stream for a request, since it counts what is left.
    environ = request.environ
    if _BODY not in environ:
        environ[_BODY] = get_input_stream(environ)
    return cast("IO[bytes]", environ[_BODY])


class _Counted:
    """The body, as far as it is allowed to go."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream = stream
        self._most = most
        self._read = 0

    def read(self, length: int) -> bytes:
        try:
            data = self._stream.read(length)
        except Exception:  # each server has its own
            raise UploadRefused(400, self._cut_off()) from None
        self._read += len(data)
        if self._read > self._most:
            raise UploadRefused(413, _too_large(self._read, self._most))
        expected = request.content_length or self._was_read_before()
        if not data and not self._read and expected:
            raise UploadRefused(400, self._cut_off())
        return data

    def _was_read_before(self) -> bool:
        return "stream" in vars(request)

    def _cut_off(self) -> str:
        if self._was_read_before():
            return (
                "the body was read before it came here; keep hooks of the app that "
                "use request.form or request.files away from this URL"
            )
        return "the connection ended before the body did; send the model again"


def _too_large(length: int, most: int) -> str:
    return f"the body has {length} bytes or more, TFJS_MAX_UPLOAD allows {most}"


@contextlib.contextmanager
def _deafness_after(seconds: float) -> Iterator[None]:
    """Let no client hold us up that sends slowly, or nothing more, where the server
    gives us its socket: a read waits until it has all it was asked for."""
    sockets = (request.environ.get(key) for key in _SOCKETS)
    connection = next((s for s in sockets if s is not None), None)
    if connection is None:
        yield
        return
    timer = threading.Timer(seconds, _stop_listening, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _stop_listening(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RD)


def _refused(state: State, name: str, response: Response, reason: str) -> Response:
    drain()
    status = response.status_code
    logger.warning("an upload of %s is refused with %s: %s", name, status, reason)
    publishing.tell(
        signals.upload_rejected, state, name=name, status=status, reason=reason
    )
    return response


def _url(state: State, path: str) -> str:
    # With the other values of a prefix that has some, such as "/<tenant>/models".
    values = {**(request.view_args or {}), "path": path}
    return url_for(state.endpoint, _external=True, **values)


def _stored(
    state: State, name: str, version: Version, is_new: bool, around: Iterable[Header]
) -> Response:
    pinned = _url(state, f"/{name}/{version.file_name}")
    value = {
        "name": name,
        "version": version.number,
        "url": _url(state, f"/{name}/{MAIN}"),
        "pinned_url": pinned,
        "etag": version.etag,
    }
    headers = [*around, ("ETag", f'"{version.etag}"'), ("Location", pinned)]
    status = 201 if is_new or request.method == "POST" else 200
    return json_answer(status, value, headers)
