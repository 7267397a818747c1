"""What a person wants to see of all models at a glance; nothing is hashed for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import InvalidModel
from ..errors import ModelNotFound
from ..format.manifest import Kind
from .catalogue import Catalogue
from .directory import ModelDirectory

ModelState = Literal["ok", "broken", "empty", "missing"]


@dataclass(frozen=True, slots=True)
class EntrySummary:
    """One JSON entry.

    :ivar kind: ``None`` where it is broken; *fault* then says why.
    :ivar byte_length: bytes of its shards.
    """

    name: str
    kind: Kind | None
    byte_length: int
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """One registered name.

    :ivar fault: the first reason why not all of it can be served.
    """

    name: str
    path: str
    state: ModelState
    entries: tuple[EntrySummary, ...] = ()
    fault: str | None = None

    @property
    def byte_length(self) -> int:
        return sum(entry.byte_length for entry in self.entries)


def summarize(catalogue: Catalogue) -> Iterator[Summary]:
    """All registered models, in the order of their names."""
    for name in catalogue.names():
        try:
            yield summarize_directory(catalogue.directory(name))
        except ModelNotFound:  # unregistered since
            continue


def summarize_directory(directory: ModelDirectory) -> Summary:
    try:
        names = directory.entries()
    except InvalidModel as fault:
        return Summary(directory.name, directory.path, "missing", fault=fault.message)
    entries = tuple(_entry(directory, name) for name in names)
    faults = [entry.fault for entry in entries if entry.fault is not None]
    state: ModelState = "ok" if entries else "empty"
    return Summary(
        directory.name,
        directory.path,
        "broken" if faults else state,
        entries,
        faults[0] if faults else None,
    )


def _entry(directory: ModelDirectory, name: str) -> EntrySummary:
    try:
        found = directory.examine(name)
    except (InvalidModel, ModelNotFound) as fault:
        return EntrySummary(name, None, 0, str(fault))
    return EntrySummary(name, found.model.kind, found.byte_length)
