"""Shards encoded ahead of time: what clients get that take a coding, and that it is
never anything else than the shard."""

from __future__ import annotations

import base64
import gzip
import hashlib
import math
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import pytest
from conftest import MakeApp
from conftest import grow_old
from filesystem import make_clock_coarse
from filesystem import tick
from flask import Flask
from flask.testing import FlaskClient
from models import write_model

from flask_tfjs.cli import tfjs
from flask_tfjs.http import codings
from flask_tfjs.models import cache as cache_module
from flask_tfjs.models.cache import Cache

URL = "/models/m/model.json"
CODINGS = ["br", "gzip"]
IMMUTABLE = "max-age=31536000, immutable"

# Half of the bits of each byte are noise, as in quantized weights that are not trained
# to the last: it becomes about half as large.
_random = random.Random(0)
WEIGHTS = bytes(_random.randrange(16) for _ in range(60_000))
OTHER = bytes(_random.randrange(16) for _ in range(60_000))

Change = Callable[[Path], object]


def write(directory: Path, shards: dict[str, bytes]) -> Path:
    """A model of weights of one byte each."""
    weights = [
        {"name": name, "shape": [len(data)], "dtype": "bool"}
        for name, data in shards.items()
    ]
    document = {"weightsManifest": [{"paths": list(shards), "weights": weights}]}
    return write_model(directory, document=document, shards=shards)


def compress(app: Flask, name: str = "m") -> None:
    result = app.test_cli_runner().invoke(tfjs, ["compress", name])
    assert result.exit_code == 0, result.output


def encoded_files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "instance" / "tfjs-cache" / "encoded"
    return sorted(folder.iterdir()) if folder.exists() else []


def decoded(data: bytes, coding: str | None) -> bytes:
    if coding is None:
        return data
    plain = {"br": brotli.decompress, "gzip": gzip.decompress}[coding](data)
    assert isinstance(plain, bytes)
    return plain


def shard_urls(client: FlaskClient) -> list[str]:
    with client.get(URL) as response:
        assert response.status_code == 200, response.data
        groups = response.get_json()["weightsManifest"]
    return [f"/models/m/{path}" for group in groups for path in group["paths"]]


@pytest.fixture(params=["young", "old"])
def app(request: pytest.FixtureRequest, make_app: MakeApp, tmp_path: Path) -> Flask:
    """An app that serves the model ``m``, encoded by another one."""
    write(tmp_path / "m", {"w.bin": WEIGHTS})
    apps = [make_app(TFJS_MODELS={"m": tmp_path / "m"}) for _ in range(2)]
    if request.param == "old":
        for app in apps:
            grow_old(app)
    compress(apps[0])
    return apps[1]


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(params=["hashed", "own"])
def url(request: pytest.FixtureRequest, client: FlaskClient) -> str:
    (hashed,) = shard_urls(client)
    return hashed if request.param == "hashed" else "/models/m/w.bin"


def get(client: FlaskClient, url: str, accepted: str, **more: str) -> Any:
    return client.get(url, headers={"Accept-Encoding": accepted, **more})


# What is served


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("coding", CODINGS)
def test_encoded(client: FlaskClient, url: str, coding: str, method: str) -> None:
    with get(client, url, coding) as response:
        body = response.data
    accepted = {"Accept-Encoding": coding}
    with client.open(url, method=method, headers=accepted) as response:
        assert response.status_code == 200
        assert response.data == (body if method == "GET" else b"")
        headers = response.headers
        assert headers["Content-Encoding"] == coding
        assert headers.getlist("Vary") == ["Accept-Encoding"]
        assert headers["Content-Type"] == "application/octet-stream"
        assert headers["Content-Length"] == str(len(body))
        assert headers["Accept-Ranges"] == "bytes"
        immutable = url != "/models/m/w.bin"
        assert headers["Cache-Control"] == (IMMUTABLE if immutable else "no-cache")
        encoded = hashlib.sha256(body)
        content = hashlib.sha256(WEIGHTS).hexdigest()[:32]
        assert headers["ETag"] == f'"{content}.{encoded.hexdigest()[:8]}-{coding}"'
        digest = base64.b64encode(encoded.digest()).decode()
        assert headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert decoded(body, coding) == WEIGHTS
    assert len(body) < 0.7 * len(WEIGHTS)


def test_identity_beside_it(client: FlaskClient, url: str) -> None:
    with client.get(url) as response:
        assert response.data == WEIGHTS
        assert "Content-Encoding" not in response.headers
        # A cache must not give it to who takes an encoding, nor the reverse.
        assert response.headers.getlist("Vary") == ["Accept-Encoding"]
        tag = response.headers["ETag"]
    assert tag == f'"{hashlib.sha256(WEIGHTS).hexdigest()[:32]}"'


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip", "gzip"),
        ("br", "br"),
        ("BR", "br"),
        ("*", "br"),
        ("br;q=0.1, gzip;q=0.2", "gzip"),
        ("br;q=0.2, gzip;q=0.1", "br"),
        ("br;q=0, gzip", "gzip"),
        ("br;q=0, *", "gzip"),
        ("br;q=0, gzip;q=0", None),
        ("*;q=0", None),
        ("br;q=0", None),
        ("gzip;q=0", None),
        ("br;q=0.000", None),
        ("zstd", None),
        ("zstd, gzip;q=0.5", "gzip"),
        ("deflate", None),
        ("identity", None),
        ("identity;q=1, br;q=0.5", None),
        ("identity;q=0.5, br", "br"),
        ("identity;q=0, gzip;q=0.1", "gzip"),
        ("", None),
    ],
)
def test_accepted(
    client: FlaskClient, url: str, accepted: str, coding: str | None
) -> None:
    with get(client, url, accepted) as response:
        assert response.headers.get("Content-Encoding") == coding
        assert decoded(response.data, coding) == WEIGHTS


@pytest.mark.parametrize("coding", CODINGS)
def test_ranges(client: FlaskClient, url: str, coding: str) -> None:
    """Parts of the encoded bytes, which together are an encoding of the shard."""
    with get(client, url, coding) as response:
        length, tag = len(response.data), response.headers["ETag"]
    parts = []
    for start in range(0, length, 10_000):
        span = f"bytes={start}-{start + 9999}"
        headers = {"Range": span, "If-Range": tag}
        with get(client, url, coding, **headers) as response:
            assert response.status_code == 206
            assert response.headers["Content-Encoding"] == coding
            assert response.headers["Content-Range"].endswith(f"/{length}")
            assert response.headers["ETag"] == tag
            parts.append(response.data)
    assert decoded(b"".join(parts), coding) == WEIGHTS
    with get(client, url, coding, Range=f"bytes={length}-") as response:
        assert response.status_code == 416
        assert response.headers["Content-Range"] == f"bytes */{length}"
    with get(client, url, "", Range="bytes=100-199") as response:
        assert response.data == WEIGHTS[100:200]


def test_tags_are_of_one_coding_only(client: FlaskClient, url: str) -> None:
    tags = {}
    for coding in [*CODINGS, ""]:
        with get(client, url, coding) as response:
            tags[coding] = response.headers["ETag"]
    assert len(set(tags.values())) == 3
    for coding in tags:
        for other, tag in tags.items():
            same = coding == other
            headers = {"If-None-Match": tag}
            with get(client, url, coding, **headers) as response:
                assert response.status_code == (304 if same else 200)
                assert response.headers["ETag"] == tags[coding]
                assert response.headers.getlist("Vary") == ["Accept-Encoding"]
            headers = {"If-Range": tag, "Range": "bytes=0-9"}
            with get(client, url, coding, **headers) as response:
                assert response.status_code == (206 if same else 200)


def test_the_json_and_assets_are_as_they_were(app: Flask, tmp_path: Path) -> None:
    (tmp_path / "m" / "labels.txt").write_bytes(WEIGHTS)
    compress(app)
    with get(app.test_client(), "/models/m/labels.txt", "br") as response:
        assert response.data == WEIGHTS
        assert "Content-Encoding" not in response.headers


def test_slices_that_a_repair_cuts(make_app: MakeApp, tmp_path: Path) -> None:
    weights = [{"name": f"{i}", "shape": [6_000], "dtype": "bool"} for i in range(10)]
    shards = {"a.bin": WEIGHTS[:9_000], "b.bin": WEIGHTS[9_000:]}
    groups = [{"paths": list(shards), "weights": weights}]
    write_model(tmp_path / "m", document={"weightsManifest": groups}, shards=shards)
    app = make_app(TFJS_MODELS={"m": tmp_path / "m"})
    compress(app)
    client = app.test_client()
    urls = shard_urls(client)
    assert len(urls) == 3
    for coding in CODINGS:
        bodies = []
        for url in urls:
            with get(client, url, coding) as response:
                assert response.headers["Content-Encoding"] == coding
                bodies.append(decoded(response.data, coding))
        assert b"".join(bodies) == WEIGHTS


# When it is served


@pytest.mark.parametrize("age", [lambda app: None, grow_old], ids=["young", "old"])
def test_a_running_server_notices(
    make_app: MakeApp, tmp_path: Path, age: Callable[[Flask], None]
) -> None:
    write(tmp_path / "m", {"w.bin": WEIGHTS})
    server, command = (make_app(TFJS_MODELS={"m": tmp_path / "m"}) for _ in range(2))
    age(server)
    client = server.test_client()
    (url,) = shard_urls(client)
    with get(client, url, "br") as response:
        assert "Content-Encoding" not in response.headers
        assert "Vary" not in response.headers
    compress(command)
    with get(client, url, "br") as response:
        assert response.headers["Content-Encoding"] == "br"
    for path in encoded_files(tmp_path):
        path.unlink()
    with get(client, url, "br") as response:
        assert response.data == WEIGHTS
        assert "Content-Encoding" not in response.headers


def test_another_content_has_no_encoding(app: Flask, tmp_path: Path) -> None:
    """Until it gets one of its own."""
    client = app.test_client()
    with get(client, "/models/m/w.bin", "br") as response:
        assert response.headers["Content-Encoding"] == "br"
    tick(tmp_path / "m")
    (tmp_path / "m" / "w.bin").write_bytes(OTHER)
    for url in [*shard_urls(client), "/models/m/w.bin"]:
        with get(client, url, "br") as response:
            assert response.data == OTHER
            assert "Content-Encoding" not in response.headers
    compress(app)
    for url in [*shard_urls(client), "/models/m/w.bin"]:
        with get(client, url, "br") as response:
            assert decoded(response.data, "br") == OTHER
    (tmp_path / "m" / "w.bin").write_bytes(WEIGHTS)
    with get(client, "/models/m/w.bin", "br") as response:
        assert decoded(response.data, "br") == WEIGHTS


def test_one_content_of_several_models(make_app: MakeApp, tmp_path: Path) -> None:
    for name in ("m", "n"):
        write(tmp_path / name, {"w.bin": WEIGHTS})
    app = make_app(TFJS_MODELS={name: tmp_path / name for name in ("m", "n")})
    compress(app, "n")
    (url,) = shard_urls(app.test_client())
    with get(app.test_client(), url, "br") as response:
        assert decoded(response.data, "br") == WEIGHTS


# Damage


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def flip_quietly(path: Path) -> None:
    """As a failing disk does, which changes no time stamp that can be set."""
    stat = path.stat()
    flip(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Change] = {
    "flipped": flip,
    "flipped quietly": flip_quietly,
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "another encoding": lambda path: path.write_bytes(gzip.compress(OTHER)),
    "a folder": a_folder,
    "gone": Path.unlink,
}


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file(
    app: Flask, tmp_path: Path, damage: Change, known: bool
) -> None:
    client = app.test_client()
    (url,) = shard_urls(client)
    if known:
        with get(client, url, "br") as response:
            assert response.headers["Content-Encoding"] == "br"
    tick(tmp_path / "instance")
    for path in encoded_files(tmp_path):
        damage(path)
    for coding in CODINGS:
        with get(client, url, coding) as response:
            assert response.status_code == 200
            assert response.data == WEIGHTS
            assert "Content-Encoding" not in response.headers


def test_damage_that_leaves_no_trace(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the identity of a file that is still young."""
    make_clock_coarse(monkeypatch)
    app = make_app(TFJS_MODELS={"m": write(tmp_path / "m", {"w.bin": WEIGHTS})})
    compress(app)
    client = app.test_client()
    for coding in ("br", None):
        with get(client, "/models/m/w.bin", "br") as response:
            assert response.status_code == 200
            assert response.headers.get("Content-Encoding") == coding
            assert decoded(response.data, coding) == WEIGHTS
        for path in encoded_files(tmp_path):
            flip_quietly(path)


@pytest.mark.parametrize("damage", [flip, os.unlink], ids=["flipped", "gone"])
def test_damage_is_mended(app: Flask, tmp_path: Path, damage: Change) -> None:
    for path in encoded_files(tmp_path):
        damage(path)
    compress(app)
    (url,) = shard_urls(app.test_client())
    for coding in CODINGS:
        with get(app.test_client(), url, coding) as response:
            assert response.headers["Content-Encoding"] == coding
            assert decoded(response.data, coding) == WEIGHTS


def test_a_file_that_nobody_wrote(app: Flask, tmp_path: Path) -> None:
    """Whoever can write to the cache cannot make it lie by a file alone."""
    client = app.test_client()
    tick(tmp_path / "m")
    (tmp_path / "m" / "w.bin").write_bytes(OTHER)
    folder = tmp_path / "instance" / "tfjs-cache" / "encoded"
    for coding in CODINGS:
        (name,) = (p for p in encoded_files(tmp_path) if p.suffix == f".{coding}")
        shutil.copy(name, folder / f"{hashlib.sha256(OTHER).hexdigest()}.{coding}")
        with get(client, "/models/m/w.bin", coding) as response:
            assert response.data == OTHER
            assert "Content-Encoding" not in response.headers


def test_a_lost_database(app: Flask, tmp_path: Path) -> None:
    """Without its digest nobody trusts the file; the command writes both anew."""
    (tmp_path / "instance" / "tfjs-cache" / "digests-1.sqlite3").write_bytes(b"garbage")
    with get(app.test_client(), "/models/m/w.bin", "br") as response:
        assert decoded(response.data, response.headers.get("Content-Encoding"))
    compress(app)
    with get(app.test_client(), "/models/m/w.bin", "br") as response:
        assert decoded(response.data, "br") == WEIGHTS


# Bounds


def test_the_bytes_of_all(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those go first that were not used for longest."""
    monkeypatch.setattr(cache_module, "MAX_ENCODED_BYTES", 150_000)
    shards = {
        f"{i}.bin": bytes(_random.randrange(16) for _ in range(60_000))
        for i in range(3)
    }
    app = make_app(TFJS_MODELS={"m": write(tmp_path / "m", shards)})
    compress(app)
    files = encoded_files(tmp_path)
    assert 4 <= len(files) < 6
    assert sum(path.stat().st_size for path in files) <= 150_000
    client = app.test_client()
    for url, data in zip(shard_urls(client), shards.values(), strict=True):
        for coding in CODINGS:
            with get(client, url, coding) as response:
                encoding = response.headers.get("Content-Encoding")
                assert decoded(response.data, encoding) == data


def test_the_least_used_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "MAX_ENCODED_BYTES", 40)
    cache = Cache(str(tmp_path))
    for i, (read, written) in enumerate([(0, 500), (900, 100), (200, 0), (300, 100)]):
        cache.write_encoded(f"{i}.br", [b"x" * 10], 10)
        os.utime(cache.encoded_path(f"{i}.br"), (read, written))
    cache.write_encoded("new.br", [b"x" * 10, b"x" * 5], 15)
    left = sorted(os.listdir(tmp_path / "encoded"))
    assert left == ["0.br", "1.br", "new.br"]


def test_leftovers_of_killed_processes(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    cache.write_encoded("0.br", [b"x"], 1)
    for name, age in ((".young", 3600), (".old", 25 * 3600)):
        (tmp_path / "encoded" / name).write_bytes(b"x")
        stamp = time.time() - age
        os.utime(tmp_path / "encoded" / name, (stamp, stamp))
    cache.write_encoded("1.br", [b"x"], 1)
    assert sorted(os.listdir(tmp_path / "encoded")) == [".young", "0.br", "1.br"]


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    def failing() -> Any:
        yield b"x"
        raise OSError("gone")

    cache = Cache(str(tmp_path))
    with pytest.raises(OSError, match="gone"):
        cache.write_encoded("0.br", failing(), 10)
    assert cache.write_encoded("1.br", [b"xx", b"yy"], 3) == 4
    assert os.listdir(tmp_path / "encoded") == []
    assert cache.write_encoded("2.br", [b"xx", b"yy"], 4) == 4
    path = tmp_path / "encoded" / "2.br"
    assert path.read_bytes() == b"xxyy"
    assert path.stat().st_mode & 0o777 == 0o644
    assert cache.digest("2.br") == hashlib.sha256(b"xxyy").digest()


# The encoders


@pytest.mark.parametrize("coding", codings.installed())
@pytest.mark.parametrize("size", [0, 1, 1000, 3_000_000])
def test_blocks(coding: str, size: int) -> None:
    """What comes in blocks is one encoding, and the same as of the whole."""
    data = (WEIGHTS * math.ceil(size / len(WEIGHTS)))[:size]
    blocks = [data[i : i + 524_288] for i in range(0, size, 524_288)]
    encoded = b"".join(codings.encoded_blocks(blocks, coding))
    if coding == "zstd":
        import zstandard

        plain = zstandard.ZstdDecompressor().decompressobj().decompress(encoded)
    else:
        plain = decoded(encoded, coding)
    assert plain == data
