"""What ``model.save(url)`` sends (tfjs-core ``src/io/http.ts``): a multipart body of
two parts, checked and written to disk while it comes, whatever it claims of itself."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import BinaryIO

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import NEED_DATA
from werkzeug.sansio.multipart import Data
from werkzeug.sansio.multipart import Epilogue
from werkzeug.sansio.multipart import Event
from werkzeug.sansio.multipart import Field
from werkzeug.sansio.multipart import File
from werkzeug.sansio.multipart import MultipartDecoder

from ..errors import UploadRefused
from ..errors import printable
from ..format import strict_json
from ..format.cutting import cut
from ..format.layout import Layout
from ..format.layout import Shard
from ..format.layout import lay_out
from ..format.manifest import ModelJSON
from ..format.manifest import WeightsManifestGroup
from ..format.manifest import read_document
from ..format.manifest import shown
from ..format.repair import mend_manifest
from .files import BLOCK_SIZE
from .names import MAIN
from .shards import WEIGHTS
from .shards import ShardWriter
from .staged import StagedModel
from .store import Staging

#: Bytes read at once. The decoder refuses reads beyond what it may buffer.
READ_SIZE = 64 * 1024

#: Bytes of the part ``model.json``. A hostile one of 32 MB takes minutes and gigabytes;
#: the largest of the models on npm has 0.9 MB.
MAX_JSON_BYTES = 4 * 1024 * 1024

#: Groups of weights; ``model.save()`` sends one. Each has shards of its own.
MAX_GROUPS = 64

#: Elements of all weights of strings, which every reader must walk.
MAX_STRINGS = 1_000_000

# Bytes that the decoder may hold back: the headers of a part, or half a boundary.
_MAX_BUFFERED = 4 * READ_SIZE

#: Reads up to so many bytes of the body, none at its end.
Read = Callable[[int], bytes]


def receive(
    read: Read, boundary: bytes, staging: Staging, max_bytes: int
) -> StagedModel:
    """Read a whole upload into *staging*.

    :param boundary: of the multipart body.
    :param max_bytes: of the whole body.
    :raises UploadRefused: it is cut off, not what ``model.save()`` sends, or does not
        add up.
    :raises InvalidModel: no client could load it.
    :raises OSError: the disk is full, or fails.
    """
    with contextlib.closing(_Parts(staging, max_bytes)) as parts:
        for event in _events(read, boundary):
            if isinstance(event, (Field, File)):
                parts.begin(event.name)
            elif isinstance(event, Data):
                parts.add(event.data)
                if not event.more_data:
                    parts.end()
        return parts.model()


def _events(read: Read, boundary: bytes) -> Iterator[Event]:
    """The parts of a body, up to its last boundary."""
    decoder = MultipartDecoder(boundary, _MAX_BUFFERED)
    half_of_last = b"--" + boundary + b"-"
    event: Event = NEED_DATA
    try:
        while not isinstance(event, Epilogue):
            data = read(READ_SIZE)
            decoder.receive_data(data or None)  # nothing is the end, to it too
            if data and decoder.buffer.endswith(half_of_last):
                # Werkzeug 3.1.4 and later take half of the line end before it for data.
                continue
            event = decoder.next_event()
            while event is not NEED_DATA and not isinstance(event, Epilogue):
                yield event
                event = decoder.next_event()
    except ValueError:
        raise UploadRefused(
            400,
            "the body is cut off, or is no multipart body: its last boundary is "
            "missing; send the model again",
        ) from None
    except RequestEntityTooLarge:
        raise UploadRefused(
            400, "the body is no multipart body of parts with short headers"
        ) from None


class _Parts:
    """The two parts of an upload, in any order.

    Where the JSON comes first, as browsers send it, it tells where to cut the weights,
    and they are written once. Otherwise they wait in a file of their own.
    """

    def __init__(self, staging: Staging, max_bytes: int) -> None:
        self._staging = staging
        self._max_bytes = max_bytes
        self._seen: list[str] = []
        self._json = bytearray()
        self._model: ModelJSON | None = None
        self._writer: ShardWriter | None = None
        self._spool: BinaryIO | None = None

    def begin(self, name: str | None) -> None:
        if name not in (MAIN, WEIGHTS):
            raise UploadRefused(
                400,
                f"a part is called {printable(shown(name))}; model.save() sends "
                f"{MAIN!r} and {WEIGHTS!r}",
            )
        if name in self._seen:
            raise UploadRefused(400, f"the part {name!r} comes twice")
        self._seen.append(name)
        if name == WEIGHTS:
            size = None if self._model is None else self._model.byte_length
            if self._model is None or size is None:
                self._spool = self._staging.create()
            else:
                self._begin_shards(self._model, size)

    def add(self, data: bytes) -> None:
        if self._seen[-1] == MAIN:
            self._json += data
            if len(self._json) > MAX_JSON_BYTES:
                raise UploadRefused(
                    413,
                    f"{MAIN!r} has more than the {MAX_JSON_BYTES} bytes it may have",
                )
        elif self._spool is not None:
            self._spool.write(data)
        elif self._writer is not None:
            self._writer.write(data)

    def end(self) -> None:
        if self._seen[-1] == MAIN:
            self._model = _read_model(bytes(self._json))
            self._json.clear()

    def model(self) -> StagedModel:
        """What was sent, once all of it is here."""
        model = self._model
        if model is None:
            raise UploadRefused(
                400, f"there is no part {MAIN!r}; send the model with model.save()"
            )
        received, needed = self._received(), model.byte_length
        if needed is not None and received != needed:
            raise UploadRefused(400, self._mismatch(received, needed))
        if self._writer is None:
            self._cut_spool(model, received)
        assert self._writer is not None
        document, _ = mend_manifest(model)
        return StagedModel(document, self._writer.shards())

    def close(self) -> None:
        for file in (self._writer, self._spool):
            if file is not None:
                file.close()

    def _begin_shards(self, model: ModelJSON, size: int) -> None:
        if size > self._max_bytes:  # and what would become of it need not be known
            raise UploadRefused(
                413,
                f"the weights have {size} bytes, TFJS_MAX_UPLOAD allows "
                f"{self._max_bytes}",
            )
        self._writer = ShardWriter(self._staging, cut(model, _lay_out(model, size)))

    def _received(self) -> int:
        if self._writer is not None:
            return self._writer.received
        return 0 if self._spool is None else self._spool.seek(0, os.SEEK_END)

    def _cut_spool(self, model: ModelJSON, size: int) -> None:
        layout = _lay_out(model, size, self._spool)
        if layout.surplus:
            raise UploadRefused(400, self._mismatch(size, size - layout.surplus))
        self._writer = ShardWriter(self._staging, cut(model, layout))
        if self._spool is not None:
            self._spool.seek(0)
            while block := self._spool.read(BLOCK_SIZE):
                self._writer.write(block)

    def _mismatch(self, received: int, needed: int) -> str:
        if WEIGHTS not in self._seen:
            return (
                f"there is no part {WEIGHTS!r}, but the manifest has weights of "
                f"{needed} bytes; a graph model must be loaded without streamWeights "
                "to be saved"
            )
        return (
            f"{WEIGHTS!r} has {received} bytes, but the weights of the manifest need "
            f"{needed}; send the model again"
        )


class _SpooledBytes:
    """The weights as they came, for what has to look into them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)


def _read_model(data: bytes) -> ModelJSON:
    document = strict_json.loads(data, MAIN)
    model = read_document(_without_weightless(document))
    if model is None:
        raise UploadRefused(
            400,
            f"{MAIN!r} is JSON, but not a TensorFlow.js model: it has neither "
            "'modelTopology' nor 'weightsManifest'",
        )
    if len(model.groups) > MAX_GROUPS:
        raise UploadRefused(
            400,
            f"the manifest has {len(model.groups)} groups; model.save() sends one, and "
            f"{MAX_GROUPS} are taken at most",
        )
    strings = sum(w.elements for w in model.weights if w.dtype == "string")
    if strings > MAX_STRINGS:
        raise UploadRefused(
            400, f"the weights have {strings} strings; {MAX_STRINGS} are taken at most"
        )
    return model


def _without_weightless(document: Any) -> Any:
    """Without the manifest that stands for a topology alone: its groups have no key
    ``weights`` (``getModelJSONForModelArtifacts`` in tfjs-core ``io_utils.ts``)."""
    if not isinstance(document, dict):
        return document
    manifest = document.get("weightsManifest")
    if not isinstance(manifest, list) or not manifest:
        return document
    if any(not isinstance(group, dict) or "weights" in group for group in manifest):
        return document
    return {key: value for key, value in document.items() if value is not manifest}


def _lay_out(model: ModelJSON, size: int, spool: BinaryIO | None = None) -> Layout:
    # All groups come in one part.
    weights = tuple(model.weights)
    group = WeightsManifestGroup("weightsManifest", (), weights)
    data = _SpooledBytes(spool or io.BytesIO())
    joined = dataclasses.replace(model, groups=(group,))
    return lay_out(joined, [[Shard(WEIGHTS, size)]], [data])
