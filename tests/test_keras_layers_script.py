"""The script of layers that TensorFlow.js lacks: each computes what Keras computes, in
Node and in Chromium, whatever form of TensorFlow.js a page has.

Run as a program, this file is Keras: cases in, what Keras makes of them out.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import subprocess
import sys
import typing as t
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

import pytest
from clients import saving
from clients.drivers import Node
from clients.drivers import start_browser
from clients.drivers import start_node
from flask import Flask
from flask import send_from_directory
from javascript import javascript
from reference import CLIENTS
from servers import module_found
from servers import require

import flask_tfjs

STATIC = Path(flask_tfjs.__file__).parent / "static"
SCRIPT = STATIC / "keras-layers.js"
CLIENT = "layers_script.mjs"

# Of the value of Keras, where that is larger than 1, else of 1.
TOLERANCE = 1e-5

Draw = t.Literal["any", "positive", "above one", "within one", "truth", "masked"]
Shape = tuple[int, ...]


class Array(t.TypedDict):
    """A tensor on its way; ``None`` for values that are no numbers."""

    shape: list[int]
    values: list[float | None]


class Weight(Array):
    name: str


class Reference(t.TypedDict):
    """What Keras makes of a case.

    :ivar known: the shapes of the outputs, as the model knows them.
    """

    known: list[list[int | None]]
    weights: list[Weight]
    inputs: list[Array]
    outputs: list[Array]
    gradients: list[Array]


# Cases


@dataclass(frozen=True)
class Layer:
    """A layer of a topology.

    :ivar takes: inputs (``x``, ``y``) or layers by name; if none, the one before.
    """

    class_name: str
    config: dict[str, t.Any] = field(default_factory=dict)
    takes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """A model, in Keras and in TensorFlow.js.

    :ivar keras: what it makes of ``x``, ``y`` and ``z``.
    :ivar layers: the same in TensorFlow.js; the last one returns the outputs.
    :ivar shapes: of the inputs without the batch; 0 is a size the model does not know.
    :ivar calls: how often it predicts; the last time counts.
    :ivar batch: how many samples, where the model is to know it.
    :ivar gradients: whether TensorFlow.js is able to differentiate it.
    """

    keras: str
    layers: tuple[Layer, ...]
    shapes: tuple[Shape, ...] = ((4, 6),)
    draw: Draw = "any"
    calls: int = 1
    batch: int | None = None
    gradients: bool = True

    def __str__(self) -> str:
        return f"{self.keras} of {self.shapes}"


def layer(class_name: str, shape: Shape, **config: t.Any) -> Case:
    """A layer of the same config in both."""
    config = {"name": "layer", **config}
    keras = f"layers.{class_name}(**{config!r})(x)"
    return Case(keras, (Layer(f"Keras{class_name}", config),), (shape,))


MASKING = Layer("Masking")


def gru(
    *before: Layer, shape: Shape = (4, 6), gradients: bool = False, **config: t.Any
) -> Case:
    config = {"name": "layer", "units": 3, **config}
    x = "layers.Masking()(x)" if before else "x"
    keras = f"layers.GRU(**{config!r})({x})"
    script = Layer("KerasGRU", config)
    draw: Draw = "masked" if before else "any"
    return Case(keras, (*before, script), (shape,), draw, gradients=gradients)


def bidirectional(*before: Layer, merge_mode: str | None, **config: t.Any) -> Case:
    config = {"name": "gru", "units": 3, **config}
    x = "layers.Masking()(x)" if before else "x"
    own = f"merge_mode={merge_mode!r}, name='layer'"
    inner = {"class_name": "KerasGRU", "config": config}
    script = Layer(
        "Bidirectional", {"name": "layer", "merge_mode": merge_mode, "layer": inner}
    )
    after = (
        [Layer("KerasZeroMasked")] if before and "return_sequences" in config else []
    )
    return Case(
        f"layers.Bidirectional(layers.GRU(**{config!r}), {own})({x})",
        (*before, script, *after),
        draw="masked" if before else "any",
        gradients=False,
    )


def passing(class_name: str, **config: t.Any) -> Case:
    """A layer between a mask and what uses it."""
    config = {"name": "a", **config}
    return Case(
        f"layers.GRU(2, name='b')(layers.{class_name}(**{config!r})("
        "layers.Masking()(x)))",
        (
            MASKING,
            Layer(f"Keras{class_name}", config),
            Layer("KerasGRU", {"name": "b", "units": 2}),
        ),
        draw="masked",
        gradients=False,
    )


IDENTITY = Layer("KerasOperation", {"operation": "identity"})
SEQUENCES: dict[str, t.Any] = {"return_sequences": True}

RECURRENT = [
    gru(gradients=True),
    gru(shape=(0, 6), units=1, **SEQUENCES),
    gru(return_state=True, **SEQUENCES),
    gru(go_backwards=True, gradients=True, **SEQUENCES),
    gru(use_bias=False, activation="relu", recurrent_activation="softplus"),
    gru(MASKING),
    gru(MASKING, return_state=True, **SEQUENCES),
    gru(MASKING, go_backwards=True, **SEQUENCES),
    bidirectional(merge_mode="concat"),
    bidirectional(merge_mode="sum", **SEQUENCES),
    bidirectional(merge_mode="ave"),
    bidirectional(merge_mode="mul"),
    bidirectional(merge_mode=None, **SEQUENCES),
    bidirectional(MASKING, merge_mode="ave"),
    bidirectional(MASKING, merge_mode="concat", **SEQUENCES),
    Case(
        "layers.RNN(layers.GRUCell(3), name='layer')(x)",
        (
            Layer(
                "RNN",
                {
                    "name": "layer",
                    "cell": {"class_name": "KerasGRUCell", "config": {"units": 3}},
                },
            ),
        ),
        gradients=False,
    ),
    Case(
        "layers.GRU(3, name='layer')(x, initial_state=y)",
        (Layer("KerasGRU", {"name": "layer", "units": 3}, ("x", "y")),),
        ((4, 6), (3,)),
        gradients=False,
    ),
    Case(
        "layers.GRU(3, stateful=True, name='layer')(x)",
        (Layer("KerasGRU", {"name": "layer", "units": 3, "stateful": True}),),
        calls=3,
        batch=3,
        gradients=False,
    ),
    # Masks that end: tfjs would go on using them.
    Case(
        "layers.GRU(2, name='b')(layers.RepeatVector(4)("
        "layers.GRU(3, name='a')(layers.Masking()(x))))",
        (
            MASKING,
            Layer("KerasGRU", {"name": "a", "units": 3}),
            Layer("RepeatVector", {"n": 4}),
            Layer("KerasGRU", {"name": "b", "units": 2}),
        ),
        draw="masked",
        gradients=False,
    ),
    Case(
        "layers.LSTM(2, name='b')(layers.RepeatVector(4)("
        "layers.LSTM(3, name='a')(layers.Masking()(x))))",
        (
            MASKING,
            Layer("LSTM", {"name": "a", "units": 3, "recurrent_activation": "sigmoid"}),
            Layer("RepeatVector", {"n": 4}),
            IDENTITY,
            Layer("LSTM", {"name": "b", "units": 2, "recurrent_activation": "sigmoid"}),
        ),
        draw="masked",
        gradients=False,
    ),
    Case(
        "layers.GRU(2, name='layer')(ops.exp(layers.Masking()(x)))",
        (
            MASKING,
            Layer("KerasOperation", {"operation": "exp"}),
            Layer("KerasGRU", {"name": "layer", "units": 2}),
        ),
        draw="masked",
        gradients=False,
    ),
    Case(
        "layers.GRU(2, name='layer')(layers.Activation('celu')(layers.Masking()(x)))",
        (
            MASKING,
            Layer("KerasOperation", {"operation": "celu", "masking": True}),
            Layer("KerasGRU", {"name": "layer", "units": 2}),
        ),
        draw="masked",
        gradients=False,
    ),
    passing("GroupNormalization", groups=2),
    passing("UnitNormalization"),
    passing("RMSNormalization"),
    passing("EinsumDense", equation="abc,cd->abd", output_shape=[None, 5]),
]

LAYERS = [
    layer("UpSampling2D", (3, 4, 2), size=[2, 3], interpolation="bilinear"),
    layer("UpSampling2D", (1, 2, 3), size=[3, 2], interpolation="bilinear"),
    layer("UpSampling2D", (0, 0, 2), size=[2, 2], interpolation="bilinear"),
    layer("GroupNormalization", (4, 6), groups=3),
    layer("GroupNormalization", (6,), groups=2, epsilon=0.1),
    layer("GroupNormalization", (2, 3, 4), groups=-1),
    layer("GroupNormalization", (2, 3, 4), groups=1, center=False),
    layer("GroupNormalization", (4, 3, 5), groups=2, axis=1, scale=False),
    layer("GroupNormalization", (0, 4), groups=2),
    layer("GroupNormalization", (2, 2, 2, 4), groups=2),
    layer("RMSNormalization", (4, 6)),
    layer("RMSNormalization", (4, 6), epsilon=0.1, axis=[-2, -1]),
    layer("RMSNormalization", (0, 6)),
    layer("UnitNormalization", (4, 6)),
    layer("UnitNormalization", (4, 6), axis=1),
    layer("UnitNormalization", (2, 3, 4), axis=[1, 3]),
    *(
        layer("EinsumDense", shape, equation=equation, output_shape=sizes, **options)
        for shape, equation, sizes, options in [
            ((6,), "ab,bc->ac", [5], {}),
            ((6,), "ab,bc->ac", 5, {"bias_axes": "c", "activation": "tanh"}),
            ((4, 6), "abc,cd->abd", [4, 5], {"bias_axes": "bd"}),
            ((0, 6), "abc,cde->abde", [None, 2, 3], {"bias_axes": "de"}),
            ((4, 2, 3), "abde,dec->abc", [None, 5], {"bias_axes": "c"}),
            ((4, 6), "...x,xy->...y", [5], {"bias_axes": "y"}),
            ((2, 4, 6), "...x,xyz->...yz", [5, 2], {"bias_axes": "y"}),
            ((4, 6, 2), "abc...,cd->abd...", [4, 5], {"bias_axes": "d"}),
            ((4, 6), "abc,bd->adc", [3, 6], {}),
            ((4, 6), "abc,c->abc", [4, 6], {}),
        ]
    ),
    # The mask of keras.layers.MultiHeadAttention(use_causal_mask=True).
    *(
        Case(
            "x + (1.0 - ops.tril(ops.ones_like(x))) * -1e9",
            (Layer("KerasCausalMask"),),
            (shape,),
        )
        for shape in [(4, 4), (3, 5), (5, 3), (2, 4, 4), (0, 0)]
    ),
]


def operation(
    keras: str,
    name: str,
    *shapes: Shape,
    constants: list[t.Any] | None = None,
    draw: Draw = "any",
    gradients: bool = True,
    **options: t.Any,
) -> Case:
    """A `KerasOperation`; without shapes, of x."""
    config = {"operation": name, "options": options, "constants": constants}
    return Case(
        keras,
        (Layer("KerasOperation", config),),
        shapes or ((4, 6),),
        draw,
        gradients=gradients,
    )


def elementwise(names: str, draw: Draw = "any", gradients: bool = True) -> list[Case]:
    """Functions of one tensor, of the same name in both."""
    return [
        operation(f"ops.{name}(x)", name, draw=draw, gradients=gradients)
        for name in names.split()
    ]


def binary(names: str, draw: Draw = "any", gradients: bool = True) -> list[Case]:
    """Functions of two tensors that are broadcast, and of one and a constant."""
    return [
        case
        for name in names.split()
        for case in [
            operation(
                f"ops.{name}(x, y)",
                name,
                *[(1, 4, 1), (3, 1, 6)],
                draw=draw,
                gradients=gradients,
            ),
            operation(
                f"ops.{name}(0.5, x)",
                name,
                constants=[0.5],
                draw=draw,
                gradients=gradients,
            ),
        ]
    ]


def reductions(names: str) -> list[Case]:
    return [
        operation(
            f"ops.{name}(x, axis={axis}, keepdims={keepdims})",
            name,
            (4, 3, 2),
            axis=axis,
            keepdims=keepdims,
        )
        for name in names.split()
        for axis, keepdims in [(-1, False), ([1, 3], True)]
    ]


def items(shape: Shape, *keys: str) -> list[Case]:
    """Keys as Python writes them."""
    return [
        operation(f"x[{key}]", "get_item", shape, key=_entries(key)) for key in keys
    ]


def _entries(key: str) -> list[t.Any]:
    return [_entry(entry.strip()) for entry in key.split(",")]


def _entry(entry: str) -> t.Any:
    if entry in ("...", "None"):
        return {"...": "ellipsis", "None": None}[entry]
    if ":" not in entry:
        return int(entry)
    numbers = [int(number) if number else None for number in entry.split(":")]
    return dict(zip(["start", "stop", "step"], numbers, strict=False))


OPERATIONS = [
    *elementwise(
        """
        celu elu exp2 hard_shrink log_softmax soft_shrink softmax sparse_plus
        sparse_sigmoid
        """
    ),
    *elementwise("log10 log2", draw="positive"),
    # Functions of tfjs as they are.
    *elementwise(
        """
        absolute arctan arcsinh cos cosh erf exp expm1 sign sin sinh tan
        """,
        gradients=False,
    ),
    *elementwise("arccos arcsin arctanh", "within one", gradients=False),
    *elementwise("arccosh", "above one", gradients=False),
    *elementwise("log log1p reciprocal rsqrt sqrt", "positive", gradients=False),
    *elementwise("ceil floor round trunc", gradients=False),
    *elementwise("logical_not", draw="truth", gradients=False),
    Case(
        "ops.isnan(ops.sqrt(x))",
        (
            Layer("KerasOperation", {"operation": "sqrt"}),
            Layer("KerasOperation", {"operation": "isnan"}),
        ),
        gradients=False,
    ),
    *elementwise("zeros_like ones_like isfinite", gradients=False),
    operation("x + 0", "identity"),
    operation("ops.gelu(x)", "gelu"),
    operation("ops.squareplus(x)", "square_plus"),
    operation("ops.squareplus(x, b=1)", "square_plus", b=1),
    operation("ops.elu(x, alpha=0.3)", "elu", alpha=0.3),
    operation("ops.celu(x, alpha=0.3)", "celu", alpha=0.3),
    operation("ops.clip(x, -0.5, 0.25)", "clip", x_min=-0.5, x_max=0.25),
    operation("ops.hard_shrink(x, 0.2)", "hard_shrink", threshold=0.2),
    operation("ops.soft_shrink(x, 0.2)", "soft_shrink", threshold=0.2),
    operation(
        "ops.threshold(x, 0.1, -2)", "threshold", threshold=0.1, default_value=-2
    ),
    operation("ops.round(x, 2)", "round", decimals=2, gradients=False),
    operation("ops.softmax(x, axis=1)", "softmax", axis=1),
    operation("ops.softmax(x, axis=(1, 2))", "softmax", axis=[1, 2]),
    operation("ops.log_softmax(x, axis=1)", "log_softmax", axis=1),
    operation("ops.glu(x)", "glu"),
    operation("ops.glu(x, axis=1)", "glu", axis=1),
    operation("ops.cast(x, 'int32')", "cast", dtype="int32", gradients=False),
    operation("ops.cast(x, 'bool')", "cast", dtype="bool", gradients=False),
    operation("ops.cumsum(x, axis=1)", "cumsum", axis=1),
    *binary("add subtract multiply maximum minimum arctan2"),
    *binary("divide", draw="positive"),
    *binary("power", draw="positive"),
    *binary("mod floor_divide", gradients=False),
    *binary("greater greater_equal less less_equal", gradients=False),
    *binary("equal not_equal logical_and logical_or logical_xor", "truth", False),
    operation(
        "ops.square(x - y)",
        "squared_difference",
        *[(4, 6), (4, 6)],
    ),
    operation("ops.power(x, 3)", "power", constants=[None, 3]),
    operation(
        "x + np.array([[1.0], [2.0], [3.0], [4.0]])",
        "add",
        (1, 6),
        constants=[None, [[1], [2], [3], [4]]],
    ),
    Case(
        "ops.where(x > 0, y, z)",
        (
            Layer("KerasOperation", {"operation": "greater", "constants": [None, 0]}),
            Layer("KerasOperation", {"operation": "where"}, ("layer_0", "y", "z")),
        ),
        ((4, 6), (1, 6), (4, 1)),
    ),
    operation(
        "ops.where(x, y, -1.0)",
        "where",
        *[(4, 6), (4, 6)],
        constants=[None, None, -1],
        draw="truth",
        gradients=False,
    ),
    *reductions("sum mean max min prod var std logsumexp"),
    operation("ops.sum(x, axis=2)", "sum", (0, 3), axis=2),
    operation("ops.mean(x, axis=1)", "mean", (0, 3), axis=1),
    *(
        operation(f"ops.{name}(x, axis=1)", name, axis=1, draw="truth", gradients=False)
        for name in ["any", "all"]
    ),
    *(
        operation(
            f"ops.{name}(x, axis={axis}, keepdims={keepdims})",
            name,
            axis=axis,
            keepdims=keepdims,
            gradients=False,
        )
        for name in ["argmax", "argmin"]
        for axis, keepdims in [(-1, False), (1, True)]
    ),
    operation("ops.matmul(x, y)", "matmul", (4, 6), (6, 2)),
    operation("ops.matmul(x, y)", "matmul", (2, 4, 6), (1, 6, 3)),
    operation("ops.matmul(x, y)", "matmul", (2, 1, 4, 6), (1, 3, 6, 2)),
    operation("ops.matmul(x, y)", "matmul", (0, 6), (6, 0)),
    operation(
        "ops.matmul(x, np.array([1., 2., 3., 4., 5., 6.], 'float32'))",
        "matmul",
        constants=[None, [1, 2, 3, 4, 5, 6]],
    ),
    operation(
        "ops.einsum('abc,adc->abd', x, y)",
        "einsum",
        *[(4, 6), (3, 6)],
        subscripts="abc,adc->abd",
    ),
    operation(
        "ops.einsum('...ij,...jk->...ki', x, y)",
        "einsum",
        *[(2, 4, 6), (1, 6, 3)],
        subscripts="...ij,...jk->...ki",
    ),
    operation("ops.einsum('abc->acb', x)", "einsum", subscripts="abc->acb"),
    operation("ops.einsum('abc->ab', x)", "einsum", subscripts="abc->ab"),
    operation(
        "ops.einsum('ab,ac->abc', x, y)", "einsum", (4,), (3,), subscripts="ab,ac->abc"
    ),
    *items(
        (5, 6),
        *[":, 0", ":, -1", "..., 1", ":, 1:4", ":, ::2", ":, ::-1", ":, -3:-1, None"],
        *[":, None, :, 2", ":, 3:0:-2, 1", ":, 1:100", "..., None", ":, :, -2:"],
    ),
    *items((0, 6), ":, :, 1:3", ":, -1", ":, ::2", ":, :3"),
    *(
        operation(
            f"ops.pad(x, [[0, 0], [1, 2], [0, 3]], mode={mode!r})",
            "pad",
            pad_width=[[0, 0], [1, 2], [0, 3]],
            mode=mode,
        )
        for mode in ["constant", "reflect", "symmetric"]
    ),
    operation(
        "ops.pad(x, [[0, 0], [1, 0]], constant_values=7)",
        "pad",
        (4,),
        pad_width=[[0, 0], [1, 0]],
        constant_values=7,
    ),
    operation(
        "layers.ZeroPadding1D((2, 1))(x)",
        "pad",
        (0, 6),
        pad_width=[[0, 0], [2, 1], [0, 0]],
    ),
    operation(
        "layers.ZeroPadding3D(((1, 0), (0, 2), (1, 1)))(x)",
        "pad",
        (2, 2, 3, 1),
        pad_width=[[0, 0], [1, 0], [0, 2], [1, 1], [0, 0]],
    ),
    operation(
        "layers.Cropping3D(((1, 0), (0, 1), (1, 1)))(x)",
        "crop",
        (3, 3, 4, 2),
        cropping=[[0, 0], [1, 0], [0, 1], [1, 1], [0, 0]],
    ),
    operation(
        "layers.UpSampling3D((2, 1, 3))(x)",
        "upsample",
        (2, 3, 2, 2),
        size=[1, 2, 1, 3, 1],
    ),
    operation("layers.UpSampling1D(3)(x)", "upsample", (0, 6), size=[1, 3, 1]),
    operation("ops.flip(x, axis=1)", "flip", axis=1),
    operation("ops.expand_dims(x, -1)", "expand_dims", axis=-1),
    operation("ops.expand_dims(x, (1, 3))", "expand_dims", (0, 6), axis=[1, 3]),
    operation("ops.squeeze(x, 2)", "squeeze", (4, 1, 6), axis=2),
    operation("ops.squeeze(x, (1, -1))", "squeeze", (1, 0, 1), axis=[1, -1]),
    operation("ops.stack([x, y, z], axis=1)", "stack", *[(4, 6)] * 3, axis=1),
    operation("ops.stack([x, y], axis=-1)", "stack", *[(0, 6)] * 2, axis=-1),
    operation(
        "ops.one_hot(ops.cast(x, 'int32'), 3)",
        "one_hot",
        num_classes=3,
        draw="truth",
        gradients=False,
    ),
]

CASES = [*RECURRENT, *LAYERS, *OPERATIONS]
WEIGHTS = frozenset({"kernel", "recurrent_kernel", "bias", "gamma", "beta", "scale"})
INPUTS = "xyz"

# What 0 stands for in the shapes of inputs.
OPEN = 6


# Keras


def compute(cases: list[dict[str, t.Any]]) -> list[Reference]:
    """What Keras makes of cases, all compiled together."""
    jax, keras, np = map(importlib.import_module, ["jax", "keras", "numpy"])
    # They are run once.
    jax.config.update("jax_disable_most_optimizations", True)
    # Other weights are assigned below, and to draw these takes long.
    zeros = keras.initializers.Zeros.__call__
    for initializer in ["GlorotUniform", "Orthogonal"]:
        getattr(keras.initializers, initializer).__call__ = zeros
    models = [_model(keras, np, case) for case in cases]
    random = np.random.default_rng(5)
    weights = [_weights(random, model) for model in models]
    inputs = [
        [_draw(random, case["draw"], [3, *_sizes(shape)]) for shape in case["shapes"]]
        for case in cases
    ]
    for case, model, values in zip(cases, models, inputs, strict=True):
        for _ in range(case["calls"] - 1):
            model(values)

    def total(inputs: t.Any) -> t.Any:
        outputs = [
            keras.tree.flatten(
                model(values if case["gradients"] else jax.lax.stop_gradient(values))
            )
            for case, model, values in zip(cases, models, inputs, strict=True)
        ]
        flat = [np.float32(1) * y.reshape(-1) for y in keras.tree.flatten(outputs)]
        return sum((y * np.arange(1, len(y) + 1)).sum() for y in flat), outputs

    differentiated = jax.value_and_grad(total, has_aux=True)
    (_, outputs), gradients = jax.jit(differentiated)(inputs)

    def arrays(values: t.Any) -> list[Array]:
        return [_array(np.asarray(value)) for value in values]

    return [
        {
            "known": [list(output.shape) for output in model.outputs],
            "weights": weights[i],
            "inputs": arrays(inputs[i]),
            "outputs": arrays(outputs[i]),
            "gradients": arrays(gradients[i]),
        }
        for i, model in enumerate(models)
    ]


def _model(keras: t.Any, np: t.Any, case: dict[str, t.Any]) -> t.Any:
    names = {"keras": keras, "layers": keras.layers, "ops": keras.ops, "np": np}
    inputs = {
        name: keras.Input([size or None for size in shape], batch_size=case["batch"])
        for name, shape in zip(INPUTS, case["shapes"], strict=False)
    }
    outputs = keras.tree.flatten(eval(case["keras"], {**names, **inputs}))
    return keras.Model(list(inputs.values()), outputs)


def _weights(random: t.Any, model: t.Any) -> list[Weight]:
    """Other ones, by the names that TensorFlow.js has for them."""
    weights: list[Weight] = []
    for variable in model.weights:
        if variable.name in WEIGHTS:
            value = random.normal(0.3, 0.5, variable.shape).astype("float32")
            variable.assign(value)
            name = re.sub(r"/\w+_cell(_\d+)?/", "/", variable.path)
            weights.append({"name": name, **_array(value)})
    return weights


def _sizes(shape: Sequence[int]) -> list[int]:
    return [size or OPEN for size in shape]


def _draw(random: t.Any, draw: Draw, shape: list[int]) -> t.Any:
    values = random.normal(size=shape).astype("float32")
    if draw == "positive":
        return abs(values) + values.dtype.type(0.1)
    if draw == "above one":
        return abs(values) + values.dtype.type(1.1)
    if draw == "within one":
        return values.clip(-1, 1) * values.dtype.type(0.9)
    if draw == "truth":
        return (values > 0).astype("float32")
    if draw == "masked":
        # At the end, at the beginning and within, and everywhere.
        values[0, 2:] = values[1, [0, 2]] = values[2] = 0
    return values


def _array(value: t.Any) -> Array:
    values = [v if math.isfinite(v) else None for v in value.ravel().tolist()]
    return {"shape": list(value.shape), "values": values}


@pytest.fixture(scope="module")
def references() -> dict[str, Reference]:
    """Of all cases, computed by Keras in a process of its own."""
    for name in ["keras", "jax", "numpy"]:
        require(module_found(name), name)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        input=json.dumps([asdict(case) for case in CASES]),
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return dict(zip(map(str, CASES), json.loads(done.stdout), strict=True))


# TensorFlow.js


def topology(case: Case, outputs: int) -> dict[str, t.Any]:
    """The model as ``model.json`` has it."""
    inputs = dict(zip(INPUTS, case.shapes, strict=False))
    layers: list[dict[str, t.Any]] = [
        {
            "class_name": "InputLayer",
            "name": name,
            "config": {
                "name": name,
                "dtype": "float32",
                "batch_input_shape": [case.batch, *(size or None for size in shape)],
            },
            "inbound_nodes": [],
        }
        for name, shape in inputs.items()
    ]
    before = list(inputs)
    for number, one in enumerate(case.layers):
        name = one.config.get("name", f"layer_{number}")
        node = [[source, 0, 0, {}] for source in one.takes or before]
        layers.append(
            {
                "class_name": one.class_name,
                "name": name,
                "config": {**one.config, "name": name},
                "inbound_nodes": [node],
            }
        )
        before = [name]
    config = {
        "name": "model",
        "layers": layers,
        "input_layers": [[name, 0, 0] for name in inputs],
        "output_layers": [[before[0], 0, index] for index in range(outputs)],
    }
    return {"class_name": "Model", "config": config}


def job(case: Case, reference: Reference, **more: t.Any) -> t.Any:
    """A job of layers_script.mjs."""
    return {
        "topology": topology(case, len(reference["outputs"])),
        "weights": reference["weights"],
        "inputs": reference["inputs"],
        "calls": case.calls,
        "gradients": case.gradients,
        **more,
    }


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with start_node(tmp_path_factory.mktemp("script"), CLIENT) as node:
        yield node


def error(found: Array, expected: Array) -> float:
    """The largest difference, relative to values above 1."""
    assert found["shape"] == expected["shape"]
    pairs = list(zip(found["values"], expected["values"], strict=True))
    assert [a is None for a, _ in pairs] == [b is None for _, b in pairs]
    return max(
        (
            abs(a - b) / max(1, abs(b))
            for a, b in pairs
            if a is not None and b is not None
        ),
        default=0.0,
    )


def errors(found: list[Array], expected: list[Array]) -> float:
    return max(error(a, b) for a, b in zip(found, expected, strict=True))


def first(array: Array) -> Array:
    """Of the first sample."""
    _, *shape = array["shape"]
    return {"shape": [1, *shape], "values": array["values"][: math.prod(shape)]}


def missing(given: t.Any, found: t.Any) -> list[t.Any]:
    """What of a config is not the same in another."""
    if isinstance(given, dict) and isinstance(found, dict):
        pairs = [(given[key], found.get(key)) for key in given]
        return [other for pair in pairs for other in missing(*pair)]
    return [] if given in (None, found) else [(given, found)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_keras(node: Node, references: dict[str, Reference], case: Case) -> None:
    """What it predicts for all samples, for one alone, and when it was saved and
    loaded; its shapes and gradients."""
    reference = references[str(case)]
    result: t.Any = node.run(job(case, reference, script=SCRIPT.as_uri()))
    assert "error" not in result, result
    expected = reference["outputs"]
    assert errors(result["outputs"], expected) <= TOLERANCE
    assert result["leaked"] == 0
    for known, symbolic, output in zip(
        reference["known"], result["symbolic"], expected, strict=True
    ):
        # A size that Keras knows is known, and none is wrong.
        pairs = zip(known, symbolic, output["shape"], strict=True)
        assert all(b == c or (b is None and a is None) for a, b, c in pairs)
        assert symbolic[0] == case.batch
    if case.calls == 1:
        assert (
            errors(result["alone"], [first(output) for output in expected]) <= TOLERANCE
        )
        assert result["reloaded"] == result["outputs"]
        given = case.layers[-1].config
        assert missing(given, result["config"]) == []
        assert result["config"].get("reset_after", True)
    if case.gradients:
        assert errors(result["gradients"], reference["gradients"]) <= 1e-4


def weighted(class_name: str, *, masked: bool = False) -> Case:
    """The first case of a class."""
    return next(
        case
        for case in [*RECURRENT, *LAYERS]
        if case.layers[-1].class_name == class_name
        and (case.draw == "masked") == masked
        and "'bias_axes'" in case.keras + "'bias_axes'" * (class_name != EINSUM)
    )


EINSUM = "KerasEinsumDense"
TRAINED = [
    weighted("KerasGRU"),
    weighted("KerasGRU", masked=True),
    weighted("Bidirectional"),
    weighted("RNN"),
    weighted("KerasGroupNormalization"),
    weighted("KerasRMSNormalization"),
    weighted(EINSUM),
]


@pytest.mark.parametrize("case", TRAINED, ids=str)
def test_a_permuted_weight_is_noticed(
    node: Node, references: dict[str, Reference], case: Case
) -> None:
    """Of each weight in turn."""
    reference = references[str(case)]
    for weight in reference["weights"]:
        permuted: Weight = {**weight, "values": weight["values"][::-1]}
        weights = [permuted if w is weight else w for w in reference["weights"]]
        other: t.Any = {**reference, "weights": weights}
        result: t.Any = node.run(job(case, other, script=SCRIPT.as_uri()))
        found = errors(result["outputs"], reference["outputs"])
        assert found > 100 * TOLERANCE, weight["name"]


def with_config(case: Case, **config: t.Any) -> Case:
    """The last layer with more in its config."""
    *before, last = case.layers
    changed = {**last.config, **config}
    return replace(case, layers=(*before, replace(last, config=changed)))


@pytest.mark.parametrize("case", TRAINED, ids=str)
def test_training(node: Node, references: dict[str, Reference], case: Case) -> None:
    """What fit() starts from is what predict() returns; the targets are 0.5 off."""
    reference = references[str(case)]
    script = SCRIPT.as_uri()
    result: t.Any = node.run(job(case, reference, script=script, epochs=10))
    start, *_, end = result["losses"]
    assert start == pytest.approx(0.25, rel=1e-4)
    assert end < start
    assert result["trainable"] == len(reference["weights"])


@pytest.mark.parametrize(
    "case",
    # Of what is inside a wrapper only its own config tells.
    [case for case in TRAINED if case.layers[-1].class_name != "Bidirectional"],
    ids=str,
)
def test_not_trainable(
    node: Node, references: dict[str, Reference], case: Case
) -> None:
    reference = references[str(case)]
    frozen = with_config(case, trainable=False)
    result: t.Any = node.run(job(frozen, reference, script=SCRIPT.as_uri()))
    assert result["trainable"] == 0
    assert result["reloaded"] == result["outputs"]
    assert errors(result["outputs"], reference["outputs"]) <= TOLERANCE


@pytest.mark.parametrize("option", ["dropout", "recurrent_dropout"])
def test_dropout(node: Node, references: dict[str, Reference], option: str) -> None:
    """In training, and not else."""
    case = weighted("KerasGRU")
    reference = references[str(case)]
    dropping = with_config(case, **{option: 0.5})
    more: t.Any = {"script": SCRIPT.as_uri(), "epochs": 1}
    result: t.Any = node.run(job(dropping, reference, **more))
    assert errors(result["outputs"], reference["outputs"]) <= TOLERANCE
    assert result["leaked"] == 0
    (loss,) = result["losses"]
    assert abs(loss - 0.25) > 1e-3


# Forms of TensorFlow.js

DIST = "@tensorflow/tfjs/dist"
# Expressions of JavaScript.
FORMS = {
    "tf.node.js": f"packages('{DIST}/tf.node.js')",
    "tf.js": f"packages('{DIST}/tf.js')",
    "tf.min.js": f"packages('{DIST}/tf.min.js')",
    "tf.es2017.js": f"packages('{DIST}/tf.es2017.js')",
    "core and layers": """({
        ...packages('@tensorflow/tfjs-core'),
        ...packages('@tensorflow/tfjs-layers'),
        ...packages('@tensorflow/tfjs-backend-cpu'),
    })""",
}
OFTEN = [
    weighted("Bidirectional"),
    weighted("KerasGRU", masked=True),
    weighted("KerasUpSampling2D"),
    weighted("KerasGroupNormalization"),
    weighted(EINSUM),
    OPERATIONS[0],
]


def often(references: dict[str, Reference], **more: t.Any) -> Iterator[t.Any]:
    """Jobs, and what Keras makes of each."""
    for case in OFTEN:
        reference = references[str(case)]
        epochs = 3 if reference["weights"] else 0
        yield job(case, reference, epochs=epochs, **more), reference


def check(result: t.Any, reference: Reference) -> None:
    assert "error" not in result, result
    assert errors(result["outputs"], reference["outputs"]) <= TOLERANCE
    assert result["reloaded"] == result["outputs"]
    if reference["weights"]:
        assert result["losses"][-1] < result["losses"][0]


@pytest.mark.parametrize("form", FORMS)
def test_forms(references: dict[str, Reference], form: str) -> None:
    source = f"""async (packages) => {{
        const {{run}} = await import({(CLIENTS / CLIENT).as_uri()!r});
        const tf = {FORMS[form]};
        await tf.setBackend('cpu');
        return (job) => run({{tf}}, job);
    }}"""
    with javascript(source, "@tensorflow/tfjs") as run:
        for given, reference in often(references, script=SCRIPT.as_uri()):
            check(run(given), reference)


REGISTER = f"""async (packages) => {{
    const {{runInThisContext}} = require('node:vm');
    const script = require('node:fs').readFileSync({str(SCRIPT)!r}, 'utf8');
    const tf = packages('{DIST}/tf.node.js');
    const other = packages('{DIST}/tf.es2017.js');
    const classesOf = (tf) => tf.serialization.SerializationMap.getMap().classNameMap;
    return (given) => {{
        globalThis.tf = eval(given.global);
        runInThisContext(script);
        const before = Boolean(globalThis.tf?.layers && classesOf(tf).KerasGRU);
        try {{
            kerasLayers.register(eval(given.register));
        }} catch (error) {{
            return error.message;
        }}
        const [first] = classesOf(tf).KerasGRU ?? [];
        kerasLayers.register(tf);
        const [second] = classesOf(tf).KerasGRU;
        return [before, first === second, Boolean(classesOf(other).KerasGRU)];
    }};
}}"""
REFUSED = "kerasLayers.register(tf) takes TensorFlow.js with its layers."


@pytest.mark.parametrize(
    ("given", "register", "expected"),
    [
        ("undefined", "tf", [False, True, False]),
        ("tf", "tf", [True, True, False]),
        ("({})", "tf", [False, True, False]),
        ("undefined", "(kerasLayers.register(other), tf)", [False, True, True]),
        ("undefined", "undefined", REFUSED),
        ("undefined", "({layers: {}})", REFUSED),
        ("undefined", "packages('@tensorflow/tfjs-core')", REFUSED),
    ],
)
def test_register(given: str, register: str, expected: object) -> None:
    """With a global tf by itself; more than once; never what is something else."""
    with javascript(REGISTER, "@tensorflow/tfjs") as call:
        assert call({"global": given, "register": register}) == expected


def test_without_the_script(references: dict[str, Reference], tmp_path: Path) -> None:
    """A page without it fails, by the name of the layer."""
    case = weighted("KerasGRU")
    with start_node(tmp_path, CLIENT) as node:
        result: t.Any = node.run(job(case, references[str(case)]))
    assert result["error"].startswith("Unknown layer: KerasGRU.")


# Browsers

PAGES = {
    "script": f"""
        <script src="/clients/node_modules/{DIST}/tf.min.js"></script>
        <script src="/static/keras-layers.js"></script>
        <script type="module">
          import {{run}} from '/clients/{CLIENT}';
          window.run = async (job) => (await tf.setBackend('cpu'), run({{tf}}, job));
        </script>""",
    "module": f"""
        <script type="module">
          import * as tf from '/clients/node_modules/{DIST}/tf.fesm.min.js';
          import {{register}} from '/static/keras-layers.mjs';
          import {{run}} from '/clients/{CLIENT}';
          register(tf);
          window.run = async (job) => (await tf.setBackend('cpu'), run({{tf}}, job));
        </script>""",
}


@pytest.fixture(scope="module")
def site() -> Iterator[saving.Site]:
    app = Flask(__name__, static_folder=str(STATIC))

    @app.get("/clients/<path:path>")
    def clients(path: str) -> t.Any:
        return send_from_directory(CLIENTS, path)

    @app.get("/pages/<name>")
    def page(name: str) -> str:
        return f"<!doctype html><link rel=icon href=data:,>{PAGES[name]}"

    with saving.running(app) as site:
        yield site


@pytest.fixture(scope="module")
def browser() -> Iterator[t.Any]:
    with start_browser() as browser:
        yield browser


@pytest.mark.parametrize("name", PAGES)
def test_in_chromium(
    browser: t.Any, site: saving.Site, references: dict[str, Reference], name: str
) -> None:
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{site.url}/pages/{name}")
    page.wait_for_function("window.run")
    for given, reference in often(references):
        check(page.evaluate("(job) => run(job)", given), reference)
    page.close()
    assert complaints == []


if __name__ == "__main__":
    json.dump(compute(json.load(sys.stdin)), sys.stdout)
