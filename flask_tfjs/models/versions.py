"""The versions of a published model, as their JSON tells."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import InvalidModel
from ..format.manifest import ModelJSON
from ..format.manifest import parse
from ..format.release import Release
from ..format.release import changed_by_hand
from ..format.release import release_of
from .files import identify
from .names import MAIN
from .store import Folder
from .store import LocalStore
from .store import version_name
from .store import version_of

# Versions, of all models.
_MAX_REMEMBERED = 10_000


class Published(NamedTuple):
    """The JSON of a published version as it is on the disk.

    :ivar digest: what names its content, 32 hex digits; part of all its entity tags.
    """

    text: bytes
    digest: str
    model: ModelJSON
    release: Release


def digest_of(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:32]


def current(folder: Folder) -> Published | None:
    """The current version; ``None`` where nothing is published.

    :raises InvalidModel: its JSON was changed by hand.
    """
    return read(folder, MAIN)


def replaceable(folder: Folder) -> Published | None:
    """The current version, for a writer, who may put a sound one in place of a damaged
    one.

    :raises InvalidModel: what lies there is not ours.
    """
    try:
        return current(folder)
    except InvalidModel:
        if not folder.versions():
            raise
        return None


def stated_digest(folder: Folder, now: Published | None) -> str | None:
    """What a writer's preconditions are compared with: nothing matches a damaged
    version, which is there all the same.

    :param now: the current version, as :func:`replaceable` has it.
    """
    if now is not None:
        return now.digest
    return "" if folder.is_published else None


def read(folder: Folder, name: str, where: str | None = None) -> Published | None:
    """The version whose JSON the file *name* is; ``None`` where there is none.

    :param where: how messages call the file.

    :raises InvalidModel: it was changed by hand.
    """
    text = folder.read(name)
    if text is None:
        return None
    where = where or f"{os.path.basename(folder.path)}/{name}"
    model = parse(text, where)
    if model is None:
        raise InvalidModel("is not a TensorFlow.js model", where)
    release = release_of(model, where)
    if version_of(name) not in (None, release.version):
        raise changed_by_hand(where)
    return Published(text, digest_of(text), model, release)


def files_of(folder: Folder, release: Release) -> Iterator[str]:
    yield from (folder.join(name) for name in release.sha256)
    yield from (folder.asset_path(sha256) for sha256 in release.assets.values())


def releases(store: LocalStore, folder: Folder) -> dict[int, Release]:
    """What all versions that are there say of themselves, the newest first.

    :raises InvalidModel: a JSON was changed by hand.
    """
    found = {n: release_at(store, folder, n) for n in folder.versions()}
    return {number: release for number, release in found.items() if release is not None}


def release_at(store: LocalStore, folder: Folder, number: int) -> Release | None:
    """What the version *number* says of itself; ``None`` where there is none.

    :raises InvalidModel: its JSON was changed by hand.
    """
    path = folder.join(version_name(number))
    identity = identify(path)
    known, release = store.releases.get(path, (None, None))
    if known is None or known != identity:
        published = read(folder, version_name(number))
        release = published and published.release
        if len(store.releases) >= _MAX_REMEMBERED:
            store.releases.clear()
        store.releases[path] = identity, release
    return release
