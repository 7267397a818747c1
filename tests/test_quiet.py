"""A model that somebody writes just now is not judged: the request waits, or is told to
ask again, so that no JSON ever names files of two moments."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import Result
from conftest import MakeApp
from conftest import be_patient
from conftest import grow_old
from flask import Flask
from flask.testing import FlaskClient
from models import DENSE_BYTES
from models import write_model

from flask_tfjs.cli import tfjs
from flask_tfjs.models import directory as directory_module
from flask_tfjs.models import quiet
from flask_tfjs.models.files import Identity
from flask_tfjs.models.files import identify
from flask_tfjs.models.quiet import find_unrest

MILLISECOND = 1_000_000
SECOND = 1000 * MILLISECOND
NOW = 1_700_000_000 * SECOND
HALVES = {"a.bin": DENSE_BYTES[:16], "b.bin": DENSE_BYTES[16:]}
NEW = {"a.bin": b"new-" * 4, "b.bin": b"NEW-" * 4}
URL = "/models/m/model.json"
PATIENCE = directory_module._PATIENCE

real_times = pytest.mark.usefixtures("patient")


@pytest.fixture(autouse=True)
def half_as_patient(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the rest and half the wait: most tests only need them to be there."""
    monkeypatch.setattr(quiet, "QUIET_NS", 250 * MILLISECOND)
    monkeypatch.setattr(directory_module, "_PATIENCE", 0.75)
    monkeypatch.setattr(directory_module, "_HOPELESS", 0)


@pytest.fixture
def patient(half_as_patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)
    monkeypatch.setattr(directory_module, "_PATIENCE", PATIENCE)


# The rule


def seen(modified: int, changed: int) -> Identity:
    return Identity(1, 2, 3, NOW + modified, NOW + changed)


OLD = seen(-SECOND, -SECOND)


def wait_ns(watched: Mapping[str, Identity | None], now: int) -> int:
    unrest = find_unrest("/", watched, now)
    return 0 if unrest is None else unrest.again_ns


@real_times
@pytest.mark.parametrize(
    ("files", "unrest"),
    [
        ([], 0),
        ([None], 0),
        ([OLD], 0),
        ([seen(0, 0)], 500),
        ([seen(-200 * MILLISECOND, -200 * MILLISECOND)], 300),
        ([seen(-499 * MILLISECOND, -499 * MILLISECOND)], 1),
        ([seen(-500 * MILLISECOND, -500 * MILLISECOND)], 0),
        # Either stamp, the younger of them.
        ([seen(-SECOND, -100 * MILLISECOND)], 400),
        ([seen(-100 * MILLISECOND, -SECOND)], 400),
        # The youngest file.
        ([OLD, seen(-200 * MILLISECOND, -200 * MILLISECOND), OLD, None], 300),
        # Set by hand.
        ([seen(3600 * SECOND, -SECOND)], 0),
        ([seen(3600 * SECOND, -100 * MILLISECOND)], 400),
        ([seen(60 * SECOND, 60 * SECOND)], 0),
        # The clock of a file server may run ahead.
        ([seen(100 * MILLISECOND, 100 * MILLISECOND)], 600),
        ([seen(SECOND, -SECOND)], 1500),
        ([seen(59 * SECOND, 59 * SECOND)], 59_500),
    ],
)
def test_ages(files: list[Identity | None], unrest: int) -> None:
    watched = {f"/nowhere/{i}.bin": identity for i, identity in enumerate(files)}
    assert wait_ns(watched, NOW) == unrest * MILLISECOND


def file(path: Path) -> None:
    path.write_bytes(b"")


@real_times
@pytest.mark.parametrize(
    ("name", "make", "age", "rests"),
    [
        # rsync, editors, browsers, programs that rename.
        (".w.bin.AbCdEf", file, 0, False),
        (".w.bin.new", file, 0, False),
        (".w.bin", file, 0, False),
        ("w.bin.tmp", file, 0, False),
        ("w.bin.part", file, 0, False),
        ("w.bin.partial", file, 0, False),
        ("w.bin.filepart", file, 0, False),
        ("w.bin.crdownload", file, 0, False),
        ("w.bin.temp", file, 0, False),
        ("w.bin~", file, 0, False),
        ("new-w.bin.tmp", file, 0, False),
        (".model.json.XyZ123", file, 0, False),
        # Left over by one that was killed.
        (".w.bin.AbCdEf", file, 9 * SECOND, False),
        (".w.bin.AbCdEf", file, 10 * SECOND, True),
        (".w.bin.AbCdEf", file, 3600 * SECOND, True),
        (".w.bin.AbCdEf", file, -3600 * SECOND, True),
        # What has nothing to do with the model, or does not replace a file.
        (".model.json.swp", file, 0, True),
        (".model.json.swx", file, 0, True),
        (".x.bin.AbCdEf", file, 0, True),
        ("x.tmp", file, 0, True),
        (".lock", file, 0, True),
        ("train.log", file, 0, True),
        ("w.bin.log", file, 0, True),
        ("w.bin.gz", file, 0, True),
        ("other.bin", file, 0, True),
        (".w.bin.AbCdEf", Path.mkdir, 0, True),
        (".w.bin.AbCdEf", os.mkfifo, 0, True),
        (".w.bin.AbCdEf", lambda path: path.symlink_to("nowhere"), 0, True),
    ],
)
def test_copies(
    tmp_path: Path, name: str, make: Callable[[Path], object], age: int, rests: bool
) -> None:
    make(tmp_path / name)
    if not (tmp_path / name).is_symlink():
        os.utime(tmp_path / name, ns=(NOW - age, NOW - age))
    watched = {str(tmp_path / file): OLD for file in ("model.json", "w.bin")}
    assert wait_ns(watched, NOW) == (0 if rests else 500 * MILLISECOND)


def test_the_file_that_tells_is_named(tmp_path: Path) -> None:
    young = seen(-MILLISECOND, -MILLISECOND)
    watched = {str(tmp_path / "model.json"): OLD, str(tmp_path / "w.bin"): young}
    unrest = find_unrest(str(tmp_path), watched, NOW)
    assert unrest is not None and Path(unrest.path).name == "w.bin"


def test_copies_beside_a_shard_in_another_folder(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "b" / ".w.bin.AbCdEf").touch()
    json, w = str(tmp_path / "model.json"), "w.bin"
    now = time.time_ns() + SECOND  # the folders are at rest
    young = Identity(1, 2, 3, now - SECOND, now - SECOND)
    root = str(tmp_path)
    assert find_unrest(root, {json: young, str(tmp_path / "a" / w): young}, now) is None
    unrest = find_unrest(root, {json: young, str(tmp_path / "b" / w): young}, now)
    assert unrest and unrest.path == str(tmp_path / "b" / ".w.bin.AbCdEf")
    # The first file of a new model is copied: the old one is still whole.
    later = now + 3600 * SECOND
    os.utime(tmp_path / "b" / ".w.bin.AbCdEf", ns=(later, later))
    watched = {json: young, str(tmp_path / "b" / w): young}
    assert find_unrest(root, watched, later) is None


# Writers


def rest(*paths: Path) -> None:
    """Until all files at *paths* are at rest."""
    found = [identify(str(path)) for path in paths]
    youngest = max(stamp for identity in found if identity for stamp in identity.stamps)
    begin = youngest + quiet.QUIET_NS + 10 * MILLISECOND
    time.sleep(max(begin - time.time_ns(), 0) / 1e9)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = write_model(tmp_path / "m", shards=HALVES)
    rest(*directory.iterdir())
    return directory


@pytest.fixture
def app(make_app: MakeApp, directory: Path) -> Flask:
    return make_app(TFJS_MODELS={"m": directory})


@contextlib.contextmanager
def in_background(action: Callable[[threading.Event], object]) -> Iterator[None]:
    """Run *action* until the event that it gets."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(action, stop)
        try:
            yield
        finally:
            stop.set()
    running.result()


@contextlib.contextmanager
def written_to(app: Flask, path: Path, data: bytes | None = None) -> Iterator[None]:
    """*path* is always as young as if it were overwritten all the time: for the app,
    time stands still."""
    path.write_bytes(path.read_bytes() if path.exists() else data or b"")
    identity = identify(str(path))
    assert identity is not None
    now = max(identity.stamps)
    digests = app.extensions["tfjs"]["tfjs"].catalogue.digests
    clock = digests.clock
    digests.clock = lambda: now
    try:
        yield
    finally:
        digests.clock = clock


def load(client: FlaskClient, url: str = URL) -> dict[str, bytes]:
    """The shards that the JSON at *url* names, by their stems."""
    with client.get(url) as response:
        assert response.status_code == 200, response.data
        groups = response.get_json()["weightsManifest"]
    found = {}
    for path in (path for group in groups for path in group["paths"]):
        with client.get(f"{url.rpartition('/')[0]}/{path}") as response:
            assert response.status_code == 200
            found[f"{path.partition('.')[0]}.bin"] = response.data
    return found


def timed(client: FlaskClient, url: str = URL) -> tuple[int, float]:
    started = time.monotonic()
    with client.get(url) as response:
        return response.status_code, time.monotonic() - started


def test_at_rest_nobody_waits(app: Flask) -> None:
    status, seconds = timed(app.test_client())
    assert status == 200 and seconds < 0.2


@real_times
def test_a_fresh_model_waits_for_its_rest(make_app: MakeApp, tmp_path: Path) -> None:
    client = make_app(TFJS_MODELS={"m": tmp_path / "n"}).test_client()
    write_model(tmp_path / "n", shards=HALVES)
    status, seconds = timed(client)
    assert status == 200 and 0.4 < seconds < 1.2


def overwrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def rename(path: Path, data: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(data)
    os.utime(other, (1, 1))  # as copying tools do that keep times
    other.replace(path)


@pytest.mark.parametrize("write", [overwrite, rename])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_shard_by_shard(
    app: Flask, directory: Path, write: Callable[[Path, bytes], None], known: bool
) -> None:
    """A request in between gets the new model: the sizes of the old one are the
    same, so nothing else would tell."""
    client = app.test_client()
    if known:
        assert load(client) == HALVES
    write(directory / "a.bin", NEW["a.bin"])

    def go_on(stop: threading.Event) -> None:
        time.sleep(0.12)
        write(directory / "b.bin", NEW["b.bin"])

    with in_background(go_on):
        assert load(client) == NEW


@real_times
@pytest.mark.parametrize("url", [URL, "/models/m/a.bin"])
def test_it_waits_for_a_moment_only(app: Flask, directory: Path, url: str) -> None:
    def write(stop: threading.Event) -> None:
        while not stop.wait(0.03):
            (directory / "b.bin").write_bytes(HALVES["b.bin"])

    (directory / "b.bin").touch()
    with in_background(write):
        status, seconds = timed(app.test_client(), url)
    assert status == 503 and 0.9 < seconds < 2.0


@pytest.mark.parametrize("url", [URL, "/models/m/", "/models/m", "/models/m/a.bin"])
def test_written_to_all_the_time(app: Flask, directory: Path, url: str) -> None:
    client = app.test_client()
    with written_to(app, directory / "b.bin"), client.get(url) as response:
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        if url == "/models/m/a.bin":
            assert response.data == b""
        else:
            error = "b.bin: is being written to; ask again"
            assert response.get_json() == {"error": error}
    assert load(client) == HALVES


def test_after_a_wait_in_vain_nobody_waits(
    app: Flask, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that waits serves nobody else."""
    monkeypatch.setattr(directory_module, "_HOPELESS", 0.5)
    client = app.test_client()
    with written_to(app, directory / "b.bin"):
        status, seconds = timed(client)
        assert status == 503 and seconds > 0.4
        status, seconds = timed(client)
        assert status == 503 and seconds < 0.2
    rest(directory / "b.bin")
    status, seconds = timed(client)
    assert status == 200 and seconds < 0.2


def relink(link: Path, target: Path) -> None:
    new = link.with_name("new")
    new.symlink_to(target)
    new.replace(link)


def test_links_switched_one_by_one(make_app: MakeApp, tmp_path: Path) -> None:
    """What they lead to is old on both sides."""
    for release, shards in (("r1", HALVES), ("r2", NEW)):
        write_model(tmp_path / "m" / release, shards=shards)
    directory = tmp_path / "m" / "served"
    directory.mkdir()
    for name in ("model.json", *HALVES):
        (directory / name).symlink_to(tmp_path / "m" / "r1" / name)
    app = make_app(TFJS_MODELS={"m": directory}, TFJS_LINK_ROOTS=[tmp_path / "m"])
    client = app.test_client()
    rest(*tmp_path.glob("m/*/*"))
    time.sleep(quiet.QUIET_NS / 1e9)
    assert load(client) == HALVES
    relink(directory / "a.bin", tmp_path / "m" / "r2" / "a.bin")

    def go_on(stop: threading.Event) -> None:
        stop.wait(0.1)
        relink(directory / "b.bin", tmp_path / "m" / "r2" / "b.bin")

    with in_background(go_on):
        assert load(client) == NEW


def test_a_folder_of_shards_is_renamed(make_app: MakeApp, tmp_path: Path) -> None:
    for release, shards in (("r1", HALVES), ("r2", NEW)):
        write_model(
            tmp_path / release, shards={f"w/{n}": data for n, data in shards.items()}
        )
    app = make_app(TFJS_MODELS={"m": tmp_path / "r1"})
    client = app.test_client()
    rest(*tmp_path.glob("r*/w/*"))
    time.sleep(quiet.QUIET_NS / 1e9)
    assert load(client) == HALVES
    (tmp_path / "r1" / "w").rename(tmp_path / "r1" / "old")
    (tmp_path / "r2" / "w").rename(tmp_path / "r1" / "w")
    status, seconds = timed(client)
    assert status == 200 and seconds > 0.9 * quiet.QUIET_NS / 1e9
    assert load(client) == NEW


def test_a_shard_that_comes_back(app: Flask, directory: Path) -> None:
    """As a checkout does: it removes a file and writes a new one."""
    client = app.test_client()
    rest(directory / "b.bin")
    (directory / "b.bin").unlink()

    def put_back(stop: threading.Event) -> None:
        stop.wait(0.1)
        (directory / "b.bin").write_bytes(NEW["b.bin"])

    with in_background(put_back):
        assert load(client) == {**HALVES, "b.bin": NEW["b.bin"]}


def test_it_is_no_fault_of_the_model(
    app: Flask, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with written_to(app, directory / "b.bin"):
        assert timed(app.test_client())[0] == 503
    assert caplog.records == []


def test_a_broken_model_that_is_being_written(app: Flask, directory: Path) -> None:
    """Half of a file is no reason for an error that pages show."""
    (directory / "b.bin").write_bytes(b"")

    def go_on(stop: threading.Event) -> None:
        time.sleep(0.12)
        (directory / "b.bin").write_bytes(NEW["b.bin"])

    with in_background(go_on):
        assert load(app.test_client()) == {**HALVES, "b.bin": NEW["b.bin"]}
    (directory / "b.bin").write_bytes(b"")
    assert timed(app.test_client())[0] == 500


def test_a_shard_that_is_not_there_yet(app: Flask, directory: Path) -> None:
    (directory / "b.bin").rename(directory / "aside")
    (directory / "model.json").touch()

    def go_on(stop: threading.Event) -> None:
        time.sleep(0.12)
        (directory / "b.bin").write_bytes(NEW["b.bin"])

    with in_background(go_on):
        assert load(app.test_client())["b.bin"] == NEW["b.bin"]


def together(app: Flask, urls: list[str]) -> tuple[list[int], float]:
    """The statuses, and the seconds until the last one."""
    started = time.monotonic()
    with ThreadPoolExecutor(len(urls)) as pool:
        statuses = pool.map(lambda url: timed(app.test_client(), url)[0], urls)
        return list(statuses), time.monotonic() - started


@pytest.mark.parametrize("url", [URL, "/models/m/a.bin"])
def test_many_wait_at_the_same_time(app: Flask, directory: Path, url: str) -> None:
    with written_to(app, directory / "b.bin"):
        statuses, seconds = together(app, [url] * 10)
    assert statuses == [503] * 10
    assert seconds < 1.5


def test_many_wait_for_the_end(app: Flask, directory: Path) -> None:
    (directory / "b.bin").touch()
    statuses, seconds = together(app, [URL] * 10)
    assert statuses == [200] * 10
    assert seconds < 0.75


def test_entries_that_share_a_shard(make_app: MakeApp, tmp_path: Path) -> None:
    """Nobody waits once for each of them."""
    directory = tmp_path / "zoo"
    for i in range(5):
        write_model(directory, entry=f"{i}.json", shards=HALVES)
    rest(*directory.iterdir())
    app = make_app(TFJS_MODELS={"zoo": directory})
    client = app.test_client()
    with written_to(app, directory / "b.bin"):
        status, seconds = timed(client, "/models/zoo/a.bin")
    assert status == 503 and seconds < 1.5


def test_a_copy_beside_it(app: Flask, directory: Path) -> None:
    """As rsync writes: what is old may be replaced at any moment."""
    client = app.test_client()
    copy = directory / ".b.bin.AbCdEf"
    with written_to(app, copy, NEW["b.bin"]):
        assert timed(client)[0] == 503
    copy.replace(directory / "b.bin")
    assert load(client) == {**HALVES, "b.bin": NEW["b.bin"]}


def test_a_known_model_is_served_while_a_copy_is_written(
    app: Flask, directory: Path
) -> None:
    """Nothing is new yet."""
    grow_old(app)
    client = app.test_client()
    assert load(client) == HALVES
    with written_to(app, directory / ".b.bin.AbCdEf"):
        assert load(client) == HALVES


def test_a_stalled_copy(app: Flask, directory: Path) -> None:
    copy = directory / ".b.bin.AbCdEf"
    copy.touch()
    long_ago = time.time_ns() - 11 * SECOND
    os.utime(copy, ns=(long_ago, long_ago))
    status, seconds = timed(app.test_client())
    assert status == 200 and seconds < 0.2


@pytest.mark.parametrize("name", ["train.log", ".train.log.tmp", "unnamed.bin"])
def test_other_files_do_not_matter(app: Flask, directory: Path, name: str) -> None:
    with written_to(app, directory / name, b"epoch 1"):
        status, seconds = timed(app.test_client())
    assert status == 200 and seconds < 0.2


@pytest.mark.parametrize("url", ["/models/zoo/a.json", "/models/zoo/a.bin"])
def test_other_entries_go_on(make_app: MakeApp, tmp_path: Path, url: str) -> None:
    directory = tmp_path / "zoo"
    for name in "ab":
        shards = {f"{name}.bin": DENSE_BYTES}
        write_model(directory, entry=f"{name}.json", shards=shards)
    rest(*directory.iterdir())
    app = make_app(TFJS_MODELS={"zoo": directory})
    with written_to(app, directory / "b.bin"), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(timed, app.test_client(), "/models/zoo/b.json")
        time.sleep(0.1)
        for _ in range(3):
            status, seconds = timed(app.test_client(), url)
            assert status == 200 and seconds < 0.2
        assert not waiting.done()
        assert waiting.result()[0] == 503


def test_commands_wait_too(app: Flask, directory: Path) -> None:
    def show() -> Result:
        return app.test_cli_runner().invoke(tfjs, ["show", "m"])

    with written_to(app, directory / "b.bin"):
        refused = show()
    assert refused.exit_code == 1
    assert "m/model.json: b.bin: is being written to" in refused.output
    (directory / "b.bin").touch()
    assert show().exit_code == 0
