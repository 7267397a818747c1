"""TensorFlow.js in Node loads every model whole from real servers."""

from __future__ import annotations

import collections.abc as cabc
import time

import pytest
from clients import cases
from clients.cases import Served
from clients.cases import Spoil
from clients.cases import Use
from clients.cases import Zoo
from clients.drivers import Node
from clients.drivers import start_node
from reference import BROKEN
from reference import CLIENTS
from servers import PRODUCTION_SERVERS
from servers import Pages
from servers import serve_pages


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> cabc.Iterator[Node]:
    with start_node(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return cases.build_zoo(tmp_path_factory.getbasetemp() / "zoo")


@pytest.fixture(scope="module")
def pages() -> cabc.Iterator[Pages]:
    with serve_pages(CLIENTS) as pages:
        yield pages


@pytest.fixture(scope="module", params=PRODUCTION_SERVERS)
def served(
    request: pytest.FixtureRequest, zoo: Zoo, tmp_path_factory: pytest.TempPathFactory
) -> cabc.Iterator[Served]:
    directory = tmp_path_factory.mktemp(request.param)
    with cases.serve_zoo(request.param, directory, zoo) as served:
        yield served


@pytest.mark.parametrize("name", [*cases.REAL, *cases.RECUT])
def test_real_models(client: Node, served: Served, zoo: Zoo, name: str) -> None:
    result = client.run(cases.load(zoo[name], served.url))
    cases.check_whole(result, zoo[name])
    cases.check_requests(result, zoo[name])


def test_all_real_models_are_there(zoo: Zoo) -> None:
    assert len(cases.REAL) == 41 + 7 + 3


@pytest.mark.parametrize("name", cases.MADE)
def test_made_models(client: Node, served: Served, zoo: Zoo, name: str) -> None:
    result = client.run(cases.load(zoo[name], served.url))
    cases.check_whole(result, zoo[name])


@pytest.mark.parametrize("use", cases.USES, ids=str)
def test_uses(client: Node, served: Served, zoo: Zoo, use: Use) -> None:
    model = zoo[use.model]
    result = client.run(cases.job_of(use, model, served.url))
    cases.check_whole(result, model, use.unused)
    use.check(result)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_model_is_refused(
    client: Node, served: Served, zoo: Zoo, name: str
) -> None:
    result = client.run(cases.load(zoo[name], served.url))
    assert "status code 500" in result["error"]
    assert len(result["requests"]) == 1


def test_layout_that_tfjs_misreads(client: Node, served: Served, zoo: Zoo) -> None:
    model = zoo["misread"]
    cases.check_not_misread(client.run(cases.load(model, served.url)), model)


@pytest.mark.parametrize("spoil", cases.SPOILED, ids=str)
def test_model_spoiled_between_requests(
    client: Node,
    served: Served,
    pages: Pages,
    spoil: Spoil,
) -> None:
    """What goes wrong after model.json went out is an error, never a loaded model."""
    model = served.changing[f"spoiled-{spoil}"]
    shard = cases.spoiled_shard(model)
    hook = pages.hook(lambda: spoil.act(shard))
    job = cases.load(model, served.url)
    job["before"] = {"match": r"\.bin", "hook": hook}
    result = client.run(job)
    assert "error" in result, result
    assert len(result["requests"]) == 3


def test_retrained_model(client: Node, served: Served) -> None:
    model = served.changing["retrained"]
    cases.check_whole(client.run(cases.load(model, served.url)), model)
    old = model.fingerprints()
    cases.retrain(model)
    time.sleep(1.5)  # directories are looked through once a second
    cases.check_whole(client.run(cases.load(model, served.url)), model)
    assert model.fingerprints() != old
