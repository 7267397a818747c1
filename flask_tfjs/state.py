"""What is kept for one registered blueprint of one app."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field

from flask import Flask

from .config import Settings
from .errors import ConfigError
from .errors import InvalidModel
from .errors import printable
from .http.codings import installed
from .http.cors import Policy
from .http.representations import Representations
from .models.cache import Cache
from .models.catalogue import Catalogue
from .models.catalogue import entry_at_the_top
from .models.digests import Digests
from .models.encodings import Encodings
from .models.registry import Registry
from .models.sources import Folder
from .models.sources import Sources
from .models.store import LocalStore

logger = logging.getLogger("flask_tfjs")

EXTENSION = "tfjs"

# Reasons that are remembered as logged.
_MAX_LOGGED = 1000


@dataclass(frozen=True)
class State:
    """One registration: its settings and all that is remembered for them.

    :ivar endpoint: of the one rule that all its URLs match.
    :ivar cache: ``None`` where it is off.
    :ivar codings: the content codings that can be made here.
    :ivar ranked: the order of codings for a value of ``Accept-Encoding``.
    """

    name: str
    endpoint: str
    settings: Settings
    cors: Policy
    catalogue: Catalogue
    representations: Representations
    cache: Cache | None
    encodings: Encodings
    codings: tuple[str, ...] = field(default_factory=installed)
    ranked: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _logged: set[str] = field(default_factory=set)

    def log_fault(self, name: str, fault: InvalidModel) -> None:
        """Log why a model cannot be served."""
        model = printable(f"{name} ({self.catalogue.path(name)})")
        self.log_once(f"model {model} cannot be served: {fault}")

    def log_once(self, message: str) -> None:
        """Log an error: once, since a page that asks again and again must not fill the
        log."""
        if message in self._logged:
            return
        if len(self._logged) >= _MAX_LOGGED:
            self._logged.clear()
        self._logged.add(message)
        logger.error("%s", message)


def make(name: str, endpoint: str, settings: Settings) -> State:
    """The state for *settings*; opens no model.

    :raises ConfigError: ``TFJS_MODELS`` is one directory that is itself a model, or
        clashes with what is or may be published.
    """
    cache = None if settings.cache is None else Cache(settings.cache)
    digests = Digests(cache=cache)
    store = None if settings.store is None else LocalStore(settings.store)
    sources = _sources(settings)
    if store is not None:
        _refuse_clashes(settings, sources, store)
    catalogue = Catalogue(
        sources,
        assets=settings.assets,
        link_roots=settings.link_roots,
        digests=digests,
        repair=settings.repair,
        store=store,
    )
    return State(
        name=name,
        endpoint=endpoint,
        settings=settings,
        cors=settings.cors,
        catalogue=catalogue,
        representations=Representations(),
        cache=cache,
        encodings=Encodings(cache, digests),
    )


def find(app: Flask, blueprint: str | None = None) -> State:
    """The state of *app*'s blueprint named *blueprint*; of its only one for ``None``.

    :raises ConfigError: there is none of that name, or there are several.
    """
    states: dict[str, State] = app.extensions.get(EXTENSION, {})
    if not states:
        raise ConfigError(
            "the app has no flask_tfjs blueprint; add "
            "'app.register_blueprint(tfjs_bp)' where the app is made"
        )
    if blueprint is None and len(states) == 1:
        return next(iter(states.values()))
    if blueprint in states:
        return states[blueprint]
    names = ", ".join(states)
    if blueprint is None:
        raise ConfigError(
            f"the app has several flask_tfjs blueprints; name one: {names}"
        )
    raise ConfigError(
        f"the app has no flask_tfjs blueprint {blueprint!r}, only {names}"
    )


def url_of(app: Flask, state: State, path: str) -> str:
    """The URL of *path* below the blueprint's prefix, as a page of the app writes it.

    :param path: ``""``, or a text that starts with ``/``.
    """
    adapter = app.url_map.bind(
        app.config["SERVER_NAME"] or "localhost",
        script_name=app.config["APPLICATION_ROOT"],
    )
    return adapter.build(state.endpoint, {"path": path})


def _sources(settings: Settings) -> Sources:
    registry = Registry(settings.registry) if settings.registry else None
    for folder in settings.models.folders:
        _refuse_a_model(folder)
    folders = tuple(Folder(path) for path in settings.models.folders)
    return Sources(settings.models.named, folders, registry)


def _refuse_clashes(settings: Settings, sources: Sources, store: LocalStore) -> None:
    published = set(store.names())
    if settings.uploads != "*":
        published |= settings.uploads
    for name in sorted(published):
        if sources.is_configured(name):
            raise ConfigError(
                f"{name!r} is in TFJS_MODELS, and published or in TFJS_UPLOADS: a name "
                "is either; remove it from TFJS_MODELS, and if its directory is to be "
                f"the published one: flask tfjs publish {name} {sources.path(name)}"
            )
    # Nobody who never publishes need know where the store would be.
    if published or settings.uploads or os.path.exists(store.path):
        refuse_nesting(store, sources.configured())


def refuse_nesting(store: LocalStore, directories: Iterable[str]) -> None:
    """Refuse a store inside of a registered directory, or the reverse: a file would be
    served under two names, by two rules.

    :raises ConfigError: names both.
    """
    inner = os.path.join(os.path.realpath(store.path), "")
    for directory in directories:
        real = os.path.join(os.path.realpath(directory), "")
        if inner.startswith(real) or real.startswith(inner):
            raise ConfigError(
                f"TFJS_STORE, {store.path}, and the registered directory {directory} "
                "lie one in the other; set TFJS_STORE to another directory"
            )


def _refuse_a_model(path: str) -> None:
    name = os.path.basename(path).removesuffix(".json")
    entry = path if os.path.isfile(path) else entry_at_the_top(path)
    if entry is not None:
        raise ConfigError(
            f"TFJS_MODELS is one directory whose sub-directories are models, but "
            f"{path} is itself a model ({os.path.basename(entry)}); "
            f"write TFJS_MODELS = {{{name!r}: {path!r}}}"
        )
