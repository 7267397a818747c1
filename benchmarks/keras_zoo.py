"""Convert all models of the tests, and compare predictions. See README.md."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import keras_docs
from common import missing
from common import temporary_folder
from report import markdown_table

TESTS = Path(__file__).resolve().parents[1] / "tests"
TFJS = TESTS / "clients/node_modules/@tensorflow/tfjs"
MODULES = {name: name for name in ("h5py", "jax", "keras", "numpy", "pytest", "scipy")}
if not missing((), MODULES):
    sys.path.append(str(TESTS))
    import keras_files
    import outcomes
    import predicting


def main() -> int:
    lack = missing(("node",), MODULES) or _missing_clients()
    if lack:
        print(lack, file=sys.stderr)
        return 1
    arguments = _arguments()
    runs = [Run(f"Keras {_version()} on {b}", backend=b) for b in arguments.backends]
    # Thousands of files, none of which has to outlive a power cut.
    os.fsync = lambda fd: None
    with temporary_folder() as folder:
        for version in arguments.older:
            runs.append(Run(f"Keras {version}", version=_install(version, folder)))
        for run in runs:
            run.go(folder)
    print(_table(runs))
    for run in runs:
        for fault in run.faults:
            print(f"{run.title}: {fault}", file=sys.stderr)
    if arguments.keep:
        outcomes.record({"models": runs[0].models, "sweep": runs[0].sweep})
        keras_docs.write()
    return 1 if any(run.faults for run in runs) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--backends",
        nargs="+",
        default=["numpy"],
        metavar="BACKEND",
        help="of Keras; numpy and jax are here, and jax takes half an hour",
    )
    parser.add_argument(
        "--older",
        nargs="*",
        default=[],
        metavar="VERSION",
        help="other versions of Keras, such as 3.3.3, to be installed for the run",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="write what became of each into tests/zoo/outcomes.json, and the tables "
        "of it into docs/keras.md",
    )
    return parser.parse_args()


def _missing_clients() -> str | None:
    return None if TFJS.is_dir() else "missing: Node.js, or in tests/clients: npm ci"


def _version() -> str:
    command = "import importlib.metadata; print(importlib.metadata.version('keras'))"
    done = subprocess.run(
        [sys.executable, "-c", command], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def _install(version: str, folder: Path) -> Path:
    """Another version of Keras; what it needs itself is there."""
    target = folder / f"keras-{version}"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), f"keras=={version}"], check=True)
    return target


@dataclass
class Run:
    """All models and cases, as one version of Keras on one backend saves them.

    :ivar faults: what is neither right nor refused.
    :ivar largest: the largest difference from what Keras predicts.
    :ivar seconds: to convert, all files together.
    """

    title: str
    version: Path | None = None
    backend: str = "numpy"
    models: dict[str, outcomes.Outcomes] = field(default_factory=dict)
    sweep: dict[str, outcomes.Outcomes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    largest: float = 0
    seconds: float = 0

    def go(self, folder: Path) -> None:
        for found, jobs in (
            (self.models, keras_files.model_jobs()),
            (self.sweep, keras_files.sweep_jobs()),
        ):
            place = folder / str(time.monotonic_ns())
            place.mkdir()
            made, failed = keras_files.examples_and_failures(
                jobs, version=self.version, backend=self.backend
            )
            if self.version is None:
                self.faults += [f"{name}: {why}" for name, why in failed.items()]
            with predicting.start_clients(place) as clients:
                for name, example in made.items():
                    found[name] = self._one(name, example, clients)

    def _one(
        self, name: str, example: keras_files.Example, clients: predicting.Clients
    ) -> outcomes.Outcomes:
        begun = time.perf_counter()
        try:
            done = outcomes.convert_all(example, clients)
            self.seconds += time.perf_counter() - begun
            for kind, apart in outcomes.differences(example, done, clients).items():
                if apart > outcomes.tolerance(name):
                    self.faults.append(f"{name} ({kind}): differs by {apart:.1e}")
                elif outcomes.tolerance(name) == predicting.TOLERANCE:
                    self.largest = max(self.largest, apart)
        except Exception as error:  # whatever it is, it is a fault
            self.faults.append(f"{name}: {type(error).__name__}: {error}")
            return {}
        return done


def _table(runs: list[Run]) -> str:
    rows = []
    for run in runs:
        for title, found in (("models", run.models), ("sweep", run.sweep)):
            for kind in keras_files.KINDS:
                rows.append([f"{run.title}, {title}, .{kind}", *_cells(found, kind)])
        rows.append([f"largest difference {run.largest:.0e}, {run.seconds:.0f} s"])
    head = ["files", "stock layers", "with the script", "refused", "not saved by Keras"]
    return markdown_table(head, [[*row, *[""] * (5 - len(row))] for row in rows])


def _cells(found: Mapping[str, outcomes.Outcomes], kind: str) -> list[str]:
    count = Counter(files[kind][0] for files in found.values() if kind in files)
    return [str(count[one]) for one in ("stock", "script", "refused", "unsaved")]


if __name__ == "__main__":
    sys.exit(main())
