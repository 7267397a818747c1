"""``python -m flask_tfjs DIRECTORY…``: models and their pages, without an app."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Iterator

import click
from flask import Flask

from . import listening
from . import reports
from . import server
from . import state as states
from .config import DEFAULT_PREFIX
from .errors import TFJSError
from .errors import printable
from .keras.script import PATH
from .listening import Listener
from .models.names import MAIN
from .models.summary import Summary
from .models.summary import summarize

# Directories without a model that are named.
_MAX_NAMED = 8


@click.command()
@click.argument("directories", nargs=-1, metavar="[DIRECTORY]...")
@click.option(
    "--open", "opens", is_flag=True, help="Open the list, or the only model's page."
)
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Listen here; 0.0.0.0 lets in whoever reaches this machine.",
)
@click.option(
    "--port",
    metavar="NUMBER",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0 is any that is free.",
)
@click.option(
    "--allow-origin",
    "origins",
    metavar="ORIGIN",
    multiple=True,
    help="Let pages of this origin load the models; '*' is all.",
)
def main(
    directories: tuple[str, ...],
    opens: bool,
    host: str,
    port: int,
    origins: tuple[str, ...],
) -> None:
    """Serve TensorFlow.js models, with a page for each.

    A DIRECTORY is a model, or a folder of them; none is the current one. A .json file
    that is a model will do, too.
    """
    try:
        listening.end_quietly()
        app = server.create_app(*directories, allow_origins=origins)
        listener = listening.listen(host, port)
        click.echo(f"Serving {listener.origin}{DEFAULT_PREFIX}/\n")
        names = [summary.name for summary in _show_models(app, listener.origin)]
        if not names:
            click.echo(_no_models(app), err=True)
        click.echo("\n".join([*_who_may(listener, origins), "Press Ctrl+C to stop."]))
        if opens:
            page = f"/{names[0]}/" if len(names) == 1 else "/"
            _open(f"{listener.origin}{DEFAULT_PREFIX}{page}")
        listening.serve(app, listener)
    except KeyboardInterrupt:
        pass
    except TFJSError as error:
        lines = reports.printable_lines(str(error).split("\n"))
        raise click.ClickException(lines) from error


def _show_models(app: Flask, origin: str) -> Iterator[Summary]:
    """Print what is served, a model as soon as it is looked at; those that there are.

    Nothing is hashed for it.
    """
    state = states.find(app)
    empty = []
    for summary in summarize(state.catalogue):
        if summary.state == "empty":
            empty.append(summary.name)
            continue
        yield summary
        prefix = f"{origin}{states.url_of(app, state, '')}"
        click.echo(f"{summary.name}: {prefix}/{summary.name}/")
        for entry in summary.entries:
            if entry.kind is None:
                fault = f"{summary.name}/{entry.name}: {entry.fault}"
                click.echo(printable(f"Error: {fault}"), err=True)
                continue
            # The only model goes by the name that it is given without an entry.
            name = entry.name if len(summary.entries) > 1 else MAIN
            url = origin + states.url_of(app, state, f"/{summary.name}/{name}")
            script = f"{prefix}/{PATH}" if entry.needs_script else None
            click.echo(reports.loader_snippet(entry.kind, url, script, entry.is_list))
        if not summary.entries:
            click.echo(printable(f"Error: {summary.name}: {summary.fault}"), err=True)
        click.echo()
    if empty:
        more = ", …" if len(empty) > _MAX_NAMED else ""
        click.echo(f"No model in: {', '.join(empty[:_MAX_NAMED])}{more}", err=True)


def _no_models(app: Flask) -> str:
    folders = states.find(app).settings.models.folders
    lines = [
        f"There is no model yet in {', '.join(folders)}. A model is a directory with "
        "a model.json in it; one that comes is served at once."
    ]
    for path in server.keras_files(folders):
        command = server.conversion(path)
        lines.append(f"{path} is a model of Keras; convert it: {command}")
    return reports.printable_lines(lines)


def _who_may(listener: Listener, origins: tuple[str, ...]) -> Iterator[str]:
    if not listener.is_loopback:
        yield (
            "Whoever reaches this machine over the network can read all these models. "
            "Without --host only this machine can."
        )
    if not origins:
        yield (
            "Only pages of this server can load them; --allow-origin ORIGIN lets "
            "others."
        )


def _open(url: str) -> None:
    def open_() -> None:
        if not webbrowser.open(url):
            click.echo(f"No browser could be opened; open {url}", err=True)

    # Some browsers stay until they are closed.
    threading.Thread(target=open_, daemon=True).start()


if __name__ == "__main__":
    main()
