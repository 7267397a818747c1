"""The site that Sphinx makes of the documentation: whole, without a warning, and
without anything of another host."""

from __future__ import annotations

import collections.abc as cabc
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from clients.drivers import start_browser
from servers import module_found
from servers import require
from servers import serve_pages

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))

#: What is not a page of ours: made by Sphinx and by the theme.
EXTRA = {"404", "genindex", "search"}

#: Elements that fetch nothing from where they lead.
LINKS = {"a", "form"}
URLS = {"action", "data", "href", "poster", "src", "srcset"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("sphinx", "myst_parser", "pallets_sphinx_themes"):
        require(module_found(name), name)
    folder = tmp_path_factory.mktemp("site")
    options = ("-q", "-E", "-W", "--keep-going", "-d", str(folder / "doctrees"))
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(folder / "html")],
        capture_output=True,
        encoding="utf-8",
    )
    assert (built.returncode, built.stderr) == (0, "")
    return folder / "html"


def test_no_page_is_left_out(site: Path) -> None:
    assert {path.stem for path in site.glob("*.html")} - EXTRA == set(PAGES)


def test_one_page_leads_to_the_next(site: Path) -> None:
    """In the order of the index, whose tables are the tree of the site."""
    name, read = "index", ["index"]
    link = r'<link rel="next" [^>]*href="([\w-]+)\.html"'
    while found := re.search(link, (site / f"{name}.html").read_text("utf-8")):
        name = found[1]
        read.append(name)
    rows = re.findall(r"^\| \[[^]]+\]\(([\w-]+)\.md\)", text_of("index"), re.M)
    assert read == ["index", *rows]
    assert sorted(read) == PAGES


def text_of(page: str) -> str:
    return (DOCS / f"{page}.md").read_text("utf-8")


def test_changes_and_licence_are_those_of_the_source(site: Path) -> None:
    changes = (site / "changes.html").read_text("utf-8")
    assert changes.count("<li><p>") >= (ROOT / "CHANGES.md").read_text("utf-8").count(
        "\n- "
    )
    assert "Permission is hereby granted" in (site / "license.html").read_text("utf-8")


class Fetched(HTMLParser):
    """The URLs that a page fetches when it is opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in LINKS:
            self.urls += [value for name, value in attrs if name in URLS and value]


def fetched(path: Path) -> cabc.Iterator[str]:
    text = path.read_text("utf-8")
    if path.suffix == ".html":
        yield from Fetched(text).urls
    yield from re.findall(r"(?:url\(|@import\s+)[\"']?([^\"')]+)", text)


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    found = {(path.name, url) for path in files for url in fetched(path)}
    assert len(found) > 100
    assert [pair for pair in found if re.match(r"\w+:|//", pair[1])] == []


def test_the_pages_in_a_browser(site: Path) -> None:
    """On a phone none is wider than the screen; what scripts load is of this host."""
    with serve_pages(site) as server, start_browser() as browser:
        page = browser.new_page(viewport={"width": 400, "height": 800})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        widths = {}
        for name in PAGES:
            page.goto(f"{server.origin}/{name}.html")
            widths[name] = page.evaluate("document.documentElement.scrollWidth")
        assert {n: width for n, width in widths.items() if width > 400} == {}
        assert [url for url in asked if not url.startswith(server.origin)] == []
