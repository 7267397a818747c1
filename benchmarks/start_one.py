"""Start one application in this process and print what that took, as JSON.

Run by startup.py, in a fresh process each time.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

WITHOUT_BLUEPRINT = "none"
URL = "/models/model-500/model.json"


def main(case: str, models: str, instance: str) -> None:
    began = perf_counter()
    _import(case)
    imported = perf_counter()
    app = _create(case, Path(models), instance)
    created = perf_counter()
    figures = {
        "import ms": (imported - began) * 1000,
        "create and register ms": (created - imported) * 1000,
        "RSS MB": _resident_megabytes(),
        "first request ms": _request_milliseconds(app, case),
        "second request ms": _request_milliseconds(app, case),
    }
    print(json.dumps(figures))


def _import(case: str) -> None:
    import flask  # noqa: F401  # the import is what is timed

    if case != WITHOUT_BLUEPRINT:
        import flask_tfjs  # noqa: F401  # the import is what is timed


def _create(case: str, models: Path, instance: str) -> Flask:
    from flask import Flask

    app = Flask(__name__, instance_path=instance)
    if case == WITHOUT_BLUEPRINT:
        return app
    from flask_tfjs import tfjs_bp

    if case == "folder":
        app.config["TFJS_MODELS"] = str(models)
    if case == "mapping":
        app.config["TFJS_MODELS"] = {one.name: str(one) for one in models.iterdir()}
    app.register_blueprint(tfjs_bp)
    return app


def _resident_megabytes() -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError("no VmRSS in /proc/self/status")
    return int(found[1]) / 1024


def _request_milliseconds(app: Flask, case: str) -> float:
    began = perf_counter()
    answer = app.test_client().get(URL)
    took = perf_counter() - began
    expected = 200 if case in ("mapping", "folder") else 404
    if answer.status_code != expected:
        raise RuntimeError(answer.get_data(as_text=True))
    return took * 1000


if __name__ == "__main__":
    main(*sys.argv[1:])
