"""From a file of Keras to a directory that ``tf.loadLayersModel()`` loads."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InvalidModel
from ..errors import printable
from ..keras.graph import Graph
from ..keras.rewriting import Options
from ..keras.rewriting import rewrite
from ..keras.script import is_of_script
from ..keras.script import needs_script
from ..keras.weights import Computed
from ..keras.weights import Stored
from ..keras.weights import Weight
from ..keras.writing import named_weights
from ..keras.writing import topology
from .arrays import Floats
from .arrays import values_of
from .directory import NewDirectory
from .keras_file import open_model


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of a model.

    :ivar notices: what the person who converts should know.
    :ivar needs_script: whether the page needs the script of layers.
    :ivar byte_length: of all weights.
    """

    notices: list[str]
    needs_script: bool
    byte_length: int


def to_tfjs(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    options: Options = Options(),  # noqa: B008 - frozen
    force: bool = False,
) -> Conversion:
    """Convert the ``.keras`` or ``.h5`` file *source* to the directory *destination*.

    The same file gives the same bytes. Weights are read and written one after the
    other.

    :param force: a model at the destination is replaced.
    :raises InvalidModel: the file is no model of Keras, is damaged, or has layers that
        TensorFlow.js cannot do; nothing is written then.
    :raises TFJSError: the destination cannot be written or replaced.
    """
    source = os.fspath(source)
    with open_model(source) as graph:
        done = rewrite(graph, options)
        notices = [*done.notices, *_summary(graph, done.graph, options)]
        document = {
            "format": "layers-model",
            "generatedBy": f"keras v{'.'.join(map(str, graph.version))}",
            "convertedBy": "flask_tfjs",
            "modelTopology": {
                "keras_version": ".".join(map(str, graph.version)),
                "backend": "tensorflow",
                "model_config": _numbers(topology(done.graph)),
            },
        }
        with NewDirectory(destination, force=force, source=source) as new:
            byte_length = new.write_model(document, _weights(done.graph))
    return Conversion(
        [printable(notice) for notice in notices],
        needs_script(document),
        byte_length,
    )


def _summary(graph: Graph, done: Graph, options: Options) -> Iterator[str]:
    """What is to be known of the model as a whole."""
    classes = {layer.class_name for layer in graph.walk()}
    for name in sorted(options.custom - classes):
        yield f"no layer is of the class {name}, which --custom names"
    frozen = [
        layer.name
        for layer in done.walk()
        if layer.class_name == "BatchNormalization"
        and layer.config.get("trainable") is False
    ]
    if frozen:
        yield (
            f"{_some(frozen)}: TensorFlow.js trains a BatchNormalization that is not "
            "to be trained all the same; convert with --fold-frozen-bn if the model is "
            "to be trained in a browser"
        )
    script = [
        layer.name
        for layer in done.walk()
        if is_of_script(layer.class_name, layer.config)
    ]
    if script:
        yield (
            f"{_some(script)}: not among the layers of TensorFlow.js, so the page must "
            "load the script of layers, too; --stock-layers refuses it"
        )


def _some(names: Sequence[str]) -> str:
    """The first of some layers, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _weights(graph: Graph) -> Iterator[tuple[dict[str, Any], Floats]]:
    for name, weight in named_weights(graph):
        values = _finite(weight, name)
        yield {"name": name, "shape": list(weight.shape), "dtype": "float32"}, values


def _finite(weight: Weight, where: str) -> Floats:
    values = values_of(weight)
    if not np.isfinite(values).all():
        raise InvalidModel(
            "holds values that are no numbers (NaN or infinite), or too large for "
            "float32; find out when training broke, and save the model before",
            where,
        )
    return values


def _numbers(value: Any) -> Any:
    """*value* with the weights that a rule put into a config as numbers."""
    if isinstance(value, (Stored, Computed)):
        return _list_or_number(_finite(value, _origin(value)))
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_numbers(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidModel(
            "a constant of it becomes infinite, or no number; find the one that is too "
            "large or too small",
            "the model",
        )
    return value


def _origin(weight: Weight) -> str:
    """A weight that *weight* is made of, by its name in the file."""
    while isinstance(weight, Computed):
        inner = [a for a in weight.arguments if isinstance(a, (Stored, Computed))]
        if not inner:
            return weight.operation
        weight = inner[0]
    return weight.name


def _list_or_number(values: Floats) -> Any:
    return float(values.reshape(())) if values.size == 1 else values.tolist()
