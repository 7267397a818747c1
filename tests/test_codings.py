"""Content codings: RFC 9110 sections 8.4 and 12.5.3, digests: RFC 9530."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import MakeApp
from flask.testing import FlaskClient
from models import DENSE_BYTES
from models import dense_document
from models import write_model
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header
from werkzeug.test import TestResponse

from flask_tfjs.http.codings import CODINGS
from flask_tfjs.http.codings import IDENTITY
from flask_tfjs.http.codings import choose
from flask_tfjs.http.codings import encode
from flask_tfjs.http.representations import Representation
from flask_tfjs.http.representations import Representations
from flask_tfjs.http.representations import json_representation

JSON_URL = "/models/dense/model.json"
JSON_URLS = [JSON_URL, "/models/dense", "/models/dense/"]
SHARD_URL = "/models/dense/weights.bin"

ACCEPTED = [
    ("gzip", "gzip"),
    ("GZip", "gzip"),
    ("gzip, deflate, br, zstd", "gzip"),
    ("deflate;q=0.1, gzip;q=0.001", "gzip"),
    ("gzip ; q=0.5", "gzip"),
    ("gzip;q=1.000", "gzip"),
    ("identity, gzip", "gzip"),
    ("identity;q=0.5, gzip", "gzip"),
    ("identity;q=0, gzip;q=0.1", "gzip"),
    ("*", "gzip"),
    ("*;q=0.1", "gzip"),
    ("br, *;q=0.1", "gzip"),
    ("gzip, *;q=0", "gzip"),
    (",gzip,", "gzip"),
]

REFUSED = [
    "",
    "identity",
    "gzip;q=0",
    "gzip;q=0.0",
    "gzip;q=0.000",
    "gzip ; q=0",
    "GZIP;Q=0",
    "*;q=0",
    "gzip;q=0, *",
    "*, gzip;q=0",
    "gzip;q=0.5, identity",
    "gzip;q=0.5, identity;q=0.6",
    "br",
    "deflate, br, zstd",
    "gzipp",
    "xgzip",
    "gzip-9",
    "pack200-gzip",
    "x-gzip",
    "identity;q=0",
    "identity;q=0, *;q=0",
    "gzip;q=nonsense",
    "gzip;q=-1",
    "\xff",
]


@pytest.mark.parametrize(
    ("value", "coding"), [*ACCEPTED, *((value, IDENTITY) for value in REFUSED)]
)
def test_choice(value: str, coding: str) -> None:
    assert choose(parse_accept_header(value, Accept)) == coding


def test_choice_without_the_header() -> None:
    assert choose(parse_accept_header(None, Accept)) == IDENTITY


@pytest.mark.parametrize(
    "filler", [",", ";", " ", '"', "gzip,", "gzip;", "q=", "*", "\\"]
)
def test_choice_of_very_long_values(filler: str) -> None:
    value = "br;" + filler * 10_000
    assert choose(parse_accept_header(value, Accept)) in ("gzip", IDENTITY)


@pytest.mark.parametrize("coding", CODINGS)
def test_one_content_has_one_encoding(coding: str) -> None:
    assert encode(b"x" * 1000, coding) == encode(b"x" * 1000, coding)
    assert len(encode(b"x" * 1000, coding)) < 100


def test_gzip_holds_no_time() -> None:
    assert encode(b"x", "gzip")[4:8] == bytes(4)


def get(client: FlaskClient, url: str, accept: str | None) -> TestResponse:
    return client.get(
        url, headers={} if accept is None else {"Accept-Encoding": accept}
    )


def repr_digest(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


@pytest.mark.parametrize("url", JSON_URLS)
@pytest.mark.parametrize(("value", "coding"), ACCEPTED[:6])
def test_json_is_coded(client: FlaskClient, url: str, value: str, coding: str) -> None:
    with get(client, url, None) as r:
        text, tag = r.data, r.headers["ETag"]
    with get(client, url, value) as r:
        assert r.headers["Content-Encoding"] == coding
        assert r.headers["Content-Length"] == str(len(r.data))
        assert r.headers["Repr-Digest"] == repr_digest(r.data)
        assert r.headers["ETag"] == f'{tag[:-1]}-{coding}"'
        assert gzip.decompress(r.data) == text


@pytest.mark.parametrize("url", JSON_URLS)
@pytest.mark.parametrize("value", [None, *REFUSED])
def test_json_is_not_coded(client: FlaskClient, url: str, value: str | None) -> None:
    with get(client, url, value) as r:
        assert r.status_code == 200
        assert "Content-Encoding" not in r.headers
        assert r.headers["Content-Length"] == str(len(r.data))
        assert r.headers["Repr-Digest"] == repr_digest(r.data)
        assert json.loads(r.data)["format"] == "layers-model"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("value", [None, "gzip", "gzip;q=0", "identity", "br"])
@pytest.mark.parametrize("url", JSON_URLS)
def test_vary_is_on_every_variant(
    client: FlaskClient, url: str, value: str | None, method: str
) -> None:
    headers = {} if value is None else {"Accept-Encoding": value}
    with client.open(url, method=method, headers=headers) as r:
        tag = r.headers["ETag"]
        assert (r.status_code, r.headers.getlist("Vary")) == (200, ["Accept-Encoding"])
    headers["If-None-Match"] = tag
    with client.open(url, method=method, headers=headers) as r:
        assert (r.status_code, r.headers.getlist("Vary")) == (304, ["Accept-Encoding"])
        assert r.headers["ETag"] == tag
        assert "Content-Encoding" not in r.headers


@pytest.mark.parametrize("url", JSON_URLS)
def test_strong_tag_is_of_one_coding_only(client: FlaskClient, url: str) -> None:
    tags = {}
    for accept in ("gzip", "identity"):
        with get(client, url, accept) as r:
            tags[accept] = r.headers["ETag"]
    assert len(set(tags.values())) == 2
    for accept, other in (("gzip", "identity"), ("identity", "gzip")):
        headers = {"Accept-Encoding": accept, "If-None-Match": tags[other]}
        with client.get(url, headers=headers) as r:
            assert (r.status_code, r.headers["ETag"]) == (200, tags[accept])


def test_coded_bytes_are_the_same_on_every_replica(
    make_app: MakeApp, tmp_path: Path
) -> None:
    answers = []
    for replica in ("one", "two"):
        write_model(tmp_path / replica)
        client = make_app(TFJS_MODELS={"dense": tmp_path / replica}).test_client()
        with get(client, JSON_URL, "gzip") as r:
            answers.append((r.data, dict(r.headers)))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("value", [None, "gzip", "*", "identity;q=0"])
def test_shards_are_never_coded(client: FlaskClient, value: str | None) -> None:
    with get(client, SHARD_URL, value) as r:
        assert r.data == DENSE_BYTES
        assert r.headers["Repr-Digest"] == repr_digest(DENSE_BYTES)
        assert r.headers["Content-Length"] == str(len(DENSE_BYTES))
        assert "Content-Encoding" not in r.headers
        assert "Vary" not in r.headers


@pytest.mark.parametrize("sibling", [".gz", ".br", ".zst"])
def test_stale_sidecar_is_never_served(
    client: FlaskClient, tmp_path: Path, sibling: str
) -> None:
    for name in ("model.json", "weights.bin"):
        stale = gzip.compress(b"stale")
        (tmp_path / "dense" / (name + sibling)).write_bytes(stale)
        with client.get(f"/models/dense/{name}{sibling}") as r:
            assert (r.status_code, r.data) == (404, b"")
    with get(client, SHARD_URL, "gzip, br, zstd") as r:
        assert r.data == DENSE_BYTES
    with get(client, JSON_URL, "gzip, br, zstd") as r:
        assert b"layers-model" in gzip.decompress(r.data)


def test_coded_json_follows_the_file(client: FlaskClient, tmp_path: Path) -> None:
    for name in ("first", "second"):
        document = dense_document("weights.bin", generatedBy=name)
        (tmp_path / "dense" / "model.json").write_text(json.dumps(document))
        with get(client, JSON_URL, "gzip") as r:
            assert json.loads(gzip.decompress(r.data))["generatedBy"] == name


def test_errors_are_not_coded(client: FlaskClient) -> None:
    for url in ("/models/unknown", "/models/dense/missing.bin"):
        with get(client, url, "gzip") as r:
            assert r.status_code == 404
            assert "Content-Encoding" not in r.headers
            assert r.content_length == len(r.data)


def test_one_content_is_encoded_once() -> None:
    made = []

    def make() -> Representation:
        made.append(json_representation(b"x" * 100, tag="t", coding="gzip"))
        return made[-1]

    kept = Representations()
    first = kept.get("key", make)
    with ThreadPoolExecutor(4) as pool:
        others = list(pool.map(lambda _: kept.get("key", make), range(20)))
    assert made == [first]
    assert all(other is first for other in others)


def test_least_used_representation_is_forgotten_first() -> None:
    def of_hundred_bytes() -> Representation:
        return json_representation(b"x" * 100, tag="t")

    kept = Representations(max_bytes=250)
    first = {key: kept.get(key, of_hundred_bytes) for key in "ab"}
    assert kept.get("a", of_hundred_bytes) is first["a"]
    kept.get("c", of_hundred_bytes)
    assert kept.get("a", of_hundred_bytes) is first["a"]
    assert kept.get("b", of_hundred_bytes) is not first["b"]


def test_representation_above_the_bound_is_kept_until_the_next() -> None:
    kept = Representations(max_bytes=10)
    for tag in ("a", "b"):
        large = kept.get(tag, lambda: json_representation(b"x" * 100, tag="t"))
        assert kept.get(tag, lambda: json_representation(b"", tag="t")) is large
    small = json_representation(b"", tag="t")
    assert kept.get("a", lambda: small) is small
