"""Real TensorFlow.js loads what the official converter made of Keras models, as it is
served, and predicts what Keras predicts."""

from __future__ import annotations

import collections.abc as cabc
import http.client
import json
import shutil
from typing import Any

import pytest
from clients.drivers import Client
from clients.drivers import start_node
from official import CASES
from official import FIXTURES
from official import LOADED
from official import MENDED
from official import REFUSED
from official import SCRIPTED
from official import document_of
from official import model_of
from official import read_io
from predicting import TOLERANCE
from predicting import TFJSFailed
from predicting import difference
from predicting import predict
from servers import Server
from servers import serve
from servers import serve_pages


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> cabc.Iterator[Server]:
    directory = tmp_path_factory.mktemp("served")
    for case in CASES:
        shutil.copytree(FIXTURES / case, directory / "models" / case)
    config = {"TFJS_MODELS": {c: str(directory / "models" / c) for c in CASES}}
    with serve("gunicorn", directory, config) as server:
        yield server


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> cabc.Iterator[Client]:
    """Without the script of layers."""
    with start_node(tmp_path_factory.mktemp("stock"), "predict.mjs") as node:
        yield node


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> cabc.Iterator[Client]:
    with start_node(tmp_path_factory.mktemp("scripted"), "predict.mjs") as node:
        yield node


def get(server: Server, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@pytest.mark.parametrize("case", LOADED)
def test_predicts_what_keras_predicts(
    case: str, served: Server, stock: Client, scripted: Client
) -> None:
    status, document = get(served, f"/models/{case}/model.json")
    assert status == 200, document
    io = read_io(case, document)
    url = f"{served.url}/models/{case}/model.json"
    if model_of(case) in SCRIPTED:
        with pytest.raises(TFJSFailed, match="Unknown layer: Keras"):
            predict(stock, url, io.inputs)
        script = f"{served.url}/models/-/static/keras-layers.js"
        outputs = predict(scripted, url, io.inputs, script=script)
    else:
        outputs = predict(stock, url, io.inputs)
    assert difference(outputs, io.outputs) < TOLERANCE


@pytest.mark.parametrize("case", sorted(set(CASES) - set(LOADED)))
def test_what_cannot_be_mended_is_refused(
    case: str, served: Server, stock: Client
) -> None:
    status, answer = get(served, f"/models/{case}/model.json")
    assert status == 500
    assert answer["error"].startswith(f"{REFUSED[model_of(case)]}: ")
    with pytest.raises(TFJSFailed, match="status code 500"):
        predict(stock, f"{served.url}/models/{case}/model.json", [])


@pytest.mark.parametrize("case", sorted({*MENDED} - {"bilinear2-h5"}))
def test_tfjs_refuses_it_from_elsewhere(case: str, stock: Client) -> None:
    """Or there would be nothing to mend."""
    with serve_pages(FIXTURES / case) as elsewhere:
        with pytest.raises(TFJSFailed):
            predict(stock, f"{elsewhere.origin}/model.json", [])


def test_tfjs_mistakes_it_from_elsewhere(stock: Client) -> None:
    case = "bilinear2-h5"
    io = read_io(case, document_of(case))
    with serve_pages(FIXTURES / case) as elsewhere:
        outputs = predict(stock, f"{elsewhere.origin}/model.json", io.inputs)
    assert difference(outputs, io.outputs) > 0.1
