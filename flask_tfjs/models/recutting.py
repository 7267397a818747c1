"""From a directory as a converter wrote it to a model that can be published: the same
weights in other shards, and the assets beside them."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable
from collections.abc import Iterator

from ..format.cutting import cut
from ..format.paths import content_stem
from .delivery import BeingWritten
from .delivery import Delivery
from .delivery import Examination
from .directory import ModelDirectory
from .files import FileChanged
from .names import MAIN
from .served import open_body
from .shards import ShardWriter
from .staged import StagedFile
from .staged import StagedModel
from .store import Staging
from .store import version_of

Progress = Callable[[int], object]


def stage_directory(
    directory: ModelDirectory,
    entry: str,
    staging: Staging,
    progress: Progress = lambda length: None,
) -> StagedModel:
    """Copy the model *entry* of *directory* into *staging*.

    :param progress: is called with the number of bytes copied since the last call.
    :raises ModelNotFound: there is no such file, or it is not a model.
    :raises InvalidModel: it cannot be loaded, or is written to meanwhile.
    :raises OSError: it cannot be read; or the disk is full, or fails.
    """
    try:
        return _stage(directory, entry, staging, progress)
    except FileChanged as change:
        raise BeingWritten(change.name) from None


def _stage(
    directory: ModelDirectory, entry: str, staging: Staging, progress: Progress
) -> StagedModel:
    delivery = directory.delivery(entry)
    found = directory.examine(entry)
    with contextlib.closing(
        ShardWriter(staging, cut(found.model, found.layout))
    ) as writer:
        for block in _blocks(directory, delivery, found):
            writer.write(block)
            progress(len(block))
        shards = writer.shards()
    assets = dict(_stage_assets(directory, entry, staging))
    # The JSON and its shards were looked at twice.
    if directory.delivery(entry).digest != delivery.digest:
        raise BeingWritten(entry)
    return StagedModel(found.document, shards, assets)


def _blocks(
    directory: ModelDirectory, delivery: Delivery, found: Examination
) -> Iterator[bytes]:
    for name in (shard.name for shard in found.every_shard):
        digest = delivery.files.get(name)
        if digest is None:
            raise BeingWritten(delivery.entry)
        path = directory.root.join(name)
        with contextlib.closing(open_body(path, digest, 0, digest.length)) as body:
            yield from body


def _stage_assets(
    directory: ModelDirectory, entry: str, staging: Staging
) -> Iterator[tuple[str, StagedFile]]:
    for name in directory.assets_beside(entry):
        base = posixpath.basename(name)
        if base == MAIN or version_of(base) or content_stem(base) is not None:
            continue  # a name that means something else in the store
        served = directory.file(name)
        digest = served.digest
        with contextlib.closing(
            open_body(served.path, digest, 0, digest.length)
        ) as body:
            path = staging.copy(body)
        yield base, StagedFile(base, path, digest.sha256.hex())
