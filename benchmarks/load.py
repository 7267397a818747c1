"""Load from wrk on one server for a moment, and what it cost that server."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from contenders import Running
from scenarios import Check

SUMMARY = Path(__file__).resolve().parent / "wrk_summary.lua"


@dataclass(frozen=True)
class Sample:
    requests_per_second: float
    megabytes_per_second: float
    cpu_microseconds: float


def measure(running: Running, check: Check, seconds: float, connections: int) -> Sample:
    cpu_before = running.cpu_seconds()
    counts = _wrk(running.port, check, seconds, connections)
    cpu = running.cpu_seconds() - cpu_before
    requests, elapsed = counts["requests"], counts["microseconds"] / 1e6
    if counts["statuses_over_399"] or counts["broken"] or not requests:
        raise RuntimeError(f"{running.server.title} failed under load: {counts}")
    return Sample(
        requests_per_second=requests / elapsed,
        megabytes_per_second=requests * len(check.answer.body) / elapsed / 1e6,
        cpu_microseconds=cpu / requests * 1e6,
    )


def _wrk(port: int, check: Check, seconds: float, connections: int) -> dict[str, int]:
    command = ["wrk", "--threads", "1", "--connections", str(connections)]
    command += ["--duration", f"{seconds:g}s", "--script", str(SUMMARY)]
    for name, value in check.request.headers.items():
        command += ["--header", f"{name}: {value}"]
    command.append(f"http://127.0.0.1:{port}{check.request.path}")
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counts
