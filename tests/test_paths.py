"""What a URL reaches: names that a directory and its manifests offer, and no others."""

from __future__ import annotations

import json
import os
import string
from pathlib import Path
from urllib.parse import quote
from urllib.parse import unquote_to_bytes
from urllib.parse import urljoin
from urllib.parse import urlsplit

import pytest
from conftest import MakeApp
from conftest import grow_old
from filesystem import time_limit
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from models import DENSE_BYTES
from models import dense_document
from models import write_model
from werkzeug.test import TestResponse

from flask_tfjs.models.files import BLOCK_SIZE
from flask_tfjs.models.files import FileChanged

SECRET = b"root:x:0:0"


def ask(client: FlaskClient, target: str, method: str = "GET") -> TestResponse:
    """Ask for a request target as a server hands it on: split and decoded once."""
    path, _, query = target.partition("?")
    environ = {
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
    }
    return client.open(method=method, environ_overrides=environ)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A registered model, ``dense``, among all that must not be reached from it."""
    write_model(tmp_path / "dense")
    dense = tmp_path / "dense"
    (dense / "labels.txt").write_bytes(b"cat\ndog\n")
    (dense / "metadata.json").write_bytes(b'{"labels": []}')
    for stray in (".env", ".git/config", "train.py", "checkpoint.h5", "note.txt"):
        (dense / stray).parent.mkdir(exist_ok=True)
        (dense / stray).write_bytes(SECRET)
    (dense / "settings.json").write_bytes(b'{"password": "root:x:0:0"}')
    (dense / ".hidden.json").write_text(json.dumps(dense_document("weights.bin")))
    for neighbour in ("dense-private", "dense2", "densed"):
        write_model(tmp_path / neighbour)
    (tmp_path / "passwd").write_bytes(SECRET)
    (tmp_path / "labels.txt").write_bytes(SECRET)
    return tmp_path


@pytest.fixture
def app(make_app: MakeApp, models: Path) -> Flask:
    return make_app(TFJS_MODELS={"dense": models / "dense"})


needs_fifo = pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="this system has no FIFOs"
)

UP = [
    "..",
    "%2e%2e",
    "%2E.",
    ".%2e",
    "%252e%252e",
    "%25252e%25252e",
    "..%00",
    "%00..",
    "..%20",
    "..;",
    "..;x",
    "..%3b",
    "....",
    "....%2f%2f",
    "..%c0%af",
    "..%c1%9c",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "%f0%80%80%ae%f0%80%80%ae",
    "%uff0e%uff0e",
    "%ef%bc%8e%ef%bc%8e",
    "%e2%80%a5",
    "..%ef%b8%8f",
    "..%0a",
    "..%0d%0a",
    "..%ff",
    "..%",
    "..%2",
    "..%zz",
    ".",
    "%2e",
    "~",
    "*",
]
SEPARATORS = [
    "/",
    "//",
    "/./",
    "%2f",
    "%2F",
    "%252f",
    "\\",
    "%5c",
    "%5C",
    "%255c",
    "%c0%af",
    "%e2%88%95",
    "%ef%bc%8f",
]


WAYS_OUT = [
    ("/models/dense/", 1, "passwd"),
    ("/models/dense/", 8, "passwd"),
    ("/models/dense/", 1, "dense-private/weights.bin"),
    ("/models/", 1, "dense/passwd"),
]


@pytest.mark.parametrize("up", UP)
def test_no_spelling_of_dot_dot_leads_out(app: Flask, up: str) -> None:
    client = app.test_client()
    for separator in SEPARATORS:
        for start, climb, target in WAYS_OUT:
            with ask(client, f"{start}{(up + separator) * climb}{target}") as r:
                assert (r.status_code, r.data[:9]) in ((404, b""), (404, b'{"error":'))


@pytest.mark.parametrize(
    "target",
    [
        "/etc/passwd",
        "//etc/passwd",
        "file:///etc/passwd",
        "C:/Windows/win.ini",
        "C:%5CWindows%5Cwin.ini",
        "%5c%5chost%5cshare%5cfile",
        "http://other.example/weights.bin",
        "//other.example/weights.bin",
        "CON",
        "weights.bin::$DATA",
        "weights.bin.",
        "weights.bin%20",
        "weights.bin%00",
        "weights.bin%00.json",
        "%00weights.bin",
        "WEIGHTS.BIN",
        "weights.bin;v=1",
        "weights.bin%3fv=1",
        "weights.bin%23",
        "./weights.bin",
        "%2e/weights.bin",
        "x/../weights.bin",
        "/weights.bin",
        "%2fweights.bin",
        "weights.bin/",
        "weights.bin//",
        "weights.bin/.",
        "weights.bin%2f",
        "model.json/",
        "model.json//",
        "model.json/.",
        "model.json%2f",
        "model.json/model.json",
        "model.json/weights.bin",
        "labels.txt/",
        "/model.json",
        "//model.json",
        "MODEL.JSON",
        "%",
        "%0",
        "%zz",
        "%ff",
        "%80%81",
        "%ed%a0%80",
        "%0a",
        "weights%0a.bin",
        "*",
        "*.bin",
        "%3f.bin",
        "[w]eights.bin",
        "a" * 300,
        "a" * 5000 + ".json",
        "a/" * 5000,
        "%2e%2e/" * 2000,
        "\xff\xfe",
    ],
    ids=lambda target: ascii(target[:30]),
)
def test_other_spellings_are_not_the_file(app: Flask, target: str) -> None:
    client = app.test_client()
    for method in ("GET", "HEAD", "POST"):
        with ask(client, f"/models/dense/{target}", method) as r:
            assert r.status_code == 404
            assert "Location" not in r.headers


@pytest.mark.parametrize(
    "target",
    [
        "unknown",
        "Dense",
        "dense%20",
        "dense%00",
        "dense%0a",
        ".",
        "..",
        "%2e%2e",
        "-",
        "%2fdense",
        "/dense/model.json",
        "dense%2fmodel.json%2f",
        "%c3%a9",
        "%ff",
        "a" * 129,
        "a" * 10_000,
        "passwd",
        "dense2",
        "dense-private",
    ],
    ids=lambda target: target[:30],
)
@pytest.mark.parametrize("rest", ["", "/", "/model.json", "/weights.bin"])
def test_unknown_name(app: Flask, target: str, rest: str) -> None:
    with ask(app.test_client(), f"/models/{target}{rest}") as r:
        assert r.status_code == 404
        assert r.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    "path",
    [
        "/models../dense/model.json",
        "/models%2e%2e/passwd",
        "/modelsdense/model.json",
        "/models-private/x",
        "/model",
        "/Models/dense/model.json",
        "/./models/dense/model.json",
        "/x/../models/dense/model.json",
    ],
)
def test_siblings_of_the_prefix_are_not_ours(app: Flask, path: str) -> None:
    with ask(app.test_client(), path) as r:
        assert r.status_code == 404
        assert "Cross-Origin-Resource-Policy" not in r.headers
        assert "Location" not in r.headers


@pytest.mark.parametrize(
    "name",
    [
        "train.py",
        "checkpoint.h5",
        "note.txt",
        "settings.json",
        ".env",
        ".git/config",
        ".git/",
        ".hidden.json",
    ],
)
def test_stray_files_and_dotfiles_have_no_url(app: Flask, name: str) -> None:
    with ask(app.test_client(), f"/models/dense/{name}") as r:
        assert r.status_code == 404
        assert SECRET not in r.data


@pytest.mark.parametrize(
    ("name", "media_type", "body"),
    [
        ("weights.bin", "application/octet-stream", DENSE_BYTES),
        ("labels.txt", "text/plain; charset=utf-8", b"cat\ndog\n"),
        ("metadata.json", "application/json", b'{"labels": []}'),
    ],
)
def test_shards_and_assets_have_a_url(
    app: Flask, name: str, media_type: str, body: bytes
) -> None:
    with ask(app.test_client(), f"/models/dense/{name}") as r:
        assert (r.status_code, r.data) == (200, body)
        assert r.headers["Content-Type"] == media_type


@pytest.mark.parametrize("name", ["x.html", "x.svg", "x.js", "x.bin", "x", "x.PNG.exe"])
def test_assets_are_nothing_a_browser_runs(
    make_app: MakeApp, models: Path, name: str
) -> None:
    (models / "dense" / name).write_bytes(b"<script>alert(1)</script>")
    app = make_app(TFJS_MODELS={"dense": models / "dense"}, TFJS_ASSETS=["x*"])
    with ask(app.test_client(), f"/models/dense/{name}") as r:
        assert r.status_code == 200
        assert r.headers["Content-Type"] == "application/octet-stream"
        assert r.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "query",
    [
        "tfjs-format=file",
        "v=1",
        "v=a/b/../c",
        "",
        "?",
        "%00",
        "%zz",
        "a=%2e%2e/%2e%2e&b",
        "path=/etc/passwd",
        "x=" + "y" * 5000,
    ],
    ids=lambda query: query[:20],
)
def test_query_is_ignored(app: Flask, query: str) -> None:
    client = app.test_client()
    for path in ("", "/", "/model.json", "/weights.bin", "/labels.txt", "/missing"):
        with ask(client, f"/models/dense{path}") as r:
            plain = (r.status_code, r.data, dict(r.headers))
        with ask(client, f"/models/dense{path}?{query}") as r:
            assert (r.status_code, r.data, dict(r.headers)) == plain


def load(client: FlaskClient, url: str) -> bytes:
    """The weights at *url*, loaded as tfjs does: a path of the manifest is appended to
    the URL's own folder, and the URL's query to that."""
    with client.get(url) as r:
        assert r.status_code == 200, r.data
        manifest = json.loads(r.data)["weightsManifest"]
    folder, query = url.partition("?")[0].rpartition("/")[0], urlsplit(url).query
    weights = b""
    for group in manifest:
        for path in group["paths"]:
            target = urlsplit(urljoin("http://host", f"{folder}/{path}"))
            asked = target.path + (f"?{query}" if query else "")
            with ask(client, asked) as r:
                assert r.status_code == 200, asked
                weights += r.data
    return weights


@pytest.mark.parametrize(
    "form", ["", "/", "/model.json", "?tfjs-format=file", "/model.json?v=1"]
)
def test_every_form_of_the_url_loads(client: FlaskClient, form: str) -> None:
    assert load(client, f"/models/dense{form}") == DENSE_BYTES


STRANGE_NAMES = [
    "group1-shard1of1",
    "with space.bin",
    " leading",
    "trailing ",
    "hash#1.bin",
    "#",
    "per%cent.bin",
    "per%20cent.bin",
    "%",
    "what?.bin",
    "what?v=1",
    "semi;colon.bin",
    "co:lon.bin",
    "ampers&nd+plus=equals.bin",
    "quote'\"`.bin",
    "<script>.bin",
    "[1]{2}|^.bin",
    "caf\u00e9.bin",
    "cafe\u0301.bin",
    "\u6a21\u578b.bin",
    "\U0001f642.bin",
    "\u202egnp.bin",
    "\u00a0",
    "~tilde@at$dollar!.bin",
    "sub/dir/weights.bin",
    "sub dir/#1/w.bin",
    "-",
    "a" * 250,
    "weights.json.bin",
    "model.json.bin",
    "*",
]


@pytest.mark.parametrize("name", STRANGE_NAMES, ids=lambda name: ascii(name[:20]))
@pytest.mark.parametrize("entry", ["model.json", "deep/er/other name.json"])
def test_strange_names_load_by_the_rewritten_path(
    make_app: MakeApp, tmp_path: Path, entry: str, name: str
) -> None:
    write_model(tmp_path / "odd", entry=entry, shards={name: DENSE_BYTES})
    client = make_app(TFJS_MODELS={"odd": tmp_path / "odd"}).test_client()
    for url in ("/models/odd", "/models/odd/", f"/models/odd/{quote(entry)}"):
        assert load(client, url) == DENSE_BYTES
        assert load(client, f"{url}?v=1") == DENSE_BYTES
    own = quote(f"{entry.rpartition('/')[0]}/{name}".lstrip("/"))
    with client.get(f"/models/odd/{own}") as r:
        assert (r.status_code, r.data) == (200, DENSE_BYTES)


NAMES = st.text(
    st.characters(
        exclude_categories=["Cs", "Cc"],
        exclude_characters='/\\"\x7f',
        max_codepoint=0x2FFF,
    ),
    min_size=1,
    max_size=40,
).filter(
    lambda name: (
        not name.startswith(".") and len(name.encode()) < 250 and name != "model.json"
    )
)


@given(name=NAMES)
@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=2000,
)
def test_any_name_loads_by_the_rewritten_path(
    make_app: MakeApp, tmp_path: Path, name: str
) -> None:
    directory = write_model(tmp_path / "any", shards={name: DENSE_BYTES})
    client = make_app(TFJS_MODELS={"any": directory}).test_client()
    assert load(client, "/models/any") == DENSE_BYTES
    with client.get(f"/models/any/{quote(name)}") as r:
        assert (r.status_code, r.data) == (200, DENSE_BYTES)
    (directory / name).unlink()


@given(
    st.lists(
        st.sampled_from(
            [*UP, *SEPARATORS, "dense", "model.json", "weights.bin", "passwd", ".json"]
        )
        | st.text(string.printable, max_size=5).map(quote),
        max_size=12,
    ).map("".join)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=1000)
def test_any_path_is_answered(client: FlaskClient, path: str) -> None:
    with ask(client, f"/models/{path}") as r:
        assert r.status_code in (200, 404)
        if r.status_code == 200:
            assert path in (
                "dense",
                "dense/",
                "dense/model.json",
                "dense/weights.bin",
            ) or unquote_to_bytes(path) in (
                b"dense",
                b"dense/",
                b"dense/model.json",
                b"dense/weights.bin",
            )


@pytest.mark.parametrize(
    "path",
    [
        "../passwd",
        "/etc/passwd",
        "https://other.example/w.bin",
        "a/../../passwd",
        ".env",
    ],
)
def test_hostile_manifest_is_refused(app: Flask, models: Path, path: str) -> None:
    document = dense_document(path)
    (models / "dense" / "model.json").write_text(json.dumps(document))
    client = app.test_client()
    with ask(client, "/models/dense/model.json") as r:
        assert r.status_code == 500
        assert "weightsManifest[0].paths[0]" in r.get_json()["error"]
    with ask(client, f"/models/dense/{path}") as r:
        assert r.status_code == 404


@needs_fifo
@pytest.mark.parametrize("name", ["labels.txt", "metadata.json", "other.json"])
def test_fifo_as_asset_or_entry_does_not_block(
    app: Flask, models: Path, name: str
) -> None:
    path = models / "dense" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with time_limit(10), ask(app.test_client(), f"/models/dense/{name}") as r:
        assert r.status_code == 404
    with time_limit(10), ask(app.test_client(), "/models/dense") as r:
        assert r.status_code == 200


@needs_fifo
@pytest.mark.parametrize("name", ["weights.bin", "model.json"])
@pytest.mark.parametrize("aged", [False, True], ids=["young", "old"])
def test_fifo_in_place_of_a_file_does_not_block(
    app: Flask, models: Path, name: str, aged: bool
) -> None:
    client = app.test_client()
    if aged:
        grow_old(app)
    for url in ("/models/dense/model.json", "/models/dense/weights.bin"):
        with ask(client, url) as r:
            assert r.status_code == 200
    (models / "dense" / name).unlink()
    os.mkfifo(models / "dense" / name)
    for url in ("/models/dense/model.json", "/models/dense/weights.bin"):
        with time_limit(10), ask(client, url) as r:
            assert r.status_code in (404, 500)


def test_directory_in_place_of_a_shard(app: Flask, models: Path) -> None:
    (models / "dense" / "weights.bin").unlink()
    (models / "dense" / "weights.bin").mkdir()
    with ask(app.test_client(), "/models/dense") as r:
        assert r.status_code == 500
    with ask(app.test_client(), "/models/dense/weights.bin") as r:
        assert (r.status_code, r.data) == (404, b"")


@pytest.mark.parametrize("name", ["labels.txt", "metadata.json"])
def test_link_out_of_the_directory_is_refused(
    app: Flask, models: Path, name: str
) -> None:
    (models / "dense" / name).unlink()
    (models / "dense" / name).symlink_to(models / "passwd")
    with ask(app.test_client(), f"/models/dense/{name}") as r:
        assert r.status_code == 404
        assert SECRET not in r.data


def test_linked_shard_out_of_the_directory_is_refused(app: Flask, models: Path) -> None:
    (models / "outer.bin").write_bytes(DENSE_BYTES)
    (models / "dense" / "weights.bin").unlink()
    (models / "dense" / "weights.bin").symlink_to("../outer.bin")
    client = app.test_client()
    with ask(client, "/models/dense") as r:
        assert r.status_code == 500
        assert "TFJS_LINK_ROOTS" in r.get_json()["error"]
    with ask(client, "/models/dense/weights.bin") as r:
        assert (r.status_code, r.data) == (404, b"")


def test_linked_folder_out_of_the_directory_is_refused(
    app: Flask, models: Path
) -> None:
    (models / "dense" / "inner").symlink_to(models / "dense-private")
    client = app.test_client()
    for name in ("model.json", "weights.bin"):
        with ask(client, f"/models/dense/inner/{name}") as r:
            assert r.status_code == 404


def test_link_into_a_trusted_folder_is_followed(
    make_app: MakeApp, models: Path
) -> None:
    (models / "blobs").mkdir()
    (models / "blobs" / "0571").write_bytes(DENSE_BYTES)
    (models / "dense" / "weights.bin").unlink()
    (models / "dense" / "weights.bin").symlink_to("../blobs/0571")
    app = make_app(
        TFJS_MODELS={"dense": models / "dense"}, TFJS_LINK_ROOTS=[models / "blobs"]
    )
    assert load(app.test_client(), "/models/dense") == DENSE_BYTES


def test_link_inside_the_directory_is_followed(app: Flask, models: Path) -> None:
    (models / "dense" / "weights.bin").rename(models / "dense" / "real")
    (models / "dense" / "weights.bin").symlink_to("real")
    assert load(app.test_client(), "/models/dense") == DENSE_BYTES
    with ask(app.test_client(), "/models/dense/real") as r:
        assert r.status_code == 404


def test_link_loops_and_dangling_links_are_passed_over(
    app: Flask, models: Path
) -> None:
    dense = models / "dense"
    (dense / "self.json").symlink_to("self.json")
    (dense / "a.json").symlink_to("b.json")
    (dense / "b.json").symlink_to("a.json")
    (dense / "nowhere.json").symlink_to("nothing")
    (dense / "around").symlink_to(".")
    (dense / "vocab.txt").symlink_to("nothing")
    client = app.test_client()
    with time_limit(10):
        assert load(client, "/models/dense") == DENSE_BYTES
        for name in (
            "self.json",
            "a.json",
            "nowhere.json",
            "vocab.txt",
            "around/model.json",
            "around/around/model.json",
        ):
            with ask(client, f"/models/dense/{name}") as r:
                assert r.status_code == 404


def test_link_loop_as_a_shard(app: Flask, models: Path) -> None:
    (models / "dense" / "weights.bin").unlink()
    (models / "dense" / "weights.bin").symlink_to("weights.bin")
    with ask(app.test_client(), "/models/dense") as r:
        assert r.status_code == 500
    with ask(app.test_client(), "/models/dense/weights.bin") as r:
        assert (r.status_code, r.data) == (404, b"")


OTHER_BYTES = DENSE_BYTES[::-1]

#: What becomes of the shard, and the status of the JSON and of the shard then.
CHANGES: dict[str, tuple[bytes | None, int, int]] = {
    "changed": (OTHER_BYTES, 200, 200),
    "grown": (DENSE_BYTES + b"more", 200, 200),
    "shrunk": (DENSE_BYTES[:-1], 500, 500),
    "emptied": (b"", 500, 500),
    "deleted": (None, 500, 404),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("aged", [False, True], ids=["young", "old"])
def test_file_changed_under_the_server(
    app: Flask, models: Path, aged: bool, change: str
) -> None:
    if aged:
        grow_old(app)
    client = app.test_client()
    tags = {}
    for name in ("model.json", "weights.bin"):
        with ask(client, f"/models/dense/{name}") as r:
            tags[name] = r.headers["ETag"]
    content, json_status, status = CHANGES[change]
    path = models / "dense" / "weights.bin"
    path.unlink() if content is None else path.write_bytes(content)
    headers = {"If-None-Match": ", ".join(tags.values())}
    with client.get("/models/dense/weights.bin", headers=headers) as r:
        assert r.status_code == status
        assert r.data == (content if status == 200 else b"")
        assert r.content_length == len(r.data)
    with client.get("/models/dense/model.json", headers=headers) as r:
        assert r.status_code == json_status
    write_model(models / "dense")
    for name, tag in tags.items():
        with ask(client, f"/models/dense/{name}") as r:
            assert (r.status_code, r.headers["ETag"]) == (200, tag)


def test_directory_deleted_and_back(app: Flask, models: Path) -> None:
    grow_old(app)
    client = app.test_client()
    assert load(client, "/models/dense") == DENSE_BYTES
    (models / "dense").rename(models / "aside")
    for name in ("model.json", "weights.bin", "labels.txt", "nothing"):
        with ask(client, f"/models/dense/{name}") as r:
            assert r.status_code == 500
    (models / "aside").rename(models / "dense")
    assert load(client, "/models/dense") == DENSE_BYTES


@pytest.mark.parametrize("change", ["changed", "grown", "shrunk", "emptied"])
@pytest.mark.parametrize("aged", [False, True], ids=["young", "old"])
def test_transfer_is_cut_short_when_the_file_changes(
    make_app: MakeApp, tmp_path: Path, aged: bool, change: str
) -> None:
    size = 4 * BLOCK_SIZE
    weights = [{"name": "w", "shape": [size // 4], "dtype": "float32"}]
    manifest = [{"paths": ["weights.bin"], "weights": weights}]
    write_model(
        tmp_path / "large",
        document=dense_document(weightsManifest=manifest),
        shards={"weights.bin": b"\1" * size},
    )
    app = make_app(TFJS_MODELS={"large": tmp_path / "large"})
    if aged:
        grow_old(app)
    path = tmp_path / "large" / "weights.bin"
    new = {
        "changed": b"\2" * size,
        "grown": b"\1" * (size + 1),
        "shrunk": b"\1" * (size - 1),
        "emptied": b"",
    }
    with app.test_client().get("/models/large/weights.bin") as r:
        assert r.content_length == size
        received = 0
        with pytest.raises(FileChanged):
            for number, block in enumerate(r.iter_encoded()):
                received += len(block)
                if number == 0:
                    path.write_bytes(new[change])
        assert 0 < received < size
