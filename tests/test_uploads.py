"""What ``model.save(url)`` sends becomes a version, or changes nothing."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import logging
import struct
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from typing import BinaryIO

import numpy as np
import pytest
import reference
from conftest import OPEN_CORS
from conftest import MakeApp
from filesystem import time_limit
from flask import Flask
from flask import Response
from flask import abort
from flask import redirect
from flask import request
from flask.testing import FlaskClient
from models import DENSE_BYTES
from models import DENSE_WEIGHTS
from models import FLATTEN_TOPOLOGY
from models import LAYERS_TOPOLOGY
from models import write_model
from uploading import BOUNDARY
from uploading import CONTENT_TYPE
from uploading import WEIGHTS_PART
from uploading import bearer
from uploading import dense_body
from uploading import json_part
from uploading import multipart
from uploading import part
from uploading import read_weights
from uploading import saved
from uploading import saved_document
from uploading import sized_body
from uploading import sized_document
from uploading import snapshot
from uploading import weights_part
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import TestResponse

from flask_tfjs import allow_all
from flask_tfjs import bearer_token
from flask_tfjs import create_blueprint
from flask_tfjs import receiving
from flask_tfjs import signals
from flask_tfjs.cli import tfjs
from flask_tfjs.models import store as stores

SECRET = "s3cret"
OTHER_SITE = "https://evil.example"
URL = "/models/dense/model.json"
URLS = ["/models/dense", "/models/dense/", URL]
HEADERS = {"Content-Type": CONTENT_TYPE}


@pytest.fixture(autouse=True)
def never_hang() -> Iterator[None]:
    with time_limit(60):
        yield


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "instance" / "tfjs-models"


@pytest.fixture
def make_saver(make_app: MakeApp) -> MakeApp:
    """An app where anybody may save ``dense``, ``other`` and ``third``."""

    def make(**config: Any) -> Flask:
        defaults = {
            "TFJS_MODELS": {},
            "TFJS_UPLOADS": ["dense", "other", "third"],
            "TFJS_AUTHORIZE_PUBLISH": allow_all,
        }
        return make_app(**{**defaults, **config})

    return make


@pytest.fixture
def app(make_saver: MakeApp) -> Flask:
    return make_saver()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def save(
    client: FlaskClient,
    body: bytes | None = None,
    url: str = URL,
    method: str = "POST",
    **headers: Any,
) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = dense_body() if body is None else body
    return client.open(
        url,
        method=method,
        input_stream=io.BytesIO(body),
        headers={**HEADERS, **named},
    )


def save_chunked(client: FlaskClient, body: bytes, method: str = "POST") -> Any:
    """Without a length, as a server hands a chunked body on."""
    return client.open(
        URL,
        method=method,
        input_stream=io.BytesIO(body),
        headers={**HEADERS, "Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )


class Stream:
    """What comes from a client.

    :param before: is called before each read.
    """

    def __init__(
        self, data: bytes, before: Callable[[], object] = lambda: None
    ) -> None:
        self._data = io.BytesIO(data)
        self._before = before

    def read(self, size: int = -1) -> bytes:
        self._before()
        return self._data.read(size)


def save_stream(
    client: FlaskClient,
    stream: Stream,
    length: int,
    url: str = URL,
    method: str = "POST",
    **headers: Any,
) -> TestResponse:
    """*length*: what is announced."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.open(
        url,
        method=method,
        input_stream=io.BytesIO(),
        headers={**HEADERS, **named},
        environ_overrides={"wsgi.input": stream, "CONTENT_LENGTH": str(length)},
    )


def check_stored(
    response: TestResponse, version: int, name: str = "dense", status: int = 201
) -> None:
    assert response.status_code == status, response.text
    assert response.mimetype == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert OPEN_CORS.items() <= dict(response.headers).items()
    value = response.get_json()
    assert value == {
        "name": name,
        "version": version,
        "url": f"http://localhost/models/{name}/model.json",
        "pinned_url": f"http://localhost/models/{name}/model.v{version}.json",
        "etag": value["etag"],
    }
    assert len(value["etag"]) == 32
    assert response.headers["ETag"] == f'"{value["etag"]}"'
    assert response.headers["Location"] == value["pinned_url"]


def check_refused(response: TestResponse, status: int, *words: str) -> str:
    """As every refusal on these URLs is; return the reason."""
    assert response.status_code == status, response.text
    assert response.mimetype == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert OPEN_CORS.items() <= dict(response.headers).items()
    for absent in ("Location", "ETag", "Set-Cookie"):
        assert absent not in response.headers
    (reason,) = response.get_json().values()
    assert isinstance(reason, str)
    for word in words:
        assert word in reason
    assert (
        "/instance/" not in reason
    )  # of no use to the client, and none of its business
    return reason


def published(store: Path, name: str = "dense") -> Any:
    return json.loads((store / name / "model.json").read_bytes())


def served(client: FlaskClient, name: str = "dense") -> tuple[Any, bytes]:
    """A model as a client of tfjs loads it: the JSON, and all shards joined."""
    response = client.get(f"/models/{name}/model.json")
    assert response.status_code == 200, response.text
    document = response.get_json()
    shards = [
        client.get(f"/models/{name}/{path}")
        for group in reference.groups_of(document)
        for path in group["paths"]
    ]
    assert all(shard.status_code == 200 for shard in shards)
    return document, b"".join(shard.data for shard in shards)


# What is accepted


def test_as_a_browser_sends_it(client: FlaskClient, store: Path) -> None:
    check_stored(save(client), 1)
    document, data = served(client)
    assert data == DENSE_BYTES == read_weights(store / "dense")
    sent = saved_document()
    for key in ("format", "generatedBy", "convertedBy", "modelTopology"):
        assert document[key] == sent[key]
    assert document["weightsManifest"][0]["weights"] == DENSE_WEIGHTS


def models_made(root: Path) -> dict[str, reference.Model]:
    return {model.name: model for model in reference.made_models(root)}


@pytest.mark.parametrize("order", ["json first", "weights first"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_every_kind_of_model(
    client: FlaskClient, store: Path, tmp_path: Path, order: str, framing: str
) -> None:
    """Graph models, strings, quantised weights, groups, bare lists, an optimizer: what
    is stored is what was sent, weight by weight."""
    for model in models_made(tmp_path / "made").values():
        document = json.loads(model.path.read_bytes())
        data = b"".join(
            (model.directory / path).read_bytes()
            for group in reference.groups_of(document)
            for path in group["paths"]
        )
        parts = [json_part(document), weights_part(data)]
        body = multipart(*(parts if order == "json first" else reversed(parts)))
        send = save_chunked if framing == "chunked" else save
        response = send(client, body)
        assert response.status_code == 201, (model.name, response.text)
        path = store / "dense" / "model.json"
        reference.read_model.cache_clear()
        assert reference.read_model(path) == model.fingerprints(), model.name
        assert served(client)[1] == data
        stored = published(store)
        if isinstance(document, dict):
            for key in document.keys() - {"weightsManifest"}:
                assert stored[key] == document[key]


def specs_of(document: Any) -> list[Any]:
    groups = reference.groups_of(document)
    return [spec for group in groups for spec in group["weights"]]


def test_the_optimizer_is_kept(client: FlaskClient, store: Path) -> None:
    document, weights = reference.layers_model([4, 3])
    document = reference.with_adam(document, weights)
    specs = [spec for group in weights for spec, _ in group]
    data = b"".join(piece for group in weights for _, piece in group)
    document["weightsManifest"] = [{"paths": ["./x"], "weights": specs}]
    check_stored(save(client, saved(document, data)), 1)
    assert published(store)["trainingConfig"] == document["trainingConfig"]
    assert specs_of(published(store)) == specs
    assert {spec.get("group") for spec in specs} == {None, "optimizer"}
    assert served(client)[1] == data


def test_unknown_members_are_kept(client: FlaskClient, store: Path) -> None:
    members: dict[str, Any] = {
        "userDefinedMetadata": {
            "labels": ["größe", "\ud800", "✓"],
            "n": [1, -0.0, 1e300],
        },
        "trainingConfig": {"loss": "x", "metrics": []},
        "ml5Specs": {"a": [[[]]]},
        "signature": {"inputs": {}},
        "__proto__": {"a": 1},
    }
    check_stored(save(client, dense_body(**members)), 1)
    stored = published(store)
    for key, value in members.items():
        assert stored[key] == value
        assert served(client)[0][key] == value


def test_a_release_that_it_claims_to_be(client: FlaskClient, store: Path) -> None:
    """Who loads a published model and saves it again may send our own member."""
    claimed = {
        "version": 7,
        "published": "never",
        "sha256": {"../x": "y"},
        "assets": {"labels.txt": "0" * 64},
    }
    check_stored(save(client, dense_body(flaskTfjs=claimed)), 1)
    release = published(store)["flaskTfjs"]
    assert release["version"] == 1
    assert release["assets"] == {}
    assert list(release["sha256"].values()) == [hashlib.sha256(DENSE_BYTES).hexdigest()]
    assert client.get("/models/dense/labels.txt").status_code == 404


def test_topology_only(client: FlaskClient, store: Path) -> None:
    """One part, and a manifest whose only group has no key ``weights``."""
    document = saved_document()
    del document["weightsManifest"][0]["weights"]
    for weights in (None, b""):
        response = save(client, saved(document, weights))
        assert response.status_code == 201, response.text
        assert "weightsManifest" not in published(store)
        assert served(client) == (published(store), b"")
    response = save(client, saved(document, b"1234"))
    check_refused(response, 400, "4 bytes", "need 0")


def test_a_model_without_weights(client: FlaskClient, store: Path) -> None:
    """The second part is there, and empty."""
    group = {"paths": [f"./{WEIGHTS_PART}"], "weights": []}
    document = {**saved_document(), "modelTopology": FLATTEN_TOPOLOGY}
    document["weightsManifest"] = [group]
    for weights in (b"", None):
        response = save(client, saved(document, weights))
        assert response.status_code == 201, response.text
        assert "weightsManifest" not in published(store)
        assert served(client)[1] == b""


@pytest.mark.parametrize(
    "manifest",
    [
        None,
        [],
        [{"paths": [], "weights": []}],
        [{"paths": [], "weights": []}, {"paths": ["a"], "weights": []}],
    ],
)
@pytest.mark.parametrize("kind", ["layers", "graph", "none"])
def test_no_weights_at_all(client: FlaskClient, kind: str, manifest: Any) -> None:
    topologies = {"layers": FLATTEN_TOPOLOGY, "graph": {"node": []}, "none": None}
    document = {"modelTopology": topologies[kind], "weightsManifest": manifest}
    response = save(client, saved(document, None))
    if kind == "none" and manifest is None:
        check_refused(response, 400, "neither 'modelTopology' nor 'weightsManifest'")
    else:
        assert response.status_code == 201, response.text
        assert served(client)[1] == b""


@pytest.mark.parametrize("as_list", [False, True])
def test_groups_without_weights_among_others(
    client: FlaskClient, as_list: bool
) -> None:
    empty: dict[str, Any] = {"paths": [], "weights": []}
    groups = [
        empty,
        {"paths": ["x"], "weights": DENSE_WEIGHTS[:1]},
        empty,
        {"paths": ["../y"], "weights": DENSE_WEIGHTS[1:]},
        empty,
    ]
    document = groups if as_list else {**saved_document(), "weightsManifest": groups}
    check_stored(save(client, saved(document, DENSE_BYTES)), 1)
    document, data = served(client)
    assert data == DENSE_BYTES
    counts = [len(group["weights"]) for group in reference.groups_of(document)]
    assert counts == [0, 1, 0, 1, 0]


def test_fields_without_file_names(client: FlaskClient) -> None:
    """More than ``MAX_FORM_MEMORY_SIZE`` each, which is for forms."""
    document = {**sized_document(700_000), "userDefinedMetadata": {"a": "b" * 600_000}}
    body = multipart(
        json_part(document, filename=None),
        weights_part(b"\1" * 700_000, filename=None),
    )
    check_stored(save(client, body), 1)
    assert served(client)[1] == b"\1" * 700_000


@pytest.mark.parametrize(
    "filename",
    [
        *("../../etc/passwd", "/etc/passwd", "C:\\\\con", "..", "%00", "a/b"),
        *("model.v1.json", ".last-version", "x" * 5000, "\u202e\x07", "ü"),
    ],
)
def test_file_names_of_the_client(
    client: FlaskClient, store: Path, filename: str
) -> None:
    document = {**saved_document(), "generatedBy": filename}
    body = multipart(
        json_part(document, filename=filename),
        weights_part(DENSE_BYTES, filename=filename),
    )
    check_stored(save(client, body), 1)
    (shard,) = (p.name for p in (store / "dense").glob("*.bin"))
    names = {"model.json", "model.v1.json", shard}
    assert {path.name for path in (store / "dense").iterdir()} == names
    assert {path.name for path in store.iterdir()} <= {"dense", ".locks"}


HOSTILE_PATHS = [
    *("../../etc/passwd", "/etc/passwd", "https://evil.example/x.bin", "", ".", ".."),
    *("//evil.example/x", "file:///etc/passwd", "model.json", "a\x00b", "x" * 100_000),
    *(".last-version", "C:\\x", "\ud800", "%2e%2e/x", "?", "#"),
]


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_paths_of_the_client_are_never_resolved(
    client: FlaskClient, tmp_path: Path, store: Path, path: str
) -> None:
    outside = snapshot(tmp_path)
    document = saved_document()
    document["weightsManifest"][0]["paths"] = [path, path]
    check_stored(save(client, saved(document, DENSE_BYTES)), 1)
    (group,) = published(store)["weightsManifest"]
    (shard,) = group["paths"]
    digest = hashlib.sha256(DENSE_BYTES).hexdigest()[:32]
    assert shard == f"model.weights.{digest}.bin"
    assert (store / "dense" / shard).read_bytes() == DENSE_BYTES
    new = snapshot(tmp_path).keys() - outside.keys()
    assert all(name.startswith("instance") for name in new)


def test_paths_of_several_groups(client: FlaskClient) -> None:
    """Two groups that name one file are still two: all come in one part."""
    groups = [
        {"paths": ["w.bin"], "weights": [spec]} for spec in reversed(DENSE_WEIGHTS)
    ]
    document = {**saved_document(), "weightsManifest": groups}
    check_stored(save(client, saved(document, DENSE_BYTES)), 1)
    document, data = served(client)
    assert data == DENSE_BYTES
    names = [group["weights"][0]["name"] for group in document["weightsManifest"]]
    assert names == ["dense/bias", "dense/kernel"]


def test_large_weights_are_cut(client: FlaskClient, store: Path) -> None:
    """At 4 MiB; equal shards are one file."""
    size = 9 * 1024 * 1024 + 1
    check_stored(save(client, sized_body(size)), 1)
    (group,) = published(store)["weightsManifest"]
    assert len(group["paths"]) == 3 and len(set(group["paths"])) == 2
    assert served(client)[1] == bytes(size)


@pytest.mark.parametrize(
    "body",
    [
        b"preamble\r\n" + dense_body(),
        b"\r\n" + dense_body(),
        dense_body() + b"\r\nepilogue",
        dense_body()[:-2],
        multipart(
            json_part(b"\xef\xbb\xbf" + json.dumps(saved_document()).encode()),
            weights_part(DENSE_BYTES),
        ),
    ],
    ids=["preamble", "line first", "epilogue", "no line end", "byte order mark"],
)
def test_what_a_body_may_have_around(client: FlaskClient, body: bytes) -> None:
    check_stored(save(client, body), 1)
    assert served(client)[1] == DENSE_BYTES


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n" * 100_000,
        b"\r" * 200_000,
        b"\n" * 200_000,
        f"\r\n--{BOUNDARY[:-1]}".encode() * 4000,
        f"\r\n--{BOUNDARY}x".encode() * 4000,
        f"--{BOUNDARY}--".encode() * 4000,
        (b"x" * (64 * 1024 - 1) + b"\r\n") * 5,
        b"\r" * 65_536 + b"\n",
    ],
    ids=["crlf", "cr", "lf", "near", "longer", "no line", "split", "split late"],
)
def test_weights_that_look_like_a_boundary(client: FlaskClient, data: bytes) -> None:
    for shift in range(1, 5):
        sent = b"z" * shift + data
        response = save(client, saved(sized_document(len(sent)), sent))
        assert response.status_code == 201, response.text
        assert served(client)[1] == sent


@pytest.mark.parametrize("order", [1, -1], ids=["json first", "weights first"])
def test_where_the_blocks_end(client: FlaskClient, order: int) -> None:
    """A body is read in blocks of 64 KiB, which may end at any of its bytes."""

    def body(size: int) -> bytes:
        parts = [json_part(sized_document(size)), weights_part(b"\r" * size)]
        return multipart(*parts[::order])

    size = 131_072 - len(body(100_000)) + 100_000
    for extra in range(-6, 10):
        assert len(body(size + extra)) == 131_072 + extra
        response = save(client, body(size + extra))
        assert response.status_code == 201, (extra, response.text)
        assert served(client)[1] == b"\r" * (size + extra)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=b",
        'multipart/form-data; boundary="b"',
        "Multipart/Form-Data; charset=utf-8; BOUNDARY=b",
        'multipart/form-data;boundary="a b:(\'+_,-./=?)"',
        "multipart/form-data; boundary=" + "b" * 200,
    ],
)
def test_content_types(client: FlaskClient, content_type: str) -> None:
    boundary = content_type.lower().split("boundary=")[1].strip('"')
    parts = json_part(saved_document()), weights_part(DENSE_BYTES)
    body = multipart(*parts, boundary=boundary)
    check_stored(save(client, body, Content_Type=content_type), 1)


@pytest.mark.parametrize("coding", ["identity", "Identity", " identity ", None])
def test_no_content_coding(client: FlaskClient, coding: str | None) -> None:
    headers: dict[str, Any] = {} if coding is None else {"Content_Encoding": coding}
    check_stored(save(client, **headers), 1)


# What is refused, and changes nothing

SPEC: dict[str, Any] = {"name": "w", "shape": [8], "dtype": "float32"}


def with_spec(**members: Any) -> bytes:
    """A model of one weight, which has these members too."""
    document = saved_document()
    document["weightsManifest"][0]["weights"] = [{**SPEC, **members}]
    return saved(document, DENSE_BYTES)


def with_manifest(manifest: Any) -> bytes:
    return saved({**saved_document(), "weightsManifest": manifest}, DENSE_BYTES)


def as_text(text: str) -> bytes:
    """A model whose JSON is *text*, but for ``@``, which is a sound one's members."""
    members = json.dumps(saved_document())[1:-1]
    return saved(text.replace("@", members).encode(), DENSE_BYTES)


JSON = json_part(saved_document())
WEIGHTS = weights_part(DENSE_BYTES)
DEEP = "[" * 100_000 + "]" * 100_000

SHAPES: list[Any] = [
    *([2**60], [2**31, 2**31, 2**31], [2**53, 2], [1e300], [1e200, 1e200, 0]),
    *([-8], [-2, -4], [0.5, 16], [True], ["8"], [None], [[8]], 8, "8", None, {}),
]
DTYPES = ["float16", "int64", "uint8", "float64", "Float32", "", None, 4]

#: What is sent -> the status, and words of the reason.
REFUSED: dict[str, tuple[bytes, int, list[str]]] = {
    # The parts
    "nothing": (b"", 400, ["cut off"]),
    "no multipart": (b"x" * 1000, 400, ["multipart"]),
    "a megabyte of no multipart": (b"x" * 1_000_000, 400, ["multipart"]),
    "no part": (multipart(), 400, ["no part 'model.json'"]),
    "no json": (multipart(WEIGHTS), 400, ["no part 'model.json'"]),
    "json twice": (multipart(JSON, JSON, WEIGHTS), 400, ["'model.json' comes twice"]),
    "weights twice": (multipart(JSON, WEIGHTS, WEIGHTS), 400, ["comes twice"]),
    "weights twice, first": (multipart(WEIGHTS, WEIGHTS, JSON), 400, ["comes twice"]),
    "json twice, around": (multipart(JSON, WEIGHTS, JSON), 400, ["comes twice"]),
    "a third part": (multipart(JSON, WEIGHTS, part("labels.txt", b"a")), 400, ["lab"]),
    "another part first": (multipart(part("x", b""), JSON, WEIGHTS), 400, ["'x'"]),
    "upper case": (multipart(part("MODEL.JSON", b"{}")), 400, ["MODEL.JSON"]),
    "a path": (multipart(part("../../model.json", b"{}")), 400, ["../../model.json"]),
    "a path to it": (multipart(part("x/model.json", b"{}")), 400, ["x/model.json"]),
    "an empty name": (multipart(part("", b"{}", filename="model.json")), 400, ["''"]),
    "a bell": (multipart(part("\x07", b"{}")), 400, ["'\\x07'"]),
    "no name": (
        multipart(b'Content-Disposition: form-data; filename="model.json"\r\n\r\n{}'),
        400,
        ["called None"],
    ),
    "no disposition": (multipart(b"Content-Type: text/plain\r\n\r\n{}"), 400, []),
    "no header": (multipart(b"\r\n{}"), 400, []),
    "no blank line": (multipart(b"Content-Disposition: form-data"), 400, []),
    "not UTF-8": (multipart(part("\x80", b"").replace(b"\xc2", b"")), 400, []),
    "a huge header": (
        multipart(b"X: " + b"x" * 600_000 + b"\r\n" + JSON, WEIGHTS),
        400,
        ["headers"],
    ),
    "another boundary": (dense_body().replace(BOUNDARY[:-1].encode(), b"x"), 400, []),
    "no last boundary": (dense_body().removesuffix(f"--{BOUNDARY}--\r\n".encode()),
                         400, ["last boundary is missing"]),
    "boundary not the last": (
        dense_body().removesuffix(b"--\r\n") + b"\r\n", 400, ["last boundary"]
    ),
    "a megabyte after the last": (dense_body() + b"x" * 1_000_000, 400, []),
    # The sizes
    "a byte too few": (dense_body(DENSE_BYTES[:-1]), 400, ["31 bytes", "need 32"]),
    "a byte too many": (dense_body(DENSE_BYTES + b"x"), 400, ["33 bytes", "need 32"]),
    "none": (dense_body(b""), 400, ["0 bytes", "need 32"]),
    "many too many": (dense_body(bytes(3_000_000)), 400, ["3000000 bytes", "need 32"]),
    "too few, weights first": (
        multipart(weights_part(DENSE_BYTES[:-1]), JSON), 400, ["31 bytes", "need 32"]
    ),
    "too many, weights first": (
        multipart(weights_part(DENSE_BYTES + b"x"), JSON), 400, ["33 bytes", "need 32"]
    ),
    "loaded with streamWeights": (multipart(JSON), 400, ["32 bytes", "streamWeights"]),
    "string cut short": (
        saved(
            {
                **saved_document(),
                "modelTopology": {"node": []},
                "weightsManifest": [
                    {
                        "paths": [],
                        "weights": [{"name": "s", "shape": [2], "dtype": "string"}],
                    }
                ],
            },
            b"\x01\0\0\0a\x02\0\0\0b",
        ),
        400,
        ["strings"],
    ),
    "string too long": (
        saved(
            {
                **saved_document(),
                "modelTopology": {"node": []},
                "weightsManifest": [
                    {
                        "paths": [],
                        "weights": [{"name": "s", "shape": [1], "dtype": "string"}],
                    }
                ],
            },
            b"\x01\0\0\0ab",
        ),
        400,
        ["6 bytes", "need 5"],
    ),
    # The JSON
    "empty json": (saved(b"", DENSE_BYTES), 400, ["model.json", "empty"]),
    "not json": (saved(b"{", DENSE_BYTES), 400, ["model.json", "not JSON"]),
    "a page": (saved(b"<!doctype html>", DENSE_BYTES), 400, ["page"]),
    "null": (saved(None, DENSE_BYTES), 400, ["neither"]),
    "a number": (saved(1, DENSE_BYTES), 400, ["neither"]),
    "a string": (saved("modelTopology", DENSE_BYTES), 400, ["neither"]),
    "an object": (saved({"a": 1}, DENSE_BYTES), 400, ["neither"]),
    "a list": (saved([1, 2], DENSE_BYTES), 400, ["neither"]),
    "UTF-16": (saved('{"modelTopology": {}}'.encode("utf-16"), b""), 400, ["UTF-8"]),
    "latin-1": (saved(b'{"modelTopology": "\xe4"}', b""), 400, ["UTF-8"]),
    "NaN": (as_text('{@, "a": NaN}'), 400, ["NaN"]),
    "Infinity": (as_text('{@, "a": [Infinity]}'), 400, ["Infinity"]),
    "-Infinity": (as_text('{@, "a": -Infinity}'), 400, ["Infinity"]),
    "1e999": (as_text('{@, "a": 1e999}'), 400, ["1e999"]),
    "many digits": (as_text('{@, "a": ' + "9" * 1_000_000 + "}"), 400, ["Infinity"]),
    "deep lists": (as_text('{@, "a": ' + DEEP + "}"), 400, ["nested"]),
    "deep objects": (
        as_text('{@, "a": ' + '{"a":' * 300 + "1" + "}" * 301), 400, ["nested"]
    ),
    "a storage dump": (
        saved(
            {"modelTopology": LAYERS_TOPOLOGY, "weightSpecs": DENSE_WEIGHTS},
            DENSE_BYTES,
        ),
        400,
        ["weightSpecs", "storage dump"],
    ),
    "no topology we know": (
        saved({"modelTopology": {"a": 1}}, None), 400, ["modelTopology"]
    ),
    "a topology of text": (saved({"modelTopology": "{}"}, None), 400, ["Topology"]),
    "LFS": (saved(reference.LFS_POINTER, DENSE_BYTES), 400, ["LFS"]),
    # The manifest
    "manifest object": (with_manifest({}), 400, ["weightsManifest", "list"]),
    "manifest of lists": (with_manifest([[]]), 400, ["weightsManifest[0]"]),
    "no paths": (with_manifest([{"weights": []}]), 400, ["weightsManifest[0].paths"]),
    "paths of numbers": (
        with_manifest([{"paths": [1], "weights": []}]), 400, ["paths[0]"]
    ),
    "weights null": (with_manifest([{"paths": [], "weights": None}]), 400, ["weights"]),
    "weights object": (with_manifest([{"paths": [], "weights": {}}]), 400, ["weights"]),
    "weights of numbers": (
        with_manifest([{"paths": [], "weights": [1]}]), 400, ["weights[0]"]
    ),
    "some without weights": (
        with_manifest([{"paths": []}, {"paths": [], "weights": DENSE_WEIGHTS}]),
        400,
        ["weightsManifest[0].weights"],
    ),
    "a name twice": (
        saved({**saved_document(), "weightsManifest": [
            {"paths": [], "weights": [{**SPEC, "shape": [4]}] * 2}]}, DENSE_BYTES),
        400,
        ["'w'", "twice"],
    ),
    "a name twice, in groups": (
        with_manifest([{"paths": [], "weights": [{**SPEC, "shape": [4]}]}] * 2),
        400,
        ["'w'", "twice"],
    ),
    "a name of a number": (with_spec(name=1), 400, ["name"]),
    "strings in a bare list": (
        saved([{"paths": [], "weights": [{**SPEC, "dtype": "string"}]}], DENSE_BYTES),
        400,
        ["loadWeights"],
    ),
    "null quantization": (with_spec(quantization=None), 400, ["quantization"]),
    "unknown quantization": (
        with_spec(quantization={"dtype": "int4"}), 400, ["quantization.dtype"]
    ),
    "quantization without scale": (
        with_spec(quantization={"dtype": "uint8", "min": 0}), 400, ["scale"]
    ),
    **{f"dtype {d}": (with_spec(dtype=d), 400, ["dtype"]) for d in DTYPES},
    **{f"shape {s}": (with_spec(shape=s), 400, ["shape"]) for s in SHAPES},
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
def test_refused(client: FlaskClient, store: Path, name: str, there: bool) -> None:
    body, status, words = REFUSED[name]
    if there:
        save(client, dense_body(bytes(32)))
    before = snapshot(store)
    for send in (save, save_chunked):
        check_refused(send(client, body), status, *words)
        assert snapshot(store) == before
    assert client.get(URL).status_code == (200 if there else 404)
    assert store.exists() is there


@pytest.mark.parametrize("shape", [[2**40], [2**53], [2**26, 2**27]])
@pytest.mark.parametrize("order", [1, -1], ids=["json first", "weights first"])
def test_more_weights_than_anybody_may_send(
    client: FlaskClient, store: Path, shape: list[int], order: int
) -> None:
    """Nobody computes where to cut them, nor makes room for them."""
    document = saved_document()
    document["weightsManifest"][0]["weights"] = [{**SPEC, "shape": shape}]
    parts = [json_part(document), weights_part(DENSE_BYTES)][::order]
    with time_limit(5):
        response = save(client, multipart(*parts))
    check_refused(response, 413 if order == 1 else 400)
    assert not store.exists()


@pytest.mark.parametrize("order", [1, -1], ids=["json first", "weights first"])
def test_json_of_5_megabytes(client: FlaskClient, store: Path, order: int) -> None:
    padding = {"userDefinedMetadata": {"a": "b" * (5 * 1024 * 1024)}}
    parts = [json_part(saved_document(**padding)), weights_part(DENSE_BYTES)]
    response = save(client, multipart(*parts[::order]))
    reason = check_refused(response, 413, "bytes")
    assert str(4 * 1024 * 1024) in reason
    assert not store.exists()


def test_json_that_grows_when_it_is_written(client: FlaskClient) -> None:
    """What is stored can be read again, whatever was sent: each of these characters
    takes six bytes in the JSON that we write."""
    padding = {"a": "ß" * 2_000_000}
    text = json.dumps(saved_document(userDefinedMetadata=padding), ensure_ascii=False)
    check_stored(save(client, saved(text.encode(), DENSE_BYTES)), 1)
    response = client.get(URL)
    assert response.status_code == 200
    assert response.get_json()["userDefinedMetadata"] == padding


@pytest.mark.parametrize(
    ("groups", "strings", "reason"),
    [(65, 0, "65 groups"), (1, 1_000_001, "1000001 strings")],
)
def test_what_would_keep_every_reader_busy(
    client: FlaskClient, store: Path, groups: int, strings: int, reason: str
) -> None:
    weights = [{"name": "s", "shape": [strings], "dtype": "string"}] if strings else []
    manifest = [{"paths": ["x"], "weights": weights}] * groups
    document = saved_document(weightsManifest=manifest)
    response = save(client, saved(document, bytes(4 * strings)))
    check_refused(response, 400, reason)
    assert not store.exists()


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/mixed; boundary=" + BOUNDARY,
        "application/json",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "text/plain; boundary=" + BOUNDARY,
        "multipart/form-data\x00; boundary=" + BOUNDARY,
    ],
)
def test_no_multipart(
    client: FlaskClient, store: Path, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = client.post(URL, data=dense_body(), headers=headers)
    check_refused(response, 415, "multipart/form-data", "model.save()")
    assert not store.exists()


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, identity", "x\x07"])
def test_content_codings(client: FlaskClient, store: Path, coding: str) -> None:
    body = gzip.compress(dense_body())
    response = save(client, body, Content_Encoding=coding)
    reason = check_refused(response, 415, "Content-Encoding")
    assert reason.isprintable()
    assert not store.exists()


INTERESTING = sorted(
    {
        0,
        1,
        *(dense_body().find(word) + i for i in range(-2, 3) for word in (
            b"\r\nContent-Disposition", b"\r\nContent-Type", b"\r\n\r\n", b"{", b'"w',
        )),
        *(dense_body().rfind(word) + i for i in range(-2, 3) for word in (
            b"}", b"\r\n\r\n", b"\r\nContent-Disposition", b"\r\n--", BOUNDARY.encode()
        )),
        *range(len(dense_body()) - 12, len(dense_body()) - 3),
    } - {-1, -2, -3}
)  # fmt: skip


@pytest.mark.parametrize("framing", [save, save_chunked], ids=["length", "chunked"])
def test_cut_off(client: FlaskClient, store: Path, framing: Any) -> None:
    """At every byte where something begins or ends; the last four say that it is all:
    ``--``, and a line end that may be missing."""
    save(client, dense_body(bytes(32)))
    before = snapshot(store)
    for stop in INTERESTING:
        assert stop <= len(dense_body()) - 3
        check_refused(framing(client, dense_body()[:stop]), 400)
        assert snapshot(store) == before, stop


def test_a_connection_that_ends(client: FlaskClient, store: Path) -> None:
    """Fewer bytes come than were announced; a server tells so by none, or an error."""

    class Broken(Stream):
        def read(self, size: int = -1) -> bytes:
            data = super().read(size)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "reset")
            return data

    for stream in (Stream, Broken):
        for sent in (b"", dense_body()[:100], dense_body()):
            response = save_stream(client, stream(sent), len(dense_body()) + 1)
            check_refused(response, 400, "connection ended")
    assert not store.exists()


# The limit


def test_over_the_limit(make_saver: MakeApp, store: Path) -> None:
    body = dense_body()
    for limit in (len(body), len(body) - 1, 1):
        client = make_saver(TFJS_MAX_UPLOAD=limit).test_client()
        for send in (save, save_chunked):
            response = send(client, body)
            if limit == len(body):
                assert response.status_code == 201
                before = snapshot(store)
            else:
                check_refused(response, 413, f"TFJS_MAX_UPLOAD allows {limit}")
                assert snapshot(store) == before


def test_over_the_limit_is_told_before_it_is_read(make_saver: MakeApp) -> None:
    client = make_saver(TFJS_MAX_UPLOAD=1000).test_client()
    for length in (1001, 10**15, 10**30):
        response = save_stream(client, Stream(b""), length)
        check_refused(response, 413, str(length))


def test_limits_of_the_app(make_saver: MakeApp) -> None:
    """They are for its own pages."""
    limits = {"MAX_CONTENT_LENGTH": 10, "MAX_FORM_PARTS": 1, "MAX_FORM_MEMORY_SIZE": 1}
    app = make_saver(**limits)

    @app.post("/own")
    def own() -> str:
        return str(len(request.get_data()))

    client = app.test_client()
    for send in (save, save_chunked):
        assert send(client, dense_body()).status_code == 201
    assert client.post("/own", data=b"x" * 10).text == "10"
    assert client.post("/own", data=b"x" * 11).status_code == 413
    assert save(client, url="/models/unknown").status_code == 404


# Others who read the body


@pytest.mark.parametrize(
    "read",
    [
        lambda: request.form,
        lambda: request.files,
        lambda: request.values,
        lambda: request.get_data(),
        lambda: request.get_json(silent=True, force=True),
    ],
    ids=["form", "files", "values", "data", "json"],
)
@pytest.mark.parametrize("framing", [save, save_chunked], ids=["length", "chunked"])
def test_hooks_that_read_the_body(
    make_saver: MakeApp, store: Path, read: Callable[[], object], framing: Any
) -> None:
    app = make_saver()

    @app.before_request
    def look() -> None:
        read()

    response = framing(app.test_client(), dense_body())
    check_refused(response, 400, "hooks", "request.form")
    assert not store.exists()


def test_hooks_that_refuse(make_saver: MakeApp, store: Path) -> None:
    app = make_saver()
    app.before_request(lambda: abort(418))
    response = save(app.test_client())
    assert response.status_code == 418
    assert not store.exists()


def test_hooks_after(make_saver: MakeApp) -> None:
    app = make_saver()

    @app.after_request
    def stamp(response: Response) -> Response:
        response.headers["X-Stamped"] = "yes"
        return response

    app.register_error_handler(Exception, lambda error: redirect("/login"))
    response = save(app.test_client())
    check_stored(response, 1)
    assert response.headers["X-Stamped"] == "yes"
    check_refused(save(app.test_client(), b""), 400)


# The disk


class Full(io.RawIOBase):
    """A file on a disk where *room* bytes are left."""

    def __init__(self, file: BinaryIO, room: int, error: int) -> None:
        self._file, self._room, self._error = file, room, error
        self.name = file.name

    def write(self, data: Any) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(self._error, "no room", self.name)
        return self._file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def fileno(self) -> int:
        return self._file.fileno()

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        self._file.close()
        super().close()


ERRORS = {
    "ENOSPC": (errno.ENOSPC, 507),
    "EDQUOT": (errno.EDQUOT, 507),
    "EFBIG": (errno.EFBIG, 507),
    "EIO": (errno.EIO, 500),
    "EROFS": (errno.EROFS, 500),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("order", [1, -1], ids=["json first", "weights first"])
@pytest.mark.parametrize("room", [0, 31, 40])
def test_disk(
    client: FlaskClient,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    order: int,
    room: int,
) -> None:
    """It fails at the first byte, within the weights, or when the JSON is written."""
    error, status = ERRORS[name]
    check_stored(save(client), 1)
    before = snapshot(store)
    caplog.clear()
    create = stores.Staging.create

    with monkeypatch.context() as patch:
        patch.setattr(
            stores.Staging, "create", lambda self: Full(create(self), room, error)
        )
        body = multipart(
            *[json_part(saved_document()), weights_part(bytes(32))][::order]
        )
        response = save(client, body)
    check_refused(response, status, "cannot be stored")
    assert snapshot(store) == before
    assert served(client)[1] == DENSE_BYTES
    (record,) = caplog.records
    assert record.exc_info is None
    assert "Traceback" not in caplog.text
    check_stored(save(client), 2)


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "os.link", "os.mkdir"])
def test_disk_at_the_commit(
    client: FlaskClient,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    call: str,
) -> None:
    error, status = ERRORS[name]
    check_stored(save(client, url="/models/other"), 1, "other")
    before = snapshot(store)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(error, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(call, fail)
        if call == "os.link":  # a file system without links has another way
            patch.setattr("os.rename", fail)
        response = save(client)
    check_refused(response, status, "cannot be stored")
    assert snapshot(store) == before
    check_stored(save(client), 1)


def test_a_store_that_cannot_be_made(make_saver: MakeApp, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    client = make_saver(TFJS_STORE=str(tmp_path / "file" / "store")).test_client()
    reason = check_refused(save(client), 500, "cannot be stored")
    assert str(tmp_path) not in reason


def test_a_current_version_changed_by_hand(client: FlaskClient, store: Path) -> None:
    """It is the server's fault, and a sound upload mends it."""
    for version in (1, 2):
        check_stored(save(client), version)
    (store / "dense" / "model.json").write_text("{}")
    assert client.get(URL).status_code == 500
    check_stored(save(client), 3)
    assert served(client)[1] == DENSE_BYTES


def test_foreign_files_in_the_store(client: FlaskClient, store: Path) -> None:
    """Somebody put a model there by hand: nothing of it is replaced."""
    write_model(store / "dense")
    before = snapshot(store)
    response = save(client)
    assert response.status_code in (409, 500), response.text
    check_refused(response, response.status_code, "not a published model")
    assert snapshot(store) == before


# The answer


@pytest.mark.parametrize("url", URLS)
def test_statuses(client: FlaskClient, url: str) -> None:
    check_stored(save(client, url=url), 1)
    check_stored(save(client, url=url), 2)
    check_stored(save(client, url=url, method="PUT"), 3, status=200)
    other = url.replace("dense", "other")
    check_stored(save(client, url=other, method="PUT"), 1, "other")
    check_stored(save(client, url=other, method="PUT"), 2, "other", status=200)
    check_stored(save(client, url=other + "?a=b/c&d=%2F"), 3, "other")


def test_what_the_answer_names(client: FlaskClient, store: Path) -> None:
    response = save(client)
    value = response.get_json()
    text = (store / "dense" / "model.json").read_bytes()
    assert value["etag"] == hashlib.sha256(text).hexdigest()[:32]
    assert client.get(value["url"]).headers["ETag"] == f'"{value["etag"]}"'
    pinned = client.get(value["pinned_url"])
    assert pinned.data == text
    assert "immutable" in pinned.headers["Cache-Control"]


def external_urls(response: TestResponse, base: str) -> None:
    assert response.status_code == 201, response.text
    value = response.get_json()
    assert value["url"] == f"{base}/dense/model.json"
    assert value["pinned_url"] == f"{base}/dense/model.v1.json"
    assert response.headers["Location"] == value["pinned_url"]


def test_absolute_urls_behind_a_proxy(make_saver: MakeApp) -> None:
    app = make_saver()
    proxied: Any = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)
    app.wsgi_app = proxied  # type: ignore[method-assign]
    response = save(
        app.test_client(),
        X_Forwarded_For="10.0.0.1",
        X_Forwarded_Proto="https",
        X_Forwarded_Host="models.example:8443",
        X_Forwarded_Prefix="/app",
    )
    external_urls(response, "https://models.example:8443/app/models")


def test_absolute_urls_below_a_prefix(make_saver: MakeApp) -> None:
    client = make_saver().test_client()
    response = client.post(
        URL,
        data=dense_body(),
        headers=HEADERS,
        base_url="https://example.org:444/script",
    )
    external_urls(response, "https://example.org:444/script/models")


def test_absolute_urls_of_another_blueprint(tmp_path: Path) -> None:
    for prefix in ("/a/b", "", None):
        app = Flask(__name__, instance_path=str(tmp_path / f"instance{prefix}"))
        app.register_blueprint(create_blueprint("idle", url_prefix="/idle"))
        blueprint = create_blueprint(
            "own",
            url_prefix=prefix,
            uploads="*",
            authorize_publish=allow_all,
            registry=None,
            store=str(tmp_path / f"store{prefix}"),
        )
        app.register_blueprint(blueprint)
        response = save(app.test_client(), url=f"{prefix or ''}/dense")
        external_urls(response, f"http://localhost{prefix or ''}")


# Other URLs and methods


NOT_SAVED_TO = [
    *("", "/", "/dense/other.json", "/dense/model.v1.json", "/dense/weights.bin"),
    *(
        "/dense/model.json/",
        "/dense//",
        "//dense",
        "/dense/a/model.json",
        "/-/s/x",
    ),
    *("/dense/.tmp-1", "/dense/labels.txt", "/dense/Model.json", "/.locks/dense"),
    *("/.tmp-1", "/.locks", "/-", "/-/health", "/%2e%2e/dense", "/dense%2f..%2fother"),
]


@pytest.mark.parametrize("rest", NOT_SAVED_TO)
@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("uploads", [["dense"], "*"], ids=["named", "all"])
def test_other_urls(
    make_saver: MakeApp, store: Path, rest: str, method: str, uploads: Any
) -> None:
    client = make_saver(TFJS_UPLOADS=uploads).test_client()
    check_stored(save(client), 1)
    before = snapshot(store)
    response = save(client, url=f"/models{rest}", method=method)
    assert response.status_code in (404, 405)
    if response.status_code == 405:
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert rest != "/dense/model.v1.json" or response.status_code == 405
    assert OPEN_CORS.items() <= dict(response.headers).items()
    assert snapshot(store) == before
    preflight = client.options(f"/models{rest}")
    assert preflight.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("url", URLS)
def test_other_methods(client: FlaskClient, store: Path, url: str) -> None:
    for there in (False, True):
        if there:
            save(client)
        before = snapshot(store)
        for method in ("DELETE", "PATCH", "PROPFIND", "BREW"):
            response = save(client, url=url, method=method)
            check_refused(response, 405 if there else 404)
            if there:
                allowed = "GET, HEAD, OPTIONS, POST, PUT"
                assert response.headers["Allow"] == allowed
        assert snapshot(store) == before


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("url", URLS)
def test_preflight(make_saver: MakeApp, url: str, method: str) -> None:
    def never(name: str) -> bool:
        raise AssertionError("asked")

    client = make_saver(TFJS_AUTHORIZE_PUBLISH=never).test_client()
    headers = {
        "Origin": OTHER_SITE,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,if-match",
    }
    for name in ("dense", "unknown"):
        response = client.options(url.replace("dense", name), headers=headers)
        assert response.status_code == 204
        allowed = "GET, HEAD, OPTIONS"
        if name == "dense":
            allowed += ", POST, PUT"
        assert response.headers["Access-Control-Allow-Methods"] == allowed
        assert response.headers["Allow"] == allowed
        granted = response.headers["Access-Control-Allow-Headers"]
        assert granted == "authorization,if-match"


def test_reading_goes_on(client: FlaskClient) -> None:
    save(client)
    for url in URLS:
        get, head = client.get(url), client.head(url)
        assert get.status_code == head.status_code == 200
        assert [*get.headers] == [*head.headers]
        tag = get.headers["ETag"]
        again = client.get(url, headers={"If-None-Match": tag})
        assert again.status_code == 304
        save(client)
        again = client.get(url, headers={"If-None-Match": tag})
        assert again.status_code == 200


# Compare and swap


def tags_of(client: FlaskClient) -> dict[str, str]:
    """The entity tag of every kind of answer about the model."""
    pinned = client.get(URL).get_json()["flaskTfjs"]["version"]
    urls = {
        "model.json": URL,
        "folder": "/models/dense/",
        "bare": "/models/dense",
        "pinned": f"/models/dense/model.v{pinned}.json",
    }
    return {
        f"{kind} {coding}": client.get(
            url, headers={"Accept-Encoding": coding}
        ).headers["ETag"]
        for kind, url in urls.items()
        for coding in ("identity", "gzip", "br", "zstd")
    }


def test_the_tag_of_any_answer(client: FlaskClient, store: Path) -> None:
    answer = save(client)
    tags = tags_of(client)
    assert len(set(tags.values())) > 4
    tags["post"] = answer.headers["ETag"]
    tags["json"] = f'"{answer.get_json()["etag"]}"'
    tags["bare json"] = answer.get_json()["etag"]
    tags["list"] = f'"other", {tags["post"]}'
    tags["star"] = "*"
    save(client)
    before = snapshot(store)
    for kind, tag in tags.items():
        if kind != "star":
            for method in ("POST", "PUT"):
                response = save(client, method=method, If_Match=tag)
                check_refused(response, 412, "If-Match")
                assert snapshot(store) == before, kind
    for version, kind in enumerate(tags, 3):
        answer = save(client)
        fresh = {**tags_of(client), "post": answer.headers["ETag"]}
        fresh["json"] = f'"{answer.get_json()["etag"]}"'
        fresh["bare json"] = answer.get_json()["etag"]
        fresh["list"] = f'"other", {fresh["post"]}'
        fresh["star"] = "*"
        response = save(client, method="PUT", If_Match=fresh[kind])
        check_stored(response, version * 2 - 2, status=200)


@pytest.mark.parametrize(
    "headers",
    [
        {"If_None_Match": "*"},
        {"If_Match": '"other"'},
        {"If_Match": 'W/"{tag}"'},
        {"If_Match": 'W/"{tag}-br"'},
        {"If_Match": ""},
        {"If_Match": '""'},
        {"If_Match": '"{tag}'},
        {"If_Match": '"{tag}0"'},
        {"If_Match": '"*"'},
        {"If_Match": "\x00"},
        {"If_None_Match": '"{tag}"'},
        {"If_None_Match": 'W/"{tag}.bare"'},
        {"If_None_Match": '"a", "{tag}"'},
        {"If_Match": '"{tag}"', "If_None_Match": "*"},
        {"If_Match": '"other"', "If_None_Match": '"other"'},
    ],
)
def test_conflict(client: FlaskClient, store: Path, headers: dict[str, str]) -> None:
    tag = save(client).get_json()["etag"]
    before = snapshot(store)
    sent = {name: value.replace("{tag}", tag) for name, value in headers.items()}
    for method in ("POST", "PUT"):
        for body in (None, b"", b"junk"):
            response = save(client, body, method=method, **sent)
            check_refused(response, 412, "load it again")
            assert snapshot(store) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"If_None_Match": '"other"'},
        {"If_None_Match": '""'},
        {"If_Match": "*"},
        {"If_Match": '"{tag}", W/"x"'},
        {"If_Match": '"{tag}"', "If_None_Match": '"other"'},
        # Dates are of no use here: they have a grain of a second.
        {"If_Unmodified_Since": "Mon, 01 Jan 2001 00:00:00 GMT"},
        {"If_Modified_Since": "Mon, 01 Jan 2099 00:00:00 GMT"},
    ],
)
def test_no_conflict(client: FlaskClient, headers: dict[str, Any]) -> None:
    tag = save(client).get_json()["etag"]
    sent: dict[str, Any] = {n: v.replace("{tag}", tag) for n, v in headers.items()}
    check_stored(save(client, **sent), 2)


def test_only_if_there_is_none(client: FlaskClient, store: Path) -> None:
    for if_match in ("*", '"other"'):
        check_refused(save(client, If_Match=if_match), 412, "not there")
        assert not store.exists()
    check_stored(save(client, If_None_Match="*"), 1)
    check_refused(save(client, If_None_Match="*"), 412)


def test_overtaken_while_it_was_sent(
    client: FlaskClient, store: Path, app: Flask
) -> None:
    """The precondition holds at the start, and no longer at the end."""
    tag = save(client).headers["ETag"]
    after: list[dict[str, bytes | None]] = []

    def overtake() -> None:
        if not after:
            check_stored(save(app.test_client(), dense_body(bytes(32))), 2)
            after.append(snapshot(store))

    stream = Stream(dense_body(), overtake)
    response = save_stream(
        client, stream, len(dense_body()), method="PUT", If_Match=tag
    )
    check_refused(response, 412)
    there = {name for name in after[0] if not name.startswith(".tmp-")}
    assert snapshot(store).keys() == there
    assert served(client)[1] == bytes(32)


# Who may


def test_off_by_default(make_app: MakeApp, tmp_path: Path) -> None:
    client = make_app().test_client()
    for url in URLS:
        response = save(client, url=url)
        check_refused(response, 405)
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
        check_refused(save(client, url=url.replace("dense", "none")), 404)
    assert not (tmp_path / "instance").exists()


def test_which_names(make_saver: MakeApp, tmp_path: Path, store: Path) -> None:
    registered = {"registered": write_model(tmp_path / "registered")}
    for uploads in ("*", ["dense"], "dense"):
        app = make_saver(TFJS_MODELS=registered, TFJS_UPLOADS=uploads)
        client = app.test_client()
        assert save(client).status_code == 201
        check_refused(save(client, url="/models/registered"), 405)
        for name in ("fresh", "A.b_c-9", "x" * 128):
            response = save(client, url=f"/models/{name}")
            assert response.status_code == (
                201
                if uploads == "*"
                else 405
                if (store / name / "model.json").exists()
                else 404
            )
        for name in (".x", "-", "_x", "x" * 129, "a b", "ä", "a%0a", "%00", "dense%20"):
            before = snapshot(store)
            check_refused(save(client, url=f"/models/{name}"), 404)
            assert snapshot(store) == before


def test_a_name_that_is_registered_later(
    make_saver: MakeApp, tmp_path: Path, store: Path
) -> None:
    app = make_saver(TFJS_UPLOADS="*")
    client = app.test_client()
    write_model(tmp_path / "model")
    command = ["register", "late", str(tmp_path / "model")]
    assert app.test_cli_runner().invoke(tfjs, command).exit_code == 0
    response = save(client, url="/models/late")
    check_refused(response, 405)
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert not (store / "late").exists()


@pytest.mark.parametrize("allowed", [True, False])
def test_asked_before_anything_is_read(
    make_saver: MakeApp, store: Path, allowed: bool
) -> None:
    asked: list[str] = []

    def authorize(name: str) -> bool:
        asked.append(name)
        return allowed

    def check() -> None:
        assert asked == ["dense"]

    client = make_saver(TFJS_AUTHORIZE_PUBLISH=authorize).test_client()
    stream = Stream(dense_body(), check)
    response = save_stream(client, stream, len(dense_body()))
    assert response.status_code == (201 if allowed else 401)
    assert stream.read() == b""  # all was read in the end, for proxies
    assert store.exists() is allowed


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Encoding": "gzip"}, 415),
        ({"If_Match": '"x"'}, 412),
        ({"Content_Length": "1000000"}, 413),
    ],
)
def test_leave_comes_first(
    make_saver: MakeApp, headers: dict[str, str], status: int
) -> None:
    """Who may not learns nothing else."""
    config = {"TFJS_MAX_UPLOAD": 10_000, "TFJS_AUTHORIZE_PUBLISH": bearer_token(SECRET)}
    client = make_saver(**config).test_client()
    length = int(headers.get("Content_Length", len(dense_body())))
    sent = {name: headers[name] for name in headers if name != "Content_Length"}

    def send(**more: str) -> TestResponse:
        return save_stream(client, Stream(dense_body()), length, **sent, **more)

    check_refused(send(), 401)
    check_refused(send(Authorization="Bearer x"), 403)
    check_refused(send(**bearer(SECRET)), status)


def test_bearer_token(make_saver: MakeApp, store: Path) -> None:
    client = make_saver(TFJS_AUTHORIZE_PUBLISH=bearer_token(SECRET)).test_client()
    response = save(client)
    check_refused(response, 401, "Authorization: Bearer")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    check_refused(save(client, Authorization="Bearer other"), 403)
    check_refused(save(client, Authorization=f"Basic {SECRET}"), 403)
    assert not store.exists()
    check_stored(save(client, Authorization=f"Bearer {SECRET}"), 1)
    assert client.get(URL).status_code == 200


@pytest.mark.parametrize("outcome", [None, False, 1, "True", (), object()])
def test_only_true_allows(make_saver: MakeApp, store: Path, outcome: Any) -> None:
    client = make_saver(TFJS_AUTHORIZE_PUBLISH=lambda name: outcome).test_client()
    check_refused(save(client), 401)
    assert not store.exists()


@pytest.mark.parametrize("status", [200, 201, 204, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("aborts", [True, False])
def test_a_login_page_is_no_success(
    make_saver: MakeApp, store: Path, status: int, aborts: bool
) -> None:
    """A client that follows it to a page takes that for a success."""

    def authorize(name: str) -> Any:
        page = Response("log in", status, {"Location": "/login"})
        if aborts:
            abort(page)
        return page

    client = make_saver(TFJS_AUTHORIZE_PUBLISH=authorize).test_client()
    check_refused(save(client), 401)
    assert not store.exists()


def test_a_callable_that_has_its_own_answer(make_saver: MakeApp, store: Path) -> None:
    def authorize(name: str) -> Any:
        return Response("slowly", 429, {"Retry-After": "9"})

    response = save(make_saver(TFJS_AUTHORIZE_PUBLISH=authorize).test_client())
    assert (response.status_code, response.text) == (429, "slowly")
    assert response.headers["Retry-After"] == "9"
    assert not store.exists()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no database"),
        ConnectionRefusedError(errno.ECONNREFUSED, "no database"),
        OSError(errno.ENOSPC, "no database"),
    ],
    ids=["RuntimeError", "ConnectionRefusedError", "ENOSPC"],
)
def test_a_callable_that_fails(
    make_saver: MakeApp, store: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Its faults are the app's, and told as such."""

    def authorize(name: str) -> bool:
        raise error

    config = {"TESTING": False, "PROPAGATE_EXCEPTIONS": False}
    app = make_saver(TFJS_AUTHORIZE_PUBLISH=authorize, **config)
    response = save(app.test_client())
    assert response.status_code == 500
    assert "stored" not in response.text and "database" not in response.text
    assert any(record.exc_info for record in caplog.records)
    assert not store.exists()


#: Headers of a request -> whether it may be another site's, without a token and with;
#: and the same where the other site is listed.
CROSS_SITE: list[tuple[dict[str, str], bool, bool]] = [
    ({}, True, True),
    ({"Origin": "http://localhost"}, True, True),
    ({"Origin": OTHER_SITE}, False, True),
    ({"Origin": "null"}, False, False),
    ({"Sec_Fetch_Site": "same-origin"}, True, True),
    ({"Sec_Fetch_Site": "same-origin", "Origin": "http://localhost"}, True, True),
    ({"Sec_Fetch_Site": "none"}, True, True),
    ({"Sec_Fetch_Site": "same-site"}, False, False),
    ({"Sec_Fetch_Site": "same-site", "Origin": "http://localhost"}, False, False),
    ({"Sec_Fetch_Site": "cross-site"}, False, False),
    ({"Sec_Fetch_Site": "cross-site", "Origin": OTHER_SITE}, False, True),
    ({"Sec_Fetch_Site": "junk"}, False, False),
]


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(("headers", "unlisted", "listed"), CROSS_SITE)
def test_other_sites(
    make_saver: MakeApp,
    headers: dict[str, Any],
    unlisted: bool,
    listed: bool,
    method: str,
) -> None:
    def anybody(name: str) -> bool:
        return True

    token: dict[str, Any] = bearer("any")
    for origins, may in [("*", unlisted), ([], unlisted), ([OTHER_SITE], listed)]:
        for authorize in (allow_all, anybody):
            config = {
                "TFJS_ALLOW_ORIGINS": origins,
                "TFJS_AUTHORIZE_PUBLISH": authorize,
            }
            client = make_saver(**config).test_client()
            response = save(client, method=method, **headers)
            assert response.status_code in ((200, 201) if may else (403,))
            if not may:
                assert "another site" in response.get_json()["error"]
            # No browser adds a token by itself, but any page may send one.
            response = save(client, method=method, **headers, **token)
            trusted = may or authorize is anybody
            assert response.status_code in ((200, 201) if trusted else (403,))


# Who is told


@pytest.fixture
def rejected(app: Flask) -> Iterator[list[dict[str, Any]]]:
    told: list[dict[str, Any]] = []

    def listen(sender: object, **facts: Any) -> None:
        assert sender is app
        told.append(facts)

    with signals.upload_rejected.connected_to(listen):
        yield told


@pytest.mark.parametrize(
    ("send", "status"),
    [
        (lambda client: save(client, b"junk"), 400),
        (lambda client: save(client, Origin=OTHER_SITE), 403),
        (lambda client: save(client, If_Match='"x"'), 412),
        (lambda client: save_stream(client, Stream(b""), 10**12), 413),
        (lambda client: save(client, Content_Type="a/b"), 415),
        (lambda client: save(client, multipart(part("a\x07\u202e\x1b[31m", b""))), 400),
        (lambda client: save(client, Content_Encoding="\x07\x1b[31m"), 415),
        (lambda client: save(client, with_spec(name="\x1b[31m", dtype="\r\nx")), 400),
        (lambda client: save(client, with_spec(dtype="\u2028\x85\ud800")), 400),
    ],
)
def test_what_is_told(
    client: FlaskClient,
    caplog: pytest.LogCaptureFixture,
    rejected: list[dict[str, Any]],
    send: Callable[[FlaskClient], TestResponse],
    status: int,
) -> None:
    """One line in the log, which a client cannot forge, and a signal."""
    response = send(client)
    reason = check_refused(response, status)
    (record,) = caplog.records
    message = record.getMessage()
    assert record.levelno == logging.WARNING and record.name == "flask_tfjs"
    assert "dense" in message and str(status) in message and reason in message
    assert message.isprintable()
    told = {"name": "dense", "status": status, "reason": reason, "blueprint": "tfjs"}
    assert rejected == [told]


def test_whom_the_callable_refused(
    make_saver: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []

    def listen(sender: object, **facts: Any) -> None:
        told.append((sender, facts["status"], facts["reason"]))

    app = make_saver(TFJS_AUTHORIZE_PUBLISH=bearer_token(SECRET))
    with signals.upload_rejected.connected_to(listen):
        save(app.test_client())
        save(app.test_client(), Authorization="Bearer other-secret")
    assert [(sender, status) for sender, status, _ in told] == [(app, 401), (app, 403)]
    assert [r.levelno for r in caplog.records] == [logging.WARNING] * 2
    assert "other-secret" not in caplog.text


def test_success_is_no_rejection(
    client: FlaskClient, rejected: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    check_stored(save(client), 1)
    assert rejected == []
    assert caplog.records == []


def test_a_receiver_that_fails(client: FlaskClient) -> None:
    def fail(sender: object, **facts: Any) -> None:
        raise RuntimeError("receiver")

    with signals.upload_rejected.connected_to(fail):
        check_refused(save(client, b""), 400)
    with signals.model_published.connected_to(fail):
        check_stored(save(client), 1)


# What is read of a body that is refused


def test_drained_within_bounds(
    make_saver: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "MAX_DRAINED_BYTES", 200_000)
    client = make_saver(TFJS_AUTHORIZE_PUBLISH=lambda name: False).test_client()
    for url, status in [(URL, 401), ("/models/unknown", 404)]:
        for size, left in [(100_000, 0), (300_000, 100_000)]:
            stream = Stream(b"x" * size)
            check_refused(save_stream(client, stream, size, url), status)
            assert len(stream.read()) == left


def test_pack_of_all_dtypes(client: FlaskClient) -> None:
    """The arithmetic of every dtype, in one body."""
    weights = reference.all_dtypes()
    document = {
        **reference.graph_model(weights),
        "weightsManifest": [{"paths": ["x"], "weights": [s for s, _ in weights]}],
    }
    data = b"".join(piece for _, piece in weights)
    check_stored(save(client, saved(document, data)), 1)
    check_refused(save(client, saved(document, data[:-1])), 400)
    check_refused(save(client, saved(document, data + b"\0")), 400)
    assert served(client)[1] == data


def test_float_weights_survive(client: FlaskClient) -> None:
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38, 1, 2], "<f4")
    check_stored(save(client, dense_body(values.tobytes())), 1)
    assert served(client)[1] == struct.pack("<8f", *values)


def test_where_reading_is_guarded_no_name_tells_that_it_is_registered(
    make_saver: MakeApp,
) -> None:
    app = make_saver(
        TFJS_UPLOADS="*", TFJS_AUTHORIZE_READ=lambda name: False, TFJS_MODELS={}
    )
    registered = make_saver(
        TFJS_UPLOADS="*",
        TFJS_AUTHORIZE_READ=lambda name: False,
        TFJS_MODELS={"dense": "/nowhere"},
    )
    for client in (app.test_client(), registered.test_client()):
        assert "POST" in client.options("/models/dense").headers["Allow"]
        forged = client.post("/models/dense", headers={"Sec-Fetch-Site": "cross-site"})
        assert forged.status_code == 403
    check_refused(save(registered.test_client()), 409, "registered")
