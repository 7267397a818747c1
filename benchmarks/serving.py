"""Measure flask_tfjs beside other ways to serve the same model. See README.md."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from itertools import groupby
from pathlib import Path

import load
import machine
import scenarios
from common import add_choice
from common import missing
from common import rotated
from common import temporary_folder
from contenders import SERVERS
from contenders import Running
from contenders import Server
from contenders import running
from made_model import LARGE
from made_model import SETTLED_SECONDS
from made_model import write_model
from report import Result
from report import as_json
from report import markdown_list
from report import scenario_section
from scenarios import SCENARIOS

PROGRAMS = ("nginx", "wrk")
MODULES = {
    "brotli": "brotli",
    "flask_cors": "flask-cors",
    "gunicorn": "gunicorn",
    "httptools": "uvicorn[standard]",
    "starlette": "starlette",
    "uvicorn": "uvicorn[standard]",
    "uvloop": "uvicorn[standard]",
    "whitenoise": "whitenoise",
}
VERSIONS_OF = (
    *("flask", "werkzeug", "flask-cors", "gunicorn", "whitenoise"),
    *("starlette", "uvicorn", "uvloop", "httptools", "brotli"),
)


def main() -> int:
    options = _options()
    to_install = missing(PROGRAMS, MODULES)
    if to_install:
        print(to_install, file=sys.stderr)
        return 2
    chosen = [one for one in SERVERS if one.name in options.servers]
    # First of all, so that the load in them is not our own.
    facts = _facts(options, chosen)
    with temporary_folder() as folder:
        models = folder / "models"
        write_model(models / scenarios.MODEL, LARGE)
        time.sleep(SETTLED_SECONDS)
        with running(chosen, models, folder) as servers:
            results = _check_all(servers, options.scenarios, models)
            _measure_all(servers, results, options)
    print(_markdown(facts, results))
    if options.json:
        document = {"facts": facts, "results": [as_json(one) for one in results]}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if any(result.check.fault for result in results) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--json", type=Path, metavar="FILE")
    add_choice(parser, "--servers", [server.name for server in SERVERS])
    add_choice(parser, "--scenarios", [scenario.name for scenario in SCENARIOS])
    return parser.parse_args()


def _check_all(servers: list[Running], names: list[str], models: Path) -> list[Result]:
    """One empty result per scenario and server, checked and ready to be measured."""
    directory = models / scenarios.MODEL
    return [
        Result(scenario, one.server, scenarios.check(one.port, scenario, directory), [])
        for scenario in SCENARIOS
        if scenario.name in names
        for one in servers
    ]


def _measure_all(
    servers: list[Running], results: list[Result], options: argparse.Namespace
) -> None:
    """Fill in the samples: each round visits every server in every scenario."""
    processes = {one.server: one for one in servers}
    sound = [result for result in results if not result.check.fault]
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        for _, of_scenario in groupby(sound, key=lambda result: result.scenario):
            for result in rotated(list(of_scenario), number):
                result.samples.append(
                    load.measure(
                        processes[result.server],
                        result.check,
                        options.seconds,
                        options.connections,
                    )
                )


def _facts(options: argparse.Namespace, servers: list[Server]) -> dict[str, str]:
    runs_on: dict[str, list[str]] = {}
    for server in servers:
        runs_on.setdefault(server.runs_on, []).append(server.title)
    return {
        "command": shlex.join(["python", *sys.argv]),
        "method": (
            f"median of {options.rounds} interleaved rounds of {options.seconds} s; "
            f"wrk, 1 thread, {options.connections} keep-alive connections, loopback"
        ),
        **{place: ", ".join(titles) for place, titles in runs_on.items()},
        **machine.description(VERSIONS_OF, PROGRAMS),
    }


def _markdown(facts: dict[str, str], results: list[Result]) -> str:
    sections = [
        scenario_section(list(of_scenario))
        for _, of_scenario in groupby(results, key=lambda result: result.scenario)
    ]
    return "\n\n".join([markdown_list(facts), *sections])


if __name__ == "__main__":
    sys.exit(main())
