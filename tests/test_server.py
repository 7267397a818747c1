"""The one-line server: which models directories mean, and the command itself, in real
processes."""

from __future__ import annotations

import collections.abc as cabc
import contextlib
import errno
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest
from models import dense_document
from models import write_model
from servers import HOST
from servers import free_port
from servers import module_found
from servers import require
from servers import stop

from flask_tfjs import ConfigError
from flask_tfjs import create_app
from flask_tfjs.__main__ import _who_may
from flask_tfjs.listening import Listener
from flask_tfjs.listening import _reason
from flask_tfjs.listening import answer_only
from flask_tfjs.listening import listen
from flask_tfjs.server import name_of

ROOT = Path(__file__).parents[1]

FACE_API = [{"paths": ["face.bin"], "weights": []}]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with models in it."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "models/line")
    write_model(tmp_path / "models/plane")
    write_model(tmp_path / "other/cube")
    write_model(tmp_path / "my model (1)", entry="net.json")
    return tmp_path


def served(*directories: str, **settings: t.Any) -> dict[str, str]:
    """What the list says: name -> state."""
    client = create_app(*directories, **settings).test_client()
    with client.get("/") as answer:
        assert (answer.status_code, answer.location) == (302, "/models/")
    with client.get("/models/", headers={"Accept": "application/json"}) as answer:
        models = answer.get_json()["models"]
    return {model["name"]: model["state"] for model in models}


# The app


@pytest.mark.parametrize(
    ("directories", "names"),
    [
        (["models/line"], "line"),
        (["models/line/"], "line"),
        (["models/line/model.json"], "line"),
        (["my model (1)"], "my-model-1"),
        (["my model (1)/net.json"], "my-model-1"),
        (["models"], "line plane"),
        (["models", "other"], "cube line plane"),
        (["models", "other/cube", "my model (1)"], "cube line my-model-1 plane"),
        (["models", "models/line", "models"], "line plane"),
        (["models/line", "./models/line/"], "line"),
        ([], "models other"),
    ],
)
def test_what_directories_mean(directories: list[str], names: str) -> None:
    assert served(*directories) == dict.fromkeys(names.split(), "ok")


def test_the_current_directory_may_be_a_model(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here / "models/line")
    assert served() == served(".") == {"line": "ok"}


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/a/line", "line"),
        ("/a/l_1.v2_", "l_1.v2_"),
        ("/a/my model (1)", "my-model-1"),
        ("/a/modèle", "modele"),
        ("/a/.hidden", "hidden"),
        ("/a/模型", "model"),
        ("/", "model"),
        (f"/a/ {'n' * 200}", "n" * 128),
    ],
)
def test_names_are_made_valid(folder: str, name: str) -> None:
    assert name_of(folder) == name


def test_a_folder_is_live(here: Path) -> None:
    client = create_app("models").test_client()
    write_model(here / "models/late")
    with client.get("/models/late/model.json") as answer:
        assert answer.status_code == 200
    shutil.rmtree(here / "models/line")
    with client.get("/models/line/model.json") as answer:
        assert answer.status_code == 404


def test_a_twin_that_comes_later_is_told(here: Path) -> None:
    app = create_app("models", "other")
    catalogue = app.extensions["tfjs"]["tfjs"].catalogue
    assert catalogue.fault is None
    write_model(here / "other/line")
    told = f"{here}/models/line is served, not {here}/other/line"
    assert told in str(catalogue.fault)
    assert catalogue.path("line") == f"{here}/models/line"
    assert catalogue.names() == ["cube", "line", "plane"]
    assert catalogue.sources.all()["line"] == f"{here}/models/line"


def spoil(here: Path) -> None:
    """Put what is no model into the current directory."""
    (here / "net.keras").touch()
    (here / "my net.H5").touch()
    (here / "net.onnx").touch()
    (here / "notes.json").write_text('{"a": 1}')
    (here / "saved/variables").mkdir(parents=True)
    (here / "saved/saved_model.pb").touch()
    write_model(here / "again/line")
    (here / "models/line/second.json").write_text(
        json.dumps(dense_document("weights.bin"))
    )


REFUSED = [
    (["nowhere"], "there is no file or directory 'nowhere' here"),
    ([""], "a path is empty; write . for the current directory"),
    (["net.keras"], "convert it first: flask tfjs convert net.keras net"),
    (["my net.H5"], "convert it first: flask tfjs convert 'my net.H5' 'my net'"),
    (["net.onnx"], "give the directory in which its model.json lies"),
    (["notes.json"], "notes.json is JSON, but not a TensorFlow.js model"),
    (["saved"], "saved is a SavedModel, which browsers cannot load"),
    (
        ["models/line", "again/line"],
        "two models would be called 'line': {here}/models/line and {here}/again/line; "
        "rename one of the folders, or start a server for each",
    ),
    (["models", "again"], "{here}/models/line and {here}/again/line; rename one"),
    (["models", "again/line"], "{here}/again/line and {here}/models/line; rename one"),
    (
        ["models/line", "models/line/second.json"],
        "give the folder {here}/models/line itself, which serves both",
    ),
    (
        ["models/line/model.json", "models/line/second.json"],
        "give the folder {here}/models/line itself, which serves both",
    ),
]


@pytest.mark.parametrize(("directories", "told"), REFUSED)
def test_what_is_refused(here: Path, directories: list[str], told: str) -> None:
    spoil(here)
    with pytest.raises(ConfigError, match=re.escape(told.format(here=here))):
        create_app(*directories)


def test_an_unreadable_folder_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.listdir", refuse)
    with pytest.raises(ConfigError, match="models cannot be read: Permission denied"):
        create_app("models")


def test_nothing_else_of_the_directory_is_served(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "static").mkdir()
    (here / "static/secret.txt").touch()
    (here / "tfjs.json").write_text(
        json.dumps({"TFJS_MODELS": {"registered": str(here / "other/cube")}})
    )
    monkeypatch.setenv("FLASK_DEBUG", "1")
    monkeypatch.setenv("FLASK_TFJS_INDEX", "false")
    app = create_app("models")
    assert not app.debug
    assert app.jinja_loader is None
    settings = app.extensions["tfjs"]["tfjs"].settings
    assert (settings.registry, settings.store, settings.cache) == (None,) * 3
    assert (settings.uploads, settings.index) == (frozenset(), True)
    client = app.test_client()
    for url in ("/static/secret.txt", "/models/registered/model.json"):
        with client.get(url) as answer:
            assert answer.status_code == 404
    assert sorted(p.name for p in here.iterdir()) == sorted(
        ["models", "other", "my model (1)", "static", "tfjs.json"]
    )


def test_settings_are_those_of_the_blueprint(here: Path) -> None:
    app = create_app(models={"a": "models/line"}, cache="cache", store="store")
    settings = app.extensions["tfjs"]["tfjs"].settings
    assert settings.models.named == {"a": f"{here}/models/line"}
    assert (settings.cache, settings.store) == (f"{here}/cache", f"{here}/store")
    with create_app("models", index=False).test_client().get("/models/") as answer:
        assert answer.status_code == 404
    with pytest.raises(ConfigError, match="did you mean allow_origins"):
        create_app("models", allow_origin="*")
    with pytest.raises(ConfigError, match="'url_prefix' is not a setting"):
        create_app("models", url_prefix="/ml")
    with pytest.raises(ConfigError, match="not both"):
        create_app("models", models={"a": "models/line"})


# In a server


class Answer(t.NamedTuple):
    status: int
    version: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass
class Running:
    """The command, which has said what it serves."""

    process: subprocess.Popen[str]
    printed: str

    @property
    def origin(self) -> str:
        found = re.search(r"^Serving (http://\S+)/models/$", self.printed, re.M)
        assert found, self.printed
        return found[1]

    def ask(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        address = self.origin.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers or {})
            got = connection.getresponse()
            return Answer(got.status, got.version, got.headers, got.read())

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """The exit code, and what was written to standard error."""
        self.process.send_signal(number)
        assert self.process.stderr is not None
        errors = self.process.stderr.read()
        return self.process.wait(30), errors


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flask_tfjs", *arguments]


def environment(**more: str) -> dict[str, str]:
    # The package under test is the one that the tests themselves import.
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **more}


def listen_to_ctrl_c() -> None:
    # Who starts the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def run(
    *arguments: str, last: str = "Press Ctrl+C", **variables: str
) -> cabc.Iterator[Running]:
    """The command, as soon as it has printed a line that begins with *last*."""
    process = subprocess.Popen(
        command(*arguments, "--port", "0"),
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=listen_to_ctrl_c,
    )
    assert process.stdout is not None and process.stderr is not None
    with process.stdout, process.stderr:
        try:
            printed = ""
            for line in process.stdout:
                printed += line
                if line.startswith(last):
                    break
            else:
                raise AssertionError(printed + process.stderr.read())
            yield Running(process, printed)
        finally:
            stop(process)


def test_what_it_prints(here: Path) -> None:
    write_model(here / "models/faces", document=FACE_API, shards={"face.bin": b""})
    write_model(here / "models/many", entry="a b.json")
    write_model(here / "models/many", entry="c/model.json")
    layer = {"class_name": "KerasCausalMask", "config": {"name": "k"}}
    document = dense_document("weights.bin")
    topology = json.loads(json.dumps(document["modelTopology"]))
    topology["config"]["layers"].append(layer)
    write_model(
        here / "models/masked", document={**document, "modelTopology": topology}
    )
    write_model(here / "models/broken", shards={"weights.bin": b"123"})
    (here / "models/empty").mkdir()
    (here / "models/\u202e").mkdir()
    with run("models") as running:
        origin = running.origin
        assert (
            running.printed
            == f"""\
Serving {origin}/models/

broken: {origin}/models/broken/

faces: {origin}/models/faces/
const weights = await tf.io.loadWeights(await (await fetch(\
"{origin}/models/faces/model.json")).json(), "{origin}/models/faces");

line: {origin}/models/line/
const model = await tf.loadLayersModel("{origin}/models/line/model.json");

many: {origin}/models/many/
const model = await tf.loadLayersModel("{origin}/models/many/a%20b.json");
const model = await tf.loadLayersModel("{origin}/models/many/c/model.json");

masked: {origin}/models/masked/
<script src="{origin}/models/-/static/keras-layers.js"></script>
const model = await tf.loadLayersModel("{origin}/models/masked/model.json");

plane: {origin}/models/plane/
const model = await tf.loadLayersModel("{origin}/models/plane/model.json");

Only pages of this server can load them; --allow-origin ORIGIN lets others.
Press Ctrl+C to stop.
"""
        )
        for url in re.findall(rf'"{origin}(/.*?)"', running.printed):
            if url != "/models/faces":
                assert running.ask(url).status == 200, url
        code, errors = running.end()
    assert code == 0
    assert "Error: broken/model.json: weights.bin: has 3 bytes" in errors
    assert "No model in: empty\n" in errors
    assert "is passed over" in errors and "\u202e" not in errors


def test_the_log_and_the_protocol() -> None:
    with run("models") as running:
        answer = running.ask("/models/line/model.json?a=%1b[31m")
        assert (answer.status, answer.version) == (200, 11)
        assert running.ask("/").headers["Location"] == "/models/"
        assert running.ask(f"/{'n' * 300}").status == 404
        code, errors = running.end()
    assert code == 0
    lines = [re.fullmatch(r"\d\d:\d\d:\d\d (.*)", line) for line in errors.splitlines()]
    assert [line and line[1] for line in lines] == [
        "200 GET /models/line/model.json?a=%1b[31m",
        "302 GET /",
        f"404 GET /{'n' * 195}",
    ]


def test_nobody_need_read_the_log() -> None:
    with run("models") as running:
        assert running.process.stderr is not None
        running.process.stderr.close()
        for _ in range(3):
            assert running.ask("/models/line/model.json").status == 200


def test_a_request_that_is_none_is_logged() -> None:
    with run("models") as running:
        _, _, port = running.origin.rpartition(":")
        with socket.create_connection((HOST, int(port))) as connection:
            connection.sendall(b"\x1b[31m\r\n\r\n")
            while connection.recv(1000):
                pass
        with socket.create_connection((HOST, int(port))) as connection:
            connection.sendall(b"GET /\x1b[31m HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while connection.recv(1000):
                pass
        code, errors = running.end()
    assert code == 0
    assert "400 ?" in errors and "404 GET /\N{REPLACEMENT CHARACTER}[31m" in errors
    assert "\x1b" not in errors and "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_quietly(number: int) -> None:
    with run("models") as running:
        assert running.ask("/models/").status == 200
        code, errors = running.end(number)
    assert code == 0
    assert errors.count("\n") == 1


def test_it_ends_quietly_before_it_serves(here: Path) -> None:
    for number in range(300):
        write_model(here / f"models/{number}")
    with run("models", last="0: http") as running:
        code, errors = running.end()
    assert (code, errors) == (0, "")


HOSTS = [
    ("localhost", 200),
    ("LOCALHOST:{port}", 200),
    ("127.0.0.1:{port}", 200),
    ("[::1]:{port}", 200),
    ("evil.example", 400),
    ("evil.example:{port}", 400),
    ("localhost.evil.example", 400),
    ("127.0.0.1.evil.example:{port}", 400),
    ("localhost@evil.example", 400),
    ("[::1", 400),
    ("192.168.0.1", 400),
    ("", 400),
]


def test_a_name_that_was_led_here_is_refused() -> None:
    with run("models") as running:
        _, _, port = running.origin.rpartition(":")
        for host, status in HOSTS:
            for path in ("/models/", "/models/line/weights.bin", "/none"):
                if path == "/none" and status == 200:
                    continue
                answer = running.ask(path, {"Host": host.format(port=port)})
                assert answer.status == status, (host, path)
                assert (status == 400) == (b"--host 0.0.0.0" in answer.body)


def test_hosts_are_told_apart_as_browsers_do() -> None:
    app = create_app("models")
    answer_only(app, ["Mine.example"])
    for host, status in [("mine.example", 200), ("MINE.example", 200), ("a", 400)]:
        with app.test_client().get("/models/", headers={"Host": host}) as answer:
            assert answer.status_code == status


def test_the_host_that_was_asked_for_is_answered() -> None:
    with run("models", "--host", "LocalHost") as running:
        assert running.origin.startswith("http://LocalHost:")
        assert running.ask("/models/").status == 200
    with run("models", "--host", "127.0.0.2") as running:
        assert running.origin.startswith("http://127.0.0.2:")
        assert running.ask("/models/").status == 200
        assert running.ask("/models/", {"Host": "127.0.0.3"}).status == 400


def has_ipv6() -> bool:
    with (
        contextlib.suppress(OSError),
        socket.create_server(("::1", 0), family=socket.AF_INET6),
    ):
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6(host: str) -> None:
    with run("models", "--host", host) as running:
        assert running.origin.startswith("http://[::1]:")
        assert running.ask("/models/").status == 200


def test_beyond_this_machine_it_says_who_can_read() -> None:
    """With a socket that nobody can connect to, since nobody listens on it."""
    with socket.socket() as bound:
        bound.bind(("0.0.0.0", 0))
        listener = Listener("0.0.0.0", bound)
        assert not listener.is_loopback
        (said,) = _who_may(listener, ("*",))
        assert "can read all these models" in said
        assert re.fullmatch(r"http://[0-9.]+:\d+", listener.origin)
        assert "0.0.0.0" not in listener.origin
    with listen(HOST, 0).socket as loopback:
        assert list(_who_may(Listener(HOST, loopback), ("*",))) == []


ORIGIN = "http://localhost:5173"


@pytest.mark.parametrize(
    ("arguments", "allowed", "policy"),
    [
        ([], None, "same-origin"),
        (["--allow-origin", "*"], "*", "cross-origin"),
        (["--allow-origin", ORIGIN], ORIGIN, "cross-origin"),
        (["--allow-origin", "http://a.example"], None, "cross-origin"),
        (
            ["--allow-origin", "http://a.example", "--allow-origin", ORIGIN],
            ORIGIN,
            "cross-origin",
        ),
    ],
)
def test_origins(arguments: list[str], allowed: str | None, policy: str) -> None:
    with run("models", *arguments) as running:
        answer = running.ask("/models/line/model.json", {"Origin": ORIGIN})
        assert answer.headers["Access-Control-Allow-Origin"] == allowed
        assert answer.headers["Cross-Origin-Resource-Policy"] == policy
        assert ("--allow-origin" in running.printed) == (arguments == [])


def failure(*arguments: str) -> tuple[int, str]:
    """The exit code and the error of a command that does not come to serve."""
    process = subprocess.run(
        command(*arguments),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in process.stderr
    assert "Press Ctrl+C" not in process.stdout
    return process.returncode, process.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["nowhere"], 1, "Error: there is no file or directory 'nowhere' here\n"),
        (["net.keras"], 1, "flask tfjs convert net.keras net"),
        (["models", "again"], 1, "Error: two models would be called 'line'"),
        (["--allow-origin", "localhost:3000"], 1, "such as 'https://example.org'"),
        (["--host", "no address"], 1, "--host no address is no address"),
        (["--host", ""], 1, "give one of this machine"),
        (["--host", "192.0.2.1"], 1, "--host 192.0.2.1 is not an address of this"),
        (["--port", "65536"], 2, "--port"),
        (["--nothing"], 2, "No such option"),
    ],
)
def test_faults_are_sentences(
    here: Path, arguments: list[str], code: int, told: str
) -> None:
    spoil(here)
    found, errors = failure(*arguments)
    assert (found, told in errors) == (code, True), errors


def test_a_port_that_is_taken() -> None:
    with listen(HOST, 0).socket as taken:
        port = taken.getsockname()[1]
        code, errors = failure("models", "--port", str(port))
    assert code == 1
    assert f"port {port} of 127.0.0.1 is in use" in errors
    assert f"--port {port % 65535 + 1}" in errors


def test_a_port_that_is_not_for_everybody() -> None:
    # The tests may be run by one who may take it.
    told = _reason(PermissionError(errno.EACCES, "Permission denied"), HOST, 80)
    assert "port 80 is not for everybody; take one above 1023" in told


def test_a_folder_without_models_waits_for_them(here: Path) -> None:
    (here / "new/empty").mkdir(parents=True)
    (here / "new/net one.keras").touch()
    with run("new") as running:
        assert running.ask("/models/line/model.json").status == 404
        write_model(here / "new/line")
        deadline = time.monotonic() + 30
        while running.ask("/models/line/model.json").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        _, errors = running.end()
    assert f"There is no model yet in {here}/new." in errors
    assert f"flask tfjs convert '{here}/new/net one.keras' '{here}/new/net one'" in (
        errors
    )


@pytest.mark.parametrize(
    ("directories", "page"), [(["models"], "/"), (["models/line"], "/line/")]
)
def test_a_browser_opens(here: Path, directories: list[str], page: str) -> None:
    browser = here / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {here}/asked\n')
    browser.chmod(0o755)
    with run(*directories, "--open", BROWSER=f"{browser} %s") as running:
        deadline = time.monotonic() + 30
        while not (here / "asked").exists() or not (here / "asked").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert (here / "asked").read_text() == f"{running.origin}/models{page}\n"


def test_no_browser_is_said() -> None:
    with run("models", "--open", BROWSER="false %s") as running:
        time.sleep(1)
        _, errors = running.end()
    assert f"No browser could be opened; open {running.origin}/models/\n" in errors


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs Linux's /proc")
def test_nothing_is_hashed_before_it_is_asked_for(here: Path) -> None:
    weights = [{"name": "dense/kernel", "shape": [2**20, 100], "dtype": "float32"}]
    manifest = [{"paths": ["large.bin"], "weights": weights}]
    document = dense_document("large.bin", weightsManifest=manifest)
    write_model(here / "large", document=document, shards={"large.bin": b""})
    with (here / "large/large.bin").open("wb") as shard:
        shard.truncate(400 * 2**20)
    with run("large") as running:
        text = Path(f"/proc/{running.process.pid}/io").read_text()
        found = re.search(r"rchar: (\d+)", text)
        assert found and int(found[1]) < 100 * 2**20
        assert "loadLayersModel" in running.printed


def test_gunicorn(here: Path) -> None:
    require(module_found("gunicorn"), "gunicorn")
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "--no-control-socket"),
            *("--bind", f"{HOST}:{port}", 'flask_tfjs:create_app("models")'),
        ],
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            connection = http.client.HTTPConnection(HOST, port, timeout=30)
            with contextlib.closing(connection):
                try:
                    connection.request("GET", "/models/line/model.json")
                except ConnectionRefusedError:
                    assert process.poll() is None and time.monotonic() < deadline
                    time.sleep(0.1)
                    continue
                answer = connection.getresponse()
                assert answer.status == 200
                assert answer.headers["Access-Control-Allow-Origin"] == "*"
                return
    finally:
        stop(process)
