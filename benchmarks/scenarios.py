"""What is asked of every server, and whether it answered with the right bytes."""

from __future__ import annotations

import gzip
import http.client
import importlib
import json
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from typing import Literal
from urllib.parse import urljoin

from made_model import JSON_NAME

MODEL = "mobilenet"
MODEL_URL = f"/models/{MODEL}/{JSON_NAME}"

BROWSER_CODINGS = "gzip, deflate, br, zstd"
KIB = 1024


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    target: Literal["model.json", "shard"]
    codings: str
    revalidates: bool = False
    part: tuple[int, int] | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers as a page on another origin sends them."""
        headers = {
            "Accept": "*/*",
            "Origin": "https://page.example",
            "Accept-Encoding": self.codings,
        }
        if self.part is not None:
            headers["Range"] = "bytes={}-{}".format(*self.part)
        return headers

    @property
    def status(self) -> HTTPStatus:
        if self.revalidates:
            return HTTPStatus.NOT_MODIFIED
        if self.part is not None:
            return HTTPStatus.PARTIAL_CONTENT
        return HTTPStatus.OK


def _part(length: int) -> tuple[int, int]:
    first = KIB * KIB
    return first, first + length - 1


# Fetch adds "Accept-Encoding: identity" to every request with a Range.
SCENARIOS = (
    Scenario(
        "json-browser", "model.json, as browsers ask", "model.json", BROWSER_CODINGS
    ),
    Scenario("json-gzip", "model.json, gzip only", "model.json", "gzip"),
    Scenario("json-identity", "model.json, identity", "model.json", "identity"),
    Scenario(
        "json-304",
        "model.json, unchanged (304)",
        "model.json",
        BROWSER_CODINGS,
        revalidates=True,
    ),
    Scenario("shard", "shard of 4 MiB", "shard", BROWSER_CODINGS),
    Scenario(
        "range-64k",
        "range of 64 KiB in a shard",
        "shard",
        "identity",
        part=_part(64 * KIB),
    ),
    Scenario(
        "range-1m",
        "range of 1 MiB in a shard",
        "shard",
        "identity",
        part=_part(KIB * KIB),
    ),
)


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def coding(self) -> str:
        return str(self.headers.get("Content-Encoding", "identity"))

    @property
    def readable_across_origins(self) -> bool:
        return "Access-Control-Allow-Origin" in self.headers


@dataclass(frozen=True)
class Check:
    """One server's request and answer for one scenario."""

    request: Request
    answer: Answer
    fault: str | None

    def summary(self) -> str:
        parts = [str(self.answer.status)]
        if self.answer.body:
            parts += [self.answer.coding, f"{len(self.answer.body):,} B"]
        if not self.answer.readable_across_origins:
            parts.append("without CORS")
        if self.fault:
            parts.append(f"FAULT: {self.fault}")
        return " ".join(parts)


def ask(port: int, request: Request) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest("GET", request.path, skip_accept_encoding=True)
        for name, value in request.headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def check(port: int, scenario: Scenario, directory: Path) -> Check:
    """Prepare the request of a scenario, send it and compare with the files."""
    request = _prepare(port, scenario)
    answer = ask(port, request)
    return Check(request, answer, _fault(scenario, answer, directory))


def _prepare(port: int, scenario: Scenario) -> Request:
    path = MODEL_URL if scenario.target == "model.json" else _shard_url(port)
    request = Request(path, scenario.headers)
    if not scenario.revalidates:
        return request
    etag = str(ask(port, request).headers.get("ETag", ""))
    return Request(path, {**scenario.headers, "If-None-Match": etag})


def _shard_url(port: int) -> str:
    """The first shard, where the served manifest says that it is."""
    served = ask(port, Request(MODEL_URL, {"Accept-Encoding": "identity"}))
    paths = json.loads(served.body)["weightsManifest"][0]["paths"]
    return urljoin(MODEL_URL, str(paths[0]))


def _fault(scenario: Scenario, answer: Answer, directory: Path) -> str | None:
    if answer.status != scenario.status:
        return f"{scenario.status.value} expected"
    if scenario.revalidates:
        return "a body" if answer.body else None
    if scenario.target == "model.json":
        return None if _same_model(answer, directory) else "not the model"
    return None if _same_bytes(scenario, answer, directory) else "not the bytes"


def _same_model(answer: Answer, directory: Path) -> bool:
    """Equal but for the names of the shards, which a server may choose."""
    on_disk = json.loads((directory / JSON_NAME).read_bytes())
    served = json.loads(_decode(answer))
    return _without_paths(served) == _without_paths(on_disk)


def _without_paths(model: dict[str, Any]) -> dict[str, Any]:
    groups = [{**group, "paths": []} for group in model["weightsManifest"]]
    return {**model, "weightsManifest": groups}


def _decode(answer: Answer) -> bytes:
    if answer.coding == "identity":
        return answer.body
    if answer.coding == "gzip":
        return gzip.decompress(answer.body)
    # Imported by name: only the codings that a server chose need their module.
    module = {"br": "brotli", "zstd": "zstandard"}[answer.coding]
    decoded: bytes = importlib.import_module(module).decompress(answer.body)
    return decoded


def _same_bytes(scenario: Scenario, answer: Answer, directory: Path) -> bool:
    first_shard = min(directory.glob("*.bin"))
    content = first_shard.read_bytes()
    if scenario.part is not None:
        first, last = scenario.part
        content = content[first : last + 1]
    return answer.body == content
