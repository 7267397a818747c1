"""Names -> models."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..errors import InvalidModel
from ..errors import ModelNotFound
from .delivery import read
from .digests import Digests
from .directory import ModelDirectory
from .files import Root
from .names import is_name
from .published import PublishedModel
from .served import ServedModel
from .sources import Sources
from .store import LocalStore


class Catalogue:
    """The models of one registered blueprint of one app."""

    def __init__(
        self,
        sources: Sources,
        *,
        assets: Sequence[str] = (),
        link_roots: Sequence[str] = (),
        digests: Digests | None = None,
        repair: bool = True,
        store: LocalStore | None = None,
    ) -> None:
        self.sources = sources
        self.store = store
        self._assets = tuple(assets)
        self._link_roots = tuple(link_roots)
        self._repair = repair
        self.digests = digests or Digests()
        self._directories: dict[str, ModelDirectory] = {}
        self._published: dict[str, PublishedModel] = {}

    @property
    def fault(self) -> str | None:
        """Why names are missing that should be there."""
        fault = self.sources.fault
        return fault or (None if self.store is None else self.store.fault)

    def names(self) -> list[str]:
        """The registered and the published models."""
        registered = self.sources.all()
        for gone in self._directories.keys() - registered.keys():
            self._directories.pop(gone, None)
        published = self.store.names() if self.store is not None else []
        return sorted({*registered, *published})

    def path(self, name: str) -> str | None:
        """Where what is served as *name* lies."""
        path = self.sources.path(name)
        if path is None and self.store is not None and is_name(name):
            path = self.store.folder(name).path
        return path

    def is_twice(self, name: str) -> bool:
        """Whether *name* is registered and published, which nobody is to do."""
        store = self.store
        registered = self.sources.path(name) is not None
        return registered and store is not None and store.folder(name).is_published

    def model(self, name: str) -> ServedModel:
        """What is served as *name*.

        :raises ModelNotFound: nothing is registered or published so.
        :raises InvalidModel: the folder it would be in cannot be read.
        """
        path = self.sources.path(name)
        published = self._look_up_published(name) if path is None else None
        return published or self._directory(name, path)

    def _look_up_published(self, name: str) -> PublishedModel | None:
        if self.store is None or not is_name(name):
            return None
        if not self.store.folder(name).is_published or not self.store.spells(name):
            self._published.pop(name, None)
            return None
        published = self._published.get(name)
        if published is None:
            published = PublishedModel(name, self.store, lambda: self.digests.clock())
            self._published[name] = published
        return published

    def _directory(self, name: str, path: str | None) -> ModelDirectory:
        if path is None:
            unreadable = self.sources.unreadable
            if unreadable is not None:
                raise InvalidModel(
                    f"the folder of models cannot be read: {unreadable}", name
                )
            self._directories.pop(name, None)
            raise ModelNotFound(f"there is no model {name!r}")
        directory = self._directories.get(name)
        if directory is None or directory.path != path:
            directory = ModelDirectory(
                name,
                path,
                assets=self._assets,
                link_roots=self._link_roots,
                digests=self.digests,
                repair=self._repair,
            )
            self._directories[name] = directory
        return directory


def entry_at_the_top(path: str) -> str | None:
    """A JSON file of the directory *path* that is a model; sub-directories are not
    looked into. ``None`` where there is none or no directory."""
    try:
        names = sorted(name for name in os.listdir(path) if name.endswith(".json"))
    except OSError:
        return None
    readings = ((name, read(Root(path), name)) for name in names)
    return next((name for name, reading in readings if reading.is_entry), None)
