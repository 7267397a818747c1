"""What a person wants to see of all models at a glance; nothing is hashed for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import InvalidModel
from ..errors import ModelNotFound
from ..format.manifest import Kind
from ..keras.script import needs_script
from .catalogue import Catalogue
from .served import ServedModel

ModelState = Literal["ok", "broken", "empty", "missing"]


@dataclass(frozen=True, slots=True)
class EntrySummary:
    """One JSON entry.

    :ivar kind: ``None`` where it is broken; *fault* then says why.
    :ivar byte_length: bytes of its shards.
    :ivar is_list: whether it is a bare list of groups of weights.
    :ivar needs_script: whether a page must load the script of layers, too.
    """

    name: str
    kind: Kind | None
    byte_length: int
    fault: str | None = None
    needs_script: bool = False
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """One registered or published name.

    :ivar fault: the first reason why not all of it can be served.
    :ivar versions: those published that are kept, the newest first.
    """

    name: str
    path: str
    state: ModelState
    entries: tuple[EntrySummary, ...] = ()
    fault: str | None = None
    versions: tuple[int, ...] = ()

    @property
    def byte_length(self) -> int:
        return sum(entry.byte_length for entry in self.entries)


def summarize(catalogue: Catalogue) -> Iterator[Summary]:
    """All models, in the order of their names."""
    for name in catalogue.names():
        try:
            yield summarize_model(catalogue.model(name))
        except ModelNotFound:  # taken from the air since
            continue


def summarize_model(model: ServedModel) -> Summary:
    try:
        names = model.entries()
    except InvalidModel as fault:
        return Summary(model.name, model.path, "missing", fault=fault.message)
    entries = tuple(_entry(model, name) for name in names)
    faults = [entry.fault for entry in entries if entry.fault is not None]
    state: ModelState = "ok" if entries else "empty"
    return Summary(
        model.name,
        model.path,
        "broken" if faults else state,
        entries,
        faults[0] if faults else None,
        tuple(model.versions()),
    )


def _entry(model: ServedModel, name: str) -> EntrySummary:
    try:
        found = model.examine(name)
    except (InvalidModel, ModelNotFound) as fault:
        return EntrySummary(name, None, 0, str(fault))
    return EntrySummary(
        name,
        found.model.kind,
        found.byte_length,
        needs_script=needs_script(found.document),
        is_list=found.model.is_list,
    )
