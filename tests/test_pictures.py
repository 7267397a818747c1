"""The pictures of the documentation show the pages as they are."""

from __future__ import annotations

import base64
import typing as t
from pathlib import Path

import pytest
from clients.drivers import start_browser
from pictures import DOCS
from pictures import PICTURES
from pictures import take

# Of all shades between black and white, how far apart two pictures of one page are in
# the mean. Fonts differ between machines, times between two loads; a section more or
# less moves all that is below it.
MOST = 0.02

# Both are drawn in so few pixels that letters are grey.
COMPARE = """
async ([first, second]) => {
  const pixels = async (png) => {
    const image = new Image();
    image.src = `data:image/png;base64,${png}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [48, 64];
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, 48, 64);
    const {data} = context.getImageData(0, 0, 48, 64);
    return {size: [image.width, image.height], data};
  };
  const [a, b] = [await pixels(first), await pixels(second)];
  const sum = a.data.reduce((sum, x, i) => sum + Math.abs(x - b.data[i]), 0);
  return [a.size, b.size, sum / a.data.length / 255];
}
"""


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_of_the_page_as_it_is(name: str, tmp_path: Path) -> None:
    take(name, tmp_path / name)
    with start_browser() as browser:
        page = browser.new_page()
        kept, taken, difference = page.evaluate(
            COMPARE, [text_of(DOCS / name), text_of(tmp_path / name)]
        )
    assert kept == taken == [PICTURES[name].width, PICTURES[name].height]
    assert difference < MOST, "take it anew: python tests/pictures.py"


def test_every_picture_is_shown() -> None:
    assert {path.name for path in DOCS.glob("*.png")} == PICTURES.keys()
    pages = "".join(path.read_text("utf-8") for path in DOCS.glob("*.md"))
    for name in PICTURES:
        assert f"]({name})" in pages


def text_of(path: Path) -> t.Any:
    return base64.b64encode(path.read_bytes()).decode()
