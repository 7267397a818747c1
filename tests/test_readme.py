"""What the README shows is so, and it is no longer than a page and a half."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from servers import HOST
from servers import free_port
from servers import stop

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")

SERVER = f"http://{HOST}:8000"


def test_it_is_short() -> None:
    assert 60 <= len(README.splitlines()) <= 120


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert len(targets) > 12
    for target in targets:
        assert (ROOT / target).is_file(), target


def test_the_figures_are_those_of_the_documentation() -> None:
    page = (ROOT / "docs/performance.md").read_text("utf-8")
    rows = re.findall(r"^\| (?!server|served|extra|`|-).*\|$", README, re.M)
    assert len(rows) == 3
    for row in rows:
        assert row in page, row


def test_the_server_prints_what_is_shown() -> None:
    (block,) = re.findall(r"^```console\n(.*?)^```$", README, re.M | re.S)
    command, _, shown = block.partition("\n")
    words = command.removeprefix("$ python ").split()
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, *words, "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        try:
            printed = "".join(output.readline() for _ in shown.splitlines())
        finally:
            stop(process)
    assert printed == shown.replace(SERVER, f"http://{HOST}:{port}")
