"""What TensorFlow.js predicts with a converted model, beside what Keras predicts."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import typing as t
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from clients.drivers import Client
from clients.drivers import start_node
from keras_files import Array
from keras_files import Example
from servers import Pages
from servers import serve_pages

import flask_tfjs

STATIC = Path(flask_tfjs.__file__).parent / "static"
SCRIPT = "keras-layers.js"

#: Of what Keras predicts; of one where it is smaller. Both count with float32.
TOLERANCE = 1e-5


class TFJSFailed(Exception):
    """TensorFlow.js could not load the model, or not compute with it."""


def predict(
    client: Client, url: str, inputs: Sequence[Array], *, script: str | None = None
) -> list[Array]:
    """
    :param client: with the module ``predict.mjs``.
    :param script: the URL of the script of layers.
    :raises TFJSFailed: it could not.
    """
    job: t.Any = {"url": url, "inputs": [_sent(one) for one in inputs]}
    if script is not None:
        job["script"] = script
    result: t.Any = client.run(job)
    if "error" in result:
        raise TFJSFailed(result["error"])
    return [_received(one) for one in result["outputs"]]


def _sent(array: Array) -> dict[str, t.Any]:
    dtype = {"b": "bool", "i": "int32", "u": "int32"}.get(array.dtype.kind, "float32")
    return {"shape": array.shape, "dtype": dtype, "values": array.ravel().tolist()}


def _received(output: dict[str, t.Any]) -> Array:
    values = [math.nan if one is None else one for one in output["values"]]
    return np.array(values, "float64").reshape(output["shape"])


def difference(found: Sequence[Array], expected: Sequence[Array]) -> float:
    """The largest, of one or, where Keras predicts more, of that; infinite where the
    shapes differ."""
    if [one.shape for one in found] != [one.shape for one in expected]:
        return math.inf
    return max(map(_difference, found, expected))


def _difference(found: Array, expected: Array) -> float:
    wanted = expected.astype("float64")
    apart = np.abs(found - wanted) / np.maximum(1, np.abs(wanted))
    apart[np.isnan(found) & np.isnan(wanted)] = 0
    return float(np.nan_to_num(apart, nan=math.inf).max(initial=0))


@dataclass(frozen=True)
class Clients:
    """Processes of Node: one in which the script of layers never ran, so that what is
    said to need no script is shown to need none, and one in which it did.

    :ivar directory: in which the directories of models are to be.
    """

    directory: Path
    stock: Client
    scripted: Client
    models: Pages
    static: Pages

    def predict(
        self, name: str, inputs: Sequence[Array], *, script: bool
    ) -> list[Array]:
        """:param name: of a model's directory in :attr:`directory`."""
        url = f"{self.models.origin}/{name}/model.json"
        if not script:
            return predict(self.stock, url, inputs)
        return predict(
            self.scripted, url, inputs, script=f"{self.static.origin}/{SCRIPT}"
        )

    def difference(self, name: str, example: Example, *, script: bool) -> float:
        found = self.predict(name, example.inputs, script=script)
        return difference(found, example.outputs)


@contextlib.contextmanager
def start_clients(directory: Path) -> Iterator[Clients]:
    logs = directory / "stock", directory / "scripted"
    for log in logs:
        log.mkdir()
    with (
        serve_pages(directory) as models,
        serve_pages(STATIC) as static,
        start_node(logs[0], "predict.mjs") as stock,
        start_node(logs[1], "predict.mjs") as scripted,
    ):
        yield Clients(directory, stock, scripted, models, static)


def permute(directory: Path, copy: Path) -> str | None:
    """Copy a model, and write the values of one of its weights in another order: of the
    first whose values differ enough.

    :returns: the name of the weight, if there is one.
    """
    shutil.copytree(directory, copy)
    document = json.loads((copy / "model.json").read_bytes())
    for group in document.get("weightsManifest", []):
        (path,) = group["paths"]
        values = np.frombuffer((copy / path).read_bytes(), "<f4").copy()
        start = 0
        for spec in group["weights"]:
            part = values[start : start + math.prod(spec["shape"])]
            start += part.size
            if np.ptp(part) > 0.05:
                part[:] = np.roll(part, 1)
                (copy / path).write_bytes(values.tobytes())
                return str(spec["name"])
    return None


def same_files(one: Path, other: Path) -> bool:
    """Whether two directories hold the same, byte for byte."""
    names = sorted(path.name for path in one.iterdir())
    return names == sorted(path.name for path in other.iterdir()) and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in names
    )
