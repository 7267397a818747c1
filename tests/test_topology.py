"""What ``show`` tells of a topology, and that no topology is too odd for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import LAYERS_TOPOLOGY

from flask_tfjs.format.manifest import ModelJSON
from flask_tfjs.format.topology import Port
from flask_tfjs.format.topology import Topology
from flask_tfjs.format.topology import describe


def layers(topology: Any) -> Topology:
    return describe(ModelJSON("layers-model", (), {"modelTopology": topology}))


def graph(**document: Any) -> Topology:
    document.setdefault("modelTopology", {"node": []})
    return describe(ModelJSON("graph-model", (), document))


FUNCTIONAL = {
    "class_name": "Functional",
    "config": {
        "layers": [
            {
                "class_name": "InputLayer",
                "config": {"name": "a", "batch_input_shape": [None, 4]},
            },
            {
                "class_name": "InputLayer",
                "config": {"name": "b", "batch_shape": [2, 3], "dtype": "int32"},
            },
            {"class_name": "Add", "config": {"name": "sum"}},
        ],
        "input_layers": [["a", 0, 0], ["b", 0, 0]],
        "output_layers": [["sum", 0, 0]],
    },
}


@pytest.mark.parametrize(
    "topology",
    [
        LAYERS_TOPOLOGY,
        {"model_config": LAYERS_TOPOLOGY},
        {"class_name": "Sequential", "config": LAYERS_TOPOLOGY["config"]["layers"]},  # type: ignore[index]  # a literal
    ],
)
def test_sequential(topology: Any) -> None:
    assert layers(topology) == Topology(
        (Port("dense", (None, 3), None),), (Port("dense", None, None),), {"Dense": 1}
    )


def test_functional() -> None:
    assert layers(FUNCTIONAL) == Topology(
        (Port("a", (None, 4), None), Port("b", (2, 3), "int32")),
        (Port("sum", None, None),),
        {"InputLayer": 2, "Add": 1},
    )


def test_keras_3_writes_single_ends_flat() -> None:
    config = {**FUNCTIONAL["config"], "input_layers": ["a", 0, 0]}  # type: ignore[dict-item]  # a literal
    topology = layers({"class_name": "Functional", "config": config})
    assert topology.inputs == (Port("a", (None, 4), None),)


def test_layers_of_nested_models_count() -> None:
    outer = {"class_name": "Sequential", "config": {"layers": [FUNCTIONAL]}}
    assert layers(outer).units == {"InputLayer": 2, "Functional": 1, "Add": 1}


SIGNATURE = {
    "inputs": {
        "x": {
            "name": "x:0",
            "dtype": "DT_FLOAT",
            "tensorShape": {"dim": [{"size": "-1"}, {"size": "3"}]},
        }
    },
    "outputs": {
        "y": {"name": "y:0", "dtype": "DT_INT32", "tensorShape": {"unknownRank": True}}
    },
}


@pytest.mark.parametrize(
    "document",
    [
        {"signature": SIGNATURE},
        {"userDefinedMetadata": {"signature": SIGNATURE}},
        {"userDefinedMetadata": {"signature": SIGNATURE}, "signature": {"inputs": {}}},
    ],
)
def test_graph_with_a_signature(document: Any) -> None:
    topology = graph(**document)
    assert topology.inputs == (Port("x", (None, 3), "float"),)
    assert topology.outputs == (Port("y", None, "int32"),)


def test_graph_without_a_signature() -> None:
    nodes = [
        {
            "name": "image",
            "op": "Placeholder",
            "attr": {
                "dtype": {"type": "DT_FLOAT"},
                "shape": {"shape": {"dim": [{"size": "1"}, {"size": "-1"}]}},
            },
        },
        {"name": "k", "op": "Const"},
        {"name": "l", "op": "Const"},
    ]
    assert graph(modelTopology={"node": nodes}) == Topology(
        (Port("image", (1, None), "float"),), (), {"Const": 2, "Placeholder": 1}
    )


def test_weights_alone_have_none() -> None:
    assert describe(ModelJSON("weights-manifest", (), [])) == Topology((), (), {})


NAMES = st.sampled_from(
    [
        *("class_name", "config", "layers", "input_layers", "output_layers", "name"),
        *("batch_input_shape", "node", "op", "attr", "shape", "dim", "size", "dtype"),
        *("signature", "userDefinedMetadata", "inputs", "tensorShape", "model_config"),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NAMES,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(NAMES, values),
    max_leaves=20,
)


@given(JSON, JSON)
def test_any_topology_is_described(topology: Any, signature: Any) -> None:
    assert isinstance(layers(topology), Topology)
    document = {"modelTopology": topology, "signature": signature}
    assert isinstance(graph(**document), Topology)
