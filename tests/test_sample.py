"""The values of weights that are looked at."""

from __future__ import annotations

import array
from pathlib import Path
from typing import Any

import pytest
from models import LAYERS_TOPOLOGY
from models import write_model

from flask_tfjs import InvalidModel
from flask_tfjs.models import sample
from flask_tfjs.models.directory import ModelDirectory
from flask_tfjs.models.sample import Sample
from flask_tfjs.models.sample import sample_weights


def look(
    folder: Path, weights: list[dict[str, Any]], shards: dict[str, bytes]
) -> Sample:
    group = {"paths": list(shards), "weights": weights}
    document = {"modelTopology": LAYERS_TOPOLOGY, "weightsManifest": [group]}
    write_model(folder, document=document, shards=shards)
    model = ModelDirectory("m", str(folder), repair=False)
    return sample_weights(model.root, model.examine("model.json"))


def spec(name: str, *shape: int, dtype: str = "float32", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "dtype": dtype, **more}


def floats(*values: float) -> bytes:
    return array.array("f", values).tobytes()


def test_all_values_of_a_small_model(tmp_path: Path) -> None:
    found = look(
        tmp_path,
        [
            spec("a", 2, 300),
            spec("n", 2, dtype="int32"),
            spec("none", 0),
            spec("b"),
            spec("q", 3, quantization={"dtype": "uint8", "scale": 0.5, "min": -1.0}),
            spec("h", 1, quantization={"dtype": "float16"}),
        ],
        {
            "1.bin": floats(*range(500)),
            "2.bin": floats(*range(500, 600))
            + bytes(8)
            + floats(0.25)
            + bytes([0, 1, 4])
            + b"\x00\x3c",
        },
    )
    assert found == ([*range(600), 0.25, -1.0, -0.5, 1.0, 1.0], 605)


def test_runs_of_a_large_one_lie_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "MAX_VALUES", 1 << 10)
    monkeypatch.setattr(sample, "_RUN", 16)
    count = 10_000
    sizes = [1, 5000, 3, 4000, 996]
    assert sum(sizes) == count
    found = look(
        tmp_path,
        [spec(f"w{i}", size) for i, size in enumerate(sizes)],
        {"w.bin": floats(*range(count))},
    )
    assert found.total == count
    step = -(-count // (1 << 10)) * 16
    expected = [i for i in range(count) if i % step < 16]
    assert found.values == expected
    assert len(expected) <= 1 << 10


def test_a_shard_that_is_gone(tmp_path: Path) -> None:
    write_model(tmp_path)
    model = ModelDirectory("m", str(tmp_path))
    found = model.examine("model.json")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InvalidModel, match="cannot be read"):
        sample_weights(model.root, found)
