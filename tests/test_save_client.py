"""``model.save(url)`` as TensorFlow.js does it, in Node and in pages of the same and of
another origin in Chromium: what is loaded afterwards is what was saved, bit by bit."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import reference
from clients import saving
from clients.drivers import Chromium
from clients.drivers import require_packages
from clients.drivers import start_browser
from clients.drivers import start_node
from clients.saving import Failed
from clients.saving import Look
from clients.saving import Site
from clients.saving import Studio
from clients.saving import bearer
from flask import Flask
from flask import Response
from flask import send_from_directory
from reference import CLIENTS
from reference import Model
from servers import Pages
from servers import serve_pages

from flask_tfjs import allow_all
from flask_tfjs import bearer_token
from flask_tfjs import create_blueprint

SECRET = "s3cret"
SMALL = 20_000  # bytes
FAILED = "BrowserHTTPRequest.save() failed due to HTTP response status {}."

# Of npm: weights as they are, in halves of floats, and in bytes; and one of ours with
# all dtypes, strings among them.
GRAPHS = ["liveness", "antispoof", "rvm", "dtypes"]
PREDICTING = "liveness"  # in no time


@dataclass(frozen=True)
class Served:
    """An app that is saved to.

    Below ``/models`` by anyone of its own origin and that of the pages, which it lists;
    below ``/private`` by who has the token; below ``/small`` not much.
    """

    site: Site
    folder: Path
    graphs: dict[str, Model]

    def url(self, name: str, prefix: str = "models") -> str:
        return f"{self.site.url}/{prefix}/{name}"

    def files(self) -> dict[str, bytes]:
        """All that is in the stores."""
        return saving.files_of(self.folder / "stores")


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    with serve_pages(CLIENTS) as pages:
        yield pages


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, pages: Pages) -> Iterator[Served]:
    require_packages()
    folder = tmp_path_factory.mktemp("saved")
    graphs = {m.name: m for m in reference.made_models(folder / "made")}
    graphs |= {m.path.stem: m for m in reference.human_models()}
    app = Flask(__name__, instance_path=str(folder / "instance"))

    def add(name: str, **settings: t.Any) -> None:
        blueprint = create_blueprint(
            name,
            url_prefix=f"/{name}",
            store=folder / "stores" / name,
            uploads="*",
            registry=None,
            **settings,
        )
        app.register_blueprint(blueprint)

    add(
        "models",
        authorize_publish=allow_all,
        allow_origins=[pages.origin],
        models={
            "human": reference.HUMAN_DIRECTORY,
            "dtypes": graphs["dtypes"].directory,
        },
    )
    add("private", authorize_publish=bearer_token(SECRET))
    add("small", authorize_publish=bearer_token(SECRET), max_upload=SMALL)

    @app.get("/pages/<path:name>")
    def page(name: str) -> Response:
        return send_from_directory(CLIENTS, name)

    with saving.running(app) as site:
        yield Served(site, folder, graphs)


@pytest.fixture(scope="module")
def browser() -> Iterator[t.Any]:
    with start_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with start_node(tmp_path_factory.mktemp("node"), saving.MODULE) as node:
        yield Studio(node)


@pytest.fixture(scope="module")
def cross_origin(browser: t.Any, pages: Pages) -> Studio:
    return Studio(Chromium(browser, pages.origin, saving.PAGE))


@pytest.fixture(scope="module")
def same_origin(browser: t.Any, served: Served) -> Studio:
    return Studio(Chromium(browser, f"{served.site.url}/pages", saving.PAGE))


@pytest.fixture(scope="module", params=["node", "cross_origin", "same_origin"])
def studio(request: pytest.FixtureRequest) -> Studio:
    studio: Studio = request.getfixturevalue(request.param)
    return studio


without_same_origin = pytest.mark.parametrize(
    "studio", ["node", "cross_origin"], indirect=True
)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a model that only this test saves."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name)


def loaded(studio: Studio, url: str, loader: str = "layers", **look: t.Any) -> Look:
    studio.load(url, loader)
    return studio.look(**look)


# What is saved is loaded


@pytest.mark.parametrize("what", ["dense", "weightless"])
def test_by_a_url(studio: Studio, served: Served, name: str, what: str) -> None:
    """From every form of the URL that loads it."""
    studio.make(what)
    made = studio.look()
    saved = studio.save(served.url(name))
    assert saved.status == 201
    for url in ("", "/", "/model.json", "/model.v1.json"):
        assert loaded(studio, served.url(name) + url) == made, url


@without_same_origin
def test_large_weights_are_cut(studio: Studio, served: Served, name: str) -> None:
    studio.make("large")
    made = studio.look()
    studio.save(served.url(name))
    assert loaded(studio, served.url(name) + "/model.v1.json") == made
    folder = served.folder / "stores/models" / name
    sizes = [path.stat().st_size for path in folder.glob("*.bin")]
    assert len(sizes) == 3 * 3  # each kernel in two, and its bias
    assert max(sizes) == 4 * 1024 * 1024


@pytest.mark.parametrize("form", ["", "/", "/model.json"])
@pytest.mark.parametrize(("method", "again"), [("POST", 201), ("PUT", 200)])
def test_with_a_token(
    studio: Studio, served: Served, name: str, form: str, method: str, again: int
) -> None:
    """The second version in place of the first, which stays loadable."""
    url = served.url(name, "private")
    looks = []
    for status in (201, again):
        studio.make("dense")
        looks.append(studio.look())
        saved = studio.save(url + form, requestInit=bearer(SECRET, method))
        assert saved.status == status
    assert looks[0] != looks[1]
    for version, look in [("", 1), ("/model.v1.json", 0), ("/model.v2.json", 1)]:
        assert loaded(studio, url + version) == looks[look]


def test_the_answer(studio: Studio, served: Served, name: str) -> None:
    """All of it can be read, from another origin too."""
    studio.make("dense")
    url = served.url(name, "private")
    saved = studio.save(url, requestInit=bearer(SECRET))
    etag = saved.body["etag"]
    assert saved.body == {
        "name": name,
        "version": 1,
        "url": f"{url}/model.json",
        "pinned_url": f"{url}/model.v1.json",
        "etag": etag,
    }
    assert saved.location == f"{url}/model.v1.json"
    assert saved.etag == f'"{etag}"'


@without_same_origin
def test_with_the_optimizer(studio: Studio, served: Served, name: str) -> None:
    """Its state is kept for who reads it; a loaded model is the same without."""
    studio.make("dense")
    studio.fit(optimizer="adam")
    made = studio.look()
    studio.save(served.url(name), config={"includeOptimizer": True})
    assert loaded(studio, served.url(name)) == made
    folder = served.folder / "stores/models" / name
    document = json.loads((folder / "model.json").read_text())
    config = document["trainingConfig"]
    assert config["optimizer_config"]["class_name"] == "Adam"
    assert config["loss"] == "mean_squared_error"
    (group,) = document["weightsManifest"]
    states = [spec["name"] for spec in group["weights"] if "group" in spec]
    assert len(states) == 1 + 2 * 4
    size = sum((folder / path).stat().st_size for path in group["paths"])
    assert size == sum(reference.byte_size(spec, b"", 0) for spec in group["weights"])


@without_same_origin
def test_a_topology_alone(studio: Studio, served: Served, name: str) -> None:
    """Of which a loaded model has weights of its own."""
    studio.make("dense")
    made = studio.look()
    assert studio.save(served.url(name), topologyOnly=True).status == 201
    found = loaded(studio, served.url(name))
    assert found.weights.keys() == made.weights.keys()
    assert found.weights != made.weights
    document = served.folder / "stores/models" / name / "model.json"
    assert "weightsManifest" not in json.loads(document.read_text())


@without_same_origin
@pytest.mark.parametrize("graph", GRAPHS)
def test_a_graph_model_again(
    studio: Studio, served: Served, name: str, graph: str
) -> None:
    """As it was loaded, quantized weights too, which stay as small."""
    model = served.graphs[graph]
    studio.load(served.site.url + model.url, "graph")
    before = studio.look(predict=graph == PREDICTING)
    assert before.weights == model.fingerprints()
    studio.save(served.url(name))
    after = loaded(studio, served.url(name), "graph", predict=graph == PREDICTING)
    assert after == before
    folder = served.folder / "stores/models" / name
    assert reference.read_model(folder / "model.json") == model.fingerprints()
    weights = sum(path.stat().st_size for path in folder.glob("*.bin"))
    (group,) = json.loads(model.path.read_text())["weightsManifest"]
    assert weights == sum(
        (model.path.parent / path).stat().st_size for path in group["paths"]
    )


# What is refused


def refused(studio: Studio, served: Served, url: str, **how: t.Any) -> str:
    """What tfjs throws. Nothing is stored."""
    before = served.files()
    with pytest.raises(Failed) as failed:
        studio.save(url, **how)
    assert served.files() == before
    return str(failed.value)


def test_without_the_token(studio: Studio, served: Served, name: str) -> None:
    """A page of another site is told that it may not, whoever its user is."""
    studio.make("large")
    status = 403 if "127.0.0.1" in origin_of(studio, served) else 401
    message = refused(studio, served, served.url(name, "private"))
    assert message == FAILED.format(status)


def origin_of(studio: Studio, served: Served) -> str:
    """Of a page that is not the server's own; ``""`` for all others."""
    client = studio.client
    if not isinstance(client, Chromium):
        return ""
    origin: str = client.page.evaluate("location.origin")
    return "" if origin == served.site.url else origin


def test_with_a_wrong_token(studio: Studio, served: Served, name: str) -> None:
    studio.make("dense")
    url = served.url(name, "private")
    message = refused(studio, served, url, requestInit=bearer("wrong", "PUT"))
    assert message == FAILED.format(403)


def test_from_an_origin_that_is_not_listed(
    browser: t.Any, pages: Pages, served: Served, name: str
) -> None:
    """Chromium sends the upload before it knows, and does not show the answer."""
    studio = Studio(Chromium(browser, pages.other_origin, saving.PAGE))
    studio.make("dense")
    message = refused(studio, served, served.url(name))
    assert message == "Failed to fetch"
    statuses = [one.status for one in served.site.sent if one.path.endswith(name)]
    assert statuses == [403]


def test_too_large(studio: Studio, served: Served, name: str) -> None:
    url = served.url(name, "small")
    studio.make("dense")
    assert studio.save(url, requestInit=bearer(SECRET)).status == 201
    small = studio.look()
    studio.make("large")
    message = refused(studio, served, url, requestInit=bearer(SECRET))
    assert message == FAILED.format(413)
    assert loaded(studio, url) == small


@without_same_origin
def test_another_was_faster(studio: Studio, served: Served, name: str) -> None:
    """``If-Match`` with the tag of the version that one started from."""
    url = served.url(name, "private")
    studio.make("dense")
    new = bearer(SECRET, "PUT", **{"If-None-Match": "*"})
    first = studio.save(url, requestInit=new)
    assert refused(studio, served, url, requestInit=new) == FAILED.format(412)
    assert first.etag is not None
    mine = bearer(SECRET, "PUT", **{"If-Match": first.etag})
    studio.make("dense")
    assert studio.save(url, requestInit=mine).body["version"] == 2
    second = studio.look()
    studio.make("dense")
    assert refused(studio, served, url, requestInit=mine) == FAILED.format(412)
    assert loaded(studio, url) == second


@without_same_origin
def test_a_graph_model_whose_weights_streamed(
    studio: Studio, served: Served, name: str
) -> None:
    """tfjs has none of them any more when it saves, and does not say so."""
    url = served.site.url + served.graphs[PREDICTING].url
    studio.load(url, "graph", streamWeights=True)
    message = refused(studio, served, served.url(name))
    assert message == FAILED.format(400)


def test_a_registered_model(studio: Studio, served: Served) -> None:
    studio.make("dense")
    message = refused(studio, served, served.url("dtypes"))
    assert message == FAILED.format(405)
