"""What a page of the app writes to load a model: its URL, and tags around it."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Mapping
from datetime import timedelta

from flask import current_app
from flask import has_request_context
from flask import request
from flask import url_for
from markupsafe import Markup

from . import auth
from . import state
from .errors import ConfigError
from .errors import ModelNotFound
from .errors import printable
from .keras.script import PATH
from .models.names import MAIN
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
    version: int | None = None,
    expires_in: int | timedelta | None = None,
    external: bool = False,
    blueprint: str | None = None,
) -> str:
    """The URL of a model's JSON, to be given to ``loadLayersModel`` and the like.

    The model need not exist yet.

    :param name: as it is registered or published.
    :param entry: which of several models in its directory, such as ``blazeface.json``.
    :param version: which version of a published model; ``None`` is the current one.
    :param expires_in: for a signed URL, which lets whoever has it load the model, also
        where ``TFJS_AUTHORIZE_READ`` would not: for this many seconds at least and
        twice as many at most.
    :param external: whether with scheme and host.
    :param blueprint: which of several blueprints; ``None`` is the only one.
    :raises ModelNotFound: *name* cannot be the name of a model.
    :raises ConfigError: the blueprint is not there, or is one of several; or the host
        is not known outside of a request; or *version* or *expires_in* cannot be one;
        or there is no ``SECRET_KEY`` to sign with.
    """
    found = state.find(current_app, blueprint)
    return _url(found, name, _entry(entry, version), expires_in, external)


def tfjs_preload(
    name: str,
    entry: str | None = None,
    *,
    version: int | None = None,
    expires_in: int | timedelta | None = None,
    external: bool = False,
    blueprint: str | None = None,
) -> Markup:
    """The tags that let a browser fetch a model while it still reads the page.

    They belong into the ``<head>``, before all scripts. Parameters are those of
    :func:`tfjs_url`, and so must be those of the URL that the page loads.

    :returns: a tag for the model's JSON and one for each shard; that for the JSON only
        while the model is not yet hashed, which is then done in the background, and for
        models of more than :data:`MAX_PRELOADED` shards; nothing where
        ``TFJS_AUTHORIZE_READ`` refuses the page's own request and *expires_in* does not
        vouch for it; nothing, and a line in the log, where the model cannot be
        delivered. Never raises.
    """
    try:
        found = state.find(current_app, blueprint)
        entry = _entry(entry, version)
        urls = _urls_to_preload(found, name, entry, expires_in, external)
    except Exception as error:  # whatever it is, the page is worth more
        call = ", ".join(repr(part) for part in (name, entry) if part is not None)
        _log(f"tfjs_preload({call}) preloads nothing: {error}", blueprint)
        urls = []
    return Markup("\n").join(_PRELOAD.format(url) for url in dict.fromkeys(urls))


def tfjs_script(blueprint: str | None = None, *, layers: bool = False) -> Markup:
    """The ``<script>`` tag that loads TensorFlow.js into a page, from ``TFJS_SCRIPT``.

    :param blueprint: which of several blueprints; ``None`` is the only one.
    :param layers: whether to add the tag of the script of layers, which ``convert`` and
        ``show`` name where a model needs it.
    """
    found = state.find(current_app, blueprint)
    script = found.settings.script
    if script.integrity is None:
        tag = Markup('<script src="{}"></script>').format(script.src)
    else:
        tag = Markup(
            '<script src="{}" integrity="{}" crossorigin="anonymous"></script>'
        ).format(script.src, script.integrity)
    if not layers:
        return tag
    url = url_below(found, f"/{PATH}")
    return tag + Markup('\n<script src="{}"></script>').format(url)


def _entry(entry: str | None, version: int | None) -> str | None:
    if version is None:
        return entry
    if entry is not None:
        raise ConfigError(
            f"an entry ({entry!r}) and a version ({version!r}) do not go together: "
            "only published models have versions, and they have one entry; give one "
            "of the two"
        )
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ConfigError(f"the version is {version!r}; give a whole number, 1 or more")
    return f"model.v{version}.json"


def _url(
    found: State,
    name: str,
    entry: str | None,
    expires_in: int | timedelta | None,
    external: bool,
) -> str:
    if not isinstance(name, str) or not is_name(name):
        raise ModelNotFound(f"{name!r} is not the name of a model: {NAMES}")
    path = f"/{name}/{entry or MAIN}"
    if expires_in is not None:
        path = f"/{auth.SIGNED}{auth.sign(found, name, expires_in)}{path}"
    try:
        return url_below(found, path, external=external)
    except RuntimeError as error:
        raise ConfigError(
            f"the URL of {name!r} with a host is not known outside of a request; set "
            "SERVER_NAME"
        ) from error


def url_below(
    found: State,
    path: str,
    *,
    external: bool = False,
    query: Mapping[str, str] | None = None,
) -> str:
    """The URL of *path* below the prefix.

    :param path: ``""``, or a text that starts with ``/``.
    :param query: goes with it inside of a request only.
    :raises RuntimeError: the host is not known outside of a request.
    """
    if not external and not has_request_context():
        return state.url_of(current_app, found, path)
    # The prefix may have variables, too.
    ours = has_request_context() and request.endpoint == found.endpoint
    others = dict(request.view_args or {}) if ours else {}
    values = {**others, **(query or {}), "path": path}
    return url_for(found.endpoint, _external=external, **values)


def _urls_to_preload(
    found: State,
    name: str,
    entry: str | None,
    expires_in: int | timedelta | None,
    external: bool,
) -> list[str]:
    url = _url(found, name, entry, expires_in, external)
    if expires_in is None and not auth.may_read(found, name):
        return []
    delivery = found.catalogue.model(name).ready(entry)
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
