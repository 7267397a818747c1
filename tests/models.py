"""Small model directories, written byte by byte."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

LAYERS_TOPOLOGY = {
    "class_name": "Sequential",
    "config": {
        "name": "sequential",
        "layers": [
            {
                "class_name": "Dense",
                "config": {
                    "name": "dense",
                    "units": 2,
                    "batch_input_shape": [None, 3],
                    "activation": "linear",
                    "use_bias": True,
                },
            }
        ],
    },
}

#: A model without weights.
FLATTEN_TOPOLOGY = {
    "class_name": "Sequential",
    "config": {
        "name": "s",
        "layers": [
            {
                "class_name": "Flatten",
                "config": {"name": "f", "batch_input_shape": [None, 2, 2]},
            }
        ],
    },
}

#: Three inputs, two units: eight floats.
DENSE_WEIGHTS = [
    {"name": "dense/kernel", "shape": [3, 2], "dtype": "float32"},
    {"name": "dense/bias", "shape": [2], "dtype": "float32"},
]
DENSE_BYTES = struct.pack("<8f", *range(8))


def write_model(
    directory: Path,
    *,
    entry: str = "model.json",
    document: Any = None,
    shards: dict[str, bytes] | None = None,
) -> Path:
    """Write a model of eight floats; *document* (a JSON value, or bytes as they are)
    and *shards* (name -> bytes, beside the entry) replace its JSON and its files.
    """
    shards = {"weights.bin": DENSE_BYTES} if shards is None else shards
    document = dense_document(*shards) if document is None else document
    path = directory / entry
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        document if isinstance(document, bytes) else json.dumps(document).encode()
    )
    for name, data in shards.items():
        shard = path.parent / name
        shard.parent.mkdir(parents=True, exist_ok=True)
        shard.write_bytes(data)
    return directory


def dense_document(*paths: str, **members: Any) -> dict[str, Any]:
    return {
        "format": "layers-model",
        "modelTopology": LAYERS_TOPOLOGY,
        "weightsManifest": [{"paths": list(paths), "weights": DENSE_WEIGHTS}],
        **members,
    }


def content_name(stem: str, data: bytes) -> str:
    """The name by which a served JSON names a shard of these bytes."""
    return f"{stem}.{hashlib.sha256(data).hexdigest()[:32]}.bin"
