"""From a graph of Keras to one of the layers that TensorFlow.js has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ..errors import InvalidModel
from . import masks
from . import rules
from . import shapes
from .configs import constraints
from .configs import stock_config
from .graph import Call
from .graph import Graph
from .graph import Layer
from .graph import Tensor
from .mask_use import MaskUse
from .mask_use import give_mask
from .mask_use import is_recurrent
from .mask_use import lost_masks
from .mask_use import mask_faults
from .mask_use import mask_use
from .mask_use import own_masks
from .mask_use import stop_stale_mask
from .mask_use import zeroes
from .masks import Masks
from .reading import brief
from .rewrite import Options as Options
from .rewrite import Outcome
from .rewrite import Port
from .rewrite import Rewrite
from .rules import operations
from .rules import recurrent
from .rules import space
from .shapes import Shapes

_DTYPES = MappingProxyType({"bool": "bool", "string": "string"})


class UnsupportedLayers(InvalidModel):
    """Layers that have no equal in TensorFlow.js.

    :ivar faults: one for each.
    """

    def __init__(self, faults: Sequence[InvalidModel]) -> None:
        self.faults = tuple(faults)
        first = faults[0]
        more = "".join(f"\n{fault}" for fault in faults[1:])
        super().__init__(first.message, first.where)
        self._more = more

    def __str__(self) -> str:
        return super().__str__() + self._more


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A model that TensorFlow.js has the layers for.

    :ivar notices: what the person who converts should know.
    """

    graph: Graph
    notices: tuple[str, ...]


def rewrite(
    graph: Graph,
    options: Options = Options(),  # noqa: B008 - frozen
) -> Rewritten:
    """Rewrite *graph*, which stays as it is.

    :raises UnsupportedLayers: layers of it have no equal.
    """
    try:
        return _rewrite(graph, options)
    except _UNFORESEEN as error:
        raise InvalidModel(
            f"its configuration is not what Keras writes ({brief(error)}); save it "
            "again",
            graph.name,
        ) from None


# What rules raise where a config is not what Keras writes.
_UNFORESEEN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def _rewrite(graph: Graph, options: Options) -> Rewritten:
    rewriting = _Rewriting(options, graph)
    done = rewriting.graph(graph)
    if rewriting.mask_faults and not rewriting.faults and not options.stock_layers:
        rewriting = _Rewriting(options, graph, explicit_masks=True)
        done = rewriting.graph(graph)
    faults = rewriting.faults + rewriting.mask_faults
    if faults:
        raise UnsupportedLayers(faults)
    if options.name is not None:
        done.name = options.name
    return Rewritten(done, tuple(rewriting.notices))


@dataclass(slots=True)
class _Replaced:
    """A layer's new layers, under their final names."""

    calls: list[Call]
    outcome: Outcome
    layers: list[Layer]


class _Rewriting:
    """One pass over a model.

    :ivar explicit_masks: masks are computed beside the model and given to the layers
        that use them, since TensorFlow.js does not hand them on as Keras does.
    :ivar mask_faults: the faults that explicit masks may mend.
    """

    def __init__(
        self, options: Options, model: Graph, *, explicit_masks: bool = False
    ) -> None:
        self.options = options
        self.explicit_masks = explicit_masks
        self.mask_faults: list[InvalidModel] = []
        self._version = model.version
        self._stateful = any(layer.config.get("stateful") for layer in model.walk())
        # A mask that one model makes is still there in those in and around it.
        self._makes_masks = any(mask_use(graph).needed for graph in _graphs(model))
        self.faults: list[InvalidModel] = []
        self.notices: list[str] = []
        self._names: set[str] = set()

    def graph(self, whole: Graph, *, nested: bool = False) -> Graph:
        graph = pruned(whole)
        use = mask_use(graph)
        self.faults += own_masks(whole, graph, use.flow)
        if nested:
            self._refuse_inner_masks(graph, use.flow)
        inferred = shapes.infer(graph)
        replaced: dict[str, _Replaced] = {}
        for layer in graph.layers:
            done, outcome = self._replace(layer, inferred, use)
            replaced[layer.name] = self._named(layer, done, outcome)
        resolver = _Resolver(replaced)
        for layer in graph.layers:
            resolver.connect(replaced[layer.name])
        result = Graph(
            graph.name,
            [new for one in replaced.values() for new in one.layers],
            [resolver.resolve(tensor) for tensor in graph.inputs],
            [resolver.resolve(tensor) for tensor in graph.outputs],
            version=graph.version,
        )
        self._part_twins(result)
        _fill_reshapes(result)
        result.sequential = graph.sequential and _is_chain(result)
        if not self.faults:
            self.mask_faults += mask_faults(result)
            if not self.explicit_masks:
                self.mask_faults += lost_masks(
                    graph, use.flow, result, resolver.resolve
                )
        return result

    def _part_twins(self, graph: Graph) -> None:
        """TensorFlow.js fails where a layer is called with one tensor twice, or two
        outputs are one: it lets go of the tensor after the first (tfjs-layers
        ``src/engine/executor.ts``)."""
        copies: list[Layer] = []

        def parted(tensors: Sequence[Tensor], name: str) -> list[Tensor]:
            seen: set[Tensor] = set()
            apart = []
            for tensor in tensors:
                if tensor in seen:
                    config = {"name": self._unique(name), "activation": "linear"}
                    copy = Layer("Activation", config["name"], config)
                    copy.calls = [Call([tensor])]
                    copies.append(copy)
                    tensor = Tensor(copy.name)
                seen.add(tensor)
                apart.append(tensor)
            return apart

        for layer in graph.layers:
            for call in layer.calls:
                call.args = parted(call.inputs, f"{layer.name}_copy")
        graph.outputs = parted(graph.outputs, "output_copy")
        graph.layers += copies

    def _replace(
        self, layer: Layer, inferred: Shapes, use: MaskUse
    ) -> tuple[Rewrite, Outcome]:
        call = layer.calls[0] if layer.calls else Call()
        done = Rewrite(
            layer,
            stock_config(layer.config),
            self.options,
            [inferred.get(tensor) for tensor in call.inputs],
            _output_shapes(layer, inferred),
            [use.flow.get(tensor) for tensor in call.inputs],
            self._version,
        )
        try:
            _refuse_arguments(done)
            outcome = self._outcome(done, use)
        except InvalidModel as fault:
            self.faults.append(fault)
            outcome = done.keep()
        except _UNFORESEEN as error:
            self.faults.append(
                done.refusal(f"has a config that is not understood ({brief(error)})")
            )
            outcome = done.keep()
        self.notices += done.notices
        self.notices += [
            f"{layer.name}: its {key} is left out; TensorFlow.js would apply it to the "
            "weights that it loads"
            for key in constraints(layer.config)
        ]
        return done, outcome

    def _outcome(self, done: Rewrite, use: MaskUse) -> Outcome:
        layer = done.layer
        if layer.class_name == "InputLayer":
            return done.add("InputLayer", None, self._input_config(layer))
        if layer.model is not None:
            return self._nested(done)
        if layer.is_operation:
            return operations.operation(done)
        if layer.class_name in self.options.custom:
            return _custom(done)
        if is_recurrent(layer):
            return self._recurrent(done, use)
        if layer.repeated is not None:
            return self._repeated(done, layer.repeated)
        if layer.class_name == "TimeDistributed":
            return recurrent.time_distributed(done, self._inner)
        if masks.makes(layer):
            return self._mask_maker(done, use.needed)
        return rules.apply(done)

    def _recurrent(self, done: Rewrite, use: MaskUse) -> Outcome:
        layer, mask = done.layer, done.masks[0] if done.masks else None
        if mask is None and self._makes_masks:
            stop_stale_mask(done)
        elif mask is not None and self.explicit_masks:
            give_mask(done, mask)
        if layer.class_name == "Bidirectional":
            outcome: Outcome = recurrent.bidirectional(done, self._inner)
        else:
            outcome = rules.apply(done)
        if mask is None or not isinstance(outcome, Port):
            return outcome
        if zeroes(layer) and layer.name in use.exposed:
            outcome = self._zeroed(done, outcome)
        if self.explicit_masks and len(done.output_shapes) == 1:
            # Each layer that uses a mask is given it; what else TensorFlow.js would
            # make of this one is of no use.
            outcome = done.operation("identity", outcome, suffix="without_mask")
        return outcome

    def _zeroed(self, done: Rewrite, outcome: Port) -> Port:
        """Zeros in the steps that do not count, as Keras makes them; TensorFlow.js
        repeats the step before."""
        if len(done.output_shapes) > 1:
            raise done.refusal(
                "returns its states, and zeros for the steps that do not count, which "
                "TensorFlow.js cannot; use mask_zero=False"
            )
        return done.script_layer(
            "KerasZeroMasked",
            outcome,
            suffix="zeroed",
            instead="use return_sequences=False or mask_zero=False",
        )

    def _mask_maker(self, done: Rewrite, needed: frozenset[str]) -> Outcome:
        makes_it_there = done.layer.name in needed and not self.explicit_masks
        if done.layer.class_name == "Embedding":
            return done.keep(mask_zero=makes_it_there)
        if makes_it_there or self.options.stock_layers:
            return done.keep()
        return space.masked(done)

    def _input_config(self, layer: Layer) -> dict[str, Any]:
        shape = shapes.input_shape(layer.config)
        if shape is None:
            raise InvalidModel("has no shape; save the model again", layer.name)
        if len(shape) < 2:
            raise InvalidModel(
                "is one number for each sample, for which TensorFlow.js makes another "
                "axis; give the Input the shape (1,)",
                layer.name,
            )
        # Keras takes other batches than the one it was built with; tfjs does not. Only
        # who keeps a state from one batch to the next needs them equal.
        batch = shape[0] if self._stateful else None
        return {
            "batch_input_shape": [batch, *shape[1:]],
            "dtype": _input_dtype(layer.config),
            "sparse": False,
        }

    def _inner(self, layer: Layer, inputs: Sequence[Any]) -> Rewrite:
        """The layer in a wrapper, rewritten.

        :param inputs: the shapes that it is called with.
        """
        done = Rewrite(
            layer,
            stock_config(layer.config),
            self.options,
            inputs,
            version=self._version,
        )
        if layer.class_name in self.options.custom:
            _custom(done)
        else:
            rules.apply(done)
        self.notices += done.notices
        return done

    def _repeated(self, done: Rewrite, model: Graph) -> Outcome:
        """A model on each step: its layers one by one, where they are a chain."""
        inner = self.graph(model, nested=True)
        layers = [layer for layer in inner.layers if layer.class_name != "InputLayer"]
        if not _is_chain(inner) or any(layer.model is not None for layer in layers):
            raise done.refusal(
                "repeats a model that is no chain of layers, which TensorFlow.js "
                "cannot; repeat its layers one by one"
            )
        x = done.input()
        for layer in layers:
            config = {"layer": {"class_name": layer.class_name, "config": layer.config}}
            x = done.add("TimeDistributed", x, config, layer.weights, suffix=layer.name)
        return x

    def _nested(self, done: Rewrite) -> Outcome:
        assert done.layer.model is not None
        model = self.graph(done.layer.model, nested=True)
        if all(layer.class_name == "InputLayer" for layer in model.layers):
            inputs = [model.inputs.index(tensor) for tensor in model.outputs]
            ports = [done.input(index) for index in inputs]
            return ports[0] if len(ports) == 1 else ports
        class_name = "Sequential" if model.sequential else "Functional"
        outcome = done.add(class_name, None)
        done.steps[-1].layer.model = model
        return outcome

    def _refuse_inner_masks(self, graph: Graph, flow: Masks) -> None:
        """TensorFlow.js hands no mask into or out of a nested model."""
        for tensor in graph.outputs:
            if tensor in flow:
                self.faults.append(
                    InvalidModel(
                        f"hands on a mask made by {flow[tensor].maker!r}, which "
                        "TensorFlow.js does not take out of a nested model; use "
                        "mask_zero=False, or layers in place of the nested model",
                        graph.name,
                    )
                )

    def _named(self, layer: Layer, done: Rewrite, outcome: Outcome) -> _Replaced:
        for step in done.steps:
            before = step.layer.name
            step.layer.name = self._unique(before)
            if "name" in step.layer.config:
                step.layer.config["name"] = step.layer.name
            if step.layer.name != before and before == layer.name:
                self.notices.append(
                    f"{layer.name}: is named {step.layer.name!r}, since TensorFlow.js "
                    "needs names of its own for all layers, nested ones too"
                )
            step.layer.calls = [
                Call(list(step.inputs) if step.inputs is not None else [...])
                for _ in layer.calls
            ]
        return _Replaced(layer.calls, outcome, [step.layer for step in done.steps])

    def _unique(self, name: str) -> str:
        """A name that no other layer has, and that tfjs takes for a tensor's."""
        plain = re.sub(r"[^-A-Za-z0-9._]", "_", name)
        if not re.match("[A-Za-z0-9]", plain):
            plain = f"l{plain}"
        unique, count = plain, 1
        while unique in self._names:
            unique, count = f"{plain}_{count}", count + 1
        self._names.add(unique)
        return unique


class _Resolver:
    """Finds the tensor that stands for one of the old graph."""

    def __init__(self, replaced: Mapping[str, _Replaced]) -> None:
        self._replaced = replaced

    def resolve(self, tensor: Tensor) -> Tensor:
        index = 0
        while True:
            one = self._replaced[tensor.layer]
            if isinstance(one.outcome, list):
                port = one.outcome[tensor.index]
            else:
                port, index = one.outcome, index + tensor.index
            if port.step is not None:
                name = one.layers[port.step].name
                return Tensor(name, tensor.call, port.index + index)
            # The layer was left out, or its output is another's.
            before = one.calls[tensor.call].inputs
            tensor = port.outer or before[port.index]

    def connect(self, one: _Replaced) -> None:
        """Let the new layers take the new tensors."""
        for layer in one.layers:
            layer.calls = [
                Call(list(self._arguments(one, call.args, index)))
                for index, call in enumerate(layer.calls)
            ]

    def _arguments(
        self, one: _Replaced, ports: Sequence[Any], call: int
    ) -> Iterator[Tensor]:
        for port in ports:
            if port is ...:
                yield from map(self.resolve, one.calls[call].inputs)
            else:
                yield self._at(one, port, call)

    def _at(self, one: _Replaced, port: Port, call: int) -> Tensor:
        if port.step is not None:
            return Tensor(one.layers[port.step].name, call, port.index)
        return self.resolve(port.outer or one.calls[call].inputs[port.index])


def _graphs(graph: Graph) -> Iterator[Graph]:
    """A model, and those in it."""
    graph = pruned(graph)
    yield graph
    for layer in graph.layers:
        for inner in (layer.model, layer.repeated):
            if inner is not None:
                yield from _graphs(inner)


def pruned(graph: Graph) -> Graph:
    """*graph* without what no output needs: Keras 3 writes the computation of masks as
    layers, which TensorFlow.js does by itself."""
    layers = graph.by_name()
    needed: set[str] = set()
    pending = [tensor.layer for tensor in (*graph.outputs, *graph.inputs)]
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            for call in layers[name].calls:
                pending += [t.layer for t in call.inputs]
                pending += [
                    value.layer
                    for key, value in call.kwargs.items()
                    if key not in masks.ARGUMENTS and isinstance(value, Tensor)
                ]
    kept = [layer for layer in graph.layers if layer.name in needed]
    return replace(graph, layers=kept)


def _custom(done: Rewrite) -> Port:
    """A layer that the page has a class for."""
    slots = [f"{slot} {list(weight.shape)}" for slot, weight in done.weights.items()]
    done.note(
        f"the page must register a class {done.layer.class_name}, with "
        + (f"the weights {', '.join(slots)}" if slots else "no weights")
    )
    return done.keep()


def _fill_reshapes(graph: Graph) -> None:
    """Name the sizes that are known in place of -1. TensorFlow.js leaves them open
    where the batch is open (tfjs-layers ``src/layers/core.ts``, ``Reshape``), and
    layers behind may need them."""
    inferred = shapes.infer(graph)
    for layer in graph.layers:
        if layer.class_name == "Reshape":
            found = {
                inferred.get(Tensor(layer.name, index))
                for index in range(len(layer.calls))
            }
            known = found.pop() if len(found) == 1 else None
            if known is not None and None not in known[1:]:
                layer.config["target_shape"] = list(known[1:])


def _is_chain(graph: Graph) -> bool:
    before: Tensor | None = None
    for layer in graph.layers:
        inputs = [call.args for call in layer.calls]
        if inputs not in ([[before]], [[]] if before is None else [[before]]):
            return False
        before = Tensor(layer.name)
    return graph.outputs == [before]


def _output_shapes(layer: Layer, inferred: Shapes) -> list[Any]:
    found: list[Any] = []
    while (tensor := Tensor(layer.name, 0, len(found))) in inferred:
        found.append(inferred[tensor])
    return found


def _input_dtype(config: Mapping[str, Any]) -> str:
    dtype = config.get("dtype", "float32")
    if isinstance(dtype, dict):  # a DTypePolicy
        inner = dtype.get("config")
        dtype = inner.get("name") if isinstance(inner, dict) else "float32"
    return "int32" if "int" in str(dtype) else _DTYPES.get(str(dtype), "float32")


def _refuse_arguments(done: Rewrite) -> None:
    """Arguments of a call, other than tensors in their order, that change the values
    and that no rule reads."""
    if done.layer.is_operation:
        return
    for call in done.layer.calls:
        for key, value in call.kwargs.items():
            if value is None or value is False or key == "name":
                continue
            if key in masks.ARGUMENTS:  # looked at with all masks
                continue
            if key == "training":
                if done.keras == 3:  # predict() wins over what is stored
                    continue
                raise done.refusal(
                    "is called with training=True, which TensorFlow.js does not do "
                    "when it predicts; leave it out"
                )
            if not (key in _MASKING and done.layer.class_name in _ATTENTION):
                raise done.refusal(
                    f"is called with {key}, which has no equal in TensorFlow.js; "
                    "leave it out"
                )


_ATTENTION = frozenset({"Attention", "MultiHeadAttention"})
_MASKING = frozenset({"attention_mask", "return_attention_scores", "use_causal_mask"})
