"""Preconditions: RFC 9110 sections 8.8 and 13, RFC 9111 section 4.3."""

from __future__ import annotations

import json
import os
import shutil
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
from models import DENSE_BYTES
from models import dense_document
from models import write_model
from werkzeug.http import parse_etags
from werkzeug.test import TestResponse

from flask_tfjs.http.conditional import FULL
from flask_tfjs.http.conditional import NOT_MODIFIED
from flask_tfjs.http.conditional import PRECONDITION_FAILED
from flask_tfjs.http.conditional import RANGE_NOT_SATISFIABLE
from flask_tfjs.http.conditional import Answer
from flask_tfjs.http.conditional import Partial
from flask_tfjs.http.conditional import evaluate

JSON_URL = "/models/dense/model.json"
SHARD_URL = "/models/dense/weights.bin"
ASSET_URL = "/models/dense/labels.txt"
BARE_URL = "/models/dense"
URLS = (JSON_URL, BARE_URL, SHARD_URL, ASSET_URL)


@pytest.fixture
def client(make_app: MakeApp, tmp_path: Path) -> FlaskClient:
    app = make_app()
    (tmp_path / "dense" / "labels.txt").write_bytes(b"cat\ndog\n")
    return app.test_client()


def tag_of(client: FlaskClient, url: str) -> str:
    with client.get(url) as r:
        assert r.status_code == 200
        return str(r.headers["ETag"])


def fetch(
    client: FlaskClient, url: str, method: str = "GET", **headers: str
) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.open(url, method=method, headers=named)


def decide(
    method: str = "GET",
    *,
    etag: str = "t",
    if_match: str | None = None,
    if_none_match: str | None = None,
    range_: str | None = None,
    if_range: str | None = None,
) -> Answer:
    """``evaluate`` of header values, for ten bytes."""
    return evaluate(
        method=method,
        etag=etag,
        length=10,
        if_match=parse_etags(if_match) if if_match else None,
        if_none_match=parse_etags(if_none_match),
        range_=range_,
        if_range=if_range,
    )


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ('"t"', NOT_MODIFIED),
        ('W/"t"', NOT_MODIFIED),
        ("*", NOT_MODIFIED),
        ('"a", "t"', NOT_MODIFIED),
        ('"t","b"', NOT_MODIFIED),
        ('"a" ,\t"t" , "b"', NOT_MODIFIED),
        ('W/"a", W/"t"', NOT_MODIFIED),
        (', , "t"', NOT_MODIFIED),
        ('"a"', FULL),
        ('"T"', FULL),
        ('"tt"', FULL),
        ('"at"', FULL),
        ('"a, t, b"', FULL),
        ('"t-gzip"', FULL),
        ('"*"', FULL),
        ('""', FULL),
        ("", FULL),
        (",", FULL),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match_is_a_list_compared_weakly(
    method: str, value: str, answer: Answer
) -> None:
    assert decide(method, if_none_match=value) == answer


def test_a_comma_belongs_to_the_tag() -> None:
    assert decide(etag="a,b", if_none_match='"x", "a,b"') == NOT_MODIFIED
    assert decide(etag="a,b", if_none_match='"a", "b"') == FULL
    assert decide(etag="a", if_none_match='"a,b"') == FULL


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ('"t"', FULL),
        ("*", FULL),
        ('"a", "t"', FULL),
        ('"t" , "b"', FULL),
        ('W/"t", "t"', FULL),
        ('W/"t"', PRECONDITION_FAILED),
        ('"a", W/"t"', PRECONDITION_FAILED),
        ('"a"', PRECONDITION_FAILED),
        ('"T"', PRECONDITION_FAILED),
        ('"a,t"', PRECONDITION_FAILED),
        ('"*"', PRECONDITION_FAILED),
        ('""', PRECONDITION_FAILED),
        ('"t', PRECONDITION_FAILED),
        ('"t" t', PRECONDITION_FAILED),
        (",", PRECONDITION_FAILED),
        ("", FULL),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_match_is_a_list_compared_strongly(
    method: str, value: str, answer: Answer
) -> None:
    assert decide(method, if_match=value) == answer


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({"if_match": '"a"', "if_none_match": '"t"'}, PRECONDITION_FAILED),
        ({"if_match": '"a"', "if_none_match": '"b"'}, PRECONDITION_FAILED),
        ({"if_match": '"t"', "if_none_match": '"t"'}, NOT_MODIFIED),
        ({"if_match": "*", "if_none_match": "*"}, NOT_MODIFIED),
        ({"if_match": '"t"', "if_none_match": '"b"'}, FULL),
        ({"if_match": '"a"', "range_": "bytes=0-1"}, PRECONDITION_FAILED),
        ({"if_match": '"a"', "range_": "bytes=99-"}, PRECONDITION_FAILED),
        ({"if_none_match": '"t"', "range_": "bytes=0-1"}, NOT_MODIFIED),
        ({"if_none_match": '"t"', "range_": "bytes=99-"}, NOT_MODIFIED),
        ({"if_none_match": '"a"', "range_": "bytes=0-1"}, Partial(0, 2)),
        ({"if_none_match": '"a"', "range_": "bytes=99-"}, RANGE_NOT_SATISFIABLE),
        (
            {"if_none_match": '"t"', "if_range": '"t"', "range_": "bytes=0-1"},
            NOT_MODIFIED,
        ),
        ({"if_match": '"t"', "range_": "bytes=0-1"}, Partial(0, 2)),
    ],
)
def test_order_of_evaluation(headers: dict[str, str], answer: Answer) -> None:
    assert decide(**headers) == answer


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ('"t"', Partial(0, 2)),
        (' "t" ', Partial(0, 2)),
        ('W/"t"', FULL),
        ('"a"', FULL),
        ('"t", "a"', FULL),
        ('"t"\xa0', FULL),
        ("t", FULL),
        ("*", FULL),
        ("", FULL),
        ("Tue, 15 Nov 1994 08:12:31 GMT", FULL),
        ("Fri, 31 Dec 9999 23:59:59 GMT", FULL),
        ("not a date", FULL),
    ],
)
def test_if_range_is_one_strong_tag(value: str, answer: Answer) -> None:
    assert decide(range_="bytes=0-1", if_range=value) == answer


def test_if_range_decides_before_the_range_is_looked_at() -> None:
    assert decide(range_="bytes=99-", if_range='"a"') == FULL
    assert decide(range_="bytes=99-", if_range='"t"') == RANGE_NOT_SATISFIABLE


def test_if_range_alone_means_nothing() -> None:
    assert decide(if_range='"a"') == FULL


@pytest.mark.parametrize("value", ["bytes=0-1", "bytes=99-"])
def test_range_is_for_get(value: str) -> None:
    assert decide("HEAD", range_=value) == FULL


# The grammar of an opaque tag, as far as ASCII goes.
TAG_CHARACTERS = st.characters(
    min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"'
)
TAGS = st.text(TAG_CHARACTERS, min_size=1, max_size=3)
LISTS = st.none() | st.lists(st.tuples(st.booleans(), TAGS), min_size=1, max_size=4)


def as_header(listed: list[tuple[bool, str]] | None) -> str | None:
    if listed is None:
        return None
    return ", ".join(f'{"W/" if weak else ""}"{tag}"' for weak, tag in listed)


@given(tag=TAGS, match=LISTS, none_match=LISTS, own=st.booleans(), data=st.data())
def test_lists_of_any_tags(
    tag: str,
    match: list[tuple[bool, str]] | None,
    none_match: list[tuple[bool, str]] | None,
    own: bool,
    data: st.DataObject,
) -> None:
    for listed in (match, none_match):
        if own and listed is not None:
            at = data.draw(st.integers(0, len(listed)))
            listed.insert(at, (data.draw(st.booleans()), tag))
    answer: Answer = FULL
    if none_match is not None and tag in [other for _, other in none_match]:
        answer = NOT_MODIFIED
    if match is not None and (False, tag) not in match:
        answer = PRECONDITION_FAILED
    decided = decide(
        etag=tag, if_match=as_header(match), if_none_match=as_header(none_match)
    )
    assert decided == answer


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '{},"other"', "*"])
def test_if_none_match_gives_304(
    client: FlaskClient, method: str, url: str, form: str
) -> None:
    value = form.format(tag_of(client, url))
    with fetch(client, url, method, If_None_Match=value) as r:
        assert (r.status_code, r.data) == (304, b"")


@pytest.mark.parametrize("url", URLS)
def test_if_none_match_of_another_tag_gives_200(client: FlaskClient, url: str) -> None:
    tag = tag_of(client, url)
    for value in ('"other"', tag.upper(), tag.strip('"') + "x", f'"{tag[1:5]}"'):
        with fetch(client, url, If_None_Match=value) as r:
            assert (r.status_code, r.headers["ETag"]) == (200, tag)
            assert r.data


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_match_gives_412(client: FlaskClient, method: str, url: str) -> None:
    tag = tag_of(client, url)
    for value in (f'"other", {tag}', "*"):
        with fetch(client, url, method, If_Match=value) as r:
            assert r.status_code == 200
    for value in ('"other"', f"W/{tag}"):
        with fetch(client, url, method, If_Match=value, If_None_Match=tag) as r:
            assert r.status_code == 412
            assert r.headers["ETag"] == tag


DATES = [
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "Sun Nov  6 08:49:37 1994",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Sat, 01 Jan 10000 00:00:00 GMT",
    "Sat, 32 Foo 2024 25:61:61 GMT",
    "Wed, 28 Nov 2012 10:27:00 GMT; length=32",
    "0",
    "-1",
    "",
    "*",
    '"tag"',
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("date", DATES)
@pytest.mark.parametrize("name", ["If-Modified-Since", "If-Unmodified-Since"])
def test_date_preconditions_are_ignored_without_a_modification_date(
    client: FlaskClient, url: str, name: str, date: str
) -> None:
    with client.get(url, headers={name: date}) as r:
        assert r.status_code == 200
        assert "Last-Modified" not in r.headers


def test_if_modified_since_is_ignored_beside_if_none_match(client: FlaskClient) -> None:
    future = "Fri, 31 Dec 9999 23:59:59 GMT"
    past = "Sun, 06 Nov 1994 08:49:37 GMT"
    tag = tag_of(client, SHARD_URL)
    with fetch(
        client, SHARD_URL, If_None_Match='"other"', If_Modified_Since=future
    ) as r:
        assert r.status_code == 200
    with fetch(client, SHARD_URL, If_None_Match=tag, If_Modified_Since=past) as r:
        assert r.status_code == 304
    with fetch(client, SHARD_URL, If_Match=tag, If_Unmodified_Since=past) as r:
        assert r.status_code == 200


PRECONDITIONS = {
    "If-Match": '"other"',
    "If-None-Match": "*",
    "If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT",
    "Range": "bytes=0-0",
}


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/models/dense/missing.bin", 404),
        ("GET", "/models/dense/missing.json", 404),
        ("GET", "/models/unknown/model.json", 404),
        ("GET", "/models/broken/model.json", 500),
        ("GET", "/models/broken/weights.bin", 500),
        ("POST", JSON_URL, 405),
        ("DELETE", SHARD_URL, 405),
        ("OPTIONS", JSON_URL, 204),
        ("OPTIONS", SHARD_URL, 204),
    ],
)
def test_preconditions_are_ignored_where_the_answer_is_not_a_success(
    make_app: MakeApp, tmp_path: Path, method: str, url: str, status: int
) -> None:
    write_model(tmp_path / "dense")
    write_model(tmp_path / "broken", shards={"weights.bin": b"short"})
    models = {name: tmp_path / name for name in ("dense", "broken")}
    client = make_app(TFJS_MODELS=models).test_client()
    with client.open(url, method=method, headers=PRECONDITIONS) as r:
        assert r.status_code == status
        assert "ETag" not in r.headers


def test_304_of_json_repeats_tag_cache_control_and_vary_only(
    client: FlaskClient,
) -> None:
    tag = tag_of(client, JSON_URL)
    with fetch(client, JSON_URL, If_None_Match=tag) as r:
        assert r.status_code == 304
        assert dict(r.headers) == {
            **OPEN_CORS,
            "ETag": tag,
            "Cache-Control": "no-cache",
            "Vary": "Accept-Encoding",
        }


@pytest.mark.parametrize("url", [SHARD_URL, ASSET_URL])
def test_304_of_a_file_repeats_tag_and_cache_control_only(
    client: FlaskClient, url: str
) -> None:
    tag = tag_of(client, url)
    with fetch(client, url, If_None_Match=tag) as r:
        assert r.status_code == 304
        assert dict(r.headers) == {
            **OPEN_CORS,
            "ETag": tag,
            "Cache-Control": "no-cache",
        }


def test_304_repeats_the_configured_max_age(make_app: MakeApp) -> None:
    client = make_app(TFJS_MODEL_MAX_AGE=60).test_client()
    tag = tag_of(client, JSON_URL)
    for headers in ({}, {"If-None-Match": tag}):
        with client.get(JSON_URL, headers=headers) as r:
            assert r.headers["Cache-Control"] == "max-age=60"
    with client.get(SHARD_URL) as r:
        assert r.headers["Cache-Control"] == "no-cache"


def test_412_of_json_says_why(client: FlaskClient) -> None:
    tag = tag_of(client, JSON_URL)
    with fetch(client, JSON_URL, If_Match='"other"') as r:
        assert r.status_code == 412
        assert list(r.get_json()) == ["error"]
        assert dict(r.headers) == {
            **OPEN_CORS,
            "ETag": tag,
            "Cache-Control": "no-cache",
            "Vary": "Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
            "Content-Type": "application/json",
            "Content-Length": str(len(r.data)),
        }


def test_412_of_a_shard_is_empty(client: FlaskClient) -> None:
    tag = tag_of(client, SHARD_URL)
    with fetch(client, SHARD_URL, If_Match='"other"') as r:
        assert (r.status_code, r.data) == (412, b"")
        assert dict(r.headers) == {
            **OPEN_CORS,
            "ETag": tag,
            "Cache-Control": "no-cache",
            "Content-Type": "application/octet-stream",
            "Content-Length": "0",
        }


@pytest.mark.parametrize("url", URLS)
def test_tag_survives_a_touch_a_redeploy_and_another_root(
    make_app: MakeApp, client: FlaskClient, tmp_path: Path, url: str
) -> None:
    tag = tag_of(client, url)
    for path in (tmp_path / "dense").iterdir():
        os.utime(path, (1, 1))
    assert tag_of(client, url) == tag
    replica = shutil.copytree(tmp_path / "dense", tmp_path / "elsewhere" / "copy")
    other = make_app(TFJS_MODELS={"dense": replica}).test_client()
    assert tag_of(other, url) == tag


@pytest.mark.parametrize("url", [JSON_URL, BARE_URL, SHARD_URL])
def test_tag_changes_with_the_content_at_the_same_size_and_date(
    make_app: MakeApp, tmp_path: Path, url: str
) -> None:
    app = make_app()
    grow_old(app)
    client = app.test_client()
    shard = tmp_path / "dense" / "weights.bin"
    tags = set()
    for last in range(3):
        shard.write_bytes(DENSE_BYTES[:-1] + bytes([last]))
        os.utime(shard, (1_000_000_000, 1_000_000_000))
        tags.add(tag_of(client, url))
    assert len(tags) == 3


def test_tag_of_the_json_changes_with_the_json(
    client: FlaskClient, tmp_path: Path
) -> None:
    tags = {url: tag_of(client, url) for url in (JSON_URL, SHARD_URL)}
    document = dense_document("weights.bin", generatedBy="someone else")
    (tmp_path / "dense" / "model.json").write_text(json.dumps(document))
    assert tag_of(client, JSON_URL) != tags[JSON_URL]
    assert tag_of(client, SHARD_URL) == tags[SHARD_URL]


def test_urls_with_different_bodies_have_different_tags(client: FlaskClient) -> None:
    assert len({tag_of(client, url) for url in URLS}) == len(URLS)


VALUES = st.text(st.characters(max_codepoint=0xFF, exclude_categories=["Cc"])) | (
    st.lists(
        st.sampled_from(
            ['"', "W/", "*", ",", " ", "bytes", "=", "-", "0", "9", ":", ";", "GMT"]
        )
    ).map("".join)
)
CONDITIONS = st.dictionaries(
    st.sampled_from(
        [
            "If-Match",
            "If-None-Match",
            "If-Modified-Since",
            "If-Unmodified-Since",
            "If-Range",
            "Range",
        ]
    ),
    VALUES,
)


@given(headers=CONDITIONS, url=st.sampled_from(URLS), head=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=1000)
def test_any_header_values_are_answered(
    client: FlaskClient, headers: dict[str, str], url: str, head: bool
) -> None:
    with client.get(url) as whole:
        body, tag = whole.data, whole.headers["ETag"]
    with client.open(url, method="HEAD" if head else "GET", headers=headers) as r:
        assert r.headers["ETag"] == tag
        if r.status_code == 200:
            assert r.data == (b"" if head else body)
        elif r.status_code == 206:
            assert url == SHARD_URL and not head
            span, _, length = r.headers["Content-Range"][6:].partition("/")
            first, last = map(int, span.split("-"))
            assert int(length) == len(body)
            assert r.data == body[first : last + 1]
        elif r.status_code == 304:
            value = headers["If-None-Match"]
            assert "*" in value or tag.strip('"') in value
        elif r.status_code == 412:
            assert "If-Match" in headers
        else:
            assert r.status_code == 416
            assert url == SHARD_URL and "Range" in headers


@pytest.mark.parametrize("filler", [" ", '"', ",", "a", '"a",', "W/", "\\", "0", "-"])
@pytest.mark.parametrize("name", ["If-Match", "If-None-Match", "If-Range", "Range"])
def test_very_long_values_are_answered(
    client: FlaskClient, name: str, filler: str
) -> None:
    value = ("bytes=" if name == "Range" else '"') + filler * 60_000 + "x"
    with client.get(SHARD_URL, headers={name: value}) as r:
        assert r.status_code == (412 if name == "If-Match" else 200)
