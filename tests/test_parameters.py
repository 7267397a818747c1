"""Which layer or op has how many parameters."""

from __future__ import annotations

import typing as t

import pytest

from flask_tfjs.format.manifest import ModelJSON
from flask_tfjs.format.manifest import read_document
from flask_tfjs.format.parameters import layers_of
from flask_tfjs.format.parameters import parameters_by_unit


def read(topology: object, **weights: list[int]) -> ModelJSON:
    specs = [
        {"name": name, "shape": shape, "dtype": "float32"}
        for name, shape in weights.items()
    ]
    manifest = [{"paths": ["w.bin"], "weights": specs}]
    model = read_document({"modelTopology": topology, "weightsManifest": manifest})
    assert model is not None
    return model


def layer(class_name: str, name: str, *inner: object) -> dict[str, t.Any]:
    config: dict[str, t.Any] = {"name": name}
    if inner:
        config["layers"] = list(inner)
    return {"class_name": class_name, "config": config}


def node(op: str, name: str, *inputs: str) -> dict[str, t.Any]:
    return {"name": name, "op": op, "input": list(inputs)}


def units(model: ModelJSON) -> t.Mapping[str, int]:
    return parameters_by_unit(model, layers_of(model))


def rows(model: ModelJSON) -> list[tuple[str, str, int]]:
    return [(one.name, one.class_name, one.parameters) for one in layers_of(model)]


def test_the_parameters_of_layers() -> None:
    model = read(
        layer("Sequential", "s", layer("Dense", "dense"), layer("ReLU", "relu")),
        **{"dense/kernel": [3, 2], "dense/bias": [2], "Adam/iter": []},
    )
    assert rows(model) == [
        ("dense", "Dense", 8),
        ("relu", "ReLU", 0),
        ("other", "other", 1),
    ]
    assert units(model) == {"Dense": 8, "other": 1}


def test_a_nested_layer_counts_once() -> None:
    inner = layer("Sequential", "inner", layer("Dense", "dense"))
    model = read(
        layer("Sequential", "s", inner),
        **{"s/inner/dense/kernel": [4], "inner/dense/bias": [1]},
    )
    assert rows(model) == [("inner", "Sequential", 0), ("dense", "Dense", 5)]


def test_models_of_equal_inner_names() -> None:
    first = layer("Sequential", "first", layer("Dense", "dense"))
    second = layer("Sequential", "second", layer("Conv2D", "dense"))
    model = read(
        layer("Sequential", "s", first, second),
        **{"first/dense/kernel": [4], "s/second/dense/kernel": [5], "first/odd": [1]},
    )
    assert rows(model) == [
        ("first", "Sequential", 1),
        ("dense", "Dense", 4),
        ("second", "Sequential", 0),
        ("dense", "Conv2D", 5),
    ]


def test_the_inner_name_of_a_nested_layer() -> None:
    inner = layer("Sequential", "inner", layer("Dense", "dense"))
    model = read(layer("Sequential", "s", inner), **{"dense/kernel": [4]})
    assert rows(model) == [("inner", "Sequential", 0), ("dense", "Dense", 4)]


def test_names_with_slashes() -> None:
    """As those of DenseNet in Keras 2."""
    layers = [layer("Conv2D", name) for name in ("conv1", "conv1/conv", "conv1/bn")]
    model = read(
        layer("Sequential", "s", *layers),
        **{"conv1/conv/kernel": [4], "conv1/bn/gamma": [2], "conv1/kernel": [1]},
    )
    assert [row[2] for row in rows(model)] == [1, 4, 2]


def test_parts_of_a_layer_are_no_layers() -> None:
    layers = [layer("Dense", "query"), layer("MultiHeadAttention", "mha")]
    model = read(
        layer("Sequential", "s", *layers),
        **{"mha/query/kernel": [4], "query/kernel": [1], "s/mha/query/bias": [2]},
    )
    assert [row[2] for row in rows(model)] == [1, 6]


def test_a_name_of_very_many_parts() -> None:
    model = read(
        layer("Sequential", "s", layer("Dense", "dense")),
        **{"a/" * 100_000 + "dense/kernel": [4], "/kernel": [1], "kernel": [1]},
    )
    assert rows(model) == [("dense", "Dense", 0), ("other", "other", 6)]


def test_a_wrapper_has_what_is_in_it() -> None:
    model = read(
        layer("Sequential", "s", layer("Bidirectional", "both")),
        **{"both/forward_lstm/kernel": [4], "both/backward_lstm/kernel": [4]},
    )
    assert rows(model) == [("both", "Bidirectional", 8)]


def test_the_parameters_of_ops() -> None:
    nodes = [
        node("Const", "w"),
        node("Const", "b"),
        node("Const", "shape"),
        node("Const", "unused"),
        node("Identity", "w/read", "w"),
        *(node("Identity", f"w{i}", f"w{i - 1}" if i else "w/read") for i in range(9)),
        node("Conv2D", "conv", "x", "w8:0"),
        node("BiasAdd", "add", "conv", "b", "^shape"),
        node("Reshape", "flat", "add", "shape"),
        node("NoOp", "also", "b"),
    ]
    model = read({"node": nodes}, w=[3, 3], b=[3], shape=[2], unused=[5])
    assert units(model) == {
        "Conv2D": 9,
        "BiasAdd": 3,
        "Reshape": 2,
        "other": 5,
    }
    assert layers_of(model) == []


def test_the_ops_of_functions_count() -> None:
    function = {"nodeDef": [node("MatMul", "f/mul", "f/w", "x")]}
    topology = {"node": [], "library": {"function": [function]}}
    assert units(read(topology, **{"f/w": [7]})) == {"MatMul": 7}


def test_passing_in_a_circle_ends() -> None:
    nodes = [node("Identity", "a", "b"), node("Identity", "b", "a")]
    assert units(read({"node": nodes}, a=[2])) == {"Identity": 2}


@pytest.mark.parametrize(
    "topology",
    [
        {"node": [{"name": 3, "op": None, "input": "w"}, None, {"input": [4, None]}]},
        {"node": [], "library": {"function": [{"nodeDef": {}}, 3]}},
        {"node": [], "library": []},
        {"class_name": "Sequential", "config": {"layers": [{"config": []}, 4]}},
        {"class_name": "Sequential", "config": []},
    ],
)
def test_odd_topologies_are_no_fault(topology: object) -> None:
    assert sum(units(read(topology, w=[6])).values()) == 6


def test_weights_alone_have_no_units() -> None:
    specs = [{"name": "a", "shape": [3], "dtype": "float32"}]
    model = read_document([{"paths": ["w.bin"], "weights": specs}])
    assert model is not None
    assert layers_of(model) == []
    assert units(model) == {}
