"""How much memory another process has, on Linux."""

from __future__ import annotations

import re
from pathlib import Path


def resident(pid: int) -> int:
    """Bytes that are resident now."""
    return _bytes(pid, "VmRSS")


def forget_peak(pid: int) -> None:
    """Let :func:`peak` tell of what comes from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(pid: int) -> int:
    """Bytes that were resident at most."""
    return _bytes(pid, "VmHWM")


def _bytes(pid: int, field: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None, status
    return int(found[1]) * 1024
