"""Models of Keras as people make them, converted and loaded by TensorFlow.js: they
predict what Keras predicts."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import outcomes
import pytest
from clients.drivers import Chromium
from clients.drivers import start_browser
from clients.drivers import start_node
from keras_files import KINDS
from keras_files import Example
from keras_files import Kind
from keras_files import examples
from keras_files import model_jobs
from keras_files import model_names
from keras_files import older_keras
from predicting import TOLERANCE
from predicting import Clients
from predicting import TFJSFailed
from predicting import difference
from predicting import permute
from predicting import predict
from predicting import same_files
from predicting import start_clients
from reference import CLIENTS
from servers import TESTS
from servers import serve
from servers import serve_pages

from flask_tfjs.convert.to_tfjs import to_tfjs
from flask_tfjs.errors import InvalidModel
from flask_tfjs.format.topology import keras_layers
from flask_tfjs.keras.rewriting import Options
from flask_tfjs.keras.script import PATH

RECORDED = outcomes.recorded()["models"]
CONVERTED = [
    name for name in RECORDED if outcomes.is_converted(RECORDED[name]["keras"])
]


@pytest.fixture(scope="module")
def zoo() -> dict[str, Example]:
    return examples(model_jobs())


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    with start_clients(tmp_path_factory.mktemp("zoo")) as clients:
        yield clients


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of files, none of which has to outlive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


def converted(example: Example, kind: Kind, clients: Clients) -> tuple[str, bool]:
    """The name of a new directory that *clients* can load, and whether it needs the
    script."""
    name = tempfile.mkdtemp(dir=clients.directory)
    done = to_tfjs(example.file(kind), name)
    return Path(name).name, done.needs_script


def apart(example: Example, kind: Kind, clients: Clients) -> float:
    """How far what TensorFlow.js predicts is from what Keras does."""
    directory, script = converted(example, kind, clients)
    return clients.difference(directory, example, script=script)


@pytest.mark.parametrize("name", model_names())
def test_it_predicts_what_keras_predicts(
    zoo: dict[str, Example], clients: Clients, name: str
) -> None:
    example, allowed = zoo[name], outcomes.tolerance(name)
    found = outcomes.convert_all(example, clients)
    assert found == RECORDED[name]
    for apart in outcomes.differences(example, found, clients).values():
        assert apart <= allowed


def test_every_model_is_recorded_once() -> None:
    assert sorted(RECORDED) == sorted(model_names())


def test_code_alone_is_refused() -> None:
    refused = {
        name: found["keras"][1].partition(":")[0]
        for name, found in RECORDED.items()
        if found["keras"][0] == "refused"
    }
    assert refused == {"custom": "scale", "lambdas": "twice"}


@pytest.mark.parametrize("name", CONVERTED)
def test_a_permuted_weight_is_noticed(
    zoo: dict[str, Example], clients: Clients, name: str
) -> None:
    directory, script = converted(zoo[name], "keras", clients)
    copy = clients.directory / f"{directory}-permuted"
    assert permute(clients.directory / directory, copy) is not None
    noticed = clients.difference(copy.name, zoo[name], script=script)
    assert noticed > 10 * outcomes.tolerance(name)


@pytest.mark.parametrize("name", CONVERTED)
def test_the_same_file_gives_the_same_bytes(
    zoo: dict[str, Example], tmp_path: Path, name: str
) -> None:
    source = zoo[name].file("keras")
    to_tfjs(source, tmp_path / "once")
    to_tfjs(source, tmp_path / "again")
    assert same_files(tmp_path / "once", tmp_path / "again")


@pytest.mark.parametrize("name", CONVERTED)
def test_stock_layers_alone(zoo: dict[str, Example], tmp_path: Path, name: str) -> None:
    """They convert, to the same, unless the page would need the script."""
    source, options = zoo[name].file("keras"), Options(stock_layers=True)
    if outcomes.needs_script(RECORDED[name]["keras"]):
        with pytest.raises(InvalidModel):
            to_tfjs(source, tmp_path / "stock", options=options)
        return
    to_tfjs(source, tmp_path / "stock", options=options)
    to_tfjs(source, tmp_path / "other")
    assert same_files(tmp_path / "stock", tmp_path / "other")


def test_without_the_script_it_fails_aloud(
    zoo: dict[str, Example], clients: Clients
) -> None:
    directory, script = converted(zoo["gru"], "keras", clients)
    assert script
    with pytest.raises(TFJSFailed, match="Unknown layer: KerasGRU"):
        clients.difference(directory, zoo["gru"], script=False)


# Options


def classes_of(directory: Path) -> set[str]:
    document = json.loads((directory / "model.json").read_bytes())
    return {layer["class_name"] for layer in keras_layers(document)}


def test_frozen_normalizations_are_folded(
    zoo: dict[str, Example], clients: Clients
) -> None:
    destination = clients.directory / "folded"
    example = zoo["transfer_preproc"]
    to_tfjs(example.file("keras"), destination, options=Options(fold_frozen_bn=True))
    assert "BatchNormalization" not in classes_of(destination)
    assert clients.difference("folded", example, script=False) <= TOLERANCE


CUSTOM_CLASS = """
class Scale extends tf.layers.Layer {
  static className = 'Scale';
  build(shape) {
    const ones = tf.initializers.ones();
    this.factor = this.addWeight('%s', [shape.at(-1)], 'float32', ones);
    this.built = true;
  }
  call(inputs) {
    return tf.tidy(() => tf.mul([inputs].flat()[0], this.factor.read()));
  }
}
tf.serialization.registerClass(Scale);
"""


@pytest.mark.parametrize(("kind", "weight"), [("h5", "factor"), ("keras", "0")])
def test_a_layer_of_the_page(
    zoo: dict[str, Example], tmp_path: Path, kind: Kind, weight: str
) -> None:
    """A .keras file does not say the names of its weights."""
    source, options = zoo["custom"].file(kind), Options(custom=frozenset({"Scale"}))
    to_tfjs(source, tmp_path / "model", options=options)
    (tmp_path / "scale.js").write_text(CUSTOM_CLASS % weight)
    with serve_pages(tmp_path) as pages, start_node(tmp_path, "predict.mjs") as node:
        found = predict(
            node,
            f"{pages.origin}/model/model.json",
            zoo["custom"].inputs,
            script=f"{pages.origin}/scale.js",
        )
    assert difference(found, zoo["custom"].outputs) <= TOLERANCE


# Other versions of Keras, and what of it computes


OLDER = [
    *("bilstm_masked", "cnn_aug", "convs", "factorization_machine", "gru_masked"),
    *("keras_ops", "layernorm", "lstm", "mlp", "multi_io_dict", "nested", "resnet"),
    *("normalization", "rawops", "seq2seq", "shared", "signal_unet", "slicing"),
    *("transfer", "transformer", "transformer_decoder", "transformer_masked"),
]

#: What that version of Keras could not save.
OLDER_UNSAVED = {("cnn_aug", "h5"), ("transfer", "h5")}


@pytest.fixture(scope="module")
def older() -> dict[str, Example]:
    return examples(model_jobs(OLDER), version=older_keras())


@pytest.mark.parametrize(
    ("name", "kind"),
    [(n, k) for n in OLDER for k in KINDS if (n, k) not in OLDER_UNSAVED],
)
def test_an_older_keras(
    older: dict[str, Example], clients: Clients, name: str, kind: Kind
) -> None:
    assert apart(older[name], kind, clients) <= TOLERANCE


JAX = ["cnn", "mlp"]


@pytest.fixture(scope="module")
def made_by_jax() -> dict[str, Example]:
    return examples(model_jobs(JAX), backend="jax")


@pytest.mark.parametrize("name", JAX)
def test_keras_on_jax(
    made_by_jax: dict[str, Example], clients: Clients, name: str
) -> None:
    assert apart(made_by_jax[name], "keras", clients) <= TOLERANCE


# Keras 2: files that it saved, for it needs TensorFlow


KERAS_2 = TESTS / "fixtures/keras2"
KERAS_2_REFUSED = {"custom"}
KERAS_2_CONVERTED = sorted(
    {path.parent.name for path in KERAS_2.glob("*/model.npz")} - KERAS_2_REFUSED
)


def of_keras_2(name: str) -> Example:
    return Example(name, KERAS_2 / name / "model")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", KERAS_2_CONVERTED)
def test_keras_2(clients: Clients, name: str, kind: Kind) -> None:
    assert apart(of_keras_2(name), kind, clients) <= TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", KERAS_2_REFUSED)
def test_code_of_keras_2(tmp_path: Path, name: str, kind: Kind) -> None:
    with pytest.raises(InvalidModel) as refused:
        to_tfjs(of_keras_2(name).file(kind), tmp_path / "model")
    assert refused.value.where == "scale"


# In a browser, from a server of ours


BROWSED = [
    *("autoenc", "bilstm_masked", "convs", "gru", "mobilenetv2", "multi_io"),
    *("keras_ops", "transformer_decoder", "unet"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with start_browser() as browser:
        yield browser


def test_in_a_browser(zoo: dict[str, Example], browser: Any, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    script = {
        name: to_tfjs(zoo[name].file("keras"), models / name).needs_script
        for name in BROWSED
    }
    config = {"TFJS_MODELS": str(models)}
    found = {}
    with serve_pages(CLIENTS) as pages, serve("gunicorn", tmp_path, config) as server:
        page = Chromium(browser, pages.origin, "predict.html")
        # First those that must do without the script, which stays once it ran.
        for name in sorted(BROWSED, key=lambda name: script[name]):
            outputs = predict(
                page,
                f"{server.url}/models/{name}",
                zoo[name].inputs,
                script=f"{server.url}/models/{PATH}" if script[name] else None,
            )
            found[name] = difference(outputs, zoo[name].outputs)
    assert {name: one for name, one in found.items() if one > TOLERANCE} == {}
