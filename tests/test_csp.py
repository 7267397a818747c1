"""The page under a strict Content-Security-Policy, as the documentation has it."""

from __future__ import annotations

import collections.abc as cabc
import contextlib
import gzip
import re
import runpy
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest
from clients.drivers import answer_with_tensorflow
from clients.drivers import start_browser
from clients.saving import running
from flask import Flask
from flask import Response
from models import write_model
from reference import NODE_MODULES

from flask_tfjs import config

DIST = NODE_MODULES / "@tensorflow/tfjs/dist"
TEXT = (Path(__file__).parents[1] / "docs/csp.md").read_text("utf-8")

#: The app of the page.
(CODE,) = re.findall(r"^```python\n# app.py\n(.*?)^```$", TEXT, re.M | re.S)

#: Where pages get TensorFlow.js from.
CDN, _, FILE = config.SCRIPT[0].rpartition("/")

#: What most pages elsewhere load.
USUAL = "tf.min.js"


@dataclass
class Page:
    """A page of the app, and what its console complains of."""

    page: t.Any
    complaints: list[str]

    def value(self) -> str:
        # What Playwright waits for in a page it waits for by eval().
        deadline = time.monotonic() + 5
        while (text := str(self.page.inner_text("p"))).endswith("…"):
            assert time.monotonic() < deadline, self.complaints
            time.sleep(0.02)
        return text


@pytest.fixture(scope="module")
def browser() -> cabc.Iterator[t.Any]:
    with start_browser() as browser:
        yield browser


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.chdir(tmp_path)
    layer = {
        "class_name": "Dense",
        "config": {"name": "line", "units": 1, "batch_input_shape": [None, 1]},
    }
    weights = [
        {"name": "line/kernel", "shape": [1, 1], "dtype": "float32"},
        {"name": "line/bias", "shape": [1], "dtype": "float32"},
    ]
    document = {
        "modelTopology": {
            "class_name": "Sequential",
            "config": {"name": "model", "layers": [layer]},
        },
        "weightsManifest": [{"paths": ["weights.bin"], "weights": weights}],
    }
    shards = {"weights.bin": bytes.fromhex("00000040 000080bf")}  # 2 and -1
    write_model(tmp_path / "models/line", document=document, shards=shards)
    return run(CODE)


def with_script(url: str) -> str:
    """The code with another TFJS_SCRIPT."""
    registers = "app.register_blueprint(tfjs_bp)"
    setting = f'app.config["TFJS_SCRIPT"] = {url!r}'
    code: str = CODE.replace(registers, f"{setting}\n{registers}")
    return code


def run(code: str) -> Flask:
    Path("app.py").write_text(code)
    found = runpy.run_path("app.py", run_name="app")["app"]
    assert isinstance(found, Flask)
    return found


@contextlib.contextmanager
def opened_in(browser: t.Any, app: Flask) -> cabc.Iterator[Page]:
    """With the TensorFlow.js that is installed, in place of that of the network; the
    browser compares it with the integrity hash all the same."""
    page = browser.new_page()
    page.route(f"{CDN}/*", answer_with_tensorflow)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    with running(app) as site:
        page.goto(site.url)
        yield Page(page, complaints)
        page.close()


@pytest.fixture
def opened(app: Flask, browser: t.Any) -> cabc.Iterator[Page]:
    with opened_in(browser, app) as page:
        yield page


def test_it_predicts_and_nothing_is_violated(opened: Page) -> None:
    assert opened.value() == "x = 10, y = 19"
    assert opened.complaints == []


TRAIN = """async () => {
  await tf.ready();
  const model = await tf.loadLayersModel(document.body.dataset.model);
  model.compile({optimizer: "sgd", loss: "meanSquaredError"});
  const xs = tf.tensor2d([[0], [1]]);
  await model.fit(xs, xs, {epochs: 2});
  await model.save("indexeddb://line");
  return tf.getBackend();
}"""


def test_it_trains(opened: Page) -> None:
    opened.value()
    assert opened.page.evaluate(TRAIN) in ("webgl", "cpu")
    assert [text for text in opened.complaints if "Policy" in text] == []


COMPILE = "await WebAssembly.compile(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]))"

#: What the policy is there for, and the directive that forbids it.
FORBIDDEN = {
    "fetch('https://other.example/')": "connect-src",
    "document.head.append(Object.assign(document.createElement('script'), "
    "{textContent: '0'}))": "TrustedScript",
    "document.body.innerHTML = '<img src=x>'": "TrustedHTML",
    "new Function('return 1')()": "eval",
    COMPILE: "script-src",
    "new Worker(URL.createObjectURL(new Blob([''])))": "Trusted",
    "document.head.append(Object.assign(document.createElement('link'), "
    "{rel: 'stylesheet', href: '/x.css'}))": "style-src",
}


#: Code of a tool may do what code of the page may not, until it waits.
AS_THE_PAGE = "(async () => {{ await new Promise((go) => setTimeout(go)); {} }})()"


def test_the_policy_is_in_force(opened: Page) -> None:
    opened.value()
    for code, directive in FORBIDDEN.items():
        opened.complaints.clear()
        told = opened.page.evaluate(f"{AS_THE_PAGE.format(code)}.catch(String)")
        opened.page.wait_for_timeout(100)
        assert directive in f"{told} {opened.complaints}", code


def test_wasm_needs_its_own_word(app: Flask, browser: t.Any) -> None:
    """And no other: ``'wasm-unsafe-eval'`` is not ``'unsafe-eval'``."""
    app = run(CODE.replace("script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'"))
    with opened_in(browser, app) as opened:
        opened.page.evaluate(AS_THE_PAGE.format(COMPILE))
        code = AS_THE_PAGE.format("new Function('0')")
        assert "EvalError" in opened.page.evaluate(f"{code}.catch(String)")


def test_a_copy_of_your_own(app: Flask, browser: t.Any, tmp_path: Path) -> None:
    (url,) = re.findall(r'^app.config\["TFJS_SCRIPT"\] = "(.*)"$', TEXT, re.M)
    (tmp_path / "static").mkdir()
    (tmp_path / url[1:]).symlink_to(DIST / Path(url).name)
    code = with_script(url).replace(" {TFJS}", "")
    asked: list[str] = []
    with opened_in(browser, run(code)) as opened:
        opened.page.on("request", lambda request: asked.append(request.url))
        opened.page.reload()
        assert opened.value() == "x = 10, y = 19"
    assert len(asked) > 4
    assert [one for one in asked if CDN in one] == []


def test_the_usual_file_makes_a_function_of_text(app: Flask, browser: t.Any) -> None:
    """And stops where that is forbidden."""
    code = with_script(f"{CDN}/{USUAL}").replace(FILE, USUAL)
    with opened_in(browser, run(code)) as opened:
        opened.page.wait_for_timeout(500)
        told = " ".join(opened.complaints)
    assert "violates the following Content Security Policy" in told
    assert "tf.loadLayersModel is not a function" in told


def test_the_usual_file_with_the_name_that_it_looks_for(
    app: Flask, browser: t.Any
) -> None:
    (line,) = re.findall(r"`(window\.[^`]*;)`", TEXT)
    code = with_script(f"{CDN}/{USUAL}").replace(FILE, USUAL)
    code = code.replace(
        "{{ tfjs_script() }}", '<script src="/n"></script>{{ tfjs_script() }}'
    )
    app = run(code)
    app.add_url_rule("/n", view_func=lambda: Response(line, mimetype="text/javascript"))
    with opened_in(browser, app) as opened:
        assert opened.value() == "x = 10, y = 19"
        assert opened.complaints == []


def test_the_sizes() -> None:
    files = FILE, USUAL
    sizes = [len(gzip.compress((DIST / name).read_bytes(), 9)) for name in files]
    shown = [round(size / 1000) for size in sizes]
    assert f"{shown[0]} instead of {shown[1]} kB" in " ".join(TEXT.split())
