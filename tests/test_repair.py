"""What tfjs would misread goes out in other cuts and another JSON: the same bytes."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from conftest import MakeApp
from conftest import grow_old
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from javascript import Function
from javascript import javascript
from models import DENSE_BYTES
from models import DENSE_WEIGHTS
from models import FLATTEN_TOPOLOGY
from models import LAYERS_TOPOLOGY
from models import dense_document
from models import write_model

from flask_tfjs.cli import tfjs
from flask_tfjs.format.layout import Layout
from flask_tfjs.format.layout import Shard
from flask_tfjs.format.layout import lay_out
from flask_tfjs.format.manifest import ModelJSON
from flask_tfjs.format.manifest import parse
from flask_tfjs.format.repair import Slice
from flask_tfjs.format.repair import first_unread_byte
from flask_tfjs.format.repair import mend_manifest
from flask_tfjs.format.repair import recut
from flask_tfjs.format.repair import whole
from flask_tfjs.format.repair import zero_reads

QUARTERS = {"a.bin": DENSE_BYTES[:8], "b.bin": DENSE_BYTES[8:]}
READS_ZEROS = (
    "is larger than the shards before it, and TensorFlow.js 4.5 and later would read "
    "weight 'dense/bias' as zeros"
)
URL = "/models/m/model.json"


# How tfjs reads


def composite_slice(buffers: Sequence[bytes], start: int, end: int) -> bytes:
    """``CompositeArrayBuffer.slice`` of tfjs-core ``src/io/composite_array_buffer.ts``,
    but for its last line: what it finds nowhere stays zero."""
    starts = list(itertools.accumulate(map(len, buffers), initial=0))
    end = min(starts[-1], end)
    if end <= start:
        return b""
    sizes = [len(buffer) for buffer in buffers]
    if all(size == sizes[0] for size in sizes[:-1]):
        first = start // sizes[0] if sizes[0] else len(sizes)
    else:
        first = next(i for i in range(len(sizes)) if starts[i] <= start < starts[i + 1])
    found = b""
    for i in range(first, len(sizes)):
        found += buffers[i][start + len(found) - starts[i] : end - starts[i]]
        if end < starts[i + 1]:
            break
    return found.ljust(end - start, b"\0")


def read_weight(buffers: Sequence[bytes], spec: Any, start: int, end: int) -> bytes:
    """As ``decodeWeights`` of tfjs-core ``src/io/io_utils.ts`` reads it."""
    if spec["dtype"] != "string":
        return composite_slice(buffers, start, end)
    read = b""
    for _ in range(spec["shape"][0]):
        prefix = composite_slice(buffers, start, start + 4)
        start += 4 + int.from_bytes(prefix, "little")
        read += prefix + composite_slice(buffers, start - prefix[0], start)
    return read


CLIENT_JS = """
async (require) => {
  const {CompositeArrayBuffer} = require('@tensorflow/tfjs').io;
  return (sizes) => {
    let next = 1;
    const buffers = sizes.map((size) => {
      const bytes = Uint8Array.from({length: size}, () => next++);
      return bytes.buffer;
    });
    const joined = new CompositeArrayBuffer(buffers);
    const read = [];
    for (let start = 0; start < joined.byteLength; start++) {
      read.push([...new Uint8Array(joined.slice(start, joined.byteLength))]);
    }
    return read;
  };
}
"""


@pytest.fixture(scope="module")
def tails() -> Iterator[Function]:
    """What the client reads from each byte to the end of buffers of these sizes, whose
    bytes count up from one."""
    with javascript(CLIENT_JS, "@tensorflow/tfjs") as function:
        yield function


def cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    ends = list(itertools.accumulate(sizes, initial=0))
    return [data[a:b] for a, b in itertools.pairwise(ends)]


def rows() -> list[list[int]]:
    """Up to four shards of up to three bytes, and some more."""
    made = [
        list(row)
        for length in range(1, 5)
        for row in itertools.product(range(4), repeat=length)
    ]
    return [*made, [7] * 5 + [15], [0] * 5 + [9], [9, 9, 0, 20], [1, 60], [60, 1]]


def test_the_transcription(tails: Function) -> None:
    for sizes in rows():
        total = sum(sizes)
        buffers = cut(bytes(range(1, total + 1)), sizes)
        read = [list(composite_slice(buffers, i, total)) for i in range(total)]
        assert tails(sizes) == read, sizes


# Cuts


@dataclass(frozen=True)
class Given:
    """A model and its shards: ``files[group][shard]``, named ``0-0``, ``0-1``, …"""

    groups: list[list[Any]]
    files: list[list[bytes]]
    bare: bool = False

    @property
    def model(self) -> ModelJSON:
        manifest = [
            {"paths": [f"{g}-{i}" for i in range(len(row))], "weights": weights}
            for g, (weights, row) in enumerate(
                zip(self.groups, self.files, strict=True)
            )
        ]
        document = manifest if self.bare else {"weightsManifest": manifest}
        model = parse(json.dumps(document).encode(), "m.json")
        assert model is not None
        return model

    @property
    def shards(self) -> list[list[Shard]]:
        return [
            [Shard(f"{g}-{i}", len(data)) for i, data in enumerate(row)]
            for g, row in enumerate(self.files)
        ]

    @property
    def layout(self) -> Layout:
        joined = [_Joined(b"".join(row)) for row in self.files]
        return lay_out(self.model, self.shards, joined)

    def bytes_of(self, part: Slice) -> bytes:
        group, _, index = part.name.partition("-")
        file = self.files[int(group)][int(index)]
        assert 0 <= part.offset and part.offset + part.length <= len(file)
        return file[part.offset : part.offset + part.length]

    def recut(self) -> tuple[list[list[bytes]], int]:
        """The served bytes of each group, and the number of repairs."""
        cuts, repairs = recut(self.model, self.shards, self.layout)
        served = [[self.bytes_of(part) for part in group] for group in cuts]
        return served, len(repairs)


@dataclass(frozen=True)
class _Joined:
    data: bytes

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def rows_of(given: Given, served: list[list[bytes]]) -> list[list[bytes]]:
    """What the client joins: all groups, or of a bare list each for itself."""
    if given.bare:
        return served
    return [[data for group in served for data in group]]


def misread(given: Given, served: list[list[bytes]]) -> list[str]:
    """The weights that the client does not read as they are in the files."""
    wrong: list[str] = []
    weights = iter(given.layout.weights)
    for row, files, specs in zip(
        rows_of(given, served),
        rows_of(given, given.files),
        given.groups if given.bare else [sum(given.groups, [])],
        strict=True,
    ):
        placed = [next(weights) for _ in specs]
        first = placed[0].start if placed else 0
        data = b"".join(files)
        for spec, weight in zip(specs, placed, strict=True):
            start, end = weight.start - first, weight.end - first
            if read_weight(row, spec, start, end) != data[start:end]:
                wrong.append(spec["name"])
    return wrong


def numbered(count: int, start: int = 0) -> bytes:
    # No zero, which a client may have made up.
    return bytes((start + i) % 251 + 1 for i in range(count))


@st.composite
def givens(draw: st.DrawFn) -> Given:
    """Groups of weights in shards of sizes that are often alike."""
    bare = draw(st.booleans())
    made = Given([], [], bare)
    size, total = draw(st.integers(0, 5)), 0
    for g in range(draw(st.integers(1, 3))):
        weights: list[Any] = []
        data = b""
        for w in range(draw(st.integers(0, 3))):
            count = draw(st.integers(0, 7))
            dtype = (
                "bool" if bare else draw(st.sampled_from(["bool", "bool", "string"]))
            )
            weights.append({"name": f"{g}/{w}", "shape": [count], "dtype": dtype})
            for i in range(count):
                text = numbered(draw(st.integers(1, 4)), total + len(data) + i)
                packed = struct.pack("<I", len(text)) + text
                data += packed if dtype == "string" else text[:1]
        if draw(st.booleans()):
            pieces = draw(st.integers(0, 5))
            sizes = [min(size, max(len(data) - i * size, 0)) for i in range(pieces)]
            sizes.append(len(data) - sum(sizes))
        else:
            ends = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
            sizes = [b - a for a, b in itertools.pairwise([0, *ends, len(data)])]
        if not data and draw(st.booleans()):
            sizes = []
        total += len(data)
        made.groups.append(weights)
        made.files.append(cut(data, sizes))
    return made


@settings(max_examples=1500, deadline=None)
@given(givens())
def test_any_cut(given: Given) -> None:
    served, repairs = given.recut()
    assert misread(given, served) == []
    assert [b"".join(group) for group in served] == [
        b"".join(group) for group in given.files
    ]
    # Where nothing is misread, nothing is touched.
    if not repairs:
        assert served == given.files
    elif all(s["dtype"] == "bool" for weights in given.groups for s in weights):
        assert misread(given, given.files)
    if repairs:
        changed = [
            row
            for row, before in zip(
                rows_of(given, served), rows_of(given, given.files), strict=True
            )
            if row != before
        ]
        assert len(changed) == repairs
        for row in changed:
            assert first_unread_byte([len(data) for data in row]) is None
            assert all(row)


def test_every_misread_row_is_read_in_its_new_cuts(tails: Function) -> None:
    """By the client itself."""
    mended = 0
    for sizes in rows():
        total = sum(sizes)
        specs = [{"name": f"{i}", "shape": [1], "dtype": "bool"} for i in range(total)]
        given = Given([specs], [cut(numbered(total), sizes)])
        ((*served,), repairs) = given.recut()
        assert repairs == (first_unread_byte(sizes) is not None)
        if repairs:
            mended += 1
            whole_row = list(range(1, total + 1))
            read = tails([len(data) for data in served[0]])
            assert read == [whole_row[i:] for i in range(total)], sizes
    assert mended > 20


def bools(name: str, count: int) -> Any:
    return {"name": name, "shape": [count], "dtype": "bool"}


@pytest.mark.parametrize(
    ("groups", "bare", "expected"),
    [
        # Two halves, the larger first.
        ([[4, 8]], False, [[4, 4, 4]]),
        ([[4, 9]], False, [[4, 5, 4]]),
        ([[4, 4, 5]], False, [[4, 4, 3, 2]]),
        ([[1, 60]], False, [[1, 30, 30]]),
        ([[4, 4, 5]], True, [[4, 4, 3, 2]]),
        # The shards of all groups are one row.
        ([[4], [8]], False, [[4], [4, 4]]),
        ([[4], [4, 9]], False, [[4], [4, 5, 4]]),
        ([[4], [8], []], False, [[4], [4, 4], []]),
        # Those of a bare list are not.
        ([[4], [8]], True, [[4], [8]]),
        ([[4, 8], [4]], True, [[4, 4, 4], [4]]),
        ([[4, 8], [5, 4], [1, 3]], True, [[4, 4, 4], [5, 4], [1, 2, 1]]),
        # Empty shards before the only one that is not.
        ([[0, 4]], False, [[4]]),
        ([[0, 0, 4]], False, [[4]]),
        ([[0], [0, 4]], False, [[], [4]]),
        ([[0], [4], []], False, [[], [4], []]),
        ([[0, 4], [4]], True, [[4], [4]]),
        # Read rightly as they are.
        ([[12]], False, [[12]]),
        ([[4, 4, 4]], False, [[4, 4, 4]]),
        ([[5, 4]], False, [[5, 4]]),
        ([[3, 4, 9]], False, [[3, 4, 9]]),
        ([[4, 0]], False, [[4, 0]]),
        ([[0, 4, 0]], False, [[0, 4, 0]]),
        ([[4, 8], [4]], False, [[4, 8], [4]]),
        ([[]], False, [[]]),
    ],
)
def test_cuts(groups: list[list[int]], bare: bool, expected: list[list[int]]) -> None:
    weights = [
        [bools(f"{g}/{i}", 1) for i in range(sum(sizes))]
        for g, sizes in enumerate(groups)
    ]
    files = [cut(numbered(sum(sizes)), sizes) for sizes in groups]
    served, _ = Given(weights, files, bare).recut()
    assert [[len(data) for data in group] for group in served] == expected


@pytest.mark.parametrize("sizes", [[4, 8], [0, 12]])
def test_no_weight_is_lost(sizes: list[int]) -> None:
    """One that starts before is read whole, and what no weight needs is not asked
    for."""
    first = [bools("a", 12)] if sizes[0] else [bools("none", 0)]
    given = Given([first], [cut(numbered(12), sizes)])
    assert given.recut() == (given.files, 0)
    assert not list(zero_reads(given.model, given.shards, given.layout))


def test_whole() -> None:
    shards = [[Shard("a", 3), Shard("b", 0)], []]
    assert whole(shards) == ((Slice("a", 0, 3), Slice("b", 0, 0)), ())


# The manifest


GRAPH: Any = {"modelTopology": {"node": [], "library": {}}, "format": "graph-model"}
LAYERS: Any = {"modelTopology": LAYERS_TOPOLOGY, "format": "layers-model"}
FLATTEN: Any = {"modelTopology": FLATTEN_TOPOLOGY, "format": "layers-model"}
NO_WEIGHTS: Any = [{"paths": [], "weights": []}]


@pytest.mark.parametrize(
    ("document", "manifest", "repaired"),
    [
        (LAYERS, None, None),
        ({**FLATTEN, "weightsManifest": []}, None, "left out"),
        ({**FLATTEN, "weightsManifest": NO_WEIGHTS}, None, "left out"),
        # Its weights are lost, and the browser is to say so.
        ({**LAYERS, "weightsManifest": []}, [], None),
        ({**LAYERS, "weightsManifest": NO_WEIGHTS}, NO_WEIGHTS, None),
        (dense_document("w.bin"), dense_document("w.bin")["weightsManifest"], None),
        (GRAPH, [], "added"),
        ({**GRAPH, "weightsManifest": []}, [], None),
        ({**GRAPH, "weightsManifest": NO_WEIGHTS}, NO_WEIGHTS, None),
    ],
)
def test_manifest(document: Any, manifest: Any, repaired: str | None) -> None:
    model = parse(json.dumps(document).encode(), "model.json")
    assert model is not None
    mended, repairs = mend_manifest(model)
    assert mended.get("weightsManifest") == manifest
    assert mended.keys() - {"weightsManifest"} == document.keys() - {"weightsManifest"}
    assert [str(repair) for repair in repairs] == [
        f"weightsManifest: {reason}"
        for reason in [
            "is empty, which loadLayersModel() with onProgress refuses; it is left out"
            if repaired == "left out"
            else "is missing, which loadGraphModel() refuses; an empty one is added"
        ]
        if repaired
    ]


def test_a_list_has_no_manifest_to_mend() -> None:
    model = parse(json.dumps(NO_WEIGHTS).encode(), "m.json")
    assert model is not None
    assert mend_manifest(model) == (NO_WEIGHTS, [])


# On the way out


def serve(
    make_app: MakeApp, tmp_path: Path, repair: bool = True, **model: Any
) -> Flask:
    write_model(tmp_path / "m", **model)
    return make_app(TFJS_MODELS={"m": tmp_path / "m"}, TFJS_REPAIR=repair)


def load(client: FlaskClient) -> list[list[bytes]]:
    """The shards of each group, as the client gets them."""
    with client.get(URL) as response:
        assert response.status_code == 200, response.data
        document = response.get_json()
    groups = document if isinstance(document, list) else document["weightsManifest"]
    return [[get(client, path) for path in group["paths"]] for group in groups]


def get(client: FlaskClient, path: str, **headers: str) -> bytes:
    with client.get(f"/models/m/{path}", headers=headers) as response:
        assert response.status_code in (200, 206)
        data: bytes = response.data
        return data


@pytest.mark.parametrize("age", [lambda app: None, grow_old], ids=["young", "old"])
def test_a_last_shard_that_is_larger(
    make_app: MakeApp, tmp_path: Path, age: Callable[[Flask], None]
) -> None:
    app = serve(make_app, tmp_path, shards=QUARTERS)
    age(app)
    client = app.test_client()
    before = {path: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    assert load(client) == [[DENSE_BYTES[:8], DENSE_BYTES[8:20], DENSE_BYTES[20:]]]
    # The files are as they were, on disk and under their own names.
    assert {path: path.read_bytes() for path in (tmp_path / "m").iterdir()} == before
    for name, data in QUARTERS.items():
        assert get(client, name) == data


def test_a_slice_is_a_resource_of_its_own(make_app: MakeApp, tmp_path: Path) -> None:
    client = serve(make_app, tmp_path, shards=QUARTERS).test_client()
    paths = client.get(URL).get_json()["weightsManifest"][0]["paths"]
    for path, data in zip(
        paths[1:], (DENSE_BYTES[8:20], DENSE_BYTES[20:]), strict=True
    ):
        assert path.startswith("b.")
        with client.get(f"/models/m/{path}") as response:
            assert response.data == data
            assert response.headers["Content-Length"] == "12"
            tag = response.headers["ETag"]
        assert tag.strip('"') == path.split(".")[1]
        assert get(client, path, Range="bytes=3-6") == data[3:7]
        assert get(client, path, Range="bytes=-5") == data[-5:]
        with client.get(f"/models/m/{path}", headers={"Range": "bytes=12-"}) as beyond:
            assert beyond.headers["Content-Range"] == "bytes */12"
        with client.get(f"/models/m/{path}", headers={"If-None-Match": tag}) as same:
            assert same.status_code == 304
    tags = {client.head(f"/models/m/{path}").headers["ETag"] for path in paths}
    assert len(tags) == 3


def test_slices_from_another_process(make_app: MakeApp, tmp_path: Path) -> None:
    first = serve(make_app, tmp_path, shards=QUARTERS).test_client()
    paths = first.get(URL).get_json()["weightsManifest"][0]["paths"]
    second = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    assert b"".join(get(second, path) for path in paths) == DENSE_BYTES


def test_a_shard_named_by_two_entries(make_app: MakeApp, tmp_path: Path) -> None:
    """Whole in one of them, cut in the other."""
    weights = [{"name": "w", "shape": [6], "dtype": "float32"}]
    document = {"weightsManifest": [{"paths": ["b.bin"], "weights": weights}]}
    app = serve(make_app, tmp_path, shards=QUARTERS)
    write_model(tmp_path / "m", entry="half.json", document=document, shards={})
    client = app.test_client()
    assert b"".join(load(client)[0]) == DENSE_BYTES
    with client.get("/models/m/half.json") as response:
        (path,) = response.get_json()["weightsManifest"][0]["paths"]
    assert get(client, path) == DENSE_BYTES[8:]
    assert b"".join(load(client)[0]) == DENSE_BYTES


def test_empty_shards(make_app: MakeApp, tmp_path: Path) -> None:
    shards = {"a.bin": b"", "b.bin": b"", "c.bin": DENSE_BYTES}
    client = serve(make_app, tmp_path, shards=shards).test_client()
    assert load(client) == [[DENSE_BYTES]]
    assert [get(client, name) for name in shards] == list(shards.values())


def test_groups_of_a_bare_list(make_app: MakeApp, tmp_path: Path) -> None:
    document = [
        {"paths": ["a.bin", "b.bin"], "weights": DENSE_WEIGHTS},
        {"paths": ["c.bin"], "weights": [{**DENSE_WEIGHTS[0], "name": "other"}]},
    ]
    shards = {**QUARTERS, "c.bin": DENSE_BYTES[:24]}
    client = serve(make_app, tmp_path, document=document, shards=shards).test_client()
    first, second = load(client)
    assert [len(data) for data in first] == [8, 12, 12]
    assert b"".join(first) == DENSE_BYTES
    assert second == [DENSE_BYTES[:24]]


def test_no_weights(make_app: MakeApp, tmp_path: Path) -> None:
    document = {**FLATTEN, "weightsManifest": []}
    client = serve(make_app, tmp_path, document=document, shards={}).test_client()
    assert client.get(URL).get_json() == FLATTEN
    write_model(tmp_path / "m", document=GRAPH, shards={})
    assert client.get(URL).get_json() == {**GRAPH, "weightsManifest": []}


def test_what_cannot_be_repaired_is_refused(make_app: MakeApp, tmp_path: Path) -> None:
    shards = {"a.bin": DENSE_BYTES[:8], "b.bin": DENSE_BYTES[8:-1]}
    client = serve(make_app, tmp_path, shards=shards).test_client()
    assert client.get(URL).status_code == 500


# TFJS_REPAIR = False


def test_repair_is_off(make_app: MakeApp, tmp_path: Path) -> None:
    app = serve(make_app, tmp_path, False, shards=QUARTERS)
    with app.test_client().get(URL) as response:
        assert (response.status_code, response.get_json()) == (
            500,
            {
                "error": f"b.bin: {READS_ZEROS}; cut the weights into shards of one "
                "size, the last one not larger, or let TFJS_REPAIR do so"
            },
        )
    assert app.test_client().get("/models/m/b.bin").status_code == 500


@pytest.mark.parametrize("document", [{**LAYERS, "weightsManifest": []}, GRAPH])
def test_the_document_is_as_it_is(
    make_app: MakeApp, tmp_path: Path, document: Any
) -> None:
    app = serve(make_app, tmp_path, False, document=document, shards={})
    assert app.test_client().get(URL).get_json() == document


# What the commands say


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(tfjs, arguments)


@pytest.mark.parametrize(
    ("model", "repair"),
    [
        ({"shards": QUARTERS}, f"b.bin: {READS_ZEROS}; it is served in other cuts"),
        (
            {"document": GRAPH, "shards": {}},
            "weightsManifest: is missing, which loadGraphModel() refuses; an empty one "
            "is added",
        ),
        (
            {"document": {**FLATTEN, "weightsManifest": []}, "shards": {}},
            "weightsManifest: is empty, which loadLayersModel() with onProgress "
            "refuses; it is left out",
        ),
        ({}, None),
    ],
)
def test_show_and_check(
    make_app: MakeApp, tmp_path: Path, model: dict[str, Any], repair: str | None
) -> None:
    app = serve(make_app, tmp_path, **model)
    found = json.loads(run(app, "show", "m", "--json").stdout)
    assert found[0]["repairs"] == ([] if repair is None else [repair])
    shown = run(app, "show", "m").stdout.splitlines()
    lines = [line.split(maxsplit=1) for line in shown]
    assert [line[1] for line in lines if line[0] == "repaired"] == found[0]["repairs"]
    checked = run(app, "check", "m")
    assert checked.exit_code == 0
    note = f"note: m/model.json: repaired on the way out: {repair}"
    assert (note in checked.stdout.splitlines()) == (repair is not None)


def test_check_is_an_error_where_repair_is_off(
    make_app: MakeApp, tmp_path: Path
) -> None:
    checked = run(serve(make_app, tmp_path, False, shards=QUARTERS), "check", "m")
    assert checked.exit_code == 1
    assert f"error: m/model.json: b.bin: {READS_ZEROS}" in checked.stdout
