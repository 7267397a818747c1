"""Where the names of registered models come from: the app's configuration, a folder of
folders, and the file that ``flask tfjs register`` writes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass

from .digests import is_settled
from .names import NAMES
from .names import is_name
from .registry import Registry

logger = logging.getLogger("flask_tfjs")


class Folder:
    """A directory whose sub-directories are models of their names; looked into again
    when its time stamps change.

    :ivar unreadable: the system's reason why it cannot be looked into.
    """

    def __init__(self, path: str, clock: Callable[[], int] = time.time_ns) -> None:
        self.path = path
        self._clock = clock
        self.unreadable: str | None = None
        self._stamps: tuple[int, int] | None = None
        self._models: dict[str, str] = {}
        self._told: set[str] = set()

    def models(self) -> Mapping[str, str]:
        """Name -> directory."""
        try:
            status = os.stat(self.path)
            stamps = (status.st_mtime_ns, status.st_ctime_ns)
            if stamps != self._stamps:
                now = self._clock()
                self._models = self._look()
                self._stamps = stamps if is_settled(stamps, now) else None
            self.unreadable = None
        except OSError as error:
            self.unreadable = error.strerror
            self._tell(str(self.fault))
            self._stamps, self._models = None, {}
        return self._models

    @property
    def fault(self) -> str | None:
        """What to tell the owner when it cannot be looked into."""
        if self.unreadable is None:
            return None
        return f"TFJS_MODELS: {self.path} cannot be read: {self.unreadable}"

    def _look(self) -> dict[str, str]:
        models = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                passed_over = entry.name.startswith(".") or entry.name == "__pycache__"
                if passed_over or not os.path.isdir(entry.path):
                    continue
                if is_name(entry.name):
                    models[entry.name] = entry.path
                else:
                    self._tell(
                        f"{self.path}: folder {entry.name!r} is passed over: {NAMES}; "
                        "rename it"
                    )
        return models

    def _tell(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            logger.warning("%s", message)


@dataclass(frozen=True)
class Sources:
    """All names: the app's own configuration before the registry, in it single
    directories before folders of them, and of these the first."""

    fixed: Mapping[str, str]
    folders: tuple[Folder, ...] = ()
    registry: Registry | None = None

    def path(self, name: str) -> str | None:
        """The directory or ``.json`` file registered as *name*."""
        path = self.fixed.get(name)
        if path is None:
            found = (folder.models().get(name) for folder in self.folders)
            path = next(filter(None, found), None)
        if path is None and self.registry is not None:
            path = self.registry.models().get(name)
        return path

    def is_configured(self, name: str) -> bool:
        """Whether *name* comes from the app's configuration."""
        return name in self.fixed or any(name in f.models() for f in self.folders)

    def configured(self) -> list[str]:
        """The directories that come from the app's configuration."""
        return [*self.fixed.values(), *(folder.path for folder in self.folders)]

    @property
    def twins(self) -> Iterator[tuple[str, str, str]]:
        """Names that two directories have: the name, the directory that is served, and
        the one that is not."""
        served = dict(self.fixed)
        for folder in self.folders:
            for name, path in folder.models().items():
                first = served.setdefault(name, path)
                if os.path.realpath(first) != os.path.realpath(path):
                    yield name, first, path

    @property
    def unreadable(self) -> str | None:
        """The system's reason why a folder of models cannot be looked into."""
        return next((f.unreadable for f in self.folders if f.unreadable), None)

    @property
    def fault(self) -> str | None:
        """Why names are missing that should be there."""
        self.all()
        sources: list[Folder | Registry] = list(self.folders)
        if self.registry is not None:
            sources.append(self.registry)
        faults = [source.fault for source in sources if source.fault is not None]
        faults += [
            f"two directories are called {name!r}, and only {first} is served, not "
            f"{other}; rename one of them"
            for name, first, other in self.twins
        ]
        return faults[0] if faults else None

    def all(self) -> dict[str, str]:
        models: dict[str, str] = {}
        if self.registry is not None:
            models.update(self.registry.models())
        for folder in reversed(self.folders):
            models.update(folder.models())
        models.update(self.fixed)
        return dict(sorted(models.items()))
