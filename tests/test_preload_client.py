"""A page with the tags of ``tfjs_preload``, in Chromium with TensorFlow.js: each URL is
fetched once, before tfjs asks for it; and a second visit costs one request."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from urllib.parse import unquote
from urllib.parse import urlsplit

import pytest
from clients.drivers import start_browser
from conftest import grow_old
from flask import Flask
from flask import render_template_string
from flask import request
from markupsafe import Markup
from models import DENSE_BYTES
from models import write_model
from reference import CLIENTS
from reference import HUMAN_DIRECTORY
from reference import graph_model
from servers import HOST
from servers import Pages
from servers import serve_pages
from werkzeug.serving import WSGIRequestHandler
from werkzeug.serving import make_server

from flask_tfjs import create_blueprint
from flask_tfjs import tfjs_preload
from flask_tfjs import tfjs_url

SCRIPT = "node_modules/@tensorflow/tfjs/dist/tf.min.js"

PAGE = """<!doctype html>
<title>Preload</title>
<link rel="icon" href="data:,">
{{ tags }}
<script src="{{ script }}"></script>
<script>
  window.loaded = (async () => {
    const {weights} = await tf.{{ loader }}('{{ url }}');
    const tensors = Array.isArray(weights)
      ? weights.map((variable) => variable.read())
      : Object.values(weights).flat();
    return Promise.all(tensors.map(async (tensor) => [...await tensor.data()]));
  })();
</script>
"""

# Chromium complains of what was preloaded in vain three seconds after the page.
VAIN_MS = 4_000

FLOATS = list(struct.unpack("<8f", DENSE_BYTES))
GRAPH = {f"{i}.bin": DENSE_BYTES[4 * i : 4 * i + 4] for i in range(8)}

# Name -> loader, and its shards.
MODELS = {
    "layers": ("loadLayersModel", 2),
    "graph": ("loadGraphModel", 8),
    "repaired": ("loadLayersModel", 3),
    "nested": ("loadLayersModel", 2),
    "real": ("loadGraphModel", 1),
}
ENTRIES = {"nested": "v1/größe 1.json", "real": "blazeface.json"}

SAME, OTHER = "same origin", "other origin"
VISITS = [
    *((model, SAME) for model in MODELS),
    *((model, OTHER) for model in ("graph", "nested", "real")),
]


def write_models(folder: Path) -> dict[str, Path]:
    halves = {"a.bin": DENSE_BYTES[:16], "b.bin": DENSE_BYTES[16:]}
    quarters = {"a.bin": DENSE_BYTES[:8], "b.bin": DENSE_BYTES[8:]}
    spec = {"name": "w", "shape": [8], "dtype": "float32"}
    groups = [{"paths": list(GRAPH), "weights": [spec]}]
    graph = {**graph_model([(spec, b"")]), "weightsManifest": groups}
    return {
        "layers": write_model(folder / "layers", shards=halves),
        "graph": write_model(folder / "graph", document=graph, shards=GRAPH),
        "repaired": write_model(folder / "repaired", shards=quarters),
        "nested": write_model(
            folder / "nested", entry=ENTRIES["nested"], shards=halves
        ),
        "real": HUMAN_DIRECTORY,
    }


# Servers


@dataclass
class Site:
    """An app on a port of its own.

    :ivar requests: path and status of each request for a model.
    """

    app: Flask
    url: str = ""
    requests: list[tuple[str, int]] = field(default_factory=list)

    def __call__(
        self, environ: dict[str, t.Any], start_response: Callable[..., t.Any]
    ) -> Iterable[bytes]:
        def start(status: str, *rest: t.Any) -> t.Any:
            path = environ["PATH_INFO"].encode("latin-1").decode()
            if path.startswith("/models/"):
                self.requests.append((path, int(status[:3])))
            return start_response(status, *rest)

        return self.app.wsgi_app(environ, start)

    def taken(self) -> list[tuple[str, int]]:
        """The requests since the last call."""
        taken, self.requests = self.requests, []
        return sorted(taken)


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def running(app: Flask) -> Iterator[Site]:
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


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    with serve_pages(CLIENTS) as pages:
        yield pages


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, pages: Pages) -> Iterator[Site]:
    """The models, and pages on the same origin."""
    folder = tmp_path_factory.mktemp("preload")
    app = Flask(__name__, instance_path=str(folder / "instance"))
    app.register_blueprint(create_blueprint(models=write_models(folder)))
    grow_old(app)

    @app.get("/page")
    def page() -> str:
        name, tags = request.args["name"], request.args["tags"]
        given = "{{ tfjs_preload(name, entry) }}" if tags == "yes" else ""
        return render_template_string(
            PAGE.replace("{{ tags }}", given).replace(
                "{{ url }}", "{{ tfjs_url(name, entry) }}"
            ),
            name=name,
            entry=ENTRIES.get(name),
            loader=MODELS[name][0],
            script=f"{pages.origin}/{SCRIPT}",
        )

    with running(app) as site:
        yield site


@pytest.fixture(scope="module")
def elsewhere(site: Site, pages: Pages) -> Iterator[Site]:
    """Pages on another origin, whose tags the app of the models makes."""
    app = Flask(__name__)

    @app.get("/page")
    def page() -> str:
        name, tags = request.args["name"], request.args["tags"]
        entry = ENTRIES.get(name)
        with site.app.test_request_context(base_url=site.url):
            preload = tfjs_preload(name, entry, external=True)
            url = tfjs_url(name, entry, external=True)
        if tags == "wrong":
            preload = Markup(preload.replace("anonymous", "use-credentials"))
        return render_template_string(
            PAGE,
            tags=preload if tags != "no" else "",
            url=Markup(url),
            loader=MODELS[name][0],
            script=f"{pages.origin}/{SCRIPT}",
        )

    with running(app) as running_app:
        yield running_app


# Visits


@pytest.fixture(scope="module")
def browser() -> Iterator[t.Any]:
    with start_browser() as browser:
        yield browser


@dataclass
class Visitor:
    """A browser with a cache of its own.

    :ivar asked: what it asked for, from its cache or from a server.
    :ivar complaints: what its console showed.
    """

    context: t.Any
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def visit(self, origin: str, name: str, tags: str = "yes") -> t.Any:
        """A page, once its model is loaded."""
        page = self.context.new_page()
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(f"{origin}/page?name={name}&tags={tags}")
        loaded = page.evaluate("window.loaded")
        values = [value for weight in loaded for value in weight]
        assert len(values) > 1000 if name == "real" else values == FLOATS
        return page

    def asked_for_models(self) -> list[str]:
        paths = [unquote(urlsplit(url).path) for url in self.asked]
        self.asked.clear()
        return sorted(path for path in paths if path.startswith("/models/"))


@pytest.fixture
def visitor(browser: t.Any, site: Site) -> Iterator[Visitor]:
    site.taken()
    context = browser.new_context()
    with contextlib.closing(context):
        yield Visitor(context)


def urls(site: Site, name: str) -> list[str]:
    """The paths of a model's JSON and its shards, once the tags know them."""
    deadline = time.monotonic() + 10
    count = 1 + MODELS[name][1]
    while time.monotonic() < deadline:
        with site.app.test_request_context():
            tags = tfjs_preload(name, ENTRIES.get(name)).split("\n")
        if len(tags) == count:
            return sorted(unquote(tag.split('"')[-2]) for tag in tags)
        time.sleep(0.02)
    raise AssertionError(f"still {tags}")


@pytest.mark.parametrize(("model", "origin"), VISITS)
def test_each_url_once(
    site: Site, elsewhere: Site, visitor: Visitor, model: str, origin: str
) -> None:
    """And on the second visit only whether the JSON is still the same."""
    expected = urls(site, model)
    (json,) = (url for url in expected if url.endswith(".json"))
    host = (site if origin == SAME else elsewhere).url
    page = visitor.visit(host, model)
    assert site.taken() == [(url, 200) for url in expected]
    assert visitor.asked_for_models() == expected
    # The tags asked, not tfjs: no shard had to wait for the JSON.
    begun = page.evaluate(
        "performance.getEntriesByType('resource').map("
        "({name, initiatorType}) => [decodeURI(new URL(name).pathname), initiatorType])"
    )
    assert [["link", url] for url in expected] == sorted(
        [kind, url] for url, kind in begun if url in expected
    )
    visitor.visit(host, model)
    assert site.taken() == [(json, 304)]


@pytest.mark.parametrize("origin", [SAME, OTHER])
def test_without_tags(
    site: Site, elsewhere: Site, visitor: Visitor, origin: str
) -> None:
    """A second visit is one request here too."""
    expected = urls(site, "graph")
    host = (site if origin == SAME else elsewhere).url
    visitor.visit(host, "graph", "no")
    assert site.taken() == [(url, 200) for url in expected]
    visitor.visit(host, "graph", "no")
    assert site.taken() == [("/models/graph/model.json", 304)]


def test_nothing_to_complain_of(site: Site, elsewhere: Site, visitor: Visitor) -> None:
    """Such as of what was preloaded in vain, or with other credentials."""
    for model in ("graph", "nested"):
        urls(site, model)
        for origin in (site.url, elsewhere.url):
            page = visitor.visit(origin, model)
    page.wait_for_timeout(VAIN_MS)
    assert visitor.complaints == []


def test_other_tags_would_be_seen(
    site: Site, elsewhere: Site, visitor: Visitor
) -> None:
    """What these tests count is there to be counted."""
    expected = urls(site, "graph")
    visitor.visit(elsewhere.url, "graph", "wrong")
    assert len(site.taken()) > len(expected)
    assert visitor.complaints


def test_the_first_page_of_all(
    site: Site, visitor: Visitor, tmp_path: Path, pages: Pages
) -> None:
    """The model is not hashed yet, so only its JSON is preloaded."""
    app = Flask(__name__, instance_path=str(tmp_path / "instance"))
    models = write_models(tmp_path)
    app.register_blueprint(create_blueprint(models={"layers": models["layers"]}))

    @app.get("/page")
    def page() -> str:
        return render_template_string(
            PAGE,
            tags=tfjs_preload("layers"),
            url=tfjs_url("layers"),
            loader="loadLayersModel",
            script=f"{pages.origin}/{SCRIPT}",
        )

    with running(app) as fresh:
        opened = visitor.visit(fresh.url, "layers")
        tags = opened.locator("link[rel=preload]").count()
        assert tags == 1
        taken = fresh.taken()
    assert len(taken) == 3 and len({path for path, _ in taken}) == 3
    assert {status for _, status in taken} == {200}
