"""Measure the start of an application with 1,000 models. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import machine
from made_model import SETTLED_SECONDS
from made_model import SMALL
from made_model import write_model
from report import markdown_list
from report import markdown_table

HERE = Path(__file__).resolve().parent
MODELS = 1000

CASES = {
    "none": "Flask without the blueprint",
    "empty": "the blueprint, no models",
    "mapping": f"a mapping of {MODELS:,} directories",
    "folder": f"one folder of {MODELS:,} directories",
}

Figures = dict[str, float]


def main() -> int:
    options = _options()
    facts = {
        "command": shlex.join(["python", *sys.argv]),
        "method": f"median of {options.rounds} interleaved fresh processes, warm disk",
        **machine.description(("flask", "werkzeug")),
    }
    with tempfile.TemporaryDirectory(prefix="flask-tfjs-benchmark-") as name:
        folder = Path(name)
        models = folder / "models"
        for number in range(MODELS):
            write_model(models / f"model-{number}", SMALL, seed=number)
        time.sleep(SETTLED_SECONDS)
        rounds = _measure(folder, models, options.rounds)
    print(f"{markdown_list(facts)}\n\n{_table(rounds)}")
    if options.json:
        document = {"facts": facts, "rounds": rounds}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def _measure(folder: Path, models: Path, rounds: int) -> dict[str, list[Figures]]:
    figures: dict[str, list[Figures]] = {case: [] for case in CASES}
    # Round 0 fills the bytecode and page caches and is thrown away.
    for number in range(rounds + 1):
        for case, taken in figures.items():
            # An instance folder per process: nothing is remembered between them.
            instance = folder / f"instance-{case}-{number}"
            taken.append(_start(case, models, instance, folder / "bytecode"))
    return {case: taken[1:] for case, taken in figures.items()}


def _start(case: str, models: Path, instance: Path, bytecode: Path) -> Figures:
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE.parent),
        "PYTHONPYCACHEPREFIX": str(bytecode),
        # Empty is unset: an imported module is compiled once, as where it is installed.
        "PYTHONDONTWRITEBYTECODE": "",
    }
    script = HERE / "start_one.py"
    command = [sys.executable, str(script), case, str(models), str(instance)]
    done = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    figures: Figures = json.loads(done.stdout)
    return figures


def _table(rounds: dict[str, list[Figures]]) -> str:
    names = list(rounds["none"][0])
    rows = [
        [CASES[case], *(f"{median(one[name] for one in taken):.1f}" for name in names)]
        for case, taken in rounds.items()
    ]
    return markdown_table(["application", *names], rows)


if __name__ == "__main__":
    sys.exit(main())
