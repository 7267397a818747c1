"""Links: followed where they lead into the registered directory or a trusted folder,
refused with the reason where they lead out, looked at anew with every request."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MakeApp
from conftest import grow_old
from filesystem import tick
from filesystem import time_limit
from flask.testing import FlaskClient
from models import DENSE_BYTES
from models import content_name
from models import dense_document
from models import write_model

from flask_tfjs.models import listing

OTHER_BYTES = DENSE_BYTES[::-1]
LEADS_OUT = (
    "is a link that leads out of the registered directory; name the folder it leads to "
    "in TFJS_LINK_ROOTS"
)
JSON = "/models/m/model.json"

Serve = Callable[..., FlaskClient]


@pytest.fixture(autouse=True)
def never_hang() -> Iterator[None]:
    with time_limit(30):
        yield


@pytest.fixture
def m(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m")


@pytest.fixture(params=["young", "old"])
def serve(request: pytest.FixtureRequest, make_app: MakeApp, tmp_path: Path) -> Serve:
    def serve(path: Path | None = None, **config: object) -> FlaskClient:
        app = make_app(TFJS_MODELS={"m": path or tmp_path / "m"}, **config)
        if request.param == "old":
            grow_old(app)
        return app.test_client()

    return serve


def shard(client: FlaskClient, name: str = "weights.bin") -> tuple[int, bytes]:
    with client.get(f"/models/m/{name}") as response:
        return response.status_code, response.data


def status(client: FlaskClient, url: str = JSON) -> int:
    with client.get(url) as response:
        return response.status_code


def error(client: FlaskClient, url: str = JSON, code: int = 500) -> str:
    with client.get(url) as response:
        assert response.status_code == code, response.data
        message = response.get_json()["error"]
    assert isinstance(message, str)
    return message


def relink(link: Path, target: str | Path) -> None:
    """Swap a link in one step, as a deployment does."""
    tick(link.parent)
    temporary = link.with_name("relinked")
    temporary.symlink_to(target)
    temporary.replace(link)


# Inside and outside


@pytest.mark.parametrize("target", ["real.bin", "deep/real.bin", ".store/real.bin"])
def test_a_shard_inside(m: Path, serve: Serve, target: str) -> None:
    (m / target).parent.mkdir(exist_ok=True)
    (m / "weights.bin").rename(m / target)
    (m / "weights.bin").symlink_to(target)
    client = serve()
    assert status(client) == 200
    assert shard(client) == (200, DENSE_BYTES)


def test_an_absolute_link_inside(m: Path, serve: Serve) -> None:
    (m / "weights.bin").rename(m / "real.bin")
    (m / "weights.bin").symlink_to(m / "real.bin")
    assert shard(serve()) == (200, DENSE_BYTES)


def test_an_entry_inside(m: Path, serve: Serve) -> None:
    (m / "model.json").rename(m / "v1.json")
    (m / "model.json").symlink_to("v1.json")
    client = serve()
    for url in (JSON, "/models/m/v1.json", "/models/m"):
        assert status(client, url) == 200


def test_a_shard_outside(m: Path, serve: Serve) -> None:
    for target in ("../secret.bin", str(m.parent / "secret.bin"), "../m2/secret.bin"):
        (m.parent / "m2").mkdir(exist_ok=True)
        (m / target).write_bytes(DENSE_BYTES)
        relink(m / "weights.bin", target)
        client = serve()
        assert error(client) == (
            f"weightsManifest[0].paths[0]: weights.bin {LEADS_OUT}"
        )
        assert shard(client) == (404, b"")


def test_an_entry_outside(m: Path, serve: Serve) -> None:
    (m / "model.json").rename(m.parent / "secret.json")
    (m / "model.json").symlink_to("../secret.json")
    (m / "x.json").symlink_to("../secret.json")
    client = serve()
    assert error(client, code=404) == f"model.json {LEADS_OUT}"
    assert error(client, "/models/m/x.json", code=404) == f"x.json {LEADS_OUT}"
    assert shard(client) == (404, b"")


def test_a_directory_outside(m: Path, serve: Serve) -> None:
    write_model(m.parent / "secret")
    (m / "sub").symlink_to("../secret")
    client = serve()
    assert status(client, "/models/m/sub/model.json") == 404
    assert shard(client, "sub/weights.bin") == (404, b"")
    relink(m / "model.json", "sub/model.json")
    assert error(client, code=404) == f"model.json {LEADS_OUT}"


def test_a_path_through_a_directory_outside(m: Path, serve: Serve) -> None:
    write_model(m.parent / "secret")
    (m / "sub").symlink_to("../secret")
    write_model(m, document=dense_document("sub/weights.bin"), shards={})
    assert error(serve()).startswith(
        "weightsManifest[0].paths[0]: sub/weights.bin is a link"
    )


def test_an_asset_outside(m: Path, serve: Serve) -> None:
    (m.parent / "passwords.txt").write_text("x")
    (m / "labels.txt").symlink_to("../passwords.txt")
    assert shard(serve(), "labels.txt") == (404, b"")


def test_a_folder_of_a_longer_name_is_outside(m: Path, serve: Serve) -> None:
    (m.parent / "m-secret").mkdir()
    (m.parent / "m-secret/w.bin").write_bytes(DENSE_BYTES)
    relink(m / "weights.bin", "../m-secret/w.bin")
    assert "leads out" in error(serve())
    assert "leads out" in error(serve(TFJS_LINK_ROOTS=[m.parent / "m-s"]))
    assert shard(serve(TFJS_LINK_ROOTS=[m.parent / "m-secret"]))[0] == 200


def test_directories_inside(m: Path, serve: Serve) -> None:
    write_model(m / "v1", shards={"weights.bin": OTHER_BYTES})
    (m / "current").symlink_to("v1")
    client = serve()
    for folder in ("v1", "current"):
        assert status(client, f"/models/m/{folder}/model.json") == 200
        assert shard(client, f"{folder}/weights.bin") == (200, OTHER_BYTES)


# Loops and links to nothing


def test_loops(m: Path, serve: Serve) -> None:
    (m / "self").symlink_to(".")
    (m / "sub").mkdir()
    (m / "sub/up").symlink_to("..")
    (m / "a").symlink_to("b")
    (m / "b").symlink_to("a")
    (m / "x.json").symlink_to("x.json")
    (m / "model2.json").symlink_to("self/self/sub/up/model.json")
    client = serve()
    for url in (JSON, "/models/m/model2.json"):
        assert status(client, url) == 200
    for url in ("/models/m/x.json", "/models/m/self/model.json"):
        assert status(client, url) == 404


def test_many_ways_to_one_folder(
    m: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over eight levels there are millions; each costs some links to follow."""
    monkeypatch.setattr(listing, "MAX_FILES", 500)
    for folder in "abcdefgh":
        (m / folder).mkdir()
        for other in "abcdefgh":
            (m / folder / other).symlink_to(f"../{other}")
    assert status(serve()) == 200


@pytest.mark.parametrize("name", ["model.json", "weights.bin"])
def test_a_link_to_nothing_yet(m: Path, serve: Serve, name: str) -> None:
    """A file may come where a link leads to; no folder of the model's changes then."""
    store = m / ".store"
    store.mkdir()
    (m / name).rename(m.parent / "kept")
    (m / name).symlink_to(f".store/{name}")
    client = serve()
    assert status(client) == (404 if name == "model.json" else 500)
    assert shard(client) == (404, b"")
    tick(m)
    (m.parent / "kept").rename(store / name)
    assert status(client) == 200
    assert shard(client) == (200, DENSE_BYTES)


def test_a_link_to_no_directory_yet(m: Path, serve: Serve) -> None:
    (m / ".store").mkdir()
    (m / "sub").symlink_to(".store/sub")
    client = serve()
    assert status(client, "/models/m/sub/model.json") == 404
    tick(m)
    write_model(m / ".store/sub")
    assert status(client, "/models/m/sub/model.json") == 200


def test_a_link_to_a_folder_turned_file(m: Path, serve: Serve) -> None:
    (m / ".store").mkdir()
    (m / ".store/labels.txt").mkdir()
    (m / "labels.txt").symlink_to(".store/labels.txt")
    client = serve()
    assert shard(client, "labels.txt") == (404, b"")
    tick(m)
    (m / ".store/labels.txt").rmdir()
    (m / ".store/labels.txt").write_text("a")
    assert shard(client, "labels.txt") == (200, b"a")


# Trusted folders


def test_a_trusted_folder(m: Path, serve: Serve) -> None:
    trusted = m.parent / "trusted"
    trusted.mkdir()
    for name in ("model.json", "weights.bin"):
        (m / name).rename(trusted / name)
        (m / name).symlink_to(f"../trusted/{name}")
    (m.parent / "secret.bin").write_bytes(DENSE_BYTES)
    client = serve(TFJS_LINK_ROOTS=trusted)
    assert status(client) == 200
    assert shard(client) == (200, DENSE_BYTES)
    # A link in it may not lead on.
    relink(trusted / "weights.bin", "../secret.bin")
    assert "leads out" in error(client)


def test_a_trusted_folder_by_a_link(m: Path, serve: Serve) -> None:
    (m.parent / "real").mkdir()
    (m.parent / "alias").symlink_to("real")
    (m / "weights.bin").rename(m.parent / "real/w.bin")
    for target in ("../alias/w.bin", "../real/w.bin"):
        relink(m / "weights.bin", target)
        for root in ("alias", "real"):
            client = serve(TFJS_LINK_ROOTS=[m.parent / root])
            assert shard(client) == (200, DENSE_BYTES)


def cached(cache: Path, revision: str, files: dict[str, bytes]) -> Path:
    """A snapshot as huggingface_hub lays it out: links to blobs by their hash."""
    snapshot = cache / "models--org--dense" / "snapshots" / revision
    blobs = cache / "models--org--dense" / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        blob = hashlib.sha256(data).hexdigest()
        (blobs / blob).write_bytes(data)
        path = snapshot / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(blobs / blob, path.parent))
    return snapshot


def test_a_hugging_face_cache(tmp_path: Path, serve: Serve) -> None:
    cache = tmp_path / "hub"
    document = json.dumps(dense_document("w/a.bin", "w/b.bin")).encode()
    files = {
        "tfjs/model.json": document,
        "tfjs/w/a.bin": DENSE_BYTES[:16],
        "tfjs/w/b.bin": DENSE_BYTES[16:],
        "tfjs/labels.txt": b"a\nb",
    }
    snapshot = cached(cache, "1a2b", files)
    for registered in (snapshot, snapshot / "tfjs"):
        client = serve(registered)
        folder = "tfjs/" if registered == snapshot else ""
        assert LEADS_OUT in error(client, f"/models/m/{folder}model.json", code=404)
    client = serve(snapshot, TFJS_LINK_ROOTS=[cache])
    for url in (JSON, "/models/m/tfjs/model.json"):
        assert status(client, url) == 200
    assert shard(client, "tfjs/w/a.bin") == (200, DENSE_BYTES[:16])
    assert shard(client, "tfjs/labels.txt") == (200, b"a\nb")


def test_a_new_revision(tmp_path: Path, serve: Serve) -> None:
    cache = tmp_path / "hub"
    document = json.dumps(dense_document("weights.bin")).encode()
    for revision, data in (("1", DENSE_BYTES), ("2", OTHER_BYTES)):
        cached(cache, revision, {"model.json": document, "weights.bin": data})
    current = tmp_path / "current"
    snapshots = cache / "models--org--dense/snapshots"
    current.symlink_to(snapshots / "1")
    client = serve(current, TFJS_LINK_ROOTS=[cache])
    assert shard(client) == (200, DENSE_BYTES)
    relink(current, snapshots / "2")
    assert shard(client) == (200, OTHER_BYTES)
    relink(current, snapshots / "1")
    assert shard(client) == (200, DENSE_BYTES)


# Links swapped under the running server


def test_a_shard_swapped(m: Path, serve: Serve) -> None:
    (m / "weights.bin").rename(m / "v1.bin")
    (m / "v2.bin").write_bytes(OTHER_BYTES)
    (m.parent / "secret.bin").write_bytes(DENSE_BYTES)
    (m / "weights.bin").symlink_to("v1.bin")
    client = serve()
    for _ in range(3):
        assert (status(client), shard(client)) == (200, (200, DENSE_BYTES))
        relink(m / "weights.bin", "v2.bin")
        assert shard(client) == (200, OTHER_BYTES)
        relink(m / "weights.bin", "../secret.bin")
        assert shard(client) == (404, b"")
        assert "leads out" in error(client)
        relink(m / "weights.bin", "v1.bin")
        assert shard(client) == (200, DENSE_BYTES)


def test_an_entry_swapped(m: Path, serve: Serve) -> None:
    (m / "model.json").rename(m / ".v1")
    (m / ".v2").write_text(json.dumps(dense_document("weights.bin", note=2)))
    (m.parent / "secret.json").write_text(json.dumps(dense_document("weights.bin")))
    (m / "model.json").symlink_to(".v1")
    client = serve()

    def note() -> object:
        with client.get(JSON) as response:
            assert response.status_code == 200
            return response.get_json().get("note")

    assert note() is None
    relink(m / "model.json", ".v2")
    assert note() == 2
    relink(m / "model.json", "../secret.json")
    assert error(client, code=404) == f"model.json {LEADS_OUT}"
    relink(m / "model.json", ".v1")
    assert note() is None


def test_a_folder_swapped(m: Path, serve: Serve) -> None:
    write_model(m / "v1")
    write_model(m / "v2", shards={"weights.bin": OTHER_BYTES})
    write_model(m.parent / "secret")
    (m / "current").symlink_to("v1")
    client = serve()
    url = "/models/m/current/model.json"
    assert (status(client, url), shard(client, "current/weights.bin")) == (
        200,
        (200, DENSE_BYTES),
    )
    relink(m / "current", "v2")
    assert shard(client, "current/weights.bin") == (200, OTHER_BYTES)
    relink(m / "current", "../secret")
    assert shard(client, "current/weights.bin") == (404, b"")
    assert status(client, url) == 404
    relink(m / "current", "v1")
    assert shard(client, "current/weights.bin") == (200, DENSE_BYTES)


def test_a_target_swapped(m: Path, serve: Serve) -> None:
    """The link stays, and what it leads to is replaced by a link out."""
    (m / ".store").mkdir()
    (m / "weights.bin").rename(m / ".store/w.bin")
    (m / "weights.bin").symlink_to(".store/w.bin")
    (m.parent / "secret.bin").write_bytes(OTHER_BYTES)
    client = serve()
    assert shard(client) == (200, DENSE_BYTES)
    relink(m / ".store/w.bin", "../../secret.bin")
    assert shard(client) == (404, b"")
    assert "leads out" in error(client)


def test_a_registered_link(m: Path, serve: Serve, tmp_path: Path) -> None:
    second = write_model(tmp_path / "second", shards={"weights.bin": OTHER_BYTES})
    (tmp_path / "current").symlink_to("m")
    client = serve(tmp_path / "current")
    for _ in range(3):
        assert (status(client), shard(client)) == (200, (200, DENSE_BYTES))
        relink(tmp_path / "current", second)
        assert (status(client), shard(client)) == (200, (200, OTHER_BYTES))
        relink(tmp_path / "current", "nowhere")
        assert "cannot be read" in error(client)
        assert shard(client) == (500, b"")
        relink(tmp_path / "current", "m")


def test_a_registered_link_to_another_layout(m: Path, serve: Serve) -> None:
    other = m.parent / "other"
    write_model(other, entry="x.json", shards={"x.bin": OTHER_BYTES})
    (m.parent / "current").symlink_to("m")
    client = serve(m.parent / "current")
    assert shard(client) == (200, DENSE_BYTES)
    relink(m.parent / "current", "other")
    assert shard(client) == (404, b"")
    with client.get(JSON) as response:
        (path,) = response.get_json()["weightsManifest"][0]["paths"]
    assert path == content_name("x", OTHER_BYTES)
    for name in (path, "x.bin"):
        assert shard(client, name) == (200, OTHER_BYTES)


def test_a_registered_file_that_is_a_link(m: Path, serve: Serve) -> None:
    (m / "model.json").rename(m / "v1.json")
    (m / "current.json").symlink_to("v1.json")
    assert status(serve(m / "current.json")) == 200
    # Its shards lie beside the link, so it is as any file there.
    (m.parent / "links").mkdir()
    (m.parent / "links/out.json").symlink_to("../m/v1.json")
    client = serve(m.parent / "links/out.json")
    assert error(client, "/models/m/out.json", code=404) == f"out.json {LEADS_OUT}"
