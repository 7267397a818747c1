"""The server of ``python -m flask_tfjs``: Werkzeug's, on a socket that lets in nobody
who is not meant."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from flask import Flask
from werkzeug.serving import WSGIRequestHandler
from werkzeug.serving import get_interface_ip
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from .errors import ConfigError
from .errors import printable

# What a browser calls this machine.
_LOCAL = ("localhost", "127.0.0.1", "::1")

# Characters of a request that are logged.
_MAX_LOGGED = 200


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that connections come to.

    :ivar host: as it was asked for, without brackets.
    """

    host: str
    socket: socket.socket

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine get here."""
        return self._address.is_loopback

    @property
    def origin(self) -> str:
        """What URLs begin with; one that others can use, too, where others get here."""
        host = self.host
        if self._address.is_unspecified:
            host = get_interface_ip(self.socket.family)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def _address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        return ipaddress.ip_address(self.socket.getsockname()[0].partition("%")[0])


def listen(host: str, port: int) -> Listener:
    """Listen on an address of this machine.

    :param host: an address, or a name of one.
    :param port: 0 for any that is free.
    :raises ConfigError: that cannot be; says the cure.
    """
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
        return Listener(host, socket.create_server(address, family=family))
    except (socket.gaierror, UnicodeError):
        raise ConfigError(
            f"--host {host} is no address: give one of this machine, such as "
            "127.0.0.1, or 0.0.0.0 for all of them"
        ) from None
    except OSError as error:
        raise ConfigError(_reason(error, host, port)) from None


def _reason(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is in use by another program; take another one, "
            f"such as --port {port % 65535 + 1}, or any that is free: --port 0"
        )
    if error.errno == errno.EACCES:
        return f"port {port} is not for everybody; take one above 1023: --port 8000"
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"--host {host} is not an address of this machine; 0.0.0.0 is for all that "
            "it has"
        )
    return (
        f"port {port} of {host} cannot be listened on: {os.strerror(error.errno or 0)}"
    )


def serve(app: Flask, listener: Listener) -> None:
    """Answer until Ctrl+C or SIGTERM comes, a thread for each connection."""
    if listener.is_loopback:
        answer_only(app, (*_LOCAL, listener.host))
    server = make_server(
        listener.host,
        listener.port,
        app,
        threaded=True,
        request_handler=_Handler,
        fd=listener.socket.fileno(),
    )
    with listener.socket:
        server.serve_forever()


def end_quietly() -> None:
    """Let SIGTERM end the program as Ctrl+C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def answer_only(app: Flask, hosts: Iterable[str]) -> None:
    """Answer no request that names another host.

    A page of another site reaches this machine by a name of its own that it lets lead
    here (DNS rebinding), and for the browser the two are then one origin.
    """
    known = {host.lower() for host in hosts}
    inner = app.wsgi_app

    def wsgi_app(environ: Any, start_response: Any) -> Any:
        if _host(environ.get("HTTP_HOST", "")) in known:
            return inner(environ, start_response)
        # Outside of the app, so that nothing of it tells what is here.
        return _REFUSED(environ, start_response)

    vars(app)["wsgi_app"] = wsgi_app


_REFUSED = Response(
    "This server answers to localhost and 127.0.0.1 only. If another name is to lead "
    "to it, start it with --host 0.0.0.0: then everybody in your network can read the "
    "models.\n",
    status=400,
    mimetype="text/plain",
)


def _host(header: str) -> str | None:
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None


class _Handler(WSGIRequestHandler):
    """Logs one short line for each request."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        status = code.value if isinstance(code, HTTPStatus) else code
        # A request that was not understood has no path.
        asked = f"{self.command} {self.path}" if hasattr(self, "path") else "?"
        self.log("info", "%s %s", status, asked[:_MAX_LOGGED])

    def log(self, type: str, message: str, *args: Any) -> None:
        line = f"{time.strftime('%H:%M:%S')} {printable(message % args)}\n"
        # Whole, beside those of other threads; and whoever read it may be gone.
        with contextlib.suppress(OSError):
            sys.stderr.write(line)
            sys.stderr.flush()
