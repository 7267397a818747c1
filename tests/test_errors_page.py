"""The page of error messages: TensorFlow.js says each of them, in Node and in Chromium,
of the files that the page blames; and of the same files behind flask_tfjs it says what
the page promises.

There, the server is what many people have: files as they lie in a directory, and the
page of the app for every URL that is no file.
"""

from __future__ import annotations

import collections.abc as cabc
import json
import re
import shutil
import struct
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest
from clients.drivers import Chromium
from clients.drivers import Node
from clients.drivers import require_packages
from clients.drivers import start_browser
from clients.drivers import start_node
from clients.saving import running
from flask import Flask
from flask import Response
from flask import send_from_directory
from models import DENSE_BYTES
from models import DENSE_WEIGHTS
from models import dense_document
from models import write_model
from reference import CLIENTS
from reference import NODE_MODULES
from servers import HOST
from servers import free_port
from werkzeug.exceptions import NotFound

from flask_tfjs import bearer_token
from flask_tfjs import create_blueprint
from flask_tfjs import cross_origin_isolated

OFFICIAL = Path(__file__).parent / "fixtures/official"
DOCS = Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "errors.md").read_text("utf-8")

SECRET = "s3cret"

#: The page of an app, which is answered in place of what is missing.
INDEX = "<!doctype html><title>a</title>"
LONG_INDEX = f"{INDEX}<p>{'Welcome. ' * 20}</p>"

Write = cabc.Callable[[Path], object]


# Reading the page


def sections() -> dict[str, str]:
    """The text below each heading of a message."""
    parts = re.split(r"^(##+) (.*)$", TEXT, flags=re.M)
    return {
        head.strip("`"): text
        for mark, head, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
        if mark == "###"
    }


SECTIONS = sections()


def says(message: str, text: str) -> bool:
    """Whether a client's text holds the message; ``…`` is what differs."""
    pattern = ".*".join(re.escape(part) for part in message.split("…"))
    return re.search(pattern, text, re.S) is not None


def promised(message: str) -> str:
    """What the page says of flask_tfjs under this heading."""
    (text,) = re.findall(
        r"^\*\*With flask_tfjs\*\*(.*?)(?=^$|\Z)", SECTIONS[message], re.M | re.S
    )
    return " ".join(text.split())


# What is wrong


def dense(**changes: t.Any) -> Write:
    def write(folder: Path) -> None:
        write_model(folder, **changes)

    return write


def without_shard(folder: Path) -> None:
    write_model(folder, document=dense_document("weights.bin"), shards={})


def in_git_lfs(folder: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\nsize 32\n"[:30]
    write_model(folder, shards={"weights.bin": pointer})


def not_there(folder: Path) -> None:
    pass


def official(name: str) -> Write:
    def write(folder: Path) -> None:
        shutil.copytree(OFFICIAL / name, folder)

    return write


def edited_by_hand(folder: Path) -> None:
    """As old answers in forums have it."""
    shutil.copytree(OFFICIAL / "deferred-h5", folder)
    path = folder / "model.json"
    path.write_text(path.read_text().replace("batch_shape", "batch_input_shape"))


def one_weight_less(folder: Path) -> None:
    manifest = [{"paths": ["weights.bin"], "weights": DENSE_WEIGHTS[:1]}]
    document = dense_document(weightsManifest=manifest)
    write_model(folder, document=document, shards={"weights.bin": DENSE_BYTES[:24]})


def of_int64(folder: Path) -> None:
    weights = [{"name": "dense/kernel", "shape": [4], "dtype": "int64"}]
    manifest = [{"paths": ["weights.bin"], "weights": weights}]
    write_model(folder, document=dense_document(weightsManifest=manifest))


def not_a_number(folder: Path) -> None:
    document = dense_document("weights.bin", userDefinedMetadata={"loss": float("nan")})
    write_model(folder, document=document)


def custom_layer(folder: Path) -> None:
    document = json.loads(json.dumps(dense_document("weights.bin")))
    layers = document["modelTopology"]["config"]["layers"]
    layers.append({"class_name": "Doubled", "config": {"name": "twice"}})
    write_model(folder, document=document)


#: The mean of the inputs along an axis that is a weight.
GRAPH = [
    {
        "name": "x",
        "op": "Placeholder",
        "attr": {
            "dtype": {"type": "DT_FLOAT"},
            "shape": {"shape": {"dim": [{"size": "2"}, {"size": "2"}]}},
        },
    },
    {
        "name": "axis",
        "op": "Const",
        "attr": {
            "dtype": {"type": "DT_INT32"},
            "value": {"tensor": {"dtype": "DT_INT32", "tensorShape": {}}},
        },
    },
    {
        "name": "mean",
        "op": "Mean",
        "input": ["x", "axis"],
        "attr": {
            "T": {"type": "DT_FLOAT"},
            "Tidx": {"type": "DT_INT32"},
            "keep_dims": {"b": False},
        },
    },
]


def graph(axis: bytes | None) -> Write:
    weights = [{"name": "axis", "shape": [], "dtype": "int32"}]
    document = {
        "format": "graph-model",
        "modelTopology": {"node": GRAPH, "versions": {"producer": 22}},
        "weightsManifest": [{"paths": ["axis.bin"], "weights": weights}],
    }
    shards = {} if axis is None else {"axis.bin": axis}
    return dense(document=document, shards=shards)


LAYERS = "await tf.loadLayersModel(url)"
RUN = "(await tf.loadGraphModel(url)).predict(tf.ones([2, 2])).dataSync()"
FACE_API = """
const folder = url.replace("/model.json", "");
await faceapi.nets.tinyFaceDetector.loadFromUri(folder);
"""
WITH_SCRIPT = f"""
await new Promise((resolve) => {{
  const script = document.createElement("script");
  script.onload = resolve;
  script.src = "/models/-/static/keras-layers.js";
  document.head.append(script);
}});
{LAYERS};
"""


@dataclass(frozen=True)
class Load:
    """Files that a client loads from both servers.

    :ivar write: the directory of the model.
    :ivar code: what the client does with the ``url`` of its JSON.
    :ivar index: the page that is answered in place of what is missing; ``""``: none.
    :ivar clients: those that say it so.
    """

    write: Write
    code: str = LAYERS
    index: str = INDEX
    clients: tuple[str, ...] = ("node", "chromium")


LOADS: dict[str, list[Load]] = {
    "byte length of Float32Array should be a multiple of 4": [
        Load(without_shard),
        Load(in_git_lfs),
    ],
    "Based on the provided shape, […], the tensor should have … values but has …": [
        Load(dense(shards={"weights.bin": DENSE_BYTES[:28]})),
    ],
    "All values in axis param must be in range […) but got axis …": [
        Load(graph(None), RUN),
    ],
    "Unsupported dtype in weight …": [Load(of_int64)],
    "Failed to parse model JSON of response from …": [
        Load(not_there),
        Load(not_a_number),
    ],
    """Unexpected token '<', "<!doctype "... is not valid JSON""": [
        Load(not_there, FACE_API, clients=("node",)),
    ],
    "Request to … failed with status code 404": [Load(not_there, index="")],
    "Cannot read properties of undefined (reading 'producer')": [
        Load(dense(), "await tf.loadGraphModel(url)")
    ],
    "Improper config format": [Load(graph(bytes(4)))],
    "An InputLayer should be passed either a `batchInputShape` or an `inputShape`.": [
        Load(official("mlp-h5")),
    ],
    "Provided weight data has no target variable: …": [
        Load(official("plain2-keras")),
        Load(edited_by_hand),
    ],
    "… of … weights are not set: …": [Load(one_weight_less)],
    "Unknown layer: …": [
        Load(official("normalization2-h5")),
        Load(custom_layer),
    ],
    "Unknown regularizer: L2": [Load(official("nested2-h5"))],
    "GRUCell does not support reset_after parameter set to true.": [
        Load(official("gru2-h5"), WITH_SCRIPT, clients=("chromium",)),
    ],
}

FLAT = [(message, load) for message, loads in LOADS.items() for load in loads]

SILENT = Load(without_shard, index=LONG_INDEX)

FLAT_LOADS = [*(load for _, load in FLAT), SILENT]


class Outcome(t.NamedTuple):
    """What came of some code in a client, and what its console said meanwhile."""

    error: str | None
    console: str = ""


class Client(t.Protocol):
    def run(self, code: str, **names: t.Any) -> Outcome: ...


class InNode:
    def __init__(self, node: Node) -> None:
        self.node = node

    def run(self, code: str, **names: t.Any) -> Outcome:
        job: t.Any = {"code": code, "names": names}
        result: t.Any = self.node.run(job)
        return Outcome(result["error"])


class InPage:
    """A page of this origin in Chromium."""

    def __init__(self, browser: t.Any, origin: str) -> None:
        self.page = Chromium(browser, f"{origin}/clients", "errors.html").page
        self.console: list[str] = []
        self.page.on("console", lambda message: self.console.append(message.text))

    def run(self, code: str, **names: t.Any) -> Outcome:
        self.console.clear()
        job = {"code": code, "names": names}
        result = self.page.evaluate("job => window.run(job)", job)
        return Outcome(result["error"], "\n".join(self.console))


@dataclass(frozen=True)
class Both:
    """Below ``/site`` files as they lie there, below ``/models`` flask_tfjs."""

    app: Flask
    url: str

    @property
    def other_origin(self) -> str:
        return self.url.replace("127.0.0.1", "localhost")

    def there(self, load: Load) -> str:
        return f"{self.url}/site/m{FLAT_LOADS.index(load)}/m/model.json"

    def here(self, load: Load) -> str:
        missing = load.write is not_there
        name = "line" if missing else f"m{FLAT_LOADS.index(load)}"
        return f"{self.url}/models/{name}/model.json"


def make_app(root: Path) -> Flask:
    app = Flask(__name__, instance_path=str(root / "instance"))
    models = {}
    for number, load in enumerate(FLAT_LOADS):
        folder = root / f"m{number}"
        folder.mkdir()
        if load.index:
            (folder / "index.html").write_text(load.index)
        load.write(folder / "m")
        if (folder / "m").exists():
            models[folder.name] = folder / "m"
    models["dense"] = write_model(root / "dense/m")
    for path in (NODE_MODULES / "tfjs-backend-wasm/dist").glob("*.wasm"):
        shutil.copy(path, root / "dense/m")
    (root / "dense/some.js").write_text("")
    blueprint = create_blueprint(
        models=models,
        store="store",
        uploads=["gesture"],
        authorize_publish=bearer_token(SECRET),
        max_upload=10_000,
    )
    app.register_blueprint(blueprint)

    @app.get("/site/<name>/<path:path>")
    def site(name: str, path: str) -> Response:
        try:
            return send_from_directory(root / name, path)
        except NotFound:
            return send_from_directory(root / name, "index.html")

    @app.get("/clients/<path:path>")
    def clients(path: str) -> Response:
        return send_from_directory(CLIENTS, path)

    @app.get("/isolated")
    @cross_origin_isolated
    def isolated() -> str:
        return "<!doctype html><title>isolated</title>"

    return app


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> cabc.Iterator[Both]:
    require_packages()
    app = make_app(tmp_path_factory.mktemp("both"))
    with running(app) as site:
        yield Both(app, site.url)


@pytest.fixture(scope="module")
def browser() -> cabc.Iterator[t.Any]:
    with start_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> cabc.Iterator[InNode]:
    with start_node(tmp_path_factory.mktemp("node"), "errors.mjs") as node:
        yield InNode(node)


@pytest.fixture(scope="module")
def chromium(browser: t.Any, both: Both) -> InPage:
    return InPage(browser, both.url)


@pytest.fixture(scope="module")
def stranger(browser: t.Any, both: Both) -> InPage:
    """A page of another origin."""
    return InPage(browser, both.other_origin)


@pytest.mark.parametrize(
    ("message", "load", "kind"),
    [(message, load, kind) for message, load in FLAT for kind in load.clients],
    ids=[f"{m[:30]}-{k}" for m, load in FLAT for k in load.clients],
)
def test_loading(
    message: str,
    load: Load,
    kind: str,
    both: Both,
    request: pytest.FixtureRequest,
) -> None:
    client: Client = request.getfixturevalue(kind)
    there = client.run(load.code, url=both.there(load))
    assert there.error is not None and says(message, there.error), there
    here = client.run(load.code, url=both.here(load))
    with both.app.test_client().get(both.here(load)) as response:
        sentence = response.get_json().get("error")
    if here.error is None:
        assert "it loads" in promised(message)
    elif sentence is None:
        assert says(message, here.error), here
        assert "the same message" in promised(message)
    else:
        said = f"{response.status_code}, `{sentence}`"
        assert said in promised(message)
        if load.code == LAYERS:
            assert f"failed with status code {response.status_code}" in here.error


@pytest.mark.parametrize("message", LOADS)
def test_nothing_else_is_promised(message: str, both: Both) -> None:
    sentences = set()
    for load in LOADS[message]:
        with both.app.test_client().get(both.here(load)) as response:
            sentences.add(response.get_json().get("error"))
    shown = re.findall(r"[45][0-9]{2}, `([^`]+)`", promised(message))
    assert set(shown) == sentences - {None}


#: Messages with tests of their own.
OTHERS: set[str] = set()

Test = t.TypeVar("Test", bound=cabc.Callable[..., None])


def about(message: str) -> cabc.Callable[[Test], Test]:
    """The heading whose message the test gets."""
    OTHERS.add(message)
    decorate: t.Any = pytest.mark.parametrize("message", [message], ids=[message[:30]])
    return t.cast("cabc.Callable[[Test], Test]", decorate)


def test_every_message_has_its_test() -> None:
    assert set(SECTIONS) == {*LOADS, *OTHERS}
    assert OTHERS.isdisjoint(LOADS)


@about("No message, and predictions that make no sense")
def test_a_page_as_weights(message: str, both: Both, node: InNode) -> None:
    page = LONG_INDEX.encode()
    code = """
      const [kernel] = (await tf.loadLayersModel(url)).getWeights();
      throw new Error(String(kernel.dataSync()[0]));
    """
    there = node.run(code, url=both.there(SILENT))
    assert there.error is not None
    assert float(there.error) == pytest.approx(struct.unpack("<f", page[:4])[0])
    with both.app.test_client().get(both.here(SILENT)) as response:
        assert f"500, `{response.get_json()['error']}`" in promised(message)


@about("Request to … failed with status code 500")
def test_what_flask_tfjs_says_itself(message: str, both: Both, node: InNode) -> None:
    (load,) = LOADS[
        "Based on the provided shape, […], the tensor should have … values but has …"
    ]
    here = node.run(LAYERS, url=both.here(load))
    assert here.error is not None and says(message, here.error)
    with both.app.test_client().get(both.here(load)) as response:
        assert f"500, `{response.get_json()['error']}`" in promised(message)


@about("Failed to parse URL from …")
def test_no_page_to_begin_from(message: str, node: InNode) -> None:
    found = node.run(LAYERS, url="/models/line/model.json")
    assert found.error is not None and says(message, found.error)
    assert "the same message" in promised(message)


@about("Unknown layer: Keras…")
def test_without_the_script_of_layers(message: str, both: Both, browser: t.Any) -> None:
    (load,) = LOADS["GRUCell does not support reset_after parameter set to true."]
    page = InPage(browser, both.url)
    without = page.run(LAYERS, url=both.here(load))
    assert without.error is not None and says(message, without.error)
    page.page.add_script_tag(url=f"{both.url}/models/-/static/keras-layers.js")
    assert page.run(LAYERS, url=both.here(load)).error is None
    page.page.close()


HEADER = "await tf.loadLayersModel(url, {requestInit: {headers: {Authorization: 'x'}}})"


@about(
    "… has been blocked by CORS policy: "
    "No 'Access-Control-Allow-Origin' header is present on the requested resource."
)
def test_another_origin(message: str, both: Both, stranger: InPage) -> None:
    there = stranger.run(LAYERS, url=f"{both.url}/site/dense/m/model.json")
    assert there.error == "Failed to fetch" and says(message, there.console)
    here = stranger.run(LAYERS, url=f"{both.url}/models/dense/model.json")
    assert here.error is None and "it loads" in promised(message)


@about("Response to preflight request doesn't pass access control check: …")
def test_a_preflight(message: str, both: Both, stranger: InPage) -> None:
    there = stranger.run(HEADER, url=f"{both.url}/site/dense/m/model.json")
    assert there.error == "Failed to fetch" and says(message, there.console)
    here = stranger.run(HEADER, url=f"{both.url}/models/dense/model.json")
    assert here.error is None and "it loads" in promised(message)


@about("Failed to fetch")
def test_no_server(message: str, both: Both, stranger: InPage) -> None:
    nobody = f"http://{HOST}:{free_port()}"
    found = stranger.run(LAYERS, url=f"{nobody}/models/dense/model.json")
    assert found.error == message
    here = stranger.run(LAYERS, url=f"{both.url}/models/dense/model.json")
    assert here.error is None and "it loads" in promised(message)


SAVE = """
const model = tf.sequential({layers: [tf.layers.dense({units, inputShape: [1]})]});
const headers = token ? {Authorization: `Bearer ${token}`} : {};
await model.save(handler ? tf.io.http(url, {requestInit: {headers}}) : url);
"""


@about("BrowserHTTPRequest.save() failed due to HTTP response status …")
@pytest.mark.parametrize("kind", ["node", "chromium"])
def test_saving(
    message: str, kind: str, both: Both, request: pytest.FixtureRequest
) -> None:
    client: Client = request.getfixturevalue(kind)

    def status(url: str, token: str = "", units: int = 1) -> str:
        found = client.run(SAVE, url=url, token=token, units=units, handler=True)
        prefix, _, _ = message.partition("…")
        return (found.error or "saved").removeprefix(prefix)

    models = f"{both.url}/models"
    assert status(f"{both.url}/site/dense/m/model.json") == "405."
    found = [
        status(f"{models}/gesture"),
        status(f"{models}/gesture", "wrong"),
        status(f"{models}/other", SECRET),
        status(f"{models}/dense", SECRET),
        status(f"{models}/gesture", SECRET, units=2000),
    ]
    assert found == [f"{row[1]}." for row in ROWS.finditer(SECTIONS[message])]
    assert status(f"{models}/gesture", SECRET) == "saved"


ROWS = re.compile(r"^\| (\d+) \|", re.M)


@about("Cannot find any save handlers for URL '…'")
def test_saving_to_a_path(message: str, both: Both, chromium: InPage) -> None:
    names = {"url": "/models/gesture", "token": SECRET, "units": 1}
    found = chromium.run(SAVE, **names, handler=False)
    assert found.error is not None and says(message, found.error)
    assert chromium.run(SAVE, **names, handler=True).error is None
    names["url"] = f"{both.url}/models/gesture"
    found = chromium.run(SAVE, **names, handler=False)
    assert found.error is not None and "status 401" in found.error


START = "tf.wasm.setWasmPaths(url); throw new Error(await tf.setBackend('wasm'))"


@about("Incorrect response MIME type. Expected 'application/wasm'.")
def test_a_page_as_wasm(message: str, both: Both, browser: t.Any) -> None:
    script = f"{both.url}/clients/node_modules/tfjs-backend-wasm/dist"

    def start(url: str) -> Outcome:
        client = InPage(browser, both.url)
        client.page.add_script_tag(url=f"{script}/tf-backend-wasm.min.js")
        outcome = client.run(START, url=url)
        client.page.close()
        return outcome

    there = start(f"{both.url}/site/m0/m/")
    assert there.error == "false" and says(message, there.console)
    also = re.findall(r'"([^"]*)"', SECTIONS[message].partition("**When**")[0])
    assert len(also) == 2
    assert [text for text in also if " ".join(text.split()) not in there.console] == []
    here = start(f"{both.url}/models/dense/")
    assert here == Outcome("true") and "it starts" in promised(message)
    with both.app.test_client().get("/models/dense/none.wasm") as response:
        assert (response.status_code, response.data) == (404, b"")


SHARED = "new SharedArrayBuffer(1)"


@about("SharedArrayBuffer is not defined")
def test_shared_memory(
    message: str, both: Both, chromium: InPage, browser: t.Any
) -> None:
    assert chromium.run(SHARED).error == message
    page = browser.new_page()
    page.goto(f"{both.url}/isolated")
    assert page.evaluate(f"({SHARED}).byteLength") == 1
    page.close()


@about("net::ERR_BLOCKED_BY_RESPONSE.NotSameOriginAfterDefaultedToSameOriginByCoep")
def test_embedding_in_an_isolated_page(
    message: str, both: Both, browser: t.Any
) -> None:
    failures: list[str] = []
    page = browser.new_page()
    page.on("requestfailed", lambda request: failures.append(request.failure))
    page.goto(f"{both.url}/isolated")
    load = """url => new Promise((resolve) => {
      const script = document.createElement("script");
      script.onload = () => resolve(true);
      script.onerror = () => resolve(false);
      script.src = url;
      document.head.append(script);
    })"""
    assert page.evaluate(load, f"{both.other_origin}/site/dense/some.js") is False
    assert failures == [message]
    script = f"{both.other_origin}/models/-/static/keras-layers.js"
    assert page.evaluate(load, script) is True
    page.close()
