"""The way back: from a layers model of TensorFlow.js, such as a browser saves it after
training, to a file of Keras."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from types import MappingProxyType
from typing import BinaryIO
from typing import NamedTuple

from ..errors import InvalidModel
from ..keras.graph import Graph
from ..keras.reading import read_model
from .directory import new_file
from .keras_archive import write_archive
from .keras_configs import Version
from .keras_configs import lost
from .keras_faults import Faults
from .keras_graph import add_inputs
from .keras_graph import prune
from .keras_graph import rename
from .keras_hdf5 import write_hdf5
from .keras_layers import translate
from .keras_parts import STATEFUL
from .keras_source import Source
from .keras_source import open_source
from .keras_weights import adopt
from .keras_weights import complete


class _Form(NamedTuple):
    """A form of file.

    :ivar keras: the major version of Keras that reads it.
    """

    keras: Version
    write: Callable[[Graph, BinaryIO], None]


_FORMS: Mapping[str, _Form] = MappingProxyType(
    {".keras": _Form(3, write_archive), ".h5": _Form(2, write_hdf5)}
)


def to_keras(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    force: bool = False,
) -> list[str]:
    """Write the layers model in *source* as a file of Keras: for Keras 3 if
    *destination* ends in ``.keras``, for Keras 2 (tf_keras) if it ends in ``.h5``.

    :param source: a directory of one model, or a model's ``.json`` file.
    :param force: whether a file at the destination is replaced.
    :returns: what a person should know of the new file.
    :raises InvalidModel: no file ends so; *source* is no layers model, or no client
        could load it; a layer of it has no equal in Keras, with ``where`` naming the
        layer, and all such layers in the message.
    :raises TFJSError: the destination cannot be written or replaced.
    """
    form = _form(destination)
    with (
        new_file(destination, force=force, source=source) as file,
        open_source(source) as found,
    ):
        notices = list(_training_notices(found))
        graph = read_model(found.topology, keras=2)
        notices += _prepare(graph, found, form.keras)
        form.write(graph, file)
    return notices


def _form(destination: str | os.PathLike[str]) -> _Form:
    ending = os.path.splitext(os.fspath(destination))[1].lower()
    if ending not in _FORMS:
        raise InvalidModel(
            "ends neither in .keras, for Keras 3, nor in .h5, for Keras 2 (tf_keras); "
            "name it so",
            os.fspath(destination),
        )
    return _FORMS[ending]


def _prepare(graph: Graph, found: Source, keras: Version) -> list[str]:
    """Make *graph* what a version of Keras loads, and tell what a person should know.

    :raises InvalidModel: of all layers that cannot be written.
    """
    faults = Faults()
    add_inputs(graph)
    prune(graph)
    complete(graph, found.weights)
    notices = list(_lost_notices(graph))
    notices += translate(graph, keras, faults)
    faults.tell()
    if keras == 2:
        notices += _keras_2_notices(graph)
    prune(graph)
    adopt(graph, found.weights, faults)
    faults.tell()
    names = rename(graph)
    if names:
        listed = ", ".join(f"{old} is {new}" for old, new in names.items())
        notices.append(f"layers have other names, since Keras takes not all: {listed}")
    return notices


def _training_notices(found: Source) -> Iterator[str]:
    if found.is_trained:
        yield (
            "the state of the optimizer, the loss and the metrics are left out: load "
            "with compile=False, and compile it anew before training goes on"
        )


def _lost_notices(graph: Graph) -> Iterator[str]:
    for layer in graph.walk():
        keys = [] if layer.model else list(lost(layer.class_name, layer.config))
        if keys:
            listed = ", ".join(keys)
            yield f"{layer.name}: {listed} is left out, since Keras has none such"


def _keras_2_notices(graph: Graph) -> Iterator[str]:
    reasons = dict.fromkeys(_only_for_keras_2(graph))
    if reasons:
        yield (
            f"with {', '.join(reasons)} the file is for tf_keras only; for Keras 3 "
            "write a .keras file"
        )


def _only_for_keras_2(graph: Graph) -> Iterator[str]:
    """What Keras 3 reads otherwise, or not at all, in a file of Keras 2."""
    for layer in graph.walk():
        if layer.model is not None:
            yield "a model in the model"
            continue
        if layer.class_name in STATEFUL and any(c.inputs[1:] for c in layer.calls):
            yield "initial states"
        if layer.class_name == "ThresholdedReLU":
            yield "a ThresholdedReLU"
        if "hard_sigmoid" in json.dumps(layer.config):
            yield "hardSigmoid, which is another function in Keras 3,"
        if isinstance(layer.config.get("axis"), list):
            yield f"a {layer.class_name} of several axes"
