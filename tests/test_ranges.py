"""Ranges: RFC 9110 section 14."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import OPEN_CORS
from conftest import MakeApp
from conftest import grow_old
from flask.testing import FlaskClient
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from models import dense_document
from models import write_model
from werkzeug.test import TestResponse

from flask_tfjs.http.conditional import FULL
from flask_tfjs.http.conditional import RANGE_NOT_SATISFIABLE
from flask_tfjs.http.conditional import Answer
from flask_tfjs.http.conditional import Partial
from flask_tfjs.http.conditional import parse_range
from flask_tfjs.models.files import BLOCK_SIZE

SHARD_URL = "/models/large/large.bin"
EMPTY_URL = "/models/large/empty.bin"

#: More than two blocks, and no whole number of them.
FLOATS = (2 * BLOCK_SIZE + 4000) // 4
SHARD = bytes(range(1, 252)) * (FLOATS * 4 // 251 + 1)
SHARD = SHARD[: FLOATS * 4]
SIZE = len(SHARD)


@pytest.fixture(params=["young", "old"])
def client(
    request: pytest.FixtureRequest, make_app: MakeApp, tmp_path: Path
) -> FlaskClient:
    """A young file is read whole and verified, whatever part of it is sent."""
    weights = [
        {"name": "large", "shape": [FLOATS], "dtype": "float32"},
        {"name": "none", "shape": [0], "dtype": "float32"},
    ]
    write_model(
        tmp_path / "large",
        document=dense_document(
            weightsManifest=[{"paths": ["large.bin", "empty.bin"], "weights": weights}]
        ),
        shards={"large.bin": SHARD, "empty.bin": b""},
    )
    (tmp_path / "large" / "labels.txt").write_bytes(b"cat\ndog\n")
    (tmp_path / "large" / "metadata.json").write_bytes(b'{"labels": []}')
    (tmp_path / "large" / "tfjs.wasm").write_bytes(b"\0asm")
    app = make_app(TFJS_MODELS={"large": tmp_path / "large"})
    if request.param == "old":
        grow_old(app)
    return app.test_client()


def fetch(client: FlaskClient, range_: str, **headers: str) -> TestResponse:
    return client.get(SHARD_URL, headers={"Range": range_, **headers})


RANGES: list[tuple[str, Answer]] = [
    ("bytes=0-0", Partial(0, 1)),
    ("bytes=0-4", Partial(0, 5)),
    ("bytes=2-", Partial(2, 10)),
    ("bytes=0-", Partial(0, 10)),
    ("bytes=3-7", Partial(3, 8)),
    ("bytes=9-9", Partial(9, 10)),
    ("bytes=9-", Partial(9, 10)),
    ("bytes=0-9", Partial(0, 10)),
    ("bytes=0-10", Partial(0, 10)),
    ("bytes=0-999", Partial(0, 10)),
    ("bytes=5-999999999999999999999999999999", Partial(5, 10)),
    ("bytes=-1", Partial(9, 10)),
    ("bytes=-5", Partial(5, 10)),
    ("bytes=-10", Partial(0, 10)),
    ("bytes=-11", Partial(0, 10)),
    ("bytes=-99999999999999999999999999999", Partial(0, 10)),
    ("bytes=00-0000000000000000000000000000001", Partial(0, 2)),
    ("BYTES=0-1", Partial(0, 2)),
    ("Bytes=0-1", Partial(0, 2)),
    (" bytes=0-1 ", Partial(0, 2)),
    ("bytes= 0-1", Partial(0, 2)),
    ("bytes=10-", RANGE_NOT_SATISFIABLE),
    ("bytes=10-10", RANGE_NOT_SATISFIABLE),
    ("bytes=11-12", RANGE_NOT_SATISFIABLE),
    ("bytes=99999999999999999999999999999-", RANGE_NOT_SATISFIABLE),
    ("bytes=99999999999999999999-100000000000000000000", RANGE_NOT_SATISFIABLE),
    ("bytes=-0", RANGE_NOT_SATISFIABLE),
    ("bytes=-00", RANGE_NOT_SATISFIABLE),
]


@pytest.mark.parametrize(("value", "answer"), RANGES)
def test_one_range(value: str, answer: Answer) -> None:
    assert parse_range(value, 10) == answer


@pytest.mark.parametrize(
    "value",
    [
        "items=0-1",
        "seconds=0-1",
        "byte=0-1",
        "bytess=0-1",
        "x=",
        "=0-1",
        "none",
    ],
)
def test_unknown_unit_is_ignored(value: str) -> None:
    assert parse_range(value, 10) == FULL


INVALID = [
    "",
    "bytes",
    "bytes=",
    "bytes= ",
    "bytes=-",
    "bytes=--",
    "bytes=1",
    "bytes=2-1",
    "bytes=99-98",
    "bytes=1-2-3",
    "bytes=--1",
    "bytes=-1-",
    "bytes=-1-2",
    "bytes=+0-1",
    "bytes=0-+1",
    "bytes=-+1",
    "bytes=1_0-2_0",
    "bytes=0x0-0x1",
    "bytes=0.0-1",
    "bytes=1e0-",
    "bytes=0 - 1",
    "bytes=0- 1",
    "bytes=a-b",
    "bytes=\u0661-\u0662",
    "bytes=\xb2-\xb3",
    "bytes=\uff10-\uff11",
    "bytes=0-1;x=y",
    'bytes="0-1"',
    "bytes=0-1\0",
    "bytes=0-1\n",
    "\xa0bytes=0-1",
    "bytes=\x850-1",
    "bytes =0-1",
    "bytes\t=0-1",
    "bytes:0-1",
    "bytes 0-1",
    "bytes==0-1",
    "bytes=0-1=",
]


@pytest.mark.parametrize("value", INVALID, ids=ascii)
def test_invalid_range_is_ignored(value: str) -> None:
    assert parse_range(value, 10) == FULL


def test_more_digits_than_python_converts() -> None:
    digits = "9" * 10_000
    assert parse_range(f"bytes={digits}-", 10) == RANGE_NOT_SATISFIABLE
    assert parse_range(f"bytes=0-{digits}", 10) == Partial(0, 10)
    assert parse_range(f"bytes=-{digits}", 10) == Partial(0, 10)
    assert parse_range(f"bytes={digits}-1", 10) == FULL
    assert parse_range(f"bytes={'0' * 10_000}1-2", 10) == Partial(1, 3)


@pytest.mark.parametrize(
    "value",
    [
        "bytes=0-1,3-4",
        "bytes=0-1, 3-4",
        "bytes=0-,-1",
        "bytes=0-1,99-",
        "bytes=99-,100-",
        "bytes=0-9,0-9",
        "bytes=0-1,x",
        "bytes=0-1,",
        "bytes=,0-1",
        "bytes=" + ",".join(["0-"] * 10_000),
    ],
    ids=lambda value: value[:30],
)
def test_several_ranges_are_answered_with_the_whole(value: str) -> None:
    assert parse_range(value, 10) == FULL


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=5-"])
def test_ranges_of_nothing_are_ignored(value: str) -> None:
    assert parse_range(value, 0) == FULL


@given(
    first=st.none() | st.integers(0, 30),
    last=st.none() | st.integers(0, 30),
    length=st.integers(1, 20),
)
def test_any_range_is_the_slice_it_says(
    first: int | None, last: int | None, length: int
) -> None:
    content = list(range(length))
    if first is None:
        wanted = content[-last:] if last else []
    else:
        wanted = content[first : None if last is None else last + 1]
    shown = ["" if number is None else str(number) for number in (first, last)]
    answer = parse_range(f"bytes={shown[0]}-{shown[1]}", length)
    if first is None and last is None:
        assert answer == FULL
    elif first is not None and last is not None and last < first:
        assert answer == FULL
    elif wanted:
        assert answer == Partial(wanted[0], wanted[-1] + 1)
    else:
        assert answer == RANGE_NOT_SATISFIABLE


@given(st.text(), st.integers(0, 1000))
def test_any_text_is_answered(value: str, length: int) -> None:
    for text in (value, f"bytes={value}"):
        answer = parse_range(text, length)
        if isinstance(answer, Partial):
            assert 0 <= answer.start < answer.stop <= length
        else:
            assert answer in (FULL, RANGE_NOT_SATISFIABLE)


@pytest.mark.parametrize(
    ("range_", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        (f"bytes={SIZE - 1}-{SIZE - 1}", SIZE - 1, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        ("bytes=-5000", SIZE - 5000, SIZE),
        (f"bytes=-{SIZE + 1}", 0, SIZE),
        ("bytes=0-", 0, SIZE),
        (f"bytes=100-{SIZE + 100}", 100, SIZE),
        (f"bytes={BLOCK_SIZE - 1}-{BLOCK_SIZE}", BLOCK_SIZE - 1, BLOCK_SIZE + 1),
        (f"bytes={BLOCK_SIZE}-{BLOCK_SIZE}", BLOCK_SIZE, BLOCK_SIZE + 1),
        (f"bytes=0-{BLOCK_SIZE - 1}", 0, BLOCK_SIZE),
        (f"bytes=0-{BLOCK_SIZE}", 0, BLOCK_SIZE + 1),
        (f"bytes={BLOCK_SIZE}-{2 * BLOCK_SIZE - 1}", BLOCK_SIZE, 2 * BLOCK_SIZE),
        (f"bytes=7-{2 * BLOCK_SIZE + 7}", 7, 2 * BLOCK_SIZE + 8),
    ],
)
def test_206_is_the_slice_it_says(
    client: FlaskClient, range_: str, start: int, stop: int
) -> None:
    with client.get(SHARD_URL) as whole:
        headers = dict(whole.headers)
    with fetch(client, range_) as r:
        assert r.status_code == 206
        assert r.data == SHARD[start:stop]
        assert dict(r.headers) == {
            **headers,
            "Content-Range": f"bytes {start}-{stop - 1}/{SIZE}",
            "Content-Length": str(stop - start),
        }


def test_206_repeats_the_headers_of_the_whole(client: FlaskClient) -> None:
    with fetch(client, "bytes=0-0") as r:
        etag, digest = r.headers.pop("ETag"), r.headers.pop("Repr-Digest")
        assert dict(r.headers) == {
            **OPEN_CORS,
            "Cache-Control": "no-cache",
            "Content-Type": "application/octet-stream",
            "X-Content-Type-Options": "nosniff",
            "Accept-Ranges": "bytes",
            "Content-Range": f"bytes 0-0/{SIZE}",
            "Content-Length": "1",
        }
    with client.get(SHARD_URL) as whole:
        assert (whole.headers["ETag"], whole.headers["Repr-Digest"]) == (etag, digest)


@pytest.mark.parametrize(
    "range_", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE}", "bytes=-0", "bytes=99999999-"]
)
def test_416_says_the_size_and_has_no_body(client: FlaskClient, range_: str) -> None:
    with client.get(SHARD_URL) as whole:
        etag = whole.headers["ETag"]
    with fetch(client, range_) as r:
        assert (r.status_code, r.data) == (416, b"")
        assert dict(r.headers) == {
            **OPEN_CORS,
            "ETag": etag,
            "Cache-Control": "no-cache",
            "Content-Type": "application/octet-stream",
            "Content-Range": f"bytes */{SIZE}",
            "Content-Length": "0",
        }


@pytest.mark.parametrize(
    "range_",
    ["items=0-1", "bytes=2-1", "bytes=+0-1", "bytes=0-1,4-5", "bytes=", "0-1"],
)
def test_ignored_range_gives_the_whole(client: FlaskClient, range_: str) -> None:
    with client.get(SHARD_URL) as whole:
        headers = dict(whole.headers)
    with fetch(client, range_) as r:
        assert (r.status_code, dict(r.headers)) == (200, headers)
        assert r.data == SHARD


def test_a_second_range_line_is_a_second_range(client: FlaskClient) -> None:
    lines = [("Range", "bytes=0-1"), ("Range", "bytes=4-5")]
    with client.get(SHARD_URL, headers=lines) as r:
        assert (r.status_code, r.content_length) == (200, SIZE)


def test_if_range_guards_against_splicing_two_versions(
    client: FlaskClient, tmp_path: Path
) -> None:
    with client.get(SHARD_URL) as r:
        etag = r.headers["ETag"]
    with fetch(client, "bytes=10-", **{"If-Range": etag}) as r:
        assert (r.status_code, r.data) == (206, SHARD[10:])
    changed = SHARD[::-1]
    (tmp_path / "large" / "large.bin").write_bytes(changed)
    with fetch(client, "bytes=10-", **{"If-Range": etag}) as r:
        assert (r.status_code, r.data) == (200, changed)


@pytest.mark.parametrize(
    "value",
    ['"other"', "W/{}", "{}, {}", "Fri, 31 Dec 9999 23:59:59 GMT", "*", "", "nonsense"],
)
def test_if_range_on_any_doubt_gives_the_whole(client: FlaskClient, value: str) -> None:
    with client.get(SHARD_URL) as r:
        etag = r.headers["ETag"]
    with fetch(client, "bytes=0-1", **{"If-Range": value.format(etag, etag)}) as r:
        assert (r.status_code, r.content_length) == (200, SIZE)


def test_range_on_head_is_ignored(client: FlaskClient) -> None:
    with client.get(SHARD_URL) as r:
        headers = dict(r.headers)
    for range_ in ("bytes=0-1", f"bytes={SIZE}-"):
        with client.head(SHARD_URL, headers={"Range": range_}) as r:
            assert (r.status_code, dict(r.headers), r.data) == (200, headers, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_range_on_other_methods_is_ignored(client: FlaskClient, method: str) -> None:
    with client.open(SHARD_URL, method=method, headers={"Range": "bytes=0-1"}) as r:
        assert r.status_code == 405


@pytest.mark.parametrize(
    "url",
    [
        "/models/large",
        "/models/large/",
        "/models/large/model.json",
        "/models/large/metadata.json",
        "/models/large/labels.txt",
    ],
)
@pytest.mark.parametrize("accept", ["gzip", "identity"])
@pytest.mark.parametrize("range_", ["bytes=0-1", "bytes=-1", "bytes=99999999-"])
def test_text_has_no_ranges(
    client: FlaskClient, url: str, accept: str, range_: str
) -> None:
    headers = {"Accept-Encoding": accept}
    with client.get(url, headers=headers) as r:
        body = r.data
        assert r.headers["Accept-Ranges"] == "none"
    with client.get(url, headers={**headers, "Range": range_}) as r:
        assert (r.status_code, r.data) == (200, body)
        assert "Content-Range" not in r.headers


def test_binary_assets_have_ranges(client: FlaskClient) -> None:
    with client.get("/models/large/tfjs.wasm", headers={"Range": "bytes=1-"}) as r:
        assert (r.status_code, r.data) == (206, b"asm")
        assert r.headers["Content-Range"] == "bytes 1-3/4"
        assert r.headers["Content-Type"] == "application/wasm"


@pytest.mark.parametrize("range_", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_range_of_an_empty_file_is_ignored(client: FlaskClient, range_: str) -> None:
    with client.get(EMPTY_URL, headers={"Range": range_}) as r:
        assert (r.status_code, r.data) == (200, b"")
        assert r.headers["Content-Length"] == "0"


def test_sixteen_segments_make_the_whole(client: FlaskClient) -> None:
    step = SIZE // 16 + 1
    parts = []
    for start in range(0, SIZE, step):
        with fetch(client, f"bytes={start}-{start + step - 1}") as r:
            assert r.status_code == 206
            assert r.content_length == len(r.data)
            parts.append(r.data)
    assert len(parts) == 16
    assert b"".join(parts) == SHARD


@given(st.integers(0, SIZE + 10), st.integers(0, SIZE + 10))
@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=2000,
)
def test_any_slice(client: FlaskClient, first: int, last: int) -> None:
    with fetch(client, f"bytes={first}-{last}") as r:
        if last < first:
            assert (r.status_code, r.content_length) == (200, SIZE)
        elif first >= SIZE:
            assert r.status_code == 416
        else:
            assert (r.status_code, r.data) == (206, SHARD[first : last + 1])
