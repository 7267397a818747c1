"""The directories that the official converter made (fixtures/official), and which of
them can be mended on the way out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FIXTURES = Path(__file__).parent / "fixtures" / "official"

CASES = sorted(path.parent.name for path in FIXTURES.glob("*/io.json"))

#: By the model, the layer that cannot be had on the way out.
REFUSED = {"cnn2": "conv2d", "custom": "twice", "scripted": "squared"}

#: Models whose page must run the script of layers.
SCRIPTED = frozenset("bilinear2 gru gru2 layernorm".split())

#: What TensorFlow.js loads as it is, and rightly.
UNTOUCHED = frozenset({"plain2-h5"})


def model_of(case: str) -> str:
    return case.rpartition("-")[0]


LOADED = [case for case in CASES if model_of(case) not in REFUSED]
MENDED = [case for case in LOADED if case not in UNTOUCHED]


def document_of(case: str) -> Any:
    return json.loads((FIXTURES / case / "model.json").read_bytes())


@dataclass(frozen=True)
class IO:
    """Inputs and what Keras predicts, in the order of TensorFlow.js."""

    inputs: list[Any]
    outputs: list[Any]


def read_io(case: str, served: Any) -> IO:
    """:param served: the JSON as it is served, which has an order of its own."""
    told = json.loads((FIXTURES / case / "io.json").read_text("utf-8"))
    model = served["modelTopology"]["model_config"]["config"]
    inputs = [_array(one) for one in told["x"]]
    outputs = [_array(one) for one in told["y"]]
    if len(inputs) > 1:
        by_name = dict(zip(told["in_names"], inputs, strict=True))
        inputs = [by_name[name] for name, *_ in model["input_layers"]]
    if told["out_names"]:
        by_name = dict(zip(told["out_names"], outputs, strict=True))
        outputs = [by_name[name] for name, *_ in model["output_layers"]]
    return IO(inputs, outputs)


def _array(told: Any) -> Any:
    return np.array(told["data"], told.get("dtype", "float32")).reshape(told["shape"])
