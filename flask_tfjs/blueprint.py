"""The blueprint: one rule for all URLs and methods below its prefix."""

from __future__ import annotations

from functools import partial
from typing import Any
from typing import cast

from flask import Blueprint
from flask import Flask
from flask import Response
from flask import request
from flask.sansio.app import App
from flask.sansio.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter
from werkzeug.routing import Rule

from . import config
from . import state
from . import tags
from . import views
from .errors import ConfigError
from .state import State


def create_blueprint(
    name: str = "tfjs",
    *,
    url_prefix: str | None = config.DEFAULT_PREFIX,
    **settings: Any,
) -> Blueprint:
    """A fresh blueprint that serves TensorFlow.js models.

    :param settings: the ``TFJS_*`` keys in lower case without the prefix; they win
        over ``app.config``. With ``models`` given, the registry, the store and
        uploads are off unless they are given too.
    :raises ConfigError: a keyword that is no setting. Wrong values are found when the
        blueprint is registered, since they may depend on the app.
    """
    config.check_overrides(settings)
    blueprint = Blueprint(name, __name__, url_prefix=url_prefix)
    blueprint.record(partial(_register, overrides=settings))
    for tag in (tags.tfjs_preload, tags.tfjs_script, tags.tfjs_url):
        blueprint.add_app_template_global(tag)
    return blueprint


class _Below(BaseConverter):
    """Nothing, or a slash and anything: what follows the blueprint's prefix."""

    part_isolating = False
    regex = r"(?s:(?:/.*)?)"


class _Anything(_Below):
    """The same for a blueprint at the root, whose rule has the slash itself."""

    part_isolating = False  # Werkzeug decides anew where a class has a regex
    regex = r"(?s:.*)"


def _register(setup: BlueprintSetupState, overrides: dict[str, Any]) -> None:
    app = setup.app
    name = f"{setup.name_prefix}.{setup.name}".lstrip(".")
    endpoint = f"{name}.serve"
    settings = config.read(
        app.config,
        overrides,
        root_path=app.root_path,
        instance_path=app.instance_path,
    )
    registered = state.make(name, endpoint, settings)
    app.extensions.setdefault(state.EXTENSION, {})[name] = registered

    def view(path: str, **others: Any) -> Response:
        return views.serve(registered, path)

    prefix = (setup.url_prefix or "").rstrip("/")
    app.url_map.converters["tfjs_below"] = _Below
    app.url_map.converters["tfjs_anything"] = _Anything
    rule = Rule(
        f"{prefix}<tfjs_below:path>" if prefix else "/<tfjs_anything:path>",
        endpoint=endpoint,
        methods=None,
        subdomain=setup.subdomain,
        host=setup.options.get("host"),
        strict_slashes=False,
        merge_slashes=False,
    )
    _refuse_twins(app, rule)
    # Not add_url_rule(): Flask would answer OPTIONS and other methods itself, before
    # a blueprint sees them, and redirect URLs with a slash more.
    app.url_map.add(rule)
    app.view_functions[endpoint] = view
    _have_the_last_word(cast(Flask, app), registered)


def _refuse_twins(app: App, rule: Rule) -> None:
    for other in app.url_map.iter_rules():
        if (other.rule, other.host, other.subdomain or None) == (
            rule.rule,
            rule.host,
            rule.subdomain or None,
        ):
            raise ConfigError(
                f"two flask_tfjs blueprints have the same URLs: {other.endpoint} and "
                f"{rule.endpoint}; give one of them another url_prefix"
            )


def _have_the_last_word(app: Flask, registered: State) -> None:
    """Let :func:`views.keep_safe` see every answer to our URLs after all hooks, also
    after one that fails: then no hook of ours would run."""
    finalize = app.finalize_request

    def finalize_request(
        rv: ResponseReturnValue | HTTPException, from_error_handler: bool = False
    ) -> Response:
        response = finalize(rv, from_error_handler)
        if request.endpoint != registered.endpoint:
            return response
        return views.keep_safe(registered, response, crashed=from_error_handler)

    vars(app)["finalize_request"] = finalize_request


#: The ready-made blueprint, configured by the ``TFJS_*`` keys of each app it is
#: registered on.
tfjs_bp = create_blueprint()
