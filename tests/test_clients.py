"""TensorFlow.js, in Node and in a page of another origin in Chromium, loads every model
whole from real servers.
"""

from __future__ import annotations

import collections.abc as cabc
import time
import typing as t

import pytest
import reference
from clients import cases
from clients.cases import Served
from clients.cases import Spoil
from clients.cases import Use
from clients.cases import Zoo
from clients.drivers import Chromium
from clients.drivers import Job
from clients.drivers import Node
from clients.drivers import open_page
from clients.drivers import start_browser
from clients.drivers import start_node
from reference import BROKEN
from reference import CLIENTS
from servers import PRODUCTION_SERVERS
from servers import Pages
from servers import Server
from servers import serve
from servers import serve_pages

Client = Node | Chromium


@pytest.fixture(scope="module")
def pages() -> cabc.Iterator[Pages]:
    with serve_pages(CLIENTS) as pages:
        yield pages


@pytest.fixture(scope="module")
def browser() -> cabc.Iterator[t.Any]:
    with start_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> cabc.Iterator[Node]:
    with start_node(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture(scope="module")
def chromium(browser: t.Any, pages: Pages) -> Chromium:
    return open_page(browser, pages)


@pytest.fixture(scope="module", params=["node", "chromium"])
def client(request: pytest.FixtureRequest) -> Client:
    client: Client = request.getfixturevalue(request.param)
    return client


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return cases.build_zoo(tmp_path_factory.getbasetemp() / "zoo")


@pytest.fixture(scope="module", params=PRODUCTION_SERVERS)
def served(
    request: pytest.FixtureRequest, zoo: Zoo, tmp_path_factory: pytest.TempPathFactory
) -> cabc.Iterator[Served]:
    directory = tmp_path_factory.mktemp(request.param)
    with cases.serve_zoo(request.param, directory, zoo) as served:
        yield served


@pytest.fixture(scope="module")
def private(
    zoo: Zoo, pages: Pages, tmp_path_factory: pytest.TempPathFactory
) -> cabc.Iterator[Server]:
    """A server that only pages of one origin may read, with credentials."""
    config = {
        **zoo.config(),
        "TFJS_ALLOW_ORIGINS": [pages.origin],
        "TFJS_ALLOW_CREDENTIALS": True,
    }
    with serve("gunicorn", tmp_path_factory.mktemp("private"), config) as server:
        yield server


@pytest.mark.parametrize("name", [*cases.REAL, *cases.RECUT])
def test_real_models(client: Client, served: Served, zoo: Zoo, name: str) -> None:
    result = client.run(cases.load(zoo[name], served.url))
    cases.check_whole(result, zoo[name])
    cases.check_requests(result, zoo[name])


def test_all_real_models_are_there() -> None:
    assert len(cases.REAL) == 41 + 7 + 3


@pytest.mark.parametrize("name", cases.MADE)
def test_made_models(client: Client, served: Served, zoo: Zoo, name: str) -> None:
    result = client.run(cases.load(zoo[name], served.url))
    cases.check_whole(result, zoo[name])


@pytest.mark.parametrize("use", cases.USES, ids=str)
def test_uses(client: Client, served: Served, zoo: Zoo, use: Use) -> None:
    model = zoo[use.model]
    result = client.run(cases.job_of(use, model, served.url))
    cases.check_whole(result, model, use.unused)
    use.check(result)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_model_is_refused(
    client: Client, served: Served, zoo: Zoo, name: str
) -> None:
    """The client sees the status: an error that CORS hid would be "Failed to fetch"."""
    result = client.run(cases.load(zoo[name], served.url))
    assert "status code 500" in result["error"]
    assert len(result["requests"]) == 1


def test_layout_that_tfjs_misreads(client: Client, served: Served, zoo: Zoo) -> None:
    model = zoo["misread"]
    cases.check_not_misread(client.run(cases.load(model, served.url)), model)


@pytest.mark.parametrize("spoil", cases.SPOILED, ids=str)
def test_model_spoiled_between_requests(
    client: Client,
    served: Served,
    pages: Pages,
    spoil: Spoil,
) -> None:
    """What goes wrong after model.json went out is an error, never a loaded model."""
    # Written anew: another client may have had it before.
    model = reference.dense_model(served.changing[f"spoiled-{spoil}"].directory)
    shard = cases.spoiled_shard(model)
    hook = pages.hook(lambda: spoil.act(shard))
    job = cases.load(model, served.url)
    job["before"] = {"match": r"\.bin", "hook": hook}
    result = client.run(job)
    assert "error" in result, result
    assert len(result["requests"]) == 3


def test_retrained_model(client: Client, served: Served) -> None:
    """The browser's cache asks again, and is not told that nothing changed."""
    model = served.changing["retrained"]
    cases.check_whole(client.run(cases.load(model, served.url)), model)
    old = model.fingerprints()
    cases.retrain(model)
    time.sleep(1.5)  # directories are looked through once a second
    cases.check_whole(client.run(cases.load(model, served.url)), model)
    assert model.fingerprints() != old


CREDENTIALS = {"requestInit": {"credentials": "include"}}


@pytest.mark.parametrize(
    "options", [{}, CREDENTIALS, cases.CUSTOM_HEADERS], ids=["plain", "include", "own"]
)
@pytest.mark.parametrize("name", ["teachable", "broken"])
def test_listed_origin(
    chromium: Chromium, private: Server, zoo: Zoo, options: dict[str, t.Any], name: str
) -> None:
    model = zoo["missing" if name == "broken" else name]
    job: Job = {**cases.load(model, private.url), "options": options}
    result = chromium.run(job)
    if name == "broken":
        assert "status code 500" in result["error"]
    else:
        cases.check_whole(result, model)


@pytest.mark.parametrize(
    "options", [{}, CREDENTIALS, cases.CUSTOM_HEADERS], ids=["plain", "include", "own"]
)
def test_other_origin(
    browser: t.Any, pages: Pages, private: Server, zoo: Zoo, options: dict[str, t.Any]
) -> None:
    stranger = open_page(browser, pages, other=True)
    job: Job = {**cases.load(zoo["teachable"], private.url), "options": options}
    result = stranger.run(job)
    stranger.page.close()
    assert result["error"] == "Failed to fetch"


def test_credentials_need_a_list_of_origins(
    chromium: Chromium, served: Served, zoo: Zoo
) -> None:
    job: Job = {**cases.load(zoo["teachable"], served.url), "options": CREDENTIALS}
    result = chromium.run(job)
    assert result["error"] == "Failed to fetch"
