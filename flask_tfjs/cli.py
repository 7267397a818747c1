"""``flask tfjs …``: each command a few lines around the library. Results go to stdout,
errors to stderr; exit 0: fine, 1: a fault, 2: a wrong command."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

import click
from flask import Flask
from flask.cli import NoAppException
from flask.cli import ScriptInfo

from . import config
from . import publishing
from . import reports
from . import state as states
from .config import DEFAULT_PREFIX
from .errors import ConfigError
from .errors import InvalidModel
from .errors import ModelNotFound
from .errors import TFJSError
from .errors import printable
from .http import codings
from .keras.rewrite import Options
from .keras.script import PATH
from .models import registry
from .models.delivery import BeingWritten
from .models.delivery import Piece
from .models.digests import Digests
from .models.directory import ModelDirectory
from .models.encodings import SHARD_CODINGS
from .models.encodings import Encoding
from .models.encodings import Encodings
from .models.files import FileChanged
from .models.files import Root
from .models.findings import Finding
from .models.findings import check_model
from .models.names import MAIN
from .models.names import NAMES
from .models.names import is_name
from .models.served import ServedModel
from .models.summary import summarize
from .probe import probe
from .state import State

logger = logging.getLogger("flask_tfjs")

_WAYS_IN = "flask tfjs register NAME PATH, or flask tfjs publish NAME PATH"

# Written out, so that --help needs no NumPy.
_CODINGS = ("float16", "uint16", "uint8", "none")

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Group(click.Group):
    """Turns the package's errors into ``Error: …`` on stderr and exit 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TFJSError as error:
            lines = reports.printable_lines(str(error).split("\n"))
            raise click.ClickException(lines) from error


@dataclasses.dataclass(frozen=True)
class _Site:
    """An app with a flask_tfjs blueprint."""

    app: Flask
    state: State


@click.group(cls=_Group)
def tfjs() -> None:
    """Serve TensorFlow.js models."""
    # The commands say it all themselves, on the right stream and once.
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    click.get_current_context().call_on_close(lambda: logger.setLevel(level))


def _blueprint_option(command: _Command) -> _Command:
    return click.option(
        "--blueprint", metavar="NAME", help="Which of the app's flask_tfjs blueprints."
    )(command)


def _json_option(command: _Command) -> _Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def _force_option(command: _Command) -> _Command:
    return click.option(
        "--force", is_flag=True, help="Replace a model that is at DEST."
    )(command)


def _link_root_option(command: _Command) -> _Command:
    return click.option(
        "--link-root",
        "link_roots",
        multiple=True,
        metavar="DIRECTORY",
        help="For a path: links may lead into this directory.",
    )(command)


@tfjs.command("list")
@_blueprint_option
@_json_option
@click.pass_context
def list_(ctx: click.Context, blueprint: str | None, as_json: bool) -> None:
    """List the models of the app."""
    site = _site(ctx, blueprint)
    summaries = summarize(site.state.catalogue)
    rows = [
        reports.list_row(summary, _url(site, reports.main_path(summary)))
        for summary in summaries
    ]
    fault = site.state.catalogue.fault
    if fault is not None:
        click.echo(f"Warning: {fault}", err=True)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        click.echo(reports.list_table(rows))
    else:
        click.echo(f"No models. Add one: {_WAYS_IN}")


@tfjs.command()
@click.argument("name")
@click.argument("path")
@click.option("--force", is_flag=True, help="Even when there is no sound model.")
@_blueprint_option
@click.pass_context
def register(
    ctx: click.Context, name: str, path: str, force: bool, blueprint: str | None
) -> None:
    """Serve the directory or .json file PATH as NAME.

    The entry is kept in the file TFJS_REGISTRY; a running server notices.
    """
    if not is_name(name):
        raise click.BadParameter(NAMES, param_hint="NAME")
    site = _site(ctx, blueprint)
    if site.state.catalogue.sources.is_configured(name):
        raise ConfigError(
            f"{name!r} is in the app's TFJS_MODELS, which wins over the registry; "
            "choose another name or remove it there"
        )
    store = site.state.catalogue.store
    if store is not None and store.folder(name).is_published:
        raise ConfigError(
            f"{name!r} is published, and a name is either registered or published; "
            f"to publish this directory: flask tfjs publish {name} {path}"
        )
    directory = _directory_at(path, site.state.settings.link_roots, name)
    if store is not None and (store.names() or site.state.settings.uploads):
        states.refuse_nesting(store, [directory.path])
    if not force:
        _require_sound(directory)
    registry.register(_registry_path(site), name, directory.path)
    click.echo(f"Registered {name}: {directory.path}")


@tfjs.command()
@click.argument("name")
@_blueprint_option
@click.pass_context
def unregister(ctx: click.Context, name: str, blueprint: str | None) -> None:
    """Remove NAME from the file TFJS_REGISTRY. No file of the model is touched."""
    site = _site(ctx, blueprint)
    configured = site.state.catalogue.sources.is_configured(name)
    try:
        registry.unregister(_registry_path(site), name)
    except ModelNotFound:
        if not configured:
            raise
        raise ConfigError(
            f"{name!r} comes from the app's TFJS_MODELS, not from the registry; "
            "remove it there"
        ) from None
    click.echo(f"Unregistered {name}")
    if configured:
        click.echo(f"The app's own {name} is still served.")


@tfjs.command()
@click.argument("model", metavar="NAME_OR_PATH")
@_blueprint_option
@_link_root_option
@_json_option
@click.pass_context
def show(
    ctx: click.Context,
    model: str,
    blueprint: str | None,
    link_roots: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what a model is: kind, loader, inputs, weights, shards, bytes.

    A registered name comes first; write ./x for a path.
    """
    found_model, site = _find(ctx, model, blueprint, link_roots)
    encodings = site.state.encodings if site else Encodings(None, Digests())
    found: list[reports.ModelReport] = []
    faults: list[str] = []
    entries = _entries(found_model)
    for entry in entries:
        # The only model goes by the name that a page is given without an entry.
        shown_as = entry if len(entries) > 1 else MAIN
        try:
            url = _url(site, f"/{found_model.name}/{shown_as}")
            script = _url(site, f"/{PATH}")
            found.append(reports.describe(found_model, entry, url, script, encodings))
        except InvalidModel as fault:
            faults.append(printable(f"{found_model.label}/{entry}: {fault}"))
    if not found and not faults:
        raise ModelNotFound(f"{found_model.label}: {found_model.no_model()}")
    if as_json:
        click.echo(json.dumps([report.as_json() for report in found], indent=2))
    elif found:
        click.echo("\n\n".join(report.text() for report in found))
    if faults:
        raise click.ClickException("\n".join(faults))


@tfjs.command()
@click.argument("models", nargs=-1, metavar="[NAME_OR_PATH]...")
@_blueprint_option
@_link_root_option
@_json_option
@click.pass_context
def check(
    ctx: click.Context,
    models: tuple[str, ...],
    blueprint: str | None,
    link_roots: tuple[str, ...],
    as_json: bool,
) -> None:
    """Find everything that can go wrong when a browser loads a model.

    All registered models, or those named; write ./x for a path, which needs no app.
    Exit 1 when there is an error.
    """
    findings: list[Finding] = []
    if models:
        for model in models:
            findings += _check(*_find(ctx, model, blueprint, link_roots))
    else:
        findings += _check_site(_site(ctx, blueprint))
    if as_json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo(reports.findings(findings))
    if any(finding.level == "error" for finding in findings):
        ctx.exit(1)


@tfjs.command()
@click.argument("name")
@_blueprint_option
@_json_option
@click.pass_context
def compress(
    ctx: click.Context, name: str, blueprint: str | None, as_json: bool
) -> None:
    """Encode the shards of NAME ahead of time, in br and gzip.

    Those that become 5 % smaller or more are kept in TFJS_CACHE, and a running server
    sends them from then on to clients that take them.
    """
    site = _site(ctx, blueprint)
    if site.state.cache is None:
        raise ConfigError(
            "TFJS_CACHE is off, so nothing can be kept; set it to a directory"
        )
    model = site.state.catalogue.model(name)
    pieces: dict[str, Piece] = {}
    faults: list[str] = []
    for entry in _entries(model):
        try:
            pieces.update(model.delivery(entry).pieces)
        except InvalidModel as fault:
            faults.append(printable(f"{name}/{entry}: {fault}"))
    if not pieces and not faults:
        raise ModelNotFound(f"{name}: there are no shards to encode")
    made = _encode(site.state, model.root, pieces)
    if as_json:
        rows = [dataclasses.asdict(encoding) for encoding in made]
        click.echo(json.dumps(rows, indent=2))
    elif made:
        click.echo(reports.compressed(made))
    if "br" not in site.state.codings:
        click.echo(f"Without br, which gains more: {codings.INSTALL}", err=True)
    if faults:
        raise click.ClickException("\n".join(faults))


@tfjs.command()
@click.argument("name")
@click.argument("path")
@_blueprint_option
@click.pass_context
def publish(ctx: click.Context, name: str, path: str, blueprint: str | None) -> None:
    """Publish the model in the directory or .json file PATH as NAME.

    It is copied into TFJS_STORE, and pages get it on their next load. The versions
    before stay for a while.
    """
    with _in_app(ctx, blueprint) as site:
        directory = publishing.open_source(site.state, name, path)
        entry = publishing.entry_of(directory)
        total = directory.examine(entry).byte_length
        with _progress(total, "Publishing") as bar:
            version = publishing.publish_directory(
                site.state, name, directory, bar.update
            )
    click.echo(reports.published(name, version, _url(site, f"/{name}/{MAIN}")))


@tfjs.command()
@click.argument("name")
@_blueprint_option
@_json_option
@click.pass_context
def versions(
    ctx: click.Context, name: str, blueprint: str | None, as_json: bool
) -> None:
    """List the versions of NAME that are kept, the newest first."""
    with _in_app(ctx, blueprint) as site:
        found = publishing.versions(name, blueprint=site.state.name)
    rows = [
        reports.version_row(version, _url(site, f"/{name}/{version.file_name}"))
        for version in found
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo(reports.version_table(rows))


@tfjs.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1), metavar="N")
@_blueprint_option
@click.pass_context
def rollback(
    ctx: click.Context, name: str, version: int, blueprint: str | None
) -> None:
    """Make version N of NAME the current one again."""
    with _in_app(ctx, blueprint) as site:
        publishing.rollback(name, version, blueprint=site.state.name)
    click.echo(f"{name} is version {version} again")


@tfjs.command()
@click.argument("name")
@_blueprint_option
@click.pass_context
def unpublish(ctx: click.Context, name: str, blueprint: str | None) -> None:
    """Remove all versions of NAME from TFJS_STORE. Their numbers are not used again."""
    with _in_app(ctx, blueprint) as site:
        publishing.unpublish(name, blueprint=site.state.name)
    click.echo(f"Unpublished {name}")


@tfjs.command()
@_blueprint_option
@click.pass_context
def gc(ctx: click.Context, blueprint: str | None) -> None:
    """Remove versions and shards that are no longer to be kept from TFJS_STORE.

    That is done after each publish, too. TFJS_KEEP_VERSIONS and TFJS_GRACE say what is
    kept.
    """
    with _in_app(ctx, blueprint) as site:
        store = site.state.catalogue.store
        count = len(store.folders()) if store is not None else 0
        with _progress(count, "Cleaning up") as bar:
            swept = publishing.collect_all(site.state, bar.update)
    click.echo(reports.swept(swept))
    if swept.faults:
        raise click.ClickException("\n".join(swept.faults))


@tfjs.command()
@click.argument("source")
@click.argument("dest")
@click.option("--name", metavar="NAME", help="Of the model, in place of its own.")
@click.option(
    "--custom",
    "custom",
    multiple=True,
    metavar="CLASS",
    help="Leave layers of this class to a JavaScript class of the page's own.",
)
@click.option(
    "--fold-frozen-bn",
    is_flag=True,
    help="Write BatchNormalization with trainable=False as Rescaling, so that training "
    "in a browser leaves it alone.",
)
@click.option(
    "--stock-layers",
    is_flag=True,
    help="Refuse what needs the script of layers that the page must load, too.",
)
@_force_option
def convert(
    source: str,
    dest: str,
    name: str | None,
    custom: tuple[str, ...],
    fold_frozen_bn: bool,
    stock_layers: bool,
    force: bool,
) -> None:
    """Convert between Keras and TensorFlow.js; TensorFlow is not needed.

    \b
    model.keras or model.h5 to a directory, which tf.loadLayersModel() loads;
    a directory or a model.json to out.keras (Keras 3) or out.h5 (Keras 2).
    """
    if _is_tfjs(source):
        if name or custom or fold_frozen_bn or stock_layers:
            raise click.UsageError(
                f"{source} is a model of TensorFlow.js; the options are for one of "
                "Keras"
            )
        _to_keras(source, dest, force)
    else:
        options = Options(frozenset(custom), fold_frozen_bn, stock_layers, name)
        _to_tfjs(source, dest, options, force)


@tfjs.command()
@click.argument("source")
@click.argument("dest")
@click.option(
    "--to",
    "coding",
    type=click.Choice(_CODINGS),
    default="float16",
    show_default=True,
    help="How weights are stored.",
)
@click.option(
    "--only",
    "patterns",
    multiple=True,
    metavar="PATTERN=CODING",
    help="Another coding for the weights whose names match; the first that does wins.",
)
@_link_root_option
@_force_option
def quantize(
    source: str,
    dest: str,
    coding: str,
    patterns: tuple[str, ...],
    link_roots: tuple[str, ...],
    force: bool,
) -> None:
    """Write the model in SOURCE with smaller weights into the directory DEST."""
    by_pattern = [_pattern(text) for text in patterns]
    if not os.path.exists(source):
        raise ModelNotFound(f"there is no file or directory {source!r} here")
    from .convert.quantize import quantize

    done = quantize(
        source,
        dest,
        coding,
        by_pattern,
        force,
        assets=config.ASSETS,
        link_roots=[os.path.realpath(root) for root in link_roots],
    )
    click.echo(reports.quantized(source, dest, done))
    for warning in done.warnings:
        click.echo(printable(f"Warning: {warning}"), err=True)


def _pattern(text: str) -> tuple[str, str]:
    pattern, _, coding = text.rpartition("=")
    if not pattern or coding not in _CODINGS:
        raise click.BadParameter(
            f"{text!r} is not PATTERN=CODING, with one of {', '.join(_CODINGS)}",
            param_hint="--only",
        )
    return pattern, coding


def _is_tfjs(source: str) -> bool:
    if not os.path.exists(source):
        raise ModelNotFound(f"there is no file or directory {source!r} here")
    if os.path.isfile(os.path.join(source, "saved_model.pb")):
        raise ConfigError(
            f"{source} is a SavedModel, which keeps no layers; convert the model that "
            "it was made of, or make a graph model of it with the official converter"
        )
    return os.path.isdir(source) or source.endswith(".json")


def _to_keras(source: str, dest: str, force: bool) -> None:
    from .convert.to_keras import to_keras

    notices = to_keras(source, dest, force=force)
    click.echo(reports.converted(source, dest, os.path.getsize(dest), notices))


def _to_tfjs(source: str, dest: str, options: Options, force: bool) -> None:
    from .convert.to_tfjs import to_tfjs

    if dest.endswith((".keras", ".h5", ".hdf5", ".json")):
        raise click.UsageError(
            f"{source} becomes a directory; name one, such as "
            f"models/{os.path.splitext(os.path.basename(source))[0]}"
        )
    done = to_tfjs(source, dest, options=options, force=force)
    click.echo(reports.converted(source, dest, done.byte_length, done.notices))
    name = os.path.basename(os.path.realpath(dest))
    url = f"{DEFAULT_PREFIX}/{name}/{MAIN}"
    script = f"{DEFAULT_PREFIX}/{PATH}" if done.needs_script else None
    click.echo("\n" + reports.loader_snippet("layers-model", url, script))


def _progress(length: int, label: str) -> Any:
    return click.progressbar(length=length, label=label, file=sys.stderr)


@contextlib.contextmanager
def _in_app(ctx: click.Context, blueprint: str | None) -> Iterator[_Site]:
    site = _site(ctx, blueprint)
    with site.app.app_context():
        yield site


def _encode(state: State, root: Root, pieces: Mapping[str, Piece]) -> list[Encoding]:
    jobs = [
        (name, piece, coding)
        for name, piece in pieces.items()
        for coding in SHARD_CODINGS
        if coding in state.codings and piece.digest.length
    ]
    total = sum(piece.digest.length for _, piece, _ in jobs)
    try:
        with _progress(total, "Encoding") as bar:
            return [
                state.encodings.make(root, *job, progress=bar.update) for job in jobs
            ]
    except FileChanged as error:
        raise BeingWritten(error.name) from None
    except ImportError as error:
        raise ConfigError(f"TFJS_CACHE needs SQLite: {error}") from None
    except OSError as error:
        where = error.filename or state.settings.cache
        raise ConfigError(f"TFJS_CACHE: {where}: {error.strerror}") from None


def _check_site(site: _Site) -> Iterator[Finding]:
    catalogue = site.state.catalogue
    if catalogue.fault is not None:
        yield Finding("error", "configuration", catalogue.fault)
    names = catalogue.names()
    if not names:
        yield Finding(
            "error",
            "configuration",
            f"there is no model to check; set TFJS_MODELS, or add one: {_WAYS_IN}",
        )
    for name in names:
        if catalogue.is_twice(name):
            yield Finding(
                "error",
                name,
                "is registered and published, and the registered one is served; "
                f"unregister it, or unpublish the other: flask tfjs unpublish {name}",
            )
        yield from _check(catalogue.model(name), site)


def _check(model: ServedModel, site: _Site | None) -> Iterator[Finding]:
    yield from check_model(model)
    sound = next(model.sound_entries(), None)
    if site is not None and sound is not None:
        yield from probe(site.app, site.state, model.name, sound)


def _site(ctx: click.Context, blueprint: str | None) -> _Site:
    app = ctx.ensure_object(ScriptInfo).load_app()
    return _Site(app, states.find(app, blueprint))


def _find(
    ctx: click.Context, model: str, blueprint: str | None, link_roots: Sequence[str]
) -> tuple[ServedModel, _Site | None]:
    """What is served as *model*, with its app; or the directory at that path."""
    if is_name(model):
        try:
            site = _site(ctx, blueprint)
            return site.state.catalogue.model(model), site
        except NoAppException:
            if not os.path.exists(model):
                raise ModelNotFound(
                    f"there is no file or directory {model!r} here, and no app whose "
                    "model it could be"
                ) from None
        except ModelNotFound as error:
            if not os.path.exists(model):
                raise ModelNotFound(f"{error}, and there is no such path") from None
    return _directory_at(model, link_roots), None


def _directory_at(
    path: str, link_roots: Sequence[str] = (), name: str | None = None
) -> ModelDirectory:
    if not path:
        raise click.UsageError("a path is empty; write . for the current directory")
    label, path = path.rstrip("/"), os.path.abspath(path)
    named_after = os.path.dirname(path) if os.path.basename(path) == MAIN else path
    return ModelDirectory(
        name or os.path.basename(named_after).removesuffix(".json"),
        path,
        assets=config.ASSETS,
        link_roots=[os.path.realpath(root) for root in link_roots],
        label=os.path.dirname(label) or "." if label.endswith(".json") else label,
    )


def _entries(model: ServedModel) -> list[str]:
    try:
        return model.entries()
    except InvalidModel as fault:
        raise ConfigError(f"{model.label}: {fault.message} ({model.path})") from None


def _require_sound(directory: ModelDirectory) -> None:
    faults = []
    for entry in _entries(directory):
        try:
            directory.examine(entry)
            return
        except InvalidModel as fault:
            faults.append(str(fault))
    reason = faults[0] if faults else directory.no_model()
    raise ModelNotFound(
        f"{directory.path}: {reason}; --force registers it all the same"
    )


def _registry_path(site: _Site) -> str:
    path = site.state.settings.registry
    if path is None:
        raise ConfigError(
            "TFJS_REGISTRY is off, so nothing can be registered; set it to a path "
            "(create_blueprint(models=…) turns it off unless registry= is given too)"
        )
    return path


def _url(site: _Site | None, path: str) -> str:
    """Where a model is, or without an app would be once it is registered."""
    if site is None:
        return DEFAULT_PREFIX + path
    return states.url_of(site.app, site.state, path)
