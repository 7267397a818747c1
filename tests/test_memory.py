"""What a process keeps of many models is bounded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from reference import HUMAN_DIRECTORY
from servers import require

MODELS = 1000
MAX_MEGABYTES = 150

# JSON files of 70 to 85 kB, and weights of few bytes for their kind.
SOURCES = ("blazeface", "blazeface-back", "facemesh-detection-short", "selfie")

# Prints the megabytes of memory that the process takes above its start: once all models
# are listed, once all are loaded, and at most.
SCRIPT = """
import json, sys, time
from flask import Flask
from flask_tfjs import create_blueprint

def megabytes(field):
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith(field))
    return int(line.split()[1]) / 1000

models, instance = sys.argv[1:]
app = Flask("memory", instance_path=instance)
app.register_blueprint(create_blueprint(models=models, index=True))
client = app.test_client()
for state in app.extensions["tfjs"].values():
    # As if all files had been there for long, so that all is remembered.
    state.catalogue.digests.clock = lambda: time.time_ns() + 60_000_000_000

def get(url):
    with client.get(url) as response:
        assert response.status_code == 200, (url, response.data)
        return response.data

start, grown = megabytes("VmRSS"), []
rows = json.loads(get("/models/"))["models"]
grown.append(megabytes("VmRSS") - start)
for row in rows:
    (entry,) = row["entries"]
    document = json.loads(get(f"/models/{entry['path']}"))
    for path in (path for g in document["weightsManifest"] for path in g["paths"]):
        get(f"/models/{row['name']}/{path}")
grown += [megabytes("VmRSS") - start, megabytes("VmHWM") - start]
print(json.dumps([len(rows), *grown]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A thousand models, whose JSONs all differ."""
    require(Path("/proc/self/status").exists(), "/proc")
    require(HUMAN_DIRECTORY.is_dir(), "human-models: npm ci in tests/clients")
    (tmp_path / "weights").mkdir()
    documents = {}
    for source in SOURCES:
        shutil.copy(HUMAN_DIRECTORY / f"{source}.bin", tmp_path / "weights")
        documents[source] = (HUMAN_DIRECTORY / f"{source}.json").read_text()
    for i in range(MODELS):
        source = SOURCES[i % len(SOURCES)]
        directory = tmp_path / "models" / f"model{i}"
        directory.mkdir(parents=True)
        numbered = documents[source].replace("{", f'{{"number": {i}, ', 1)
        (directory / f"{source}.json").write_text(numbered)
        name = f"{source}.bin"
        os.link(tmp_path / "weights" / name, directory / name)
    return tmp_path / "models"


def test_a_thousand_models(folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder, tmp_path / "instance"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        check=True,
    )
    count, listed, loaded, most = json.loads(done.stdout)
    assert count == MODELS
    assert max(listed, loaded, most) < MAX_MEGABYTES
