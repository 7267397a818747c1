"""What becomes of files of Keras when they are converted: ``zoo/outcomes.json`` says it
of each model and of each case of the sweep, and the documentation's tables are made of
it. ``benchmarks/keras_zoo.py`` writes it."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

from keras_files import KINDS
from keras_files import ZOO
from keras_files import Example
from keras_files import Kind
from predicting import TOLERANCE
from predicting import Clients
from predicting import same_files

from flask_tfjs.convert.to_tfjs import to_tfjs
from flask_tfjs.errors import InvalidModel
from flask_tfjs.format.topology import keras_layers
from flask_tfjs.keras.script import is_of_script

FILE = ZOO / "outcomes.json"

#: "stock", "script" (the page needs the script of layers), "refused", or "unsaved"
#: (Keras could not write the file), and what was said: which layers need the script, or
#: the refusal.
Outcome = list[str]
#: By the kind of file.
Outcomes = dict[Kind, Outcome]


class Recorded(t.TypedDict):
    models: dict[str, Outcomes]
    sweep: dict[str, Outcomes]


def recorded() -> Recorded:
    found: Recorded = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def record(found: Recorded) -> None:
    """Write them so that each has a line of its own."""
    parts = []
    for title, outcomes in found.items():
        lines = [
            f"{json.dumps(name)}: {json.dumps(files)}"
            for name, files in t.cast(dict[str, Outcomes], outcomes).items()
        ]
        parts.append(f"{json.dumps(title)}: {{\n" + ",\n".join(lines) + "\n}")
    FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def tolerance(name: str) -> float:
    """For a model or case: where Keras itself computes with fewer digits, as many."""
    if "bfloat16" in name:
        return 2e-2
    return 2e-3 if "float16" in name or name == "mixed" else TOLERANCE


def is_converted(outcome: Outcome) -> bool:
    return outcome[0] in ("stock", "script")


def needs_script(outcome: Outcome) -> bool:
    return outcome[0] == "script"


def convert(example: Example, kind: Kind, destination: Path) -> Outcome:
    """Convert one file to a new directory."""
    source = example.file(kind)
    if not source.exists():
        return ["unsaved", ""]
    try:
        done = to_tfjs(source, destination)
    except InvalidModel as refused:
        return ["refused", str(refused)]
    document = json.loads((destination / "model.json").read_bytes())
    scripted = [
        layer["config"]["name"]
        for layer in keras_layers(document)
        if is_of_script(layer["class_name"], layer["config"])
    ]
    assert done.needs_script == bool(scripted)
    return ["script", ", ".join(scripted)] if scripted else ["stock", ""]


def convert_all(example: Example, clients: Clients) -> Outcomes:
    """Convert both files of an example to directories that :func:`directory` names."""
    return {
        kind: convert(example, kind, clients.directory / directory(example, kind))
        for kind in KINDS
    }


def directory(example: Example, kind: Kind) -> str:
    return f"{example.stem.name}-{kind}"


def differences(
    example: Example, found: Outcomes, clients: Clients
) -> dict[Kind, float]:
    """How far what TensorFlow.js predicts is from what Keras does, of each converted
    file; of one, where the other gave the same bytes."""
    kinds = [kind for kind in KINDS if is_converted(found[kind])]
    paths = [clients.directory / directory(example, kind) for kind in kinds]
    if len(kinds) == 2 and same_files(*paths):
        del kinds[1]
    return {
        kind: clients.difference(
            directory(example, kind), example, script=needs_script(found[kind])
        )
        for kind in kinds
    }
