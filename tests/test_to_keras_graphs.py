"""Generated functional models come back: layers of one class and shape in any order,
shared ones, models in models. Keras finds the weights of a layer by its place among its
like, and no weight here equals another."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from keras_files import Keras
from keras_files import start_keras
from made_models import Maker
from made_models import graph
from made_models import start_maker
from predicting import TOLERANCE

from flask_tfjs.convert.to_keras import to_keras

#: How many features every tensor has, so that each can be given to each layer.
WIDTH = 3

#: What makes a layer: a new one of its kind, each time.
LAYERS = {
    "dense": f"L.dense({{units: {WIDTH}}})",
    "normalized": "L.batchNormalization({})",
    "chain": f"""tf.sequential({{layers: [
        L.dense({{units: {WIDTH}, inputShape: [{WIDTH}]}}), L.batchNormalization({{}}),
        L.dense({{units: {WIDTH}}})]}})""",
    "model": f"""(() => {{
        const x = tf.input({{shape: [{WIDTH}]}});
        const [a, b] = [0, 1].map(() => L.dense({{units: {WIDTH}}}).apply(x));
        return tf.model({{inputs: x, outputs: L.add().apply([b, a])}});
    }})()""",
}


@dataclass(frozen=True)
class Step:
    """A layer and what it takes.

    :ivar kind: of :data:`LAYERS`, or ``add``.
    :ivar again: which of the layers before is used once more; ``None``: a new one.
    :ivar takes: indices, counted back from the last tensor.
    """

    kind: str
    again: int | None
    takes: tuple[int, int]


STEPS = st.builds(
    Step,
    st.sampled_from(["dense", "dense", *LAYERS, "add"]),
    st.none() | st.integers(0, 5),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
)


def program(inputs: int, steps: list[Step], outputs: list[int]) -> str:
    """The statements that make the model."""
    lines = [
        f"const x = Array.from({{length: {inputs}}},",
        f"    () => tf.input({{shape: [{WIDTH}]}}));",
        "const tensors = [...x], layers = [];",
        "const taken = (back) => tensors[Math.max(tensors.length - back, 0)];",
    ]
    count = 0
    for step in steps:
        first, second = step.takes
        if step.kind == "add":
            added = f"L.add().apply([taken({first}), taken({second})])"
            lines.append(f"tensors.push({added});")
            continue
        if step.again is None or not count:
            lines.append(f"layers.push({LAYERS[step.kind]});")
            count += 1
            index = count - 1
        else:
            index = step.again % count
        lines.append(f"tensors.push(layers[{index}].apply(taken({first})));")
    ends = ", ".join(f"taken({back})" for back in outputs)
    # No input is an output, none of these is so twice, and every input is used.
    lines.append(f"const y = [...new Set([{ends}])].filter((one) => !x.includes(one));")
    lines.append("y.push(L.add().apply([...x, taken(1)]));")
    return "\n".join(lines)


def shuffle(model: Any, random: Random) -> None:
    """List the layers of functional models in another order, as any writer may."""
    layers = model["config"]["layers"]
    if "input_layers" in model["config"]:
        random.shuffle(layers)
    for layer in layers:
        if "layers" in layer["config"]:
            shuffle(layer, random)


@pytest.fixture(scope="module")
def maker() -> Iterator[Maker]:
    with start_maker() as maker:
        yield maker


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keras]:
    with start_keras(tmp_path_factory.mktemp("keras")) as keras:
        yield keras


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    inputs=st.integers(1, 2),
    steps=st.lists(STEPS, min_size=2, max_size=9),
    outputs=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    random=st.randoms(use_true_random=False),
)
def test_generated_models_come_back(
    inputs: int,
    steps: list[Step],
    outputs: list[int],
    random: Random,
    maker: Maker,
    keras: Keras,
) -> None:
    made = graph(program(inputs, steps, outputs))
    with tempfile.TemporaryDirectory() as folder:
        saved = maker.make(made, Path(folder) / "model")
        entry = saved.directory / "model.json"
        document = json.loads(entry.read_bytes())
        shuffle(document["modelTopology"], random)
        entry.write_text(json.dumps(document))
        for ending in (".keras", ".h5"):
            file = Path(folder) / f"model{ending}"
            notices = to_keras(saved.directory, file)
            if any("tf_keras only" in notice for notice in notices):
                continue
            job = {"load": str(file), "examples": str(saved.examples)}
            assert keras.ask(job)["difference"] < TOLERANCE
