"""Files as Keras saves them, made without Keras, so that they can be made wrong."""

from __future__ import annotations

import io
import json
import typing as t
import zipfile
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

#: What a Dense layer of three inputs and two units holds.
KERNEL = np.arange(6, dtype="float32").reshape(3, 2)
BIAS = np.array([0.5, -0.25], "float32")
DENSE = {"kernel": KERNEL, "bias": BIAS}

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

Arrays = Mapping[str, t.Any]
Change = Callable[[t.Any], None]


def layer(class_name: str, name: str, **config: t.Any) -> dict[str, t.Any]:
    config = {"name": name, "trainable": True, "dtype": "float32", **config}
    return {"class_name": class_name, "config": config}


def sequential(*layers: t.Any, size: int = 3) -> dict[str, t.Any]:
    """A Sequential of these layers, in Keras' own words."""
    first = {"batch_shape": [None, size], "dtype": "float32", "name": "first"}
    head = {"class_name": "InputLayer", "config": first}
    return {
        "class_name": "Sequential",
        "config": {"name": "sequential", "layers": [head, *layers]},
    }


def dense(**config: t.Any) -> dict[str, t.Any]:
    """A Sequential of one Dense layer."""
    return sequential(layer("Dense", "dense", **{"units": 2, **config}))


def write_h5(
    path: Path,
    document: t.Any = None,
    weights: Mapping[str, Arrays] | None = None,
    *,
    change: Change | None = None,
    version: str | None = "3.15.1",
) -> Path:
    """Write a ``.h5``.

    :param document: the model; its JSON, if it is a text.
    :param weights: by layer and name.
    :param change: is given the file when all else is written.
    """
    with h5py.File(path, "w") as file:
        _add_h5(file, document, weights, version)
        if change is not None:
            change(file)
    return path


def _add_h5(
    file: t.Any,
    document: t.Any,
    weights: Mapping[str, Arrays] | None,
    version: str | None,
) -> None:
    document = dense() if document is None else document
    if not isinstance(document, (str, bytes)):
        document = json.dumps(document)
    file.attrs["model_config"] = document
    if version is not None:
        file.attrs["keras_version"] = version
    group = file.create_group("model_weights")
    for name, arrays in ({"dense": DENSE} if weights is None else weights).items():
        here = group.create_group(name)
        names = [f"{name}/{slot}".encode() for slot in arrays]
        here.attrs["weight_names"] = np.array(names)
        for slot, values in arrays.items():
            here.create_dataset(f"{name}/{slot}", data=values)


def weights_file(
    weights: Mapping[str, Arrays] | None = None, change: Change | None = None
) -> bytes:
    """The ``model.weights.h5`` of a ``.keras``.

    :param weights: by the name of the class, counted, as the file has it.
    """
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        layers = file.create_group("layers")
        for name, arrays in ({"dense": DENSE} if weights is None else weights).items():
            group = layers.create_group(f"{name}/vars")
            for index, values in enumerate(arrays.values()):
                group[str(index)] = values
        if change is not None:
            change(file)
    return data.getvalue()


def write_keras(
    path: Path,
    document: t.Any = None,
    weights: Mapping[str, Arrays] | None = None,
    *,
    change: Change | None = None,
    compression: int = zipfile.ZIP_STORED,
    others: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a ``.keras``.

    :param others: members in place of those that it has, or beside them.
    """
    document = dense() if document is None else document
    members = {
        METADATA: json.dumps({"keras_version": "3.15.1"}).encode(),
        CONFIG: json.dumps(document).encode(),
        WEIGHTS: weights_file(weights, change),
        **(others or {}),
    }
    write_zip(path, members, compression)
    return path


def write_zip(
    path: Path, members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED
) -> None:
    with zipfile.ZipFile(path, "w", compression, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
