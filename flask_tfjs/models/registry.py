"""``TFJS_REGISTRY``: the file that keeps what ``flask tfjs register`` was told."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..errors import InvalidModel
from ..errors import ModelNotFound
from ..format import strict_json
from ..locks import locked
from .digests import is_settled
from .files import Identity
from .files import OpenFile
from .files import identify
from .names import is_name

logger = logging.getLogger("flask_tfjs")

_KEY = "TFJS_MODELS"


class Registry:
    """The models in a registry file, read again when the file changes.

    A file that cannot be read is logged once and the last good content stays, so that
    a slip of an editor takes no model from the air.

    :ivar fault: why the file as it is now cannot be used.
    """

    def __init__(self, path: str, clock: Callable[[], int] = time.time_ns) -> None:
        self.path = path
        self.fault: str | None = None
        self._clock = clock
        self._identity: Identity | None = None
        self._models: Mapping[str, str] = {}

    def models(self) -> Mapping[str, str]:
        """Name -> absolute path."""
        identity = identify(self.path)
        if identity is None and not os.path.lexists(self.path):
            self._identity, self._models, self.fault = None, {}, None
        elif identity is None or identity != self._identity:
            now = self._clock()
            self._read()
            settled = identity is not None and is_settled(identity.stamps, now)
            self._identity = identity if settled else None
        return self._models

    def _read(self) -> None:
        try:
            models = _models(_load(self.path), self.path)
            self._models = {n: p for n, p in models.items() if _is_sound(n, p)}
            _refuse_unsound(models, self.path)
            self.fault = None
        except ConfigError as error:
            if str(error) != self.fault:
                logger.error("%s", error)
            self.fault = str(error)


def register(path: str, name: str, model: str) -> None:
    """Write *name* -> *model*, an absolute path, into the registry file at *path*.

    The file is replaced whole; what else it holds stays.

    :raises ConfigError: the file is there and is not a registry, or cannot be written.
    """
    with _editing(path) as models:
        models[name] = model


def unregister(path: str, name: str) -> None:
    """Remove *name* from the registry file at *path*.

    :raises ModelNotFound: it is not in there.
    :raises ConfigError: the file is not a registry, or cannot be written.
    """
    missing = ModelNotFound(f"no model {name!r} is registered in {path}")
    if not os.path.lexists(path):
        raise missing  # and nothing is made for it
    with _editing(path) as models:
        if name not in models:
            raise missing
        del models[name]


@contextlib.contextmanager
def _editing(path: str) -> Iterator[dict[str, str]]:
    # A link stays one: what it leads to is replaced.
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
        # Two commands at once must not lose one another's entry. The folder is locked
        # since the file itself is replaced.
        with locked(folder):
            document = _load(path) if os.path.lexists(path) else {}
            models = dict(_models(document, path))
            _refuse_unsound(models, path)
            yield models
            _replace(path, {**document, _KEY: dict(sorted(models.items()))})
    except OSError as error:
        raise ConfigError(
            f"TFJS_REGISTRY: {path} cannot be written: {error.strerror}"
        ) from None


def _load(path: str) -> dict[str, Any]:
    try:
        with OpenFile(path) as file:
            data = file.read(0, min(file.identity.size, strict_json.MAX_BYTES + 1))
        document = strict_json.loads(data, path)
    except OSError as error:
        raise ConfigError(
            f"TFJS_REGISTRY: {path} cannot be read: {error.strerror}"
        ) from None
    except InvalidModel as error:
        raise ConfigError(
            f"TFJS_REGISTRY: {error}; mend the file or remove it"
        ) from None
    if not isinstance(document, dict):
        raise ConfigError(
            f'TFJS_REGISTRY: {path} is not {{"{_KEY}": {{name: path}}}}; '
            "mend the file or remove it"
        )
    return document


def _models(document: Mapping[str, Any], path: str) -> dict[str, Any]:
    models = document.get(_KEY, {})
    if not isinstance(models, dict):
        raise ConfigError(
            f"TFJS_REGISTRY: {_KEY} in {path} is not a mapping of names to absolute "
            "paths; mend the file or remove it"
        )
    return models


def _is_sound(name: str, path: Any) -> bool:
    if not is_name(name) or not isinstance(path, str) or "\0" in path:
        return False
    try:
        os.fsencode(path)
    except UnicodeError:
        return False
    return os.path.isabs(path)


def _refuse_unsound(models: Mapping[str, Any], path: str) -> None:
    for name, model in models.items():
        if not _is_sound(name, model):
            raise ConfigError(
                f"TFJS_REGISTRY: the entry {name!r} in {path} is not the name of a "
                "model and an absolute path; mend the file or remove it"
            )


def _replace(path: str, document: Mapping[str, Any]) -> None:
    text = json.dumps(document, indent=2) + "\n"
    fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".tfjs-")
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(path))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _mode(path: str) -> int:
    # mkstemp makes files for the owner only; the server may be another user.
    try:
        return os.stat(path).st_mode & 0o777
    except OSError:
        return 0o644
