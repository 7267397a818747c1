"""Publish, roll back, take from the air: one algorithm over the files of a store. New
files first, under names that nobody asks for yet; one file replaced last."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import InvalidModel
from ..errors import ModelNotFound
from ..errors import VersionNotFound
from ..format import strict_json
from ..format.manifest import with_paths
from ..format.release import Release
from ..format.release import with_release
from .assets import show_assets
from .names import MAIN
from .staged import StagedModel
from .store import Folder
from .store import LocalStore
from .store import Staging
from .store import version_name
from .versions import Published
from .versions import current
from .versions import digest_of
from .versions import files_of
from .versions import read
from .versions import replaceable
from .versions import stated_digest

logger = logging.getLogger("flask_tfjs")


class Version(NamedTuple):
    """One version of a published model.

    :ivar published: when, as RFC 3339 writes it, in UTC.
    :ivar etag: the digest of its JSON.
    :ivar byte_length: of its shards.
    :ivar new_bytes: of those shards that no version before had; ``None`` where that is
        not known.
    """

    number: int
    published: str
    etag: str
    is_current: bool
    shards: int
    byte_length: int
    new_bytes: int | None = None

    @property
    def file_name(self) -> str:
        """Of its JSON."""
        return version_name(self.number)


#: Is given the digest of the current version, ``None`` where there is none, and raises
#: where that is not what the writer started from.
Condition = Callable[[str | None], None]


def publish(
    store: LocalStore,
    name: str,
    staging: Staging,
    model: StagedModel,
    condition: Condition = lambda digest: None,
) -> Version:
    """Make *model* the current version of *name*.

    :raises VersionConflict: or what else *condition* raises.
    :raises InvalidModel: what lies there was not published by this package.
    :raises OSError: the disk is full, or fails. Nothing has changed then.
    """
    with store.writing(name) as folder:
        before = replaceable(folder)
        condition(stated_digest(folder, before))
        if not folder.is_published:
            _clear_remains(folder, staging)
        kept = _kept_assets(folder, before) if model.assets is None else {}
        assets = model.assets or {}
        release = Release(
            version=max(folder.last_version(), _number_of(before)) + 1,
            published=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            sha256={s.name: s.sha256 for group in model.shards for s in group},
            assets=kept | {name: file.sha256 for name, file in assets.items()},
        )
        text = _render(model, release)
        if len(text) > strict_json.MAX_BYTES:  # written anew it may be longer
            raise InvalidModel(strict_json.too_large(len(text)), MAIN)
        shards = {folder.join(s.name): s.path for group in model.shards for s in group}
        new = [staged for path, staged in shards.items() if not os.path.exists(path)]
        new_bytes = sum(os.stat(staged).st_size for staged in new)
        files = {folder.asset_path(a.sha256): a.path for a in assets.values()}
        _commit(folder, staging, before, release, text, shards | files)
        show_assets(store, folder, staging, release)
        return _describe(folder, text, release, is_current=True, new_bytes=new_bytes)


def versions(store: LocalStore, name: str) -> list[Version]:
    """All versions of *name* that are kept, the newest first.

    :raises ModelNotFound: nothing is published as *name*.
    """
    folder = store.folder(name)
    now = _require(folder, name)
    found = []
    for number in folder.versions():
        published = read(folder, version_name(number))
        if published is not None:  # it may go meanwhile
            is_current = number == now.release.version
            found.append(
                _describe(folder, published.text, published.release, is_current)
            )
    return found


def rollback(store: LocalStore, name: str, number: int) -> Version:
    """Make the version *number* of *name* the current one again.

    :raises ModelNotFound: nothing is published as *name*.
    :raises VersionNotFound: there is no such version, or no longer.
    :raises InvalidModel: files of it were removed by hand.
    """
    _require_published(store.folder(name), name)  # before anything is made for it
    with store.stage() as staging, store.writing(name) as folder:
        _require_published(folder, name)
        before = replaceable(folder)
        wanted = read(folder, version_name(number))
        if wanted is None:
            there = ", ".join(map(str, sorted(folder.versions())))
            raise VersionNotFound(f"{name!r} has no version {number}, only {there}")
        _require_files(folder, number, wanted.release)
        if before is None or number != before.release.version:
            staged = staging.write(wanted.text)
            _switch(folder, before, staged)
            show_assets(store, folder, staging, wanted.release)
        return _describe(folder, wanted.text, wanted.release, is_current=True)


def unpublish(store: LocalStore, name: str) -> None:
    """Remove all versions of *name*. Their numbers are never given again, since caches
    may hold what they meant.

    :raises ModelNotFound: nothing is published as *name*.
    """
    _require_published(store.folder(name), name)  # before anything is made for it
    with store.stage() as staging, store.writing(name) as folder:
        _require_published(folder, name)
        replaceable(folder)
        folder.remember_last_version(staging)
        folder.remove(folder.join(MAIN))
        _sync(folder)
        show_assets(store, folder, staging, None)
        # The JSONs last: as long as they are there, it is known what went with them.
        for path in [*folder.content_files(), *folder.version_files()]:
            folder.remove(path)


def _render(model: StagedModel, release: Release) -> bytes:
    paths = [[shard.name for shard in group] for group in model.shards]
    return strict_json.dumps(with_release(with_paths(model.document, paths), release))


def _commit(
    folder: Folder,
    staging: Staging,
    before: Published | None,
    release: Release,
    text: bytes,
    files: Mapping[str, str],
) -> None:
    """Bring all files into *folder*, the JSON last.

    What needs room on the disk is done before, so that a full one changes nothing.

    :param files: where to -> the staged file.
    """
    staged_version, staged_main = staging.write(text), staging.write(text)
    number = version_name(release.version)
    with contextlib.ExitStack() as undo:
        is_new = folder.make()
        if is_new:
            undo.callback(_remove_folder, folder)
        for path, staged in files.items():
            if folder.adopt(staged, path):
                undo.callback(folder.remove, path)
        # From the claim on somebody may have seen the number: nothing is to fail then.
        folder.sync(is_new=is_new)
        folder.claim(staged_version, number)
        undo.callback(folder.remove, folder.join(number))
        _switch(folder, before, staged_main)
        undo.pop_all()


def _switch(folder: Folder, before: Published | None, staged: str) -> None:
    """The commit."""
    if before is not None:
        # Whoever loads it just now is to find its shards for a while.
        folder.touch(version_name(before.release.version))
    folder.replace(staged, MAIN)
    _sync(folder)


def _sync(folder: Folder) -> None:
    """After a commit, which it is too late to take back."""
    try:
        folder.sync()
    except OSError as error:
        logger.warning(
            "%s was changed, but that is not yet safe from a crash of the machine: %s",
            folder.join(MAIN),
            error,
        )


def _remove_folder(folder: Folder) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(folder.asset_path("")))
    with contextlib.suppress(OSError):
        os.rmdir(folder.path)


def _number_of(before: Published | None) -> int:
    return before.release.version if before else 0


def _kept_assets(folder: Folder, before: Published | None) -> dict[str, str]:
    return dict(before.release.assets) if before else {}


def _describe(
    folder: Folder,
    text: bytes,
    release: Release,
    is_current: bool,
    new_bytes: int | None = None,
) -> Version:
    sizes = []
    for name in release.sha256:
        with contextlib.suppress(FileNotFoundError):
            sizes.append(os.stat(folder.join(name)).st_size)
    return Version(
        number=release.version,
        published=release.published,
        etag=digest_of(text),
        is_current=is_current,
        shards=len(release.sha256),
        byte_length=sum(sizes),
        new_bytes=new_bytes,
    )


def _require(folder: Folder, name: str) -> Published:
    now = current(folder)
    if now is None:
        raise _not_published(name)
    return now


def _require_published(folder: Folder, name: str) -> None:
    if not folder.is_published:
        raise _not_published(name)


def _not_published(name: str) -> ModelNotFound:
    return ModelNotFound(f"nothing is published as {name!r}")


def _require_files(folder: Folder, number: int, release: Release) -> None:
    for path in files_of(folder, release):
        if not os.path.exists(path):
            raise InvalidModel(
                f"version {number} lacks this file, which was removed by hand; put it "
                "back, or publish that version again",
                os.path.relpath(path, os.path.dirname(folder.path)),
            )


def _clear_remains(folder: Folder, staging: Staging) -> None:
    """Remove the versions that somebody who was killed left behind: what is published
    next must not put them on the air."""
    folder.remember_last_version(staging)
    for path in folder.version_files():
        folder.remove(path)
