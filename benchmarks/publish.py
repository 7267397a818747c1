"""Publish without rest: load meanwhile, kill who publishes, count. See README.md."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import shlex
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import machine
from common import add_choice
from common import missing
from common import temporary_folder
from report import markdown_list
from report import markdown_table

TESTS = Path(__file__).resolve().parents[1] / "tests"
TFJS = TESTS / "clients/node_modules/@tensorflow/tfjs"
MODULES = {
    "gunicorn": "gunicorn",
    "numpy": "numpy",
    "playwright": "playwright",
    "pytest": "pytest",
}
if not missing((), MODULES):
    sys.path.append(str(TESTS))
    import publishing
    import reference
    import republishing
    import servers
    import test_crashes
    import uploading
    from clients import drivers

    from flask_tfjs.models import quiet

VERSIONS_OF = ("flask", "werkzeug", "gunicorn", "playwright")

# Seconds until a publishing process is killed: it publishes some times meanwhile.
LONGEST_LIFE = 0.12

Figures = dict[str, Any]


def main() -> int:
    options = _options()
    to_install = missing((), MODULES) or _missing_clients()
    if to_install:
        print(to_install, file=sys.stderr)
        return 2
    quiet.QUIET_NS = 0  # what is published here is whole
    facts = _facts()
    print(markdown_list(facts))
    found = {}
    for part in options.parts:
        with temporary_folder() as folder:
            found[part] = PARTS[part](folder, options)
        rows = [[name, _shown(value)] for name, value in found[part].items()]
        print(f"\n{markdown_table([part, 'count'], rows)}", flush=True)
    if options.json:
        document = {"facts": facts, "figures": found}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if any(figures["faults"] for figures in found.values()) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", type=int, default=2000)
    parser.add_argument("--crashes", type=int, default=200)
    parser.add_argument("--processes", type=int, default=8, help="that update")
    parser.add_argument("--updates", type=int, default=25, help="of each process")
    parser.add_argument("--seed", type=int, default=0, help="of who is killed when")
    parser.add_argument("--json", type=Path, metavar="FILE")
    add_choice(parser, "--parts", list(PARTS))
    return parser.parse_args()


def _missing_clients() -> str | None:
    if shutil.which("node") and TFJS.is_dir():
        return None
    return "missing: Node.js, or in tests/clients: npm ci"


def _facts() -> dict[str, str]:
    return {
        "command": shlex.join(["python", *sys.argv]),
        "server": "gunicorn gthread, 2 workers x 8 threads",
        **machine.description(VERSIONS_OF, ["node"]),
    }


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


# Loads


def _loads(folder: Path, options: argparse.Namespace) -> Figures:
    """Load what four writers replace, and whose old versions go."""
    with (
        servers.serve_pages(reference.CLIENTS) as pages,
        drivers.start_browser() as browser,
        republishing.serving(folder, republishing.RETENTION) as server,
    ):
        chromium = drivers.Chromium(browser, pages.origin, "loads.html")
        with republishing.republishing(folder, server):
            before, began = republishing.last_version(folder), time.monotonic()
            reports = republishing.load("node", chromium, server, options.loads, folder)
            seconds = time.monotonic() - began
            versions = republishing.last_version(folder) - before
    verdicts = Counter(republishing.verdict(report) for report in reports)
    loaded = {one["document"] for one in reports if "document" in one}
    return {
        "loads": len(reports),
        "whole": verdicts["whole"],
        "failed": verdicts["failed"],
        "torn": verdicts["torn"],
        "versions loaded": len(loaded),
        "versions published meanwhile": versions,
        "seconds": round(seconds),
        "faults": len(reports) - verdicts["whole"],
        "errors": _most_common(one["error"] for one in reports if "error" in one),
    }


# Crashes


def _crashes(folder: Path, options: argparse.Namespace) -> Figures:
    """Kill processes that publish, and workers that receive an upload."""
    chance = random.Random(options.seed)
    publishes, uploads = folder / "publishes", folder / "uploads"
    half = options.crashes // 2
    faults = [*_kill_publishers(publishes, options.crashes - half, chance)]
    faults += _kill_workers(uploads, half, chance)
    return {
        "killed": options.crashes,
        "of them, processes that publish": options.crashes - half,
        "of them, workers of a server that is saved to": half,
        "in the midst": sum(midst for midst, _ in faults),
        "faults": sum(fault is not None for _, fault in faults),
        "errors": _most_common(fault for _, fault in faults if fault),
    }


#: Whether something was cut off, and what was wrong then.
Crash = tuple[bool, "str | None"]


def _kill_publishers(root: Path, count: int, chance: random.Random) -> Iterator[Crash]:
    app = publishing.new_app(root, **test_crashes.SHORT)
    last = publishing.put_generation(app, root, 1).number
    with publishing.nursery(root / "log") as children:
        for crash in range(count):
            child = test_crashes.begin_to_churn(children, root, str(crash))
            time.sleep(chance.uniform(0.01, LONGEST_LIFE))
            child.kill()
            child.wait()
            midst = bool(list(publishing.store_of(root).glob(".tmp-*")))
            last, fault = _require_sound(root, last)
            yield midst, fault


def _kill_workers(root: Path, count: int, chance: random.Random) -> Iterator[Crash]:
    config = {**test_crashes.SHORT, "TFJS_UPLOADS": [publishing.NAME]}
    token = republishing.TOKEN
    with servers.serve("gunicorn-one-worker", root, config, token=token) as server:
        began = time.monotonic()
        status = _upload(root, server.port, 0)
        if status != 201:
            raise RuntimeError(f"the first upload: {status}\n{server.log()}")
        longest = 1.2 * (time.monotonic() - began)
        last = 1
        for crash in range(count):
            pid = _worker(server.port)
            with ThreadPoolExecutor(1) as pool:
                upload = pool.submit(_upload, root, server.port, crash + 1)
                time.sleep(chance.uniform(0, longest))
                os.kill(pid, signal.SIGKILL)
            midst = upload.result() is None
            last, fault = _require_sound(root, last)
            _wait_for_another(server.port, pid)
            status = _upload(root, server.port, 0)
            last += 1
            if status != 201:
                fault = fault or f"the next upload: {status}"
            yield midst, fault


def _require_sound(root: Path, last: int) -> tuple[int, str | None]:
    """Whether all that can be loaded is whole, the next version comes, and a cleaning
    leaves nothing but what is needed."""
    try:
        test_crashes.require_sound(root)
        return test_crashes.require_next(root, last), None
    except (AssertionError, OSError):
        return last, " ".join(traceback.format_exc(limit=-2).split())


def _upload(root: Path, port: int, generation: int) -> int | None:
    """The status of an upload; ``None`` where no answer comes."""
    directory = publishing.write_generation(root / "saved", generation)
    document = json.loads((directory / "model.json").read_text())
    paths = [path for group in document["weightsManifest"] for path in group["paths"]]
    weights = b"".join((directory / path).read_bytes() for path in paths)
    try:
        return republishing.save(port, uploading.saved(document, weights), {})
    except (OSError, http.client.HTTPException):
        return None


def _worker(port: int) -> int:
    connection = http.client.HTTPConnection(servers.HOST, port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/ready")
        return int(connection.getresponse().read())


def _wait_for_another(port: int, pid: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if _worker(port) != pid:
                return
        time.sleep(0.02)
    raise RuntimeError("the server did not start another worker")


# Updates


def _updates(folder: Path, options: argparse.Namespace) -> Figures:
    """Add one to what was loaded, and save it if nobody else did meanwhile."""
    expected = options.processes * options.updates
    counts = republishing.count(folder, options.processes, options.updates)
    contiguous = counts.versions == list(range(1, expected + 2))
    return {
        "processes": options.processes,
        "updates": expected,
        "in the model": counts.updates,
        "versions": len(counts.versions),
        "contiguous": "yes" if contiguous else "no",
        "retries after 412": counts.retries,
        "faults": abs(expected - counts.updates) + (not contiguous),
    }


def _most_common(errors: Any) -> str:
    found = Counter(errors).most_common(3)
    return "; ".join(f"{count} x {text}" for text, count in found) or "none"


PARTS: dict[str, Callable[[Path, argparse.Namespace], Figures]] = {
    "loads": _loads,
    "crashes": _crashes,
    "updates": _updates,
}


if __name__ == "__main__":
    sys.exit(main())
