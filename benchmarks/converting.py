"""Convert Keras models of some size there and back, by the command. See README.md."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import machine
from common import add_choice
from common import missing
from common import temporary_folder
from report import markdown_list
from report import markdown_table

MODULES = {"h5py": "h5py", "jax": "jax", "keras": "keras", "numpy": "numpy"}
MODULES |= {"scipy": "scipy"}

# What Keras makes of its own applications, weights at random, in a process of its own.
MAKE = """
import sys
import keras
_, name, path = sys.argv
getattr(keras.applications, name)(weights=None).save(path)
"""
MODELS = ("MobileNetV2", "EfficientNetB0", "ResNet50")

HEADER = ["model", "MB of weights", "from", "to", "seconds", "of CPU", "MB of memory"]


@dataclass(frozen=True)
class Run:
    """One run of the command: seconds, and bytes that were resident at most."""

    seconds: float
    cpu_seconds: float
    peak: int


def main() -> int:
    options = _options()
    to_install = missing((), MODULES)
    if to_install:
        print(to_install, file=sys.stderr)
        return 2
    with temporary_folder() as folder:
        rows = [
            row
            for name in options.models
            for row in _rows(name, folder, options.rounds)
        ]
    facts = {
        "command": shlex.join(["python", *sys.argv]),
        "method": f"median of {options.rounds} runs of `flask tfjs convert`, each a "
        "process of its own; MB are 1,000,000 bytes",
        **machine.description(["keras", "numpy", "h5py"]),
    }
    print(f"{markdown_table(HEADER, rows)}\n\n{markdown_list(facts)}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    add_choice(parser, "--models", list(MODELS))
    return parser.parse_args()


def _rows(name: str, folder: Path, rounds: int) -> list[list[str]]:
    print(name, file=sys.stderr)
    directory = folder / name
    rows = []
    for ending in (".keras", ".h5"):
        saved = folder / f"{name}{ending}"
        _make(name, saved)
        rows.append([ending, "directory", *_figures(saved, directory, rounds)])
    rows.append(
        ["directory", ".keras", *_figures(directory, folder / f"{name}-back.keras", 1)]
    )
    size = sum(path.stat().st_size for path in directory.glob("*.bin"))
    return [[name, f"{size / 1e6:.1f}", *row] for row in rows]


def _make(name: str, path: Path) -> None:
    environment = {**os.environ, "KERAS_BACKEND": "numpy", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", MAKE, name, str(path)]
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)


def _figures(source: Path, destination: Path, rounds: int) -> list[str]:
    command = [sys.executable, "-m", "flask", "tfjs", "convert", "--force"]
    runs = [_run([*command, str(source), str(destination)]) for _ in range(rounds)]
    return [
        f"{median(run.seconds for run in runs):.2f}",
        f"{median(run.cpu_seconds for run in runs):.2f}",
        f"{median(run.peak for run in runs) / 1e6:,.0f}",
    ]


def _run(command: Sequence[str]) -> Run:
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    # Linux counts in kB.
    return Run(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


if __name__ == "__main__":
    sys.exit(main())
