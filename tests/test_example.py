"""The README's app, started as the README says, in a real browser."""

from __future__ import annotations

import collections.abc as cabc
import re
import subprocess
import sys
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from clients.drivers import answer_with_tensorflow
from clients.drivers import start_browser
from servers import HOST
from servers import free_port
from servers import stop

from flask_tfjs import config

ROOT = Path(__file__).parent.parent

SCRIPT, INTEGRITY = config.SCRIPT


@pytest.fixture(scope="module")
def example() -> cabc.Iterator[str]:
    """The URL of the example app."""
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "example_app", "run"]
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as log:
        try:
            assert any("Running on" in line for line in log)
            yield f"http://{HOST}:{port}"
        finally:
            stop(process)


@pytest.fixture(scope="module")
def browser() -> cabc.Iterator[t.Any]:
    with start_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: t.Any) -> cabc.Iterator[t.Any]:
    """A page that gets TensorFlow.js from the npm package in place of the network; the
    browser compares it with the integrity hash all the same."""
    page = browser.new_page(reduced_motion="reduce")
    page.route(SCRIPT, answer_with_tensorflow)
    yield page
    page.close()


def wait_for_state(page: t.Any, state: str) -> None:
    page.wait_for_selector(f"body[data-state={state}]")


def test_the_samples_are_read(page: t.Any, example: str) -> None:
    page.goto(example)
    wait_for_state(page, "ready")
    buttons = page.locator(".samples button")
    digits = [
        buttons.nth(i).get_attribute("aria-label") for i in range(buttons.count())
    ]
    assert len(digits) >= 3
    for index, label in enumerate(digits):
        digit = label[-1]
        buttons.nth(index).click()
        page.wait_for_function(
            "digit => document.querySelector('#prediction').textContent === digit",
            arg=digit,
        )


def test_a_drawn_one_is_read(page: t.Any, example: str) -> None:
    page.goto(example)
    wait_for_state(page, "ready")
    box = page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.15)
    page.mouse.down()
    page.mouse.move(
        box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.85, steps=12
    )
    page.mouse.up()
    page.wait_for_function("document.querySelector('#prediction').textContent === '1'")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (re.compile("tf.es2017.min.js"), SCRIPT),
        (re.compile("model.json"), "The server does not answer."),
    ],
)
def test_what_cannot_be_loaded_is_named(
    page: t.Any, example: str, url: re.Pattern[str], said: str
) -> None:
    page.route(url, lambda route: route.abort())
    page.goto(example)
    wait_for_state(page, "failed")
    assert said in page.locator("#failure").inner_text()


def test_the_readme_shows_this_app() -> None:
    readme = (ROOT / "README.md").read_text()
    (shown,) = re.findall(r"<!-- example_app.py -->\n```python\n(.*?)```", readme, re.S)
    assert shown == (ROOT / "example_app.py").read_text()


def test_nothing_else_of_the_example_is_served(example: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{example}/models/digits/../train/train.mjs")
    with caught.value as answer:
        assert answer.code == 404
