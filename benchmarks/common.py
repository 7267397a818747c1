"""What the commands share: their options, their folder, the order of their rounds."""

from __future__ import annotations

import argparse
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def add_choice(parser: argparse.ArgumentParser, option: str, names: list[str]) -> None:
    """An option that takes some of these names and has all of them by default."""
    parser.add_argument(
        option,
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=", ".join(names),
    )


def missing(programs: Sequence[str], modules: Mapping[str, str]) -> str | None:
    """What has to be installed first, as a command. ``modules`` are importable names
    and the packages that have them.
    """
    absent = [name for name in programs if shutil.which(name) is None]
    if absent:
        return f"missing: sudo apt-get install {shlex.join(absent)}"
    packages = {modules[name] for name in modules if find_spec(name) is None}
    if packages:
        return f"missing: pip install {shlex.join(sorted(packages))}"
    return None


@contextmanager
def temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="flask-tfjs-benchmark-") as name:
        folder = Path(name)
        # nginx started by root reads as another user.
        folder.chmod(0o755)
        yield folder


def rotated(items: Sequence[T], steps: int) -> list[T]:
    """Another one first in each round, so that no one always follows the same."""
    start = steps % len(items)
    return [*items[start:], *items[:start]]
