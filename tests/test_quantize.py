"""Quantized weights: real TensorFlow.js reads what was written and predicts with it;
NumPy (reference.py) tells what the values must be."""

from __future__ import annotations

import base64
import json
import math
import os
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from javascript import Function
from javascript import javascript
from models import LAYERS_TOPOLOGY
from publishing import new_app
from publishing import put
from publishing import snapshot
from publishing import store_of
from publishing import without_waiting
from reference import FACE_DIRECTORY
from reference import HUMAN_DIRECTORY
from reference import Scale
from reference import Weight
from reference import broken_models
from reference import byte_size
from reference import decode
from reference import graph_model
from reference import groups_of
from reference import layers_model
from reference import misread_model
from reference import pieces_of
from reference import quantized
from reference import string_weight
from reference import weight
from reference import write_model
from servers import TESTS
from servers import require

from flask_tfjs import InvalidModel
from flask_tfjs import ModelNotFound
from flask_tfjs import TFJSError
from flask_tfjs.convert.quantize import CODINGS
from flask_tfjs.convert.quantize import Coding
from flask_tfjs.convert.quantize import Quantization
from flask_tfjs.convert.quantize import quantize
from flask_tfjs.models.directory import ModelDirectory
from flask_tfjs.models.findings import check_model

#: The codings that change something, and the bytes of a value.
SIZES: dict[Coding, int] = {"float16": 2, "uint16": 2, "uint8": 1}

Values = t.Any


def graph(directory: Path, *weights: Weight, **members: t.Any) -> Path:
    """A graph model of one group, which has these weights and uses none."""
    document = {**graph_model(list(weights)), **members}
    return write_model(directory, document, [list(weights)]).parent


def stored(directory: Path) -> dict[str, tuple[t.Any, bytes]]:
    """The spec of each weight, and its bytes in the shards."""
    document = json.loads((directory / "model.json").read_bytes())
    return {
        spec["name"]: (spec, piece)
        for group in groups_of(document)
        for spec, piece in pieces_of(directory, group)
    }


def values_of(spec: t.Any, piece: bytes) -> Values:
    return np.frombuffer(decode(spec, piece), "<f4")


def normal(elements: int, spread: float = 1) -> Values:
    return np.random.default_rng(elements).normal(0, spread, elements).astype("<f4")


# The codings


def bound(spec: t.Any, values: Values) -> Values:
    """By how much a value may change: half of what lies between two that the coding
    has, and what rounding to float32 adds."""
    half_ulp = np.spacing(np.abs(values) / 2).astype(np.float64)
    quantization = spec["quantization"]
    if quantization["dtype"] == "float16":
        # 11 bits, but for the smallest, which are multiples of 2**-24.
        return np.maximum(np.abs(values.astype(np.float64)) * 2.0**-11, 2.0**-25)
    return quantization["scale"] * (0.5 + 1e-9) + half_ulp


def code(values: Values, coding: Coding) -> tuple[t.Any, Values, Quantization]:
    """The spec of a weight in *coding*, and the values that a client then has."""
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", without_waiting)
        source = graph(Path(name, "source"), weight("w", values, "float32"))
        result = quantize(source, Path(name, "small"), coding)
        [(spec, piece)] = stored(Path(name, "small")).values()
        return spec, values_of(spec, piece), result


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
moderate = st.floats(-1000, 1000, width=32)
any_values = st.lists(floats, min_size=1, max_size=9) | st.lists(
    moderate, min_size=1, max_size=9
)

# Enough that each coding is worth its place in the JSON.
ELEMENTS = 400


@pytest.mark.parametrize("coding", SIZES)
@settings(max_examples=80, deadline=None)
@given(found=any_values)
@example(found=[0.0])
@example(found=[-0.0])
@example(found=[5.0])
@example(found=[1e-45, 0.0])
@example(found=[-1e-45, 3.4028234663852886e38])
@example(found=[3.4028234663852886e38, -3.4028234663852886e38])
@example(found=[-3.4028234663852886e38, 0.0])
@example(found=[1.0, 1.0000001192092896])
@example(found=[0.0, 0.1, -1e-9])
@example(found=[0.0, -0.1, 1e-9])
@example(found=[65504.0, 65503.0])
@example(found=[-0.0035, 1.0])  # less than a step of uint8 below zero
@example(found=[0.0035, -1.0])
def test_no_value_changes_by_more_than_it_must(
    coding: Coding, found: list[float]
) -> None:
    values = np.resize(np.array(found, "<f4"), ELEMENTS)
    spec, after, result = code(values, coding)
    if "quantization" not in spec:
        assert after.tobytes() == values.tobytes()
        assert len(result.notices) == 1 and not result.errors
        return
    difference = np.abs(after.astype(np.float64) - values)
    assert np.all(difference <= bound(spec, values))
    assert np.all(after[values == 0] == 0)
    told = result.errors[coding]
    assert (told.weight, told.error) == ("w", difference.max())
    assert told.largest == np.abs(values).max()
    assert result.before == {"float32": 4 * ELEMENTS}
    assert result.after == {coding: SIZES[coding] * ELEMENTS}


@pytest.mark.parametrize("coding", ["uint8", "uint16"])
@settings(max_examples=80, deadline=None)
@given(found=any_values)
@example(found=[-1.49, 251.0])
@example(found=[1.49, -251.0])
def test_no_number_is_wasted(coding: Coding, found: list[float]) -> None:
    """The steps are the smallest there are, but for what an exact zero takes."""
    levels = 256 ** SIZES[coding] - 1
    values = np.resize(np.array(found, "<f4"), ELEMENTS)
    spec, _, _ = code(values, coding)
    spread = float(values.max()) - float(values.min())
    if "quantization" in spec and spread:
        assert spec["quantization"]["scale"] <= spread / levels * (1 + 2 / levels)


LEFT = [
    ("float16", [1.0, 65505.0], "float16 ends at 65504"),
    ("float16", [-1e9, 0.0], "float16 ends at 65504"),
    ("float16", [6.1e-5, 0.0, -1e-7], "float16 has few bits for values below 0.00006"),
    (
        "uint8",
        [6.805647186300697e36, -3.4028234663852886e38],
        "uint8 would make it infinite",
    ),
]


@pytest.mark.parametrize(("coding", "found", "reason"), LEFT)
def test_what_a_coding_cannot_hold_stays(
    coding: Coding, found: list[float], reason: str
) -> None:
    values = np.resize(np.array(found, "<f4"), ELEMENTS)
    spec, after, result = code(values, coding)
    assert "quantization" not in spec and after.tobytes() == values.tobytes()
    assert result.notices == (f"left as it was, since {reason}: 'w'",)


def test_what_stays_is_listed(tmp_path: Path) -> None:
    weights = [weight(f"w{i}", [1e9] * ELEMENTS, "float32") for i in range(8)]
    result = quantize(graph(tmp_path / "model", *weights), tmp_path / "small")
    [notice] = result.notices
    assert notice.endswith(": 'w0', 'w1', 'w2', 'w3', 'w4' and 3 more")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("coding", SIZES)
def test_what_is_not_finite(tmp_path: Path, value: float, coding: Coding) -> None:
    """It is refused by name; a word leaves it as it is."""
    values = normal(ELEMENTS)
    values[7] = value
    name = "odd [1] weight*"
    source = graph(
        tmp_path / "model",
        weight("a", values[8:], "float32"),
        weight(name, values, "float32"),
        weight("scalar", value, "float32"),
    )
    with pytest.raises(InvalidModel) as refused:
        quantize(source, tmp_path / "small", coding)
    assert refused.value.where == "weightsManifest[0].weights[1]"
    assert refused.value.message == (
        f"weight {name!r} holds NaN or infinity and cannot be quantized; mend it, or "
        "leave it as it is: --only 'odd [[]1] weight[*]=none'"
    )
    assert os.listdir(tmp_path) == ["model"]
    rule = ("odd [[]1] weight[*]", "none")
    quantize(source, tmp_path / "small", coding, [rule])
    kept = stored(tmp_path / "small")
    assert kept[name][1] == values.tobytes()
    assert "quantization" in kept["a"][0]


# What is quantized, and what stays


STAY = [
    weight("int32", np.arange(ELEMENTS), "int32"),
    weight("bool", [True] * ELEMENTS, "bool"),
    weight("complex64", normal(ELEMENTS) + 1j, "complex64"),
    string_weight("string", [2], [b"one" * ELEMENTS, b"\xff"]),
    weight("none", np.empty((0, 3)), "float32"),
    weight("scalar", 0.1, "float32"),
    weight("few", normal(15), "float32"),
    quantized("int32 as uint8", [1] * ELEMENTS, "uint8", Scale(1, 0), "int32"),
    quantized("uint8", range(256), "uint8", Scale(0.123456789, -12.3456789)),
]


@pytest.mark.parametrize("coding", CODINGS)
def test_what_would_gain_nothing_stays_as_it_is(tmp_path: Path, coding: Coding) -> None:
    source = graph(tmp_path / "model", *STAY)
    result = quantize(source, tmp_path / "small", coding)
    assert stored(tmp_path / "small") == stored(source)
    assert result.before == result.after
    assert not result.errors and not result.notices and not result.warnings


@pytest.mark.parametrize("coding", SIZES)
def test_a_weight_is_coded_where_its_place_in_the_json_pays(
    tmp_path: Path, coding: Coding
) -> None:
    weights = [weight(f"w{n}", normal(n), "float32") for n in range(1, 100)]
    source = graph(tmp_path / "model", *weights)
    result = quantize(source, tmp_path / "small", coding)
    old, new = stored(source), stored(tmp_path / "small")
    coded = {n for n, (spec, _) in new.items() if "quantization" in spec}
    assert all(room(*new[name]) < room(*old[name]) for name in coded)
    assert all(new[name] == old[name] for name in old.keys() - coded)
    # The member of the JSON has 62 bytes for float16; for the others some 70 to 110.
    fewest = min(spec["shape"][0] for spec, _ in (new[name] for name in coded))
    assert fewest in {"float16": [32], "uint16": range(40, 60)}.get(
        coding, range(25, 40)
    )
    assert result.after[coding] == sum(len(new[name][1]) for name in coded)


def room(spec: t.Any, piece: bytes) -> int:
    return len(json.dumps(spec, separators=(",", ":"))) + len(piece)


#: How a weight was coded before, what it is to be, and what it becomes.
AGAIN: list[tuple[str, Coding, str]] = [
    ("float16", "float16", "float16"),
    ("float16", "uint16", "float16"),
    ("float16", "uint8", "uint8"),
    ("uint16", "float16", "uint16"),
    ("uint16", "uint16", "uint16"),
    ("uint16", "uint8", "uint8"),
    ("uint8", "float16", "uint8"),
    ("uint8", "uint16", "uint8"),
    ("uint8", "uint8", "uint8"),
]


@pytest.mark.parametrize(("before", "coding", "becomes"), AGAIN)
def test_what_is_quantized_already(
    tmp_path: Path, before: str, coding: Coding, becomes: str
) -> None:
    """It is read rightly, and coded again only if it becomes smaller."""
    scale = None if before == "float16" else Scale(0.01, -0.5)
    numbers = normal(ELEMENTS) if scale is None else np.arange(ELEMENTS) % 200
    source = graph(tmp_path / "model", quantized("w", numbers, before, scale))
    result = quantize(source, tmp_path / "small", coding)
    old, new = stored(source)["w"], stored(tmp_path / "small")["w"]
    assert new[0]["quantization"]["dtype"] == becomes
    if before == becomes:
        assert new == old
    difference = np.abs(values_of(*new) - values_of(*old))
    assert np.all(difference <= bound(new[0], values_of(*old)))
    assert result.before == {before: len(old[1])}
    assert result.after == {becomes: len(new[1])}


def test_a_large_weight(tmp_path: Path) -> None:
    """Coded in parts, written in shards."""
    values = normal(3_000_001)
    source = graph(tmp_path / "model", weight("w", values, "float32"))
    for coding in SIZES:
        small = tmp_path / coding
        result = quantize(source, small, coding)
        spec, piece = stored(small)["w"]
        after = values_of(spec, piece)
        assert np.all(np.abs(after - values) <= bound(spec, values))
        assert (
            result.errors[coding].error
            == np.abs(after.astype(np.float64) - values).max()
        )
        count = math.ceil(len(piece) / 2**22)
        assert len(list(small.glob(f"group1-shard*of{count}.bin"))) == count


# Patterns


def names_by_coding(directory: Path) -> dict[str, str]:
    return {
        name: spec.get("quantization", {}).get("dtype", "none")
        for name, (spec, _) in stored(directory).items()
    }


def test_patterns(tmp_path: Path) -> None:
    names = ["a/kernel", "a/bias", "b/kernel", "b/bias", "B/kernel"]
    source = graph(
        tmp_path / "model", *(weight(n, normal(ELEMENTS), "float32") for n in names)
    )
    rules = [("*/bias", "none"), ("b/*", "uint8"), ("a/kerne[l]", "uint16")]
    result = quantize(source, tmp_path / "small", "float16", rules)
    assert names_by_coding(tmp_path / "small") == {
        "a/kernel": "uint16",
        "a/bias": "none",
        "b/kernel": "uint8",
        "b/bias": "none",
        "B/kernel": "float16",
    }
    assert result.after == {
        "uint16": 2 * ELEMENTS,
        "float32": 8 * ELEMENTS,
        "uint8": ELEMENTS,
        "float16": 2 * ELEMENTS,
    }
    assert {c: e.weight for c, e in result.errors.items()} == {
        "uint16": "a/kernel",
        "uint8": "b/kernel",
        "float16": "B/kernel",
    }


def test_a_pattern_that_decides_nothing(tmp_path: Path) -> None:
    source = graph(tmp_path / "model", weight("a", normal(ELEMENTS), "float32"))
    rules = [("kernle", "uint8"), ("a", "none"), ("?", "uint8")]
    result = quantize(source, tmp_path / "small", by_pattern=rules)
    assert result.warnings == (
        "the pattern 'kernle' decides about no weight",
        "the pattern '?' decides about no weight",
    )


def test_the_largest_error_of_all_weights(tmp_path: Path) -> None:
    weights = [
        weight(name, normal(ELEMENTS, spread), "float32")
        for name, spread in (("a", 1), ("b", 100), ("c", 10))
    ]
    result = quantize(graph(tmp_path / "model", *weights), tmp_path / "small")
    largest = result.errors["float16"]
    assert largest.weight == "b" and 0.05 < largest.error < 0.2
    assert 200 < largest.largest < 600


@pytest.mark.parametrize(
    "how",
    [
        {"coding": "float32"},
        {"by_pattern": [("*", "uint8"), ("a", "int8")]},
    ],
)
def test_an_unknown_coding(tmp_path: Path, how: t.Any) -> None:
    source = graph(tmp_path / "model", weight("a", 1, "float32"))
    with pytest.raises(TFJSError, match="^there is no coding '.+': float16, uint16, u"):
        quantize(source, tmp_path / "small", **how)


# Warnings

UINT8 = "uint8 has 256 values for all of a weight, "
DEPTHWISE = (
    "models with depthwise convolutions often predict nonsense when some of their "
    "weights are uint8, whichever these are; take float16 or uint16 for all. It has: "
)


def test_uint8_is_warned_of(tmp_path: Path) -> None:
    weights = [weight(name, normal(ELEMENTS), "float32") for name in ("a", "b")]
    source = graph(tmp_path / "model", *weights)
    for number, (rules, warned) in enumerate(
        [([], False), ([("a", "uint16")], False), ([("b", "uint8")], True)]
    ):
        result = quantize(source, tmp_path / str(number), "float16", rules)
        assert [w.startswith(UINT8) for w in result.warnings] == [True] * warned


LAYERS = ["base/dw", "sep", "wrapped"]


def depthwise_layers_model(directory: Path) -> Path:
    names = [f"{layer}/depthwise_kernel" for layer in LAYERS]
    weights = [
        weight(name, normal(ELEMENTS), "float32")
        for name in [*names, "sep/pointwise_kernel", "dense/kernel"]
    ]
    document = {"modelTopology": LAYERS_TOPOLOGY}
    return write_model(directory, document, [weights]).parent


def depthwise_graph_model(directory: Path) -> Path:
    document = graph_model([])
    topology = document["modelTopology"]
    topology["node"] += [
        {"name": "one", "op": "DepthwiseConv2dNative", "input": ["x", "w:0"]},
        {"name": "two", "op": "FusedDepthwiseConv2dNative", "input": ["one", "w"]},
        {"name": "other", "op": "Conv2D", "input": ["two", "w"]},
    ]
    node = {"name": "three", "op": "DepthwiseConv2dNative", "input": ["x", "w"]}
    topology["library"] = {"function": [{"nodeDef": [node]}, {}, None]}
    weights = [weight("w", normal(ELEMENTS), "float32")]
    return write_model(directory, document, [weights]).parent


@pytest.mark.parametrize(
    ("make", "layers"),
    [
        (depthwise_layers_model, LAYERS),
        (depthwise_graph_model, ["one", "two", "three"]),
    ],
)
def test_depthwise_layers_are_named(
    tmp_path: Path, make: Callable[[Path], Path], layers: list[str]
) -> None:
    source = make(tmp_path / "model")
    result = quantize(source, tmp_path / "small", "uint8")
    assert result.warnings[0].startswith(UINT8)
    assert result.warnings[1:] == (DEPTHWISE + ", ".join(map(repr, layers)),)
    for coding in ("float16", "uint16", "none"):
        assert not quantize(source, tmp_path / coding, coding).warnings


ODD_TOPOLOGIES: list[t.Any] = [
    {"node": None},
    {"node": [None, {}, {"name": 1, "op": "DepthwiseConv2dNative"}], "library": []},
    {"node": [], "library": {"function": [{"nodeDef": {}}]}},
]


@pytest.mark.parametrize("topology", ODD_TOPOLOGIES)
def test_an_odd_topology(tmp_path: Path, topology: t.Any) -> None:
    weights = [weight("w", normal(ELEMENTS), "float32")]
    document = {"modelTopology": topology}
    source = write_model(tmp_path / "model", document, [weights]).parent
    assert len(quantize(source, tmp_path / "small", "uint8").warnings) == 1


# The rest of a model


def test_the_rest_of_the_json_stays(tmp_path: Path) -> None:
    members: dict[str, t.Any] = {
        "format": "graph-model",
        "generatedBy": "2.19.0",
        "convertedBy": None,
        "signature": {"inputs": {"x": {"name": "x:0"}}},
        "userDefinedMetadata": {"labels": ["größe", 1e-7, -0.0, None]},
        "initializer": {"node": []},
        "trainingConfig": {"loss": "mse"},
    }
    source = graph(tmp_path / "m", weight("w", normal(ELEMENTS), "float32"), **members)
    quantize(source, tmp_path / "small")
    before, after = (
        json.loads((tmp_path / name / "model.json").read_bytes())
        for name in ("m", "small")
    )
    [old], [new] = before.pop("weightsManifest"), after.pop("weightsManifest")
    assert after == before
    assert str(after["userDefinedMetadata"]["labels"][2]) == "-0.0"
    quantization = {"dtype": "float16", "original_dtype": "float32"}
    assert new["weights"] == [{**old["weights"][0], "quantization": quantization}]


def test_a_published_model(tmp_path: Path) -> None:
    """The copy does not pretend to be a release."""
    source = graph(tmp_path / "model", weight("w", normal(ELEMENTS), "float32"))
    put(new_app(tmp_path), source, "m")
    published = store_of(tmp_path) / "m"
    assert b'"flaskTfjs"' in (published / "model.json").read_bytes()
    quantize(published, tmp_path / "small")
    assert b"flaskTfjs" not in (tmp_path / "small/model.json").read_bytes()


def test_files_beside_it(tmp_path: Path) -> None:
    source = graph(tmp_path / "model", weight("w", normal(ELEMENTS), "float32"))
    for name in ("labels.txt", "notes.md", "metadata.json"):
        (source / name).write_bytes(name.encode())
    quantize(source, tmp_path / "small", assets=["labels.*", "metadata.json", "*.bin"])
    quantize(source, tmp_path / "bare")
    names = {"model.json", "group1-shard1of1.bin"}
    assert set(os.listdir(tmp_path / "bare")) == names
    assert set(os.listdir(tmp_path / "small")) == {
        *names,
        "labels.txt",
        "metadata.json",
    }
    assert (tmp_path / "small/labels.txt").read_bytes() == b"labels.txt"


def test_files_beside_it_that_are_called_like_parts_of_it(tmp_path: Path) -> None:
    source = graph(tmp_path / "model", weight("w", normal(ELEMENTS), "float32"))
    text = (source / "model.json").read_text()
    (source / "a.json").write_text(text.replace("group1-shard1of1", "weights"))
    (source / "group1-shard1of1.bin").rename(source / "weights.bin")
    for name in ("model.json", "group1-shard1of1.bin"):
        (source / name).write_bytes(b"{}")
    quantize(source / "a.json", tmp_path / "small", assets=["*"])
    assert names_by_coding(tmp_path / "small") == {"w": "float16"}
    assert len(os.listdir(tmp_path / "small")) == 2


def test_cuts_and_groups_of_the_source(tmp_path: Path) -> None:
    """Read rightly, however the weights are cut, also where tfjs would read zeros."""
    document, groups = layers_model([40, 30, 20])
    for name, how in {
        "cut": {"shard_size": 999},
        "group": {"path": "weights-{group}.bin"},
    }.items():
        write_model(tmp_path / name, document, groups, **t.cast(t.Any, how))
    misread = misread_model(tmp_path).directory
    with (tmp_path / "group/weights-2.bin").open("ab") as file:
        file.write(b"more than the weights need")
    for name in ("cut", "group", misread.name):
        small = tmp_path / f"{name}-small"
        quantize(tmp_path / name, small, "none")
        expected = {
            spec["name"]: piece for spec, piece in sound_pieces(tmp_path / name)
        }
        assert {n: piece for n, (_, piece) in stored(small).items()} == expected
        assert not list(check_model(ModelDirectory("small", str(small))))


def sound_pieces(directory: Path) -> Iterator[tuple[t.Any, bytes]]:
    document = json.loads((directory / "model.json").read_bytes())
    for group in groups_of(document):
        data = b"".join((directory / path).read_bytes() for path in group["paths"])
        offset = 0
        for spec in group["weights"]:
            size = byte_size(spec, data, offset)
            yield spec, data[offset : offset + size]
            offset += size


def test_it_is_the_same_each_time(tmp_path: Path) -> None:
    source = graph(tmp_path / "model", weight("w", normal(ELEMENTS), "float32"))
    for name in ("one", "two"):
        quantize(source, tmp_path / name, "uint16")
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


# Sources


def test_a_json_of_any_name(tmp_path: Path) -> None:
    source = graph(tmp_path / "model", weight("w", normal(ELEMENTS), "float32"))
    (source / "other.json").write_bytes((source / "model.json").read_bytes())
    quantize(source / "other.json", tmp_path / "small")
    quantize(str(source), str(tmp_path / "again"))
    assert snapshot(tmp_path / "small") == snapshot(tmp_path / "again")


def test_sources_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.keras").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    two = graph(tmp_path / "two", weight("w", 1, "float32"))
    (two / "model.json").rename(two / "a.json")
    (two / "b.json").write_bytes((two / "a.json").read_bytes())
    bare = write_model(tmp_path / "bare", [], [[weight("w", 1, "float32")]]).parent
    alone = write_model(tmp_path / "alone", {}, [[weight("w", 1, "float32")]]).parent
    refused: list[tuple[Path, type[TFJSError], str]] = [
        (tmp_path / "m.keras", TFJSError, "m.keras is not a directory or .json file "),
        (tmp_path / "no", InvalidModel, "the directory cannot be read: No such file"),
        (tmp_path / "no.json", ModelNotFound, "there is no file no.json"),
        (tmp_path / "empty", ModelNotFound, "no JSON file in it is a TensorFlow.js m"),
        (two, ModelNotFound, "'two' holds several models"),
        (bare, InvalidModel, "model.json: holds weights without a model, and only"),
        (alone, InvalidModel, "model.json: holds weights without a model, and only"),
    ]
    broken = {model.directory for model in broken_models(tmp_path / "broken")}
    before = snapshot(tmp_path)
    for source, error, sentence in refused:
        with pytest.raises(error) as fault:
            quantize(source, tmp_path / "small")
        assert sentence in str(fault.value), source
    for source in broken:
        with pytest.raises(InvalidModel):
            quantize(source, tmp_path / "small")
    assert snapshot(tmp_path) == before


def test_links_out_of_the_source(tmp_path: Path) -> None:
    source = graph(tmp_path / "model", weight("w", normal(ELEMENTS), "float32"))
    (tmp_path / "blobs").mkdir()
    shard = source / "group1-shard1of1.bin"
    shard.rename(tmp_path / "blobs/1")
    shard.symlink_to(tmp_path / "blobs/1")
    with pytest.raises(InvalidModel, match="leads out of the registered directory"):
        quantize(source, tmp_path / "small")
    quantize(source, tmp_path / "small", link_roots=[str(tmp_path / "blobs")])
    assert (tmp_path / "small/model.json").exists()


def test_a_source_that_is_written_to_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = graph(tmp_path / "model", weight("w", normal(ELEMENTS), "float32"))
    shard = source / "group1-shard1of1.bin"

    for moment in ("examine", "assets_beside"):
        original = getattr(ModelDirectory, moment)

        def then_write(*arguments: t.Any, then: t.Any = original) -> t.Any:
            found = then(*arguments)
            shard.write_bytes(np.random.default_rng().random(ELEMENTS, "<f4").tobytes())
            return found

        with monkeypatch.context() as patch:
            patch.setattr(ModelDirectory, moment, then_write)
            with pytest.raises(InvalidModel, match="is being written to; ask again"):
                quantize(source, tmp_path / "small")
        assert os.listdir(tmp_path) == ["model"]

    # Another model under its name, before that one is looked at again.
    main = ModelDirectory.main

    def then_another(directory: ModelDirectory) -> t.Any:
        found = main(directory)
        text = (source / "model.json").read_text()
        (source / "other.bin").write_bytes(shard.read_bytes())
        (source / "model.json").write_text(text.replace(shard.name, "other.bin"))
        return found

    monkeypatch.setattr(ModelDirectory, "main", then_another)
    with pytest.raises(InvalidModel, match="is being written to; ask again"):
        quantize(source, tmp_path / "small")
    assert os.listdir(tmp_path) == ["model"]


def test_the_destination(tmp_path: Path) -> None:
    """As :mod:`test_convert_directory` has it in full."""
    source = graph(tmp_path / "model", weight("w", normal(ELEMENTS), "float32"))
    with pytest.raises(TFJSError, match="is or holds what is read"):
        quantize(source / "model.json", source, force=True)
    quantize(source, tmp_path / "small", "uint8")
    with pytest.raises(TFJSError, match="is there and not empty; --force"):
        quantize(source, tmp_path / "small")
    assert names_by_coding(tmp_path / "small") == {"w": "uint8"}
    quantize(source, tmp_path / "small", force=True)
    assert names_by_coding(tmp_path / "small") == {"w": "float16"}


# In TensorFlow.js


#: Models that tfjs makes and writes as files; and one from files, what it makes of
#: inputs that are the same each time, and its weights.
TFJS = """
async (require) => {
  const tf = require('@tensorflow/tfjs');
  const fs = require('node:fs');
  const {dirname, join} = require('node:path');
  await tf.setBackend('cpu');

  const random = (seed) => tf.initializers.randomNormal({stddev: 0.4, seed});
  const layers = {
    mlp: () => [
      tf.layers.dense({units: 40, inputShape: [20], activation: 'tanh'}),
      tf.layers.dense({units: 3, activation: 'softmax'}),
    ],
    rnn: () => [
      tf.layers.embedding({inputDim: 50, outputDim: 16, inputLength: 12}),
      tf.layers.bidirectional({
        layer: tf.layers.lstm({units: 8}),
        mergeMode: 'concat',
      }),
      tf.layers.dense({units: 4}),
    ],
    cnn: () => [
      tf.layers.conv2d({filters: 16, kernelSize: 3, inputShape: [9, 9, 3]}),
      tf.layers.batchNormalization(),
      tf.layers.depthwiseConv2d({kernelSize: 3, name: 'dw'}),
      tf.layers.separableConv2d({filters: 32, kernelSize: 3, name: 'sep'}),
      tf.layers.flatten(),
      tf.layers.dense({units: 5}),
    ],
  };

  async function make(name, directory) {
    const model = tf.sequential({layers: layers[name]()});
    model.setWeights(model.getWeights().map((one, i) => {
      const values = random(i + 1).apply(one.shape);
      return one.shape.length === 1 ? values.abs() : values;
    }));
    model.compile({optimizer: 'adam', loss: 'meanSquaredError'});
    const inputs = inputsOf(model.inputs[0]);
    await model.fit(inputs, model.predict(inputs), {epochs: 1});
    await model.save(tf.io.withSaveHandler(async (artifacts) => {
      const {weightData, weightSpecs, ...document} = artifacts;
      const paths = ['weights.bin'];
      document.weightsManifest = [{paths, weights: weightSpecs}];
      fs.mkdirSync(directory);
      fs.writeFileSync(join(directory, 'model.json'), JSON.stringify(document));
      fs.writeFileSync(join(directory, 'weights.bin'), Buffer.from(weightData));
      return {modelArtifactsInfo: {dateSaved: new Date()}};
    }), {includeOptimizer: true});
  }

  function inputsOf({shape, dtype}) {
    const sizes = shape.map((size) => (size > 0 ? size : 1));
    if (sizes.length === 4 && sizes[1] === 1) {
      sizes[1] = sizes[2] = 33;
    }
    const count = sizes.reduce((product, one) => product * one, 1);
    const wave = Float32Array.from({length: count}, (_, i) => Math.sin(i) / 2 + 0.5);
    const inputs = tf.tensor(wave, sizes);
    return dtype === 'int32' || sizes[1] === 12 ? inputs.mul(49).round() : inputs;
  }

  const read = (json) => ({
    async load() {
      const document = JSON.parse(fs.readFileSync(json));
      const groups = document.weightsManifest;
      const files = groups.flatMap(({paths}) => paths);
      const data = Buffer.concat(
        files.map((path) => fs.readFileSync(join(dirname(json), path))),
      );
      const weightData = new Uint8Array(data).buffer;
      const weightSpecs = groups.flatMap(({weights}) => weights);
      return {...document, weightSpecs, weightData};
    },
  });

  async function look(json, loader, given) {
    const model = await tf[loader](read(json));
    const inputs = given
      ? given.map(({data, shape}) => tf.tensor(data, shape))
      : model.inputs.map(inputsOf);
    const found = model.predict(inputs.length === 1 ? inputs[0] : inputs);
    const outputs = [];
    for (const one of [found].flat()) {
      outputs.push([...(await one.data())]);
    }
    const weights = {};
    const pairs = Array.isArray(model.weights)
      ? model.weights.map((one) => [one.originalName, one.read()])
      : Object.entries(model.weights).map(([name, [one]]) => [name, one]);
    for (const [name, tensor] of pairs) {
      const {buffer} = Float32Array.from(await tensor.data());
      weights[name] = Buffer.from(buffer).toString('base64');
    }
    model.dispose();
    return {outputs, weights};
  }

  return ({make: name, directory, json, loader, inputs}) =>
    name ? make(name, directory) : look(json, loader, inputs);
}
"""


class Look(t.NamedTuple):
    outputs: list[Values]
    weights: dict[str, Values]


@pytest.fixture(scope="module")
def tfjs() -> Iterator[Function]:
    with javascript(TFJS, "@tensorflow/tfjs") as function:
        yield function


def look(tfjs: Function, json_file: Path, inputs: t.Any = None) -> Look:
    graph = "node" in json.loads(json_file.read_bytes())["modelTopology"]
    loader = "loadGraphModel" if graph else "loadLayersModel"
    found = tfjs({"json": str(json_file), "loader": loader, "inputs": inputs})
    return Look(
        [np.array(one, "<f8") for one in found["outputs"]],
        {
            name: np.frombuffer(base64.b64decode(data), "<f4")
            for name, data in found["weights"].items()
        },
    )


def difference(one: Look, other: Look) -> float:
    """The largest of two outputs, as a share of the largest output."""
    return max(
        float(np.abs(a - b).max() / np.abs(a).max())
        for a, b in zip(one.outputs, other.outputs, strict=True)
    )


#: How far predictions may be off, as a share of the largest: about four times what was
#: seen.
OFF_AT_MOST: dict[Coding, float] = {"float16": 0.002, "uint16": 0.0002, "uint8": 0.05}


@pytest.mark.parametrize("name", ["mlp", "rnn", "cnn"])
def test_layers_models_in_tfjs(tmp_path: Path, tfjs: Function, name: str) -> None:
    """Saved with their optimizer, whose weights are left out."""
    source = tmp_path / name
    tfjs({"make": name, "directory": str(source)})
    before = look(tfjs, source / "model.json")
    optimizer = {
        spec["name"]: len(piece)
        for spec, piece in stored(source).values()
        if spec.get("group") == "optimizer"
    }
    assert len(optimizer) > 3
    for coding, most in OFF_AT_MOST.items():
        small = tmp_path / coding
        result = quantize(source, small, coding)
        assert result.notices[-1] == (
            f"{len(optimizer)} weights of the optimizer "
            f"({sum(optimizer.values()):,} bytes) are left out: the new model is for "
            "predictions; train the old one"
        )
        assert "trainingConfig" in json.loads((small / "model.json").read_bytes())
        after = look(tfjs, small / "model.json")
        require_equal(after, small)
        assert 0 < difference(before, after) < most, coding
        weights = sum(result.before.values()) - sum(optimizer.values())
        assert sum(result.after.values()) < weights * (0.75 if "16" in coding else 0.5)
        warned = [w for w in result.warnings if w.startswith(DEPTHWISE)]
        if name == "cnn" and coding == "uint8":
            assert warned == [f"{DEPTHWISE}'dw', 'sep'"]
        else:
            assert not warned


def require_equal(found: Look, directory: Path) -> None:
    """What tfjs has read is what the files say, zeros included."""
    expected = {
        name: values_of(spec, piece)
        for name, (spec, piece) in stored(directory).items()
        if spec["dtype"] == "float32"
    }
    for name, values in expected.items():
        assert np.array_equal(found.weights[name], values), name


@pytest.mark.parametrize("name", ["cnn-keras", "lstm-h5", "normalization-keras"])
def test_what_is_repaired_when_it_is_served_in_tfjs(
    tmp_path: Path, tfjs: Function, name: str
) -> None:
    """It is read as it would be served, so the copy needs no repair."""
    source = TESTS / "fixtures/official" / name
    expected = json.loads((source / "io.json").read_bytes())
    quantize(source, tmp_path / "small")
    json_file = tmp_path / "small/model.json"
    found = ModelDirectory("small", str(json_file.parent)).examine("model.json")
    assert not found.repairs
    # float16 has all of its weights.
    [output] = look(tfjs, json_file, expected["x"]).outputs
    assert output == pytest.approx(expected["y"][0]["data"], abs=1e-5)


#: Of real graph models, the share of bytes left and the largest change of a weight.
REAL: list[tuple[str, Coding, float, float]] = [
    ("emotion", "float16", 0.5, 2.9e-3),
    ("emotion", "uint16", 0.5, 1.4e-4),
    ("emotion", "uint8", 0.25, 3.5e-2),
    ("posenet", "float16", 0.5, 1.6e-2),
    ("posenet", "uint16", 0.5, 2.1e-3),
    ("posenet", "uint8", 0.25, 5.5e-1),
    ("faceres-deep", "float16", 0.5, 1.5e-2),
    ("faceres-deep", "uint16", 0.5, 6.7e-4),
    ("faceres-deep", "uint8", 0.25, 1.7e-1),
    # It was float16 before.
    ("blazeface-back", "float16", 0.5, 0),
    ("blazeface-back", "uint16", 0.5, 8.6e-4),
    ("blazeface-back", "uint8", 0.25, 2.2e-1),
]

#: Between which shares of the largest output their predictions are then off. A few
#: values of this input are no more than an example.
OFF: dict[str, dict[Coding, tuple[float, float]]] = {
    "emotion": {
        "float16": (1e-6, 0.01),
        "uint16": (1e-6, 0.01),
        "uint8": (0.002, 1),
    },
    "blazeface-back": {
        "float16": (0, 0),
        "uint16": (1e-6, 0.03),
        "uint8": (0.2, 9),
    },
}


def human_model(name: str) -> Path:
    path = HUMAN_DIRECTORY / f"{name}.json"
    require(path.exists(), "human-models: npm ci in tests/clients")
    return path


@pytest.mark.parametrize(("name", "coding", "share", "error"), REAL)
def test_real_graph_models(
    tmp_path: Path, name: str, coding: Coding, share: float, error: float
) -> None:
    """The figures that the documentation has."""
    result = quantize(human_model(name), tmp_path / "small", coding)
    byte_length = sum(result.before.values())
    assert sum(result.after.values()) == pytest.approx(share * byte_length, rel=0.02)
    assert result.errors[coding].error == pytest.approx(error, rel=0.05)
    depthwise = any(warning.startswith(DEPTHWISE) for warning in result.warnings)
    assert depthwise == (coding == "uint8")


@pytest.mark.parametrize("name", OFF)
def test_real_graph_models_in_tfjs(tmp_path: Path, tfjs: Function, name: str) -> None:
    before = look(tfjs, human_model(name))
    for coding, (least, most) in OFF[name].items():
        quantize(human_model(name), tmp_path / coding, coding)
        after = look(tfjs, tmp_path / coding / "model.json")
        require_equal(after, tmp_path / coding)
        off = difference(before, after)
        print(f"\n{name} {coding}: {off:.2%}")
        assert least <= off <= most


def test_a_model_that_face_api_reads(tmp_path: Path) -> None:
    manifests = sorted(FACE_DIRECTORY.glob("*-weights_manifest.json"))
    require(manifests, "face-api: npm ci in tests/clients")
    with pytest.raises(InvalidModel, match="holds weights without a model"):
        quantize(manifests[0], tmp_path / "small")
