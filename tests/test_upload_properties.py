"""Whatever comes: no fault of the server, nothing left behind, no hang, and the store
changes only where the client hears so."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from filesystem import time_limit
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from models import DENSE_BYTES
from uploading import BOUNDARY
from uploading import CONTENT_TYPE
from uploading import JSON_PART
from uploading import WEIGHTS_PART
from uploading import dense_body
from uploading import json_part
from uploading import multipart
from uploading import saved
from uploading import saved_document
from uploading import sized_document
from uploading import snapshot
from uploading import weights_part
from werkzeug.test import TestResponse

from flask_tfjs import allow_all
from flask_tfjs import create_blueprint

URL = "/models/dense"
HEADERS = {"Content-Type": CONTENT_TYPE}
LIMIT = 100_000

few = settings(max_examples=40, deadline=timedelta(seconds=5))
many = settings(max_examples=100, deadline=timedelta(seconds=5))


@pytest.fixture(autouse=True)
def never_hang() -> Iterator[None]:
    with time_limit(60):
        yield


@contextlib.contextmanager
def saver() -> Iterator[tuple[FlaskClient, Path]]:
    """An app, and its store, which has one model."""
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory) / "store"
        app = Flask(__name__, instance_path=directory)
        app.config["PROPAGATE_EXCEPTIONS"] = False
        blueprint = create_blueprint(
            registry=None,
            cache=None,
            store=str(store),
            uploads="*",
            authorize_publish=allow_all,
            max_upload=LIMIT,
        )
        app.register_blueprint(blueprint)
        client = app.test_client()
        assert send(client, dense_body()).status_code == 201
        yield client, store


class Pieces(io.RawIOBase):
    """A body that comes in pieces, as networks cut it."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data = io.BytesIO(data)
        self._sizes = iter(sizes)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(next(self._sizes, len(buffer)), len(buffer))
        data = self._data.read(size)
        buffer[: len(data)] = data
        return len(data)


def send(
    client: FlaskClient,
    body: bytes,
    sizes: list[int] | None = None,
    headers: dict[str, str] | None = None,
    *,
    chunked: bool = False,
) -> TestResponse:
    environ: dict[str, Any] = {
        "wsgi.input": Pieces(body, sizes or []),
        "wsgi.input_terminated": True,
        "CONTENT_LENGTH": "" if chunked else str(len(body)),
    }
    return client.post(
        URL,
        input_stream=io.BytesIO(),
        headers=HEADERS if headers is None else headers,
        environ_overrides=environ,
    )


def load(client: FlaskClient) -> bytes:
    """The weights as a client of tfjs loads them."""
    response = client.get(f"{URL}/model.json")
    assert response.status_code == 200, response.text
    groups = response.get_json()
    if isinstance(groups, dict):
        groups = groups.get("weightsManifest", [])
    shards = [client.get(f"{URL}/{p}") for group in groups for p in group["paths"]]
    assert all(shard.status_code == 200 for shard in shards)
    return b"".join(shard.data for shard in shards)


def check(body: bytes, chunked: bool = False, **how: Any) -> int:
    with saver() as (client, store):
        before = snapshot(store)
        response = send(client, body, chunked=chunked, **how)
        after = snapshot(store)
        assert response.status_code in (201, 400, 413, 415), response.text
        if response.status_code == 201:
            assert before.keys() < after.keys()
            assert not any(name.startswith(".") for name in after)
            load(client)
        else:
            assert after == before
            assert response.get_json()["error"].isprintable()
            assert load(client) == DENSE_BYTES
        return response.status_code


BODY = dense_body()

cuts = st.integers(0, len(BODY))
scraps = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"\r\n",
            b"\r",
            b"\n",
            b"\r\n\r\n",
            b"--",
            b"\0",
            f"--{BOUNDARY}".encode(),
            f"\r\n--{BOUNDARY}\r\n".encode(),
            f"\r\n--{BOUNDARY}--\r\n".encode(),
            json_part({}),
            weights_part(b""),
            b"Content-Transfer-Encoding: base64\r\n",
            b'; name="model.json"',
            b"; name*=utf-8''model.json",
            b'; filename*0="a"; filename*1="b"',
        ]
    ),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    body = BODY
    for _ in range(draw(st.integers(1, 4))):
        start, stop = sorted((draw(cuts), draw(cuts)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            body = body[:start] + body[stop:]
        elif kind == 1:
            body = body[:start] + draw(scraps) + body[start:]
        elif kind == 2:
            body = body[:stop] + body[start:]
        elif kind == 3:
            scrap = draw(scraps)
            body = body[:start] + scrap + body[start + len(scrap) :]
        else:
            body = body[:start]
    return body


@many
@given(mutated(), st.booleans())
def test_a_body_with_changes(body: bytes, chunked: bool) -> None:
    check(body, chunked)


@few
@given(st.binary(max_size=2000), st.booleans())
@example(b"\r\n" * 45_000, False)
@example(f"\r\n--{BOUNDARY}".encode() * 2000, False)
@example(f"--{BOUNDARY}\r\n\r\n".encode() * 2000, True)
@example(f"--{BOUNDARY}\r\n".encode() + b"a:b\r\n " * 9000, True)
def test_junk(body: bytes, chunked: bool) -> None:
    assert check(body, chunked) != 201


@few
@given(st.integers(0, len(BODY) - 4), st.booleans())
def test_any_prefix(stop: int, chunked: bool) -> None:
    assert check(BODY[:stop], chunked) == 400


names = st.sampled_from([JSON_PART, WEIGHTS_PART]) | st.text(max_size=20)
contents = st.sampled_from(
    [DENSE_BYTES, b"", b"{}", json.dumps(saved_document()).encode()]
) | st.binary(max_size=100)


@many
@given(st.lists(st.tuples(names, names | st.none(), contents), max_size=4))
def test_any_parts(parts: list[tuple[str, str | None, bytes]]) -> None:
    def quoted(text: str) -> bytes:
        return text.encode("utf-8", "surrogatepass")

    made = []
    for name, filename, data in parts:
        lines = b'Content-Disposition: form-data; name="' + quoted(name) + b'"'
        if filename is not None:
            lines += b'; filename="' + quoted(filename) + b'"'
        made.append(lines + b"\r\n\r\n" + data)
    check(multipart(*made))


values: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([2**31, 2**53, 2**60, -1, 1e300, 0.5, [], {}, [[]], "string"]),
    st.recursive(
        st.none() | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=6,
    ),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container in a JSON value, and a key of it."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, child in items:
        yield value, key
        yield from places(child)


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """The JSON of a model, a bare list or a graph, with some values changed."""
    document: Any = copy.deepcopy(saved_document())
    kind = draw(st.sampled_from(["layers", "graph", "list"]))
    if kind == "list":
        document = document["weightsManifest"]
    elif kind == "graph":
        document["modelTopology"] = {"node": [{"op": "Const"}]}
    for _ in range(draw(st.integers(0, 3))):
        there = list(places(document))
        holder, key = draw(st.sampled_from(there)) if there else (document, None)
        change = draw(st.integers(0, 2))
        if key is None:
            return draw(values)
        if change == 0:
            holder[key] = draw(values)
        elif change == 1:
            del holder[key]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[draw(st.text(max_size=3))] = draw(values)
    return document


@many
@given(
    documents(),
    st.sampled_from([DENSE_BYTES, b"", None, DENSE_BYTES[:-1]])
    | st.binary(max_size=40),
    st.booleans(),
)
def test_any_json(document: Any, weights: bytes | None, is_reversed: bool) -> None:
    parts = [json_part(document)]
    if weights is not None:
        parts.append(weights_part(weights))
    check(multipart(*(reversed(parts) if is_reversed else parts)))


looks = st.lists(
    st.sampled_from(
        [
            b"\r",
            b"\n",
            b"\r\n",
            b"-",
            b"--",
            f"--{BOUNDARY[:-1]}".encode(),
            f"\r\n--{BOUNDARY}x".encode(),
            b"x",
            b"\0" * 50,
        ]
    ),
    max_size=30,
).map(b"".join)


@many
@given(looks, st.lists(st.integers(1, 60), max_size=200), st.booleans())
@example(b"x\r", [1] * 3000, False)
@example(b"\r\n" * 20, [1] * 3000, True)
def test_however_it_is_cut(data: bytes, sizes: list[int], is_reversed: bool) -> None:
    """What comes in pieces is what was sent."""
    parts = [json_part(sized_document(len(data))), weights_part(data)]
    body = multipart(*(reversed(parts) if is_reversed else parts))
    with saver() as (client, _):
        response = send(client, body, sizes, chunked=True)
        assert response.status_code == 201, response.text
        assert load(client) == data


latin = st.characters(max_codepoint=255, exclude_categories=["Cc"])


@few
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *("Content-Type", "Content-Encoding", "If-Match", "If-None-Match"),
                *("Origin", "Sec-Fetch-Site", "Authorization", "Cookie", "Range"),
                *("Expect", "Host", "Accept-Encoding", "Access-Control-Request-Method"),
            ]
        ),
        st.text(
            st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=30
        )
        | st.sampled_from(
            ["*", '""', 'W/""', "multipart/form-data; boundary=\x85", "="]
        ),
    )
)
def test_any_headers(headers: dict[str, str]) -> None:
    with saver() as (client, store):
        before = snapshot(store)
        response = send(client, BODY, headers={**HEADERS, **headers})
        assert response.status_code < 500
        assert (response.status_code == 201) is (snapshot(store) != before)


@few
@given(st.integers(1, LIMIT + 1000), st.booleans(), st.booleans())
@example(LIMIT, True, False)
def test_about_the_limit(size: int, chunked: bool, is_reversed: bool) -> None:
    parts = [json_part(sized_document(size)), weights_part(bytes(size))]
    body = multipart(*(reversed(parts) if is_reversed else parts))
    assert check(body, chunked) == (201 if len(body) <= LIMIT else 413)


def test_the_body_itself() -> None:
    """The changes start from something sound."""
    assert check(BODY) == check(saved(saved_document(), DENSE_BYTES), True) == 201
