"""The pages that load a model, and the script of tfjs as a CDN sends it: compressed
before, and good for a year.
"""

import os

from flask import Flask
from flask import Response
from flask import send_from_directory

PAGES = os.environ["BENCHMARK_MODELS"]
YEAR = 365 * 24 * 60 * 60

app = Flask(__name__)


@app.get("/<name>.html")
def page(name: str) -> Response:
    return send_from_directory(PAGES, f"{name}.html")


@app.get("/tf.min.js")
def script() -> Response:
    response = send_from_directory(
        PAGES, "tf.min.js.gz", mimetype="text/javascript", max_age=YEAR
    )
    response.headers["Content-Encoding"] = "gzip"
    response.cache_control.immutable = True
    return response
