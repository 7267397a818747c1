"""Real TensorFlow.js that makes, trains, saves and loads models, a step at a time, and
an app that it saves to. What a step is, and what it results in: save.mjs.
"""

from __future__ import annotations

import collections.abc as cabc
import contextlib
import threading
import typing as t
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

from flask import Flask
from reference import Fingerprints
from servers import HOST
from werkzeug.serving import WSGIRequestHandler
from werkzeug.serving import make_server

from clients.drivers import Chromium
from clients.drivers import Node

MODULE = "save.mjs"
PAGE = "save.html"


class Look(t.NamedTuple):
    """What a model is.

    :ivar prediction: of the same inputs for the same shape.
    """

    weights: Fingerprints
    prediction: list[list[float]] | None


class Saved(t.NamedTuple):
    """What the client can read of the answer to ``model.save()``."""

    status: int
    location: str | None
    etag: str | None
    body: dict[str, t.Any]


class Failed(Exception):
    """What TensorFlow.js throws."""


class Studio:
    """A client that holds one model."""

    def __init__(self, client: Node | Chromium) -> None:
        self.client = client

    def make(self, what: str) -> None:
        self._step("make", what=what)

    def load(self, url: str, loader: str = "layers", **options: t.Any) -> None:
        self._step("load", url=url, loader=loader, options=options)

    def train(self, layers: t.Literal["all", "head", "none"]) -> None:
        """Which of them ``fit()`` is to train; ``save()`` writes those first."""
        self._step("train", layers=layers)

    def fit(self, **how: t.Any) -> list[float]:
        """The loss of each epoch."""
        loss: list[float] = self._step("fit", **how)["loss"]
        return loss

    def save(self, url: str, **how: t.Any) -> Saved:
        return Saved(**self._step("save", url=url, **how))

    def look(self, *, predict: bool = True) -> Look:
        found = self._step("look", predict=predict)
        return Look(found["weights"], found.get("prediction"))

    def _step(self, step: str, **arguments: t.Any) -> dict[str, t.Any]:
        job: t.Any = {"step": step, **arguments}
        result: t.Any = self.client.run(job)
        if "error" in result:
            raise Failed(result["error"])
        return t.cast("dict[str, t.Any]", result)


def bearer(secret: str, method: str = "POST", **headers: str) -> dict[str, t.Any]:
    """The ``requestInit`` of a request with this token."""
    headers = {"Authorization": f"Bearer {secret}", **headers}
    return {"method": method, "headers": headers}


class Sent(t.NamedTuple):
    """An answer, as it left the server."""

    method: str
    path: str
    status: int
    byte_length: int


@dataclass
class Site:
    """An app on a port of its own, in this process, and what it answered."""

    app: Flask
    url: str = ""
    sent: list[Sent] = field(default_factory=list)

    def __call__(
        self, environ: dict[str, t.Any], start_response: cabc.Callable[..., t.Any]
    ) -> cabc.Iterator[bytes]:
        status = 0

        def start(line: str, *rest: t.Any) -> t.Any:
            nonlocal status
            status = int(line[:3])
            return start_response(line, *rest)

        body = self.app.wsgi_app(environ, start)
        count = 0
        try:
            for block in body:
                count += len(block)
                yield block
        finally:
            getattr(body, "close", lambda: None)()
            path = environ["PATH_INFO"]
            self.sent.append(Sent(environ["REQUEST_METHOD"], path, status, count))


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def running(app: Flask) -> cabc.Iterator[Site]:
    site = Site(app)
    server = make_server(HOST, 0, site, threaded=True, request_handler=Handler)
    site.url = f"http://{HOST}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def files_of(folder: Path) -> dict[str, bytes]:
    """All that lies below *folder*, the locks of writers apart."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".locks" not in path.parts
    }
