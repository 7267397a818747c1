"""Real servers, as real processes on loopback ports, for the tests that need them."""

from __future__ import annotations

import collections.abc as cabc
import contextlib
import http.client
import http.server
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
HOST = "127.0.0.1"
START_TIMEOUT = 60.0


def require(present: object, what: str) -> None:
    """Skip the test where ``what`` is missing; fail it in CI, which has it all."""
    if present:
        return
    if os.environ.get("CI"):
        pytest.fail(f"needs {what}", pytrace=False)
    pytest.skip(f"needs {what}")


def require_program(*names: str) -> str:
    """The path of the first of these programs that is there."""
    found = find_program(*names)
    require(found, " or ".join(names))
    assert found is not None
    return found


def find_program(*names: str) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)


def module_found(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


class AppSpec(t.TypedDict):
    """What `serve_app.create` builds. ``blueprints`` are the keyword arguments of
    `create_blueprint`, one mapping each; ``None`` is the ready-made blueprint. With
    the ``token`` models may be saved.
    """

    config: dict[str, t.Any]
    blueprints: list[dict[str, t.Any]] | None
    cors: bool
    compress: bool
    error_pages: bool
    token: str | None
    instance_path: str


def gunicorn(port: int) -> list[str]:
    # Clients keep idle connections for some seconds: longer than gunicorn's default.
    # tfjs in Node reads no shard before the headers of all have come, so threads that
    # write one each must be as many as the large shards of a model.
    return [
        *(sys.executable, "-m", "gunicorn", "--worker-class", "gthread"),
        *("--workers", "2", "--threads", "8", "--keep-alive", "75"),
        *("--bind", f"{HOST}:{port}", "--no-control-socket", "serve_app:create()"),
    ]


def gunicorn_sync(port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "gunicorn", "--worker-class", "sync"),
        *("--bind", f"{HOST}:{port}", "--no-control-socket", "serve_app:create()"),
    ]


def gunicorn_one_worker(port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "gunicorn", "--worker-class", "gthread"),
        *("--workers", "1", "--threads", "4"),
        *("--bind", f"{HOST}:{port}", "--no-control-socket", "serve_app:create()"),
    ]


def waitress(port: int) -> list[str]:
    listen = f"--listen={HOST}:{port}"
    return [sys.executable, "-m", "waitress", listen, "--call", "serve_app:create"]


def granian(port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--factory"),
        *("--host", HOST, "--port", str(port), "--blocking-threads", "4"),
        "serve_app:create",
    ]


def werkzeug(port: int) -> list[str]:
    return [sys.executable, str(TESTS / "serve_app.py"), str(port)]


COMMANDS: dict[str, cabc.Callable[[int], list[str]]] = {
    "gunicorn": gunicorn,
    "gunicorn-sync": gunicorn_sync,
    "gunicorn-one-worker": gunicorn_one_worker,
    "waitress": waitress,
    "granian": granian,
    "werkzeug": werkzeug,
}
SERVERS = ("gunicorn", "waitress", "werkzeug")
PRODUCTION_SERVERS = ("gunicorn", "waitress")


@dataclass(frozen=True)
class Server:
    kind: str
    port: int
    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.port

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def connect(self, timeout: float = 30.0) -> socket.socket:
        return socket.create_connection((HOST, self.port), timeout)

    def http(self, timeout: float = 30.0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(HOST, self.port, timeout=timeout)


class ServerDied(Exception):
    def __init__(self, kind: str, code: int | None, log: str) -> None:
        super().__init__(f"{kind} ended with {code} too early:\n{log[-4000:]}")
        self.log = log


@contextlib.contextmanager
def serve(
    kind: str,
    directory: Path,
    config: dict[str, t.Any],
    *,
    blueprints: list[dict[str, t.Any]] | None = None,
    cors: bool = False,
    compress: bool = False,
    error_pages: bool = False,
    token: str | None = None,
) -> cabc.Iterator[Server]:
    """An app on a server of this ``kind``, as long as the context lasts. It keeps its
    instance folder and its log in ``directory``.
    """
    package = kind.partition("-")[0]
    require(module_found(package), package)
    require(not cors or module_found("flask_cors"), "flask-cors")
    require(not compress or module_found("flask_compress"), "Flask-Compress")
    spec: AppSpec = {
        "config": config,
        "blueprints": blueprints,
        "cors": cors,
        "compress": compress,
        "error_pages": error_pages,
        "token": token,
        "instance_path": str(directory / "instance"),
    }
    server = start(kind, directory, spec)
    try:
        yield server
        ended = server.process.poll()
        assert ended is None, f"{kind} ended with {ended}:\n{server.log()[-4000:]}"
    finally:
        stop(server.process)


def start(kind: str, directory: Path, spec: AppSpec, attempts: int = 3) -> Server:
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    log_path = directory / f"{kind}-{port}.log"
    environment = {
        **os.environ,
        "FLASK_TFJS_TEST_APP": json.dumps(spec),
        # The package under test is the one that the tests themselves import.
        "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
        "PYTHONUNBUFFERED": "1",
    }
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            COMMANDS[kind](port),
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    server = Server(kind, port, process, log_path)
    try:
        wait_until_ready(server)
    except ServerDied as died:
        # Someone else may have taken the port since it was found free.
        if attempts > 1 and "in use" in died.log:
            return start(kind, directory, spec, attempts - 1)
        raise
    except BaseException:
        stop(process)
        raise
    return server


def wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        code = server.process.poll()
        if code is not None:
            raise ServerDied(server.kind, code, server.log())
        connection = server.http(timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.05)
    stop(server.process)
    raise ServerDied(server.kind, server.process.returncode, server.log())


def stop(process: subprocess.Popen[t.Any]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait(10)


NGINX = """
{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen {host}:{port};
        client_max_body_size 0;
        location / {{
            proxy_pass http://{host}:{upstream};
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


@contextlib.contextmanager
def serve_nginx(directory: Path, upstream: Server) -> cabc.Iterator[Server]:
    """nginx in front of a server, set up as its docs begin: it reads a request to its
    end, then sends it on.
    """
    nginx = require_program("nginx")
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        NGINX.format(
            # Its workers could not read the folders of tests otherwise.
            user="user root;" if os.geteuid() == 0 else "",
            directory=directory,
            host=HOST,
            port=port,
            upstream=upstream.port,
        )
    )
    log_path = directory / "nginx.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [nginx, "-p", str(directory), "-c", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    server = Server("nginx", port, process, log_path)
    try:
        wait_until_ready(server)
        yield server
    finally:
        stop(process)


@dataclass
class Pages:
    """Static files on an origin of their own, and hooks: a page (or any client) that
    fetches ``hook(action)`` has ``action`` done before the answer comes.
    """

    port: int
    hooks: dict[str, cabc.Callable[[], object]]

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def other_origin(self) -> str:
        """The same pages under another name."""
        return f"http://localhost:{self.port}"

    def hook(self, action: cabc.Callable[[], object]) -> str:
        name = f"/hook/{len(self.hooks)}"
        self.hooks[name] = action
        return self.origin + name


@contextlib.contextmanager
def serve_pages(directory: Path) -> cabc.Iterator[Pages]:
    hooks: dict[str, cabc.Callable[[], object]] = {}

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        extensions_map = {
            **http.server.SimpleHTTPRequestHandler.extensions_map,
            ".mjs": "text/javascript",
        }

        def __init__(self, *args: t.Any) -> None:
            super().__init__(*args, directory=str(directory))

        def do_GET(self) -> None:
            hook = hooks.get(self.path)
            if hook is None:
                super().do_GET()
                return
            hook()
            self.send_response(204)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        def log_message(self, format: str, *args: t.Any) -> None:
            pass

    class Listener(http.server.ThreadingHTTPServer):
        daemon_threads = True

    with Listener((HOST, 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield Pages(listener.server_port, hooks)
        finally:
            listener.shutdown()
            thread.join()
