"""From a JSON file to what is delivered, or to the reason why not."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import time
import zlib
from bisect import bisect_right
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from itertools import accumulate
from types import MappingProxyType
from typing import Any
from typing import NamedTuple

from ..errors import InvalidModel
from ..format import strict_json
from ..format.excerpt import excerpt
from ..format.excerpt import placed_anew
from ..format.layout import Layout
from ..format.layout import PlacedWeight
from ..format.layout import Shard
from ..format.layout import lay_out
from ..format.manifest import ModelJSON
from ..format.manifest import parse
from ..format.manifest import read_document
from ..format.manifest import seems_a_model
from ..format.manifest import with_paths
from ..format.paths import content_name
from ..format.paths import file_names
from ..format.paths import relative_url
from ..format.repair import Cuts
from ..format.repair import Repair
from ..format.repair import Slice
from ..format.repair import mend_manifest
from ..format.repair import recut
from ..format.repair import refuse_zero_reads
from ..format.repair import whole
from ..keras.constants import decoded
from ..keras.mending import mend
from ..keras.weights import Stored
from .digests import Digest
from .digests import Digests
from .digests import is_settled
from .files import Identity
from .files import OpenFile
from .files import Root
from .files import identify
from .quiet import find_unrest

# Part of a model's digest: raise it whenever one model's JSON is written differently,
# or clients would keep the old text under the same tag.
_JSON_VERSION = b"flask-tfjs json 2"

# A Git LFS pointer has about 130 bytes.
_POINTER_SIZE = 1024

_WINDOW_SIZE = 64 * 1024

# Seconds.
_SECOND_LOOK = 0.02

# After a change was seen; the next look tells how long to wait.
_AGAIN_NS = 50_000_000

_MARKUP = (b"<!doctype", b"<html", b"<?xml")


class Piece(NamedTuple):
    """A shard or a slice of one.

    :ivar file: the name of the file, relative to the model's root.
    """

    file: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Delivery:
    """A sound model, as it was on disk at one moment. Immutable.

    :ivar entry: the JSON's name relative to the model's root.
    :ivar digest: 32 hex digits over the JSON and the content of its shards.
    :ivar files: digest of each shard, by its name relative to the root.
    :ivar pieces: what the JSON names: a shard or a slice of one, by the name of its
        content, beside the JSON and so relative to the root too.
    :ivar verbatim: whether the JSON goes out byte for byte, if nothing is asked of its
        paths.
    :ivar pinned: whether the JSON's own name means these bytes for ever.
    """

    entry: str
    digest: str
    files: Mapping[str, Digest]
    pieces: Mapping[str, Piece]
    _paths: tuple[tuple[str, ...], ...]
    _packed: bytes = field(repr=False)
    verbatim: bool = False
    pinned: bool = False

    def manifest(self, directory: str, prefix: str = "") -> bytes:
        """The model's JSON, with manifest paths that lead from a URL to the shards.

        :param directory: what the URL's own directory is, relative to the root.
        :param prefix: put before each path, already escaped.
        """
        text = zlib.decompress(self._packed)
        if self.verbatim and not prefix:
            return text
        document = json.loads(text)
        paths = [[prefix + path for path in group] for group in self.paths(directory)]
        return strict_json.dumps(with_paths(document, paths))

    def paths(self, directory: str) -> list[list[str]]:
        """For each group the URLs of its pieces, relative to that of *directory*."""
        return [[relative_url(directory, n) for n in group] for group in self._paths]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a JSON file turned out to be, and for how long that holds.

    :ivar outcome: the model; why it cannot be loaded; ``None`` for another JSON.
    :ivar watched: each file looked at and its identity then; ``None``: there was none.
    :ivar settled: whether equal identities prove equal contents.
    """

    outcome: Delivery | InvalidModel | None
    watched: Mapping[str, Identity | None]
    settled: bool

    @property
    def is_fault(self) -> bool:
        """Whether the model cannot be loaded, and that is not for a moment only."""
        return isinstance(self.outcome, InvalidModel) and not isinstance(
            self.outcome, BeingWritten
        )

    def is_current(self) -> bool:
        return self.settled and self.changed() is None

    def changed(self) -> str | None:
        """The path of a file that is no longer what it was."""
        for path, seen in self.watched.items():
            if identify(path) != seen:
                return path
        return None


@dataclass(frozen=True, slots=True)
class Examination:
    """A model whose shards exist and add up.

    :ivar model: as it is served.
    :ivar shards: for each group of the JSON on disk its shards, in the order of
        ``paths``.
    :ivar layout: where the weights of *model* lie in them.
    :ivar cuts: for each group of *model* what is served of them.
    :ivar document: the JSON's value as it is served, but for ``paths``.
    :ivar repairs: what was mended.
    """

    model: ModelJSON
    shards: tuple[tuple[Shard, ...], ...]
    layout: Layout
    cuts: Cuts
    document: Any
    repairs: tuple[Repair, ...]

    @property
    def every_shard(self) -> Iterator[Shard]:
        """Those of all groups, in their order."""
        return (shard for group in self.shards for shard in group)

    @property
    def byte_length(self) -> int:
        """Bytes of all weights, as a client loads them."""
        return sum(cut.length for group in self.cuts for cut in group)


class Unreadable(InvalidModel):
    """A file cannot be read just now. The reason may lie outside of it, such as too
    many open files, and go away without a trace in its identity."""


class BeingWritten(Unreadable):
    """Somebody writes the model just now, so that its files may be of two moments.

    :ivar again_ns: nanoseconds after which another look may find it at rest.
    """

    def __init__(self, where: str, again_ns: int = _AGAIN_NS) -> None:
        super().__init__("is being written to; ask again", where)
        self.again_ns = again_ns


class Reading(NamedTuple):
    """A JSON file read, its shards not yet looked at.

    :ivar identity: of the JSON; ``None`` where there was none.
    :ivar model: ``None`` for another JSON, and where there is a fault.
    :ivar sha256: of the JSON's bytes.
    """

    identity: Identity | None
    model: ModelJSON | None = None
    fault: InvalidModel | None = None
    sha256: bytes = b""

    @property
    def is_entry(self) -> bool:
        """Whether it is a model, sound or broken."""
        return self.model is not None or self.fault is not None


def judge(root: Root, entry: str, digests: Digests, *, repair: bool = True) -> Verdict:
    """Look at the JSON file *entry* of *root* and at all its shards.

    :param repair: whether to mend what can be mended.
    """
    verdict = _judge_once(root, entry, digests, repair)
    if verdict.is_fault:
        # Linux cuts a file first and stamps it then: for a moment it looks old and cut.
        time.sleep(_SECOND_LOOK)
    # Two files of two moments must not make one model.
    changed = verdict.changed()
    if changed is None:
        return verdict
    fault = BeingWritten(os.path.relpath(changed, root.path))
    return Verdict(fault, verdict.watched, settled=False)


def read(root: Root, entry: str) -> Reading:
    """Read and parse the JSON file *entry* of *root*."""
    identity = root.identify(entry)
    if identity is None:
        return Reading(None)
    data = b""
    try:
        with root.open(entry) as file:
            identity = file.identity
            size = identity.size
            data = file.read(0, min(size, strict_json.MAX_BYTES))
        if size > strict_json.MAX_BYTES:
            raise InvalidModel(strict_json.too_large(size), entry)
        model = parse(data, entry)
    except OSError as error:
        return Reading(identity, fault=unreadable(error, entry))
    except InvalidModel as fault:
        return Reading(identity, fault=fault if _meant(entry, data, fault) else None)
    return Reading(identity, model, sha256=hashlib.sha256(data).digest())


def _meant(entry: str, data: bytes, fault: InvalidModel) -> bool:
    # A fault in a member is that of a model. Where the file as a whole is at fault it
    # may be any stray JSON, and a stray file must not become a broken model.
    return (
        fault.where != entry
        or posixpath.basename(entry) == "model.json"
        or seems_a_model(data)
    )


def examine(
    root: Root,
    entry: str,
    model: ModelJSON,
    watched: dict[str, Identity | None] | None = None,
    *,
    repair: bool = True,
) -> Examination:
    """Check *model*, read from *entry*, against its shards.

    :param watched: is filled with each file looked at and its identity.
    :param repair: whether to mend what can be mended.
    :raises InvalidModel: they are missing, not weights, or do not add up; or without
        *repair*, a client would misread them.
    """
    watched = {} if watched is None else watched
    names = _shard_names(root, entry, model, watched)
    known = {
        name: _shard(root, name, watched)
        for name in dict.fromkeys(name for group in names for name in group)
    }
    shards = tuple(tuple(known[name] for name in group) for group in names)
    layout = lay_out_files(root, model, shards)
    if not repair:
        refuse_zero_reads(model, shards, layout)
        return Examination(model, shards, layout, whole(shards), model.document, ())
    repairs: list[Repair] = []
    cuts: Cuts | None = None
    mended = mend(model, _Values(root, model, shards, layout))
    if mended is not None:
        written = read_document(mended.document)
        assert written is not None
        if sum(map(len, mended.kept)) < len(layout.weights):
            cuts = excerpt(shards, mended.kept, layout)
        layout = placed_anew(written, mended.kept, layout)
        model = written
        repairs += mended.repairs
    if cuts is None:
        cuts, recuts = recut(model, shards, layout)
        repairs += recuts
    document, left = mend_manifest(model)
    return Examination(model, shards, layout, cuts, document, (*left, *repairs))


def lay_out_files(
    root: Root, model: ModelJSON, shards: Sequence[Sequence[Shard]]
) -> Layout:
    """Place every weight of *model* in its shards, files of *root*.

    :raises InvalidModel: they do not add up, or cannot be read.
    """
    joined = [_JoinedShards(root, group) for group in shards]
    try:
        return lay_out(model, shards, joined)
    finally:
        for group_bytes in joined:
            group_bytes.close()


def stored_blocks(
    root: Root, found: Examination, weights: Iterable[PlacedWeight]
) -> Iterator[tuple[PlacedWeight, Iterator[bytes]]]:
    """The bytes of each of *weights*, in blocks that are whole values.

    :raises InvalidModel: a shard cannot be read.
    """
    joined = _JoinedShards(root, list(found.every_shard))
    try:
        for weight in weights:
            starts = range(weight.start, weight.end, _WINDOW_SIZE)
            yield (
                weight,
                (joined.read(s, min(_WINDOW_SIZE, weight.end - s)) for s in starts),
            )
    finally:
        joined.close()


def named_files(entry: str, model: ModelJSON) -> frozenset[str]:
    """All files that the manifest of *entry* may mean, there or not."""
    directory = posixpath.dirname(entry)
    names: set[str] = set()
    for path in (path for group in model.groups for path in group.paths):
        try:
            names.update(file_names(directory, path, entry))
        except InvalidModel:
            continue  # the verdict on the model says why
    return frozenset(names)


def _judge_once(root: Root, entry: str, digests: Digests, repair: bool) -> Verdict:
    now = digests.clock()
    reading = read(root, entry)
    watched: dict[str, Identity | None] = {root.join(entry): reading.identity}
    outcome: Delivery | InvalidModel | None
    try:
        found = _look(root, entry, reading, watched, repair)
        unrest = found and find_unrest(root.path, watched, digests.clock())
        if unrest:
            where = os.path.relpath(unrest.path, root.path)
            outcome = BeingWritten(where, unrest.again_ns)
        elif isinstance(found, Examination):
            outcome = _deliver(root, entry, reading.sha256, found, digests, watched)
        else:
            outcome = found
    except InvalidModel as fault:
        outcome = fault
    settled = not isinstance(outcome, Unreadable) and all(
        seen is None or is_settled(seen.stamps, now) for seen in watched.values()
    )
    return Verdict(outcome, MappingProxyType(watched), settled)


def _look(
    root: Root,
    entry: str,
    reading: Reading,
    watched: dict[str, Identity | None],
    repair: bool,
) -> Examination | InvalidModel | None:
    if reading.model is None:
        return reading.fault
    try:
        return examine(root, entry, reading.model, watched, repair=repair)
    except InvalidModel as fault:
        return fault


def _deliver(
    root: Root,
    entry: str,
    sha256: bytes,
    found: Examination,
    digests: Digests,
    watched: dict[str, Identity | None],
) -> Delivery:
    folder = posixpath.dirname(entry)
    files = {
        shard.name: _digest(root, Slice(shard.name, 0, shard.size), digests, watched)
        for group in found.shards
        for shard in group
    }
    pieces: dict[str, Piece] = {}
    paths: list[tuple[str, ...]] = []
    for cuts in found.cuts:
        names = []
        for cut in cuts:
            digest = files[cut.name]
            if cut.length != digest.length:
                digest = _digest(root, cut, digests, watched)
            name = posixpath.join(folder, content_name(cut.name, digest.sha256))
            pieces[name] = Piece(cut.name, digest)
            names.append(name)
        paths.append(tuple(names))
    text = strict_json.dumps(found.document)
    hasher = hashlib.sha256(_JSON_VERSION + sha256)
    if found.repairs:
        # Another version of this package may mend the same files otherwise.
        hasher.update(hashlib.sha256(text).digest())
    for name in (name for group in paths for name in group):
        hasher.update(name.encode() + b"\0" + pieces[name].digest.sha256)
    return Delivery(
        entry=entry,
        digest=hasher.hexdigest()[:32],
        files=MappingProxyType(files),
        pieces=MappingProxyType(pieces),
        _paths=tuple(paths),
        _packed=zlib.compress(text),
    )


def _shard_names(
    root: Root, entry: str, model: ModelJSON, watched: dict[str, Identity | None]
) -> list[list[str]]:
    directory = posixpath.dirname(entry)
    known: dict[str, str] = {}  # a path may occur a hundred thousand times
    for group in model.groups:
        for index, path in enumerate(group.paths):
            if path not in known:
                where = f"{group.where}.paths[{index}]"
                names = file_names(directory, path, where)
                known[path] = _existing(root, names, where, watched)
    return [[known[path] for path in group.paths] for group in model.groups]


def _existing(
    root: Root,
    names: Sequence[str],
    where: str,
    watched: dict[str, Identity | None],
) -> str:
    for name in names:
        path = root.join(name)
        identity = watched[path] = identify(path)
        if identity is not None:
            if root.holds(path):
                return name
            raise InvalidModel(
                f"{name[:200]} is a link that leads out of the registered directory; "
                "name the folder it leads to in TFJS_LINK_ROOTS",
                where,
            )
    raise InvalidModel(
        f"{names[0][:200]} is missing or not a regular file; put it back or convert "
        "the model again",
        where,
    )


def _shard(root: Root, name: str, watched: Mapping[str, Identity | None]) -> Shard:
    identity = watched[root.join(name)]
    assert identity is not None
    try:
        with root.open(name) as file:
            head = file.read(0, _POINTER_SIZE)
    except OSError as error:
        raise unreadable(error, name) from None
    if file.identity != identity:
        raise BeingWritten(name)
    if identity.size <= _POINTER_SIZE and head.startswith(strict_json.GIT_LFS_POINTER):
        raise InvalidModel(
            "is a Git LFS pointer, not the weights; run 'git lfs pull'", name
        )
    if head[:64].lstrip().lower().startswith(_MARKUP):
        raise InvalidModel(
            "is a page or an error message, not weights; download it again", name
        )
    return Shard(name, identity.size)


def _digest(
    root: Root, cut: Slice, digests: Digests, watched: dict[str, Identity | None]
) -> Digest:
    path = root.join(cut.name)
    identity = watched[path]
    assert identity is not None
    part = (cut.offset, cut.length) if cut.length != identity.size else ()
    try:
        digest = digests.of(path, *part)
    except OSError as error:
        raise unreadable(error, cut.name) from None
    if digest.identity != identity:
        # The sizes were checked on another content: not a verdict, but a reason.
        raise BeingWritten(cut.name)
    return digest


def unreadable(error: OSError, name: str) -> Unreadable:
    return Unreadable(f"cannot be read: {error.strerror or error}", name)


class _Values:
    """Reads the values of small weights."""

    def __init__(
        self,
        root: Root,
        model: ModelJSON,
        shards: Sequence[Sequence[Shard]],
        layout: Layout,
    ) -> None:
        self._root = root
        self._shards = [shard for group in shards for shard in group]
        self._places = {weight.spec.name: weight for weight in layout.weights}
        self._model = model

    def __call__(self, weight: Stored) -> Sequence[float]:
        """:raises InvalidModel: a shard cannot be read, or is being written to."""
        place = self._places[weight.name]
        joined = _JoinedShards(self._root, self._shards)
        try:
            data = joined.read(place.start, place.end - place.start)
        finally:
            joined.close()
        if len(data) != place.end - place.start:
            raise BeingWritten(self._shards[-1].name)
        entries = (e for e in self._model.entries if e["name"] == weight.name)
        return decoded(data, next(entries))


class _JoinedShards:
    """The shards of a group as one row of bytes, read through a window."""

    def __init__(self, root: Root, shards: Sequence[Shard]) -> None:
        self._root = root
        self._shards = shards
        self._starts = list(accumulate((s.size for s in shards), initial=0))
        self._open: tuple[str, OpenFile] | None = None
        self._start = 0
        self._window = b""

    def read(self, offset: int, length: int) -> bytes:
        end = self._start + len(self._window)
        if not (self._start <= offset and offset + length <= end):
            self._start = offset
            self._window = self._gather(offset, max(length, _WINDOW_SIZE))
        begin = offset - self._start
        return self._window[begin : begin + length]

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _gather(self, offset: int, length: int) -> bytes:
        parts = []
        for index in range(bisect_right(self._starts, offset) - 1, len(self._shards)):
            shard, begin = self._shards[index], offset - self._starts[index]
            part = self._file(shard.name).read(begin, min(length, shard.size - begin))
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
            if not length or len(part) < shard.size - begin:
                break
        return b"".join(parts)

    def _file(self, name: str) -> OpenFile:
        if self._open is None or self._open[0] != name:
            self.close()
            try:
                self._open = (name, OpenFile(self._root.join(name)))
            except OSError as error:
                raise unreadable(error, name) from None
        return self._open[1]
