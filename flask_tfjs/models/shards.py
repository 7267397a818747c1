"""A row of weights on its way into the store: cut into shards and hashed while it is
written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import BinaryIO

from ..format.cutting import Span
from ..format.paths import content_name
from .staged import StagedFile
from .store import Staging
from .store import sync

# What browsers call the weights that they save; so all shards are called.
WEIGHTS = "model.weights.bin"


class ShardWriter:
    """Writes a row of bytes as shards, safely on the disk. What lies between the spans
    is dropped.

    :ivar received: bytes of the row so far.
    """

    def __init__(self, staging: Staging, cuts: Sequence[Sequence[Span]]) -> None:
        self._staging = staging
        self._cuts = cuts
        self._pending = [span for spans in cuts for span in spans]
        self._pending.reverse()
        self._file: BinaryIO | None = None
        self._hasher = hashlib.sha256()
        self._written: list[StagedFile] = []
        self.received = 0

    def write(self, data: bytes) -> None:
        """:raises OSError: the disk is full, or fails."""
        view = memoryview(data)
        while view and self._pending:
            start, stop = self._pending[-1]
            ahead = max(start - self.received, 0)
            part = view[ahead : stop - self.received]
            if part:
                self._put(part)
            taken = min(stop - self.received, len(view))
            self.received += taken
            view = view[taken:]
            if self.received == stop:
                self._end_shard()
        self.received += len(view)

    def close(self) -> None:
        """Let go of a shard that was begun."""
        if self._file is not None:
            self._file.close()

    def shards(self) -> list[list[StagedFile]]:
        """The shards of each group, once all have been written."""
        assert not self._pending
        written = iter(self._written)
        return [[next(written) for _ in spans] for spans in self._cuts]

    def _put(self, part: memoryview) -> None:
        if self._file is None:
            self._file = self._staging.create()
            self._hasher = hashlib.sha256()
        self._hasher.update(part)
        self._file.write(part)

    def _end_shard(self) -> None:
        assert self._file is not None
        with self._file as file:
            sync(file)
        self._file = None
        self._pending.pop()
        sha256 = self._hasher.digest()
        name = content_name(WEIGHTS, sha256)
        self._written.append(StagedFile(name, file.name, sha256.hex()))
