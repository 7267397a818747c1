"""While a writer replaces a model, real clients get all of the old one or all of the
new one, or an error: never weights of both. 200 loads; benchmarks/torn.py does more.
"""

from __future__ import annotations

import collections.abc as cabc
import dataclasses
import typing as t
from pathlib import Path

import pytest
import tearing
from clients.drivers import require_packages
from servers import PRODUCTION_SERVERS
from servers import require_program
from servers import serve
from servers import serve_pages
from tearing import FIRST_VERSION
from tearing import MODES
from tearing import SHARDS
from tearing import Judge
from tearing import Load
from tearing import Report
from tearing import State
from tearing import Writer

LOADS = 100  # of each server; of a model, a third

every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(scope="module")
def node() -> str:
    require_packages()
    return require_program("node")


@pytest.fixture(scope="module", params=PRODUCTION_SERVERS)
def loads(
    request: pytest.FixtureRequest, node: str, tmp_path_factory: pytest.TempPathFactory
) -> list[Load]:
    """What became of all loads from one server, of the models of all modes."""
    folder = tmp_path_factory.mktemp(request.param)
    with tearing.rewriting(folder, seed=0) as writers:
        models = {mode: str(writer.directory) for mode, writer in writers.items()}
        with serve(request.param, folder / "server", {"TFJS_MODELS": models}) as server:
            reports = tearing.load(node, f"{server.url}/models", LOADS, folder)
    return tearing.judge(reports, writers)


def details(loads: list[Load], mode: str, verdict: str) -> list[str]:
    return [
        load.detail for load in loads if load.mode == mode and load.verdict == verdict
    ]


@every_mode
def test_none_is_torn(loads: list[Load], mode: str) -> None:
    assert details(loads, mode, "torn") == []


@every_mode
def test_most_are_whole(loads: list[Load], mode: str) -> None:
    """A server that refused everything would tear nothing."""
    states = details(loads, mode, "whole")
    assert len(states) > LOADS / len(MODES) / 2, details(loads, mode, "failed")
    assert len(set(states)) >= 3


@every_mode
def test_failures_are_visible(loads: list[Load], mode: str) -> None:
    errors = details(loads, mode, "failed")
    assert all(errors)
    assert not [error for error in errors if "out of time" in error]


def test_files_that_are_just_sent_are_torn(node: str, tmp_path: Path) -> None:
    """The writers write what the promise is about, and the judge sees it."""
    with tearing.rewriting(tmp_path, seed=0) as writers, serve_pages(tmp_path) as pages:
        reports = tearing.load(node, f"{pages.origin}/models", LOADS, tmp_path)
    verdicts = [load.verdict for load in tearing.judge(reports, writers)]
    assert verdicts.count("torn") >= 1
    assert verdicts.count("whole") > LOADS / 2


# The judge


OLD = State(FIRST_VERSION, (FIRST_VERSION,) * SHARDS)
NEW = State(FIRST_VERSION + 1, (FIRST_VERSION + 1,) * SHARDS)
URL = f"/models/{MODES[0]}/model.json"


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """One that has written the states `OLD` and `NEW`."""
    writer = Writer(MODES[0], tmp_path, seed=0)
    assert writer.states == [OLD]
    writer.states.append(NEW)
    return writer


def report(state: State) -> Report:
    sight = state.sight()
    return {"url": URL, "document": sight["document"], "weights": sight["weights"]}


def verdict(writer: Writer, report: Report) -> str:
    return Judge(writer).judge(report).verdict


@pytest.mark.parametrize("state", [OLD, NEW])
def test_a_state_that_was_written_is_whole(writer: Writer, state: State) -> None:
    assert verdict(writer, report(state)) == "whole"


def mixtures() -> cabc.Iterator[State]:
    """`OLD` with one file of `NEW`."""
    yield dataclasses.replace(OLD, document=NEW.document)
    for index in range(SHARDS):
        shards = list(OLD.shards)
        shards[index] = NEW.shards[index]
        yield dataclasses.replace(OLD, shards=tuple(shards))


@pytest.mark.parametrize("mixture", list(mixtures()))
def test_a_mixture_is_torn(writer: Writer, mixture: State) -> None:
    assert verdict(writer, report(mixture)) == "torn"


def test_a_shard_of_two_halves_is_torn(writer: Writer) -> None:
    torn = report(OLD)
    ((value, count),) = torn["weights"]["dense"]
    torn["weights"]["dense"] = [[value, count // 2], [value + 1, count - count // 2]]
    assert verdict(writer, torn) == "torn"


def test_what_is_no_number_is_torn(writer: Writer) -> None:
    """NaN, as an error page may be read; JSON has it as null."""
    torn = report(OLD)
    nothing: t.Any = None
    torn["weights"]["dense"] = [[nothing, torn["weights"]["dense"][0][1]]]
    assert verdict(writer, torn) == "torn"


def test_an_error_is_a_failure(writer: Writer) -> None:
    assert verdict(writer, {"url": URL, "error": "fetch failed"}) == "failed"


def test_a_mixture_of_what_took_too_long_is_unclear(writer: Writer) -> None:
    writer.held_up.add(NEW.document)
    mixture = dataclasses.replace(OLD, document=NEW.document)
    assert verdict(writer, report(mixture)) == "unclear"
    assert verdict(writer, report(NEW)) == "whole"
