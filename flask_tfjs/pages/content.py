"""What the pages say: of models that anybody may have made, so every text from a file
is cut to a length and every table to a number of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from urllib.parse import urljoin

from .. import auth
from .. import reports
from ..errors import InvalidModel
from ..errors import TFJSError
from ..errors import printable
from ..format.histogram import Histogram
from ..format.histogram import histogram
from ..format.manifest import Kind
from ..format.parameters import LayerParameters
from ..format.parameters import layers_of
from ..format.parameters import parameters_by_unit
from ..format.topology import Port
from ..format.topology import Shape
from ..http import codings
from ..keras.script import PATH
from ..models import publish
from ..models.delivery import BeingWritten
from ..models.delivery import Examination
from ..models.findings import check_examined
from ..models.names import MAIN
from ..models.sample import sample_weights
from ..models.served import ServedModel
from ..models.summary import EntrySummary
from ..models.summary import Summary
from ..models.summary import summarize
from ..models.summary import summarize_model
from ..reports import ModelReport
from ..state import State
from ..tags import tfjs_script
from ..tags import url_below

_MAX_ROWS = 200
_MAX_TEXT = 200
_MAX_SENTENCE = 1000

# TensorFlow.js has no tensors of more (tfjs-core src/types.ts, Rank).
_MAX_AXES = 6

# The call that any model of a kind takes.
_PREDICT: Mapping[Kind, str] = MappingProxyType(
    {"layers-model": "model.predict", "graph-model": "await model.executeAsync"}
)

# What a tensor for an input of this dtype has to be told (tfjs-converter
# src/operations/operation_mapper.ts).
_DTYPES = MappingProxyType(
    {
        **dict.fromkeys(("int8", "uint8", "int32", "int64"), ', "int32"'),
        "bool": ', "bool"',
    }
)

_BINS = 48

# Nodes of a graph that compute nothing.
_SILENT_OPS = frozenset({"Const", "Placeholder"})


def list_page(found: State) -> dict[str, Any]:
    """The values of ``list.html``: the models that the request may read of."""
    readable = (
        summary
        for summary in summarize(found.catalogue)
        if auth.may_read(found, summary.name)
    )
    models = [_list_row(found, summary) for summary in readable]
    fault = found.catalogue.fault
    if fault is not None:
        # It names folders and models, which not all may know.
        found.log_once(printable(fault))
    return {"models": models, "is_incomplete": fault is not None}


def model_page(found: State, model: ServedModel, asked: str | None) -> dict[str, Any]:
    """The values of ``model.html``.

    :param asked: the entry, as the query of the URL names it.
    :raises ModelNotFound: there is no such entry.
    :raises BeingWritten: it cannot be told now what the entry is.
    """
    names, fault = _entries(model)
    entry = asked or _main_of(names)
    report = None
    if entry is not None:
        try:
            model.delivery(entry)  # waits a moment where it is being written to
            report = _describe(found, model, entry, len(names) == 1 and not asked)
        except BeingWritten:
            raise
        except InvalidModel as error:
            found.log_fault(model.name, error)
            fault = str(error)
    return {
        "name": model.name,
        "page_url": _page_url(found, model.name),
        "entry": entry and _shown(entry) if len(names) > 1 or asked else None,
        "fault": fault and _shown(fault, _MAX_SENTENCE),
        "model": report and _model(found, model, report),
        "findings": report and entry and _cut(_findings(model, entry, report.found)),
        "versions": _versions(found, model),
        "choices": _cut(
            _choice(found, model.name, choice)
            for choice in (summarize_model(model).entries if len(names) > 1 else ())
            if choice.name != entry
        ),
    }


def _entries(model: ServedModel) -> tuple[list[str], str | None]:
    """The entries, or why there are none."""
    try:
        names = model.entries()
    except InvalidModel as fault:
        return [], fault.message
    return names, None if names else model.no_model()


def _list_row(found: State, summary: Summary) -> dict[str, Any]:
    row = reports.list_row(summary, "")
    return {
        "name": summary.name,
        "page": _page_url(found, summary.name),
        "state": summary.state,
        "kind": row["kind"],
        "entries": len(summary.entries),
        "versions": len(summary.versions),
        "bytes": summary.byte_length,
        "size": reports.size(summary.byte_length),
        "reason": _reason(summary),
    }


def _reason(summary: Summary) -> str | None:
    if summary.state == "empty":
        return "there is no model in it yet"
    return summary.fault and _shown(summary.fault, _MAX_SENTENCE)


def _choice(found: State, name: str, entry: EntrySummary) -> dict[str, Any]:
    return {
        "name": _shown(entry.name),
        "page": _page_url(found, name, entry.name),
        "kind": entry.kind,
        "size": reports.size(entry.byte_length),
        "reason": entry.fault and _shown(entry.fault, _MAX_SENTENCE),
    }


def _main_of(names: list[str]) -> str | None:
    if MAIN in names:
        return MAIN
    return names[0] if len(names) == 1 else None


def _page_url(found: State, name: str, entry: str | None = None) -> str:
    query = None if entry is None else {"entry": entry}
    return url_below(found, f"/{name}/", query=query)


def _describe(found: State, model: ServedModel, entry: str, alone: bool) -> ModelReport:
    # The only model goes by the name that a page is given without an entry.
    url = url_below(found, f"/{model.name}/{MAIN if alone else entry}")
    script = url_below(found, f"/{PATH}")
    return reports.describe(model, entry, url, script, found.encodings)


def _model(found: State, model: ServedModel, report: ModelReport) -> dict[str, Any]:
    served = report.found.model
    needs_script = report.script is not None
    layers = layers_of(served)
    return {
        "kind": served.kind,
        "parameters": report.parameters,
        "size": reports.size(report.found.byte_length),
        "tags": str(tfjs_script(found.name, layers=needs_script)),
        "call": "\n".join(_lines(report)),
        "absolute": urljoin(url_below(found, "/", external=True), report.url),
        "origins": _origins(found),
        "job": _job(found, report),
        "inputs": _cut(map(_port, report.topology.inputs)),
        "outputs": _cut(map(_port, report.topology.outputs)),
        "unit_name": "layer" if served.kind == "layers-model" else "op",
        "units": _cut(_units(report, layers)),
        "layers": _cut(map(_layer, layers)),
        "dtypes": list(_dtypes(report.found)),
        "histogram": _histogram(model, report.found),
        "wire": list(_wire(report)),
        "compresses": found.cache is not None,
        "shards": _cut(_shards(report)),
    }


def _lines(report: ModelReport) -> Iterator[str]:
    """What loads the model and, where that is one line, predicts with it."""
    model = report.found.model
    yield reports.loader_line(model.kind, report.url, model.is_list)
    call = _PREDICT.get(model.kind)
    inputs = [port for port in report.topology.inputs if _sizes(port)]
    if call and len(inputs) == len(report.topology.inputs) == 1:
        sizes = ", ".join(str(size or 1) for size in _sizes(inputs[0]) or ())
        dtype = _DTYPES.get(inputs[0].dtype or "", "")
        yield f"const result = {call}(tf.zeros([{sizes}]{dtype}));"


def _origins(found: State) -> str:
    """Whose pages may load models."""
    allowed = found.settings.allow_origins
    return "all" if allowed == "*" else "some" if allowed else "none"


def _job(found: State, report: ModelReport) -> dict[str, Any]:
    """What the page's script needs to load the model."""
    script = found.settings.script
    return {
        "kind": report.found.model.kind,
        "url": report.url,
        "bytes": report.found.byte_length,
        "script": script.src,
        "integrity": script.integrity,
        "layers": report.script,
        "inputs": [_sizes(port) for port in report.topology.inputs[:_MAX_ROWS]],
    }


def _sizes(port: Port) -> Shape | None:
    """The shape of an input, if it can be one of a tensor."""
    fits = port.shape is not None and len(port.shape) <= _MAX_AXES
    return port.shape if fits else None


def _port(port: Port) -> dict[str, Any]:
    shown = replace(port, shape=port.shape and port.shape[:_MAX_ROWS])
    return {
        "name": _shown(port.name),
        "shape": "" if port.shape is None else f"[{_shown(reports.shape(shown))}]",
        "dtype": port.dtype and _shown(port.dtype),
    }


def _layer(layer: LayerParameters) -> dict[str, Any]:
    return {
        "name": _shown(layer.name),
        "class_name": _shown(layer.class_name),
        "parameters": layer.parameters,
    }


def _units(
    report: ModelReport, layers: Iterable[LayerParameters]
) -> Iterator[dict[str, Any]]:
    """The classes of layers or the ops, those with the most parameters first."""
    counts = report.topology.units
    parameters = parameters_by_unit(report.found.model, layers)
    names = [n for n in {**parameters, **counts} if n not in _SILENT_OPS]
    names.sort(key=lambda name: (-parameters.get(name, 0), -counts.get(name, 0)))
    for name in names:
        yield {
            "name": _shown(name),
            "count": counts.get(name),
            "parameters": parameters.get(name, 0),
            "share": parameters.get(name, 0) / max(report.parameters, 1),
        }


def _dtypes(found: Examination) -> Iterator[dict[str, Any]]:
    tensors: Counter[str] = Counter()
    parameters: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for weight in found.layout.weights:
        dtype = reports.stored_as(weight.spec)
        tensors[dtype] += 1
        parameters[dtype] += weight.spec.elements
        sizes[dtype] += weight.end - weight.start
    for dtype, size in sizes.most_common():
        yield {
            "dtype": dtype,
            "tensors": tensors[dtype],
            "parameters": parameters[dtype],
            "size": reports.size(size),
        }


def _histogram(model: ServedModel, found: Examination) -> dict[str, Any] | None:
    try:
        sample = sample_weights(model.root, found)
    except InvalidModel:  # its files have just changed
        return None
    made = histogram(sample.values, _BINS)
    if made is None:
        return None
    highest = max(made.counts)
    return {
        "bars": [round(100 * count / highest, 1) for count in made.counts],
        "low": _number(made.low),
        "high": _number(made.high),
        "caption": _caption(made, sample.total),
        "not_finite": made.not_finite and _not_finite(made.not_finite),
    }


def _caption(made: Histogram, total: int) -> str:
    of = "" if made.total == total else f"{made.total:,} of "
    zeros = f"; {made.zeros / made.total:.1%} are zero" if made.zeros else ""
    beyond = f", {made.beyond:,} of them beyond the edges" if made.beyond else ""
    return (
        f"{of}{total:,} values of float32 weights{beyond}. Least "
        f"{_number(made.least)}, median {_number(made.median)}, greatest "
        f"{_number(made.greatest)}{zeros}."
    )


def _not_finite(count: int) -> str:
    return (
        f"{count:,} of them are NaN or infinite, and what is computed with those is, "
        "too; save the model again from a training that did not diverge."
    )


def _wire(report: ModelReport) -> Iterator[dict[str, Any]]:
    whole = report.on_the_wire[codings.IDENTITY]
    for coding, count in report.on_the_wire.items():
        name = "none" if coding == codings.IDENTITY else coding
        yield {"coding": name, "bytes": count, "share": count / whole}


def _shards(report: ModelReport) -> Iterator[dict[str, Any]]:
    for shard in report.found.every_shard:
        digest = report.digests[shard.name]
        yield {"name": _shown(shard.name), "size": shard.size, "digest": digest}


def _findings(
    model: ServedModel, entry: str, found: Examination
) -> Iterator[dict[str, str]]:
    for finding in check_examined(model, entry, found):
        yield {
            "level": finding.level,
            "where": _shown(finding.where),
            "message": _shown(finding.message, _MAX_SENTENCE),
        }


def _versions(found: State, model: ServedModel) -> list[dict[str, Any]]:
    """The published versions, the newest first, each with what makes it current."""
    store = found.catalogue.store
    if store is None or not model.versions():
        return []
    try:
        versions = publish.versions(store, model.name)
    except (TFJSError, OSError):  # taken from the air since, or unreadable
        return []
    return [
        {
            "number": version.number,
            "page": _page_url(found, model.name, version.file_name),
            "published": version.published,
            "size": reports.size(version.byte_length),
            "command": None
            if version.is_current
            else f"flask tfjs rollback {model.name} {version.number}",
        }
        for version in versions
    ]


def _cut(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The rows of a table that are shown, and how many there are."""
    every = list(rows)
    return {"rows": every[:_MAX_ROWS], "count": len(every)}


def _number(value: float) -> str:
    return f"{value or 0.0:.3g}".replace("-", "\N{MINUS SIGN}")


def _shown(text: str, length: int = _MAX_TEXT) -> str:
    text = printable(text)
    return text if len(text) <= length else f"{text[:length]}…"
