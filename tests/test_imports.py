"""Imports point one way, Flask stays in the rooms at the edge, and no module keeps
state: read from the sources, so that an import in a function counts too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flask_tfjs

PACKAGE = Path(flask_tfjs.__file__).parent

#: The rooms from the ground up; a room may import from those below it and from itself,
#: rooms of one floor not from each other.
FLOORS = [
    ["errors", "locks", "signals"],
    ["format", "http"],
    ["keras"],
    ["models"],
    ["convert"],
    ["config", "reports", "static_files"],
    ["state"],
    ["auth", "isolation", "probe", "publishing"],
    ["tags"],
    ["receiving", "pages"],
    ["views"],
    ["cli", "blueprint", "listening"],
    ["server"],
    ["__init__", "__main__"],
]

#: What may be imported from outside the standard library, and where.
OUTSIDE = {
    "blinker": ["publishing", "signals"],
    "brotli": ["http/codings"],
    "flask": [
        *("http/responses", "state", "auth", "probe", "publishing", "tags"),
        *("receiving", "pages/rendering", "views", "cli", "blueprint", "isolation"),
        *("listening", "server", "__main__"),
    ],
    "itsdangerous": ["auth"],
    "jinja2": ["pages/rendering"],
    "werkzeug": [
        *("http/*", "models/uploads", "auth", "receiving", "blueprint"),
        *("listening", "server"),
    ],
    "markupsafe": ["tags"],
    "click": ["cli", "__main__"],
    "h5py": ["convert/*"],
    "numpy": ["convert/*"],
    "zstandard": ["http/codings"],
}

#: Flask's own keys, which are read where they are needed.
FLASK_KEYS = {
    *("SERVER_NAME", "APPLICATION_ROOT", "PREFERRED_URL_SCHEME"),
    "SECRET_KEY_FALLBACKS",
}

MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MAKERS = {
    *("dict", "list", "set", "bytearray", "deque", "defaultdict", "OrderedDict"),
    *("Counter", "Lock", "RLock", "Event", "local", "ContextVar", "WeakKeyDictionary"),
}


def module_name(path: Path) -> str:
    name = path.relative_to(PACKAGE).with_suffix("").as_posix()
    return name.removesuffix("/__init__")


TREES = {
    module_name(path): ast.parse(path.read_text("utf-8"), str(path))
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room(module: str) -> str:
    return module.partition("/")[0]


def is_package(module: str) -> bool:
    return module == "__init__" or (PACKAGE / module / "__init__.py").is_file()


def imported(module: str) -> Iterator[str]:
    """The modules of the package that *module* imports from."""
    folder = [] if module == "__init__" else module.split("/")
    if folder and not is_package(module):
        folder.pop()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            assert not any(name.startswith("flask_tfjs") for name in names), module
        if not isinstance(node, ast.ImportFrom):
            continue
        assert node.level or not str(node.module).startswith("flask_tfjs"), module
        if node.level:
            base = folder[: len(folder) - node.level + 1]
            base = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                inner = "/".join([*base, alias.name])
                yield inner if inner in TREES else "/".join(base) or "__init__"


def outside(module: str) -> Iterator[str]:
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]


GRAPH = {module: set(imported(module)) for module in TREES}
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}

every_module = pytest.mark.parametrize("module", TREES)


def test_the_rooms_are_those_of_the_plan() -> None:
    assert {room(module) for module in TREES} == set(FLOOR)
    assert len(GRAPH["models/catalogue"]) > 3  # the sources are read as meant
    assert "models/catalogue" in GRAPH["state"]


@every_module
def test_imports_point_down(module: str) -> None:
    for other in GRAPH[module]:
        same_room = room(other) == room(module)
        assert same_room or FLOOR[room(other)] < FLOOR[room(module)], other


def test_no_cycles() -> None:
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above, module])
        if module not in done:
            for other in GRAPH[module]:
                visit(other, (*above, module))
            done.add(module)

    for module in TREES:
        visit(module, ())


@every_module
def test_what_comes_from_outside(module: str) -> None:
    for name in outside(module):
        if name in sys.stdlib_module_names:
            continue
        allowed = OUTSIDE.get(name, [])
        assert module in allowed or f"{room(module)}/*" in allowed, name


def bindings(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """What a module or class binds to names, in branches too."""
    for statement in body:
        if isinstance(statement, ast.Assign):
            yield from ((ast.unparse(t), statement.value) for t in statement.targets)
        if isinstance(statement, (ast.AnnAssign, ast.AugAssign)) and statement.value:
            yield ast.unparse(statement.target), statement.value
        if isinstance(statement, (ast.If, ast.Try, ast.With, ast.For)):
            for field in ("body", "orelse", "finalbody"):
                yield from bindings(getattr(statement, field, []))
            for handler in getattr(statement, "handlers", []):
                yield from bindings(handler.body)
        if isinstance(statement, ast.ClassDef):
            yield from bindings(statement.body)


def is_mutable(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        called = value.func
        name = called.attr if isinstance(called, ast.Attribute) else ast.unparse(called)
        return name in MAKERS
    return isinstance(value, MUTABLE)


@every_module
def test_no_module_keeps_state(module: str) -> None:
    for name, value in bindings(TREES[module].body):
        assert name == "__all__" or not is_mutable(value), name
    for node in ast.walk(TREES[module]):
        assert not isinstance(node, ast.Global), node.names


def test_a_mutable_binding_is_found() -> None:
    source = "try:\n  A = {}\nexcept E:\n  B = threading.Lock()\nclass C:\n  D: x = []"
    found = {name for name, value in bindings(ast.parse(source).body)}
    assert found == {"A", "B", "D"}
    assert all(is_mutable(value) for _, value in bindings(ast.parse(source).body))
    for value in ("MappingProxyType({})", "()", "frozenset()", "re.compile('')"):
        assert not is_mutable(ast.parse(value, mode="eval").body)


@every_module
def test_settings_are_read_in_one_place(module: str) -> None:
    if module == "config" or room(module) in ("keras", "convert"):
        return  # there a layer has a config; none of them knows Flask
    for node in ast.walk(TREES[module]):
        place: ast.expr | None = None
        keys: list[ast.expr] = []
        if isinstance(node, ast.Subscript):
            place, keys = node.value, [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            place, keys = node.func.value, node.args[:1]
        for key in keys:
            text = key.value if isinstance(key, ast.Constant) else ""
            assert not str(text).startswith("TFJS_"), ast.unparse(node)
            if isinstance(place, ast.Attribute) and place.attr == "config":
                assert text in FLASK_KEYS, ast.unparse(node)


def test_every_module_can_be_the_first() -> None:
    """In a process of its own, since the tests have imported them all."""
    names = [
        f"flask_tfjs.{m}".replace("/", ".").removesuffix(".__init__") for m in TREES
    ]
    source = f"""
import importlib, sys
for name in {names}:
    for other in [m for m in sys.modules if m.partition(".")[0] == "flask_tfjs"]:
        del sys.modules[other]
    importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", source], check=True)


def test_what_is_public_is_there() -> None:
    assert sorted(flask_tfjs.__all__) == flask_tfjs.__all__
    for name in flask_tfjs.__all__:
        assert getattr(flask_tfjs, name) is not None
