"""Content codings: RFC 9110 sections 8.4 and 12.5.3, digests: RFC 9530."""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import MakeApp
from decoding import DECODE
from flask.testing import FlaskClient
from models import DENSE_BYTES
from models import content_name
from models import dense_document
from models import write_model
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header
from werkzeug.test import TestResponse

from flask_tfjs.http.codings import CODINGS
from flask_tfjs.http.codings import IDENTITY
from flask_tfjs.http.codings import encode
from flask_tfjs.http.codings import encoded_blocks
from flask_tfjs.http.codings import installed
from flask_tfjs.http.codings import rank
from flask_tfjs.http.representations import Representation
from flask_tfjs.http.representations import Representations
from flask_tfjs.http.representations import json_representation

JSON_URL = "/models/dense/model.json"
JSON_URLS = [JSON_URL, "/models/dense", "/models/dense/"]
SHARD_URL = "/models/dense/weights.bin"
HASHED_URL = f"/models/dense/{content_name('weights', DENSE_BYTES)}"

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


#: A value of the header, and the order in which all codings suit it.
RANKED = [
    ("", [IDENTITY]),
    ("identity", [IDENTITY]),
    ("gzip", ["gzip", IDENTITY]),
    ("br", ["br", IDENTITY]),
    ("zstd", ["zstd", IDENTITY]),
    ("BR, ZStd", ["br", "zstd", IDENTITY]),
    # As browsers send it: ours is the order where the client has none.
    ("gzip, deflate, br, zstd", ["br", "zstd", "gzip", IDENTITY]),
    ("gzip, deflate", ["gzip", IDENTITY]),
    ("*", ["br", "zstd", "gzip", IDENTITY]),
    ("*;q=0.5", ["br", "zstd", "gzip", IDENTITY]),
    ("*;q=0", [IDENTITY]),
    # Where it has one, that.
    ("br;q=0.5, gzip", ["gzip", "br", IDENTITY]),
    ("br;q=0.1, zstd;q=0.2, gzip;q=0.3", ["gzip", "zstd", "br", IDENTITY]),
    ("gzip;q=0.9, *;q=0.1", ["gzip", "br", "zstd", IDENTITY]),
    ("identity;q=0.5, br;q=0.9, gzip;q=0.1", ["br", IDENTITY, "gzip"]),
    ("identity, br;q=0.9", [IDENTITY, "br"]),
    ("identity, br", ["br", IDENTITY]),
    # Nothing that it refuses.
    ("br;q=0, *", ["zstd", "gzip", IDENTITY]),
    ("*, br;q=0, gzip;q=0", ["zstd", IDENTITY]),
    ("br;q=0, gzip", ["gzip", IDENTITY]),
    ("br, *;q=0", ["br", IDENTITY]),
    ("br;q=nonsense, gzip", ["gzip", IDENTITY]),
    # But the identity, where there is nothing else.
    ("identity;q=0", [IDENTITY]),
    ("identity;q=0, gzip;q=0.1", ["gzip", IDENTITY]),
]


@pytest.mark.parametrize(
    ("value", "coding"), [*ACCEPTED, *((value, IDENTITY) for value in REFUSED)]
)
def test_choice_where_only_gzip_is_there(value: str, coding: str) -> None:
    ranked = rank(parse_accept_header(value, Accept))
    assert next(c for c in ranked if c in ("gzip", IDENTITY)) == coding


@pytest.mark.parametrize(("value", "ranked"), RANKED)
def test_rank(value: str, ranked: list[str]) -> None:
    assert list(rank(parse_accept_header(value, Accept))) == ranked


def test_rank_without_the_header() -> None:
    assert rank(parse_accept_header(None, Accept)) == (IDENTITY,)


@pytest.mark.parametrize(
    "filler", [",", ";", " ", '"', "gzip,", "gzip;", "q=", "*", "\\"]
)
def test_rank_of_very_long_values(filler: str) -> None:
    value = "br;" + filler * 10_000
    ranked = rank(parse_accept_header(value, Accept))
    assert len(set(ranked)) == len(ranked)
    assert {IDENTITY} <= set(ranked) <= {*CODINGS, IDENTITY}


def test_gzip_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CODINGS == ("br", "zstd", "gzip")
    assert [coding for coding in CODINGS if coding in installed()] == [*installed()]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert installed() == ("gzip",)


@pytest.mark.parametrize("coding", [*installed(), IDENTITY])
def test_one_content_has_one_encoding(coding: str) -> None:
    data = b"x" * 1000
    encoded = encode(data, coding)
    assert encoded == encode(data, coding)
    assert DECODE[coding](encoded) == data
    assert len(encoded) < 100 or coding == IDENTITY


@pytest.mark.parametrize("coding", installed())
@pytest.mark.parametrize("size", [0, 1, 999])
def test_blocks_are_encoded_as_one(coding: str, size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    blocks = [data[i : i + 100] for i in range(0, size, 100)]
    assert DECODE[coding](b"".join(encoded_blocks(blocks, coding))) == data


def test_gzip_holds_no_time() -> None:
    assert encode(b"x", "gzip")[4:8] == bytes(4)


def get(client: FlaskClient, url: str, accept: str | None) -> TestResponse:
    return client.get(
        url, headers={} if accept is None else {"Accept-Encoding": accept}
    )


def repr_digest(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


@pytest.mark.parametrize("url", JSON_URLS)
@pytest.mark.parametrize(("value", "ranked"), [*RANKED, (None, [IDENTITY])])
def test_json_is_coded(
    client: FlaskClient, url: str, value: str | None, ranked: list[str]
) -> None:
    coding = next(c for c in ranked if c in (*installed(), IDENTITY))
    with get(client, url, None) as r:
        text, tag = r.data, r.headers["ETag"]
        assert json.loads(text)["format"] == "layers-model"
    with get(client, url, value) as r:
        assert r.status_code == 200
        assert r.headers["Content-Length"] == str(len(r.data))
        assert r.headers["Repr-Digest"] == repr_digest(r.data)
        assert DECODE[coding](r.data) == text
        if coding == IDENTITY:
            assert "Content-Encoding" not in r.headers
            assert r.headers["ETag"] == tag
        else:
            assert r.headers["Content-Encoding"] == coding
            assert r.headers["ETag"] == f'{tag[:-1]}-{coding}"'


@pytest.fixture
def with_gzip_alone(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """As it is where only the package is installed, without its extra."""
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        return make_app().test_client()


@pytest.mark.parametrize("url", JSON_URLS)
@pytest.mark.parametrize(("value", "coding"), ACCEPTED[:6])
def test_json_is_coded_by_gzip_alone(
    with_gzip_alone: FlaskClient, url: str, value: str, coding: str
) -> None:
    with get(with_gzip_alone, url, value) as r:
        assert r.headers["Content-Encoding"] == coding
        assert r.headers["ETag"].endswith(f'-{coding}"')
        assert json.loads(gzip.decompress(r.data))["format"] == "layers-model"


@pytest.mark.parametrize("url", JSON_URLS)
@pytest.mark.parametrize("value", [None, *REFUSED])
def test_json_is_not_coded(
    with_gzip_alone: FlaskClient, url: str, value: str | None
) -> None:
    client = with_gzip_alone
    with get(client, url, value) as r:
        assert r.status_code == 200
        assert "Content-Encoding" not in r.headers
        assert r.headers["Content-Length"] == str(len(r.data))
        assert r.headers["Repr-Digest"] == repr_digest(r.data)
        assert json.loads(r.data)["format"] == "layers-model"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "value", [None, "gzip", "gzip;q=0", "identity", "br", "zstd", "*"]
)
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
    accepted = [*installed(), IDENTITY]
    for accept in accepted:
        with get(client, url, accept) as r:
            tags[accept] = r.headers["ETag"]
    assert len(set(tags.values())) == len(accepted)
    for accept, other in itertools.permutations(accepted, 2):
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
        for coding in (*installed(), IDENTITY):
            with get(client, JSON_URL, coding) as r:
                answers.append((replica, coding, r.data, dict(r.headers)))
    half = len(answers) // 2
    for one, two in zip(answers[:half], answers[half:], strict=True):
        assert one[1:] == two[1:]


@pytest.mark.parametrize("url", [SHARD_URL, HASHED_URL])
@pytest.mark.parametrize(
    "value", [None, "gzip", "br", "gzip, deflate, br, zstd", "*", "identity;q=0"]
)
def test_shards_are_not_coded_unless_ahead_of_time(
    client: FlaskClient, value: str | None, url: str
) -> None:
    with get(client, url, value) as r:
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
    for url in (SHARD_URL, HASHED_URL):
        with get(client, url, "gzip, br, zstd") as r:
            assert r.data == DENSE_BYTES
    for coding in installed():
        with get(client, JSON_URL, coding) as r:
            assert b"layers-model" in DECODE[coding](r.data)


def test_coded_json_follows_the_file(client: FlaskClient, tmp_path: Path) -> None:
    for name in ("first", "second"):
        document = dense_document("weights.bin", generatedBy=name)
        (tmp_path / "dense" / "model.json").write_text(json.dumps(document))
        for coding in installed():
            with get(client, JSON_URL, coding) as r:
                assert json.loads(DECODE[coding](r.data))["generatedBy"] == name


@pytest.mark.parametrize("value", ["gzip", "gzip, deflate, br, zstd"])
def test_errors_are_not_coded(client: FlaskClient, value: str) -> None:
    for url in ("/models/unknown", "/models/dense/missing.bin"):
        with get(client, url, value) as r:
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
