"""What is a model, which of its members are wrong, and what becomes of it."""

from __future__ import annotations

import base64
import copy
import json
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
import reference
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from javascript import Function
from javascript import javascript
from models import DENSE_BYTES
from models import FLATTEN_TOPOLOGY
from models import LAYERS_TOPOLOGY
from models import dense_document

from flask_tfjs import InvalidModel
from flask_tfjs.format.manifest import ModelJSON
from flask_tfjs.format.manifest import parse
from flask_tfjs.format.manifest import seems_a_model
from flask_tfjs.format.manifest import with_paths
from flask_tfjs.format.repair import mend_manifest
from flask_tfjs.format.topology import describe

GRAPH_TOPOLOGY = {
    "node": [{"name": "w", "op": "Const"}, {"name": "x", "op": "Placeholder"}],
    "versions": {"producer": 1882},
}
WEIGHT = {"name": "w", "shape": [2], "dtype": "int32"}
GROUP = {"paths": ["a.bin"], "weights": [WEIGHT]}


def read(document: Any) -> ModelJSON | None:
    return parse(json.dumps(document).encode(), "m.json")


def read_model(document: Any) -> ModelJSON:
    model = read(document)
    assert model is not None
    return model


# What is a model

KINDS: dict[str, tuple[Any, str | None]] = {
    "layers": (dense_document("a.bin"), "layers-model"),
    "layers of save_model": (
        {
            "modelTopology": {"keras_version": "2.1", "model_config": LAYERS_TOPOLOGY},
            "weightsManifest": [],
        },
        "layers-model",
    ),
    "layers without a format": (
        {"modelTopology": LAYERS_TOPOLOGY, "weightsManifest": [GROUP]},
        "layers-model",
    ),
    "layers of an old format": (
        dense_document("a.bin", format="tfjs-layers"),
        "layers-model",
    ),
    "layers that say they are a graph": (
        dense_document("a.bin", format="graph-model"),
        "layers-model",
    ),
    "format of any type": (dense_document("a.bin", format=[1]), "layers-model"),
    "graph": (
        {
            "format": "graph-model",
            "modelTopology": GRAPH_TOPOLOGY,
            "weightsManifest": [GROUP],
        },
        "graph-model",
    ),
    "graph of an old format": (
        {"format": "tfjs-graph-model", "modelTopology": GRAPH_TOPOLOGY},
        "graph-model",
    ),
    "graph of nothing": ({"modelTopology": {"node": []}}, "graph-model"),
    "bare list": ([GROUP], "weights-manifest"),
    "bare list, other members": ([{**GROUP, "note": 1}], "weights-manifest"),
    "manifest only": ({"weightsManifest": [GROUP]}, "weights-manifest"),
    "null topology": (
        {"modelTopology": None, "weightsManifest": [GROUP]},
        "weights-manifest",
    ),
    "topology only": ({"modelTopology": LAYERS_TOPOLOGY}, "layers-model"),
    "null manifest": (
        {"modelTopology": LAYERS_TOPOLOGY, "weightsManifest": None},
        "layers-model",
    ),
    "empty manifest": (
        {"modelTopology": LAYERS_TOPOLOGY, "weightsManifest": []},
        "layers-model",
    ),
    "other members": (dense_document("a.bin", ml5Specs={"a": 1}), "layers-model"),
    "neither topology nor manifest": ({"format": "layers-model"}, None),
    "both null": ({"modelTopology": None, "weightsManifest": None}, None),
    "models.json": ({"blazeface": 538928, "emotion": 820516}, None),
    "metadata.json": ({"labels": ["a", "b"], "tfjsVersion": "1.3.1"}, None),
    "vocab.json": ({"the": 1, "weights": 2, "paths": 3}, None),
    "faces.json": ([{"name": "a", "embedding": [0.1, 0.2]}], None),
    "list of lists": ([[1, 2], [3, 4]], None),
    "list of paths": ([{"paths": ["a.bin"]}], None),
    "list of groups and others": ([GROUP, {"name": "w"}], None),
    "empty list": ([], None),
    "empty object": ({}, None),
    "storage dump without topology": ({"weightSpecs": [], "weightData": ""}, None),
    "string": ("modelTopology", None),
    "null": (None, None),
    "number": (1, None),
}


@pytest.mark.parametrize("document, kind", KINDS.values(), ids=KINDS)
def test_kinds(document: Any, kind: str | None) -> None:
    model = read(document)
    assert (model and model.kind) == kind
    if model is not None:
        assert model.document == document
        assert model.is_list == isinstance(document, list)


@pytest.mark.parametrize(
    "text, meant",
    [
        (json.dumps(dense_document("a.bin"))[:60], True),
        (json.dumps({"weightsManifest": []})[:20], True),
        (json.dumps([GROUP])[:60], True),
        (json.dumps(dense_document("a.bin")).encode("utf-16"), True),
        (json.dumps(dense_document("a.bin")).encode("utf-32-be"), True),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0", True),
        ('{"paths": ["a.bin"], ', False),
        ('{"labels": [', False),
        ("<!doctype html>", False),
        ("", False),
    ],
)
def test_a_text_that_was_meant_as_a_model(text: str | bytes, meant: bool) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    assert seems_a_model(data) is meant


# Members at fault

DELETE = object()


def changed(document: Any, *changes: tuple[str, Any]) -> Any:
    """A copy of *document*; a change is (steps to a member with dots between, value)"""
    result = json.loads(json.dumps(document))
    for path, value in changes:
        *steps, last = path.split(".")
        place = result
        for step in steps:
            place = place[int(step) if step.isdigit() else step]
        key = int(last) if last.isdigit() else last
        if value is DELETE:
            del place[key]
        elif key == len(place) if isinstance(place, list) else False:
            place.append(value)
        else:
            place[key] = value
    return result


W = "weightsManifest.0.weights.0"
W_ = "weightsManifest[0].weights[0]"

DUMP = {"modelTopology": LAYERS_TOPOLOGY, "weightSpecs": [], "weightData": ""}

FAULTS: list[tuple[list[tuple[str, Any]], str, str]] = [
    ([("modelTopology", {})], "modelTopology", "is neither a graph ('node') nor a"),
    ([("modelTopology", [])], "modelTopology", "is neither a graph"),
    ([("modelTopology", "GraphDef")], "modelTopology", "is neither a graph"),
    ([("modelTopology", False)], "modelTopology", "is neither a graph"),
    ([("weightsManifest", {})], "weightsManifest", "is not a list of groups"),
    ([("weightsManifest", "w")], "weightsManifest", "is not a list of groups"),
    ([("weightsManifest", False)], "weightsManifest", "is not a list of groups"),
    (
        [("weightsManifest.0", ["a.bin"])],
        "weightsManifest[0]",
        "is not an object with 'paths' and 'weights'",
    ),
    ([("weightsManifest.0", None)], "weightsManifest[0]", "is not an object"),
    (
        [("weightsManifest.0.paths", DELETE)],
        "weightsManifest[0].paths",
        "is missing",
    ),
    (
        [("weightsManifest.0.paths", "a.bin")],
        "weightsManifest[0].paths",
        "is not a list",
    ),
    ([("weightsManifest.0.paths", None)], "weightsManifest[0].paths", "is not a list"),
    (
        [("weightsManifest.0.paths.1", 1)],
        "weightsManifest[0].paths[1]",
        "is not a string",
    ),
    (
        [("weightsManifest.0.weights", DELETE)],
        "weightsManifest[0].weights",
        "is missing",
    ),
    (
        [("weightsManifest.0.weights", None)],
        "weightsManifest[0].weights",
        "is not a list",
    ),
    ([(W, "w")], W_, "is not an object"),
    ([(f"{W}.name", DELETE)], f"{W_}.name", "is not a string"),
    ([(f"{W}.name", 1)], f"{W_}.name", "is not a string"),
    ([(f"{W}.name", None)], f"{W_}.name", "is not a string"),
    (
        [(f"{W}.name", "dense/bias")],
        "weightsManifest[0].weights[1].name",
        "the name 'dense/bias' occurs twice; of two weights of one name",
    ),
    (
        [("weightsManifest.1", {"paths": [], "weights": [WEIGHT, WEIGHT]})],
        "weightsManifest[1].weights[1].name",
        "the name 'w' occurs twice",
    ),
    (
        [
            ("weightsManifest.1", GROUP),
            ("weightsManifest.1.weights.0.name", "dense/bias"),
        ],
        "weightsManifest[1].weights[0].name",
        "the name 'dense/bias' occurs twice",
    ),
    ([(f"{W}.shape", DELETE)], f"{W_}.shape", "is not a list"),
    ([(f"{W}.shape", None)], f"{W_}.shape", "is not a list"),
    ([(f"{W}.shape", 6)], f"{W_}.shape", "is not a list"),
    ([(f"{W}.shape", {"0": 6})], f"{W_}.shape", "is not a list"),
    ([(f"{W}.shape", [3, -2])], f"{W_}.shape[1]", "-2 is not a size: a whole number"),
    ([(f"{W}.shape", [2.5])], f"{W_}.shape[0]", "2.5 is not a size"),
    ([(f"{W}.shape", [1e-9])], f"{W_}.shape[0]", "1e-09 is not a size"),
    ([(f"{W}.shape", [True])], f"{W_}.shape[0]", "True is not a size"),
    ([(f"{W}.shape", [None, 2])], f"{W_}.shape[0]", "None is not a size"),
    ([(f"{W}.shape", ["3"])], f"{W_}.shape[0]", "'3' is not a size"),
    ([(f"{W}.shape", [[3]])], f"{W_}.shape[0]", "[3] is not a size"),
    ([(f"{W}.shape", [2**53 + 1])], f"{W_}.shape", "has more than 2**53 elements"),
    ([(f"{W}.shape", [2**27, 2**27])], f"{W_}.shape", "more than 2**53 elements"),
    ([(f"{W}.shape", [1e300, 1e300])], f"{W_}.shape", "more than 2**53 elements"),
    ([(f"{W}.shape", [1e200, 1e200, 0])], f"{W_}.shape", "more than 2**53 elements"),
    (
        [(f"{W}.dtype", DELETE)],
        f"{W_}.dtype",
        "None of weight 'dense/kernel' is not a dtype that TensorFlow.js loads",
    ),
    *(
        ([(f"{W}.dtype", dtype)], f"{W_}.dtype", f"{dtype!r} of weight 'dense/kernel'")
        for dtype in ("float16", "uint8", "uint16", "int64", "float64", "Float32", "")
    ),
    ([(f"{W}.dtype", ["float32"])], f"{W_}.dtype", "['float32'] of weight"),
    (
        [(f"{W}.quantization", None)],
        f"{W_}.quantization",
        "is not an object; leave the key out instead",
    ),
    ([(f"{W}.quantization", "uint8")], f"{W_}.quantization", "is not an object"),
    (
        [(f"{W}.quantization", {"scale": 1, "min": 0})],
        f"{W_}.quantization.dtype",
        "None is none of uint8, uint16, float16",
    ),
    *(
        (
            [(f"{W}.quantization", {"dtype": dtype, "scale": 1, "min": 0})],
            f"{W_}.quantization.dtype",
            f"{dtype!r} is none of uint8, uint16, float16",
        )
        for dtype in ("int8", "float32", "int32", "uint32", "", ["uint8"])
    ),
    *(
        (
            [(f"{W}.quantization", {**quantization, key: value})],
            f"{W_}.quantization.{key}",
            "is not a number",
        )
        for key in ("scale", "min")
        for value in (None, "1", True, [1])
        for quantization in ({"dtype": "uint8", "scale": 1.0, "min": 0},)
    ),
    (
        [(f"{W}.quantization", {"dtype": "uint16", "min": 0})],
        f"{W_}.quantization.scale",
        "is not a number",
    ),
    (
        [(f"{W}.quantization", {"dtype": "uint16", "scale": 1})],
        f"{W_}.quantization.min",
        "is not a number",
    ),
]


@pytest.mark.parametrize(
    "changes, where, sentence",
    FAULTS,
    ids=[
        ",".join(f"{p}={'absent' if v is DELETE else v!r:.30}" for p, v in changes)
        for changes, _, _ in FAULTS
    ],
)
def test_faults(changes: list[tuple[str, Any]], where: str, sentence: str) -> None:
    with pytest.raises(InvalidModel) as caught:
        read(changed(dense_document("a.bin"), *changes))
    assert caught.value.where == where
    assert sentence in caught.value.message
    assert str(caught.value).startswith(f"{where}: ")


def test_faults_of_a_bare_list_are_counted_from_the_list() -> None:
    with pytest.raises(InvalidModel) as caught:
        read(changed([GROUP, GROUP], ("1.weights.0.dtype", "int64")))
    assert caught.value.where == "[1].weights[0].dtype"


def test_a_storage_dump() -> None:
    with pytest.raises(InvalidModel, match="is a storage dump") as caught:
        read(DUMP)
    assert caught.value.where == "weightSpecs"
    assert read({**DUMP, "weightsManifest": [GROUP]}) is not None


QUANTIZED = {
    "float32": ("uint8", "uint16", "float16"),
    "int32": ("uint8", "uint16"),
    "bool": (),
    "complex64": (),
    "string": (),
}


@pytest.mark.parametrize("wire", ["uint8", "uint16", "float16"])
@pytest.mark.parametrize("dtype", QUANTIZED)
def test_quantization(dtype: str, wire: str) -> None:
    quantization = {"dtype": wire, "scale": 0.5, "min": -1, "original_dtype": dtype}
    changes = ((f"{W}.dtype", dtype), (f"{W}.quantization", quantization))
    document = changed(dense_document("a.bin"), *changes)
    if wire in QUANTIZED[dtype]:
        spec = next(read_model(document).weights)
        assert (spec.dtype, spec.wire_dtype, spec.elements) == (dtype, wire, 6)
        assert spec.byte_length == 6 * (1 if wire == "uint8" else 2)
        return
    with pytest.raises(InvalidModel, match=f"{wire} cannot stand for {dtype}, only"):
        read(document)


def test_float16_needs_no_scale() -> None:
    document = changed(
        dense_document("a.bin"), (f"{W}.quantization", {"dtype": "float16"})
    )
    assert next(read_model(document).weights).byte_length == 12


@pytest.mark.parametrize(
    "shape, elements",
    [
        ([], 1),
        ([0], 0),
        ([3, 0, 2], 0),
        ([0, 1e300, 1e300], 0),
        ([2.0, 3], 6),
        ([-0.0, 5], 0),
        ([1] * 100, 1),
        ([2**53], 2**53),
        ([2**26, 2**27], 2**53),
    ],
    ids=str,
)
def test_shapes(shape: list[float], elements: int) -> None:
    document = changed(dense_document("a.bin"), (f"{W}.shape", shape))
    spec = next(read_model(document).weights)
    assert spec.elements == elements
    assert spec.byte_length == 4 * elements
    assert spec.shape == tuple(shape)
    assert all(isinstance(size, int) for size in spec.shape)


LONG = "n" * 100_000


@pytest.mark.parametrize(
    "changes",
    [
        [(f"{W}.name", LONG), ("weightsManifest.0.weights.1.name", LONG)],
        [(f"{W}.name", LONG), (f"{W}.dtype", {LONG: LONG})],
        [(f"{W}.quantization", {"dtype": LONG})],
        [(f"{W}.shape", [[LONG]])],
        [(f"{W}.shape", [10**300])],
    ],
)
def test_messages_are_short(changes: list[tuple[str, Any]]) -> None:
    with pytest.raises(InvalidModel) as caught:
        read(changed(dense_document("a.bin"), *changes))
    assert len(str(caught.value)) < 400


def many(groups: int, weights: int) -> Any:
    return [
        {
            "paths": [f"{g}.bin"],
            "weights": [
                {"name": f"{g}/{w}", "shape": [2, 3], "dtype": "bool"}
                for w in range(weights)
            ],
        }
        for g in range(groups)
    ]


@pytest.mark.parametrize(
    "document",
    [
        many(1, 30_000),
        many(30_000, 1),
        changed(many(1, 1), ("0.weights.0.shape", [1] * 200_000)),
        changed(many(1, 1), ("0.weights.0.shape", [1e300] * 200_000)),
    ],
    ids=["weights", "groups", "rank", "product"],
)
def test_large_manifests_take_no_time(document: Any) -> None:
    started = time.process_time()
    try:
        read({"weightsManifest": document})
    except InvalidModel:
        pass
    assert time.process_time() - started < 10


# Any manifest

NAMES = st.text(max_size=8)
SHAPES = st.lists(st.integers(0, 6), max_size=4)
NUMBERS = st.integers(-9, 9) | st.floats(-9, 9)
WIRE_DTYPES = st.one_of(
    st.fixed_dictionaries(
        {"dtype": st.sampled_from(["float32", "int32", "bool", "complex64", "string"])}
    ),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["float32", "int32"]),
            "quantization": st.fixed_dictionaries(
                {
                    "dtype": st.sampled_from(["uint8", "uint16"]),
                    "scale": NUMBERS,
                    "min": NUMBERS,
                },
                optional={"original_dtype": st.just("float32")},
            ),
        }
    ),
    st.fixed_dictionaries(
        {
            "dtype": st.just("float32"),
            "quantization": st.just({"dtype": "float16"}),
        }
    ),
)


@st.composite
def manifests(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = iter(draw(st.lists(NAMES, unique=True, min_size=8, max_size=8)))
    groups = []
    for count in draw(st.lists(st.integers(0, 4), max_size=2)):
        weights = [
            {"name": next(names), "shape": draw(SHAPES), **draw(WIRE_DTYPES)}
            for _ in range(count)
        ]
        groups.append({"paths": draw(st.lists(NAMES, max_size=3)), "weights": weights})
    return groups


@settings(max_examples=150, deadline=None)
@given(manifests())
def test_any_sound_manifest(manifest: list[dict[str, Any]]) -> None:
    model = read_model({"modelTopology": GRAPH_TOPOLOGY, "weightsManifest": manifest})
    assert [list(group.paths) for group in model.groups] == [
        group["paths"] for group in manifest
    ]
    specs = [spec for group in manifest for spec in group["weights"]]
    weights = list(model.weights)
    assert [weight.name for weight in weights] == [spec["name"] for spec in specs]
    for weight, spec in zip(weights, specs, strict=True):
        expected = (
            None if spec["dtype"] == "string" else reference.byte_size(spec, b"", 0)
        )
        assert weight.byte_length == expected
    assert mend_manifest(model) == (model.document, [])


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "uint8", "float32", "string", "a.bin", "..", "node"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["paths", "weights", "dtype", "name", "node", "config"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)

SOUND: list[Any] = [
    dense_document("a.bin", "b.bin"),
    {
        "modelTopology": GRAPH_TOPOLOGY,
        "signature": {"inputs": {"x": {"dtype": "DT_FLOAT", "tensorShape": {}}}},
        "weightsManifest": [
            changed(
                GROUP,
                ("weights.0.quantization", {"dtype": "uint8", "scale": 1, "min": 0}),
            ),
            {"paths": [], "weights": []},
        ],
    },
    [GROUP, changed(GROUP, ("weights.0.name", "v"))],
]


@st.composite
def slips(draw: st.DrawFn) -> Any:
    """A sound document with one to three members replaced or removed."""
    document = copy.deepcopy(draw(st.sampled_from(SOUND)))
    for _ in range(draw(st.integers(1, 3))):
        place, depth = document, draw(st.integers(0, 6))
        while isinstance(place, (dict, list)) and place:
            key = draw(
                st.sampled_from(
                    sorted(place) if isinstance(place, dict) else range(len(place))
                )
            )
            if not depth or not isinstance(place[key], (dict, list)):
                if draw(st.booleans()):
                    place[key] = draw(JSON_VALUES)
                else:
                    del place[key]
                break
            place, depth = place[key], depth - 1
    return document


@settings(max_examples=300, deadline=None)
@given(slips())
def test_any_slip_is_no_model_or_a_fault_or_harmless(document: Any) -> None:
    try:
        model = read(document)
    except InvalidModel as fault:
        assert fault.where and fault.message and len(str(fault)) < 400
        return
    if model is None:
        return
    describe(model)
    paths = [[f"new/{path}" for path in group.paths] for group in model.groups]
    delivered = with_paths(mend_manifest(model)[0], paths)
    again = read_model(delivered)
    assert list(again.weights) == list(model.weights)
    if again.groups:
        assert [list(group.paths) for group in again.groups] == paths


# What the unchanged client makes of it

CLIENT_JS = """
(require) => {
  const tf = require('@tensorflow/tfjs');
  const loaders = {
    'layers-model': (handler) => tf.loadLayersModel(handler),
    'graph-model': (handler) => tf.loadGraphModel(handler),
    'weights-manifest': async (handler) => {
      const artifacts = await handler.load();
      tf.io.decodeWeights(artifacts.weightData, artifacts.weightSpecs);
    },
  };
  return async ({document, kind, shard}) => {
    const fetchFunc = async (url) => url.endsWith('.json')
      ? new Response(JSON.stringify(document))
      : new Response(Buffer.from(shard, 'base64'));
    try {
      await loaders[kind](tf.io.http('http://x/m.json', {fetchFunc}));
      return 'loaded';
    } catch (error) {
      return error.message;
    }
  };
}
"""


@pytest.fixture(scope="module")
def client() -> Iterator[Function]:
    with javascript(CLIENT_JS, "@tensorflow/tfjs") as function:
        yield function


EMPTY_GROUP = {"paths": ["a.bin"], "weights": []}
NO_MANIFEST = object()

LEFT_OUT = "is empty, which loadLayersModel() with onProgress refuses; it is left out"
ADDED = "is missing, which loadGraphModel() refuses; an empty one is added"

LOADABLE: dict[str, tuple[Any, Any, Any, list[str]]] = {
    "layers, none": (FLATTEN_TOPOLOGY, NO_MANIFEST, NO_MANIFEST, []),
    "layers, null": (FLATTEN_TOPOLOGY, None, None, []),
    "layers, empty": (FLATTEN_TOPOLOGY, [], NO_MANIFEST, [LEFT_OUT]),
    "layers, empty group": (
        FLATTEN_TOPOLOGY,
        [EMPTY_GROUP],
        NO_MANIFEST,
        [LEFT_OUT],
    ),
    "graph, none": (GRAPH_TOPOLOGY, NO_MANIFEST, [], [ADDED]),
    "graph, null": (GRAPH_TOPOLOGY, None, [], [ADDED]),
    "graph, empty": (GRAPH_TOPOLOGY, [], [], []),
    "graph, empty group": (GRAPH_TOPOLOGY, [EMPTY_GROUP], [EMPTY_GROUP], []),
    "graph, weights": (GRAPH_TOPOLOGY, [GROUP], [GROUP], []),
    "weights alone": (None, [GROUP], [GROUP], []),
    "nothing at all": (None, [], [], []),
}


@pytest.mark.parametrize(
    "topology, manifest, delivered, mended", LOADABLE.values(), ids=LOADABLE
)
def test_loadable_documents(
    topology: Any, manifest: Any, delivered: Any, mended: list[str], client: Function
) -> None:
    document = {"modelTopology": topology, "note": 1}
    if manifest is not NO_MANIFEST:
        document["weightsManifest"] = manifest
    model = read_model(document)
    loadable, repairs = mend_manifest(model)
    assert [(r.where, r.message) for r in repairs] == [
        ("weightsManifest", message) for message in mended
    ]
    assert loadable.get("weightsManifest", NO_MANIFEST) == delivered
    others = {key: loadable[key] for key in loadable if key != "weightsManifest"}
    assert others == {"modelTopology": topology, "note": 1}
    shard = base64.b64encode(struct.pack("<2i", 1, 2)).decode()
    job = {"document": loadable, "kind": model.kind, "shard": shard}
    assert client(job) == "loaded"


def test_the_client_refuses_what_is_mended(client: Function) -> None:
    """Once it no longer does, there is nothing to mend."""
    document = {"modelTopology": GRAPH_TOPOLOGY}
    job = {"document": document, "kind": "graph-model", "shard": ""}
    assert "not iterable" in client(job)


@pytest.mark.parametrize("manifest", [[], [EMPTY_GROUP]])
def test_weights_that_are_lost_are_missed(manifest: Any, client: Function) -> None:
    """Without the empty manifest the client would make the weights up, silently."""
    document = {"modelTopology": LAYERS_TOPOLOGY, "weightsManifest": manifest}
    loadable, repairs = mend_manifest(read_model(document))
    assert (loadable, repairs) == (document, [])
    job = {"document": loadable, "kind": "layers-model", "shard": ""}
    assert "weights are not set" in client(job)


UNREADABLE = {
    "float16": [("dtype", "float16")],
    "uint8": [("dtype", "uint8")],
    "int64": [("dtype", "int64")],
    "quantization null": [("quantization", None)],
    "quantization int8": [("quantization", {"dtype": "int8", "scale": 1, "min": 0})],
    "no scale": [("quantization", {"dtype": "uint8", "min": 0})],
    "float16 of int32": [("dtype", "int32"), ("quantization", {"dtype": "float16"})],
    "uint8 of bool": [
        ("dtype", "bool"),
        ("quantization", {"dtype": "uint8", "scale": 1, "min": 0}),
    ],
    "negative": [("shape", [-8])],
    "fraction": [("shape", [0.5])],
    "string": [("shape", ["8"])],
    "shape null": [("shape", None)],
    "not a number": [("shape", [1e200, 1e200, 0])],
}


@pytest.mark.parametrize("changes", UNREADABLE.values(), ids=UNREADABLE)
def test_the_client_refuses_it_too(
    changes: list[tuple[str, Any]], client: Function
) -> None:
    spec = changed({"name": "w", "shape": [8], "dtype": "float32"}, *changes)
    document = {"weightsManifest": [{"paths": ["a.bin"], "weights": [spec]}]}
    with pytest.raises(InvalidModel):
        read(document)
    shard = base64.b64encode(DENSE_BYTES).decode()
    job = {"document": document, "kind": "weights-manifest", "shard": shard}
    assert client(job) != "loaded"


def test_strings_in_a_bare_list() -> None:
    spec = {"name": "s", "shape": [1], "dtype": "string"}
    with pytest.raises(InvalidModel, match="reads strings as empty") as caught:
        read([GROUP, {"paths": ["s.bin"], "weights": [spec]}])
    assert caught.value.where == "[1].weights[0].dtype"
    assert read({"weightsManifest": [{"paths": ["s.bin"], "weights": [spec]}]})
