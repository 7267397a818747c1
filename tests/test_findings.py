"""What ``check`` finds in files that are served all the same."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from models import DENSE_BYTES
from models import LAYERS_TOPOLOGY
from models import dense_document
from models import write_model

from flask_tfjs.models import listing
from flask_tfjs.models.directory import ModelDirectory
from flask_tfjs.models.findings import check_model


def findings(path: Path, *, repair: bool = True) -> list[tuple[str, str, str]]:
    directory = ModelDirectory("m", str(path), repair=repair)
    return [(f.level, f.where, f.message) for f in check_model(directory)]


def test_a_sound_model_has_none(tmp_path: Path) -> None:
    assert findings(write_model(tmp_path)) == []


def test_bytes_to_spare(tmp_path: Path) -> None:
    write_model(tmp_path, shards={"weights.bin": DENSE_BYTES + b"123"})
    ((level, where, message),) = findings(tmp_path)
    assert (level, where) == ("warning", "m/model.json")
    assert "3 bytes more" in message


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("graph-model", "load it with tf.loadLayersModel()"),
        ("layers-model", None),
        ("tfjs-layers", None),
        (None, None),
        ([], None),
    ],
)
def test_a_format_that_contradicts_the_topology(
    tmp_path: Path, stated: Any, expected: str | None
) -> None:
    write_model(tmp_path, document=dense_document("weights.bin", format=stated))
    found = findings(tmp_path)
    assert [expected in message for _, _, message in found if expected] == (
        [True] if expected else []
    )
    assert bool(found) == bool(expected)


def test_a_topology_alone_starts_with_random_weights(tmp_path: Path) -> None:
    write_model(tmp_path, document=dense_document(weightsManifest=None))
    (tmp_path / "weights.bin").unlink()
    ((level, where, message),) = findings(tmp_path)
    assert (level, where) == ("warning", "m/model.json")
    assert "random values" in message


def test_json_that_is_no_model(tmp_path: Path) -> None:
    write_model(tmp_path, document={"class_name": "Sequential"}, shards={})
    ((level, where, message),) = findings(tmp_path)
    assert (level, where) == ("error", "m")
    assert message.startswith("model.json is JSON, but not a TensorFlow.js model")
    ((_, _, message),) = findings(tmp_path / "modle.json")
    assert message == "there is no file modle.json; correct the path"


def keras3(nested: bool) -> dict[str, Any]:
    """The small model in the form of Keras 3, or with a model of that form in it."""
    topology = copy.deepcopy(LAYERS_TOPOLOGY)
    layers: list[Any] = topology["config"]["layers"]  # type: ignore[index]  # a literal
    entry = {
        "class_name": "InputLayer",
        "config": {"name": "x", "batch_shape": [None, 2 if nested else 3]},
    }
    if nested:
        inner = {"name": "inner", "layers": [entry]}
        layers.append({"class_name": "Sequential", "config": inner})
    else:
        layers.insert(0, entry)
    return {"model_config": topology}


@pytest.mark.parametrize("nested", [False, True])
def test_a_topology_that_keras_3_wrote(tmp_path: Path, nested: bool) -> None:
    """It is mended; or it would not load."""
    document = dense_document("weights.bin", modelTopology=keras3(nested))
    write_model(tmp_path, document=document)
    ((level, where, message),) = findings(tmp_path)
    assert (level, where) == ("note", "m/model.json")
    assert "repaired on the way out: modelTopology: is written by Keras 3" in message
    ((level, where, message),) = findings(tmp_path, repair=False)
    assert (level, where) == ("error", "m/model.json")
    assert message.startswith("modelTopology: is written by Keras 3")
    assert "let TFJS_REPAIR mend it, or convert the Keras file itself" in message


def test_files_that_no_manifest_names(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "old.bin").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"x")
    ((level, where, _),) = findings(tmp_path)
    assert (level, where) == ("note", "m/old.bin")


def test_files_beside_a_broken_model_may_be_its_own(tmp_path: Path) -> None:
    write_model(tmp_path, shards={"weights.bin": b""})
    ((level, where, message),) = findings(tmp_path)
    assert (level, where) == ("error", "m/model.json")
    assert message.startswith("weights.bin: has 0 bytes")


def test_files_beside_a_registered_file_are_not_looked_at(tmp_path: Path) -> None:
    write_model(tmp_path, entry="one.json")
    write_model(tmp_path, entry="two.json", shards={"two.bin": b""})
    assert findings(tmp_path / "one.json") == []


def test_links_that_lead_out(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    (tmp_path / "secret.txt").write_text("x")
    (tmp_path / "model" / "notes.txt").symlink_to(tmp_path / "secret.txt")
    ((level, where, message),) = findings(tmp_path / "model")
    assert (level, where) == ("warning", "m/notes.txt")
    assert "TFJS_LINK_ROOTS" in message


def test_nothing_there(tmp_path: Path) -> None:
    ((level, where, message),) = findings(tmp_path)
    assert (level, where) == ("error", "m")
    assert "no JSON file in it" in message
    ((level, where, message),) = findings(tmp_path / "missing")
    assert (level, where) == ("error", "m")
    assert "cannot be read" in message


def test_bounds_that_are_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path, entry="/".join("abcdefghi") + "/model.json")
    write_model(tmp_path)
    ((level, _, message),) = findings(tmp_path)
    assert level == "warning"
    assert f"{listing.MAX_DEPTH} levels" in message


def test_no_leftovers_are_told_of_where_a_model_is_broken(tmp_path: Path) -> None:
    """What it would name is not known."""
    write_model(tmp_path / "m")
    (tmp_path / "m/other.bin").write_bytes(b"x")
    (tmp_path / "m/model.json").write_bytes(b'{"modelTopology": {}, ')
    (finding,) = check_model(ModelDirectory("m", str(tmp_path / "m")))
    assert finding.level == "error"
