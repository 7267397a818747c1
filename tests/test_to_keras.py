"""The way back: what TensorFlow.js predicted with a model, Keras predicts with the file
that is made of it. Models are made, and trained, by real TensorFlow.js in Node."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clients import saving
from clients.drivers import start_node
from clients.saving import Studio
from clients.saving import bearer
from flask import Flask
from keras_files import Keras
from keras_files import examples
from keras_files import model_jobs
from keras_files import start_keras
from made_models import MASKED
from made_models import MODELS
from made_models import OPERATIONS
from made_models import SCRIPTED
from made_models import Made
from made_models import Maker
from made_models import Saved
from made_models import graph
from made_models import masked_words
from made_models import start_maker
from official import FIXTURES
from official import read_io
from predicting import TOLERANCE
from predicting import permute

from flask_tfjs import bearer_token
from flask_tfjs import create_blueprint
from flask_tfjs.convert.keras_configs import CONFIG_KEYS
from flask_tfjs.convert.keras_configs import keras_class
from flask_tfjs.convert.keras_operations import MODULES
from flask_tfjs.convert.to_keras import to_keras
from flask_tfjs.convert.to_tfjs import to_tfjs
from flask_tfjs.errors import InvalidModel
from flask_tfjs.models.directory import ModelDirectory

ALL = {
    **{f"made-{name}": made for name, made in MODELS.items()},
    **{f"masked-{name}": made for name, made in MASKED.items()},
    **{f"script-{name}": made for name, made in SCRIPTED.items()},
    **{f"operation-{name}": made for name, made in OPERATIONS.items()},
}

ENDINGS = (".keras", ".h5")

#: What the notice of a file says that Keras 3 cannot read, or reads otherwise.
FOR_TF_KERAS = "tf_keras only"

Make = Callable[[str], Saved]


@pytest.fixture(autouse=True)
def no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of these many files has to outlive one."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("back")


@pytest.fixture(scope="module")
def maker() -> Iterator[Maker]:
    with start_maker() as maker:
        yield maker


@pytest.fixture(scope="module")
def keras(folder: Path) -> Iterator[Keras]:
    with start_keras(folder) as keras:
        yield keras


@pytest.fixture(scope="module")
def make(maker: Maker, folder: Path) -> Make:
    """Makes the model of a name in :data:`ALL`, once."""
    known: dict[str, Saved] = {}

    def make(name: str) -> Saved:
        if name not in known:
            known[name] = maker.make(ALL[name], folder / name)
        return known[name]

    return make


def difference(keras: Keras, file: Path, examples: Path) -> float:
    """The largest between what Keras predicts and what the examples say."""
    answer = keras.ask({"load": str(file), "examples": str(examples)})
    return float(answer["difference"])


def is_for_tf_keras(notices: list[str]) -> bool:
    return any(FOR_TF_KERAS in notice for notice in notices)


@pytest.mark.parametrize("name", ALL)
def test_predictions_come_back(
    name: str, make: Make, keras: Keras, folder: Path
) -> None:
    made, saved = ALL[name], make(name)
    for ending in ENDINGS:
        file = folder / f"{name}{ending}"
        if made.only not in (None, ending):
            with pytest.raises(InvalidModel):
                to_keras(saved.directory, file)
            continue
        notices = to_keras(saved.directory, file)
        assert any("optimizer" in notice for notice in notices) == made.trained
        if is_for_tf_keras(notices):
            assert ending == ".h5"
        else:
            assert difference(keras, file, saved.examples) < TOLERANCE, ending


def classes(document: Any) -> Iterator[str]:
    """All classes in a JSON."""
    if isinstance(document, list):
        for item in document:
            yield from classes(item)
    if isinstance(document, dict):
        if isinstance(document.get("class_name"), str):
            yield document["class_name"]
        for value in document.values():
            yield from classes(value)


def test_every_rule_has_such_a_model(make: Make) -> None:
    used = set()
    for name in ALL:
        text = (make(name).directory / "model.json").read_text()
        used |= {keras_class(one) for one in classes(json.loads(text))}
    assert not set(CONFIG_KEYS) - used
    # What others are made of, and what stands for layers.
    parts = {"copy", "gelu", "repeat", "square", "squareplus", "triu"}
    tried = {name.partition("-")[0] for name in OPERATIONS}
    assert not set(MODULES) - parts - tried


@pytest.mark.parametrize(
    "name",
    ["mlp", "cnn", "nested-functional", "shared", "bidirectional", "cells", "branches"],
)
@pytest.mark.parametrize("ending", ENDINGS)
def test_another_weight_is_noticed(
    name: str, ending: str, make: Make, keras: Keras, tmp_path: Path
) -> None:
    saved = make(f"made-{name}")
    permute(saved.directory, tmp_path / "permuted")
    file = tmp_path / f"model{ending}"
    notices = to_keras(tmp_path / "permuted", file)
    if not is_for_tf_keras(notices):
        assert difference(keras, file, saved.examples) > 100 * TOLERANCE


def test_jax_predicts_the_same(make: Make, folder: Path, tmp_path: Path) -> None:
    """Where Keras trains and serves, it computes with other libraries than NumPy."""
    with start_keras(tmp_path, backend="jax") as keras:
        for name in ("mobile", "words", "bidirectional", "nested-functional", "cells"):
            file = tmp_path / f"{name}.keras"
            saved = make(f"made-{name}")
            to_keras(saved.directory, file)
            assert difference(keras, file, saved.examples) < TOLERANCE, name


# Notices


@pytest.mark.parametrize(
    ("name", "ending", "reason"),
    [
        ("made-nested", ".h5", "model in the model"),
        ("made-states", ".h5", "initial states"),
        ("made-lstm-as-made", ".h5", "hardSigmoid"),
        ("made-thresholded", ".h5", "ThresholdedReLU"),
        ("made-layer-norm", ".h5", "LayerNormalization of several axes"),
        ("script-unit-axes", ".h5", "UnitNormalization of several axes"),
        ("made-odd-names", ".keras", "block-1/size is block-1_size_1"),
    ],
)
def test_what_a_person_should_know(
    name: str, ending: str, reason: str, make: Make, tmp_path: Path
) -> None:
    notices = to_keras(make(name).directory, tmp_path / f"model{ending}")
    assert sum(reason in notice for notice in notices) == 1


def test_a_regularizer_of_the_page(make: Make, tmp_path: Path) -> None:
    document = json.loads((make("made-mlp").directory / "model.json").read_bytes())
    layers = document["modelTopology"]["config"]["layers"]
    layers[0]["config"]["kernel_regularizer"] = {"class_name": "Mine", "config": {}}
    del document["trainingConfig"]
    for group in document["weightsManifest"]:
        group["weights"] = [one for one in group["weights"] if "group" not in one]
    data = (make("made-mlp").directory / "model.weights.bin").read_bytes()
    (tmp_path / "model.weights.bin").write_bytes(data)
    (tmp_path / "model.json").write_text(json.dumps(document))
    (notice,) = to_keras(tmp_path, tmp_path / "model.keras")
    assert notice.startswith(f"{layers[0]['config']['name']}: kernel_regularizer is")


# Masks


def first_sample(saved: Saved, examples: Path) -> Path:
    """The examples of the one sample that has nothing masked."""
    with np.load(saved.examples) as arrays:
        np.savez(examples, **{name: array[:1] for name, array in arrays.items()})
    return examples


@pytest.mark.parametrize("ending", ENDINGS)
def test_masked_steps_of_both_ways(
    ending: str, maker: Maker, keras: Keras, tmp_path: Path
) -> None:
    """Keras makes zeros of them, and says what nobody should read."""
    layer = "L.simpleRNN({units: 3, returnSequences: true})"
    made = masked_words(f"bidirectional({{layer: {layer}}})", "dense({units: 2})")
    saved = maker.make(made, tmp_path / "model")
    file = tmp_path / f"model{ending}"
    (notice,) = to_keras(saved.directory, file)
    assert "masked" in notice and "zeros" in notice
    assert difference(keras, file, saved.examples) > 100 * TOLERANCE
    unmasked = first_sample(saved, tmp_path / "first.npz")
    assert difference(keras, file, unmasked) < TOLERANCE


_RNN = "simpleRNN({units: 3})"
_STEPS = "simpleRNN({units: 3, returnSequences: true})"
_WORDS = "L.embedding({inputDim: 10, outputDim: 4, maskZero: true})"

#: Where TensorFlow.js and Keras would compute with different masks.
MASKS_APART: list[tuple[str, Made, str]] = [
    (
        "kept-for-a-decoder",
        masked_words(_RNN, "repeatVector({n: 6})", _STEPS),
        "keeps it for layers that have none",
    ),
    (
        "kept-for-another-branch",
        graph(
            f"""const x = [tf.input({{shape: [6]}}), tf.input({{shape: [6, 2]}})];
            const a = L.{_RNN}.apply({_WORDS}.apply(x[0]));
            const y = L.concatenate().apply([L.{_RNN}.apply(x[1]), a]);""",
        ),
        "keeps it for layers that have none",
    ),
    (
        "zeros-are-read",
        masked_words(
            f"bidirectional({{layer: L.{_STEPS}}})",
            "conv1d({filters: 2, kernelSize: 2})",
        ),
        "takes steps that are masked",
    ),
    (
        "into-a-model",
        graph(
            f"""const inner = tf.sequential({{layers: [
                L.simpleRNN({{units: 3, inputShape: [6, 4]}})]}});
            const x = tf.input({{shape: [6]}});
            const y = inner.apply({_WORDS}.apply(x));""",
        ),
        "goes into this model",
    ),
    (
        "out-of-a-model",
        graph(
            f"""const i = tf.input({{shape: [6]}});
            const inner = tf.model({{inputs: i, outputs: {_WORDS}.apply(i)}});
            const x = tf.input({{shape: [6]}});
            const y = L.{_RNN}.apply(inner.apply(x));""",
        ),
        "comes out of it",
    ),
]


@pytest.mark.parametrize(
    ("made", "reason"),
    [case[1:] for case in MASKS_APART],
    ids=[case[0] for case in MASKS_APART],
)
def test_masks_that_differ_are_refused(
    made: Made, reason: str, maker: Maker, tmp_path: Path
) -> None:
    directory = tmp_path / "model"
    saved = maker.make(Made(made.expression, kind="numbers"), directory)
    for ending in ENDINGS:
        with pytest.raises(InvalidModel, match=reason):
            to_keras(saved.directory, tmp_path / f"model{ending}")


def test_a_mask_that_keras_would_use(maker: Maker, tmp_path: Path) -> None:
    """TensorFlow.js averages over all steps, masked or not; so does Keras 3 then."""
    made = masked_words("globalAveragePooling1d({})")
    saved = maker.make(made, tmp_path / "model")
    with pytest.raises(InvalidModel, match=r"maskZero: false.*\.keras"):
        to_keras(saved.directory, tmp_path / "model.h5")


# The loop: from Keras to the browser, trained there, and back

#: Models of Keras that people train on in browsers; some need the script of layers.
RETRAINED = (
    "mlp",
    "multi_io",
    "resnet",
    "mobilenetv2",
    "autoenc",
    "group_normalized",
    "nested",
    "shared",
    "lstm",
    "bilstm_masked",
    "gru_masked",
    "seq2seq",
    "transformer_decoder",
    "timedist",
)


@pytest.mark.parametrize("name", RETRAINED)
def test_retrained_in_the_browser(
    name: str, maker: Maker, keras: Keras, tmp_path: Path
) -> None:
    original = examples(model_jobs([name]))[name]
    converted = to_tfjs(original.file("keras"), tmp_path / "tfjs")
    saved = maker.retrain(
        tmp_path / "tfjs", tmp_path / "trained", script=converted.needs_script
    )
    file = tmp_path / "model.keras"
    to_keras(saved.directory, file)
    assert difference(keras, file, saved.examples) < TOLERANCE
    # It was trained.
    before = original.stem.with_suffix(".npz")
    assert difference(keras, file, before) > 100 * TOLERANCE


SECRET = "s3cret"


def test_saved_to_the_app(keras: Keras, tmp_path: Path) -> None:
    """What a page sends, the app publishes, and Keras trains on."""
    app = Flask(__name__, instance_path=str(tmp_path / "instance"))
    app.register_blueprint(
        create_blueprint(
            store=tmp_path / "store",
            uploads="*",
            authorize_publish=bearer_token(SECRET),
        )
    )
    with saving.running(app) as site, start_node(tmp_path, saving.MODULE) as node:
        studio = Studio(node)
        studio.make("dense")
        studio.fit(optimizer="adam")
        studio.save(
            f"{site.url}/models/mine",
            requestInit=bearer(SECRET),
            config={"includeOptimizer": True},
        )
        (predicted,) = studio.look().prediction or []
    (notice,) = to_keras(tmp_path / "store/mine", tmp_path / "model.keras")
    assert "optimizer" in notice
    inputs = (np.sin(np.arange(8)) / 2).astype("float32").reshape(2, 4)
    outputs = np.array(predicted, "float32").reshape(2, -1)
    np.savez(tmp_path / "examples.npz", input_0=inputs, output_0=outputs)
    found = difference(keras, tmp_path / "model.keras", tmp_path / "examples.npz")
    assert found < TOLERANCE


@pytest.mark.parametrize(
    "case", ["arithmetic-keras", "bilstm-keras", "gru2-h5", "nested2-h5", "resnet-h5"]
)
def test_made_by_the_official_converter(
    case: str, keras: Keras, tmp_path: Path
) -> None:
    """Mended as for a browser, directories that none can load come back, too."""
    entry = ModelDirectory(case, str(FIXTURES / case)).examine("model.json")
    io = read_io(case, entry.document)
    arrays = {f"input_{i}": one for i, one in enumerate(io.inputs)}
    arrays |= {f"output_{i}": one for i, one in enumerate(io.outputs)}
    np.savez(tmp_path / "examples.npz", **arrays)
    to_keras(FIXTURES / case, tmp_path / "model.keras")
    found = difference(keras, tmp_path / "model.keras", tmp_path / "examples.npz")
    assert found < TOLERANCE
