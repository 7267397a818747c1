"""What a rewriting rule sees of a layer, and how it says what takes its place."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from ..errors import InvalidModel
from .graph import Call
from .graph import Layer
from .graph import Shape
from .graph import Tensor
from .masks import Mask
from .weights import Weight


@dataclass(frozen=True, slots=True)
class Options:
    """What a person asks of a conversion.

    :ivar custom: classes that the page registers itself.
    :ivar fold_frozen_bn: write a BatchNormalization that is not trained as Rescaling.
    :ivar stock_layers: refuse what needs the script of layers.
    :ivar name: of the model, in place of its own.
    """

    custom: frozenset[str] = frozenset()
    fold_frozen_bn: bool = False
    stock_layers: bool = False
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor within a rewriting: an input of the rewritten layer (``step`` is
    ``None``), what a new layer returns, or a tensor from elsewhere in the graph."""

    step: int | None
    index: int = 0
    outer: Tensor | None = None


@dataclass(slots=True)
class Step:
    """A new layer and what it is called with; ``None``: with all that the rewritten
    layer is called with."""

    layer: Layer
    inputs: list[Port] | None


#: What takes the place of a layer's outputs: a port (whose index is handed through), or
#: one for each output. The layer's own input leaves the layer out.
Outcome = Port | list[Port]


@dataclass(slots=True)
class Rewrite:
    """One layer on its way.

    :ivar layer: as Keras has it; a rule changes none of it.
    :ivar config: its config, as TensorFlow.js spells what both have.
    :ivar shapes: those of the tensors it is called with first.
    :ivar output_shapes: those of what it returns then.
    :ivar masks: of the same tensors as *shapes*.
    :ivar version: of the Keras that wrote the model.
    :ivar mask_values: masks that were computed already, as numbers.
    :ivar moved: what stands for the first input, where it was moved to suit the rule.
    """

    layer: Layer
    config: dict[str, Any]
    options: Options
    shapes: Sequence[Shape | None]
    output_shapes: Sequence[Shape | None] = ()
    masks: Sequence[Mask | None] = ()
    version: tuple[int, ...] = (3,)
    moved: Port | None = None
    mask_values: dict[Mask, Port] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def keras(self) -> int:
        """The major version, whose meaning of names holds."""
        return self.version[0]

    @property
    def call(self) -> Call:
        """The first use of the layer; the only one of an operation."""
        return self.layer.calls[0] if self.layer.calls else Call()

    @property
    def weights(self) -> Mapping[str, Weight]:
        return self.layer.weights

    @property
    def shape(self) -> Shape:
        """The shape of the first input.

        :raises InvalidModel: it is not known.
        """
        shape = self.shapes[0] if self.shapes else None
        if shape is None:
            raise self.refusal(
                "the shape of its input is not known, and it must be for this layer; "
                "give the model an Input with all sizes"
            )
        return shape

    def input(self, index: int = 0) -> Port:
        """The tensor *index* that the layer is called with."""
        if self.moved is not None and index == 0:
            return self.moved
        return Port(None, index)

    @property
    def inputs(self) -> list[Port]:
        """All tensors that the layer is called with."""
        return [self.input(index) for index in range(len(self.call.inputs) or 1)]

    def add(
        self,
        class_name: str,
        inputs: Port | Sequence[Port] | None,
        config: Mapping[str, Any] | None = None,
        weights: Mapping[str, Weight] | None = None,
        *,
        suffix: str = "",
    ) -> Port:
        """Add a new layer.

        :param inputs: ``None``: all that the rewritten layer is called with.
        :param suffix: put behind the layer's name; one new layer goes without.
        """
        name = f"{self.layer.name}_{suffix}" if suffix else self.layer.name
        config = {"name": name, "trainable": self.trainable, **(config or {})}
        config["name"] = name
        ports = [inputs] if isinstance(inputs, Port) else inputs
        if ports is None and self.moved is not None:
            ports = self.inputs
        new = Layer(class_name, name, config, weights=dict(weights or {}))
        self.steps.append(Step(new, list(ports) if ports is not None else None))
        return Port(len(self.steps) - 1)

    def step(self, suffix: str) -> Port:
        """What the new layer of that suffix returns."""
        name = f"{self.layer.name}_{suffix}"
        names = [step.layer.name for step in self.steps]
        return Port(names.index(name))

    def keep(self, **changes: Any) -> Port:
        """The layer itself, with *changes* in its config."""
        return self.add(
            self.layer.class_name, None, {**self.config, **changes}, self.weights
        )

    @property
    def trainable(self) -> bool:
        return self.layer.config.get("trainable") is not False

    def script_layer(
        self,
        class_name: str,
        inputs: Port | Sequence[Port] | None,
        config: Mapping[str, Any] | None = None,
        weights: Mapping[str, Weight] | None = None,
        *,
        suffix: str = "",
        instead: str = "leave out --stock-layers",
    ) -> Port:
        """Add a layer of the script.

        :param instead: what to do where only stock layers are wanted.
        :raises InvalidModel: only stock layers are wanted.
        """
        if self.options.stock_layers:
            raise self.refusal(
                f"{self.what} has no equal among the layers of TensorFlow.js; {instead}"
            )
        return self.add(class_name, inputs, config, weights, suffix=suffix)

    def operation(
        self,
        operation: str,
        inputs: Port | Sequence[Port],
        *,
        suffix: str = "",
        constants: Sequence[Any] | None = None,
        masking: bool = False,
        **options: Any,
    ) -> Port:
        """Add a ``KerasOperation``, a layer of the script.

        :param constants: one for each argument, ``None`` where a tensor goes.
        :param masking: whether it hands on the mask of its input.
        """
        config: dict[str, Any] = {"operation": operation, "options": options}
        if constants is not None:
            config["constants"] = list(constants)
        if masking:
            config["masking"] = True
        return self.script_layer("KerasOperation", inputs, config, suffix=suffix)

    def note(self, message: str) -> None:
        """Tell the person who converts."""
        self.notices.append(f"{self.layer.name}: {message}")

    @property
    def what(self) -> str:
        """What the layer is, for a sentence."""
        kind = "the operation " if self.layer.is_operation else ""
        return f"{kind}{self.layer.class_name}"

    def refusal(self, reason: str) -> InvalidModel:
        """The error that refuses the layer."""
        return InvalidModel(reason, self.layer.name)


Rule = Callable[[Rewrite], Outcome]
