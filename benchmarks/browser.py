"""Load models in Chromium from several servers, over simulated networks. See
README.md.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import browser_docs
import machine
import visits
from browser_contenders import CONTENDERS
from browser_contenders import SCRIPT
from browser_contenders import Place
from browser_contenders import serving
from browser_report import CACHES
from browser_report import COLD
from browser_report import Results
from browser_report import Sample
from browser_report import tables
from common import add_choice
from common import missing
from common import rotated
from common import temporary_folder
from networks import NETWORKS
from networks import Network
from real_models import MODELS
from real_models import PUBLISHED
from real_models import Cut
from real_models import write_cut
from report import markdown_list
from visits import Visit
from visits import WrongLoad

if TYPE_CHECKING:
    from playwright.sync_api import Playwright

MODULES = {
    "brotli": "brotli",
    "flask_cors": "flask-cors",
    "gunicorn": "gunicorn",
    "matplotlib": "matplotlib",
    "playwright": "playwright",
    "whitenoise": "whitenoise",
    "zstandard": "zstandard",
}
VERSIONS_OF = (
    *("flask", "werkzeug", "flask-cors", "gunicorn", "whitenoise"),
    *("brotli", "zstandard"),
)


def main() -> int:
    options = _options()
    to_install = _missing()
    if to_install:
        print(to_install, file=sys.stderr)
        return 2
    # First of all, so that the load in it is not our own.
    about = machine.description(VERSIONS_OF, ["nginx"])
    contenders = [one for one in CONTENDERS if one.name in options.contenders]
    networks = [one for one in NETWORKS if one.name in options.networks]
    with temporary_folder() as folder:
        cuts = [
            write_cut(model, folder / "models" / model.name)
            for model in MODELS
            if model.name in options.models
        ]
        results = Results(cuts, networks, contenders, [])
        with serving(contenders, cuts, folder) as places:
            faults, browser = _measure_all(places, results, options.rounds)
    facts = {**_facts(options, results), "browser": f"{browser}, {_tfjs()}", **about}
    _publish(facts, results, faults, options)
    return 1 if faults else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument(
        "--docs", action="store_true", help="write the tables and the plot into docs"
    )
    add_choice(parser, "--contenders", [one.name for one in CONTENDERS])
    add_choice(parser, "--networks", [one.name for one in NETWORKS])
    add_choice(parser, "--models", [one.name for one in MODELS])
    return parser.parse_args()


def _missing() -> str | None:
    if visits.chromium() is None:
        return "missing: sudo apt-get install chromium"
    if not (SCRIPT.is_file() and PUBLISHED.is_dir()):
        return "missing: cd tests/clients && npm ci"
    return missing(["nginx"], MODULES)


def _measure_all(
    places: list[Place], results: Results, rounds: int
) -> tuple[list[str], str]:
    """Fill in the samples: each round visits everything once. Returns what went wrong,
    and the version of the browser.
    """
    from playwright.sync_api import sync_playwright

    faults = []
    with sync_playwright() as playwright:
        for number, network, cut, place in _order(places, results, rounds):
            about = (number, cut, network, place.contender)
            try:
                for cache, visit in _visits(playwright, place, cut, network):
                    results.samples.append(Sample(*about, cache, visit))
            except WrongLoad as fault:
                title = place.contender.title
                faults.append(f"{title}, {cut.model}, {network.title}: {fault}")
        return faults, visits.version(playwright)


def _order(
    places: list[Place], results: Results, rounds: int
) -> Iterator[tuple[int, Network, Cut, Place]]:
    for number in range(rounds):
        for network in results.networks:
            print(f"round {number + 1} of {rounds}, {network.title}", file=sys.stderr)
            for cut in results.cuts:
                for place in rotated(places, number):
                    yield number, network, cut, place


def _visits(
    playwright: Playwright, place: Place, cut: Cut, network: Network
) -> Iterator[tuple[str, Visit]]:
    """The first and the second visit with a new profile."""
    url = place.url(cut)
    with visits.new_profile(playwright) as profile:
        for cache in CACHES:
            visit = visits.visit(
                profile, url, place.models_origin, network, cut.digests
            )
            if cache == COLD and visit.cached:
                raise WrongLoad(f"{visit.cached} answers of an empty cache")
            yield cache, visit


def _facts(options: argparse.Namespace, results: Results) -> dict[str, str]:
    return {
        "command": _command(options),
        "method": (
            f"median of {options.rounds} interleaved rounds, a new profile in each; "
            f"{results.spread():.0%} at most between the rounds of a time"
        ),
        **{network.title: network.describe() for network in results.networks},
    }


def _tfjs() -> str:
    package = json.loads((SCRIPT.parents[1] / "package.json").read_bytes())
    return f"TensorFlow.js {package['version']}"


def _command(options: argparse.Namespace) -> str:
    """What to type for such tables, without the names of files."""
    command = ["python", "benchmarks/browser.py", "--rounds", str(options.rounds)]
    for name, all_of_them in (
        ("contenders", CONTENDERS),
        ("networks", NETWORKS),
        ("models", MODELS),
    ):
        chosen = getattr(options, name)
        if len(chosen) < len(all_of_them):
            command += [f"--{name}", *chosen]
    return shlex.join(command)


def _publish(
    facts: dict[str, str],
    results: Results,
    faults: list[str],
    options: argparse.Namespace,
) -> None:
    markdown = f"{tables(results)}\n\n{markdown_list(facts)}"
    print(markdown)
    for fault in faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    if options.json:
        samples = [sample.as_json() for sample in results.samples]
        document = {"facts": facts, "faults": faults, "samples": samples}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    if options.docs and not faults:
        browser_docs.write(markdown, results)


if __name__ == "__main__":
    sys.exit(main())
