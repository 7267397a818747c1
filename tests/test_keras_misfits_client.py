"""What TensorFlow.js refuses or mistakes in what Keras 2 writes, one thing at a time:
real TensorFlow.js does so with the model as it is, and not as it is served."""

from __future__ import annotations

import collections.abc as cabc
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clients.drivers import Client
from clients.drivers import start_node
from predicting import TFJSFailed
from predicting import difference
from predicting import predict
from servers import Server
from servers import serve


def layer(class_name: str, *inputs: str, **config: Any) -> Any:
    name = config.setdefault("name", class_name.lower())
    nodes = [[[name, 0, 0, {}] for name in inputs or ["x"]]]
    return {
        "class_name": class_name,
        "name": name,
        "config": {"trainable": True, **config},
        "inbound_nodes": nodes,
    }


def dense(**config: Any) -> Any:
    zeros = {"class_name": "Zeros", "config": {}}
    given = {"kernel_initializer": zeros, "bias_initializer": zeros, **config}
    return layer("Dense", **{"units": 2, "activation": "linear", **given})


def recurrent(class_name: str, *inputs: str, **config: Any) -> Any:
    given = {"units": 2, "activation": "tanh", "recurrent_activation": "sigmoid"}
    return layer(class_name, *inputs, **{**given, **config})


def convolution(class_name: str, rank: int, **config: Any) -> Any:
    given: dict[str, Any] = {
        "kernel_size": [2] * rank,
        "strides": [1] * rank,
        "padding": "valid",
    }
    given |= {"filters": 2, "data_format": "channels_last", "activation": "linear"}
    return layer(class_name, **{**given, "dilation_rate": [1] * rank, **config})


def wrapped(class_name: str, inner: Any, **config: Any) -> Any:
    inner = {"class_name": inner["class_name"], "config": inner["config"]}
    return layer(class_name, layer=inner, **config)


DENSE = {"dense/kernel": [3, 2], "dense/bias": [2]}
CONV2D = {"conv2d/kernel": [2, 2, 3, 2], "conv2d/bias": [2]}
CONV1D = {"conv1d/kernel": [2, 3, 2], "conv1d/bias": [2]}
GRU = {
    "gru/gru_cell/kernel": [3, 6],
    "gru/gru_cell/recurrent_kernel": [2, 6],
    "gru/gru_cell/bias": [2, 6],
}
LSTM = {
    "lstm/lstm_cell/kernel": [3, 8],
    "lstm/lstm_cell/recurrent_kernel": [2, 8],
    "lstm/lstm_cell/bias": [8],
}
BOTH = {
    name.replace("lstm/", f"bidirectional/{direction}_lstm/", 1): shape
    for direction in ("forward", "backward")
    for name, shape in LSTM.items()
}
IMAGE, SEQUENCE, ROW = (4, 4, 3), (4, 3), (3,)


def normalized(**config: Any) -> Any:
    given = {"momentum": 0.9, "epsilon": 1e-3, "center": True, "scale": True}
    return layer("BatchNormalization", **{**given, **config})


def normalized_weights(size: int) -> dict[str, list[int]]:
    slots = "gamma beta moving_mean moving_variance".split()
    return {f"batchnormalization/{slot}": [size] for slot in slots}


@dataclass(frozen=True)
class Case:
    """A model of one layer, or some.

    :ivar weights: shapes by names as the converter writes them.
    :ivar shape: of the input, without the batch.
    :ivar raw: what TensorFlow.js says of it as it is; ``None``: it computes it.
    """

    layers: list[Any]
    shape: tuple[int, ...] = ROW
    weights: dict[str, list[int]] = field(default_factory=dict)
    raw: str | None = None
    dtype: str = "float32"
    change: Callable[[Any], object] = lambda document: None

    def document(self) -> Any:
        entry = {
            "class_name": "InputLayer",
            "name": "x",
            "config": {
                "name": "x",
                "batch_input_shape": [None, *self.shape],
                "dtype": self.dtype,
            },
            "inbound_nodes": [],
        }
        config = {
            "name": "model",
            "layers": [entry, *self.layers],
            "input_layers": [["x", 0, 0]],
            "output_layers": [[self.layers[-1]["name"], 0, 0]],
        }
        model = {"class_name": "Functional", "config": config}
        specs = [
            {"name": name, "shape": shape, "dtype": "float32"}
            for name, shape in self.weights.items()
        ]
        document = {
            "format": "layers-model",
            "generatedBy": "keras v2.15.0",
            "convertedBy": "TensorFlow.js Converter v4.22.0",
            "modelTopology": {"keras_version": "2.15.0", "model_config": model},
            "weightsManifest": [{"paths": ["w.bin"], "weights": specs}],
        }
        self.change(document)
        return document

    def write(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        (directory / "model.json").write_text(json.dumps(self.document()))
        count = sum(math.prod(shape) for shape in self.weights.values())
        values = np.linspace(0.1, 1.7, count, dtype="<f4") % 0.9 + 0.05
        (directory / "w.bin").write_bytes(values.tobytes())

    @property
    def inputs(self) -> list[Any]:
        if self.dtype != "float32":
            return [np.array([[1, 2, 0], [3, 0, 0]], "int32")]
        count = 2 * math.prod(self.shape)
        values = np.sin(np.arange(count, dtype="float32") * 1.3)
        return [values.reshape(2, *self.shape)]


def model_config(document: Any) -> Any:
    return document["modelTopology"]["model_config"]


def as_sequential(document: Any) -> None:
    config = model_config(document)["config"]
    config["layers"] = config["layers"][1:]
    config["build_input_shape"] = [None, *ROW]
    model_config(document)["class_name"] = "Sequential"


def lambda_of(function: str, kwargs: dict[str, Any]) -> Any:
    made = layer("TFOpLambda", name="tf." + function, function=function)
    made["inbound_nodes"] = [["x", 0, 0, kwargs]]
    return made


UNKNOWN = "Unknown "
EMBEDDING = layer("Embedding", input_dim=5, output_dim=3, mask_zero=True)
EMBEDDINGS = {"embedding/embeddings": [5, 3]}

#: What TensorFlow.js refuses, or computes otherwise, and is mended.
MISFITS: dict[str, Case] = {
    "class": Case([layer("SpatialDropout2D", rate=0.5)], IMAGE, raw=UNKNOWN),
    "operation": Case([lambda_of("nn.relu", {"name": None})], raw=UNKNOWN),
    "regularizer": Case(
        [dense(kernel_regularizer={"class_name": "L2", "config": {"l2": 0.1}})],
        weights=DENSE,
        raw=UNKNOWN,
    ),
    "regularizer-of-values": Case(
        [dense(activity_regularizer={"class_name": "L1", "config": {"l1": 0.1}})],
        weights=DENSE,
        raw=UNKNOWN,
    ),
    "initializer": Case(
        [dense(kernel_initializer={"class_name": "LecunNormal", "config": {}})],
        weights=DENSE,
        raw=UNKNOWN,
    ),
    "distribution": Case(
        [
            dense(
                kernel_initializer={
                    "class_name": "VarianceScaling",
                    "config": {"distribution": "untruncated_normal"},
                }
            )
        ],
        weights=DENSE,
        raw="untruncatedNormal",
    ),
    "activation": Case([layer("Activation", activation="silu")], raw=UNKNOWN),
    "reset_after": Case(
        [recurrent("GRU", reset_after=True)], SEQUENCE, GRU, raw="reset_after"
    ),
    "bilinear": Case(
        [layer("UpSampling2D", size=[2, 2], interpolation="bilinear")], IMAGE
    ),
    "separable": Case(
        [
            convolution(
                "SeparableConv2D",
                2,
                depth_multiplier=1,
                kernel_initializer={"class_name": "Zeros", "config": {}},
            )
        ],
        IMAGE,
        {
            "separableconv2d/depthwise_kernel": [2, 2, 3, 1],
            "separableconv2d/pointwise_kernel": [1, 1, 3, 2],
            "separableconv2d/bias": [2],
        },
        raw="kernelInitializer",
    ),
    "causal": Case(
        [convolution("Conv1D", 1, padding="causal")], SEQUENCE, CONV1D, raw="CAUSAL"
    ),
    "int64": Case([EMBEDDING], weights=EMBEDDINGS, dtype="int64", raw="int64"),
    "names-of-a-mapping": Case(
        [dense()],
        weights=DENSE,
        raw="iterable",
        change=lambda d: model_config(d)["config"].update(
            output_layers={"y": ["dense", 0, 0]}
        ),
    ),
    "deferred": Case([dense()], weights=DENSE, raw="inputShape", change=as_sequential),
    "weights-of-a-Sequential": Case(
        [dense()],
        weights={f"model/{name}": shape for name, shape in DENSE.items()},
        raw="no target variable",
    ),
    "weights-by-number": Case(
        [dense()],
        weights={"layers/dense/vars/0": [3, 2], "layers/dense/vars/1": [2]},
        raw="no target variable",
    ),
    "wrapped": Case(
        [
            wrapped(
                "TimeDistributed",
                dense(kernel_regularizer={"class_name": "L2", "config": {"l2": 1}}),
            )
        ],
        SEQUENCE,
        {f"timedistributed/{n.partition('/')[2]}": s for n, s in DENSE.items()},
        raw=UNKNOWN,
    ),
    "slope": Case([layer("ReLU", max_value=None, negative_slope=0.5, threshold=0.0)]),
    "alpha": Case([layer("ELU", alpha=0.5)], raw="alpha"),
    "softmax": Case([layer("Softmax", axis=1)], SEQUENCE, raw="Softmax along"),
    "keepdims": Case([layer("GlobalAveragePooling2D", keepdims=True)], IMAGE),
    "axis": Case([normalized(axis=[1])], SEQUENCE, normalized_weights(4)),
    "mask": Case(
        [EMBEDDING, layer("GlobalAveragePooling1D", "embedding")],
        weights=EMBEDDINGS,
        dtype="int32",
    ),
    "random": Case(
        [
            layer(
                "RandomWidth",
                factor=[0.5, 0.5],
                interpolation="nearest",
                seed=None,
            )
        ],
        IMAGE,
        raw="rank",
    ),
}


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> cabc.Iterator[Client]:
    """Without the script of layers."""
    with start_node(tmp_path_factory.mktemp("stock"), "predict.mjs") as node:
        yield node


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> cabc.Iterator[Client]:
    with start_node(tmp_path_factory.mktemp("scripted"), "predict.mjs") as node:
        yield node


@pytest.fixture(scope="module")
def misfits(tmp_path_factory: pytest.TempPathFactory) -> cabc.Iterator[Server]:
    directory = tmp_path_factory.mktemp("misfits")
    cases = {**MISFITS, **FITTING}
    for name, case in cases.items():
        case.write(directory / "models" / name)
    models = {name: str(directory / "models" / name) for name in cases}
    both: list[dict[str, Any]] = [
        {"name": "mended", "url_prefix": "/mended", "models": models},
        {"name": "raw", "url_prefix": "/raw", "models": models, "repair": False},
    ]
    with serve("gunicorn", directory, {}, blueprints=both) as server:
        yield server


def outcome(client: Client, server: Server, path: str, case: Case) -> Any:
    script = f"{server.url}/mended/-/static/keras-layers.js"
    url = f"{server.url}/{path}/model.json"
    return predict(client, url, case.inputs, script=script)


@pytest.mark.parametrize("name", MISFITS)
def test_a_misfit(name: str, misfits: Server, scripted: Client) -> None:
    case = MISFITS[name]
    found = outcome(scripted, misfits, f"mended/{name}", case)
    if case.raw is None:
        raw = outcome(scripted, misfits, f"raw/{name}", case)
        assert difference(raw, found) > 1e-3
    else:
        with pytest.raises(TFJSFailed, match=case.raw):
            outcome(scripted, misfits, f"raw/{name}", case)


def merged(class_name: str, **config: Any) -> list[Any]:
    return [dense(), dense(name="other"), layer(class_name, "dense", "other", **config)]


OTHER = {name.replace("dense", "other"): shape for name, shape in DENSE.items()}

#: What TensorFlow.js computes as Keras does, as it is.
FITTING: dict[str, Case] = {
    "Dense": Case([dense(activation="hard_sigmoid")], weights=DENSE),
    "l1_l2": Case(
        [
            dense(
                kernel_regularizer={"class_name": "L1L2", "config": {"l1": 0, "l2": 1}}
            )
        ],
        weights=DENSE,
    ),
    "Conv1D": Case([convolution("Conv1D", 1)], SEQUENCE, CONV1D),
    "Conv2D": Case(
        [convolution("Conv2D", 2, groups=1, activation="relu")], IMAGE, CONV2D
    ),
    "DepthwiseConv2D": Case(
        [convolution("DepthwiseConv2D", 2, depth_multiplier=1)],
        IMAGE,
        {"depthwiseconv2d/depthwise_kernel": [2, 2, 3, 1], "depthwiseconv2d/bias": [3]},
    ),
    "BatchNormalization": Case([normalized(axis=[3])], IMAGE, normalized_weights(3)),
    "LayerNormalization": Case(
        [layer("LayerNormalization", axis=[2], epsilon=1e-3, center=True, scale=True)],
        SEQUENCE,
        {"layernormalization/gamma": [3], "layernormalization/beta": [3]},
    ),
    "LSTM": Case([recurrent("LSTM", unit_forget_bias=True)], SEQUENCE, LSTM),
    "GRU": Case(
        [recurrent("GRU", reset_after=False)],
        SEQUENCE,
        {**GRU, "gru/gru_cell/bias": [6]},
    ),
    "Bidirectional": Case(
        [wrapped("Bidirectional", recurrent("LSTM"), merge_mode="concat")],
        SEQUENCE,
        BOTH,
    ),
    "masked-LSTM": Case(
        [
            EMBEDDING,
            {**recurrent("LSTM"), "inbound_nodes": [[["embedding", 0, 0, {}]]]},
        ],
        weights={**EMBEDDINGS, **LSTM},
        dtype="int32",
    ),
    "pooling": Case(
        [
            layer(
                "MaxPooling2D",
                pool_size=[2, 2],
                strides=[2, 2],
                padding="same",
                data_format="channels_last",
            ),
            layer("GlobalAveragePooling2D", "maxpooling2d", keepdims=False),
        ],
        IMAGE,
    ),
    "shapes": Case(
        [
            layer("Reshape", target_shape=[3, 4]),
            layer("Permute", "reshape", dims=[2, 1]),
            layer("Flatten", "permute", data_format="channels_last"),
            layer("RepeatVector", "flatten", n=2),
        ],
        SEQUENCE,
    ),
    "activations": Case(
        [
            layer("ReLU", max_value=6.0, negative_slope=[0.0], threshold=0.0),
            layer("LeakyReLU", "relu", alpha=0.2),
            layer("ELU", "leakyrelu", alpha=1.0),
            layer("Softmax", "elu", axis=-1),
            layer("Activation", "softmax", activation="swish"),
        ]
    ),
    "regularization": Case(
        [
            layer("Dropout", rate=0.5, noise_shape=None, seed=None),
            layer("GaussianNoise", "dropout", stddev=0.1),
            layer("Rescaling", "gaussiannoise", scale=0.5, offset=1.0),
        ]
    ),
    "Concatenate": Case(merged("Concatenate", axis=-1), weights={**DENSE, **OTHER}),
    "Multiply": Case(merged("Multiply"), weights={**DENSE, **OTHER}),
    "Average": Case(merged("Average"), weights={**DENSE, **OTHER}),
    "nearest": Case(
        [layer("UpSampling2D", size=[2, 2], interpolation="nearest")], IMAGE
    ),
}


@pytest.mark.parametrize("name", FITTING)
def test_what_fits_is_served_as_it_is(
    name: str, misfits: Server, stock: Client
) -> None:
    case = FITTING[name]
    url = f"{misfits.url}/mended/{name}/model.json"
    predict(stock, url, case.inputs)
    connection = misfits.http()
    connection.request("GET", f"/mended/{name}/model.json")
    served = json.loads(connection.getresponse().read())
    connection.close()
    document = case.document()
    assert served["modelTopology"] == document["modelTopology"]
    for group in served.get("weightsManifest", []):
        assert group["weights"] == document["weightsManifest"][0]["weights"]
