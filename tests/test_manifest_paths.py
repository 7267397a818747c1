"""Which file a path of a manifest means, and the path a client gets in its place."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from urllib.parse import unquote
from urllib.parse import urljoin
from urllib.parse import urlsplit

import pytest
from conftest import MakeApp
from hypothesis import assume
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from javascript import Function
from javascript import javascript
from models import DENSE_BYTES
from models import content_name
from models import dense_document
from models import write_model

from flask_tfjs import InvalidModel
from flask_tfjs.format.paths import file_names
from flask_tfjs.format.paths import relative_url

WHERE = "weightsManifest[0].paths[0]"

OUTSIDE = "leads out of the model's directory"
ELSEWHERE = "is not a relative path"
ODD = "holds a backslash or a control character"
HIDDEN = "names a hidden file"
NONE = "names no file"

REFUSED = {
    "../secret.bin": OUTSIDE,
    "a/../../secret.bin": OUTSIDE,
    "./../secret.bin": OUTSIDE,
    "/../secret.bin": OUTSIDE,
    "//../secret.bin": OUTSIDE,
    "..": OUTSIDE,
    "a/../..": OUTSIDE,
    "../": OUTSIDE,
    "https://host/w.bin": ELSEWHERE,
    "HTTP://host/w.bin": ELSEWHERE,
    "file:///etc/passwd": ELSEWHERE,
    "s3+x.y-z://bucket/w.bin": ELSEWHERE,
    "C:/w.bin": ELSEWHERE,
    "c:w.bin": ELSEWHERE,
    "C:\\w.bin": ELSEWHERE,
    "..\\secret.bin": ODD,
    "a\\w.bin": ODD,
    "\\\\host\\w.bin": ODD,
    "w.bin\0": ODD,
    "w\n.bin": ODD,
    "\x7fw.bin": ODD,
    "w\ud800.bin": ODD,
    ".hidden.bin": HIDDEN,
    ".git/config": HIDDEN,
    "a/.hidden/w.bin": HIDDEN,
    ".../w.bin": HIDDEN,
    "..w.bin": HIDDEN,
    "": NONE,
    ".": NONE,
    "./": NONE,
    "/": NONE,
    "//": NONE,
    "a/": NONE,
    "a/..": NONE,
    "w.bin/": NONE,
}


@pytest.mark.parametrize("path, sentence", REFUSED.items(), ids=ascii)
def test_refused(path: str, sentence: str) -> None:
    with pytest.raises(InvalidModel) as caught:
        file_names("", path, WHERE)
    assert caught.value.where == WHERE
    assert sentence in caught.value.message
    # An entry further down may name what lies above it, but not above the root.
    with pytest.raises(InvalidModel, match=sentence):
        file_names("sub", f"../{path}" if sentence == OUTSIDE else path, WHERE)


@pytest.mark.parametrize(
    "directory, path, names",
    [
        ("", "w.bin", ["w.bin"]),
        ("", "./w.bin", ["w.bin"]),
        ("", "/w.bin", ["w.bin"]),
        ("", "//host/w.bin", ["host/w.bin"]),
        ("", "a//b/./w.bin", ["a/b/w.bin"]),
        ("", "a/../w.bin", ["w.bin"]),
        ("", "group1-shard1of1", ["group1-shard1of1"]),
        ("", "w (1).bin", ["w (1).bin"]),
        ("", "größe.bin", ["größe.bin"]),
        ("", "a:b.bin", None),
        ("", "ab:c.bin", ["ab:c.bin"]),
        ("", "~/w.bin", ["~/w.bin"]),
        ("sub", "w.bin", ["sub/w.bin"]),
        ("sub", "/w.bin", ["sub/w.bin"]),
        ("sub", "..", None),
        ("sub/deep", "..", None),
        ("sub/deep", "../w.bin", ["sub/w.bin"]),
        ("sub/deep", "../../w.bin", ["w.bin"]),
        ("sub/deep", "../../../w.bin", None),
        ("", "w.bin?h=1", ["w.bin?h=1", "w.bin"]),
        ("", "w.bin#part", ["w.bin#part", "w.bin"]),
        ("", "w.bin?u=a/b", ["w.bin?u=a/b", "w.bin"]),
        ("", "w%20x.bin", ["w%20x.bin", "w x.bin"]),
        ("", "a%2fw.bin", ["a%2fw.bin", "a/w.bin"]),
        ("", "%77.bin", ["%77.bin", "w.bin"]),
        ("", "100%.bin", ["100%.bin"]),
        ("", "100%25.bin", ["100%25.bin", "100%.bin"]),
        # One of both readings is enough.
        ("", "#1.bin", ["#1.bin"]),
        ("", "?1.bin", ["?1.bin"]),
        ("", "%2e%2e/secret.bin", ["%2e%2e/secret.bin"]),
        ("", "%2e%2e%2fsecret.bin", ["%2e%2e%2fsecret.bin"]),
        ("", "%2fw.bin", ["%2fw.bin", "w.bin"]),
        ("", "w%00.bin", ["w%00.bin"]),
        ("", "%5c%5chost.bin", ["%5c%5chost.bin"]),
        ("", "%2ehidden", ["%2ehidden"]),
        ("", "w.bin?dir=a/", ["w.bin"]),
        ("", "w.bin?a=/../../..", ["w.bin"]),
    ],
)
def test_file_names(directory: str, path: str, names: list[str] | None) -> None:
    if names is None:
        with pytest.raises(InvalidModel):
            file_names(directory, path, WHERE)
    else:
        assert list(file_names(directory, path, WHERE)) == names


def test_a_long_path_is_shown_in_part() -> None:
    with pytest.raises(InvalidModel) as caught:
        file_names("", "../" * 100_000, WHERE)
    assert len(caught.value.message) < 200


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b.c"]), max_size=3).map("/".join),
    st.lists(
        st.sampled_from(["..", ".", "/", "//", "a", ".h", "%2e", "%2f", "?", "#", "C:"])
        | st.text(max_size=4),
        max_size=7,
    ).map("".join),
)
@example("", "%252e%252e/x")
def test_any_path_stays_below_the_root(directory: str, path: str) -> None:
    try:
        names = file_names(directory, path, WHERE)
    except InvalidModel as fault:
        assert fault.where == WHERE
        return
    assert names
    for name in names:
        segments = name.split("/")
        assert not any(s.startswith(".") or not s for s in segments)
        assert not any(c in name for c in "\\\0\n\x7f")
        url = relative_url(directory, name)
        assert url.isascii() and not any(c in url for c in " ?#\\:")
        assert posixpath.normpath(posixpath.join(directory, unquote(url))) == name


def test_the_current_directory_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert relative_url("a/b", "a/c/w.bin") == "../c/w.bin"
    assert relative_url("", "w.bin") == "w.bin"


@pytest.fixture(scope="module")
def browser() -> Iterator[Function]:
    """The path a browser asks for when tfjs appends a path to the folder of a URL."""
    source = "() => ([folder, path]) => new URL(`http://host${folder}${path}`).pathname"
    with javascript(source) as function:
        yield function


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1
).filter(lambda name: not name.startswith("."))


@settings(max_examples=300, deadline=None)
@given(directory=st.lists(NAMES, max_size=2), name=st.lists(NAMES, min_size=1))
def test_a_browser_asks_for_the_file(
    browser: Function, directory: list[str], name: list[str]
) -> None:
    assume(directory[: len(name)] != name)  # a folder and a file of one name
    folder = "".join(f"/{quote(s)}" for s in ["models", "x", *directory])
    path = relative_url("/".join(directory), "/".join(name))
    asked = browser([f"{folder}/", path])
    assert unquote(asked, errors="strict") == "/models/x/" + "/".join(name)


# Over HTTP, with real files

LOADABLE = {
    "w.bin": "w.bin",
    "./w.bin": "w.bin",
    "/w.bin": "w.bin",
    "//deep/w.bin": "deep/w.bin",
    "deep/er/w.bin": "deep/er/w.bin",
    "deep/../w.bin": "w.bin",
    "group1-shard1of1": "group1-shard1of1",
    "w (1) + copy.bin": "w (1) + copy.bin",
    "größe ✓ 😀.bin": "größe ✓ 😀.bin",
    "a'b\"c<d>&e;f=g,h@i$j!k*l~m|n^o`p{q}[r].bin": None,
    "ab:c.bin": "ab:c.bin",
    "w.bin?h=1": "w.bin",
    "w.bin#h": "w.bin",
    "w?h=1.bin": "w?h=1.bin",
    "#1.bin": "#1.bin",
    "100%.bin": "100%.bin",
    "w%20x.bin": "w x.bin",
    "w%2520x.bin": "w%20x.bin",
    "w%zz.bin": "w%zz.bin",
    "deep%2Fw.bin": "deep/w.bin",
    "%2e%2e/w.bin": "%2e%2e/w.bin",
    "shard.json": "shard.json",
    "w.html": "w.html",
    "-": "-",
    " ": " ",
    "w" * 200: "w" * 200,
}

#: A URL and, for each, the entry that it answers with.
URLS = {
    "/models/m/model.json": "model.json",
    "/models/m/": "model.json",
    "/models/m": "model.json",
    "/models/m?a=1": "model.json",
    "/models/m/sub/deep/model.json": "sub/deep/model.json",
}


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("path, file", LOADABLE.items(), ids=ascii)
def test_a_client_finds_the_file(
    make_app: MakeApp, tmp_path: Path, path: str, file: str | None, url: str
) -> None:
    entry = URLS[url]
    write_model(
        tmp_path / "m",
        entry=entry,
        document=dense_document(path),
        shards={file or path: DENSE_BYTES},
    )
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    with client.get(url) as response:
        assert response.status_code == 200, response.data
        (delivered,) = response.get_json()["weightsManifest"][0]["paths"]
    # What tfjs does: all before the last slash, then the path, then the query.
    before, _, query = url.partition("?")
    folder = before[: before.rindex("/") + 1]
    # Who has the manifest as it lies on disk asks for the file itself.
    own = quote(posixpath.join(posixpath.dirname(entry), file or path))
    for asked in (urljoin(folder, delivered), f"/models/m/{own}"):
        with client.get(f"{asked}?{query}") as response:
            assert response.status_code == 200
            assert response.data == DENSE_BYTES
            assert response.mimetype == "application/octet-stream"
    # Nothing in the name that a client, a proxy or a file system may read otherwise.
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", delivered.rpartition("/")[2])


@pytest.mark.parametrize("path, sentence", REFUSED.items(), ids=ascii)
def test_refused_over_http(
    make_app: MakeApp, tmp_path: Path, path: str, sentence: str
) -> None:
    (tmp_path / "secret.bin").write_bytes(DENSE_BYTES)
    write_model(
        tmp_path / "m",
        document=json.dumps(dense_document(path)).encode(),
        shards={
            "w.bin": DENSE_BYTES,
            ".hidden.bin": DENSE_BYTES,
            ".git/config": DENSE_BYTES,
            "a/w.bin": DENSE_BYTES,
        },
    )
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    with client.get("/models/m/model.json") as response:
        assert response.status_code == 500
        error = response.get_json()["error"]
    assert error.startswith(f"{WHERE}: ") and sentence in error
    for asked in ("../secret.bin", "%2e%2e/secret.bin", ".hidden.bin", ".git/config"):
        with client.get(f"/models/m/{asked}") as response:
            assert response.status_code == 404
            assert response.data == b""


@pytest.mark.parametrize(
    "path",
    [
        "%2e%2e/secret.bin",
        "%2e%2e%2fsecret.bin",
        "missing.bin",
        "a",
        "w" * 300,
        "w/" * 3000 + "w",
        "w.bin/w",
        "/dev/zero",
        "//dev/zero",
        "/etc/passwd",
        "~/w.bin",
        "$HOME/w.bin",
        "*.bin",
    ],
    ids=lambda path: path[:30],
)
def test_missing_over_http(make_app: MakeApp, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.bin").write_bytes(DENSE_BYTES)
    write_model(
        tmp_path / "m",
        document=dense_document(path),
        shards={"w.bin": DENSE_BYTES, "a/w.bin": DENSE_BYTES},
    )
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    with client.get("/models/m/model.json") as response:
        assert response.status_code == 500
        error = response.get_json()["error"]
    assert error.startswith(f"{WHERE}: ")
    assert "is missing or not a regular file" in error


def test_every_path_of_every_group_is_rewritten(
    make_app: MakeApp, tmp_path: Path
) -> None:
    document = dense_document("/a b.bin", "./c.bin")
    kernel, bias = document["weightsManifest"][0]["weights"]
    document["weightsManifest"] = [
        {"paths": ["/a b.bin", "./c.bin"], "weights": [kernel], "note": 1},
        {"paths": ["sub//d%2ebin"], "weights": [bias]},
    ]
    shards = {"a b.bin": DENSE_BYTES[:12], "c.bin": DENSE_BYTES[12:24]}
    shards["sub/d.bin"] = DENSE_BYTES[24:]
    write_model(tmp_path / "m", entry="x/m.json", document=document, shards=shards)
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}).test_client()
    names = [
        content_name("a-b", DENSE_BYTES[:12]),
        content_name("c", DENSE_BYTES[12:24]),
        content_name("d", DENSE_BYTES[24:]),
    ]
    for url, prefix in (
        ("/models/m/x/m.json", ""),
        ("/models/m/model.json", "x/"),
        ("/models/m/", "x/"),
        ("/models/m", "m/x/"),
    ):
        with client.get(url) as response:
            groups = response.get_json()["weightsManifest"]
        assert [path for group in groups for path in group["paths"]] == [
            prefix + name for name in names
        ]
        assert groups[0] == {
            **document["weightsManifest"][0],
            "paths": groups[0]["paths"],
        }


def test_a_delivered_path_is_nothing_but_a_path() -> None:
    """No scheme, host, query or fragment may come out of a file name."""
    for name in ("a:b", "//a", "a?b", "a#b", "javascript:x", "http:x"):
        url = relative_url("", name.lstrip("/"))
        assert urlsplit(url).path == url
