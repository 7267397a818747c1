"""When a request is answered with a page, and how one becomes a representation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from flask import current_app
from flask import request
from jinja2 import Environment
from jinja2 import PackageLoader
from jinja2 import StrictUndefined

from ..http import media_types
from ..http.representations import Header
from ..http.representations import Representation
from ..http.representations import text_representation
from ..state import State
from ..static_files import PREFIX
from ..tags import url_below

#: What the URLs that have pages answer depends on.
VARY: Header = ("Vary", "Accept")


def are_shown(found: State) -> bool:
    """Whether there are a list of models and pages."""
    index = found.settings.index
    return current_app.debug if index is None else index


def is_wanted(found: State) -> bool:
    """Whether the request is answered with a page: only if it asks for one rather than
    for JSON, since TensorFlow.js and curl ask for ``*/*``."""
    accepted = request.accept_mimetypes
    html, json = map(accepted.quality, (media_types.HTML, media_types.JSON))
    return are_shown(found) and html > json


def headers(found: State) -> list[Header]:
    """What a page comes with. Whatever a model is called, nothing of it is run."""
    policy = (
        f"default-src 'none'; script-src 'self'{_script_origin(found)}; "
        "style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'self'"
    )
    return [
        VARY,
        ("Content-Security-Policy", policy),
        ("Referrer-Policy", "no-referrer"),
    ]


def render(
    found: State, template: str, coding: str, values: Mapping[str, Any]
) -> Representation:
    """The page that *template* makes of *values*, in a content coding."""

    def static(name: str) -> str:
        return url_below(found, f"/{PREFIX}{name}")

    text = (
        _templates()
        .get_template(template)
        .render(values, static=static, list_url=url_below(found, "/"))
    )
    media_type = f"{media_types.HTML}; charset=utf-8"
    return text_representation(text.encode(), media_type, coding=coding)


@cache
def _templates() -> Environment:
    # Not those of the app, whose delimiters and escaping are its own affair.
    return Environment(
        loader=PackageLoader("flask_tfjs"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _script_origin(found: State) -> str:
    script = urlsplit(found.settings.script.src)
    if not script.netloc:
        return ""
    return f" {script.scheme or request.scheme}://{script.netloc}"
