"""Recurrent layers and the wrappers around layers."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from ..graph import Layer
from ..graph import Shape
from ..rewrite import Outcome
from ..rewrite import Port
from ..rewrite import Rewrite
from ..shapes import each_step
from .activations import name_of
from .activations import stock_name

_ACTIVATIONS = ("activation", "recurrent_activation")


def recurrent(rewrite: Rewrite) -> Outcome:
    """LSTM, GRU, SimpleRNN, ConvLSTM2D."""
    config = dict(rewrite.config)
    for key in _ACTIVATIONS:
        if key in config:
            config[key] = _inner_activation(rewrite, key, config[key])
    if rewrite.layer.class_name == "GRU" and config.get("reset_after", True):
        return rewrite.script_layer(
            "KerasGRU",
            None,
            {**config, "reset_after": True},
            rewrite.weights,
            instead="train the GRU with reset_after=False",
        )
    return rewrite.add(rewrite.layer.class_name, None, config, rewrite.weights)


def _inner_activation(rewrite: Rewrite, key: str, activation: Any) -> str:
    name = name_of(rewrite, activation)
    stock = stock_name(rewrite, name)
    if stock is None:
        raise rewrite.refusal(
            f"{key}={name!r} is not in TensorFlow.js, and a recurrent layer computes "
            "it inside; use 'tanh', 'relu', 'sigmoid' or another one it has"
        )
    return stock


#: Rewrites the layer in a wrapper, given the shapes it is called with.
RewriteInner = Callable[[Layer, Sequence[Shape | None]], Rewrite]


def bidirectional(rewrite: Rewrite, rewrite_inner: RewriteInner) -> Port:
    """A recurrent layer in both directions."""
    inner = _inner_layer(rewrite, "forward/")
    backward = rewrite.config.get("backward_layer")
    if isinstance(backward, dict) and not _mirrors(backward["config"], inner.config):
        raise rewrite.refusal(
            "its backward layer has another config than the forward one, which "
            "TensorFlow.js cannot say; use one layer for both"
        )
    step = _single_step(rewrite, rewrite_inner(inner, rewrite.shapes))
    config = {
        "merge_mode": rewrite.config.get("merge_mode", "concat"),
        "layer": {"class_name": step.class_name, "config": step.config},
    }
    weights = {
        f"{direction}_{step.name}/{slot.partition('/')[2]}": weight
        for direction in ("forward", "backward")
        for slot, weight in rewrite.weights.items()
        if slot.startswith(f"{direction}/")
    }
    return rewrite.add("Bidirectional", None, config, weights)


def _mirrors(backward: dict[str, Any], forward: dict[str, Any]) -> bool:
    """Whether two configs say the same but for the direction."""

    def told(config: dict[str, Any]) -> dict[str, Any]:
        free = ("name", "go_backwards")
        seeds = ("seed", "shared_object_id")
        return {k: _without(v, seeds) for k, v in config.items() if k not in free}

    return told(backward) == told(forward)


def _without(value: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, keys) for k, v in value.items() if k not in keys}
    return value


def _single_step(rewrite: Rewrite, inner: Rewrite) -> Layer:
    if len(inner.steps) != 1:
        raise rewrite.refusal(
            f"the {inner.layer.class_name} in it becomes several layers in "
            "TensorFlow.js, which this wrapper cannot hold"
        )
    return inner.steps[0].layer


def _inner_layer(rewrite: Rewrite, prefix: str) -> Layer:
    document = rewrite.layer.config["layer"]
    config = dict(document["config"])
    class_name = str(document["class_name"]).rpartition(">")[2]
    name = str(config.get("name") or class_name.lower())
    weights = {
        slot.removeprefix(prefix): weight
        for slot, weight in rewrite.weights.items()
        if slot.startswith(prefix)
    }
    return Layer(class_name, name, config, weights=weights)


def time_distributed(rewrite: Rewrite, rewrite_inner: RewriteInner) -> Outcome:
    """A layer on each step. One that becomes a chain of layers is wrapped link by
    link."""
    steps = [each_step(shape) for shape in rewrite.shapes]
    done = rewrite_inner(_inner_layer(rewrite, ""), steps)
    x: Port | None = None
    for number, step in enumerate(done.steps):
        if step.inputs not in (None, [Port(number - 1 if number else None, 0)]):
            raise rewrite.refusal(
                f"the {done.layer.class_name} in it is no chain of layers in "
                "TensorFlow.js, which this wrapper cannot hold"
            )
        inner = step.layer
        config = {"layer": {"class_name": inner.class_name, "config": inner.config}}
        suffix = "" if number == 0 else f"{number}"
        x = rewrite.add("TimeDistributed", x, config, inner.weights, suffix=suffix)
    return x if x is not None else rewrite.input()
