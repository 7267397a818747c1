"""Where the weights of a published model are cut: the same bytes in shards that do not
change where their weights do not."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from models import LAYERS_TOPOLOGY
from models import write_model

from flask_tfjs.format.cutting import MAX_SHARD_BYTES
from flask_tfjs.format.cutting import MIN_SHARD_BYTES
from flask_tfjs.format.cutting import Span
from flask_tfjs.format.cutting import cut
from flask_tfjs.format.layout import Layout
from flask_tfjs.format.layout import Shard
from flask_tfjs.format.layout import lay_out
from flask_tfjs.format.manifest import ModelJSON
from flask_tfjs.format.manifest import read_document
from flask_tfjs.format.repair import first_unread_byte
from flask_tfjs.models.directory import ModelDirectory
from flask_tfjs.models.recutting import stage_directory
from flask_tfjs.models.store import LocalStore

K = 1024
M = 1024 * 1024

#: Bytes of each weight, for each group.
Groups = Sequence[Sequence[int]]


class Bytes:
    """The shards of a group, joined."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


def document_of(groups: Groups, *, is_list: bool = False) -> Any:
    manifest = [
        {
            "paths": [f"{index}.bin"],
            "weights": [
                {"name": f"{index}/{number}", "shape": [size], "dtype": "bool"}
                for number, size in enumerate(sizes)
            ],
        }
        for index, sizes in enumerate(groups)
    ]
    if is_list:
        return manifest
    return {"modelTopology": LAYERS_TOPOLOGY, "weightsManifest": manifest}


def laid_out(
    groups: Groups, surplus: Sequence[int] = (), *, is_list: bool = False
) -> tuple[ModelJSON, Layout]:
    """A model of weights of these sizes, and where they lie: each group in a shard that
    has so many bytes too many."""
    model = read_document(document_of(groups, is_list=is_list))
    assert model is not None
    more = [*surplus, *[0] * len(groups)]
    shards = [
        [Shard(f"{index}.bin", sum(sizes) + more[index])]
        for index, sizes in enumerate(groups)
    ]
    return model, lay_out(model, shards, [Bytes(b"")] * len(groups))


def lengths(groups: Groups, *, is_list: bool = False) -> list[list[int]]:
    model, layout = laid_out(groups, is_list=is_list)
    return [[span.length for span in spans] for spans in cut(model, layout)]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        # Small weights come together.
        ([[10]], [[10]]),
        ([[10, 20, 30]], [[60]]),
        ([[256 * K]], [[256 * K]]),
        ([[256 * K - 1, 1, 5]], [[256 * K, 5]]),
        ([[256 * K - 1, 2, 5]], [[256 * K + 1, 5]]),
        ([[128 * K, 128 * K, 128 * K]], [[256 * K, 128 * K]]),
        ([[256 * K, 256 * K, 10]], [[256 * K, 256 * K, 10]]),
        # A large weight has a shard of its own, whatever comes before and after.
        ([[100, 256 * K, 7]], [[100, 256 * K, 7]]),
        ([[100, 256 * K - 1, 7]], [[256 * K + 99, 7]]),
        ([[100, 4 * M - 100, 7]], [[100, 4 * M - 100, 7]]),
        ([[100, 4 * M, 7]], [[100, 4 * M, 7]]),
        # Larger weights are cut, and what is left of them is a shard too.
        ([[4 * M]], [[4 * M]]),
        ([[4 * M + 1]], [[4 * M, 1]]),
        ([[8 * M]], [[4 * M, 4 * M]]),
        ([[8 * M + 5, 3]], [[4 * M, 4 * M, 5, 3]]),
        ([[4 * M + 256 * K, 3]], [[4 * M, 256 * K, 3]]),
        ([[7, 4 * M + 1, 3]], [[7, 4 * M, 1, 3]]),
        ([[4 * M + 5, 4 * M]], [[4 * M, 5, 4 * M]]),
        # Small ones are not, not even where all but the largest count as small.
        ([[3 * M, 3 * M, *[4 * M] * 40]], [[3 * M, 3 * M, *[4 * M] * 40]]),
        ([[1 * M, 3 * M, *[4 * M] * 40]], [[4 * M] * 41]),
        # Large models have larger shards, up to 64 or so of them.
        ([[256 * K] * 64], [[256 * K] * 64]),
        ([[256 * K] * 66], [[512 * K] * 33]),
        ([[256 * K] * 130], [[1 * M] * 32 + [512 * K]]),
        ([[256 * K] * 260], [[2 * M] * 32 + [1 * M]]),
        ([[256 * K] * 520], [[4 * M] * 32 + [2 * M]]),
        ([[4 * M] * 100], [[4 * M] * 100]),
        # Each group has shards of its own.
        ([[20], [10]], [[20], [10]]),
        ([[10, 10], [20]], [[20], [20]]),
        ([[256 * K, 5], [5], [5]], [[256 * K, 5], [5], [5]]),
        # Weights without elements take no shard.
        ([], []),
        ([[]], [[]]),
        ([[0]], [[]]),
        ([[0, 0], [0]], [[], []]),
        ([[0, 5, 0]], [[5]]),
        ([[], [5]], [[], [5]]),
        ([[5], [0]], [[5], []]),
        ([[5], [], [5]], [[5], [], [5]]),
        # Of all shards but the last of one size tfjs takes that for the size of all,
        # and reads zeros beyond: the last, if larger, is cut in two.
        ([[100, 4 * M]], [[100, 2 * M, 2 * M]]),
        ([[10], [20]], [[10], [10, 10]]),
        ([[10], [25]], [[10], [13, 12]]),
        ([[1], [2]], [[1], [1, 1]]),
        ([[10], [20], []], [[10], [10, 10], []]),
        ([[256 * K, 256 * K + 1]], [[256 * K, 128 * K + 1, 128 * K]]),
        ([[10], [10], [10, 3]], [[10], [10], [7, 6]]),
        ([[10], [11], [12]], [[10], [11], [12]]),
    ],
)
def test_cuts(groups: Groups, expected: list[list[int]]) -> None:
    assert lengths(groups) == expected


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([[10], [20]], [[10], [20]]),
        ([[10], [100, 4 * M]], [[10], [100, 2 * M, 2 * M]]),
        ([[100, 4 * M], [10]], [[100, 2 * M, 2 * M], [10]]),
        ([[0], [10]], [[], [10]]),
    ],
)
def test_the_groups_of_a_bare_list_are_read_each_for_itself(
    groups: Groups, expected: list[list[int]]
) -> None:
    assert lengths(groups, is_list=True) == expected


def test_what_lies_between_weights_is_left_out() -> None:
    model, layout = laid_out([[5, 1], [7], [2]], surplus=[3, 0, 9], is_list=True)
    assert cut(model, layout) == ((Span(0, 6),), (Span(9, 16),), (Span(16, 18),))


def test_strings_are_as_long_as_their_data_says() -> None:
    strings = [b"a", b"", b"x" * 300 * K]
    data = b"".join(struct.pack("<I", len(one)) + one for one in strings)
    document = document_of([[5]])
    document["weightsManifest"][0]["weights"] = [
        {"name": "s", "shape": [3], "dtype": "string"},
        {"name": "w", "shape": [2], "dtype": "float32"},
    ]
    model = read_document(document)
    assert model is not None
    row = Bytes(data + bytes(8))
    layout = lay_out(model, [[Shard("0.bin", len(data) + 8)]], [row])
    end = len(data)
    assert cut(model, layout) == ((Span(0, end), Span(end, end + 8)),)


SIZES = st.one_of(
    st.integers(0, 3000),
    st.integers(0, 10 * M),
    st.sampled_from(
        [size + more for size in (MIN_SHARD_BYTES, 2 * M, 4 * M) for more in (-1, 0, 1)]
    ),
)
PURE = settings(deadline=None, max_examples=60)
GROUPS = st.lists(st.lists(SIZES, max_size=12), max_size=4)


@PURE
@given(GROUPS, st.booleans())
@example([[1], [2]], False)
def test_spans_are_the_weights(groups: Groups, is_list: bool) -> None:
    is_list = is_list and bool(groups)
    model, layout = laid_out(groups, is_list=is_list)
    cuts = cut(model, layout)
    assert len(cuts) == len(groups)
    start = 0
    for sizes, spans in zip(groups, cuts, strict=True):
        for span in spans:
            assert span.start == start
            assert 0 < span.length <= MAX_SHARD_BYTES
            start = span.stop
        assert sum(span.length for span in spans) == sum(sizes)


@PURE
@given(GROUPS, st.booleans())
def test_tfjs_reads_all_of_it(groups: Groups, is_list: bool) -> None:
    is_list = is_list and bool(groups)
    cuts = lengths(groups, is_list=is_list)
    rows = cuts if is_list else [[size for group in cuts for size in group]]
    for row in rows:
        assert first_unread_byte(row) is None


@PURE
@given(GROUPS)
@example([[3 * M] * 60])
@example([[3 * M, *[4 * M] * 40, 2 * M, 3 * M, 1, 3 * M]])
def test_only_large_weights_are_cut(groups: Groups) -> None:
    model, layout = laid_out(groups)
    spans = [span for group in cut(model, layout) for span in group]
    # The last may have been cut in two for the sake of the client.
    for span in spans[:-2]:
        inside = [w for w in layout.weights if w.start < span.stop < w.end]
        assert all(w.end - w.start > MAX_SHARD_BYTES for w in inside)


@PURE
@given(GROUPS)
def test_shards_are_not_small_without_need(groups: Groups) -> None:
    model, layout = laid_out(groups)
    for spans in cut(model, layout):
        for span in spans[:-2]:
            beside = [w for w in layout.weights if span.stop in (w.start, w.end)]
            is_large = any(w.end - w.start >= MIN_SHARD_BYTES for w in beside)
            assert span.length >= MIN_SHARD_BYTES or is_large


@PURE
@given(GROUPS)
def test_large_weights_share_no_shard(groups: Groups) -> None:
    model, layout = laid_out(groups)
    for span in (span for group in cut(model, layout) for span in group):
        inside = [
            w.end - w.start
            for w in layout.weights
            if w.start < span.stop and span.start < w.end
        ]
        assert len(inside) == 1 or max(inside) < MAX_SHARD_BYTES


@PURE
@given(st.lists(SIZES, min_size=1, max_size=12), st.lists(SIZES, min_size=1))
def test_what_comes_later_moves_no_cut(sizes: list[int], more: list[int]) -> None:
    """All but the last two shards stay: those that may have been open, or halved."""
    total = 16 * M  # up to which all models have shards of the same least size
    if sum(sizes) + sum(more) <= total:
        kept = lengths([sizes])[0][:-2]
        assert lengths([[*sizes, *more]])[0][: len(kept)] == kept


@PURE
@given(GROUPS, st.lists(st.integers(1, 5 * M), max_size=5))
def test_the_files_that_it_came_in_do_not_matter(
    groups: Groups, ends: list[int]
) -> None:
    model, layout = laid_out(groups)
    pieces = []
    for sizes in groups:
        stops = [*sorted(end for end in ends if end < sum(sizes)), sum(sizes)]
        starts = [0, *stops]
        pieces.append(
            [
                Shard("s", stop - start)
                for start, stop in zip(starts, stops, strict=False)
            ]
        )
    other = lay_out(model, pieces, [Bytes(b"")] * len(groups))
    assert cut(model, other) == cut(model, layout)


# Of real bytes

SMALL = 400
MODEL = [SMALL, 300 * K, 5 * M, SMALL, 256 * K, 100 * K, SMALL]


def stage(tmp_path: Path, data: bytes, shard_size: int) -> list[str]:
    """The names of the shards of a model of these bytes, in the files of a converter
    that cuts them all at that size."""
    shards = {
        f"{start}.bin": data[start : start + shard_size]
        for start in range(0, len(data), shard_size)
    }
    document = document_of([MODEL])
    document["weightsManifest"][0]["paths"] = list(shards)
    directory = write_model(
        tmp_path / f"{shard_size}", document=document, shards=shards
    )
    with LocalStore(str(tmp_path / "store")).stage() as staging:
        source = ModelDirectory("m", str(directory))
        model = stage_directory(source, "model.json", staging)
        joined = b"".join(Path(s.path).read_bytes() for g in model.shards for s in g)
    assert joined == data
    return [shard.name for group in model.shards for shard in group]


def test_a_weight_changes_the_shards_it_lies_in(tmp_path: Path) -> None:
    chance = random.Random(0)
    data = chance.randbytes(sum(MODEL))
    before = stage(tmp_path, data, 4 * M)
    assert len(set(before)) == len(before) > 3
    model, layout = laid_out([MODEL])
    (spans,) = cut(model, layout)
    for weight in layout.weights:
        # All bytes of it are others.
        bytes_of_it = bytes(byte ^ 1 for byte in data[weight.start : weight.end])
        other = data[: weight.start] + bytes_of_it + data[weight.end :]
        after = stage(tmp_path, other, 4 * M)
        changed = [a != b for a, b in zip(before, after, strict=True)]
        assert changed == [
            s.start < weight.end and weight.start < s.stop for s in spans
        ]


def test_the_same_weights_have_the_same_shards(tmp_path: Path) -> None:
    data = random.Random(0).randbytes(sum(MODEL))
    names = stage(tmp_path, data, 4 * M)
    assert stage(tmp_path, data, 1 * M) == stage(tmp_path, data, 10 * M) == names
