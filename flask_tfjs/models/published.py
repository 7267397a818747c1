"""A published model as it is served. Nothing is hashed for it: its files are named by
their content, and never change."""

from __future__ import annotations

import contextlib
import hashlib
import time
import zlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import InvalidModel
from ..errors import ModelNotFound
from ..format.layout import Shard
from ..format.manifest import ModelJSON
from ..format.paths import content_stem
from ..format.release import Release
from ..format.repair import whole
from .delivery import Delivery
from .delivery import Examination
from .delivery import Piece
from .delivery import lay_out_files
from .delivery import unreadable
from .digests import Digest
from .digests import is_settled
from .files import Identity
from .files import OpenFile
from .files import Root
from .files import identify
from .names import MAIN
from .served import ServedFile
from .served import ServedModel
from .store import LocalStore
from .store import version_of
from .versions import Published
from .versions import read
from .versions import release_at

# Shards whose whole digests are remembered.
_MAX_REMEMBERED = 10_000


class _Known(NamedTuple):
    """A version as it was when it was looked at.

    :ivar identity: of the JSON.
    :ivar settled: whether that identity means the same content from now on.
    :ivar shards: the files of the shards, and their identities.
    """

    identity: Identity | None
    settled: bool
    shards: dict[str, Identity]
    delivery: Delivery
    release: Release

    def is_whole(self) -> bool:
        return all(identify(path) == seen for path, seen in self.shards.items())


class PublishedModel(ServedModel):
    """The versions of one name in the store."""

    def __init__(
        self, name: str, store: LocalStore, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.name = self.label = name
        self._store = store
        self._folder = store.folder(name)
        self.path = self._folder.path
        self.root = Root(self.path)
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._sha256: dict[str, str] = {}

    def entries(self) -> list[str]:
        return [MAIN]

    def main(self) -> Delivery:
        return self.delivery(MAIN)

    def delivery(self, entry: str) -> Delivery:
        return self._look(entry).delivery

    def ready(self, entry: str | None) -> Delivery | None:
        return self.delivery(entry or MAIN)

    def examine(self, entry: str) -> Examination:
        model = self._read(entry).model
        shards = self._shards(model, {})
        layout = lay_out_files(self.root, model, shards)
        return Examination(model, shards, layout, whole(shards), model.document, ())

    def damaged_files(self) -> Iterator[str]:
        release = self._look(MAIN).release
        files = {name: self._folder.join(name) for name in release.sha256}
        files |= {n: self._folder.asset_path(d) for n, d in release.assets.items()}
        expected = {**release.sha256, **release.assets}
        for name, path in files.items():
            if _hash(path) != expected[name]:
                yield name

    def file(self, name: str) -> ServedFile:
        if content_stem(name) is not None and "/" not in name:
            sha256 = self._sha256_of(name)
            return self._serve(name, self._folder.join(name), sha256, shard=True)
        asset = self._look(MAIN).release.assets.get(name)
        if asset is None:
            raise self._no_such(name)
        path = self._folder.asset_path(asset)
        return self._serve(name, path, asset, shard=False)

    def is_shard(self, name: str) -> bool:
        return False  # none of ours is called like a JSON

    def no_model(self) -> str:
        return "it was taken from the air; publish it again"

    def versions(self) -> list[int]:
        return self._folder.versions()

    def _look(self, entry: str) -> _Known:
        """The version *entry*, as it is now."""
        path = self._folder.join(entry)
        identity, now = identify(path), self._clock()
        known = self._known.get(entry)
        if known is None or known.identity != identity or not known.settled:
            published = self._read(entry)
            if known is None or known.delivery.digest != published.digest:
                known = self._load(entry, published)
            settled = identity is not None and is_settled(identity.stamps, now)
            known = known._replace(identity=identity, settled=settled)
        elif not self._folder.is_published:
            raise self._no_such(entry)
        if not known.is_whole():
            known = self._load(entry, self._read(entry))
        self._known[entry] = known
        return known

    def _read(self, entry: str) -> Published:
        if self._folder.is_published and (entry == MAIN or version_of(entry)):
            try:
                published = read(self._folder, entry, entry)
            except OSError as error:
                raise unreadable(error, entry) from None
            if published is not None:
                return published
        self._known.pop(entry, None)
        raise self._no_such(entry)

    def _load(self, entry: str, published: Published) -> _Known:
        for known in list(self._known):  # other threads add to it meanwhile
            if not identify(self._folder.join(known)):
                self._known.pop(known, None)
        watched: dict[str, Identity] = {}
        shards = self._shards(published.model, watched)
        needed = published.model.byte_length
        size = sum(shard.size for group in shards for shard in group)
        if needed not in (None, size):
            raise InvalidModel(
                f"the shards have {size} bytes, the weights need {needed}; publish the "
                "model again",
                "weightsManifest",
            )
        pieces = {}
        for name, sha256 in published.release.sha256.items():
            identity = watched[self._folder.join(name)]
            pieces[name] = Piece(name, _digest(identity, sha256))
        delivery = Delivery(
            entry=entry,
            digest=published.digest,
            files={name: piece.digest for name, piece in pieces.items()},
            pieces=pieces,
            _paths=tuple(group.paths for group in published.model.groups),
            _packed=zlib.compress(published.text),
            verbatim=True,
            pinned=entry != MAIN,
        )
        return _Known(None, False, watched, delivery, published.release)

    def _sha256_of(self, shard: str) -> str:
        """The whole digest of a shard, half of which is in its name."""
        known = self._sha256.get(shard)
        # Whoever asks for what is not there must not make us look for it.
        if known is None and identify(self._folder.join(shard)):
            known = self._find(shard)
            if len(self._sha256) >= _MAX_REMEMBERED:
                self._sha256.clear()
            self._sha256[shard] = known
        if known is None:
            raise self._no_such(shard)
        return known

    def _find(self, shard: str) -> str:
        with contextlib.suppress(InvalidModel, ModelNotFound):
            sha256 = self._look(MAIN).release.sha256.get(shard)
            if sha256 is not None:
                return sha256
        for number in self._folder.versions():
            with contextlib.suppress(InvalidModel, OSError):
                release = release_at(self._store, self._folder, number)
                if release is not None and shard in release.sha256:
                    return release.sha256[shard]
        raise self._no_such(shard)

    def _shards(
        self, model: ModelJSON, watched: dict[str, Identity]
    ) -> tuple[tuple[Shard, ...], ...]:
        """The shards of each group. What is in them was checked when they were
        published, and is what their names say.

        :param watched: is filled with each file and its identity.
        """
        return tuple(
            tuple(self._shard(path, watched) for path in group.paths)
            for group in model.groups
        )

    def _shard(self, name: str, watched: dict[str, Identity]) -> Shard:
        path = self._folder.join(name)
        identity = identify(path)
        if identity is None:
            raise InvalidModel(
                f"{name} is missing; put it back or publish the model again",
                "weightsManifest",
            )
        watched[path] = identity
        return Shard(name, identity.size)

    def _serve(self, name: str, path: str, sha256: str, *, shard: bool) -> ServedFile:
        identity = identify(path)
        if identity is None or not self._folder.is_published:
            raise self._no_such(name)
        digest = _digest(identity, sha256)
        return ServedFile(name, path, digest, shard=shard, immutable=shard)

    def _no_such(self, name: str) -> ModelNotFound:
        return ModelNotFound(f"{self.name!r} has no file {name!r}")


def _digest(identity: Identity, sha256: str) -> Digest:
    return Digest(identity, 0, identity.size, bytes.fromhex(sha256), settled=True)


def _hash(path: str) -> str | None:
    """The digest of a file; ``None`` where it cannot be read."""
    hasher = hashlib.sha256()
    try:
        with OpenFile(path) as file:
            for block in file.blocks():
                hasher.update(block)
    except OSError:
        return None
    return hasher.hexdigest()
