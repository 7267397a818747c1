"""The files that the way back writes, and what it refuses to write: models as text, so
that they can be what no client saves. What Keras computes with such files:
test_to_keras.py."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from models import write_model
from servers import TESTS

from flask_tfjs.convert.keras_configs import CONFIG_KEYS
from flask_tfjs.convert.keras_parts import parts_of
from flask_tfjs.convert.keras_source import open_source
from flask_tfjs.convert.quantize import quantize
from flask_tfjs.convert.to_keras import to_keras
from flask_tfjs.errors import InvalidModel
from flask_tfjs.errors import TFJSError
from flask_tfjs.models.delivery import BeingWritten

KERAS_2 = TESTS / "fixtures/keras2"

ENDINGS = (".keras", ".h5")

Layer = dict[str, Any]
Weights = Mapping[str, Any]


def layer(class_name: str, name: str, **config: Any) -> Layer:
    return {"class_name": class_name, "config": {"name": name, **config}}


def dense(name: str = "dense", **config: Any) -> Layer:
    return layer("Dense", name, **{"units": 2, **config})


def first(one: Layer, *shape: int | None) -> Layer:
    """The same layer as the first of a Sequential that was built in JavaScript."""
    config = {**one["config"], "batch_input_shape": [None, *shape]}
    return {**one, "config": config}


def sequential(*layers: Layer) -> Layer:
    return {"class_name": "Sequential", "config": {"name": "s", "layers": [*layers]}}


DENSE: dict[str, Any] = {
    "dense/kernel": np.arange(6, dtype="<f4").reshape(3, 2),
    "dense/bias": np.array([0.5, -0.25], "<f4"),
}


def specs_of(weights: Weights) -> list[dict[str, Any]]:
    return [
        {"name": name, "shape": list(array.shape), "dtype": array.dtype.name}
        for name, array in weights.items()
    ]


def bytes_of(weights: Weights) -> bytes:
    return b"".join(array.tobytes() for array in weights.values())


def write(directory: Path, topology: Any, weights: Weights | None = None) -> Path:
    """A layers model of one shard."""
    weights = DENSE if weights is None else weights
    document = {
        "format": "layers-model",
        "modelTopology": topology,
        "weightsManifest": [{"paths": ["w.bin"], "weights": specs_of(weights)}],
    }
    return write_model(
        directory, document=document, shards={"w.bin": bytes_of(weights)}
    )


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write(tmp_path / "plain", sequential(first(dense(), 3)))


def arrays(file: Path) -> dict[str, Any]:
    """All that a file of Keras holds, by the path within it."""
    if file.suffix == ".keras":
        with zipfile.ZipFile(file) as archive:
            opened: Any = io.BytesIO(archive.read("model.weights.h5"))
    else:
        opened = file
    found: dict[str, Any] = {}

    def add(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            found[name] = node[...]

    with h5py.File(opened) as store:
        store.visititems(add)
    return found


def assert_equal(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name, strict=True)


# What is written


def test_keras_3(plain: Path, tmp_path: Path) -> None:
    to_keras(plain, tmp_path / "model.keras")
    expected = dict(zip(["0", "1"], DENSE.values(), strict=True))
    expected = {f"layers/dense/vars/{i}": array for i, array in expected.items()}
    assert_equal(arrays(tmp_path / "model.keras"), expected)
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {0}
        config = json.loads(archive.read("config.json"))
    assert [one["class_name"] for one in config["config"]["layers"]] == [
        *("InputLayer", "Dense")
    ]


def names(group: Any, key: str) -> list[str]:
    return [
        name.decode() if isinstance(name, bytes) else name for name in group.attrs[key]
    ]


def keras_2_directory(case: str, directory: Path) -> Path:
    """A file that Keras 2 saved, as the official converter would write it."""
    weights = {}
    with h5py.File(KERAS_2 / case / "model.h5") as file:
        topology = json.loads(file.attrs["model_config"])
        group = file["model_weights"]
        for name in names(group, "layer_names"):
            for weight in names(group[name], "weight_names"):
                weights[weight.removesuffix(":0")] = group[name][weight][...]
    return write(directory, topology, weights)


def structure(file: Path) -> dict[str, Any]:
    """The groups of an HDF5 file, with the names that they list."""
    found: dict[str, Any] = {}

    def add(path: str, node: Any) -> None:
        if isinstance(node, h5py.Group):
            keys = [key for key in node.attrs if key.endswith("_names")]
            found[path] = {key: names(node, key) for key in keys}

    with h5py.File(file) as store:
        store["model_weights"].visititems(add)
    return found


def config_of(file: Path) -> Any:
    with h5py.File(file) as store:
        return json.loads(store.attrs["model_config"])


def assert_says(config: Any, original: Any, path: str = "") -> None:
    """What *config* says, *original* says, too; where that says more, Keras has the
    same by itself."""
    if isinstance(config, dict):
        assert set(config) <= set(original), path
        for key in config:
            assert_says(config[key], original[key], f"{path}/{key}")
    elif isinstance(config, list):
        assert len(config) == len(original), path
        for index, (one, other) in enumerate(zip(config, original, strict=True)):
            assert_says(one, other, f"{path}/{index}")
    elif path.endswith("/axis") and isinstance(original, list):
        assert [config] == original, path
    else:
        assert config == original, path


@pytest.mark.parametrize(
    "case",
    ["convs", "gru", "layernorm", "lstm", "mlp", "nested", "resnet", "timedist"],
)
def test_keras_2_as_keras_2_writes_it(case: str, tmp_path: Path) -> None:
    """The same weights under the same names in the same order, the same graph."""
    directory = keras_2_directory(case, tmp_path / "model")
    file, original = tmp_path / "model.h5", KERAS_2 / case / "model.h5"
    to_keras(directory, file)
    assert structure(file) == structure(original)
    saved = {
        k: v for k, v in arrays(original).items() if k.startswith("model_weights/")
    }
    assert_equal(arrays(file), saved)
    assert_says(config_of(file), config_of(original))


def test_many_names_are_listed_in_parts(tmp_path: Path) -> None:
    """HDF5 has no attributes of more than 64 kB."""
    count = 350
    layers = [dense(f"layer_{'x' * 200}_{i}", units=1) for i in range(count)]
    weights = {
        f"{one['config']['name']}/{slot}": np.full(shape, i, "<f4")
        for i, one in enumerate(layers)
        for slot, shape in (("kernel", (1, 1)), ("bias", (1,)))
    }
    layers[0] = first(layers[0], 1)
    directory = write(tmp_path / "model", sequential(*layers), weights)
    to_keras(directory, tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5") as store:
        group = store["model_weights"]
        keys = [key for key in group.attrs if key.startswith("layer_names")]
        assert "layer_names" not in keys and len(keys) > 1
        listed = [n for i in range(len(keys)) for n in names(group, f"layer_names{i}")]
    assert listed == [one["config"]["name"] for one in layers]


@pytest.mark.parametrize("ending", ENDINGS)
def test_equal_models_make_equal_files(
    ending: str, plain: Path, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        to_keras(plain, tmp_path / f"{name}{ending}")
    one, other = (tmp_path / f"{name}{ending}" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


# What is read


@pytest.mark.parametrize("coding", ["float16", "uint8", "uint16"])
def test_quantized_weights(coding: Any, tmp_path: Path) -> None:
    kernel = np.linspace(-3, 7, 300 * 4, dtype="<f4").reshape(300, 4)
    weights = {"dense/kernel": kernel, "dense/bias": np.zeros(4, "<f4")}
    model = write(tmp_path / "f", sequential(first(dense(units=4), 300)), weights)
    quantize(model, tmp_path / "q", coding)
    to_keras(tmp_path / "q", tmp_path / "q.keras")
    found = arrays(tmp_path / "q.keras")["layers/dense/vars/0"]
    assert found.dtype == np.float32
    assert 0 < np.abs(found - kernel).max() < (0.03 if coding == "uint8" else 0.003)


def test_shards_groups_and_the_optimizer(tmp_path: Path) -> None:
    """As browsers save it: the state of the optimizer among the weights."""
    state = struct.pack("<i", 7) + DENSE["dense/kernel"].tobytes()
    data = DENSE["dense/kernel"].tobytes() + state
    kernel, bias = specs_of(DENSE)
    iterations = {"name": "iter", "shape": [], "dtype": "int32", "group": "optimizer"}
    moment = {**kernel, "name": "dense/kernel/m", "group": "optimizer"}
    document = {
        "modelTopology": sequential(first(dense(), 3)),
        "weightsManifest": [
            {"paths": ["a", "b"], "weights": [kernel, iterations, moment]},
            {"paths": ["c"], "weights": [bias]},
        ],
        "trainingConfig": {"loss": "meanSquaredError"},
    }
    shards = {"a": data[:10], "b": data[10:], "c": DENSE["dense/bias"].tobytes()}
    model = write_model(tmp_path / "model", document=document, shards=shards)
    (notice,) = to_keras(model, tmp_path / "model.keras")
    assert "compile=False" in notice
    found = list(arrays(tmp_path / "model.keras").values())
    for array, expected in zip(found, DENSE.values(), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_names_with_the_cell(tmp_path: Path) -> None:
    """As TensorFlow 2.2 and later name the weights of recurrent layers."""
    weights = {
        "lstm/lstm_cell_3/kernel": np.zeros((2, 12), "<f4"),
        "lstm/lstm_cell_3/recurrent_kernel": np.ones((3, 12), "<f4"),
        "lstm/lstm_cell_3/bias": np.full(12, 2, "<f4"),
    }
    lstm = layer("LSTM", "lstm", units=3, recurrent_activation="sigmoid")
    model = write(tmp_path / "model", sequential(first(lstm, 4, 2)), weights)
    to_keras(model, tmp_path / "model.keras")
    found = arrays(tmp_path / "model.keras")
    assert [array.flat[0] for array in found.values()] == [0, 1, 2]
    assert set(found) == {f"layers/lstm/cell/vars/{i}" for i in range(3)}


def test_a_json_file_of_any_name(plain: Path, tmp_path: Path) -> None:
    (plain / "model.json").rename(plain / "other.json")
    for source in (plain, plain / "other.json"):
        to_keras(source, tmp_path / "model.keras", force=True)


def test_layers_that_no_output_needs(tmp_path: Path) -> None:
    """Keras does not count them when it looks for weights."""

    def node(name: str) -> Any:
        return [[[name, 0, 0, {}]]]

    def called(one: Layer, *names: str) -> Layer:
        nodes = [[[name, 0, 0, {}]] for name in names]
        return {**one, "name": one["config"]["name"], "inbound_nodes": nodes}

    layers = [
        called(layer("InputLayer", "x", batch_input_shape=[None, 3])),
        called(dense("aside"), "x"),
        # Called twice, of which the second counts; and listed before what it takes.
        called(dense("dense"), "aside", "middle"),
        called(dense("middle", units=3), "x"),
    ]
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [["dense", 1, 0]]}
    config = {"name": "m", "layers": layers, **ends}
    weights = {
        **DENSE,
        "middle/kernel": np.ones((3, 3), "<f4"),
        "middle/bias": np.ones(3, "<f4"),
        "aside/kernel": np.ones((3, 2), "<f4"),
        "aside/bias": np.ones(2, "<f4"),
    }
    topology = {"class_name": "Model", "config": config}
    with pytest.raises(InvalidModel, match="aside/kernel.*no layer"):
        to_keras(write(tmp_path / "a", topology, weights), tmp_path / "a.h5")
    del weights["aside/kernel"], weights["aside/bias"]
    to_keras(write(tmp_path / "b", topology, weights), tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as store:
        assert names(store["model_weights"], "layer_names") == ["x", "middle", "dense"]
    written = config_of(tmp_path / "b.h5")["config"]
    assert written["output_layers"] == [["dense", 0, 0]]
    (called_once,) = [one for one in written["layers"] if one["name"] == "dense"]
    assert called_once["inbound_nodes"] == node("middle")


# Files


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_is_replaced_by_force_only(
    ending: str, plain: Path, tmp_path: Path
) -> None:
    file = tmp_path / f"model{ending}"
    file.write_text("precious")
    with pytest.raises(TFJSError, match="--force"):
        to_keras(plain, file)
    assert file.read_text() == "precious"
    to_keras(plain, file, force=True)
    assert arrays(file)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_refusal_leaves_nothing(ending: str, tmp_path: Path) -> None:
    model = write(tmp_path / "model", sequential(first(layer("Own", "own"), 3)), {})
    (tmp_path / "out").mkdir()
    file = tmp_path / f"out/model{ending}"
    with pytest.raises(InvalidModel):
        to_keras(model, file)
    assert not list(file.parent.iterdir())
    file.write_text("precious")
    with pytest.raises(InvalidModel):
        to_keras(model, file, force=True)
    assert file.read_text() == "precious"


@pytest.mark.parametrize("name", ["model", "model.hdf5", "model.json", "model.tf"])
def test_other_endings(name: str, plain: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"\.keras.*\.h5") as refusal:
        to_keras(plain, tmp_path / name)
    assert refusal.value.where == str(tmp_path / name)


def test_a_model_that_is_written_to(plain: Path) -> None:
    with pytest.raises(BeingWritten), open_source(plain) as found:
        assert found.weights
        (plain / "w.bin").write_bytes(bytes(32))


# Refusals


def refusal(
    tmp_path: Path,
    topology: Any,
    ending: str = ".keras",
    weights: Weights | None = None,
) -> InvalidModel:
    model = write(tmp_path / "model", topology, weights or {})
    with pytest.raises(InvalidModel) as refused:
        to_keras(model, tmp_path / f"model{ending}")
    return refused.value


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"modelTopology": {"node": []}, "weightsManifest": []}, "graph model"),
        ([{"paths": [], "weights": []}], "weights without a model"),
    ],
)
def test_other_models(document: Any, reason: str, tmp_path: Path) -> None:
    write_model(tmp_path / "model", document=document, shards={})
    with pytest.raises(InvalidModel, match=reason) as refused:
        to_keras(tmp_path / "model", tmp_path / "model.keras")
    assert refused.value.where == "model.json"


def test_none_or_several_models(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidModel, match="no JSON file"):
        to_keras(tmp_path / "empty", tmp_path / "model.keras")
    for name in ("one.json", "other.json"):
        (plain / name).write_bytes((plain / "model.json").read_bytes())
    (plain / "model.json").unlink()
    with pytest.raises(InvalidModel, match="one.json, other.json"):
        to_keras(plain, tmp_path / "model.keras")
    with pytest.raises(InvalidModel, match="not a directory"):
        to_keras(plain / "w.bin", tmp_path / "model.keras")


LSTM = layer("LSTM", "odd", units=3, recurrent_activation="hard_sigmoid")
IMAGE = (6, 6, 3)

#: A layer, the shape of its input, the endings, and what the refusal says.
LAYERS: list[tuple[Layer, Sequence[int], Sequence[str], str]] = [
    (LSTM, (4, 3), [".keras"], "recurrentActivation: 'sigmoid'.*\\.h5"),
    (layer("GRU", "odd", units=3), (4, 3), [".keras"], "recurrentActivation"),
    (
        dense("odd", activation="hard_sigmoid"),
        (3,),
        [".keras"],
        "activation: 'sigmoid'",
    ),
    (dense("odd", activation="gelu_new"), (3,), ENDINGS, "'gelu'"),
    (dense("odd", activation="mine"), (3,), ENDINGS, "'mine'"),
    (layer("Mine", "odd"), (3,), ENDINGS, "Mine is no layer of Keras"),
    (
        layer("UpSampling2D", "odd", size=[2, 2], interpolation="bilinear"),
        IMAGE,
        ENDINGS,
        "KerasUpSampling2D",
    ),
    (
        layer(
            "SeparableConv2D",
            "odd",
            filters=2,
            kernel_size=[2, 2],
            data_format="channels_first",
        ),
        IMAGE,
        ENDINGS,
        "channelsLast",
    ),
    (layer("Resizing", "odd", height=2, width=2), IMAGE, ENDINGS, "in the page"),
    (layer("CenterCrop", "odd", height=2, width=2), IMAGE, ENDINGS, "Cropping2D"),
    (layer("CategoryEncoding", "odd", num_tokens=2), (3,), ENDINGS, "tf.oneHot"),
    (layer("RandomWidth", "odd", factor=0.1), IMAGE, ENDINGS, "leave it out"),
    (layer("KerasRMSNormalization", "odd"), (3,), [".h5"], "\\.keras"),
    (layer("KerasCausalMask", "odd"), (3, 3), [".h5"], "\\.keras"),
    (
        layer("KerasOperation", "odd", operation="exp", options={}),
        (3,),
        [".h5"],
        "\\.keras",
    ),
    (
        layer("KerasOperation", "odd", operation="unheard_of", options={}),
        (3,),
        [".keras"],
        "'unheard_of'",
    ),
    (
        layer(
            "TimeDistributed",
            "odd",
            layer=sequential(first(dense(), 3)),
        ),
        (4, 3),
        ENDINGS,
        "wrap each",
    ),
    (layer("Dense", "odd"), (3,), ENDINGS, "units"),
    (layer("Reshape", "odd", target_shape=5), (3,), ENDINGS, "config"),
    (layer("RNN", "odd"), (4, 3), ENDINGS, "config"),
]


@pytest.mark.parametrize(
    ("odd", "shape", "endings", "reason"),
    LAYERS,
    ids=[f"{one['class_name']}-{i}" for i, (one, *_) in enumerate(LAYERS)],
)
def test_layers_without_an_equal(
    odd: Layer,
    shape: Sequence[int],
    endings: Sequence[str],
    reason: str,
    tmp_path: Path,
) -> None:
    for ending in endings:
        fault = refusal(tmp_path, sequential(first(odd, *shape)), ending)
        assert "odd" in fault.where or fault.where == "s"
        with pytest.raises(InvalidModel, match=reason):
            raise fault


def test_all_layers_are_told_at_once(tmp_path: Path) -> None:
    topology = sequential(
        first(layer("Mine", "a"), 3), LSTM, layer("Mine", "b"), layer("Yours", "c")
    )
    told = str(refusal(tmp_path, topology))
    assert told.startswith("a, b: Mine is no layer")
    assert "; odd: recurrentActivation" in told
    assert "; c: Yours is no layer" in told


WITHOUT_BIAS = {"dense/kernel": DENSE["dense/kernel"]}


@pytest.mark.parametrize(
    ("weights", "where", "reason"),
    [
        (WITHOUT_BIAS, "dense", "dense/bias is not among"),
        ({**DENSE, "other/kernel": DENSE["dense/bias"]}, "other/kernel", "no layer"),
        (
            {**DENSE, "dense/bias": np.zeros(3, "<f4")},
            "dense",
            r"dense/bias has the shape \[3\], and must have \[2\]",
        ),
        (
            {**DENSE, "dense/kernel": np.zeros((4, 2), "<f4")},
            "dense",
            r"dense/kernel has the shape \[4, 2\], and must have \[3, 2\]",
        ),
        ({**DENSE, "dense/bias": np.zeros(2, "<i4")}, "dense", "int32"),
        ({**DENSE, "dense/cell/bias": np.zeros(2, "<f4")}, "dense/cell/bias", "no "),
    ],
)
def test_weights_that_do_not_fit(
    weights: Weights, where: str, reason: str, tmp_path: Path
) -> None:
    for ending in ENDINGS:
        topology = sequential(first(dense(), 3))
        fault = refusal(tmp_path, topology, ending, weights)
        assert fault.where == where
        with pytest.raises(InvalidModel, match=reason):
            raise fault


def test_two_layers_of_one_name(tmp_path: Path) -> None:
    inner = sequential(first(dense(), 3))
    topology = sequential(inner, dense())
    fault = refusal(tmp_path, topology, weights=DENSE)
    assert "two weights of the model are called dense/kernel" in fault.message


def test_an_input_without_a_shape(tmp_path: Path) -> None:
    assert refusal(tmp_path, sequential(dense())).where == "dense"
    topology = sequential(layer("InputLayer", "x"), dense())
    assert refusal(tmp_path, topology, weights=DENSE).where == "x"


def test_a_graph_that_turns_round(tmp_path: Path) -> None:
    def called(name: str, by: str) -> Layer:
        return {**dense(name), "name": name, "inbound_nodes": [[[by, 0, 0, {}]]]}

    config = {
        "name": "m",
        "layers": [called("a", "b"), called("b", "a")],
        "input_layers": [["a", 0, 0]],
        "output_layers": [["b", 0, 0]],
    }
    fault = refusal(tmp_path, {"class_name": "Model", "config": config})
    assert fault.where in "ab"


# Rules


def test_every_class_has_slots() -> None:
    """What is in the whitelist has weights that are known, or none."""
    from flask_tfjs.keras.graph import Layer as GraphLayer

    inner = layer("LSTM", "inner", units=2)
    cell = layer("LSTMCell", "cell", units=2)
    config = {
        "name": "x",
        **{"units": 2, "filters": 2, "kernel_size": [2, 2, 2], "input_dim": 2},
        **{"output_dim": 2, "layer": inner, "cell": cell, "cells": [cell]},
    }
    for class_name in CONFIG_KEYS:
        for part in parts_of(GraphLayer(class_name, "x", config)):
            assert part.slots is not None
