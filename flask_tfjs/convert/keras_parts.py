"""Where the weights of a layer are: TensorFlow.js and both versions of Keras name those
of a wrapped layer, and of a recurrent layer's cell, each in a way of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ..keras.graph import Layer
from ..keras.graph import Shape
from ..keras.reading import snake_case
from ..keras.shapes import inner_layer
from ..keras.slots import Config
from ..keras.slots import Slots
from ..keras.slots import slots_of

#: Layers that may be given the states that they start with, after their input.
STATEFUL = frozenset({"Bidirectional", "ConvLSTM2D", "GRU", "LSTM", "RNN", "SimpleRNN"})


@dataclass(frozen=True, slots=True)
class Part:
    """A layer that has weights itself: one of a model, or one within a wrapper.

    :ivar inputs: the shapes that it is called with.
    :ivar key: what :attr:`Layer.weights` has before the slot: ``forward/`` or nothing.
    :ivar tfjs: what TensorFlow.js has before it: ``bidirectional/forward_lstm/``.
    :ivar keras_2: what Keras 2 has: ``bidirectional/forward_lstm/lstm_cell/``.
    :ivar keras_3: the group of a ``.keras`` file below that of the layer:
        ``forward_layer/cell/``.
    """

    class_name: str
    config: Config
    inputs: Sequence[Shape | None]
    key: str
    tfjs: str
    keras_2: str
    keras_3: str

    @property
    def slots(self) -> Slots:
        """Its weights in the order in which Keras stores them.

        :raises KeyError: its class is not known, or a member of its config is missing.
        """
        # A cell has the weights of the layer that is made of it.
        class_name = self.class_name.removesuffix("Cell")
        slots = slots_of(class_name, self.config, self.inputs)
        if slots is None:
            raise KeyError(self.class_name)
        return slots


def parts_of(layer: Layer, inputs: Sequence[Shape | None] = ()) -> Iterator[Part]:
    """The parts of a layer, in the order in which Keras stores their weights.

    :param inputs: the shapes that the layer is called with.
    """
    path = f"{layer.name}/"
    yield from _parts(Part(layer.class_name, layer.config, inputs, "", path, path, ""))


def _parts(part: Part) -> Iterator[Part]:
    wrap = _WRAPPERS.get(part.class_name)
    if wrap is None:
        yield part
    else:
        for inner in wrap(part):
            yield from _parts(inner)


def _bidirectional(part: Part) -> Iterator[Part]:
    class_name, config = inner_layer(part.config)
    for direction in ("forward", "backward"):
        scope = f"{direction}_{config['name']}/"
        yield Part(
            class_name,
            config,
            part.inputs,
            f"{part.key}{direction}/",
            part.tfjs + scope,
            part.keras_2 + scope,
            f"{part.keras_3}{direction}_layer/",
        )


def _time_distributed(part: Part) -> Iterator[Part]:
    class_name, config = inner_layer(part.config)
    yield replace(
        part,
        class_name=class_name,
        config=config,
        inputs=[_one_step(shape) for shape in part.inputs[:1]],
        keras_3=f"{part.keras_3}layer/",
    )


def _one_step(shape: Shape | None) -> Shape | None:
    return None if shape is None else (*shape[:1], *shape[2:])


def _recurrent(part: Part) -> Iterator[Part]:
    """A layer that makes its cell itself."""
    # The cell of a ConvLSTM2D gives its weights no scope of its own in Keras 2.
    scope = f"{snake_case(part.class_name)}_cell/"
    yield replace(
        part,
        class_name=f"{part.class_name}Cell",
        keras_2=part.keras_2 + ("" if part.class_name == "ConvLSTM2D" else scope),
        keras_3=f"{part.keras_3}cell/",
    )


def _with_cell(part: Part) -> Iterator[Part]:
    """A layer that is given its cell."""
    class_name, config = inner_layer({"layer": part.config["cell"]})
    yield replace(
        part,
        class_name=class_name,
        config=config,
        keras_2=f"{part.keras_2}{config['name']}/",
        keras_3=f"{part.keras_3}cell/",
    )


def _stacked(part: Part) -> Iterator[Part]:
    """Cells of which each is called with what the one before returns."""
    inputs = part.inputs
    used: Counter[str] = Counter()
    for index, cell in enumerate(part.config["cells"]):
        class_name, config = inner_layer({"layer": cell})
        yield Part(
            class_name,
            config,
            inputs,
            f"{part.key}{index}/",
            f"{part.tfjs}RNNCell_{index}/",
            f"{part.keras_2}{config['name']}/",
            f"{part.keras_3}cells/{numbered(snake_case(class_name), used)}/",
        )
        inputs = [(None, int(config["units"]))]


def numbered(name: str, used: Counter[str]) -> str:
    """The name of an object among its like in a ``.keras`` file: ``dense``,
    ``dense_1``, … (keras ``src/saving/saving_lib.py``)."""
    number = used[name]
    used[name] += 1
    return f"{name}_{number}" if number else name


_WRAPPERS: Mapping[str, Callable[[Part], Iterator[Part]]] = MappingProxyType(
    {
        "Bidirectional": _bidirectional,
        "ConvLSTM2D": _recurrent,
        "GRU": _recurrent,
        "LSTM": _recurrent,
        "RNN": _with_cell,
        "SimpleRNN": _recurrent,
        "StackedRNNCells": _stacked,
        "TimeDistributed": _time_distributed,
    }
)


def trains(layer: Layer) -> bool:
    """Whether a layer's weights are trained, as far as its config tells."""
    return _trains(layer.config)


def _trains(config: Any) -> bool:
    inner = config.get("layer")
    return config.get("trainable") is not False and (
        inner is None or _trains(inner["config"])
    )
