"""What the official converter made of Keras models goes out as TensorFlow.js reads it:
other names for the same bytes, and another topology."""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import official
import pytest
from click.testing import Result
from conftest import MakeApp
from flask import Flask
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from models import LAYERS_TOPOLOGY
from models import dense_document
from models import write_model

from flask_tfjs.cli import tfjs
from flask_tfjs.convert.arrays import values_of
from flask_tfjs.errors import InvalidModel
from flask_tfjs.format import strict_json
from flask_tfjs.format.excerpt import excerpt
from flask_tfjs.format.excerpt import placed_anew
from flask_tfjs.format.layout import Layout
from flask_tfjs.format.layout import Shard
from flask_tfjs.format.layout import lay_out
from flask_tfjs.format.manifest import ModelJSON
from flask_tfjs.format.manifest import read_document
from flask_tfjs.format.repair import first_unread_byte
from flask_tfjs.keras import mending
from flask_tfjs.keras.bounds import MAX_LAYERS
from flask_tfjs.keras.constants import MAX_VALUES
from flask_tfjs.keras.constants import constant
from flask_tfjs.keras.constants import decoded
from flask_tfjs.keras.mending import Mended
from flask_tfjs.keras.mending import mend
from flask_tfjs.keras.mending import unfit
from flask_tfjs.keras.weights import Computed
from flask_tfjs.keras.weights import Stored
from flask_tfjs.keras.writing import topology
from flask_tfjs.models.directory import ModelDirectory

URL = "/models/m/model.json"

#: Seconds in which a hostile document is judged: far more than it takes.
LIMIT = 30


# Documents


def model_of(document: Any) -> ModelJSON:
    model = read_document(document)
    assert model is not None
    return model


def no_values(weight: Stored) -> Sequence[float]:
    raise AssertionError(weight.name)


def halves(weight: Stored) -> Sequence[float]:
    return [0.5] * math.prod(weight.shape)


def mended(document: Any) -> Mended:
    done = mend(model_of(document), halves)
    assert done is not None
    return done


def weights_of(document: Any) -> list[Any]:
    groups = document["weightsManifest"]
    return [spec for group in groups for spec in group["weights"]]


def names_in(document: Any) -> list[str]:
    return [spec["name"] for spec in weights_of(document)]


def config_of(document: Any) -> Any:
    return document["modelTopology"]["model_config"]["config"]


def layer_of(document: Any, name: str) -> Any:
    layers = config_of(document)["layers"]
    return next(layer for layer in layers if layer["config"]["name"] == name)


@pytest.mark.parametrize("case", official.MENDED)
def test_what_is_mended_fits(case: str) -> None:
    """And is not mended again."""
    document = official.document_of(case)
    before = copy.deepcopy(document)
    assert unfit(model_of(document))
    done = mended(document)
    assert document == before
    assert done.repairs
    again = model_of(done.document)
    assert unfit(again) == ()
    assert mend(again, no_values) is None
    for repair in done.repairs:
        assert str(repair).isprintable()
        assert "--" not in str(repair)


@pytest.mark.parametrize("case", official.CASES)
def test_what_is_said_of_it(case: str) -> None:
    """The way out is one that helps."""
    model = model_of(official.document_of(case))
    layer = official.REFUSED.get(official.model_of(case))
    if layer is None:
        mend(model, halves)
        return
    with pytest.raises(InvalidModel) as refused:
        mend(model, halves)
    assert refused.value.where == layer
    assert ("flask tfjs convert" in str(refused.value)) == case.startswith("cnn2")
    # The code of a Lambda, which may hold paths, is nobody's business.
    assert "4wEA" not in str(refused.value)


def test_what_needs_no_repair_is_served_as_it_is(
    make_app: MakeApp, tmp_path: Path
) -> None:
    write_model(tmp_path / "plain")
    shutil.copytree(official.FIXTURES / "plain2-h5", tmp_path / "official")
    models = {name: tmp_path / name for name in ("plain", "official")}
    client = make_app(TFJS_MODELS=models).test_client()
    for name, path in models.items():
        document = json.loads((path / "model.json").read_bytes())
        served = client.get(f"/models/{name}/model.json").get_json()
        for group in (*document["weightsManifest"], *served["weightsManifest"]):
            del group["paths"]
        assert list(served) == list(document)
        assert strict_json.dumps(served) == strict_json.dumps(document)


@pytest.mark.parametrize(
    "members",
    [
        {"generatedBy": "TensorFlow.js tfjs-layers v4.22.0", "convertedBy": None},
        {"convertedBy": "flask_tfjs"},
        {"generatedBy": None},
    ],
    ids=["tfjs", "ours", "unknown"],
)
def test_only_what_keras_wrote_is_mended(members: dict[str, Any]) -> None:
    """To TensorFlow.js, bilinear means its own sampling."""
    document = {**official.document_of("bilinear2-h5"), **members}
    topology = document["modelTopology"]
    if "convertedBy" not in members or members["convertedBy"] is None:
        topology["keras_version"] = "tfjs-layers 4.22.0"
    if members == {"generatedBy": None}:
        del topology["keras_version"]
    assert mend(model_of(document), no_values) is None
    assert unfit(model_of(document)) == ()


def test_what_survives() -> None:
    document = official.document_of("mlp-save")
    document["signature"] = {"inputs": {}}
    document["trainingConfig"] = {"loss": "x"}
    done = mended(document).document
    others = [
        key for key in document if key not in ("modelTopology", "weightsManifest")
    ]
    assert "userDefinedMetadata" in others
    assert {key: done[key] for key in others} == {key: document[key] for key in others}
    topology = document["modelTopology"]
    assert done["modelTopology"]["training_config"] == topology["training_config"]


def test_quantization_stays() -> None:
    for case in ("cnn-uint8", "attention-float16"):
        document = official.document_of(case)
        before = [spec["quantization"] for spec in weights_of(document)]
        done = mended(document).document
        assert [spec["quantization"] for spec in weights_of(done)] == before


def test_a_topology_without_a_wrapper() -> None:
    """As TensorFlow.js writes it, and some who mend by hand."""
    document = official.document_of("mlp-h5")
    topology = document["modelTopology"]
    document["modelTopology"] = {"keras_version": "3.15.1", **topology["model_config"]}
    done = mended(document).document["modelTopology"]
    assert done["class_name"] == "Sequential"
    assert "model_config" not in done
    assert done["config"]["layers"][0]["config"]["batch_input_shape"] == [None, 5]


# Which weight is whose


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("mlp-h5", "batch_normalization/gamma first/kernel second/kernel"),
        ("mlp-keras", "second/kernel first/kernel dense/kernel"),
        ("bilstm-h5", "bidirectional/forward_forward_lstm/kernel"),
        ("bilstm-keras", "two/backward_forward_plain/recurrent_kernel"),
        ("cnn-h5", "depthwise_conv2d/depthwise_kernel"),
        ("cnn-keras", "depthwise_conv2d/depthwise_kernel stem/kernel"),
        ("extracted-h5", "dense_1_1/kernel dense_2/kernel"),
        ("nested2-keras", "dense_1/kernel"),
        ("timedist-keras", "time_distributed/kernel memory/kernel"),
    ],
)
def test_names(case: str, names: str) -> None:
    found = names_in(mended(official.document_of(case)).document)
    assert not [name for name in found if "vars" in name]
    assert set(names.split()) <= set(found), found


def owners(document: Any) -> dict[str, str]:
    """By the name that the converter gave a weight, the name that it has now."""
    done = mended(document)
    old = names_in(document)
    kept = [old[index] for run in done.kept for index in run]
    return dict(zip(kept, names_in(done.document), strict=True))


H5 = [case for case in official.MENDED if case.endswith("-h5")]

#: Two layers of one name, one of them in a model whose name says nothing.
BY_ORDER_ALONE = {"extracted-h5"}


@pytest.mark.parametrize("case", sorted({*H5} - BY_ORDER_ALONE))
def test_another_order_of_the_manifest(case: str) -> None:
    document = official.document_of(case)
    expected = owners(document)
    for group in document["weightsManifest"]:
        group["weights"].reverse()
    assert owners(document) == expected


@pytest.mark.parametrize("case", sorted(BY_ORDER_ALONE))
def test_an_order_that_tells_no_more(case: str) -> None:
    document = official.document_of(case)
    (group,) = document["weightsManifest"]
    group["weights"].reverse()
    with pytest.raises(InvalidModel) as refused:
        mend(model_of(document), no_values)
    assert refused.value.where == "dense_1"


def swap(document: Any, one: str, other: str) -> None:
    specs = weights_of(document)
    first, second = (names_in(document).index(name) for name in (one, other))
    specs[first]["name"], specs[second]["name"] = other, one


@pytest.mark.parametrize(
    ("case", "change", "where"),
    [
        ("mlp-h5", lambda d: weights_of(d)[0].update(name="mlp/x/gamma"), None),
        ("mlp-h5", lambda d: d["weightsManifest"][0]["weights"].pop(), None),
        ("mlp-keras", lambda d: d["weightsManifest"][0]["weights"].pop(0), None),
        (
            "mlp-h5",
            lambda d: weights_of(d)[-1].update(name="mlp/second/beta"),
            "second",
        ),
        (
            "mlp-h5",
            lambda d: swap(d, "mlp/first/kernel", "mlp/second/kernel"),
            "second",
        ),
        (
            "bilstm-h5",
            lambda d: swap(
                d,
                "bilstm/two/forward_plain/simple_rnn_cell/bias",
                "bilstm/two/backward_plain/simple_rnn_cell/kernel",
            ),
            "two",
        ),
        (
            "mlp-h5",
            lambda d: d["weightsManifest"][0]["weights"].append(
                {"name": "mlp/other/kernel", "shape": [2], "dtype": "float32"}
            ),
            "mlp/other/kernel",
        ),
        (
            "mlp-keras",
            lambda d: d["weightsManifest"][0]["weights"].append(
                {"name": "layers/lstm/vars/0", "shape": [2], "dtype": "float32"}
            ),
            "layers/lstm/vars/0",
        ),
        (
            "mlp-h5",
            lambda d: layer_of(d, "second")["config"].update(units=5),
            "second",
        ),
    ],
    ids=itertools.count(),
)
def test_weights_that_do_not_add_up(
    case: str, change: Callable[[Any], object], where: str | None
) -> None:
    """Nothing is guessed."""
    document = official.document_of(case)
    change(document)
    with pytest.raises(InvalidModel) as refused:
        mend(model_of(document), no_values)
    assert where in (None, refused.value.where), refused.value


def test_layers_whose_names_have_slashes() -> None:
    """They are groups within groups in an HDF5 file, and sorted so."""
    layers = [
        {"class_name": "Dense", "config": {"name": name, "units": 2}}
        for name in ("b", "a/c", "a-b")
    ]
    document = dense_document("w.bin")
    document["modelTopology"] = {
        "keras_version": "3.15.1",
        "model_config": {
            "class_name": "Sequential",
            "config": {
                "name": "s",
                "layers": [
                    {
                        "class_name": "InputLayer",
                        "config": {"batch_shape": [None, 2], "name": "x"},
                    },
                    *layers,
                ],
            },
        },
    }
    document["weightsManifest"][0]["weights"] = [
        {"name": f"{name}/{slot}", "shape": shape, "dtype": "float32"}
        for name in ("a/c", "a-b", "b")
        for slot, shape in (("kernel", [2, 2]), ("bias", [2]))
    ]
    assert owners(document) == {
        "a/c/kernel": "a_c/kernel",
        "a/c/bias": "a_c/bias",
        "a-b/kernel": "a-b/kernel",
        "a-b/bias": "a-b/bias",
        "b/kernel": "b/kernel",
        "b/bias": "b/bias",
    }


def test_metrics_of_a_compiled_model() -> None:
    document = official.document_of("plain2-keras")
    (group,) = document["weightsManifest"]
    for name in ("metrics/mean/vars/0", "optimizer/vars/0", "seed_generator/vars/0"):
        group["weights"].append({"name": name, "shape": [], "dtype": "float32"})
    assert not [name for name in owners(document) if not name.startswith("layers/")]


# What is left out


def test_the_optimizers_weights_are_not_served(
    make_app: MakeApp, tmp_path: Path
) -> None:
    shutil.copytree(official.FIXTURES / "mlp-keras", tmp_path / "m")
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    (group,) = client.get(URL).get_json()["weightsManifest"]
    (path,) = group["paths"]
    served = client.get(f"/models/m/{path}").data
    whole = (tmp_path / "m" / "group1-shard1of1.bin").read_bytes()
    assert served == whole[: len(served)]
    assert (len(served), len(whole)) == (300, 844)
    # Under its own name the file is as it was.
    assert client.get("/models/m/group1-shard1of1.bin").data == whole


def test_what_lies_between_is_left_out(make_app: MakeApp, tmp_path: Path) -> None:
    """A Normalization's weights become numbers of the topology."""
    shutil.copytree(official.FIXTURES / "normalization-h5", tmp_path / "m")
    document = official.document_of("normalization-h5")
    (group,) = document["weightsManifest"]
    specs = group["weights"]
    # mean, variance, count between the kernel and the bias
    group["weights"] = [specs[0], *specs[2:], specs[1]]
    whole = (tmp_path / "m" / "group1-shard1of1.bin").read_bytes()
    kernel, bias, rest = whole[:32], whole[32:40], whole[40:]
    (tmp_path / "m" / "group1-shard1of1.bin").write_bytes(kernel + rest + bias)
    (tmp_path / "m" / "model.json").write_text(json.dumps(document))
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    served = client.get(URL).get_json()
    groups = served["weightsManifest"]
    assert [names_in({"weightsManifest": [g]}) for g in groups] == [
        ["dense/kernel"],
        ["dense/bias"],
    ]
    paths = [path for group in groups for path in group["paths"]]
    assert [client.get(f"/models/m/{path}").data for path in paths] == [kernel, bias]
    mean, variance = np.frombuffer(rest[:32], "<f4").reshape(2, 4)
    scaling = layer_of(served, "normalization")["config"]
    scale = np.reciprocal(np.sqrt(variance))
    assert scaling["scale"] == scale.tolist()
    assert scaling["offset"] == (-mean * scale).tolist()


def quantized(values: Any, coding: str) -> tuple[dict[str, Any], bytes]:
    if coding == "float16":
        return {"dtype": coding}, values.astype("<f2").tobytes()
    scale, least = 0.25, float(values.min())
    whole = np.round((values - least) / scale).astype(
        {"uint8": "u1", "uint16": "<u2"}[coding]
    )
    return {"dtype": coding, "scale": scale, "min": least}, whole.tobytes()


@pytest.mark.parametrize("coding", ["float16", "uint8", "uint16"])
def test_numbers_of_quantized_weights(coding: str) -> None:
    values = np.array([-1.5, 0.25, 3.0, 7.75], "float32")
    quantization, data = quantized(values, coding)
    entry = {"dtype": "float32", "quantization": quantization}
    assert decoded(data, entry) == values.tolist()


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2))
def test_numbers_are_those_of_the_converter(numbers: list[float]) -> None:
    """Bit by bit: a model means the same, converted and mended."""
    half = len(numbers) // 2
    means, variances = numbers[:half], [abs(n) for n in numbers[half : 2 * half]]
    by_name = {"mean": means, "variance": variances}
    arrays = {name: np.array(v, "float32") for name, v in by_name.items()}

    def stored(name: str) -> Stored:
        return Stored(name, (half,), read=lambda: arrays[name])

    variance = Computed("reshaped", (stored("variance"), (1, half)), (1, half))
    mean = Computed("reshaped", (stored("mean"), (1, half)), (1, half))
    scale = Computed("inverse_deviation", (variance,), (1, half))
    offset = Computed("negative_product", (mean, scale), (1, half))
    for weight in (mean, Computed("deviation", (variance,), (1, half)), scale, offset):
        with np.errstate(all="ignore"):
            expected = values_of(weight)
        if not np.isfinite(expected).all():
            with pytest.raises(ValueError, match="finite"):
                constant(weight, lambda w: by_name[w.name])
        else:
            found = constant(weight, lambda w: by_name[w.name])
            assert found == (expected.tolist() if half > 1 else float(expected[0, 0]))


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (Stored("w", (MAX_VALUES + 1,)), "more than"),
        (Computed("ungrouped", (Stored("w", (2, 2)), 2), (4, 2)), "computed"),
        (Computed("reshaped", ([1.0, 2.0], (3,)), (3,)), "another number"),
        (Computed("deviation", (Stored("negative", (2,)),), (2,)), "finite"),
        (Computed("reshaped", (1e39, (1,)), (1,)), "finite"),
    ],
    ids=itertools.count(),
)
def test_weights_that_are_no_numbers_of_a_config(weight: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        constant(weight, lambda w: [-1.0] * math.prod(w.shape))


# Cuts


@st.composite
def excerpts(draw: st.DrawFn) -> tuple[list[list[bytes]], list[int], list[range]]:
    """Shards of some groups, the bytes of each weight, and which are kept."""
    sizes = draw(st.lists(st.integers(0, 6), min_size=1, max_size=12))
    data = bytes(itertools.islice(itertools.cycle(range(1, 256)), sum(sizes)))
    ends = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    files = [data[a:b] for a, b in itertools.pairwise([0, *ends, len(data)])]
    kept = draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    runs = [
        range(indices[0], indices[-1] + 1)
        for keeps, group in itertools.groupby(range(len(sizes)), kept.__getitem__)
        for indices in [list(group)]
        if keeps
    ]
    return [files], sizes, runs


@given(excerpts())
@settings(max_examples=300)
def test_an_excerpt(given: tuple[list[list[bytes]], list[int], list[range]]) -> None:
    """Each kept weight's bytes, nothing else, in cuts that tfjs reads right."""
    files, sizes, runs = given
    specs = [
        {"name": f"w{i}", "shape": [n], "dtype": "bool"} for i, n in enumerate(sizes)
    ]
    model = model_of([{"paths": ["x"], "weights": specs}])
    shards = [[Shard(f"{i}", len(f)) for i, f in enumerate(group)] for group in files]
    layout = lay_out(model, shards, [Nothing()])
    cuts = excerpt(shards, runs, layout)
    by_name = {f"{i}": f for i, f in enumerate(files[0])}
    served = [
        b"".join(by_name[c.name][c.offset : c.offset + c.length] for c in group)
        for group in cuts
    ]
    data = b"".join(files[0])
    starts = list(itertools.accumulate(sizes, initial=0))
    assert served == [data[starts[r.start] : starts[r.stop]] for r in runs]
    row = [cut.length for group in cuts for cut in group]
    assert 0 not in row
    assert first_unread_byte(row) is None
    kept = [{"paths": ["x"], "weights": [specs[i] for i in run]} for run in runs]
    if kept:
        placed = placed_anew(model_of(kept), runs, layout)
        assert [(w.start, w.end) for w in placed.weights] == [
            (starts[i], starts[i + 1]) for run in runs for i in run
        ]


class Nothing:
    def read(self, offset: int, length: int) -> bytes:
        raise AssertionError


def test_an_excerpt_of_nothing() -> None:
    assert excerpt([[Shard("a", 4)]], [range(0)], Layout((), 0)) == ((),)


# On the way out


def serve(make_app: MakeApp, tmp_path: Path, case: str, **config: Any) -> Flask:
    shutil.copytree(official.FIXTURES / case, tmp_path / "m", dirs_exist_ok=True)
    return make_app(TFJS_MODELS={"m": tmp_path / "m"}, **config)


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(tfjs, arguments)


GRU_REPAIRS = [
    "modelTopology: is written by Keras 3, which TensorFlow.js refuses ('An InputLayer "
    "should be passed either…'); it is served as TensorFlow.js reads it",
    "gru: has reset_after, which TensorFlow.js refuses; it is served as TensorFlow.js "
    "reads it",
    "weightsManifest: calls a weight 'layers/dense/vars/0', which is not what "
    "TensorFlow.js looks for; it is served as TensorFlow.js reads it",
    "modelTopology: is served with layers that TensorFlow.js lacks; the page must load "
    "-/static/keras-layers.js before it",
]


def test_show_and_check(make_app: MakeApp, tmp_path: Path) -> None:
    app = serve(make_app, tmp_path, "gru-keras")
    (shown,) = json.loads(run(app, "show", "m", "--json").stdout)
    assert shown["repairs"] == GRU_REPAIRS
    assert "KerasGRU" in shown["units"]
    checked = run(app, "check", "m")
    assert checked.exit_code == 0
    for repair in GRU_REPAIRS:
        note = f"note: m/model.json: repaired on the way out: {repair}"
        assert note in checked.stdout.splitlines()


def test_what_cannot_be_mended(make_app: MakeApp, tmp_path: Path) -> None:
    app = serve(make_app, tmp_path, "scripted-h5")
    with app.test_client().get(URL) as response:
        assert response.status_code == 500
        reason = response.get_json()["error"]
    assert reason.startswith("squared: Lambda is Python code")
    # A client does not look at the status of a shard.
    with app.test_client().get("/models/m/group1-shard1of1.bin") as shard:
        assert (shard.status_code, shard.data) == (500, b"")
    checked = run(app, "check", "m")
    assert checked.exit_code == 1
    assert f"error: m/model.json: {reason}" in checked.stdout.splitlines()


@pytest.mark.parametrize("case", ["mlp-keras", "scripted-h5", "bilinear2-h5"])
def test_repair_is_off(make_app: MakeApp, tmp_path: Path, case: str) -> None:
    """It is served as it is, and ``check`` says what will come of that."""
    app = serve(make_app, tmp_path, case, TFJS_REPAIR=False)
    served = app.test_client().get(URL).get_json()
    document = official.document_of(case)
    for one in (served, document):
        for group in one["weightsManifest"]:
            del group["paths"]
    assert served == document
    checked = run(app, "check", "m")
    assert checked.exit_code == 1
    reason = (
        "up_sampling2d: interpolates bilinearly, which TensorFlow.js does otherwise, "
        "silently"
        if case == "bilinear2-h5"
        else GRU_REPAIRS[0].partition(";")[0]
    )
    assert (
        f"error: m/model.json: {reason}; let TFJS_REPAIR mend it, or convert the Keras "
        "file itself: flask tfjs convert model.keras DIRECTORY"
    ) in checked.stdout.splitlines()
    assert "repaired on the way out" not in checked.stdout


def test_the_tag_tells_what_was_mended(make_app: MakeApp, tmp_path: Path) -> None:
    """The same files, mended or not, are two texts."""
    tags = {
        serve(make_app, tmp_path, "mlp-keras", TFJS_REPAIR=repair)
        .test_client()
        .get(URL)
        .headers["ETag"]
        for repair in (True, False, True)
    }
    assert len(tags) == 2


def test_the_tag_changes_with_the_rules(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tag() -> str:
        app = serve(make_app, tmp_path, "gru-keras")
        return app.test_client().get(URL).headers["ETag"]

    before = tag()
    assert tag() == before
    monkeypatch.setattr(mending, "topology", lambda g: {**topology(g), "more": 1})
    assert tag() != before


def test_it_works_without_the_extra() -> None:
    """NumPy and h5py are for the commands."""
    source = f"""
import sys
sys.modules["numpy"] = sys.modules["h5py"] = None
from flask_tfjs.models.directory import ModelDirectory
for case in {official.MENDED}:
    directory = ModelDirectory("m", {str(official.FIXTURES)!r} + "/" + case)
    assert directory.examine("model.json").repairs, case
"""
    subprocess.run([sys.executable, "-W", "error", "-c", source], check=True)


def test_a_published_model_is_mended_in_the_copy(
    make_app: MakeApp, tmp_path: Path
) -> None:
    app = serve(make_app, tmp_path, "mlp-keras", TFJS_STORE=str(tmp_path / "store"))
    published = run(app, "publish", "copy", str(tmp_path / "m"))
    assert published.exit_code == 0, published.output
    client = app.test_client()
    copied, mended_one = (
        client.get(f"/models/{name}/model.json").get_json() for name in ("copy", "m")
    )
    assert config_of(copied) == config_of(mended_one)
    assert names_in(copied) == names_in(mended_one)
    data = [
        b"".join(
            client.get(f"/models/{name}/{path}").data
            for group in document["weightsManifest"]
            for path in group["paths"]
        )
        for name, document in (("copy", copied), ("m", mended_one))
    ]
    assert data[0] == data[1]
    assert len(data[0]) == 300


# What the page says

PAGE = (Path(__file__).parents[1] / "docs" / "checks.md").read_text("utf-8")


def sentences(heading: str) -> list[str]:
    """In the first column of the table below a heading of checks.md."""
    _, _, text = PAGE.partition(f"# {heading}\n")
    table = text.partition("\n## ")[0].partition("\n### ")[0]
    return re.findall(r"^\| `(.*?)` \|", table, re.M)


def spoil(case: str, change: Callable[[Any], object]) -> ModelJSON:
    document = official.document_of(case)
    change(document)
    return model_of(document)


def without_bias(document: Any) -> None:
    specs = document["weightsManifest"][0]["weights"]
    del specs[names_in(document).index("mlp/second/bias")]


def rename(document: Any, name: str, other: str) -> None:
    """A layer, wherever it is named."""
    text = json.dumps(document).replace(json.dumps(name), json.dumps(other))
    document.clear()
    document.update(json.loads(text))


def two_regularized(document: Any) -> None:
    layer_of(document, "logits")["config"]["kernel_regularizer"] = {
        "class_name": "L2",
        "config": {"l2": 0.1},
    }


def masked_average(document: Any) -> None:
    """An Embedding that makes a mask, and an average that takes it."""
    config = config_of(document)
    entry, embedding, *_ = config["layers"]
    pooled = {"class_name": "GlobalAveragePooling1D", "config": {"name": "pooled"}}
    config["layers"] = [entry, embedding, pooled]
    (group,) = document["weightsManifest"]
    names = [spec["name"] for spec in group["weights"]]
    group["weights"] = [group["weights"][names.index("embedding/embeddings")]]
    embedding["config"]["mask_zero"] = True


UNMENDABLE: list[tuple[str, Callable[[Any], object]]] = [
    ("scripted-h5", lambda document: None),
    ("custom-keras", lambda document: None),
    ("cnn2-h5", lambda document: None),
    ("mlp-h5", without_bias),
]


def test_refusals_are_those_of_the_page() -> None:
    found = []
    for case, change in UNMENDABLE:
        with pytest.raises(InvalidModel) as refused:
            mend(spoil(case, change), halves)
        found.append(str(refused.value))
    assert found == sentences("What Keras wrote")


TOLD: list[tuple[str, Callable[[Any], object]]] = [
    ("mlp-h5", lambda document: None),
    ("augmented-h5", lambda document: rename(document, "random_flip", "flip")),
    ("augmented-h5", lambda document: rename(document, "random_flip", "flip")),
    ("regularized2-h5", two_regularized),
    ("bilinear2-h5", lambda document: None),
    ("gru2-h5", masked_average),
    ("gru2-h5", lambda document: None),
    ("gru2-h5", lambda document: None),
    ("gru2-keras", lambda document: None),
    ("mlp-keras", lambda document: None),
]


def test_repairs_are_those_of_the_page() -> None:
    page = sentences("What is repaired of Keras")
    assert len(page) == len(TOLD)
    for sentence, (case, change) in zip(page, TOLD, strict=True):
        done = mend(spoil(case, change), halves)
        assert done is not None
        assert sentence in map(str, done.repairs)


# Hostile documents

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 5),
    st.sampled_from([2**53, 10**300, -(10**20), 1e300, 0.5]),
    st.sampled_from(["", "x", "a/b", "dense", "channels_first", "bilinear", "\ud800"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["class_name", "config", "name", "layers", "shape"]), inner
        ),
    ),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, (dict, list)):
            yield from places(item, (*path, key))
        else:
            yield (*path, key)


DOCUMENTS = [official.document_of(case) for case in official.CASES]
PLACES = [
    [
        path
        for path in places(document)
        if path[:1] == ("modelTopology",) or path[:1] == ("weightsManifest",)
    ]
    for document in DOCUMENTS
]


@st.composite
def spoiled(draw: st.DrawFn) -> Any:
    """A document of the converter's with some members replaced, removed or moved."""
    index = draw(st.integers(0, len(DOCUMENTS) - 1))
    document = copy.deepcopy(DOCUMENTS[index])
    for _ in range(draw(st.integers(1, 4))):
        *path, key = draw(st.sampled_from(PLACES[index][1:]))
        source = draw(st.sampled_from(PLACES[index]))
        change = draw(st.sampled_from(["remove", "move", "replace"]))
        value = draw(JSON)
        try:
            parent = at(document, path)
            if change == "remove":
                del parent[key]
            else:
                parent[key] = (
                    copy.deepcopy(at(document, source)) if change == "move" else value
                )
        except (KeyError, IndexError, TypeError):
            continue  # gone with a change before
    return document


def at(document: Any, path: Sequence[Any]) -> Any:
    for key in path:
        document = document[key]
    return document


@given(spoiled())
@settings(max_examples=300, deadline=None)
def test_a_spoiled_document_is_mended_or_refused(document: Any) -> None:
    try:
        strict_json.loads(strict_json.dumps(document), "model.json")
        model = read_document(document)
    except InvalidModel:
        return
    if model is None:
        return
    unfit(model)
    try:
        done = mend(model, halves)
    except InvalidModel as fault:
        assert len(str(fault)) < 2000
        return
    if done is not None:
        written = strict_json.loads(strict_json.dumps(done.document), "model.json")
        again = model_of(written)
        assert sum(map(len, done.kept)) == len(list(again.weights))


def tensor(name: str, call: int = 0, shape: Sequence[Any] = (None, 4)) -> Any:
    config = {"shape": list(shape), "keras_history": [name, call, 0]}
    return {"class_name": "__keras_tensor__", "config": config}


def layer(class_name: str, name: str, *inputs: Any, **config: Any) -> Any:
    args = [list(inputs) if len(inputs) > 1 else inputs[0]] if inputs else None
    return {
        "class_name": class_name,
        "name": name,
        "config": {"name": name, "trainable": True, **config},
        "inbound_nodes": [{"args": args, "kwargs": {}}] if args else [],
    }


X = layer("InputLayer", "x", batch_shape=[None, 4])


def functional(layers: Sequence[Any], output: str, name: str = "m") -> Any:
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [[output, 0, 0]]}
    config = {"name": name, "layers": list(layers), **ends}
    return {"class_name": "Functional", "config": config}


def chain(class_name: str, count: int, **config: Any) -> list[Any]:
    return [
        X,
        *(
            layer(class_name, f"a{i}", tensor(f"a{i - 1}" if i else "x"), **config)
            for i in range(count)
        ),
    ]


def nested(depth: int, calls: int) -> Any:
    """Models within models, each called so often: layers in all in the power."""
    model = functional([X, layer("ReLU", "a", tensor("x"))], "a")
    for level in range(depth):
        name = f"n{level}"
        nodes = [
            {"args": [tensor(name, call - 1) if call else tensor("x")], "kwargs": {}}
            for call in range(calls)
        ]
        model["config"]["name"] = name
        inner = {**model, "name": name, "inbound_nodes": nodes}
        model = functional([X, inner], name)
        model["config"]["output_layers"] = [[name, calls, 0]]
    return model


def document_with(model: Any, names: Sequence[str] = ()) -> Any:
    weights = [{"name": n, "shape": [1], "dtype": "float32"} for n in names]
    return {
        "modelTopology": {"keras_version": "3.15.1", "model_config": model},
        "weightsManifest": [{"paths": ["w.bin"], "weights": weights}],
    }


LONG = 2000
RELU = chain("ReLU", LONG)
SPLIT = {
    **layer("Split", "s", tensor("x", shape=[None, 10**9])),
    "config": {"name": "s", "indices_or_sections": 10**9, "axis": -1},
}
WIDE = layer("InputLayer", "x", batch_shape=[None, 10**9])


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (document_with(functional(RELU, f"a{LONG - 1}")), None),
        (document_with(functional([X, *RELU[:0:-1]], f"a{LONG - 1}")), None),
        (document_with(functional(chain("Identity", LONG), f"a{LONG - 1}")), None),
        (document_with(functional(chain("ReLU", 10_000), "a9999")), f"{MAX_LAYERS}"),
        (document_with(nested(30, 1)), None),
        (document_with(nested(18, 2)), f"{MAX_LAYERS} layers"),
        (document_with(functional([*RELU[:3], RELU[2]], "a1")), "two layers"),
        (
            document_with(
                functional(
                    [
                        X,
                        layer("ReLU", "a", tensor("b")),
                        layer("ReLU", "b", tensor("a")),
                    ],
                    "b",
                )
            ),
            "circle",
        ),
        (
            document_with(
                functional([X, layer("Add", "a", *[tensor("x")] * 3000)], "a")
            ),
            "too many tensors",
        ),
        (
            document_with(
                functional(
                    [
                        layer("InputLayer", "x", batch_shape=[None, *[10**300] * 99]),
                        layer("Flatten", "f", tensor("x")),
                    ],
                    "f",
                )
            ),
            "axes",
        ),
        (document_with(functional([WIDE, SPLIT], "s")), "1000"),
        (
            document_with(
                functional([X, layer("Dense", "d" * 10**6, tensor("x"), units=1)], "d")
            ),
            "",
        ),
        (document_with(functional(RELU[:2], "a0"), ["a/" * 10**5 + "w"]), "no name"),
        (
            document_with(
                functional(RELU[:2], "a0"), [f"b/{i}/w" for i in range(30_000)]
            ),
            "30000 weights",
        ),
    ],
    ids=itertools.count(),
)
def test_a_document_that_takes_long(document: Any, says: str | None) -> None:
    model = model_of(document)
    start = time.process_time()
    try:
        assert mend(model, halves) is not None
        assert says is None
    except InvalidModel as fault:
        assert says is not None, fault
        assert says in str(fault)
        assert len(str(fault)) < 2000
    unfit(model)
    assert time.process_time() - start < LIMIT


def test_files_that_are_written_to_meanwhile(tmp_path: Path) -> None:
    """A fault of the moment is told as that: another look may find it mended."""
    shutil.copytree(official.FIXTURES / "normalization-h5", tmp_path / "m")
    found = ModelDirectory("m", str(tmp_path / "m")).examine("model.json")
    shard = tmp_path / "m" / "group1-shard1of1.bin"
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(InvalidModel):
        ModelDirectory("m", str(tmp_path / "m")).examine("model.json")
    assert found.repairs


def test_other_documents_are_not_looked_at() -> None:
    documents: list[Any] = [
        dense_document("w.bin"),
        {"modelTopology": {"node": []}},
        {"modelTopology": {**LAYERS_TOPOLOGY, "keras_version": 3}},
        {"modelTopology": {**LAYERS_TOPOLOGY, "keras_version": "tfjs-layers 1.0"}},
    ]
    for document in documents:
        model = model_of(document)
        assert mend(model, no_values) is None
        assert unfit(model) == ()
