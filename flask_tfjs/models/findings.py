"""Everything that files tell about what will go wrong when a browser loads a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import InvalidModel
from ..errors import ModelNotFound
from ..format.topology import LOADERS
from ..format.topology import keras_layers
from .delivery import Examination
from .directory import ModelDirectory
from .listing import MAX_DEPTH
from .listing import MAX_FILES
from .served import ServedModel

Level = Literal["error", "warning", "note"]

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
    name = model.label
    try:
        entries = model.entries()
    except InvalidModel as fault:
        yield Finding("error", name, f"{fault.message} ({model.path})")
        return
    used: set[str] | None = set()
    for entry in entries:
        where = f"{name}/{entry}"
        try:
            found = model.examine(entry)
        except (InvalidModel, ModelNotFound) as fault:
            yield Finding("error", where, str(fault))
            used = None  # what it would name is not known
            continue
        if used is not None:
            used.update(shard.name for group in found.shards for shard in group)
        for level, message in _check_entry(found):
            yield Finding(level, where, message)
    if not entries:
        yield Finding("error", name, model.no_model())
    with contextlib.suppress(InvalidModel, ModelNotFound):  # told above
        for file in model.damaged_files():
            yield Finding(
                "error",
                f"{name}/{file}",
                "its bytes are not those it was published with, so the disk may fail; "
                "publish the model again",
            )
    if isinstance(model, ModelDirectory):
        yield from _check_surroundings(model, used)


def _check_entry(found: Examination) -> Iterator[tuple[Level, str]]:
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
    if model.kind == "layers-model" and any(
        "batch_shape" in config and "batch_input_shape" not in config
        for config in (layer.get("config") for layer in keras_layers(model.document))
        if isinstance(config, dict)
    ):
        yield (
            "error",
            "the topology is written by Keras 3, which TensorFlow.js 4.22 refuses "
            "('An InputLayer should be passed either…'); save the model with tf_keras "
            "(Keras 2), or export it as a SavedModel and convert that to a graph model",
        )
    stated = model.document.get("format") if isinstance(model.document, dict) else None
    if isinstance(stated, str) and stated in LOADERS and stated != model.kind:
        yield (
            "warning",
            f"'format' says {stated!r}, but the topology is that of a {model.kind}: "
            f"load it with {LOADERS[model.kind]}()",
        )


def _check_surroundings(
    directory: ModelDirectory, used: set[str] | None
) -> Iterator[Finding]:
    listing = directory.listing()
    for name, reason in sorted(listing.refused.items()):
        yield Finding("warning", f"{directory.label}/{name}", reason)
    if used is not None and directory.only is None:
        leftovers = (n for n in listing.names - used if n.endswith(_WEIGHT_SUFFIXES))
        for name in sorted(leftovers):
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
