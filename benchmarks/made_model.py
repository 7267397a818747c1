"""Graph models to measure with: sound, of a chosen size, weights from a seed."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

JSON_NAME = "model.json"

# The digest of a file younger than this may not be remembered, since the file can
# change once more within the same tick of its time stamp. Wait before measuring.
SETTLED_SECONDS = 3

# GraphDef JSON holds its strings in base64.
_SAME, _NHWC, _HWIO = "U0FNRQ==", "TkhXQw==", "SFdJTw=="
_BIAS_ADD, _RELU6 = "Qmlhc0FkZA==", "UmVsdTY="
_FLOAT = {"type": "DT_FLOAT"}


@dataclass(frozen=True)
class Shape:
    """How large a model is to be."""

    blocks: int
    channels: int
    shards: int
    shard_bytes: int


LARGE = Shape(blocks=53, channels=128, shards=2, shard_bytes=4 * 1024 * 1024)
SMALL = Shape(blocks=2, channels=8, shards=1, shard_bytes=4096)


def write_model(directory: Path, shape: Shape, seed: int = 0) -> None:
    """Write a graph model whose shards add up to what its weight specs ask for."""
    directory.mkdir(parents=True)
    names = [
        f"group1-shard{number}of{shape.shards}.bin"
        for number in range(1, shape.shards + 1)
    ]
    random = Random(seed)
    for name in names:
        (directory / name).write_bytes(_floats(random, shape.shard_bytes // 4))
    document = _model_json(shape, names)
    (directory / JSON_NAME).write_text(json.dumps(document, separators=(",", ":")))


def _floats(random: Random, count: int) -> bytes:
    return array("f", (random.random() - 0.5 for _ in range(count))).tobytes()


def _model_json(shape: Shape, shard_names: list[str]) -> dict[str, Any]:
    constants = dict(_constants(shape))
    return {
        "format": "graph-model",
        "generatedBy": "2.19.0",
        "convertedBy": "TensorFlow.js Converter v4.22.0",
        "signature": {
            "inputs": {"image": _tensor_info("image", [1, 1, 1, shape.channels])},
            "outputs": {"logits": _tensor_info("logits", [1, _classes(shape)])},
        },
        "modelTopology": {
            "node": list(_nodes(shape, constants)),
            "library": {},
            "versions": {"producer": 2129, "minConsumer": 12},
        },
        "weightsManifest": [
            {
                "paths": shard_names,
                "weights": [
                    {"name": name, "shape": dims, "dtype": "float32"}
                    for name, dims in constants.items()
                ],
            }
        ],
    }


def _constants(shape: Shape) -> Iterator[tuple[str, list[int]]]:
    for block in range(shape.blocks):
        yield f"{_block(block)}/weights", [1, 1, shape.channels, shape.channels]
        yield f"{_block(block)}/bias", [shape.channels]
    yield "classifier/kernel", [shape.channels, _classes(shape)]


def _classes(shape: Shape) -> int:
    """Columns of the last kernel, which takes whatever the blocks leave over."""
    floats = shape.shards * shape.shard_bytes // 4
    blocks = shape.blocks * (shape.channels * shape.channels + shape.channels)
    classes, rest = divmod(floats - blocks, shape.channels)
    if rest or classes < 1:
        raise ValueError(f"the weights of {shape} do not fill its shards")
    return classes


def _block(number: int) -> str:
    return f"StatefulPartitionedCall/backbone/block_{number}/pointwise"


def _nodes(shape: Shape, constants: dict[str, list[int]]) -> Iterator[dict[str, Any]]:
    yield {
        "name": "image",
        "op": "Placeholder",
        "attr": {
            "dtype": _FLOAT,
            "shape": {"shape": _dims([1, 1, 1, shape.channels])},
        },
    }
    for name, dims in constants.items():
        tensor = {"dtype": "DT_FLOAT", "tensorShape": _dims(dims)}
        attributes = {"value": {"tensor": tensor}, "dtype": _FLOAT}
        yield {"name": name, "op": "Const", "attr": attributes}
    blocks = [_block(number) for number in range(shape.blocks)]
    for before, block in pairwise(["image", *blocks]):
        yield _convolution(block, before)
    yield {
        "name": "pooled",
        "op": "Squeeze",
        "input": [blocks[-1]],
        "attr": {"squeeze_dims": {"list": {"i": ["1", "2"]}}, "T": _FLOAT},
    }
    yield {
        "name": "logits",
        "op": "MatMul",
        "input": ["pooled", "classifier/kernel"],
        "attr": {"transpose_a": {"b": False}, "transpose_b": {"b": False}, "T": _FLOAT},
    }


def _convolution(name: str, source: str) -> dict[str, Any]:
    ones = {"list": {"i": ["1", "1", "1", "1"]}}
    return {
        "name": name,
        "op": "_FusedConv2D",
        "input": [source, f"{name}/weights", f"{name}/bias"],
        "device": "/device:CPU:0",
        "attr": {
            "use_cudnn_on_gpu": {"b": True},
            "num_args": {"i": "1"},
            "T": _FLOAT,
            "TArgs": {"list": {"type": ["DT_FLOAT"]}},
            "filter_format": {"s": _HWIO},
            "explicit_paddings": {"list": {}},
            "strides": ones,
            "dilations": ones,
            "data_format": {"s": _NHWC},
            "padding": {"s": _SAME},
            "leakyrelu_alpha": {"f": 0.2},
            "epsilon": {"f": 0.0},
            "fused_ops": {"list": {"s": [_BIAS_ADD, _RELU6]}},
        },
    }


def _tensor_info(name: str, sizes: list[int]) -> dict[str, Any]:
    return {"name": f"{name}:0", "dtype": "DT_FLOAT", "tensorShape": _dims(sizes)}


def _dims(sizes: list[int]) -> dict[str, Any]:
    return {"dim": [{"size": str(size)} for size in sizes]}
