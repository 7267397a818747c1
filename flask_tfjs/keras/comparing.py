"""Which layers TensorFlow.js would compute otherwise than Keras: those in whose place
the rules put others."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from .configs import number
from .configs import stock_config
from .graph import Call
from .graph import Graph
from .graph import Layer
from .misfits import Misfit
from .rewriting import pruned
from .weights import Computed

_OTHERWISE = "is a layer that TensorFlow.js computes otherwise than Keras, or refuses"


def differences(old: Graph, new: Graph) -> Iterator[Misfit]:
    """The first layer that TensorFlow.js computes otherwise than Keras: one in whose
    place the rules put another."""
    before, after = pruned(old).layers, new.layers
    for layer, written in zip(before, after, strict=False):
        if layer.model is not None and written.model is not None:
            inner = list(differences(layer.model, written.model))
            if inner:
                yield inner[0]
                return
        elif not _is_same(layer, written):
            yield Misfit(layer.name, _OTHERWISE)
            return
    if len(before) != len(after):
        yield Misfit(old.name, _OTHERWISE)


def _is_same(layer: Layer, written: Layer) -> bool:
    return (
        layer.class_name == written.class_name
        and not layer.is_operation
        and layer.repeated is None
        and list(map(_arity, layer.calls)) == list(map(_arity, written.calls))
        and not any(isinstance(w, Computed) for w in written.weights.values())
        and _says_the_same(stock_config(layer.config), written.config)
    )


def _arity(call: Call) -> int:
    return len(call.inputs)


def _says_the_same(config: Mapping[str, Any], written: Mapping[str, Any]) -> bool:
    return all(
        _is_equal(key, value, written[key])
        for key, value in config.items()
        if key in written
    )


def _is_equal(key: str, value: Any, written: Any) -> bool:
    if key == "layer" and isinstance(value, dict) and isinstance(written, dict):
        return value["class_name"] == written["class_name"] and _says_the_same(
            stock_config(value["config"]), written["config"]
        )
    # Where an axis is not the last, more than the config changes.
    if key in ("axis", "name") or value == written:
        return True
    if key == "activation":
        return value is None and written == "linear"
    return number(value) is not None and number(value) == number(written)
