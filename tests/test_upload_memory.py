"""What an upload takes of a server's memory does not depend on its size, and is less
than the 64 MB that are promised. benchmarks/uploads.py measures it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from resident import forget_peak
from resident import peak
from resident import resident
from servers import Server
from servers import serve
from uploading import CONTENT_TYPE
from uploading import bearer
from uploading import json_part
from uploading import multipart
from uploading import sized_document
from uploading import weights_part

MEBIBYTE = 1024 * 1024
SIZE = 64 * MEBIBYTE
MOST = 32_000_000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def upload(server: Server, size: int, *, json_first: bool = True) -> None:
    weights = os.urandom(MEBIBYTE) * (size // MEBIBYTE)
    parts = [json_part(sized_document(size)), weights_part(weights)]
    body = multipart(*(parts if json_first else reversed(parts)))
    connection = server.http()
    headers = {**bearer("s3cret"), "Content-Type": CONTENT_TYPE}
    connection.request("POST", "/models/large", body, headers)
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    connection.close()


def worker(server: Server) -> int:
    connection = server.http()
    connection.request("GET", "/ready")
    pid = int(connection.getresponse().read())
    connection.close()
    return pid


@pytest.mark.parametrize("json_first", [True, False])
def test_an_upload_is_not_held_in_memory(tmp_path: Path, json_first: bool) -> None:
    config = {"TFJS_UPLOADS": ["large"]}
    kind = "gunicorn-one-worker"
    with serve(kind, tmp_path, config, token="s3cret") as server:
        upload(server, MEBIBYTE)
        pid = worker(server)
        before = resident(pid)
        forget_peak(pid)
        upload(server, SIZE, json_first=json_first)
        assert worker(server) == pid
        grown = peak(pid) - before
    print(f"{SIZE / 1e6:.0f} MB sent, {grown / 1e6:.1f} MB of memory")
    assert grown < MOST
