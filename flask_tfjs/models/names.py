"""Names of models and of their main file."""

from __future__ import annotations

import re

#: The JSON that a model's directory URL answers with, where there is one.
MAIN = "model.json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

#: What :func:`is_name` asks for, in words.
NAMES = (
    "a name is 1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit"
)


def is_name(name: str) -> bool:
    """Whether *name* can name a model."""
    return _NAME.fullmatch(name) is not None
