"""Keras in a process of its own: makes models, saves them as both kinds of file, and
says what they predict: ``python -m zoo.save`` in the directory of tests.

A job per line of standard input, an answer per line of standard output, both JSON:

``{"model": name, "stem": path}``
    a function of ``models.py``: writes path.keras, path.h5, and path.npz with arrays
    ``input_0``, …, ``output_0``, …; answers ``{"keras": null, "h5": null}``, or why
    one of them could not be saved.
``{"expression": text, "inputs": [[shape, dtype], …], "stem": path}``
    the same of a case of ``sweep.py``.
``{"graph": description, "stem": path}``
    the same of a description as in ``graphs.py``.
``{"load": path, "examples": path}``
    what a saved model predicts: reads ``input_0``, … of the .npz and answers
    ``{"difference": number}``, the largest from its ``output_0``, …, of one in 1 or,
    where values are larger, in themselves.
``{"list": "layers"}``
    all names of layers, and the name of the class that each stands for; likewise of
    ``activations`` and functions.

``{"error": text}`` answers what did not work.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import traceback
import warnings
import zlib
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "numpy")

import keras
import numpy as np
from keras import activations
from keras import layers
from keras import ops

from . import examples
from . import graphs
from . import models

SAMPLES = 3

Job = dict[str, Any]


def adapted(layer: Any) -> Any:
    """A Normalization that has seen data when it is called."""

    def call(x: Any) -> Any:
        sizes = [examples.OPEN_SIZE if n is None else n for n in x.shape[1:]]
        generator = np.random.default_rng(0)
        layer.adapt(generator.normal(1, 2, (16, *sizes)).astype("float32"))
        return layer(x)

    return call


_NAMES = {
    "activations": activations,
    "adapted": adapted,
    "keras": keras,
    "layers": layers,
    "np": np,
    "ops": ops,
}


def expression_model(job: Job) -> Any:
    inputs = [keras.Input(tuple(shape), dtype=dtype) for shape, dtype in job["inputs"]]
    names = {**_NAMES, **dict(zip("xyz", inputs, strict=False))}
    # The expressions are those of sweep.py.
    return keras.Model(inputs, eval(job["expression"], names))


def build(job: Job) -> Any:
    if "model" in job:
        return getattr(models, job["model"])()
    if "graph" in job:
        return graphs.make(job["graph"])
    return expression_model(job)


def make(job: Job) -> dict[str, Any]:
    what = json.dumps([job.get(kind) for kind in ("model", "graph", "expression")])
    seed = zlib.crc32(what.encode())
    # Names count from one again; to look for what is unused would take the most time.
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    generator = np.random.default_rng(seed)
    model = build(job)
    examples.fill(model, generator)
    inputs = examples.draw(model, generator, SAMPLES)
    outputs = examples.predict(model, inputs)
    if "model" in job and not examples.depends(outputs):
        raise ValueError("what it returns does not depend on what it is given")
    arrays: dict[str, Any] = {f"input_{i}": one for i, one in enumerate(inputs)}
    arrays |= {f"output_{i}": one for i, one in enumerate(outputs)}
    np.savez(job["stem"] + ".npz", **arrays)
    return {kind: save(model, f"{job['stem']}.{kind}") for kind in ("keras", "h5")}


def save(model: Any, path: str) -> str | None:
    """Why it could not be saved; an older Keras cannot write every model as .h5."""
    try:
        model.save(path)
    except Exception as error:
        if os.path.exists(path):
            os.unlink(path)
        return f"{type(error).__name__}: {error}"
    return None


def load(job: Job) -> dict[str, Any]:
    model = keras.saving.load_model(job["load"], compile=False)
    with np.load(job["examples"]) as arrays:
        inputs = [arrays[f"input_{i}"] for i in range(len(model.inputs))]
        outputs = [arrays[f"output_{i}"] for i in range(len(model.outputs))]
    found = examples.predict(model, inputs)
    return {"difference": max(map(difference, found, outputs))}


def difference(found: examples.Array, expected: examples.Array) -> float:
    assert found.shape == expected.shape, (found.shape, expected.shape)
    scale = np.maximum(1, np.abs(expected.astype("float64")))
    apart = np.abs(found.astype("float64") - expected) / scale
    return float(apart.max(initial=0))


def names(job: Job) -> dict[str, str]:
    module = {"layers": layers, "activations": activations}[job["list"]]
    wanted = inspect.isclass if job["list"] == "layers" else inspect.isfunction
    return {name: one.__name__ for name, one in inspect.getmembers(module, wanted)}


def answer(job: Job) -> Any:
    functions: dict[str, Callable[[Job], Any]] = {"load": load, "list": names}
    function = next((f for kind, f in functions.items() if kind in job), make)
    try:
        return function(job)
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    # What Keras prints must not come between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
