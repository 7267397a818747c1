"""The site of the documentation: sphinx-build -E -W docs docs/_build."""

from __future__ import annotations

import re
from importlib import metadata

from sphinx.application import Sphinx

project = "flask_tfjs"
release = version = metadata.version("flask-tfjs")
copyright = "the flask_tfjs maintainers"

extensions = ["myst_parser", "pallets_sphinx_themes"]
exclude_patterns = ["_build"]
nitpicky = True
# Some requests and answers are shortened, and no HTTP then: "(no Set-Cookie)".
suppress_warnings = ["misc.highlighting_failure"]

myst_heading_anchors = 3
# Messages are to be found as they are typed.
smartquotes = False

html_theme = "flask"
html_title = f"flask_tfjs {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {
    "index": ["localtoc.html", "searchbox.html"],
    "**": ["localtoc.html", "relations.html", "searchbox.html"],
}
version_banner = False


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Give each part of the index a tree of the pages that its table links to.

    The tables are read where there is no Sphinx too, and say more than a tree does; so
    they are what is written, and a page is added by a row.
    """
    if name == "index":
        parts = re.split(r"^(?=## )", source[0], flags=re.M)
        source[0] = "".join(part + contents(part) for part in parts)


def contents(part: str) -> str:
    pages = re.findall(r"^\| \[[^]]+\]\(([\w-]+)\.md\) \|", part, re.M)
    if not pages:
        return ""
    heading = part.partition("\n")[0].removeprefix("## ")
    options = f":hidden:\n:caption: {heading}\n"
    return "\n".join([f"\n```{{toctree}}\n{options}", *pages, "```\n\n"])


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_contents)
