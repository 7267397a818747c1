"""Every ``TFJS_*`` key once: its name, default, check. The app's configuration is read
here and nowhere else, and only at registration."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from typing import Literal
from typing import cast
from urllib.parse import urlsplit

from .errors import ConfigError
from .http.cors import Policy
from .models.names import NAMES
from .models.names import is_name

logger = logging.getLogger("flask_tfjs")

PREFIX = "TFJS_"

#: Where the URLs begin unless the blueprint is told otherwise.
DEFAULT_PREFIX = "/models"

#: Files beside a model that its clients fetch by a well-known name.
ASSETS = (
    "metadata.json",
    "model_meta.json",
    "labels.txt",
    "labels.json",
    "classes.txt",
    "classes.json",
    "class_names.json",
    "dict.txt",
    "vocab.txt",
    "vocab.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "anchors.json",
    "models.json",
    "assets.zip",
    "*.wasm",
)

#: TensorFlow.js for pages, pinned; the hash is that of the file in the npm package. Its
#: tf.min.js, for browsers before 2017, is larger by a third, and needs 'unsafe-eval'
#: under a Content-Security-Policy.
SCRIPT = (
    "https://cdn.jsdelivr.net/npm/@tensorflow/tfjs@4.22.0/dist/tf.es2017.min.js",
    "sha384-ODzrY1mCTIRZRerZfDIqCoTQafA1St1OwLVc9SsTefnkCF1MeIaVSZ88wuK/NKfH",
)

#: The folder of published models, relative to the instance folder.
DEFAULT_STORE = "tfjs-models"

# With models of its own a blueprint does not take part in what the app's keys set up.
_OFF_BESIDE_MODELS = MappingProxyType(
    {"registry": None, "store": None, "uploads": frozenset[str]()}
)

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s@*,A-Z]+")
_USUAL_PORTS = MappingProxyType({"http": 80, "https": 443})
_HOST = re.compile(r"[A-Za-z0-9.:_\[\]-]*")
_INTEGRITY = re.compile(r"(sha(256|384|512)-[A-Za-z0-9+/]+={0,2}\s*)+")


#: Asked for leave to publish or to read the model of that name: only ``True`` allows.
Authorize = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Script:
    """Where pages load TensorFlow.js from."""

    src: str
    integrity: str | None


@dataclass(frozen=True, slots=True)
class Models:
    """Where models lie. Paths are absolute.

    :ivar named: name -> directory or ``.json`` file.
    :ivar folders: whose sub-directories are models of their names.
    """

    named: Mapping[str, str]
    folders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """The checked configuration of one registered blueprint. Paths are absolute.

    :ivar uploads: names that may be saved to over HTTP.
    :ivar max_upload: bytes.
    :ivar grace: seconds.
    """

    models: Models
    registry: str | None
    link_roots: tuple[str, ...]
    allow_origins: Literal["*"] | frozenset[str]
    allow_credentials: bool
    assets: tuple[str, ...]
    model_max_age: int
    repair: bool
    cache: str | None
    store: str | None
    uploads: Literal["*"] | frozenset[str]
    authorize_publish: Authorize | None
    authorize_read: Authorize | None
    max_upload: int
    keep_versions: int
    grace: int
    index: bool | None
    script: Script

    @property
    def cors(self) -> Policy:
        return Policy(self.allow_origins, self.allow_credentials)

    def may_be_saved(self, name: str) -> bool:
        """Whether ``TFJS_UPLOADS`` names the model *name*."""
        return self.uploads == "*" or name in self.uploads


@dataclass(frozen=True, slots=True)
class _Places:
    """What relative paths are relative to."""

    root: str
    instance: str


_Check = Callable[[str, Any, _Places], Any]


def read(
    config: Mapping[str, Any],
    overrides: Mapping[str, Any],
    *,
    root_path: str,
    instance_path: str,
) -> Settings:
    """Read and check the settings.

    :param config: the app's configuration.
    :param overrides: keys in lower case without the prefix; they win.
    :raises ConfigError: a wrong value; names the key and the cure.
    """
    places = _Places(root_path, instance_path)
    values: dict[str, Any] = {}
    for field, (default, check) in _KEYS.items():
        key = PREFIX + field.upper()
        value = overrides.get(field, config.get(key, default))
        values[field] = check(key, value, places)
    if "models" in overrides:
        for field in _OFF_BESIDE_MODELS.keys() - overrides.keys():
            values[field] = _OFF_BESIDE_MODELS[field]
    settings = Settings(**values)
    if settings.allow_credentials and settings.allow_origins == "*":
        raise ConfigError(
            "TFJS_ALLOW_CREDENTIALS needs TFJS_ALLOW_ORIGINS to be a list: browsers "
            'refuse credentials from "*"; name the origins of your pages'
        )
    _check_uploads(settings)
    _warn_of_unknown_keys(config)
    return settings


def _check_uploads(settings: Settings) -> None:
    if not settings.uploads:
        if settings.authorize_publish is not None:
            logger.warning(
                "TFJS_AUTHORIZE_PUBLISH is set, but TFJS_UPLOADS names no model, so "
                "nothing can be saved to"
            )
        return
    if settings.store is None:
        raise ConfigError(
            "TFJS_UPLOADS needs TFJS_STORE, which is off; set it to a directory "
            "(create_blueprint(models=…) turns it off unless store= is given too)"
        )
    if settings.authorize_publish is None:
        raise ConfigError(
            "TFJS_UPLOADS needs TFJS_AUTHORIZE_PUBLISH, or anybody could replace your "
            "models; set it to flask_tfjs.bearer_token(SECRET), to a callable of your "
            "own that returns True for whoever may, or to flask_tfjs.allow_all"
        )


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Refuse keyword arguments that are no setting.

    :raises ConfigError: names the nearest setting.
    """
    for name in overrides:
        if name not in _KEYS:
            nearest = _nearest(name.removeprefix(PREFIX).lower(), _KEYS)
            raise ConfigError(f"{name!r} is not a setting{nearest}")


def _warn_of_unknown_keys(config: Mapping[str, Any]) -> None:
    known = [PREFIX + field.upper() for field in _KEYS]
    for key in config:
        if key.startswith(PREFIX) and key not in known:
            logger.warning("%s is not a setting%s", key, _nearest(key, known))


def _nearest(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean {near[0]}?" if near else ""


def _models(key: str, value: Any, places: _Places) -> Models:
    if isinstance(value, Models):
        return value
    if isinstance(value, str) and value.lstrip().startswith("{"):
        raise ConfigError(
            f"{key} is the text {value!r}; as an environment variable a mapping must "
            "be JSON, with double quotes"
        )
    if isinstance(value, (str, os.PathLike)):
        return Models(MappingProxyType({}), (_path(key, value, places.root),))
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{key} is {value!r}; give a mapping of names to directories, "
            f"or one directory of model directories"
        )
    models = {}
    for name, directory in value.items():
        if not isinstance(name, str) or not is_name(name):
            raise ConfigError(f"{key} names a model {name!r}; {NAMES}")
        models[name] = _path(f"{key}[{name!r}]", directory, places.root)
    return Models(MappingProxyType(models))


def _instance_path(key: str, value: Any, places: _Places) -> str | None:
    return None if value is None else _path(key, value, places.instance)


def _path(key: str, value: Any, base: str) -> str:
    try:
        path = os.fspath(value)
    except TypeError:
        path = None
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise ConfigError(f"{key} is {value!r}; give the path of a file or directory")
    return os.path.normpath(os.path.join(base, os.path.expanduser(path)))


def _list(key: str, value: Any, of: str) -> list[Any]:
    if isinstance(value, (str, os.PathLike)):
        return [value]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    raise ConfigError(f"{key} is {value!r}; give a list of {of}")


def _link_roots(key: str, value: Any, places: _Places) -> tuple[str, ...]:
    roots = _list(key, value, "directories")
    return tuple(os.path.realpath(_path(key, root, places.root)) for root in roots)


def _allow_origins(
    key: str, value: Any, places: _Places
) -> Literal["*"] | frozenset[str]:
    origins = _list(key, value, 'origins, "*", or []')
    if origins == ["*"]:
        return "*"
    for origin in origins:
        if not isinstance(origin, str) or not _is_origin(origin):
            raise ConfigError(
                f"{key} lists {origin!r}; an origin is written as browsers send it, "
                "such as 'https://example.org' or 'http://localhost:3000': lower "
                "case, ASCII, no usual port, no path and no slash at the end"
            )
    return frozenset(origins)


def _is_origin(text: str) -> bool:
    if not text.isascii() or not _ORIGIN.fullmatch(text):
        return False
    try:
        port = urlsplit(text).port
    except ValueError:
        return False
    return port is None or port != _USUAL_PORTS.get(urlsplit(text).scheme)


def _assets(key: str, value: Any, places: _Places) -> tuple[str, ...]:
    patterns = _list(key, value, "patterns of file names")
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern or "/" in pattern:
            raise ConfigError(
                f"{key} lists {pattern!r}; a pattern is matched on the name of a file "
                "beside a model, such as 'labels.txt' or '*.wasm'"
            )
    return tuple(patterns)


def _flag(key: str, value: Any, places: _Places) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key} is {value!r}; give True or False")
    return value


def _optional_flag(key: str, value: Any, places: _Places) -> bool | None:
    return None if value is None else _flag(key, value, places)


def _seconds(key: str, value: Any, places: _Places) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{key} is {value!r}; give whole seconds, 0 or more")
    return value


def _store(key: str, value: Any, places: _Places) -> str | None:
    if isinstance(value, str) and "://" in value:
        raise ConfigError(f"{key} is {value!r}; give the path of a directory")
    return _instance_path(key, value, places)


def _uploads(key: str, value: Any, places: _Places) -> Literal["*"] | frozenset[str]:
    names = _list(key, value, 'names of models, or "*"')
    if names == ["*"]:
        return "*"
    for name in names:
        if not isinstance(name, str) or not is_name(name):
            raise ConfigError(f"{key} lists {name!r}; {NAMES}")
    return frozenset(names)


def _authorize(key: str, value: Any, places: _Places) -> Authorize | None:
    if value is not None and not callable(value):
        raise ConfigError(
            f"{key} is {value!r}; give a callable that takes the name of a model and "
            "returns True for whoever may, such as flask_tfjs.bearer_token(SECRET)"
        )
    return cast("Authorize | None", value)


def _count(key: str, value: Any, places: _Places) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{key} is {value!r}; give a whole number, 1 or more")
    return value


def _script(key: str, value: Any, places: _Places) -> Script:
    parts = [value] if isinstance(value, str) else value
    if isinstance(parts, (list, tuple)) and 1 <= len(parts) <= 2:
        src, integrity = parts[0], parts[1] if len(parts) == 2 else None
        sound = integrity is None or (
            isinstance(integrity, str) and _INTEGRITY.fullmatch(integrity)
        )
        if isinstance(src, str) and src.strip() and sound and _is_url(src):
            return Script(src, integrity)
    raise ConfigError(
        f"{key} is {value!r}; give the URL of TensorFlow.js, or a pair of the URL and "
        "its integrity hash ('sha384-…')"
    )


def _is_url(text: str) -> bool:
    """Whether a page and its Content-Security-Policy can name the script so."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises for what is none
    except ValueError:
        return False
    return parts.scheme in ("", "http", "https") and bool(_HOST.fullmatch(parts.netloc))


_KEYS: Mapping[str, tuple[Any, _Check]] = MappingProxyType(
    {
        "models": ({}, _models),
        "registry": ("tfjs.json", _instance_path),
        "link_roots": ((), _link_roots),
        "allow_origins": ("*", _allow_origins),
        "allow_credentials": (False, _flag),
        "assets": (ASSETS, _assets),
        "model_max_age": (0, _seconds),
        "repair": (True, _flag),
        "cache": ("tfjs-cache", _instance_path),
        "store": (DEFAULT_STORE, _store),
        "uploads": ((), _uploads),
        "authorize_publish": (None, _authorize),
        "authorize_read": (None, _authorize),
        "max_upload": (512 * 1024 * 1024, _count),
        "keep_versions": (5, _count),
        "grace": (24 * 60 * 60, _seconds),
        "index": (None, _optional_flag),
        "script": (SCRIPT, _script),
    }
)
