"""An app for directories of models, and which models they mean."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import unicodedata
from collections.abc import Iterable
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from flask import Flask
from flask import redirect
from flask import url_for
from werkzeug.wrappers import Response

from . import config
from . import state
from .blueprint import create_blueprint
from .config import Models
from .errors import ConfigError
from .errors import InvalidModel
from .models.catalogue import entry_at_the_top
from .models.directory import ModelDirectory
from .models.names import is_name

# What Keras calls the files that it saves.
_KERAS = (".keras", ".h5", ".hdf5")

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def create_app(*directories: str | os.PathLike[str], **settings: Any) -> Flask:
    """The app behind ``python -m flask_tfjs DIRECTORY…``.

    The list of models is on, and at ``/`` a redirect to it. Registry, store, uploads
    and cache are off unless they are given. Nothing is read from the environment.

    :param directories: a directory that is a model, or a ``.json`` file that is one, is
        served under the name of its folder; any other directory is a folder of models,
        each under its own name. None: the current directory. Relative paths start from
        there.
    :param settings: those of :func:`create_blueprint`; *models* in place of
        *directories*.
    :raises ConfigError: a directory is not there or no model is in it, two models have
        one name, or a setting is wrong.
    """
    config.check_overrides(settings)
    if "models" in settings and directories:
        raise ConfigError("give directories, or models={name: directory}, not both")
    here = os.getcwd()
    app = Flask(
        __name__,
        root_path=here,
        instance_path=here,
        # The app has no pages of its own, and what lies here is not for everybody.
        static_folder=None,
        template_folder=None,
    )
    app.debug = False  # whatever FLASK_DEBUG says
    settings.setdefault("index", True)
    settings.setdefault("cache", None)
    if "models" not in settings:
        settings["models"] = find_models(directories or (os.curdir,))
    app.register_blueprint(create_blueprint(**settings))
    registered = state.find(app)
    for name, one, other in registered.catalogue.sources.twins:
        raise _twins(name, one, other)

    def index() -> Response:
        return redirect(url_for(registered.endpoint, path="/"))

    app.add_url_rule("/", view_func=index)
    return app


def find_models(directories: Iterable[str | os.PathLike[str]]) -> Models:
    """The models and the folders of models among *directories*.

    :raises ConfigError: one of them is neither, or two models have one name.
    """
    named: dict[str, str] = {}
    folders: dict[str, None] = {}
    for directory in directories:
        given = os.fspath(directory)
        if not given:
            raise ConfigError("a path is empty; write . for the current directory")
        path = os.path.abspath(os.path.expanduser(given))
        if not _is_model(path, given):
            folders[path] = None
            continue
        name = name_of(os.path.dirname(path) if os.path.isfile(path) else path)
        if os.path.realpath(named.setdefault(name, path)) != os.path.realpath(path):
            raise _twins(name, named[name], path)
    return Models(MappingProxyType(named), tuple(folders))


def name_of(folder: str) -> str:
    """The name of a model in *folder*: the folder's, without what no name may have."""
    base = os.path.basename(folder)
    if is_name(base):
        return base
    text = unicodedata.normalize("NFKD", base)
    ascii_only = text.encode("ascii", "ignore").decode("ascii")
    name = _NOT_IN_A_NAME.sub("-", ascii_only).strip("-._")[:128]
    return name if is_name(name) else "model"


def keras_files(folders: Iterable[str]) -> Iterator[str]:
    """The files in *folders* that Keras saved, to go by their names."""
    for folder in folders:
        with contextlib.suppress(OSError):
            names = sorted(os.listdir(folder))
            paths = (os.path.join(folder, name) for name in names)
            yield from filter(_is_of_keras, paths)


def conversion(path: str) -> str:
    """The command that makes a model of a file of Keras."""
    words = ["flask", "tfjs", "convert", path, os.path.splitext(path)[0]]
    return shlex.join(words)


def _is_model(path: str, given: str) -> bool:
    """Whether *path* is a model, not a folder of models.

    :raises ConfigError: it is neither.
    """
    if os.path.isdir(path):
        return _is_model_directory(path, given)
    if not os.path.lexists(path):
        raise ConfigError(f"there is no file or directory {given!r} here")
    if _is_of_keras(given):
        raise ConfigError(
            f"{given} is a model of Keras, which browsers cannot load; convert it "
            f"first: {conversion(given)}"
        )
    if not given.endswith(".json"):
        raise ConfigError(
            f"{given} is not a model of TensorFlow.js; give the directory in which "
            "its model.json lies"
        )
    file = ModelDirectory(os.path.basename(path), path)
    try:
        if not file.entries():
            raise ConfigError(f"{given}: {file.no_model()}")
    except InvalidModel as fault:
        raise ConfigError(f"{given}: {fault.message}") from None
    return True


def _is_model_directory(path: str, given: str) -> bool:
    try:
        names = os.listdir(path)
    except OSError as error:
        raise ConfigError(f"{given} cannot be read: {error.strerror}") from None
    if entry_at_the_top(path) is not None:
        return True
    if "saved_model.pb" in names:
        raise ConfigError(
            f"{given} is a SavedModel, which browsers cannot load; make a graph model "
            "of it with the official converter, or convert the model of Keras that it "
            "was made of: flask tfjs convert"
        )
    return False


def _is_of_keras(path: str) -> bool:
    # Keras' own folder of settings is called ".keras".
    stem, extension = os.path.splitext(os.path.basename(path))
    return bool(stem) and extension.lower() in _KERAS and not os.path.isdir(path)


def _twins(name: str, one: str, other: str) -> ConfigError:
    folders = {os.path.dirname(path) for path in (one, other) if os.path.isfile(path)}
    cure = "rename one of the folders, or start a server for each"
    if len(folders) == 1:
        cure = f"give the folder {folders.pop()} itself, which serves both"
    return ConfigError(
        f"two models would be called {name!r}: {one} and {other}; {cure}"
    )
