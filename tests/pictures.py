"""The pictures of the documentation, taken of the pages themselves: ``python
tests/pictures.py`` takes them anew. In each is the digest of what the page was made of,
by which test_pictures.py tells whether that has changed since."""

from __future__ import annotations

import hashlib
import struct
import sys
import typing as t
import zlib
from pathlib import Path

from clients.drivers import answer_with_tensorflow
from clients.drivers import start_browser
from clients.saving import running
from flask import Flask

import flask_tfjs
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


_KEYWORD = b"Source\0"
_LENGTH_OF_IEND = 12


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
    with running(make_app()) as site, start_browser() as browser:
        page = browser.new_page(
            color_scheme=picture.scheme,
            viewport={"width": picture.width, "height": picture.height},
        )
        page.route(config.SCRIPT[0], answer_with_tensorflow)
        page.goto(f"{site.url}/models/digits/")
        page.get_by_role("button", name="Load the model").click()
        wait_for_prediction(page)
        page.get_by_label("Input", exact=True).select_option("json")
        page.get_by_label("JSON", exact=True).fill(f"[{FIVE}]")
        page.get_by_role("button", name="Predict").click()
        wait_for_prediction(page)
        page.evaluate("document.activeElement.blur()")
        clip = {"x": 0, "y": 0, "width": picture.width, "height": picture.height}
        png = page.screenshot(full_page=True, clip=clip)
    path.write_bytes(with_text(png, digest_of_the_page()))


def digest_of_the_page() -> str:
    """Of all files of the package that are part of the page of a model."""
    package = Path(flask_tfjs.__file__).parent
    files = [*package.glob("templates/*.html"), *package.glob("static/pages.*")]
    hasher = hashlib.sha256()
    for file in sorted(files):
        hasher.update(file.read_text("utf-8").encode())
    return hasher.hexdigest()


def with_text(png: bytes, text: str) -> bytes:
    """A picture with *text* in it, in a chunk before the last (PNG, 11.3.3.2)."""
    data = _KEYWORD + text.encode("ascii")
    end = len(png) - _LENGTH_OF_IEND
    checksum = zlib.crc32(b"tEXt" + data)
    chunk = struct.pack(">I4s", len(data), b"tEXt") + data + struct.pack(">I", checksum)
    return png[:end] + chunk + png[end:]


def text_in(png: bytes) -> str:
    """What :func:`with_text` put there."""
    _, _, rest = png[: len(png) - _LENGTH_OF_IEND].rpartition(_KEYWORD)
    return rest[:-4].decode("ascii", "replace")


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height."""
    width, height = struct.unpack_from(">II", png, 16)
    return width, height


def wait_for_prediction(page: t.Any) -> None:
    page.wait_for_selector("#run[data-state=predicted]")


def make_app() -> Flask:
    app = Flask(__name__)
    models = {"digits": ROOT / "examples/digits"}
    app.register_blueprint(create_blueprint(models=models, index=True, cache=None))
    return app


if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        take(name, DOCS / name)
