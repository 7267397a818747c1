"""Where the names of registered models come from: the app's configuration, a folder of
folders, and the file that ``flask tfjs register`` writes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
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
                        f"TFJS_MODELS: folder {entry.name!r} is passed over: {NAMES}; "
                        "rename it, or use a mapping"
                    )
        return models

    def _tell(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            logger.warning("%s", message)


@dataclass(frozen=True)
class Sources:
    """All names, the app's own configuration before the registry."""

    fixed: Mapping[str, str]
    folder: Folder | None = None
    registry: Registry | None = None

    def path(self, name: str) -> str | None:
        """The directory or ``.json`` file registered as *name*."""
        path = self.fixed.get(name)
        if path is None and self.folder is not None:
            path = self.folder.models().get(name)
        if path is None and self.registry is not None:
            path = self.registry.models().get(name)
        return path

    def is_configured(self, name: str) -> bool:
        """Whether *name* comes from the app's configuration."""
        folder = self.folder.models() if self.folder is not None else {}
        return name in self.fixed or name in folder

    def configured(self) -> list[str]:
        """The directories that come from the app's configuration."""
        folder = [self.folder.path] if self.folder is not None else []
        return [*self.fixed.values(), *folder]

    @property
    def fault(self) -> str | None:
        """Why names are missing that should be there."""
        self.all()
        for source in (self.folder, self.registry):
            if source is not None and source.fault is not None:
                return source.fault
        return None

    def all(self) -> dict[str, str]:
        models: dict[str, str] = {}
        if self.registry is not None:
            models.update(self.registry.models())
        if self.folder is not None:
            models.update(self.folder.models())
        models.update(self.fixed)
        return dict(sorted(models.items()))
