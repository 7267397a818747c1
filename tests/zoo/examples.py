"""Examples of what a model computes: weights that matter, inputs, its predictions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from .models import WORDS

Array = npt.NDArray[Any]

#: What stands in for a size that a model leaves open.
OPEN_SIZE = 8

#: Weights that are counted or measured, not learned.
_MEASURED = frozenset(
    {"count", "mean", "moving_mean", "moving_variance", "seed_generator_state"}
    | {"variance"}
)


def draw(model: Any, generator: np.random.Generator, samples: int) -> list[Array]:
    """Inputs of *model*, in its order."""
    return [_draw_input(one, generator, samples) for one in model.inputs]


def _draw_input(tensor: Any, generator: np.random.Generator, samples: int) -> Array:
    shape = (samples, *(OPEN_SIZE if n is None else n for n in tensor.shape[1:]))
    if tensor.dtype == "bool":
        filled = _filled(shape, generator)
        return filled if len(shape) < 3 else filled | (np.eye(shape[-1]) > 0)
    if "int" in tensor.dtype:
        words = generator.integers(1, WORDS, shape) * _filled(shape, generator)
        return words.astype(tensor.dtype)
    if tensor.name.startswith("pixels"):
        return generator.integers(0, 256, shape).astype("float32")
    return generator.normal(scale=1.5, size=shape).astype("float32")


def _filled(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Where along the last axis there is something: from its start, but not always to
    its end, as in texts that were filled up."""
    ends = generator.integers(1, shape[-1] + 1, shape[:-1])
    return np.asarray(np.arange(shape[-1]) < ends[..., None])


def predict(model: Any, inputs: list[Array]) -> list[Array]:
    """What Keras makes of *inputs*, both in the order of the model."""
    given = inputs[0] if len(inputs) == 1 else inputs
    if not isinstance(model, keras.Sequential) and isinstance(model.input, dict):
        given = keras.tree.pack_sequence_as(model.input, inputs)
    outputs = keras.tree.flatten(model(given, training=False))
    arrays = [keras.ops.convert_to_numpy(one) for one in outputs]
    # NumPy itself has no bfloat16.
    return [one.astype("f4") if one.dtype.kind == "V" else one for one in arrays]


def fill(model: Any, generator: np.random.Generator) -> None:
    """Give *model* weights that all have a say in what it returns."""
    for variable in model.weights:
        name = variable.name.rpartition("/")[2]
        value = keras.ops.convert_to_numpy(variable)
        if name in _MEASURED or not variable.dtype.startswith(("float", "bfloat")):
            continue
        if name == "embeddings" or value.size == 1 or np.ptp(value) == 0:
            noise = generator.normal(scale=0.3, size=value.shape)
            scale = 3 if name == "embeddings" else 1
            variable.assign((value + scale * noise).astype(value.dtype))
    with _measuring():
        predict(model, draw(model, generator, samples=32))


@contextlib.contextmanager
def _measuring() -> Iterator[None]:
    """While it lasts, batch normalization takes for its averages those of what comes,
    also where it is frozen. With averages that fit nothing, what a deep model returns
    hardly depends on its weights."""
    layer = keras.layers.BatchNormalization
    original = layer.call

    def call(self: Any, inputs: Any, **options: Any) -> Any:
        values = keras.ops.convert_to_numpy(inputs).astype("float32")
        axes = tuple(i for i in range(values.ndim) if i != self.axis % values.ndim)
        self.moving_mean.assign(values.mean(axes))
        # More than there is: a deep model of random weights would enlarge what is
        # rounded from layer to layer, other than one that was trained.
        self.moving_variance.assign(4 * values.var(axes) + 1e-3)
        return original(self, inputs, **{**options, "training": False})

    layer.call = call
    try:
        yield
    finally:
        layer.call = original


def depends(outputs: list[Array]) -> bool:
    """Whether all *outputs* differ from sample to sample, and are numbers."""
    return all(
        np.isfinite(one.astype("float32")).all()
        and np.ptp(one.astype("float32"), axis=0).max() > 1e-3
        for one in outputs
    )
