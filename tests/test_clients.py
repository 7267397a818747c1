"""TensorFlow.js, in Node and in a page of another origin in Chromium, loads every model
whole from real servers.
"""

from __future__ import annotations

import collections.abc as cabc
import json
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
from reference import Model
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


def test_all_real_models_are_there(zoo: Zoo) -> None:
    """As published, or in one file; split, in shards of 1 MiB, and in two groups."""
    assert len(cases.REAL) == len(set(cases.REAL)) == 41 + 7 + 3
    assert len(cases.RECUT) == len(set(cases.RECUT)) == 3 * len(cases.REAL) + 2
    in_one_file = [name for name in cases.REAL if len(shards_of(zoo[name])) == 1]
    assert len(in_one_file) == len(cases.REAL) - len(cases.IN_MANY_FILES)


def shards_of(model: Model) -> list[str]:
    groups = reference.groups_of(json.loads(model.path.read_text("utf-8-sig")))
    return [path for group in groups for path in group["paths"]]


@pytest.mark.parametrize(
    "cut, misread", [("split", 51), ("mebibytes", 0), ("groups", 0)]
)
def test_a_cut_that_is_split_is_one_that_tfjs_misreads(
    zoo: Zoo, cut: str, misread: int
) -> None:
    cuts = [zoo[name] for name in cases.RECUT if f"-{cut}/" in name]
    assert sum(reference.misread_rows(model.path) for model in cuts) == misread


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
    """It is cut anew on the way out."""
    model = zoo["misread"]
    result = client.run(cases.load(model, served.url))
    cases.check_whole(result, model)
    cases.check_requests(result, model)


def test_tfjs_misreads_it_from_elsewhere(node: Node, zoo: Zoo) -> None:
    """Or there would be nothing to mend."""
    model = zoo["misread"]
    with serve_pages(model.directory) as elsewhere:
        url = f"{elsewhere.origin}/{model.entry}"
        result = node.run({"loader": model.loader, "url": url})
    assert "error" not in result
    assert result["weights"] != model.fingerprints()


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
    """The browser's cache asks again for the JSON, which names other shards."""
    model = served.changing["retrained"]
    cases.check_whole(client.run(cases.load(model, served.url)), model)
    old = model.fingerprints()
    cases.retrain(model)
    cases.check_whole(client.run(cases.load(model, served.url)), model)
    assert model.fingerprints() != old


def test_second_visit(browser: t.Any, pages: Pages, served: Served, zoo: Zoo) -> None:
    """Nothing but the JSON is asked for anew, and that only whether it changed."""
    model = zoo[cases.LAYERS]
    visitor = open_page(browser, pages)
    for visit in range(2):
        cases.check_whole(visitor.run(cases.load(model, served.url)), model)
        transferred = visitor.page.evaluate(
            """() => performance.getEntriesByType('resource')
              .filter(({name}) => name.includes('/models/'))
              .map(({transferSize}) => transferSize)"""
        )
        if visit == 0:
            assert min(transferred) > 1000
    visitor.page.close()
    size = len(transferred) // 2
    json_file, *shards = transferred[size:]
    assert 0 < json_file < 1000
    assert shards == [0] * (size - 1)


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
