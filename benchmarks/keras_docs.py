"""The tables of what converts, in the documentation.

They are made of what ``keras_zoo.py`` found and kept: of each model and of each case of
the sweep whether it converts, and what a refusal says.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/keras.md"
OUTCOMES = ROOT / "tests/zoo/outcomes.json"

BEGIN, END = "<!-- keras_zoo.py: begin -->", "<!-- keras_zoo.py: end -->"

#: Of models or cases, by the kind of file, what became of it ("stock", "script",
#: "refused", or "unsaved" where Keras could not write the file), and what was said: the
#: layers that need the script, or the refusal.
Outcomes = Mapping[str, Mapping[str, Sequence[str]]]

_BECOMES = {
    "stock": "layers that TensorFlow.js has",
    "script": "layers of the [script](#the-script-of-layers)",
}

_OPERATORS: Mapping[type[ast.AST], str] = {
    **{ast.Add: "x + y", ast.Sub: "x - y", ast.Mult: "x * y", ast.Div: "x / y"},
    **{ast.Pow: "x ** y", ast.MatMult: "x @ y", ast.Mod: "x % y", ast.USub: "-x"},
    **{ast.FloorDiv: "x // y", ast.Gt: "x > y"},
}


@dataclass(frozen=True)
class Case:
    """A case of the sweep.

    :ivar shown: the expression as the table has it.
    :ivar subject: the layer, activation, operation or operator that it is about.
    :ivar within: what makes that which the subject is given.
    """

    shown: str
    subject: str
    within: frozenset[str]
    kind: str
    said: str

    @property
    def scripted(self) -> frozenset[str]:
        """What of it needs the script, as Keras calls layers and operations."""
        return frozenset(re.sub(r"_\d+$", "", one) for one in self.said.split(", "))


def write() -> None:
    """Write the tables into the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_between_marks(page, tables()), encoding="utf-8")


def _between_marks(page: str, markdown: str) -> str:
    parts = re.split(f"({re.escape(BEGIN)}|{re.escape(END)})", page)
    if parts[1::2] != [BEGIN, END]:
        raise ValueError(f"{PAGE.name} needs {BEGIN} and {END}, once each")
    parts[2] = f"\n\n{markdown}\n\n"
    return "".join(parts)


def tables() -> str:
    """How many convert, and what becomes of each."""
    found = json.loads(OUTCOMES.read_text(encoding="utf-8"))
    models: Outcomes = found["models"]
    sweep: Outcomes = found["sweep"]
    lines = [
        "| | files | converted | of these with the script | refused |",
        "|---|---:|---:|---:|---:|",
        _counts("models as people make them", models),
        _counts("layers, options, activations and operations, one by one", sweep),
        "",
        "| in Keras | becomes |",
        "|---|---|",
        *(f"| {what} | {becomes} |" for what, becomes in _rows(models, sweep)),
    ]
    return "\n".join(lines)


def _counts(title: str, outcomes: Outcomes) -> str:
    kinds = [kind for files in outcomes.values() for kind, _ in files.values()]
    stock, script, refused = map(kinds.count, ("stock", "script", "refused"))
    files = stock + script + refused
    if files + kinds.count("unsaved") != len(kinds):
        raise ValueError(f"neither converted nor refused: {sorted(set(kinds))}")
    cells = (f"{count:,}" for count in (files, stock + script, script, refused))
    return f"| {title} | {' | '.join(cells)} |"


def _rows(models: Outcomes, sweep: Outcomes) -> Iterator[tuple[str, str]]:
    cases = [case for name, files in sweep.items() for case in _cases(name, files)]
    converted = _without_what_explains(cases)
    usual = {case.subject: case.kind for case in reversed(converted)}
    for kind, becomes in _BECOMES.items():
        whole = [name for name, files in models.items() if files["keras"][0] == kind]
        yield f"whole models: {_listed(whole)}", becomes
        subjects = sorted(one for one in usual if usual[one] == kind)
        for title, begins in _GROUPS.items():
            group = [one for one in subjects if re.match(begins, one)]
            yield f"{title}: {_listed(group)}", becomes
        other = [c.shown for c in converted if c.kind == kind != usual[c.subject]]
        if other:
            yield f"of these: {_listed(other)}", becomes
    yield from _refusals([case for case in cases if case.kind == "refused"])


_GROUPS = {"layers": "[A-Z]", "activations": "'", "operations": "ops|-?x"}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))


# Cases


def _cases(name: str, files: Mapping[str, Sequence[str]]) -> Iterator[Case]:
    """One, or another for each kind of file, if what becomes of them differs."""
    expression = name.split(" of ")[0]
    subject, within = _subjects(ast.parse(expression, mode="eval").body)
    kind, said = files["keras"]
    yield Case(_shown(expression), subject, within, kind, said)
    other, why = files["h5"]
    if other not in (kind, "unsaved"):
        yield Case(f"{_shown(expression)} from .h5", subject, within, other, why)


def _subjects(node: ast.AST) -> tuple[str, frozenset[str]]:
    given = node.args + node.keywords if isinstance(node, ast.Call) else [node]
    inner = (child for one in given for child in ast.walk(one) if child is not node)
    kinds = (ast.BinOp, ast.Call, ast.Compare, ast.Subscript)
    return _subject(node), frozenset(
        _subject(child) for child in inner if isinstance(child, kinds)
    )


def _subject(node: ast.AST) -> str:
    if isinstance(node, ast.Subscript):
        return "x[…]"
    if isinstance(node, (ast.BinOp, ast.UnaryOp)):
        return _OPERATORS[type(node.op)]
    if isinstance(node, ast.Compare):
        return _OPERATORS[ast.Gt]
    if isinstance(node, ast.Call):
        return _called(node)
    return "several outputs"


def _called(node: ast.Call) -> str:
    made = node.func if isinstance(node.func, ast.Call) else None
    if made is not None and isinstance(made.func, ast.Name):
        (made,) = (one for one in made.args if isinstance(one, ast.Call))  # adapted(…)
    options = made.keywords + made.args if made is not None else []
    name = ast.unparse(made.func if made is not None else node.func)
    module, _, plain = name.rpartition(".")
    if module == "activations":
        return f"'{plain}'"
    if plain in ("Activation", "Dense"):
        for option in options:
            value = option.value if isinstance(option, ast.keyword) else option
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                if plain == "Activation" or getattr(option, "arg", "") == "activation":
                    return f"'{value.value}'"
    if module == "layers":
        return plain[0].upper() + plain[1:]
    return name if module else f"ops.{name}"


def _shown(expression: str) -> str:
    """Without what says nothing, and what would end a cell."""
    short = re.sub(r"\blayers\.", "", expression)
    short = re.sub(r"^((?!ops)\w+\(.*\))\([xyz]\)$", r"\1", short)
    return short.replace("|", "\\|")


def _without_what_explains(cases: Sequence[Case]) -> list[Case]:
    """Those that convert. Where it is only what is *within* a case that needs the
    script, its subject does not."""
    alone: dict[str, set[str]] = {}
    for case in cases:
        if case.kind == "script" and not case.within:
            alone.setdefault(case.subject, set()).update(case.scripted)
    converted = []
    for case in cases:
        explained = set().union(*(alone.get(one, set()) for one in case.within))
        if case.kind == "script" and case.scripted <= explained:
            converted.append(Case(case.shown, case.subject, case.within, "stock", ""))
        elif case.kind in _BECOMES:
            converted.append(case)
    return converted


def _refusals(cases: Sequence[Case]) -> Iterator[tuple[str, str]]:
    """What is refused, by what is said of it."""
    rows: dict[str, list[str]] = {}
    for case in cases:
        rows.setdefault(_sentence(case), []).append(case.shown)
    for sentence, shown in rows.items():
        yield _listed(shown), f"a refusal: {sentence}"


def _sentence(case: Case) -> str:
    """What a refusal says, with NAME for the name of a layer or operation."""
    where, _, said = case.said.partition(": ")
    name = re.escape(re.sub(r"_\d+$", "", where))
    said = re.sub(rf"\b{name}\b(?! works)", "NAME", said)
    said = re.sub(rf"\b{re.escape(case.subject)}\b", "NAME", said)
    return said.replace("|", "\\|")
