"""Publish models from inside an app, and tell the app of it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from blinker import NamedSignal
from flask import current_app

from . import signals
from . import state as states
from .errors import ConfigError
from .errors import InvalidModel
from .errors import ModelNotFound
from .errors import TFJSError
from .errors import VersionNotFound
from .models import publish as publishing
from .models import retention
from .models.directory import ModelDirectory
from .models.names import MAIN
from .models.names import NAMES
from .models.names import is_name
from .models.publish import Condition
from .models.publish import Version
from .models.recutting import Progress
from .models.recutting import stage_directory
from .models.retention import Swept
from .models.staged import StagedModel
from .models.store import LocalStore
from .models.store import Staging
from .state import State

logger = logging.getLogger("flask_tfjs")


def publish(
    name: str, source: str | os.PathLike[str], *, blueprint: str | None = None
) -> Version:
    """Publish the model in *source* as the current version of *name*.

    Pages get it on their next load. Versions before stay loadable for a while.

    :param source: a directory of one model, or a model's ``.json`` file.
    :param blueprint: which of several blueprints; ``None`` is the only one.
    :raises InvalidModel: no client could load it, or something writes to it.
    :raises ModelNotFound: there is no model in it, or there are several.
    :raises ConfigError: *name* is registered, or ``TFJS_STORE`` cannot be written.
    """
    found = states.find(current_app, blueprint)
    return publish_directory(found, name, open_source(found, name, source))


def versions(name: str, *, blueprint: str | None = None) -> list[Version]:
    """The versions of *name* that are kept, the newest first.

    :raises ModelNotFound: nothing is published as *name*.
    """
    with _storing(states.find(current_app, blueprint)) as store:
        return publishing.versions(store, _checked(name))


def rollback(name: str, version: int, *, blueprint: str | None = None) -> Version:
    """Make an older version of *name* the current one again.

    :raises ModelNotFound: nothing is published as *name*.
    :raises VersionNotFound: there is no such version, or no longer.
    :raises InvalidModel: files of it were removed by hand.
    """
    found = states.find(current_app, blueprint)
    if not isinstance(version, int) or isinstance(version, bool):
        raise VersionNotFound(f"{version!r} is not the number of a version")
    with _storing(found) as store:
        restored = publishing.rollback(store, _checked(name), version)
    logger.info("%s is rolled back to version %s", name, version)
    tell(signals.model_rolled_back, found, name=name, version=version)
    return restored


def unpublish(name: str, *, blueprint: str | None = None) -> None:
    """Remove all versions of *name*. Their numbers are never given again.

    :raises ModelNotFound: nothing is published as *name*.
    """
    with _storing(states.find(current_app, blueprint)) as store:
        publishing.unpublish(store, _checked(name))


def open_source(
    found: State, name: str, source: str | os.PathLike[str]
) -> ModelDirectory:
    """The directory or file *source*, which is to be published as *name*.

    :raises ConfigError: *name* cannot be published.
    """
    if found.catalogue.sources.path(_checked(name)) is not None:
        raise ConfigError(
            f"{name!r} is registered, and a name is either registered or published; "
            f"remove it from TFJS_MODELS or by 'flask tfjs unregister {name}', then: "
            f"flask tfjs publish {name} {os.fspath(source)}"
        )
    if not os.fspath(source):
        raise ConfigError("the path is empty; write . for the current directory")
    path = os.path.abspath(os.path.expanduser(source))
    return ModelDirectory(
        os.path.basename(path),
        path,
        assets=found.settings.assets,
        link_roots=found.settings.link_roots,
        digests=found.catalogue.digests,
        label=os.fspath(source),
    )


def entry_of(directory: ModelDirectory) -> str:
    """The JSON of the one model in *directory*.

    :raises ModelNotFound: there is none, or there are several; names them.
    :raises InvalidModel: the directory is missing or unreadable.
    """
    entries = directory.entries()
    if MAIN in entries:
        return MAIN
    if not entries:
        raise ModelNotFound(f"{directory.label}: {directory.no_model()}")
    if len(entries) > 1:
        raise ModelNotFound(
            f"{directory.label} holds several models; give the file of one of them: "
            f"{', '.join(entries)}"
        )
    return entries[0]


def publish_directory(
    found: State,
    name: str,
    directory: ModelDirectory,
    progress: Progress = lambda length: None,
) -> Version:
    """Publish the model of *directory* as the current version of *name*.

    :param progress: is called with the number of bytes copied since the last call.
    :raises TFJSError: as :func:`publish`.
    """
    entry = entry_of(directory)
    with _storing(found) as store:
        states.refuse_nesting(store, found.catalogue.sources.all().values())
        with store.stage() as staging:
            model = stage_directory(directory, entry, staging, progress)
            return commit(found, store, name, staging, model)


def commit(
    found: State,
    store: LocalStore,
    name: str,
    staging: Staging,
    model: StagedModel,
    condition: Condition = lambda digest: None,
) -> Version:
    """Make *model* the current version of *name*, tell the app, and clean up.

    :raises TFJSError: it is refused; nothing has changed then.
    :raises OSError: the disk is full, or fails; nothing has changed then.
    """
    version = publishing.publish(store, name, staging, model, condition)
    logger.info("%s is published, version %s", name, version.number)
    tell(signals.model_published, found, name=name, version=version.number)
    try:
        collect(found, store, name)
        store.sweep_staging()
    except (OSError, TFJSError) as error:  # the next time will do
        logger.warning("%s was published, but not cleaned up: %s", name, error)
    return version


def collect(found: State, store: LocalStore, name: str) -> Swept:
    """Remove what no version of *name* needs any longer that is to be kept."""
    settings = found.settings
    return retention.collect(
        store, name, keep=settings.keep_versions, grace=settings.grace
    )


def collect_all(
    found: State, progress: Callable[[int], object] = lambda count: None
) -> Swept:
    """The same for all names, and what writers left that were killed.

    :param progress: is called with 1 after each name.
    """
    faults: list[str] = []
    with _storing(found) as store:
        files, byte_length = 0, store.sweep_staging()
        for name in store.folders():
            try:
                swept = collect(found, store, name)
                files += swept.files
                byte_length += swept.byte_length
            except InvalidModel as fault:
                faults.append(str(fault))
            progress(1)
    return Swept(files, byte_length, tuple(faults))


def tell(signal: NamedSignal, found: State, **facts: Any) -> None:
    """Send *signal*. What a receiver makes of it changes nothing here."""
    # The proxy has it, its declared type has not.
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    try:
        signal.send(app, blueprint=found.name, **facts)
    except Exception:
        logger.exception("a receiver of %s failed", signal.name)


def _checked(name: str) -> str:
    if not isinstance(name, str) or not is_name(name):
        raise ConfigError(f"{name!r} cannot be the name of a model: {NAMES}")
    return name


@contextlib.contextmanager
def _storing(found: State) -> Iterator[LocalStore]:
    store = found.catalogue.store
    if store is None:
        raise ConfigError(
            "TFJS_STORE is off, so nothing can be published; set it to a directory "
            "(create_blueprint(models=…) turns it off unless store= is given too)"
        )
    try:
        yield store
    except OSError as error:
        where = error.filename or store.path
        raise ConfigError(f"TFJS_STORE: {where}: {error.strerror or error}") from None
