"""Signed URLs with TensorFlow.js, in Node and in Chromium: it carries the token on to
every shard, though nobody else may read the models."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from clients import cases
from clients.drivers import Chromium
from clients.drivers import Job
from clients.drivers import Node
from clients.drivers import open_page
from clients.drivers import start_browser
from clients.drivers import start_node
from conftest import grow_old
from flask import Flask
from flask import render_template_string
from reference import CLIENTS
from reference import Model
from reference import made_models
from servers import HOST
from servers import Pages
from servers import serve_pages
from werkzeug.serving import WSGIRequestHandler
from werkzeug.serving import make_server

from flask_tfjs import auth
from flask_tfjs import bearer_token
from flask_tfjs import create_blueprint
from flask_tfjs import tfjs_preload
from flask_tfjs import tfjs_url

Client = Node | Chromium

HOUR = 3600
BEARER = {"requestInit": {"headers": {"Authorization": "Bearer s3cret"}}}
LOADED = ["dense", "dense-folders", "dense-odd-names", "list"]


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        pass


@dataclass(frozen=True)
class Site:
    """An app whose models need a token, on a port of its own."""

    app: Flask
    url: str
    models: dict[str, Model]

    def signed(self, name: str, expires_in: int = HOUR) -> str:
        entry = self.models[name].entry
        with self.app.app_context():
            return self.url + tfjs_url(name, entry, expires_in=expires_in)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("signed")
    models = {model.name: model for model in made_models(folder)}
    app = Flask(__name__, instance_path=str(folder / "instance"))
    app.secret_key = "key"
    app.register_blueprint(
        create_blueprint(
            models={name: model.directory for name, model in models.items()},
            authorize_read=bearer_token("s3cret"),
        )
    )
    grow_old(app)

    @app.get("/page")
    def page() -> str:
        return render_template_string(
            "<!doctype html>{{ tfjs_preload('dense', expires_in=3600) }}"
        )

    server = make_server(HOST, 0, app, threaded=True, request_handler=Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Site(app, f"http://{HOST}:{server.server_port}", models)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with start_node(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture(scope="module")
def browser() -> Iterator[t.Any]:
    with start_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    with serve_pages(CLIENTS) as pages:
        yield pages


@pytest.fixture(scope="module")
def chromium(browser: t.Any, pages: Pages) -> Iterator[Chromium]:
    """A page without the libraries that take seconds to start and are not used."""
    with contextlib.closing(browser.new_context()) as context:
        context.route(
            re.compile("nsfwjs|face-api"),
            lambda route: route.fulfill(
                body="var faceapi, nsfwjs;", content_type="text/javascript"
            ),
        )
        yield open_page(context, pages)


@pytest.fixture(scope="module", params=["node", "chromium"])
def client(request: pytest.FixtureRequest) -> Client:
    client: Client = request.getfixturevalue(request.param)
    return client


@pytest.mark.parametrize("name", LOADED)
def test_a_whole_model(client: Client, site: Site, name: str) -> None:
    model = site.models[name]
    job: Job = {"loader": model.loader, "url": site.signed(name)}
    result = client.run(job)
    cases.check_whole(result, model)
    cases.check_requests(result, model)
    folder = job["url"].removesuffix(model.entry)
    assert "/-/s/" in folder
    assert all(request["url"].startswith(folder) for request in result["requests"])


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_bare_form(client: Client, site: Site, slash: str) -> None:
    folder = site.signed("dense").removesuffix("/model.json")
    result = client.run({"loader": "layers", "url": folder + slash})
    cases.check_whole(result, site.models["dense"])


def test_a_token_in_a_header(client: Client, site: Site) -> None:
    """From a page of another origin too, where a preflight comes first."""
    model = site.models["dense"]
    job = cases.load(model, site.url)
    cases.check_whole(client.run({**job, "options": BEARER}), model)
    result = client.run(job)
    assert "status code 401" in result["error"]
    assert len(result["requests"]) == 1


@pytest.mark.parametrize("name", ["dense", "list"])
@pytest.mark.parametrize("end", ["json", "shard"])
def test_expired(
    client: Client,
    site: Site,
    pages: Pages,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    end: str,
) -> None:
    """Between two requests too: then no shard is read as weights."""
    clock = SimpleNamespace(time=lambda: time.time() + 10 * HOUR)

    def expire() -> None:
        monkeypatch.setattr(auth, "time", clock)

    # Another token than others had: nothing of it is in the browser's cache.
    url = site.signed(name, expires_in=2 * HOUR)
    job: Job = {"loader": site.models[name].loader, "url": url}
    if end == "json":
        expire()
    else:
        job["before"] = {"match": r"\.bin", "hook": pages.hook(expire)}
    result = client.run(job)
    assert "error" in result, result
    first, *shards = [request["status"] for request in result["requests"]]
    assert first == (403 if end == "json" else 200)
    assert set(shards) == (set() if end == "json" else {403})


def test_preload(browser: t.Any, site: Site) -> None:
    """Each URL answers, though the page has no header to send."""
    with site.app.test_request_context():
        while tfjs_preload("dense", expires_in=HOUR).count("<link") < 2:
            time.sleep(0.02)
    with contextlib.closing(browser.new_page()) as page:
        page.goto(f"{site.url}/page")
        page.wait_for_function("performance.getEntriesByType('resource').length > 1")
        answered = page.evaluate(
            """() => performance.getEntriesByType('resource')
              .filter(({name}) => name.includes('/-/s/'))
              .map(({responseStatus}) => responseStatus)"""
        )
    assert len(answered) >= 2
    assert set(answered) == {200}
