"""Names -> directories."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..errors import InvalidModel
from ..errors import ModelNotFound
from .delivery import read
from .digests import Digests
from .directory import ModelDirectory
from .files import Root
from .sources import Sources


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
    ) -> None:
        self.sources = sources
        self._assets = tuple(assets)
        self._link_roots = tuple(link_roots)
        self._repair = repair
        self.digests = digests or Digests()
        self._directories: dict[str, ModelDirectory] = {}

    def names(self) -> list[str]:
        names = self.sources.all()
        for gone in self._directories.keys() - names.keys():
            self._directories.pop(gone, None)
        return list(names)

    def directory(self, name: str) -> ModelDirectory:
        """The directory registered as *name*.

        :raises ModelNotFound: there is none.
        :raises InvalidModel: the folder it would be in cannot be read.
        """
        path = self.sources.path(name)
        folder = self.sources.folder
        if path is None and folder is not None and folder.unreadable is not None:
            raise InvalidModel(
                f"the folder of models cannot be read: {folder.unreadable}", name
            )
        if path is None:
            self._directories.pop(name, None)
            raise ModelNotFound(f"no model is registered as {name!r}")
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
