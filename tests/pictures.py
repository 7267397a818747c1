"""The pictures of the documentation, taken of the pages themselves: ``python
tests/pictures.py`` takes them anew; test_pictures.py compares."""

from __future__ import annotations

import collections.abc as cabc
import contextlib
import sys
import threading
import typing as t
from pathlib import Path

from clients.drivers import start_browser
from flask import Flask
from reference import NODE_MODULES
from servers import HOST
from werkzeug.serving import make_server

from flask_tfjs import config
from flask_tfjs import create_blueprint

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

#: A digit 5 as the example's model knows it: how much ink there is in each of 8 x 8
#: fields. From the data it was not trained with.
FIVE = [
    *(0, 0, 11, 15, 16, 14, 2, 0),
    *(0, 1, 16, 9, 4, 4, 1, 0),
    *(0, 4, 16, 0, 0, 0, 0, 0),
    *(0, 4, 16, 12, 11, 3, 0, 0),
    *(0, 0, 6, 4, 8, 14, 1, 0),
    *(0, 0, 0, 0, 0, 13, 7, 0),
    *(0, 0, 5, 4, 4, 14, 6, 0),
    *(0, 0, 11, 16, 14, 9, 0, 0),
]


class Picture(t.NamedTuple):
    """A page of the example's model after a prediction."""

    scheme: str
    width: int
    height: int


PICTURES = {
    "model-page.png": Picture("light", 1100, 1500),
    "model-page-dark.png": Picture("dark", 420, 1300),
}


def take(name: str, path: Path) -> None:
    """Take the picture *name* and keep it as *path*."""
    picture = PICTURES[name]
    with serve() as origin, start_browser() as browser:
        page = browser.new_page(
            color_scheme=picture.scheme,
            viewport={"width": picture.width, "height": picture.height},
        )
        page.route(config.SCRIPT[0], answer_with_tensorflow)
        page.goto(f"{origin}/models/digits/")
        page.get_by_role("button", name="Load the model").click()
        wait_for_prediction(page)
        page.get_by_label("Input", exact=True).select_option("json")
        page.get_by_label("JSON", exact=True).fill(f"[{FIVE}]")
        page.get_by_role("button", name="Predict").click()
        wait_for_prediction(page)
        page.evaluate("document.activeElement.blur()")
        clip = {"x": 0, "y": 0, "width": picture.width, "height": picture.height}
        page.screenshot(path=path, full_page=True, clip=clip)


def wait_for_prediction(page: t.Any) -> None:
    page.wait_for_selector("#run[data-state=predicted]")


def answer_with_tensorflow(route: t.Any) -> None:
    route.fulfill(
        path=NODE_MODULES / "@tensorflow/tfjs/dist" / config.SCRIPT[0].split("/")[-1],
        content_type="text/javascript",
        headers={"Access-Control-Allow-Origin": "*"},
    )


@contextlib.contextmanager
def serve() -> cabc.Iterator[str]:
    app = Flask(__name__)
    models = {"digits": ROOT / "examples/digits"}
    app.register_blueprint(create_blueprint(models=models, index=True, cache=None))
    server = make_server(HOST, 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.port}"
    finally:
        server.shutdown()
        thread.join()


if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        take(name, DOCS / name)
