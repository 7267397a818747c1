"""While four writers publish a model and its old versions are removed, real clients get
all of one version; and no update of it is lost. benchmarks/publish.py does more."""

from __future__ import annotations

import collections.abc as cabc
import typing as t
from collections import Counter
from pathlib import Path

import pytest
import republishing
from clients.drivers import Chromium
from clients.drivers import start_browser
from reference import CLIENTS
from republishing import RETENTION
from republishing import WRITERS
from republishing import state_of
from republishing import verdict
from servers import Pages
from servers import require_program
from servers import serve_pages
from tearing import FIRST_VERSION
from tearing import Report
from tearing import State

LOADS = 60


@pytest.fixture(scope="module")
def pages() -> cabc.Iterator[Pages]:
    with serve_pages(CLIENTS) as pages:
        yield pages


@pytest.fixture(scope="module")
def browser() -> cabc.Iterator[t.Any]:
    with start_browser() as browser:
        yield browser


def test_all_loads_are_whole(browser: t.Any, pages: Pages, tmp_path: Path) -> None:
    node = require_program("node")
    chromium = Chromium(browser, pages.origin, "loads.html")
    with (
        republishing.serving(tmp_path, RETENTION) as server,
        republishing.republishing(tmp_path, server),
    ):
        reports = republishing.load(node, chromium, server, LOADS, tmp_path)
        published = republishing.last_version(tmp_path)
    verdicts = Counter(verdict(report) for report in reports)
    assert verdicts == {"whole": LOADS}, [r for r in reports if "error" in r][:3]
    assert len({report["document"] for report in reports}) >= 5
    assert published > len(WRITERS)


def test_no_update_is_lost(tmp_path: Path) -> None:
    processes, times = 4, 4
    counts = republishing.count(tmp_path, processes, times)
    assert counts.updates == processes * times
    assert counts.versions == list(range(1, processes * times + 2))


# The judge


VERSION = FIRST_VERSION + 3


def report(state: State) -> Report:
    sight = state.sight()
    return {"url": "", "document": sight["document"], "weights": sight["weights"]}


def test_a_version_is_whole() -> None:
    assert verdict(report(state_of(VERSION))) == "whole"


@pytest.mark.parametrize("other", [VERSION - 8, VERSION + 8])
@pytest.mark.parametrize("shard", range(5))
def test_a_mixture_is_torn(shard: int, other: int) -> None:
    state = state_of(VERSION)
    shards = list(state.shards)
    shards[shard] = state_of(other).shards[shard]
    assert verdict(report(State(VERSION, tuple(shards)))) == "torn"


def test_an_error_is_a_failure() -> None:
    assert verdict({"url": "", "error": "fetch failed"}) == "failed"
