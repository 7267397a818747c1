"""A representation and a request -> a Flask response."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import Protocol

from flask import Request
from flask import Response
from werkzeug.datastructures import Headers

from . import media_types
from .conditional import FULL
from .conditional import NOT_MODIFIED
from .conditional import Answer
from .conditional import Partial
from .conditional import Refused
from .conditional import evaluate
from .representations import Header
from .representations import Representation

# They have no content, so neither a media type nor a length.
_WITHOUT_CONTENT = (204, 304)


class StreamedBody(Protocol):
    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


#: Opens a body for the bytes [start, stop).
OpenBody = Callable[[int, int], StreamedBody]

_NO_STORE = ("Cache-Control", "no-store")
_OCTETS = ("Content-Type", media_types.OCTETS)
_JSON = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Type", media_types.JSON),
)


def represent(
    request: Request,
    representation: Representation,
    around: Iterable[Header],
    open_body: OpenBody | None = None,
) -> Response:
    """The answer to a GET or HEAD.

    :param around: headers that every answer carries (CORS).
    :param open_body: for a representation without a body of its own; called only when
        bytes are sent.
    """
    answer = _evaluate(request, representation)
    headers = [*representation.headers, *around]
    if isinstance(answer, Refused):
        return _refuse(answer.status, representation, headers)
    headers += representation.content_headers
    start, stop = 0, representation.length
    status = 200
    if isinstance(answer, Partial):
        start, stop, status = answer.start, answer.stop, 206
        span = f"bytes {start}-{stop - 1}/{representation.length}"
        headers.append(("Content-Range", span))
    headers.append(("Content-Length", str(stop - start)))
    # Werkzeug drops the body of an answer to HEAD. Until then it is as that of a GET,
    # since a layer that encodes would otherwise encode, and may keep, an empty one.
    if representation.body is not None:
        return _answer(representation.body, status, headers)
    if request.method == "HEAD":
        return _answer(iter(()), status, headers)
    assert open_body is not None
    body = open_body(start, stop)
    response = _answer(body, status, headers)
    # A layer that wraps the body in its own does not close ours.
    response.call_on_close(body.close)
    return response


def _refuse(
    status: int, representation: Representation, headers: list[Header]
) -> Response:
    if status >= 400:
        # How long the representation may be kept says nothing about the refusal.
        headers = [h if "max-age" not in h[1] else _NO_STORE for h in headers]
    if status == 416:
        headers.append(("Content-Range", f"bytes */{representation.length}"))
    elif status == 412 and representation.media_type == media_types.JSON:
        message = "If-Match names no entity tag that this URL has now"
        return _message(message, status, headers)
    return _empty(status, headers)


def json_error(status: int, message: str, around: Iterable[Header]) -> Response:
    """An error on a URL where a person or ``response.json()`` reads it."""
    return _message(message, status, [*around, _NO_STORE])


def json_answer(status: int, value: Any, around: Iterable[Header]) -> Response:
    """What became of a request that wrote."""
    body = json.dumps(value).encode() + b"\n"
    return _answer(body, status, [*around, _NO_STORE, *_JSON])


def empty(status: int, around: Iterable[Header], *extra: Header) -> Response:
    """An answer without a body: a client that takes any body for weights must find
    none (tfjs-core ``src/io/weights_loader.ts``)."""
    return _empty(status, [*around, *extra, _NO_STORE])


def error_text(message: str) -> bytes:
    """The body of an error on a URL that is JSON."""
    return json.dumps({"error": message}).encode() + b"\n"


def replace_body(response: Response, body: bytes, media_type: str) -> None:
    response.set_data(body)
    response.headers["Content-Type"] = media_type
    response.headers.pop("Content-Encoding", None)


def is_altered(response: Response) -> bool:
    """Whether somebody gave an answer of ours another status."""
    made_as = getattr(response, "made_as", None)
    return made_as is not None and made_as != response.status_code


def _evaluate(request: Request, representation: Representation) -> Answer:
    environ = request.environ
    # What nearly all requests are, told without parsing, which takes longer than the
    # rest: those without a condition or a range, and a browser's with our own tag.
    if "HTTP_IF_MATCH" not in environ:
        if environ.get("HTTP_IF_NONE_MATCH") == f'"{representation.etag}"':
            return NOT_MODIFIED
        if "HTTP_IF_NONE_MATCH" not in environ and "HTTP_RANGE" not in environ:
            return FULL
    return evaluate(
        method=request.method,
        etag=representation.etag,
        length=representation.length,
        if_match=request.if_match if environ.get("HTTP_IF_MATCH") else None,
        if_none_match=request.if_none_match,
        range_=environ.get("HTTP_RANGE") if representation.ranges else None,
        if_range=environ.get("HTTP_IF_RANGE"),
    )


class _Answer(Response):
    """A response whose headers are complete when it is made.

    Werkzeug makes a copy to add what may be missing, which takes a tenth of all the
    time of a request; it is still asked where a hook has changed the status.
    """

    default_mimetype = None
    made_as: int | None = None

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        if self.status_code == self.made_as:
            return self.headers
        return super().get_wsgi_headers(environ)


def _answer(
    body: Iterable[bytes] | bytes, status: int, headers: list[Header]
) -> Response:
    answer = _Answer(body, status, Headers(_merged(headers)))
    answer.made_as = status
    return answer


def _message(message: str, status: int, headers: list[Header]) -> Response:
    return _answer(error_text(message), status, [*headers, *_JSON])


def _empty(status: int, headers: list[Header]) -> Response:
    if status in _WITHOUT_CONTENT:
        return _answer((), status, headers)
    return _answer(b"", status, [*headers, _OCTETS])


def _merged(headers: Iterable[Header]) -> list[Header]:
    """One ``Vary`` line in place of several: some caches read the first only."""
    vary = [value for name, value in headers if name == "Vary"]
    if len(vary) < 2:
        return list(headers)
    rest = [header for header in headers if header[0] != "Vary"]
    return [*rest, ("Vary", ", ".join(vary))]
