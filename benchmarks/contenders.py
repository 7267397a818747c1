"""The servers that are compared: how each is started, watched and stopped. Linux."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"

GTHREAD = "gunicorn gthread, 1 worker x 4 threads"
UVICORN = "uvicorn, 1 process"
NGINX = "nginx, 1 worker"

START_SECONDS = 20
STOP_SECONDS = 10


@dataclass(frozen=True)
class Site:
    """The folders of one server.

    ``models`` is what it serves, ``folder`` what it may write to.
    """

    models: Path
    folder: Path


@dataclass(frozen=True)
class Server:
    name: str
    title: str
    runs_on: str
    command: Callable[[Site, int], list[str]]
    wants_compressed: bool = False


def gunicorn(application: str) -> Callable[[Site, int], list[str]]:
    """The command for ``app`` in a module of ``peers``."""

    def command(site: Site, port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "gunicorn", f"{application}:app"),
            *("--worker-class", "gthread", "--workers", "1", "--threads", "4"),
            *("--bind", f"127.0.0.1:{port}", "--log-level", "warning"),
            "--no-control-socket",
        ]

    return command


def _uvicorn(site: Site, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "uvicorn", "starlette_files:app"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--log-level", "warning", "--no-access-log"),
    ]


def _nginx(site: Site, port: int) -> list[str]:
    template = Template((PEERS / "nginx.conf").read_text())
    configuration = site.folder / "nginx.conf"
    configuration.write_text(
        template.substitute(folder=site.folder, models=site.models, port=port)
    )
    return ["nginx", "-p", str(site.folder), "-e", "stderr", "-c", str(configuration)]


SERVERS = (
    Server("flask_tfjs", "flask_tfjs", GTHREAD, gunicorn("flask_tfjs_blueprint")),
    Server("flask", "Flask + flask-cors", GTHREAD, gunicorn("flask_send")),
    Server(
        "whitenoise",
        "WhiteNoise",
        GTHREAD,
        gunicorn("whitenoise_files"),
        wants_compressed=True,
    ),
    Server("starlette", "Starlette StaticFiles", UVICORN, _uvicorn),
    Server("nginx", "nginx", NGINX, _nginx, wants_compressed=True),
    Server("bare", "bare WSGI (the limit)", GTHREAD, gunicorn("bare_wsgi")),
)


class Running:
    """A started server process and its descendants."""

    def __init__(
        self, server: Server, site: Site, port: int, process: subprocess.Popen[bytes]
    ) -> None:
        self.server = server
        self.site = site
        self.port = port
        self._process = process

    def cpu_seconds(self) -> float:
        """User and system time that the whole process tree has used so far."""
        return sum(_cpu_seconds(pid) for pid in _tree(self._process.pid))

    def wait_until_listening(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{self.server.title} did not start")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def running(
    servers: list[Server], models: Path, folder: Path
) -> Iterator[list[Running]]:
    """All servers at once, each on a port and in a folder of its own."""
    with ExitStack() as stack:
        started = []
        for server in servers:
            site = _site(server, models, folder / server.name)
            started.append(_start(server, site))
            stack.callback(started[-1].stop)
        for one in started:
            one.wait_until_listening()
        yield started


def _site(server: Server, models: Path, folder: Path) -> Site:
    folder.mkdir()
    if not server.wants_compressed:
        return Site(models, folder)
    copy = folder / "models"
    shutil.copytree(models, copy)
    # Without the shards: weights hardly shrink, and all should send the same bytes.
    command = [sys.executable, "-m", "whitenoise.compress", "--quiet", str(copy), "bin"]
    subprocess.run(command, check=True)
    return Site(copy, folder)


def _start(server: Server, site: Site) -> Running:
    port = _free_port()
    process = subprocess.Popen(
        server.command(site, port),
        cwd=site.folder,
        env=environment(site),
        stdin=subprocess.DEVNULL,
        # Ctrl-C is for us; we then stop each server in order.
        start_new_session=True,
    )
    return Running(server, site, port, process)


def environment(site: Site) -> dict[str, str]:
    """Of the process that serves this site, and of commands about it."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PEERS), str(HERE.parent)]),
        "BENCHMARK_MODELS": str(site.models),
        "BENCHMARK_INSTANCE": str(site.folder / "instance"),
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _tree(int(child))


def _cpu_seconds(pid: int) -> float:
    # The name in the second field may hold blanks; the fields after it may not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = int(fields[11]), int(fields[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")
