"""What converting takes: memory for the largest weight and not for all of them, and
about a second for a model as large as ResNet50."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from made_keras import Arrays
from made_keras import layer
from made_keras import write_h5
from made_keras import write_keras
from servers import TESTS

MOST = 150_000_000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# The command, and what the process had taken when it ended.
COMMAND = """
import json, os, sys, time
from flask.cli import main
from resident import peak

sys.argv = ["flask", "tfjs", "convert", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    print(json.dumps([ended.code or 0, peak(os.getpid()), time.process_time()]))
"""


class Taken(t.NamedTuple):
    """:ivar seconds: of a processor."""

    code: int
    memory: int
    seconds: float


def convert(source: Path, destination: Path) -> Taken:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(source), str(destination)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    taken = Taken(*json.loads(done.stdout.splitlines()[-1]))
    megabytes = source.stat().st_size / 1e6
    print(
        f"{source.name} of {megabytes:.1f} MB: {taken.memory / 1e6:.0f} MB of memory, "
        f"{taken.seconds:.2f} s"
    )
    return taken


def convolutions(count: int) -> dict[str, t.Any]:
    first = {"batch_shape": [None, 8, 8, 512], "dtype": "float32", "name": "first"}
    how = {"filters": 512, "kernel_size": [3, 3], "strides": [1, 1], "padding": "same"}
    layers = [layer("Conv2D", f"conv2d_{i}", **how) for i in range(count)]
    head = {"class_name": "InputLayer", "config": first}
    config = {"name": "large", "layers": [head, *layers]}
    return {"class_name": "Sequential", "config": config}


def weights(names: list[str]) -> Mapping[str, Arrays]:
    kernel = np.random.default_rng(0).normal(size=(3, 3, 512, 512)).astype("float32")
    return {name: {"kernel": kernel, "bias": kernel[0, 0, 0]} for name in names}


def write_large(path: Path) -> None:
    """Eleven layers of 9.4 MB."""
    names = [f"conv2d_{i}" for i in range(11)]
    if path.suffix == ".h5":
        write_h5(path, convolutions(11), weights(names))
        return
    names[0] = "conv2d"
    deflated = path.stem == "deflated"
    compression = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    write_keras(path, convolutions(11), weights(names), compression=compression)


@pytest.mark.parametrize("name", ["large.h5", "large.keras", "deflated.keras"])
def test_a_model_as_large_as_resnet50(tmp_path: Path, name: str) -> None:
    write_large(tmp_path / name)
    taken = convert(tmp_path / name, tmp_path / "new")
    total = sum(path.stat().st_size for path in (tmp_path / "new").glob("*.bin"))
    assert taken.code == 0
    assert total == 11 * 4 * (3 * 3 * 512 * 512 + 512) > 103e6
    assert taken.memory < MOST


@pytest.mark.parametrize("name", ["small.h5", "small.keras"])
def test_a_small_model(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (write_h5 if path.suffix == ".h5" else write_keras)(path)
    taken = convert(path, tmp_path / "new")
    assert taken.code == 0
    assert taken.memory < MOST
    assert taken.seconds < 3
