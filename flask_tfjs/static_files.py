"""The files that pages get from the package itself, below ``-/static/``."""

from __future__ import annotations

from importlib import resources

from .errors import ModelNotFound
from .http import media_types
from .http.representations import Representation
from .http.representations import text_representation

#: What their URLs begin with, below the prefix of the blueprint.
PREFIX = "-/static/"


def representation_of(name: str, coding: str) -> Representation:
    """A file in a content coding.

    :param name: as in the URL, behind :data:`PREFIX`.
    :raises ModelNotFound: the package has no such file.
    """
    folder = resources.files(__package__) / "static"
    # The name is looked up, so that no URL becomes a path.
    found = next((file for file in folder.iterdir() if file.name == name), None)
    if found is None or not found.is_file():
        raise ModelNotFound(f"{PREFIX}{name} is not a file of flask_tfjs")
    media_type = media_types.of_static(name)
    return text_representation(found.read_bytes(), media_type, coding=coding)
