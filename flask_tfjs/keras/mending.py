"""A directory that the official converter, or ``save_keras_model()``, made from a model
of Keras, as TensorFlow.js can load it: another topology, and other names for the same
bytes, by the rules by which a file of Keras is converted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidModel
from ..format.manifest import ModelJSON
from ..format.manifest import WeightSpec
from ..format.manifest import shown
from ..format.repair import Repair
from . import rules
from .bounds import CONVERT
from .bounds import refuse_endless
from .bounds import refuse_endless_shapes
from .comparing import differences
from .constants import Values
from .constants import constant
from .graph import MODELS
from .graph import Graph
from .misfits import Misfit
from .misfits import is_keras_3_form
from .misfits import misfits
from .reading import plain_class
from .reading import read_model
from .rewrite import Options
from .rewrite import Rewrite
from .rewriting import Rewritten
from .rewriting import UnsupportedLayers
from .rewriting import rewrite
from .script import PATH as SCRIPT
from .script import needs_script
from .weight_names import attach_by_names
from .weight_names import layers_of
from .weight_names import stored_in
from .weights import Computed
from .weights import Stored
from .weights import Weight
from .writing import named_weights
from .writing import topology


@dataclass(frozen=True, slots=True)
class Mended:
    """A layers model that TensorFlow.js can load.

    :ivar document: the JSON's value, but for ``paths``: a group may have become
        several, or none, with the ``paths`` that it had.
    :ivar kept: for each group of *document* its weights, counted through all groups of
        the model that was mended.
    :ivar repairs: what was done.
    """

    document: dict[str, Any]
    kept: tuple[range, ...]
    repairs: tuple[Repair, ...]


def mend(model: ModelJSON, values: Values) -> Mended | None:
    """*model* as TensorFlow.js can load it; ``None``: as it is, or it was not Keras
    that wrote it.

    :param values: reads a weight: numbers in row-major order.
    :raises InvalidModel: TensorFlow.js would refuse or mistake it, and it cannot be
        mended.
    """
    mending = _begin(model)
    if mending is None:
        return None
    try:
        return mending.mended(values)
    except InvalidModel as fault:
        # Others than this class tell of the moment, such as files being written.
        if type(fault) is not InvalidModel:
            raise
        if mending.known:
            raise InvalidModel(fault.message[:1000], fault.where[:_SHOWN]) from None
    except _UNFORESEEN as error:
        if mending.known:
            raise InvalidModel(
                f"is not what Keras writes ({type(error).__name__}); {CONVERT}",
                "modelTopology",
            ) from None
    # What TensorFlow.js refuses and mistakes was looked for. Where the rules go further
    # and come to no end, the page may register layers that the rules do not know.
    return None


def unfit(model: ModelJSON) -> Sequence[Misfit]:
    """What TensorFlow.js refuses or mistakes in *model*, as it is."""
    mending = _begin(model)
    if mending is None or mending.known:
        return mending.known if mending else ()
    try:
        return mending.rewritten()[1]
    except (InvalidModel, *_UNFORESEEN):
        return ()


def _begin(model: ModelJSON) -> _Mending | None:
    if model.kind != "layers-model":
        return None
    version = _keras_version(model.document)
    if version is None:
        return None
    names = [spec.name for spec in _weights_of_layers(model)]
    return _Mending(model, version, misfits(model.document, names))


# What code for documents of Keras raises on others.
_UNFORESEEN = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError),
    *(RuntimeError, StopIteration, TypeError, ValueError),
)


def _keras_version(document: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The version of the Keras that wrote a document; ``None``: something else did."""
    if document.get("convertedBy") == "flask_tfjs" or needs_script(document):
        return None  # written by these rules
    model = document["modelTopology"]
    for stated in (model.get("keras_version"), document.get("generatedBy")):
        if isinstance(stated, str):
            match = re.match(r"(?:keras v)?(\d{1,4})\.(\d{1,4})", stated)
            return (int(match[1]), int(match[2])) if match else None
    return (3,) if is_keras_3_form(document) else None


def _weights_of_layers(model: ModelJSON) -> Iterator[WeightSpec]:
    """The weights but for those that the client gives to the optimizer."""
    for spec, entry in zip(model.weights, model.entries, strict=True):
        if entry.get("group") != "optimizer":
            yield spec


class _Mending:
    """One model on its way.

    :ivar known: what is known not to fit.
    """

    def __init__(
        self, model: ModelJSON, version: tuple[int, ...], known: Sequence[Misfit]
    ) -> None:
        self.known = tuple(known)
        self._model = model
        self._version = version
        self._owners: dict[str, str] = {}

    def mended(self, values: Values) -> Mended | None:
        done, found = self.rewritten()
        if not found:
            return None
        document = self._document(done.graph, values)
        document, kept = self._manifest(document, done.graph)
        told = [(misfit.where, f"{misfit.reason}; {_READ}") for misfit in found]
        repairs = [*_repairs(told), *self._left_out(kept)]
        return Mended(document, kept, (*repairs, *_notices(document, done)))

    def rewritten(self) -> tuple[Rewritten, tuple[Misfit, ...]]:
        """What the rules make of it, and what does not fit without them."""
        graph = self._read()
        if self._version[0] > 2:
            _refuse_unknown(graph)
        specs = _weights_of_layers(self._model)
        attach_by_names(graph, [Stored(s.name, s.shape, s.dtype) for s in specs])
        self._owners = {
            weight.name: layer.name
            for layer in layers_of(graph)
            for _, weight in stored_in(layer)
        }
        done = self._by_rules(graph)
        return done, self.known or tuple(differences(graph, done.graph))

    def _read(self) -> Graph:
        document = self._model.document
        refuse_endless_shapes(document)
        model = document["modelTopology"]
        graph = read_model(model.get("model_config") or model, self._version)
        refuse_endless(graph)
        return graph

    def _by_rules(self, graph: Graph) -> Rewritten:
        custom = _unknown_classes(graph) if self._version[0] <= 2 else frozenset()
        try:
            return rewrite(graph, Options(custom=custom))
        except UnsupportedLayers as error:
            others = len(error.faults) - 1
            more = f" ({others} more layers are refused)" if others else ""
            first = error.faults[0]
            raise InvalidModel(f"{first.message}{more}", first.where) from None

    def _document(self, graph: Graph, values: Values) -> dict[str, Any]:
        document = self._model.document
        old = document["modelTopology"]
        new = self._constants(topology(graph), values)
        new = {"model_config": new} if old.get("model_config") else new
        return {**document, "modelTopology": {**old, **new}}

    def _constants(self, value: Any, values: Values) -> Any:
        """*value* as JSON, with the weights that a rule put into a config."""
        if isinstance(value, dict):
            return {
                str(key): self._constants(item, values) for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._constants(item, values) for item in value]
        if isinstance(value, (Stored, Computed)):
            try:
                return constant(value, values)
            except ValueError as error:
                raise self._refusal(value, str(error)) from None
        is_number = isinstance(value, (int, float)) and abs(value) < math.inf
        if value is None or is_number or isinstance(value, str):
            return value
        raise TypeError(type(value).__name__)

    def _manifest(
        self, document: dict[str, Any], graph: Graph
    ) -> tuple[dict[str, Any], tuple[range, ...]]:
        """*document* with the names that TensorFlow.js looks for."""
        names = self._names(graph)
        groups: list[dict[str, Any]] = []
        kept: list[range] = []
        start = 0
        for group in document.get("weightsManifest") or []:
            entries = group["weights"]
            for run in _runs([self._keeps(entry, names) for entry in entries]):
                these = [_renamed(entries[index], names) for index in run]
                groups.append({**group, "weights": these})
                kept.append(range(start + run.start, start + run.stop))
            start += len(entries)
        if document.get("weightsManifest") is None:
            return document, ()
        return {**document, "weightsManifest": groups}, tuple(kept)

    def _keeps(self, entry: Mapping[str, Any], names: Mapping[str, Any]) -> bool:
        return entry["name"] in names or entry.get("group") == "optimizer"

    def _names(self, graph: Graph) -> dict[str, tuple[str, tuple[int, ...]]]:
        """By the name of a weight as it is stored, that in TensorFlow.js and the shape
        it has there."""
        names: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name, weight in named_weights(graph):
            stored = weight
            while isinstance(stored, Computed) and stored.operation == "reshaped":
                stored = stored.arguments[0]
            if not isinstance(stored, Stored):
                raise self._refusal(
                    weight,
                    "needs other weights in TensorFlow.js, computed from its own",
                )
            if stored.name in names:
                raise self._refusal(weight, "has a weight that is needed twice")
            names[stored.name] = name, weight.shape
        return names

    def _refusal(self, weight: Weight, reason: str) -> InvalidModel:
        """The error that names the layer whose weight it was."""
        pending: list[Any] = [weight]
        while pending:
            part = pending.pop()
            if isinstance(part, Stored):
                return InvalidModel(
                    f"{reason}; {CONVERT}", self._owners.get(part.name, part.name)
                )
            if isinstance(part, Computed):
                pending += reversed(part.arguments)
        return InvalidModel(f"{reason}; {CONVERT}", "modelTopology")

    def _left_out(self, kept: Sequence[range]) -> Iterator[Repair]:
        indices = {index for run in kept for index in run}
        specs = enumerate(self._model.weights)
        left = [spec for index, spec in specs if index not in indices]
        if left:
            size = sum(spec.byte_length or 0 for spec in left)
            others = f" and {len(left) - 1} others" if len(left) > 1 else ""
            yield Repair(
                "weightsManifest",
                f"has weights that no layer takes, {shown(left[0].name)}{others}, "
                f"which TensorFlow.js refuses; they are left out, {size:,} bytes",
            )


def _runs(kept: Sequence[bool]) -> Iterator[range]:
    """The indices of what is kept, as far as they follow on each other; one empty run
    where nothing was there."""
    start = 0
    if not kept:
        yield range(0)
    for index, keeps in enumerate([*kept, False]):
        if not keeps:
            if index > start:
                yield range(start, index)
            start = index + 1


def _renamed(
    entry: Mapping[str, Any], names: Mapping[str, tuple[str, tuple[int, ...]]]
) -> dict[str, Any]:
    if entry["name"] not in names:
        return dict(entry)
    name, shape = names[entry["name"]]
    return {**entry, "name": name, "shape": list(shape)}


# What is mended, told ----------------------------------------------------------------


def _repairs(found: Sequence[tuple[str, str]]) -> Iterator[Repair]:
    """One repair for each reason.

    :param found: the places and the reasons.
    """
    places: dict[str, list[str]] = {}
    for where, reason in found:
        places.setdefault(reason, []).append(where)
    for number, (reason, (first, *others)) in enumerate(places.items()):
        if number == _MAX_TOLD:
            yield Repair("modelTopology", f"{len(places) - number} things more")
            return
        more = f" and {len(others)} more" if others else ""
        yield Repair(f"{first[:_SHOWN]}{more}", reason[:1000])


# Characters of a name, and repairs, that are told.
_SHOWN = 200
_MAX_TOLD = 20

_READ = "it is served as TensorFlow.js reads it"


def _notices(document: Any, done: Rewritten) -> Iterator[Repair]:
    if needs_script(document):
        yield Repair(
            "modelTopology",
            "is served with layers that TensorFlow.js lacks; the page must load "
            f"{SCRIPT} before it",
        )
    # Nobody converts here, so that options cannot be advised.
    notices = [notice for notice in done.notices if " --" not in notice]
    parted = (notice.partition(": ") for notice in notices)
    yield from _repairs([(where, message) for where, _, message in parted])


# Classes without a rule ------------------------------------------------------------


def _refuse_unknown(graph: Graph) -> None:
    """:raises InvalidModel: there is no rule for a layer, with the reason."""
    for layer in layers_of(graph):
        is_plain = layer.model is None and layer.repeated is None
        if is_plain and not layer.is_operation and not _is_known(layer.class_name):
            raise rules.layers.refusal(Rewrite(layer, {}, Options(), []))


def _unknown_classes(graph: Graph) -> frozenset[str]:
    """Classes without a rule, which the page may have registered."""
    classes: set[str] = set()
    for layer in layers_of(graph):
        inner = layer.config.get("layer")
        if isinstance(inner, dict):
            classes.add(plain_class(str(inner.get("class_name"))))
        if not layer.is_operation:
            classes.add(layer.class_name)
    return frozenset(name for name in classes if not _is_known(name))


def _is_known(class_name: str) -> bool:
    wrappers = ("Bidirectional", "InputLayer", "TimeDistributed")
    return class_name in rules.RULES or class_name in (*MODELS, *wrappers)
