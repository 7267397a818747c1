"""Models that nobody thought of: small functional graphs with shared layers, nested
models, several inputs and outputs, which TensorFlow.js computes as Keras does."""

from __future__ import annotations

import itertools
import os
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from keras_files import KINDS
from keras_files import Keras
from keras_files import start_keras
from predicting import Clients
from predicting import same_files
from predicting import start_clients

from flask_tfjs.convert.to_tfjs import to_tfjs

#: Some of them make large numbers and take them from each other.
TOLERANCE = 1e-4

Shape = tuple[int, ...]
Description = dict[str, t.Any]
Draw = t.Any


@dataclass(frozen=True)
class Kind:
    """A kind of layer: what it makes of a shape, and the configs it may have there; no
    config, no such layer."""

    layer: str
    configs: Callable[[Shape], st.SearchStrategy[Description]] | None
    shape: Callable[[Shape, Description], Shape]
    rank: int | None = None


ACTIVATIONS = st.sampled_from(
    "elu gelu hard_sigmoid leaky_relu linear relu selu sigmoid silu softmax softplus "
    "tanh".split()
)
SIZES = st.integers(1, 4)
PADDING = st.sampled_from(["same", "valid"])


def config(**members: st.SearchStrategy[t.Any]) -> st.SearchStrategy[Description]:
    return st.fixed_dictionaries(members)


def same(shape: Shape, given: Description) -> Shape:
    return shape


def last(name: str) -> Callable[[Shape, Description], Shape]:
    """As many channels as the config says under *name*."""
    return lambda shape, given: (*shape[:-1], given[name])


def padded(size: int, kernel: int, padding: str) -> int:
    return size if padding == "same" else size - kernel + 1


def convolved(shape: Shape, given: Description) -> Shape:
    sizes = [padded(n, given["kernel_size"], given["padding"]) for n in shape[:-1]]
    return (*sizes, given.get("filters", shape[-1]))


def kernels(shape: Shape) -> st.SearchStrategy[int]:
    return st.integers(1, min(shape[:-1]))


def recurrent(shape: Shape, given: Description) -> Shape:
    units = given["units"]
    return (shape[0], units) if given["return_sequences"] else (units,)


def recurrent_config(shape: Shape) -> st.SearchStrategy[Description]:
    return config(
        units=SIZES,
        return_sequences=st.booleans(),
        go_backwards=st.booleans(),
        use_bias=st.booleans(),
    )


def flat(shape: Shape, given: Description) -> Shape:
    size = 1
    for one in shape:
        size *= one
    return (size,)


def fixed(shape: Shape) -> st.SearchStrategy[Description]:
    return st.just({})


KINDS_OF_LAYERS = [
    Kind(
        "Dense",
        lambda shape: config(
            units=SIZES, activation=ACTIVATIONS, use_bias=st.booleans()
        ),
        last("units"),
    ),
    Kind("Activation", lambda shape: config(activation=ACTIVATIONS), same),
    Kind("LeakyReLU", lambda shape: config(negative_slope=st.just(0.25)), same),
    Kind("PReLU", fixed, same),
    Kind("Dropout", lambda shape: config(rate=st.just(0.5)), same),
    Kind(
        "BatchNormalization",
        lambda shape: config(
            axis=st.sampled_from([-1, *range(1, len(shape) + 1)]),
            center=st.booleans(),
            scale=st.booleans(),
        ),
        same,
    ),
    Kind("LayerNormalization", lambda shape: config(center=st.booleans()), same),
    Kind("Rescaling", lambda shape: config(scale=st.just(0.5)), same),
    Kind("RandomContrast", lambda shape: config(factor=st.just(0.1)), same, rank=3),
    Kind("Flatten", fixed, flat),
    Kind("RepeatVector", lambda s: config(n=SIZES), lambda s, c: (c["n"], *s), rank=1),
    Kind("Permute", lambda s: st.just({"dims": [2, 1]}), lambda s, c: s[::-1], rank=2),
    Kind("LSTM", recurrent_config, recurrent, rank=2),
    Kind("GRU", recurrent_config, recurrent, rank=2),
    Kind("SimpleRNN", recurrent_config, recurrent, rank=2),
    Kind(
        "Conv1D",
        lambda shape: config(
            filters=SIZES,
            kernel_size=kernels(shape),
            padding=st.sampled_from(["same", "valid", "causal"]),
            activation=ACTIVATIONS,
        ),
        lambda shape, given: convolved(
            shape, {**given, "padding": given["padding"].replace("causal", "same")}
        ),
        rank=2,
    ),
    Kind(
        "SeparableConv1D",
        lambda shape: config(
            filters=SIZES, kernel_size=kernels(shape), padding=PADDING
        ),
        convolved,
        rank=2,
    ),
    Kind(
        "ZeroPadding1D",
        lambda shape: config(padding=st.tuples(st.just(1), st.integers(0, 2))),
        lambda shape, given: (shape[0] + sum(given["padding"]), shape[1]),
        rank=2,
    ),
    Kind(
        "UpSampling1D",
        lambda shape: config(size=st.integers(1, 3)),
        lambda shape, given: (shape[0] * given["size"], shape[1]),
        rank=2,
    ),
    Kind("GlobalAveragePooling1D", fixed, lambda s, c: s[-1:], rank=2),
    Kind("GlobalMaxPooling1D", fixed, lambda s, c: s[-1:], rank=2),
    Kind(
        "Conv2D",
        lambda shape: config(
            filters=SIZES,
            kernel_size=kernels(shape),
            padding=PADDING,
            activation=ACTIVATIONS,
        ),
        convolved,
        rank=3,
    ),
    Kind(
        "DepthwiseConv2D",
        lambda shape: config(kernel_size=kernels(shape), padding=PADDING),
        convolved,
        rank=3,
    ),
    Kind(
        "UpSampling2D",
        lambda shape: config(
            size=st.integers(1, 2),
            interpolation=st.sampled_from(["bilinear", "nearest"]),
        ),
        lambda s, c: (s[0] * c["size"], s[1] * c["size"], s[2]),
        rank=3,
    ),
    Kind("GlobalAveragePooling2D", fixed, lambda s, c: s[-1:], rank=3),
    Kind(
        "GlobalMaxPooling2D",
        lambda shape: st.just({"keepdims": True}),
        lambda s, c: (1, 1, s[-1]),
        rank=3,
    ),
]

MERGES = ["Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"]
UNARY_CODE = ["1 - x", "-x", "x / 2 + 1", "x * 0.5", "ops.relu(x)", "ops.tanh(x) ** 2"]
BINARY_CODE = ["x + y", "x - y", "x * 0.5 * y", "ops.maximum(x, y)"]


@dataclass
class Building:
    """A description on its way, and the shapes of its tensors."""

    draw: Draw
    shapes: list[Shape]
    nodes: list[Description] = field(default_factory=list)

    def index(self) -> int:
        return int(self.draw(st.integers(0, len(self.shapes) - 1)))

    def add(self, node: Description, shapes: list[Shape]) -> None:
        self.nodes.append(node)
        self.shapes += shapes

    def layer(self) -> None:
        index = self.index()
        shape = self.shapes[index]
        kinds = [kind for kind in KINDS_OF_LAYERS if kind.rank in (None, len(shape))]
        kind = self.draw(st.sampled_from(kinds))
        assert kind.configs is not None
        given = self.draw(kind.configs(shape))
        node = {"layer": kind.layer, "config": given, "of": [index]}
        self.add(node, [kind.shape(shape, given)])

    def merge(self) -> None:
        index = self.index()
        alike = [i for i, one in enumerate(self.shapes) if one == self.shapes[index]]
        other = self.draw(st.sampled_from(alike))
        layer = self.draw(st.sampled_from([*MERGES, "Concatenate"]))
        shape = self.shapes[index]
        if layer == "Concatenate":
            shape = (*shape[:-1], 2 * shape[-1])
        self.add({"layer": layer, "config": {}, "of": [index, other]}, [shape])

    def code(self) -> None:
        index = self.index()
        alike = [i for i, one in enumerate(self.shapes) if one == self.shapes[index]]
        binary = self.draw(st.booleans())
        code = self.draw(st.sampled_from(BINARY_CODE if binary else UNARY_CODE))
        of = [index, self.draw(st.sampled_from(alike))] if binary else [index]
        self.add({"code": code, "of": of}, [self.shapes[index]])

    def again(self) -> None:
        """Another call of what was called before, on a tensor of the same shape."""
        called = [
            (i, [self.shapes[of] for of in node["of"]])
            for i, node in enumerate(self.nodes)
            if ("layer" in node or "model" in node) and len(node["of"]) == 1
        ]
        if not called:
            return self.layer()
        node, (shape,) = self.draw(st.sampled_from(called))
        alike = [i for i, one in enumerate(self.shapes) if one == shape]
        index = self.draw(st.sampled_from(alike))
        first = self.first_tensor(node)
        return self.add({"again": node, "of": [index]}, [self.shapes[first]])

    def first_tensor(self, node: int) -> int:
        inputs = len(self.shapes) - len(self.nodes)
        return inputs + node

    def reached(self, outputs: list[int]) -> set[int]:
        """The tensors that these are computed of, and they themselves."""
        inputs = len(self.shapes) - len(self.nodes)
        found: set[int] = set()
        left = list(outputs)
        while left:
            index = left.pop()
            found.add(index)
            if index >= inputs:
                left += self.nodes[index - inputs]["of"]
        return found

    def nested(self, depth: int) -> None:
        index = self.index()
        inner = self.draw(descriptions([self.shapes[index]], depth + 1))
        self.add({"model": inner[0], "of": [index]}, inner[1])


@st.composite
def descriptions(
    draw: Draw, inputs: list[Shape] | None = None, depth: int = 0
) -> tuple[Description, list[Shape]]:
    """A model, as zoo/graphs.py takes it, and the shapes of its outputs."""
    if inputs is None:
        inputs = draw(st.lists(st.sampled_from(INPUTS), min_size=1, max_size=2))
    building = Building(draw, list(inputs))
    steps: list[Callable[[], None]] = [
        building.layer,
        building.layer,
        building.merge,
        building.code,
        building.again,
    ]
    if depth < 2:
        steps.append(lambda: building.nested(depth))
    for _ in range(draw(st.integers(1, 7 if depth == 0 else 3))):
        draw(st.sampled_from(steps))()
    # A nested model has one output: its description then says what comes of a call.
    most = 3 if depth == 0 else 1
    new = st.integers(len(inputs), len(building.shapes) - 1)
    outputs = draw(st.lists(new, min_size=1, max_size=most, unique=True))
    # A model in which an input leads nowhere is another matter.
    for index in sorted(set(range(len(inputs))) - building.reached(outputs)):
        node = {"layer": "Activation", "config": {"activation": "tanh"}, "of": [index]}
        building.add(node, [building.shapes[index]])
        outputs.append(len(building.shapes) - 1)
    described = {
        "inputs": inputs,
        "nodes": building.nodes,
        "outputs": outputs,
    }
    return described, [building.shapes[index] for index in outputs]


INPUTS: list[Shape] = [(3,), (4,), (5, 3), (4, 4, 2)]


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keras]:
    with start_keras(tmp_path_factory.mktemp("keras")) as keras:
        yield keras


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    with start_clients(tmp_path_factory.mktemp("generated")) as clients:
        yield clients


@pytest.fixture(scope="module", autouse=True)
def hasty() -> Iterator[None]:
    """Thousands of files, none of which has to outlive a power cut."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "fsync", lambda file: None)
        yield


COUNTER = itertools.count()


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(generated=descriptions())
def test_generated_models(
    keras: Keras, clients: Clients, generated: tuple[Description, list[Shape]]
) -> None:
    description, shapes = generated
    name = f"model-{next(COUNTER)}"
    example = keras.make(name, {"graph": description}, clients.directory)
    assert [one.shape[1:] for one in example.outputs] == shapes
    done = {
        kind: to_tfjs(
            str(example.file(kind)), str(clients.directory / f"{name}-{kind}")
        )
        for kind in KINDS
    }
    script = done["keras"].needs_script
    apart = clients.difference(f"{name}-keras", example, script=script)
    assert apart <= TOLERANCE
    directories = [clients.directory / f"{name}-{kind}" for kind in KINDS]
    if not same_files(*directories):
        apart = clients.difference(f"{name}-h5", example, script=script)
        assert apart <= TOLERANCE
