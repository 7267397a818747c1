"""Quantize real models, and compare what they predict. See README.md."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
from common import add_choice
from common import missing
from common import temporary_folder
from real_models import NODE_MODULES
from real_models import PUBLISHED
from report import markdown_list
from report import markdown_table

MODULES = {"h5py": "h5py", "numpy": "numpy"}
if not missing((), MODULES):
    import numpy as np

    from flask_tfjs.convert.quantize import Quantization
    from flask_tfjs.convert.quantize import quantize

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs/quantizing.md"
BEGIN, END = "<!-- quantizing.py: begin -->", "<!-- quantizing.py: end -->"

MODELS = ("emotion", "liveness", "posenet", "faceres-deep", "blazeface-back")
CODINGS = ("float16", "uint16", "uint8")
IMAGES = 3


@dataclass(frozen=True)
class Row:
    """A model in a coding.

    :ivar weight_error: the largest, of the largest value of that weight.
    :ivar output_error: the largest of all images, of the largest value of that output.
    """

    model: str
    coding: str
    before: int
    after: int
    weight_error: float
    output_error: float

    def cells(self) -> list[str]:
        return [
            self.model,
            f"{self.before / 1e6:.2f}",
            self.coding,
            f"{self.after / 1e6:.2f}",
            _percent(self.weight_error),
            _percent(self.output_error),
        ]


HEADER = ["model", "MB", "as", "MB", "largest change of a weight"]
HEADER += ["largest change of an output"]


def main() -> int:
    options = _options()
    to_install = missing((), MODULES) or _missing_clients()
    if to_install:
        print(to_install, file=sys.stderr)
        return 2
    with temporary_folder() as folder, _node(folder) as node:
        rows = [row for name in options.models for row in _measure(name, folder, node)]
    table = markdown_table(HEADER, [row.cells() for row in rows])
    markdown = f"{table}\n\n{markdown_list(_facts())}"
    print(markdown)
    if options.docs:
        _write(markdown)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_choice(parser, "--models", list(MODELS))
    parser.add_argument("--docs", action="store_true", help="write into the docs")
    return parser.parse_args()


def _missing_clients() -> str | None:
    if shutil.which("node") and NODE_MODULES.is_dir():
        return None
    return "missing: Node.js, or in tests/clients: npm ci"


def _facts() -> dict[str, str]:
    command = [one for one in sys.argv if one != "--docs"]
    description = machine.description(["numpy"], ["node"])
    package = NODE_MODULES / "@tensorflow/tfjs/package.json"
    tfjs = json.loads(package.read_text())["version"]
    return {
        "command": shlex.join(["python", *command]),
        "method": f"{IMAGES} images of noise; each output beside its own largest value",
        "versions": f"TensorFlow.js {tfjs}, {description['versions']}",
    }


class _Node:
    """A process of TensorFlow.js; outputs.mjs says what it is asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def outputs(self, directory: Path, seed: int) -> list[Any]:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"path": str(directory), "seed": seed}) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        return [np.array(one["values"]) for one in answer]


@contextlib.contextmanager
def _node(folder: Path) -> Iterator[_Node]:
    loader = NODE_MODULES.parent / "load.mjs"
    with (
        (folder / "node.log").open("w") as log,
        subprocess.Popen(
            ["node", str(loader), (HERE / "outputs.mjs").as_uri()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        # The end of its standard input ends it.
        yield _Node(process)


def _measure(name: str, folder: Path, node: _Node) -> Iterator[Row]:
    source = folder / name
    source.mkdir()
    shutil.copy(PUBLISHED / f"{name}.json", source / "model.json")
    shutil.copy(PUBLISHED / f"{name}.bin", source)
    expected = [node.outputs(source, seed) for seed in range(1, IMAGES + 1)]
    for coding in CODINGS:
        print(name, coding, file=sys.stderr)
        directory = folder / f"{name}-{coding}"
        done = quantize(source, directory, coding)
        found = [node.outputs(directory, seed) for seed in range(1, IMAGES + 1)]
        yield Row(
            name,
            coding,
            sum(done.before.values()),
            sum(done.after.values()),
            _weight_error(done, coding),
            max(map(_output_error, found, expected)),
        )


def _weight_error(done: Quantization, coding: str) -> float:
    largest = done.errors[coding]
    return largest.error / largest.largest


def _output_error(found: list[Any], expected: list[Any]) -> float:
    return max(
        float(np.abs(one - other).max() / np.abs(other).max())
        for one, other in zip(found, expected, strict=True)
    )


def _percent(share: float) -> str:
    if share == 0:
        return "0"
    return f"{share:.2%}" if share < 0.1 else f"{share:.0%}"


def _write(markdown: str) -> None:
    parts = re.split(
        f"({re.escape(BEGIN)}|{re.escape(END)})", PAGE.read_text(encoding="utf-8")
    )
    if parts[1::2] != [BEGIN, END]:
        raise ValueError(f"{PAGE.name} needs {BEGIN} and {END}, once each")
    parts[2] = f"\n\n{markdown}\n\n"
    PAGE.write_text("".join(parts), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
