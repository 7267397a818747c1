"""A Keras model as data: layers, the calls that connect them, and their weights.

All dialects (Keras 2, Keras 3, TensorFlow.js) are read into this one form, which counts
as Keras 3 does: the calls of a nested model from outside start at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from .weights import Weight

#: Sizes of the axes of a tensor, the batch first; ``None``: left open.
Shape = tuple[int | None, ...]

# Axes of a tensor, and the largest size of one: what NumPy and JavaScript can count.
_MAX_AXES, _MAX_SIZE = 32, 2**53

#: Classes of models, which have layers and not weights of their own.
MODELS = frozenset({"Functional", "Sequential"})


def to_shape(sizes: Any) -> Shape:
    """A shape as a file tells it.

    :raises ValueError: it is none.
    """
    if not isinstance(sizes, (list, tuple)) or len(sizes) > _MAX_AXES:
        raise ValueError("a shape is not a list of sizes")
    for size in sizes:
        if size is not None and not (type(size) is int and 0 <= size < _MAX_SIZE):
            raise ValueError("a shape has something else than sizes")
    return tuple(sizes)


@dataclass(frozen=True, slots=True)
class Tensor:
    """What one call of a layer returns.

    :ivar call: the index of the call among those of the layer.
    :ivar index: the index of the tensor among those that the call returns.
    """

    layer: str
    call: int = 0
    index: int = 0


@dataclass(slots=True)
class Call:
    """One use of a layer.

    :ivar args: tensors in the order in which the layer takes them, lists flattened;
        for an operation constants too.
    :ivar kwargs: arguments by name: tensors (a mask) or constants.
    """

    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors among the positional arguments."""
        return [value for value in self.args if isinstance(value, Tensor)]

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        named = [v for v in self.kwargs.values() if isinstance(v, Tensor)]
        return self.inputs + named

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Call:
        """The same call of other tensors."""

        def swap(value: Any) -> Any:
            return change(value) if isinstance(value, Tensor) else value

        return Call(
            [swap(value) for value in self.args],
            {name: swap(value) for name, value in self.kwargs.items()},
        )


@dataclass(slots=True)
class Layer:
    """A layer, a nested model, or an operation on tensors.

    :ivar class_name: without the package that registered it.
    :ivar config: the members of its ``config``, as the file has them.
    :ivar weights: by slot: ``kernel``, ``forward/kernel``, …
    :ivar model: the layers of a nested model.
    :ivar repeated: the model that a TimeDistributed applies to each step.
    :ivar is_operation: a function of ``keras.ops`` or of TensorFlow, no layer.
    """

    class_name: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    weights: dict[str, Weight] = field(default_factory=dict)
    model: Graph | None = None
    repeated: Graph | None = None
    is_operation: bool = False


@dataclass(slots=True)
class Graph:
    """A model.

    :ivar sequential: a chain, each layer called once with what the one before returns.
    :ivar version: of the Keras that wrote it; (2,) for TensorFlow.js.
    :ivar shapes: of tensors, where the file tells.
    """

    name: str
    layers: list[Layer]
    inputs: list[Tensor]
    outputs: list[Tensor]
    sequential: bool = False
    version: tuple[int, ...] = (3,)
    shapes: dict[Tensor, Shape] = field(default_factory=dict)

    def by_name(self) -> Mapping[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    def walk(self) -> Iterator[Layer]:
        """Its layers, and after each nested model those in it."""
        for layer in self.layers:
            yield layer
            if layer.model is not None:
                yield from layer.model.walk()

    def in_order(self) -> Iterator[tuple[Layer, int, Call]]:
        """Every call, with its layer and index, after those whose tensors it takes.
        Calls that wait for each other are left out."""
        layers = self.by_name()
        waiting: dict[tuple[str, int], int] = {}
        followers: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for layer in self.layers:
            for index, call in enumerate(layer.calls):
                before = {
                    (t.layer, t.call) for t in call.inputs if layers[t.layer].calls
                }
                waiting[layer.name, index] = len(before)
                for place in before:
                    followers.setdefault(place, []).append((layer.name, index))
        ready = [place for place, count in waiting.items() if not count][::-1]
        while ready:
            name, index = ready.pop()
            layer = layers[name]
            yield layer, index, layer.calls[index]
            for place in followers.get((name, index), []):
                waiting[place] -= 1
                if not waiting[place]:
                    ready.append(place)

    def map_tensors(self, change: Callable[[Tensor], Tensor]) -> None:
        """Let every call and every output mean another tensor."""
        for layer in self.layers:
            layer.calls = [call.mapped(change) for call in layer.calls]
        self.outputs = [change(tensor) for tensor in self.outputs]
