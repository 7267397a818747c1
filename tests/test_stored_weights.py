"""Which weight of a file goes where, and what is said of files whose weights and
configuration do not fit each other."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import os
import re
import typing as t
import zipfile
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pytest
from filesystem import time_limit
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from made_keras import BIAS
from made_keras import DENSE
from made_keras import KERNEL
from made_keras import Arrays
from made_keras import dense
from made_keras import layer
from made_keras import sequential
from made_keras import write_h5
from made_keras import write_keras
from publishing import without_waiting
from servers import TESTS

from flask_tfjs.convert.arrays import values_of
from flask_tfjs.convert.keras_file import open_model
from flask_tfjs.convert.to_tfjs import to_tfjs
from flask_tfjs.errors import InvalidModel
from flask_tfjs.keras.rewriting import Options

KERAS_2 = TESTS / "fixtures" / "keras2"

Weights = Mapping[str, Arrays]


def attached(path: Path) -> dict[str, list[float]]:
    """The first values of each weight, by layer and slot."""
    with time_limit(), open_model(str(path)) as graph:
        return {
            f"{layer.name}/{slot}": values_of(weight).ravel()[:2].tolist()
            for layer in graph.walk()
            for slot, weight in layer.weights.items()
        }


def numbered(*shapes: tuple[int, ...]) -> Iterator[t.Any]:
    """Arrays of these shapes, each of one number: 1, 2, …"""
    for number, shape in enumerate(shapes, start=1):
        yield np.full(shape, number, "float32")


def of_one(number: int, shape: tuple[int, ...] = (3,)) -> list[float]:
    return [float(number)] * min(2, math.prod(shape))


BATCH_NORMALIZATION = layer("BatchNormalization", "norm", axis=[1], momentum=0.9)
SIX = [(3,)] * 6


# Where weights are found


def test_by_name(tmp_path: Path) -> None:
    """In .h5 the names tell, whatever the order."""
    mean, beta, variance, gamma = numbered(*SIX[:4])
    weights = {
        "norm": {
            **{"moving_mean:0": mean, "beta:0": beta},
            **{"moving_variance:0": variance, "gamma:0": gamma},
        }
    }
    path = write_h5(tmp_path / "m.h5", sequential(BATCH_NORMALIZATION), weights)
    assert attached(path) == {
        "norm/gamma": of_one(4),
        "norm/beta": of_one(2),
        "norm/moving_mean": of_one(1),
        "norm/moving_variance": of_one(3),
    }


def test_by_number(tmp_path: Path) -> None:
    """In .keras the numbers tell, ten after nine."""
    arrays = list(numbered(*[(5,)] * 12))
    document = sequential(layer("Mine", "mine"))
    weights = {"mine": {str(i): array for i, array in enumerate(arrays)}}
    path = write_keras(tmp_path / "m.keras", document, weights)
    assert attached(path) == {f"mine/{i}": of_one(i + 1) for i in range(12)}


def test_what_is_no_weight_is_left_out(tmp_path: Path) -> None:
    """Other members in the place of weights, and states beside them."""

    def beside(file: t.Any) -> None:
        for name in ("2x", "²", "-1", "9" * 5000, "words"):
            file[f"layers/dense/vars/{name}"] = 1
        file.create_group("layers/dense/vars/7")
        file["layers/dense/seed_generator/vars/0"] = 1
        file["optimizer/vars/0"] = 1

    path = write_keras(tmp_path / "m.keras", change=beside)
    assert attached(path) == {"dense/kernel": [0, 1], "dense/bias": BIAS.tolist()}
    states = {"seed_generator/seed_generator_state": BIAS, "seed_generator_state": BIAS}
    document = sequential(layer("Dropout", "drop", rate=0.5))
    assert not attached(write_h5(tmp_path / "m.h5", document, {"drop": states}))
    mean, variance = numbered(*SIX[:2])
    document = sequential(layer("Normalization", "n", axis=[-1]))
    counted = {"mean": mean, "variance": variance, "count": np.int64(9)}
    expected = {"n/mean": of_one(1), "n/variance": of_one(2)}
    path = write_h5(tmp_path / "m.h5", document, {"n": counted})
    assert attached(path) == expected
    path = write_keras(tmp_path / "m.keras", document, {"normalization": counted})
    assert attached(path) == expected


@pytest.mark.parametrize(
    "box", ["layers", "_layer_checkpoint_dependencies", "_self_tracked_trackables"]
)
def test_boxes_of_all_versions(tmp_path: Path, box: str) -> None:
    def rename(file: t.Any) -> None:
        if box != "layers":
            file.move("layers", box)

    path = write_keras(tmp_path / "m.keras", change=rename)
    assert attached(path)["dense/bias"] == BIAS.tolist()


def test_layers_of_one_class_are_counted(tmp_path: Path) -> None:
    """By their order, whatever they are called."""
    names = ["dense_2", "dense", "z", "a"]
    kernels = list(numbered(*[(3, 3)] * 4))
    document = sequential(
        *(layer("Dense", n, units=3, use_bias=False) for n in names[:2]),
        layer("ReLU", "dense_1"),
        *(layer("Dense", n, units=3, use_bias=False) for n in names[2:]),
    )
    places = ["dense", "dense_1", "dense_2", "dense_3"]
    weights = {p: {"kernel": k} for p, k in zip(places, kernels, strict=True)}
    path = write_keras(tmp_path / "m.keras", document, weights)
    assert attached(path) == {
        f"{name}/kernel": of_one(i) for i, name in enumerate(names, start=1)
    }


def test_a_model_in_a_model(tmp_path: Path) -> None:
    """In .h5 all of its weights are one list."""
    inner = dense()
    inner["config"]["name"] = "inner"
    inner["name"] = "inner"
    weights = {"inner": {"dense/kernel": KERNEL, "dense/bias": BIAS}}
    path = write_h5(tmp_path / "m.h5", sequential(inner), weights)
    expected = {"dense/kernel": [0, 1], "dense/bias": BIAS.tolist()}
    assert attached(path) == expected
    # Keras 2 leaves out the names of models within a model within a model.
    middle = sequential(inner)
    middle["config"]["name"] = middle["name"] = "middle"
    path = write_h5(tmp_path / "m.h5", sequential(middle), {"middle": DENSES})
    assert attached(path) == expected


DENSES = {"dense/kernel": KERNEL, "dense/bias": BIAS}


# What does not fit


def recurrent(class_name: str, **config: t.Any) -> dict[str, t.Any]:
    config = {"units": 2, "use_bias": True, "activation": "tanh", **config}
    return layer(class_name, "rnn", **config)


def wrapped(class_name: str, inner: t.Any) -> dict[str, t.Any]:
    return layer(class_name, "wrap", layer=inner)


EMBEDDING = layer("Embedding", "e", input_dim=5, output_dim=4)
ATTENTION = layer(
    *("MultiHeadAttention", "mha"), num_heads=2, key_dim=3, use_bias=True, dropout=0.0
)

MISFITS: dict[str, tuple[t.Any, Weights, str]] = {
    "no weights at all": (
        dense(),
        {},
        "dense: is a Dense and has 2 weights (kernel, bias), but the file holds 0 of",
    ),
    "one is missing": (
        dense(),
        {"dense": {"kernel": KERNEL}},
        "dense: is a Dense and has 2 weights (kernel, bias), but the file holds 1 of",
    ),
    "one is too many": (
        dense(use_bias=False),
        {"dense": DENSE},
        "dense: is a Dense and has 1 weights (kernel), but the file holds 2 of it",
    ),
    "of a layer that has none": (
        sequential(layer("ReLU", "dense")),
        {"dense": DENSE},
        "dense: is a ReLU and has 0 weights (none), but the file holds 2 of it",
    ),
    "another kernel": (
        dense(units=3),
        {"dense": DENSE},
        "dense: its kernel has the shape [3, 2] in the file, but the layer's config "
        "asks for [3, 3]; save the model again, as .keras",
    ),
    "another input": (
        sequential(layer("Dense", "dense", units=2), size=4),
        {"dense": DENSE},
        "dense: its kernel has the shape [3, 2] in the file, but the layer's config "
        "asks for [4, 2]",
    ),
    "another bias": (
        dense(),
        {"dense": {"kernel": KERNEL, "bias": KERNEL}},
        "dense: its bias has the shape [3, 2] in the file, but the layer's config asks "
        "for [2]",
    ),
    "an embedding": (
        sequential(EMBEDDING),
        {"e": {"embeddings": KERNEL}},
        "e: its embeddings has the shape [3, 2] in the file, but the layer's config "
        "asks for [5, 4]",
    ),
    "a normalization": (
        sequential(BATCH_NORMALIZATION),
        {"norm": dict(zip("abcd", numbered((3,), (3,), (3,), (1,)), strict=True))},
        "norm: its moving_variance has the shape [1] in the file, but the layer's "
        "config asks for [3]",
    ),
    "half of a Bidirectional": (
        sequential(EMBEDDING, wrapped("Bidirectional", recurrent("LSTM"))),
        {
            "e": {"embeddings": np.zeros((5, 4), "f4")},
            "wrap": dict(zip("abc", numbered((4, 8), (2, 8), (8,)), strict=True)),
        },
        "wrap: is a LSTM and has 3 weights (kernel, recurrent_kernel, bias), but the "
        "file holds 1 of it",
    ),
    "a GRU of another kind": (
        sequential(EMBEDDING, recurrent("GRU", reset_after=True)),
        {
            "e": {"embeddings": np.zeros((5, 4), "f4")},
            "rnn": dict(zip("abc", numbered((4, 6), (2, 6), (6,)), strict=True)),
        },
        "rnn: its bias has the shape [6] in the file, but the layer's config asks for "
        "[2, 6]",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit(tmp_path: Path, name: str) -> None:
    document, weights, sentence = MISFITS[name]
    path = write_h5(tmp_path / "m.h5", document, weights)
    with pytest.raises(InvalidModel, match=re.escape(sentence)):
        attached(path)
    with pytest.raises(InvalidModel, match=re.escape(sentence)):
        to_tfjs(path, tmp_path / "new")
    assert os.listdir(tmp_path) == ["m.h5"]


DENSE_CONFIGS: dict[str, dict[str, t.Any]] = {
    "huge": {"units": 10**12},
    "beyond all": {"units": 10**300},
    "negative": {"units": -2},
    "none": {"units": 0},
    "a fraction": {"units": 1.5},
    "a text": {"units": "many"},
    "a list": {"units": [2]},
    "nothing": {"units": None},
    "a document": {"units": {"class_name": "Two", "config": {}}},
    "a long text": {"units": "x" * 10**6},
}

CONVOLUTIONS: dict[str, dict[str, t.Any]] = {
    "huge filters": {"filters": 10**12},
    "negative filters": {"filters": -4},
    "filters of text": {"filters": "4x"},
    "a short window": {"kernel_size": [3]},
    "a long window": {"kernel_size": [3, 3, 3]},
    "a huge window": {"kernel_size": [10**12, 10**12]},
    "a negative window": {"kernel_size": [-3, -3]},
    "a window of text": {"kernel_size": "3, 3"},
    "no window": {"kernel_size": None},
    "a window of lists": {"kernel_size": [[3], [3]]},
    "a window of windows": {"kernel_size": {"3": 3}},
    "groups": {"groups": 3},
    "groups of text": {"groups": "2"},
    "negative groups": {"groups": -1},
    "steps of nothing": {"strides": [0, 0]},
    "a long step": {"strides": [1, 1, 1]},
    "odd dilation": {"dilation_rate": ["a", {}]},
    "an odd format": {"data_format": ["channels_last"]},
    "an odd padding": {"padding": {"a": 1}},
    "an odd activation": {"activation": {"class_name": 5, "config": []}},
    "an odd initializer": {"kernel_initializer": [[[]]]},
}


@pytest.mark.parametrize("name", DENSE_CONFIGS)
def test_absurd_configs(tmp_path: Path, name: str) -> None:
    path = write_h5(tmp_path / "m.h5", dense(**DENSE_CONFIGS[name]))
    with time_limit(5), pytest.raises(InvalidModel) as refused:
        to_tfjs(path, tmp_path / "new")
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_absurd_configs_of_convolutions(tmp_path: Path, name: str) -> None:
    config = {
        **{"filters": 4, "kernel_size": [3, 3], "strides": [1, 1], "padding": "same"},
        **CONVOLUTIONS[name],
    }
    first = {"batch_shape": [None, 8, 8, 2], "dtype": "float32", "name": "first"}
    head = {"class_name": "InputLayer", "config": first}
    inner = {"name": "m", "layers": [head, layer("Conv2D", "conv", **config)]}
    document = {"class_name": "Sequential", "config": inner}
    kernel, bias = numbered((3, 3, 2, 4), (4,))
    path = write_h5(
        tmp_path / "m.h5", document, {"conv": {"kernel": kernel, "bias": bias}}
    )
    # What needs no number to be read may be left for TensorFlow.js to refuse.
    with time_limit(5), contextlib.suppress(InvalidModel):
        to_tfjs(path, tmp_path / "new")


def test_shapes_that_no_tensor_has(tmp_path: Path) -> None:
    shapes: list[t.Any]
    shapes = [[None, 10**300], [None, "3"], [[]], {"a": 1}, "abc", [None, -3], 5]
    for shape in shapes:
        document = dense()
        document["config"]["layers"][0]["config"]["batch_shape"] = shape
        path = write_h5(tmp_path / "m.h5", document)
        with time_limit(5), pytest.raises(InvalidModel):
            to_tfjs(path, tmp_path / "new")


# Large and deep models


def chain(count: int, class_name: str) -> dict[str, t.Any]:
    return sequential(*(layer(class_name, f"l{i}") for i in range(count)))


@pytest.mark.parametrize("class_name", ["ReLU", "Identity"])
def test_a_long_chain(tmp_path: Path, class_name: str) -> None:
    """Longer than Python's stack is deep."""
    path = write_h5(tmp_path / "m.h5", chain(3000, class_name), {})
    with time_limit(60):
        to_tfjs(path, tmp_path / "new")


def test_models_in_models(tmp_path: Path) -> None:
    """Each is called twice, so that the inmost is called 33 million times."""
    document = functional("m0", {"a": [["in0", 0, 0, {}]]}, "a")
    for i in range(1, 26):
        document["inbound_nodes"] = [
            [[f"in{i}", 0, 0, {}]],
            [[f"m{i - 1}", 1, 0, {}]],
        ]
        document = functional(f"m{i}", {}, f"m{i - 1}", document)
    path = write_h5(tmp_path / "m.h5", document, {}, version="2.15.0")
    with time_limit(20):
        to_tfjs(path, tmp_path / "new")


def functional(
    name: str, calls: Mapping[str, t.Any], output: str, *layers: t.Any
) -> dict[str, t.Any]:
    """A model of Keras 2, of activations and other layers."""
    first = f"in{name.removeprefix('m')}"
    config = {"batch_input_shape": [None, 4], "dtype": "float32", "name": first}
    head = {"class_name": "InputLayer", "name": first, "config": config}
    made = [
        {**layer("ReLU", name), "name": name, "inbound_nodes": [call]}
        for name, call in calls.items()
    ]
    layers = ({**head, "inbound_nodes": []}, *made, *layers)
    ends = {"input_layers": [[first, 0, 0]], "output_layers": [[output, 2, 0]]}
    if not isinstance(calls, dict) or output in calls:
        ends["output_layers"] = [[output, 0, 0]]
    whole = {"name": name, "layers": list(layers), **ends}
    return {"class_name": "Functional", "name": name, "config": whole}


CIRCLES: dict[str, dict[str, t.Any]] = {
    "itself": {"a": [["a", 0, 0, {}]]},
    "two": {"a": [["b", 0, 0, {}]], "b": [["a", 0, 0, {}]]},
    "with an input": {
        "a": [["in0", 0, 0, {}], ["b", 0, 0, {}]],
        "b": [["a", 0, 0, {}]],
    },
}


@pytest.mark.parametrize("name", CIRCLES)
def test_circles(tmp_path: Path, name: str) -> None:
    document = functional("m0", CIRCLES[name], "a")
    path = write_h5(tmp_path / "m.h5", document, {}, version="2.15.0")
    with time_limit(5), pytest.raises(InvalidModel, match="form a circle"):
        to_tfjs(path, tmp_path / "new")


def test_a_large_model_in_a_model(tmp_path: Path) -> None:
    """As many names as Keras puts into one list."""
    count = 1500
    names = [f"dense_{i}" for i in range(count)]
    inner = sequential(*(layer("Dense", n, units=1, use_bias=False) for n in names))
    inner["config"]["layers"][0]["config"]["batch_shape"] = [None, 1]
    inner["name"] = inner["config"]["name"] = "inner"
    kernels = {f"{n}/kernel": np.array([[i]], "f4") for i, n in enumerate(names)}
    document = sequential(inner, size=1)

    def in_parts(file: t.Any) -> None:
        attributes = file["model_weights/inner"].attrs
        listed = attributes["weight_names"]
        del attributes["weight_names"]
        for i in range(3):
            attributes[f"weight_names{i}"] = listed[i * 500 : (i + 1) * 500]

    path = write_h5(tmp_path / "m.h5", document, {"inner": kernels}, change=in_parts)
    found = attached(path)
    assert found == {f"{n}/kernel": [float(i)] for i, n in enumerate(names)}


# Configurations of real models, changed anywhere


class Real(t.NamedTuple):
    """A file of Keras, open to be changed."""

    name: str
    data: bytes
    document: t.Any


def real_files() -> Iterator[Real]:
    for path in sorted([*KERAS_2.glob("*/*.h5"), *KERAS_2.glob("*/*.keras")]):
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                document = json.loads(file.attrs["model_config"])
        else:
            with zipfile.ZipFile(path) as archive:
                document = json.loads(archive.read("config.json"))
        yield Real(path.name, path.read_bytes(), document)


REAL = list(real_files())

ODD = [
    *(None, True, False, 0, 1, -1, 2, 10**12, -(10**12), 10**300, 1.5, 1e308),
    *("", "x", "same", "causal", "channels_first", "relu", "\ud800", "a/b", "1"),
    *([], {}, [1], [-1], [0, 0], [1, 2, 3, 4, 5], [None], [[1, 2], [3]], ["a"]),
    *({"class_name": "Dense"}, {"class_name": "Dense", "config": {}}, {"a": 1}),
    *([["x", 0, 0, {}]], [[["x", 0, 0, {}]]], {"class_name": "__keras_tensor__"}),
]


def paths_in(value: t.Any, path: tuple[t.Any, ...] = ()) -> Iterator[tuple[t.Any, ...]]:
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield (*path, key)
            yield from paths_in(item, (*path, key))


def at(value: t.Any, path: tuple[t.Any, ...]) -> t.Any:
    for key in path:
        value = value[key]
    return value


@st.composite
def changed(draw: st.DrawFn) -> Real:
    real = draw(st.sampled_from(REAL))
    document = copy.deepcopy(real.document)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(paths_in(document))
        if not paths:
            break
        *above, key = draw(st.sampled_from(paths))
        holder = at(document, tuple(above))
        how = draw(st.sampled_from(["odd", "odd", "odd", "other", "gone", "twice"]))
        if how == "odd":
            holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif how == "other":
            holder[key] = copy.deepcopy(at(document, draw(st.sampled_from(paths))))
        elif how == "gone":
            del holder[key]
        elif isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
    return Real(real.name, real.data, document)


def write_changed(real: Real, path: Path) -> None:
    text = json.dumps(real.document)
    if real.name.endswith(".h5"):
        path.write_bytes(real.data)
        with h5py.File(path, "a") as file:
            file.attrs["model_config"] = text
        return
    with zipfile.ZipFile(io.BytesIO(real.data)) as old, zipfile.ZipFile(path, "w") as z:
        for name in old.namelist():
            z.writestr(name, text if name == "config.json" else old.read(name))


@settings(max_examples=200, deadline=None)
@given(
    real=changed(),
    options=st.builds(
        Options,
        custom=st.sampled_from([frozenset[str](), frozenset({"Dense", "Scale"})]),
        fold_frozen_bn=st.booleans(),
        stock_layers=st.booleans(),
    ),
)
def test_configurations_changed_anywhere(real: Real, options: Options) -> None:
    """They convert, or are refused in one sentence."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(os, "fsync", without_waiting)
        path = Path(folder) / "m"
        write_changed(real, path)
        try:
            with time_limit(5):
                to_tfjs(path, Path(folder) / "new", options=options)
        except InvalidModel as refused:
            assert len(str(refused)) < 3000
            assert os.listdir(folder) == ["m"]
