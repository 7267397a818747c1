"""What is written without a package: ``request.files``, ``save()``, and one SHA-256 of
what was saved."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from flask import Flask
from flask import Response
from flask import request
from flask import send_from_directory

STORE = Path(os.environ["BENCHMARK_INSTANCE"], "saved")
MODELS = os.environ["BENCHMARK_MODELS"]
BLOCK = 1024 * 1024

app = Flask(__name__)


@app.post("/models/<name>")
def save(name: str) -> tuple[dict[str, str], int]:
    folder = STORE / name
    folder.mkdir(parents=True, exist_ok=True)
    request.files["model.json"].save(folder / "model.json")
    weights = folder / "model.weights.bin"
    request.files["model.weights.bin"].save(weights)
    hasher = hashlib.sha256()
    with weights.open("rb") as file:
        while block := file.read(BLOCK):
            hasher.update(block)
    return {"name": name, "sha256": hasher.hexdigest()}, 201


@app.get("/models/<path:path>")
def send(path: str) -> Response:
    return send_from_directory(MODELS, path)


@app.get("/pid")
def pid() -> str:
    return str(os.getpid())
