"""What a page of the app writes to load a model: its URL, and tags around it."""

from __future__ import annotations

import logging
import posixpath

from flask import current_app
from flask import has_request_context
from flask import url_for
from markupsafe import Markup

from . import state
from .errors import ConfigError
from .errors import ModelNotFound
from .errors import printable
from .models.directory import MAIN
from .models.names import NAMES
from .models.names import is_name
from .state import State

logger = logging.getLogger("flask_tfjs")

#: Shards of a model that a page asks for ahead of time. More would only stand in each
#: other's way, and in that of the page.
MAX_PRELOADED = 32

_PRELOAD = Markup('<link rel="preload" as="fetch" crossorigin="anonymous" href="{}">')


def tfjs_url(
    name: str,
    entry: str | None = None,
    *,
    external: bool = False,
    blueprint: str | None = None,
) -> str:
    """The URL of a model's JSON, to be given to ``loadLayersModel`` and the like.

    The model need not exist yet.

    :param name: as it is registered.
    :param entry: which of several models in its directory, such as ``blazeface.json``.
    :param external: whether with scheme and host.
    :param blueprint: which of several blueprints; ``None`` is the only one.
    :raises ModelNotFound: *name* cannot be the name of a model.
    :raises ConfigError: the blueprint is not there, or is one of several; or the host
        is not known outside of a request.
    """
    return _url(state.find(current_app, blueprint), name, entry or MAIN, external)


def tfjs_preload(
    name: str,
    entry: str | None = None,
    *,
    external: bool = False,
    blueprint: str | None = None,
) -> Markup:
    """The tags that let a browser fetch a model while it still reads the page.

    They belong into the ``<head>``, before all scripts. Parameters are those of
    :func:`tfjs_url`, and so must be those of the URL that the page loads.

    :returns: a tag for the model's JSON and one for each shard; that for the JSON only
        while the model is not yet hashed, which is then done in the background, and for
        models of more than :data:`MAX_PRELOADED` shards; nothing, and a line in the
        log, where the model cannot be delivered. Never raises.
    """
    try:
        urls = _urls_to_preload(name, entry, external, blueprint)
    except Exception as error:  # whatever it is, the page is worth more
        call = ", ".join(repr(part) for part in (name, entry) if part is not None)
        _log(f"tfjs_preload({call}) preloads nothing: {error}", blueprint)
        urls = []
    return Markup("\n").join(_PRELOAD.format(url) for url in dict.fromkeys(urls))


def tfjs_script(blueprint: str | None = None) -> Markup:
    """The ``<script>`` tag that loads TensorFlow.js into a page, from ``TFJS_SCRIPT``.

    :param blueprint: which of several blueprints; ``None`` is the only one.
    """
    script = state.find(current_app, blueprint).settings.script
    if script.integrity is None:
        return Markup('<script src="{}"></script>').format(script.src)
    return Markup(
        '<script src="{}" integrity="{}" crossorigin="anonymous"></script>'
    ).format(script.src, script.integrity)


def _url(found: State, name: str, entry: str, external: bool) -> str:
    if not isinstance(name, str) or not is_name(name):
        raise ModelNotFound(f"{name!r} is not the name of a model: {NAMES}")
    path = f"/{name}/{entry}"
    if not external and not has_request_context():
        return state.url_of(current_app, found, path)
    try:
        return url_for(found.endpoint, path=path, _external=external)
    except RuntimeError as error:
        raise ConfigError(
            f"the URL of {name!r} with a host is not known outside of a request; set "
            "SERVER_NAME"
        ) from error


def _urls_to_preload(
    name: str, entry: str | None, external: bool, blueprint: str | None
) -> list[str]:
    found = state.find(current_app, blueprint)
    url = _url(found, name, entry or MAIN, external)
    delivery = found.catalogue.directory(name).ready(entry)
    if delivery is None or len(delivery.pieces) > MAX_PRELOADED:
        return [url]
    path, mark, query = url.partition("?")
    folder, _, _ = path.rpartition("/")
    paths = delivery.paths("" if entry is None else posixpath.dirname(entry))
    # A query is carried on to the shards (tfjs-core src/io/http.ts).
    suffix = mark + query
    return [url, *(f"{folder}/{path}{suffix}" for group in paths for path in group)]


def _log(message: str, blueprint: str | None) -> None:
    try:
        state.find(current_app, blueprint).log_once(printable(message))
    except Exception:  # also outside of an app
        logger.error("%s", printable(message))
