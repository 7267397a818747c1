"""The machine and the versions that a figure belongs to."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version
from pathlib import Path


def description(
    packages: Iterable[str], programs: Iterable[str] = ()
) -> dict[str, str]:
    versions = [_package(name) for name in packages]
    versions += [_program(name) for name in programs]
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": ", ".join(versions),
        "load": f"{os.getloadavg()[0]:.2f} over the minute before",
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", _cpuinfo(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} not installed"


def _program(name: str) -> str:
    # wrk writes its version to stdout and exits with 1, nginx writes to stderr.
    done = subprocess.run([name, "-v"], capture_output=True, text=True)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return f"{name} {found[0]}" if found else name
