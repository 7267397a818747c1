"""Visits of a page by Chromium, and what the DevTools protocol tells about them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any

from networks import Network
from real_models import Digests

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext
    from playwright.sync_api import CDPSession
    from playwright.sync_api import Page
    from playwright.sync_api import Playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)

TIME_LIMIT = 180_000  # ms
# What a new browser does first must not be in the figures of a page.
SETTLE = 500  # ms
POLL = 50  # ms


@dataclass(frozen=True)
class Visit:
    """One load of a page: milliseconds from the begin of the navigation to the loaded
    model; requests for the model that reached its server, the bytes of their answers
    as they were sent, headers included, and requests that the cache answered alone.
    """

    milliseconds: float
    requests: int
    wire_bytes: int
    cached: int


class Wire:
    """The requests of a page for URLs below ``origin``.

    A request that the cache answered has no `responseReceivedExtraInfo`, and one that
    a preload answered has no events at all.
    """

    def __init__(self, session: CDPSession, origin: str) -> None:
        self.origin = origin
        self.open: set[str] = set()
        self.asked: set[str] = set()
        self.answered: set[str] = set()
        self.wire_bytes = 0
        session.on("Network.requestWillBeSent", self._on_request)
        session.on("Network.responseReceivedExtraInfo", self._on_answer)
        session.on("Network.loadingFinished", self._on_end)
        session.on("Network.loadingFailed", self._on_end)

    def visit(self, milliseconds: float) -> Visit:
        requests = len(self.asked & self.answered)
        cached = len(self.asked - self.answered)
        return Visit(milliseconds, requests, self.wire_bytes, cached)

    def wait(self, page: Page) -> None:
        """Until all have ended: a preload may be of no use, and late."""
        for _ in range(TIME_LIMIT // POLL):
            if not self.open:
                return
            page.wait_for_timeout(POLL)

    def _on_request(self, event: dict[str, Any]) -> None:
        if event["request"]["url"].startswith(self.origin):
            self.asked.add(event["requestId"])
            self.open.add(event["requestId"])

    def _on_answer(self, event: dict[str, Any]) -> None:
        self.answered.add(event["requestId"])

    def _on_end(self, event: dict[str, Any]) -> None:
        if event["requestId"] in self.open:
            self.open.remove(event["requestId"])
            self.wire_bytes += int(event.get("encodedDataLength", 0))


def chromium() -> str | None:
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


def version(playwright: Playwright) -> str:
    browser = playwright.chromium.launch(executable_path=chromium(), args=_arguments())
    try:
        return f"Chromium {browser.version}, headless"
    finally:
        browser.close()


def _arguments() -> list[str]:
    # Chromium refuses to run as root with a sandbox.
    return [*ARGUMENTS, *([] if os.geteuid() else ["--no-sandbox"])]


@contextmanager
def new_profile(playwright: Playwright) -> Iterator[BrowserContext]:
    """A browser that was never used, with a cache on disk."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        context = playwright.chromium.launch_persistent_context(
            folder, executable_path=chromium(), args=_arguments()
        )
        try:
            context.pages[0].wait_for_timeout(SETTLE)
            yield context
        finally:
            context.close()


def visit(
    context: BrowserContext, url: str, origin: str, network: Network, expected: Digests
) -> Visit:
    """Open the page in a tab of its own. `WrongLoad` unless the weights are right."""
    page = context.new_page()
    session = context.new_cdp_session(page)
    wire = Wire(session, origin)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", network.conditions())
    milliseconds = _load(page, url, expected)
    wire.wait(page)
    page.close()
    return _plausible(wire.visit(milliseconds), network)


class WrongLoad(Exception):
    """What a page got is not the model, or not over the network that was asked for."""


def _load(page: Page, url: str, expected: Digests) -> float:
    from playwright.sync_api import Error

    try:
        page.goto(url, wait_until="domcontentloaded", timeout=TIME_LIMIT)
        milliseconds = float(page.evaluate("window.loaded"))
        digests = page.evaluate("window.digests()")
    except Error as error:
        raise WrongLoad(error.message) from error
    wrong = [name for name in expected if digests.get(name) != expected[name]]
    if wrong or digests.keys() != expected.keys():
        raise WrongLoad(f"{len(wrong)} of {len(expected)} weights are wrong")
    return milliseconds


def _plausible(visit: Visit, network: Network) -> Visit:
    least = visit.wire_bytes / network.download * 1000
    if visit.milliseconds < least:
        raise WrongLoad(
            f"{visit.wire_bytes:,} B in {visit.milliseconds:,.0f} ms: "
            f"faster than {network.title}"
        )
    return visit
