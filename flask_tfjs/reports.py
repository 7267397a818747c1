"""What the commands print: values for ``--json``, text for people."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any

from .errors import printable
from .format.manifest import Kind
from .format.manifest import WeightSpec
from .format.topology import LOADERS
from .format.topology import Port
from .format.topology import Topology
from .format.topology import describe as describe_topology
from .http import codings
from .keras.script import needs_script
from .models.delivery import BeingWritten
from .models.delivery import Examination
from .models.encodings import Encoding
from .models.encodings import Encodings
from .models.findings import Finding
from .models.names import MAIN
from .models.publish import Version
from .models.retention import Swept
from .models.served import ServedModel
from .models.summary import Summary

if TYPE_CHECKING:
    from .convert.quantize import LargestError
    from .convert.quantize import Quantization


def main_path(summary: Summary) -> str:
    """The path below the prefix that loads a model, or that lists its entries."""
    names = [entry.name for entry in summary.entries]
    if MAIN in names or len(names) < 2:
        return f"/{summary.name}/{MAIN}"
    return f"/{summary.name}/"


def list_row(summary: Summary, url: str) -> dict[str, Any]:
    kinds = {entry.kind for entry in summary.entries if entry.kind is not None}
    return {
        "name": summary.name,
        "kind": kinds.pop() if len(kinds) == 1 else ("several" if kinds else None),
        "entries": [entry.name for entry in summary.entries],
        "versions": list(summary.versions),
        "bytes": summary.byte_length,
        "directory": summary.path,
        "url": url,
        "state": summary.state,
        "reason": summary.fault,
    }


def list_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["NAME", "KIND", "ENTRIES", "VERSIONS", "SIZE", "DIRECTORY", "URL", "STATE"]
    return _table([head, *(_cells(row) for row in rows)])


def published(name: str, version: Version, url: str) -> str:
    """What became of a publish, and what of it browsers have not yet."""
    shards = _count(version.shards, "shard")
    new = "" if version.new_bytes is None else f", {size(version.new_bytes)} new"
    return (
        f"Published {name}, version {version.number}: {shards}, "
        f"{size(version.byte_length)}{new}\n{url}"
    )


def version_row(version: Version, url: str) -> dict[str, Any]:
    return {
        "version": version.number,
        "published": version.published,
        "current": version.is_current,
        "shards": version.shards,
        "bytes": version.byte_length,
        "etag": version.etag,
        "url": url,
    }


def version_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["VERSION", "PUBLISHED", "SHARDS", "SIZE", "URL", ""]
    cells = [
        [
            str(row["version"]),
            row["published"],
            str(row["shards"]),
            size(row["bytes"]),
            row["url"],
            "current" if row["current"] else "",
        ]
        for row in rows
    ]
    return _table([head, *cells])


def swept(removed: Swept) -> str:
    files = _count(removed.files, "file")
    return f"Removed {files}, {size(removed.byte_length)} freed"


def converted(source: str, dest: str, byte_length: int, notices: Sequence[str]) -> str:
    """What became of a conversion, and what to know of it."""
    lines = [f"Converted {source} to {dest}: {size(byte_length)}"]
    return printable_lines([*lines, *(f"Note: {notice}" for notice in notices)])


def quantized(source: str, dest: str, done: Quantization) -> str:
    """What a model's weights took before and take now, and what to know of it."""
    before, after = sum(done.before.values()), sum(done.after.values())
    line = f"Quantized {source} to {dest}: {size(before)} become {size(after)}"
    if after >= before:
        line = f"Copied {source} to {dest}: nothing of it would become smaller"
    head = ["STORED AS", "BEFORE", "AFTER", "LARGEST CHANGE"]
    cells = [
        [
            stored,
            size(done.before.get(stored, 0)),
            size(done.after.get(stored, 0)),
            _change(done.errors.get(stored)),
        ]
        for stored in sorted({*done.before, *done.after})
    ]
    notes = [f"Note: {notice}" for notice in done.notices]
    return "\n".join([printable(line), _table([head, *cells]), *map(printable, notes)])


def _change(found: LargestError | None) -> str:
    if found is None:
        return ""
    return f"{found.error:.2g} of {found.largest:.3g} in {found.weight}"


def loader_call(kind: Kind, url: str, is_list: bool) -> str:
    """The expression that loads the model at *url*.

    :param is_list: whether its JSON is the list of groups that weights alone may be.
    """
    if kind == "weights-manifest":
        folder = url.rpartition("/")[0]
        document = f'(await (await fetch("{url}")).json())'
        groups = document[1:-1] if is_list else f"{document}.weightsManifest"
        return f'{LOADERS[kind]}({groups}, "{folder}")'
    return f'{LOADERS[kind]}("{url}")'


def loader_snippet(
    kind: Kind, url: str, script: str | None, is_list: bool = False
) -> str:
    """What a page has to hold to load a model.

    :param script: the URL of the script of layers, if the model needs it.
    """
    tag = [] if script is None else [script_tag(script)]
    return printable_lines([*tag, loader_line(kind, url, is_list)])


def loader_line(kind: Kind, url: str, is_list: bool) -> str:
    """The statement that loads the model at *url*."""
    result = "weights" if kind == "weights-manifest" else "model"
    return f"const {result} = await {loader_call(kind, url, is_list)};"


def script_tag(url: str) -> str:
    """What loads a script into a page, behind TensorFlow.js."""
    return f'<script src="{url}"></script>'


def printable_lines(lines: Iterable[str]) -> str:
    return "\n".join(printable(line) for line in lines)


def findings(found: Sequence[Finding]) -> str:
    """A line for each finding, and one that sums them up."""
    lines = [printable(f"{f.level}: {f.where}: {f.message}") for f in found]
    counts = Counter(finding.level for finding in found)
    errors, warnings = counts["error"], counts["warning"]
    if not errors and not warnings:
        return "\n".join([*lines, "Everything loads."])
    summed_up = f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"
    return "\n".join([*lines, summed_up])


@dataclass(frozen=True, slots=True)
class ModelReport:
    """All that can be told of one sound model.

    :ivar script: the URL of the script of layers, if the page needs it.
    :ivar on_the_wire: bytes of a whole load, JSON and shards, by the content coding
        that the client takes.
    :ivar digest: of the model; *digests*: of each shard, base64 of SHA-256 as in
        ``Repr-Digest``.
    """

    path: str
    url: str
    script: str | None
    found: Examination
    topology: Topology
    on_the_wire: Mapping[str, int]
    digest: str
    digests: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        model = self.found.model
        return {
            "path": self.path,
            "kind": model.kind,
            "loader": self.loader,
            "script": self.script,
            "inputs": [_port_json(port) for port in self.topology.inputs],
            "outputs": [_port_json(port) for port in self.topology.outputs],
            "units": dict(self.topology.units),
            "weights": len(list(model.weights)),
            "weights_by_dtype": dict(self._dtypes()),
            "parameters": self.parameters,
            "shards": {
                shard.name: {"bytes": shard.size, "sha-256": self.digests[shard.name]}
                for shard in self.found.every_shard
            },
            "bytes_on_the_wire": dict(self.on_the_wire),
            "digest": self.digest,
            "repairs": [str(repair) for repair in self.found.repairs],
        }

    @property
    def loader(self) -> str:
        model = self.found.model
        return loader_call(model.kind, self.url, model.is_list)

    def text(self) -> str:
        model = self.found.model
        units = "layers" if model.kind == "layers-model" else "ops"
        total = sum(self.topology.units.values())
        dtypes = ", ".join(f"{dtype} {n}" for dtype, n in self._dtypes().items())
        wire = ", ".join(f"{coding} {n:,}" for coding, n in self.on_the_wire.items())
        rows = [
            ["kind", model.kind],
            ["load", self.loader],
            *([["script", script_tag(self.script)]] if self.script else []),
            *(["input", _port_text(port)] for port in self.topology.inputs),
            *(["output", _port_text(port)] for port in self.topology.outputs),
            *([[units, f"{total}: {_most(self.topology.units)}"]] if total else []),
            [
                "weights",
                f"{len(list(model.weights))} ({dtypes}), "
                f"{self.parameters:,} parameters",
            ],
            *(
                ["shard", f"{s.name} {s.size:,} bytes sha-256={self.digests[s.name]}"]
                for s in self.found.every_shard
            ),
            ["on the wire", f"{wire} bytes"],
            ["digest", self.digest],
            *(["repaired", str(repair)] for repair in self.found.repairs),
        ]
        return "\n".join([printable(self.path), _table(["", *row] for row in rows)])

    def _dtypes(self) -> Counter[str]:
        return Counter(map(stored_as, self.found.model.weights))

    @property
    def parameters(self) -> int:
        return sum(spec.elements for spec in self.found.model.weights)


def stored_as(spec: WeightSpec) -> str:
    """The dtype of a weight, and that of its bytes where it is another."""
    if spec.dtype == spec.wire_dtype:
        return spec.dtype
    return f"{spec.dtype} as {spec.wire_dtype}"


def describe(
    model: ServedModel, entry: str, url: str, script: str, encodings: Encodings
) -> ModelReport:
    """Look at one entry of *model* as a whole.

    :param script: the URL of the script of layers.

    :raises InvalidModel: it cannot be loaded.
    """
    found = model.examine(entry)
    delivery = model.delivery(entry)
    if {shard.name for shard in found.every_shard} != {*delivery.files}:
        raise BeingWritten(entry)  # it was replaced between the two
    text = delivery.manifest(entry.rpartition("/")[0])
    digests = [piece.digest for piece in delivery.pieces.values()]
    return ModelReport(
        path=f"{model.label}/{entry}",
        url=url,
        script=script if needs_script(found.document) else None,
        found=found,
        topology=describe_topology(found.model),
        on_the_wire={
            coding: len(codings.encode(text, coding))
            + sum(encodings.length(digest, coding) for digest in digests)
            for coding in (codings.IDENTITY, *codings.installed())
        },
        digest=delivery.digest,
        digests={
            name: base64.b64encode(digest.sha256).decode("ascii")
            for name, digest in delivery.files.items()
        },
    )


def compressed(made: Sequence[Encoding]) -> str:
    """A line for each encoding of a shard, and one that sums them up."""
    head = ["SHARD", "CODING", "BYTES", "ENCODED", "SHARE", ""]
    rows = [
        [
            e.name,
            e.coding,
            f"{e.length:,}",
            f"{e.encoded:,}",
            f"{e.encoded / e.length:.2f}",
            "kept" if e.kept else "gains too little",
        ]
        for e in made
    ]
    table = _table([head, *rows])
    return "\n".join([table, *(_summed_up(coding, made) for coding in _codings(made))])


def _codings(made: Sequence[Encoding]) -> list[str]:
    return list(dict.fromkeys(encoding.coding for encoding in made))


def _summed_up(coding: str, made: Sequence[Encoding]) -> str:
    these = [encoding for encoding in made if encoding.coding == coding]
    before = sum(encoding.length for encoding in these)
    after = sum(e.encoded if e.kept else e.length for e in these)
    return f"{coding}: {before:,} bytes of shards become {after:,}"


def _cells(row: Mapping[str, Any]) -> list[str]:
    reason = f": {row['reason']}" if row["reason"] else ""
    return [
        row["name"],
        row["kind"] or "-",
        str(len(row["entries"])),
        str(len(row["versions"]) or "-"),
        size(row["bytes"]),
        row["directory"],
        row["url"],
        f"{row['state']}{reason}",
    ]


def size(count: int) -> str:
    """Bytes for people, in powers of 1000."""
    unit, divisor = "B", 1
    for larger, factor in (("kB", 10**3), ("MB", 10**6), ("GB", 10**9)):
        if count >= factor:
            unit, divisor = larger, factor
    return f"{count} B" if unit == "B" else f"{count / divisor:.1f} {unit}"


def _table(rows: Iterable[Sequence[str]]) -> str:
    lines = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in lines
    )


def _port_text(port: Port) -> str:
    sizes = "" if port.shape is None else f" [{shape(port)}]"
    return f"{port.name}{sizes}{f' {port.dtype}' if port.dtype else ''}"


def shape(port: Port) -> str:
    """The sizes of a port, ``?`` for one left open."""
    return ", ".join("?" if size is None else str(size) for size in port.shape or ())


def _port_json(port: Port) -> dict[str, Any]:
    return {
        "name": port.name,
        "shape": None if port.shape is None else list(port.shape),
        "dtype": port.dtype,
    }


def _most(units: Mapping[str, int], shown: int = 8) -> str:
    texts = [f"{name} {count}" for name, count in units.items()]
    return ", ".join(texts[:shown] + (["…"] if len(texts) > shown else []))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
