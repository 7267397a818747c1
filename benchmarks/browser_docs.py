"""The tables and the plot in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import load_times
from browser_report import Results

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "performance.md"
PLOT = DOCS / "load-times.svg"

BEGIN, END = "<!-- browser.py: begin -->", "<!-- browser.py: end -->"


def write(markdown: str, results: Results) -> None:
    PAGE.write_text(_between_marks(PAGE.read_text(), markdown))
    load_times.draw(results, PLOT)


def _between_marks(page: str, markdown: str) -> str:
    parts = re.split(f"({re.escape(BEGIN)}|{re.escape(END)})", page)
    if parts[1::2] != [BEGIN, END]:
        raise ValueError(f"{PAGE.name} needs {BEGIN} and {END}, once each")
    parts[2] = f"\n\n{markdown}\n\n"
    return "".join(parts)
