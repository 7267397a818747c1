"""Everything that files tell about what will go wrong when a browser loads a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import InvalidModel
from ..errors import ModelNotFound
from ..format.halves import are_halves
from ..format.topology import LOADERS
from ..keras.bounds import CONVERT
from ..keras.mending import unfit
from ..keras.script import PATH
from ..keras.script import needs_script
from .delivery import Examination
from .delivery import stored_blocks
from .directory import ModelDirectory
from .listing import MAX_DEPTH
from .listing import MAX_FILES
from .served import ServedModel

Level = Literal["error", "warning", "note"]

# What to do about a model that Keras wrote in its own way.
_REPAIR = f"let TFJS_REPAIR mend it, or {CONVERT}"
_PUBLISH = f"publish it again, or {CONVERT}"

_WEIGHT_SUFFIXES = (".bin", ".weights")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know.

    :ivar level: ``error``: it does not load, or not rightly; ``warning``: it may not;
        ``note``: worth knowing.
    :ivar where: the model and the file or member, as a person would name it.
    :ivar message: what is wrong and the cure, one sentence or two.
    """

    level: Level
    where: str
    message: str


def check_model(model: ServedModel) -> Iterator[Finding]:
    """Check all entries of a model and, in a directory, what lies around them."""
    try:
        entries = model.entries()
    except InvalidModel as fault:
        yield Finding("error", model.label, f"{fault.message} ({model.path})")
        return
    broken = False
    for entry in entries:
        for finding in check_entry(model, entry):
            broken = broken or finding.level == "error"
            yield finding
    if not entries:
        yield Finding("error", model.label, model.no_model())
    with contextlib.suppress(InvalidModel, ModelNotFound):  # told above
        for file in model.damaged_files():
            yield Finding(
                "error",
                f"{model.label}/{file}",
                "its bytes are not those it was published with, so the disk may fail; "
                "publish the model again",
            )
    if isinstance(model, ModelDirectory):
        # What a broken one would name is not known.
        yield from _check_surroundings(model, leftovers=not broken)


def check_entry(model: ServedModel, entry: str) -> Iterator[Finding]:
    """Check one entry of a model."""
    where = f"{model.label}/{entry}"
    try:
        found = model.examine(entry)
    except (InvalidModel, ModelNotFound) as fault:
        yield Finding("error", where, str(fault))
        return
    yield from check_examined(model, entry, found)


def check_examined(
    model: ServedModel, entry: str, found: Examination
) -> Iterator[Finding]:
    """The same for one that was found to load."""
    where = f"{model.label}/{entry}"
    cure = _REPAIR if isinstance(model, ModelDirectory) else _PUBLISH
    for level, message in _check_entry(found, cure):
        yield Finding(level, where, message)
    with contextlib.suppress(InvalidModel):  # its files have just changed
        yield from (Finding("note", where, m) for m in _halves(model, found))


def _check_entry(found: Examination, cure: str) -> Iterator[tuple[Level, str]]:
    model = found.model
    for repair in found.repairs:
        yield ("note", f"repaired on the way out: {repair}")
    if found.layout.surplus:
        yield (
            "warning",
            f"the shards have {found.layout.surplus} bytes more than the weights need; "
            "clients ignore them, but the file may be another one than the JSON means",
        )
    if model.kind == "layers-model" and not any(True for _ in model.weights):
        yield (
            "warning",
            "it has no weights; unless none of its layers has any, the browser starts "
            "with random values, silently. Save the model with its weights",
        )
    told = any(PATH in repair.message for repair in found.repairs)
    if needs_script(found.document) and not told:
        yield (
            "note",
            "it has layers that TensorFlow.js lacks; the page must load the script "
            f"{PATH} below the URL prefix before it, as 'flask tfjs show' prints it",
        )
    for misfit in unfit(model):
        yield ("error", f"{misfit.where}: {misfit.reason}; {cure}")
    stated = model.document.get("format") if isinstance(model.document, dict) else None
    if isinstance(stated, str) and stated in LOADERS and stated != model.kind:
        yield (
            "warning",
            f"'format' says {stated!r}, but the topology is that of a {model.kind}: "
            f"load it with {LOADERS[model.kind]}()",
        )


# Fewer values are not worth what the manifest says more of them.
_FEW_VALUES = 32


def _halves(model: ServedModel, found: Examination) -> Iterator[str]:
    """Weights that take twice the bytes that their values need."""
    wide = [
        weight
        for weight in found.layout.weights
        if weight.spec.dtype == weight.spec.wire_dtype == "float32"
        and weight.spec.elements >= _FEW_VALUES
    ]
    halves = [
        weight.end - weight.start
        for weight, blocks in stored_blocks(model.root, found, wide)
        if all(map(are_halves, blocks))
    ]
    if halves:
        yield (
            f"{len(halves)} of its weights, {sum(halves):,} bytes, are float32 that "
            "hold values of float16; 'flask tfjs quantize' stores them in half the "
            "bytes, and not a value changes"
        )


def _check_surroundings(
    directory: ModelDirectory, leftovers: bool
) -> Iterator[Finding]:
    listing = directory.listing()
    for name, reason in sorted(listing.refused.items()):
        yield Finding("warning", f"{directory.label}/{name}", reason)
    if leftovers and directory.only is None:
        unnamed = listing.names - directory.named_by_manifests()
        for name in sorted(n for n in unnamed if n.endswith(_WEIGHT_SUFFIXES)):
            yield Finding(
                "note",
                f"{directory.label}/{name}",
                "no manifest names it, so it has no URL; remove it if it is a leftover",
            )
    if listing.truncated:
        yield Finding(
            "warning",
            directory.label,
            f"only {MAX_FILES} files and {MAX_DEPTH} levels of folders are looked at, "
            "and there are more; register the folder that holds the model itself",
        )
