"""The Flask app that `servers.py` starts on real servers.

What it is made of comes as JSON in an environment variable (`servers.AppSpec`), so
that any server can build it in any number of processes.
"""

from __future__ import annotations

import json
import os
import typing as t

from flask import Flask
from flask import Response

SPEC = "FLASK_TFJS_TEST_APP"


def create() -> Flask:
    spec = json.loads(os.environ[SPEC])
    app = Flask(__name__, instance_path=spec["instance_path"])
    app.config.update(spec["config"])
    if spec["token"] is not None:
        from flask_tfjs import bearer_token

        app.config["TFJS_AUTHORIZE_PUBLISH"] = bearer_token(spec["token"])

    @app.get("/ready")
    def ready() -> str:
        return str(os.getpid())

    if spec["error_pages"]:
        add_error_pages(app)

    register(app, spec["blueprints"])

    if spec["cors"]:
        from flask_cors import CORS

        CORS(app)

    if spec["compress"]:
        from flask_compress import Compress

        Compress(app)

    return app


def register(app: Flask, blueprints: list[dict[str, t.Any]] | None) -> None:
    from flask_tfjs import create_blueprint
    from flask_tfjs import tfjs_bp

    if blueprints is None:
        app.register_blueprint(tfjs_bp)
        return

    for settings in blueprints:
        app.register_blueprint(create_blueprint(**settings))


def add_error_pages(app: Flask) -> None:
    """What many apps have: a page of their own for every error, and one for what
    was not caught.
    """

    def page(error: Exception) -> tuple[str, int]:
        code = getattr(error, "code", None) or 500
        return f"<!doctype html><title>Oops</title><p>{code}</p>" + " " * 4096, code

    app.register_error_handler(Exception, page)

    @app.after_request
    def stamp(response: Response) -> Response:
        response.headers["X-Stamped"] = "yes"
        return response


if __name__ == "__main__":
    import sys

    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", int(sys.argv[1]), create(), threaded=True)
