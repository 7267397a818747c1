"""What a page writes to load a model: URLs, and tags that never hold it up."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeApp
from conftest import grow_old
from filesystem import tick
from filesystem import time_limit
from flask import Blueprint
from flask import Flask
from flask import render_template_string
from markupsafe import Markup
from models import DENSE_BYTES
from models import LAYERS_TOPOLOGY
from models import dense_document
from models import write_model

from flask_tfjs import ConfigError
from flask_tfjs import ModelNotFound
from flask_tfjs import create_blueprint
from flask_tfjs import tags
from flask_tfjs import tfjs_bp
from flask_tfjs import tfjs_preload
from flask_tfjs import tfjs_url
from flask_tfjs.models import catalogue
from flask_tfjs.models import delivery
from flask_tfjs.models import directory as directory_module
from flask_tfjs.models import files

HALVES = {"a.bin": DENSE_BYTES[:16], "b.bin": DENSE_BYTES[16:]}
TAG = re.compile(
    '<link rel="preload" as="fetch" crossorigin="anonymous" href="([^"<>]*)">'
)


@pytest.fixture(autouse=True)
def never_hang() -> Iterator[None]:
    with time_limit(30):
        yield


def urls(tags: Markup) -> list[str]:
    """What the tags preload; nothing else may be among them."""
    assert isinstance(tags, Markup)
    found = [unescape(url) for url in TAG.findall(tags)]
    assert TAG.sub("", tags).strip() == ""
    return found


def preload(app: Flask, *arguments: Any, **options: Any) -> list[str]:
    with app.test_request_context():
        return urls(tfjs_preload(*arguments, **options))


def ready(app: Flask, *arguments: Any, count: int = 2, **options: Any) -> list[str]:
    """The same once the model is hashed, which a page does not wait for."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = preload(app, *arguments, **options)
        if len(found) >= count:
            return found
        time.sleep(0.01)
    raise AssertionError(f"still {found}")


def asked_for(app: Flask, url: str) -> list[str]:
    """The URLs that TensorFlow.js fetches to load *url*."""
    with app.test_client().get(url) as response:
        assert response.status_code == 200, response.data
        document = response.get_json()
    groups = document if isinstance(document, list) else document["weightsManifest"]
    folder = url.rpartition("/")[0]
    return [url, *(f"{folder}/{path}" for group in groups for path in group["paths"])]


# URLs


@pytest.mark.parametrize(
    ("name", "entry", "url"),
    [
        ("dense", None, "/models/dense/model.json"),
        ("dense", "model.json", "/models/dense/model.json"),
        ("dense", "blazeface.json", "/models/dense/blazeface.json"),
        ("dense", "v2/model.json", "/models/dense/v2/model.json"),
        ("not-there.yet", None, "/models/not-there.yet/model.json"),
        ("dense", "a b.json", "/models/dense/a%20b.json"),
        ("dense", "größe.json", "/models/dense/gr%C3%B6%C3%9Fe.json"),
        ("dense", "a?b#c%20.json", "/models/dense/a%3Fb%23c%2520.json"),
    ],
)
def test_url(app: Flask, name: str, entry: str | None, url: str) -> None:
    with app.app_context():
        assert tfjs_url(name, entry) == url
    with app.test_request_context("/some/page?with=query"):
        assert tfjs_url(name, entry) == url
        assert tfjs_url(name, entry, external=True) == f"http://localhost{url}"
        template = "{{ tfjs_url(name, entry) }}"
        shown = render_template_string(template, name=name, entry=entry)
        assert unescape(shown) == url


@pytest.mark.parametrize("entry", [None, "a b.json", "v2/größe.json", "a?b#c%20.json"])
@pytest.mark.parametrize("outside", [True, False])
def test_the_url_leads_there(
    app: Flask, tmp_path: Path, entry: str | None, outside: bool
) -> None:
    write_model(tmp_path / "dense", entry=entry or "model.json")
    with app.app_context() if outside else app.test_request_context():
        url = tfjs_url("dense", entry)
    assert app.test_client().get(url).status_code == 200


def test_below_another_application(app: Flask) -> None:
    root = {"SCRIPT_NAME": "/app", "wsgi.url_scheme": "https", "HTTP_HOST": "h:8443"}
    with app.test_request_context(environ_overrides=root):
        assert tfjs_url("dense") == "/app/models/dense/model.json"
        found = tfjs_url("dense", external=True)
        assert found == "https://h:8443/app/models/dense/model.json"
        assert urls(tfjs_preload("dense"))[0] == "/app/models/dense/model.json"


@pytest.mark.parametrize(
    ("config", "url", "external"),
    [
        ({}, "/models/dense/model.json", None),
        (
            {"SERVER_NAME": "example.org"},
            "/models/dense/model.json",
            "http://example.org/models/dense/model.json",
        ),
        (
            {"SERVER_NAME": "example.org:81", "PREFERRED_URL_SCHEME": "https"},
            "/models/dense/model.json",
            "https://example.org:81/models/dense/model.json",
        ),
        ({"APPLICATION_ROOT": "/app"}, "/app/models/dense/model.json", None),
        (
            {"SERVER_NAME": "example.org", "APPLICATION_ROOT": "/app"},
            "/app/models/dense/model.json",
            "http://example.org/app/models/dense/model.json",
        ),
    ],
)
def test_outside_of_a_request(
    make_app: MakeApp, config: dict[str, str], url: str, external: str | None
) -> None:
    with make_app(**config).app_context():
        assert tfjs_url("dense") == url
        if external is None:
            with pytest.raises(ConfigError, match="set SERVER_NAME"):
                tfjs_url("dense", external=True)
        else:
            assert tfjs_url("dense", external=True) == external


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "-", "a b", "ä", "a\n", "x" * 129, "<b>"]
)
def test_invalid_names(app: Flask, name: str) -> None:
    with app.app_context(), pytest.raises(ModelNotFound, match="is not the name"):
        tfjs_url(name)


def test_a_version(app: Flask) -> None:
    with app.app_context():
        assert tfjs_url("dense", version=7) == "/models/dense/model.v7.json"
        template = "{{ tfjs_url('dense', version=12, external=False) }}"
        shown = render_template_string(template)
        assert shown == "/models/dense/model.v12.json"


@pytest.mark.parametrize(
    ("entry", "version", "reason"),
    [
        (None, 0, "the version is 0; give a whole number"),
        (None, -1, "whole number"),
        (None, True, "whole number"),
        (None, "7", "whole number"),
        (None, 7.0, "whole number"),
        ("model.json", 7, "an entry .* and a version .* do not go together"),
        ("", 7, "do not go together"),
    ],
)
def test_what_is_no_version(
    app: Flask,
    caplog: pytest.LogCaptureFixture,
    entry: str | None,
    version: Any,
    reason: str,
) -> None:
    with app.app_context(), pytest.raises(ConfigError, match=reason):
        tfjs_url("dense", entry, version=version)
    assert preload(app, "dense", entry, version=version) == []
    assert re.search(reason, caplog.text)


def test_without_a_blueprint() -> None:
    with Flask(__name__).app_context():
        with pytest.raises(ConfigError, match="no flask_tfjs blueprint"):
            tfjs_url("dense")
        assert tfjs_preload("dense") == ""


def test_several_blueprints(tmp_path: Path) -> None:
    models = {"dense": write_model(tmp_path / "dense")}
    app = Flask(__name__, instance_path=str(tmp_path / "instance"))
    for name in ("one", "two"):
        app.register_blueprint(
            create_blueprint(name, url_prefix=f"/{name}", models=models)
        )
    grow_old(app)
    with app.test_request_context():
        assert tfjs_url("dense", blueprint="two") == "/two/dense/model.json"
        for blueprint in (None, "three"):
            with pytest.raises(ConfigError, match="one, two"):
                tfjs_url("dense", blueprint=blueprint)
            assert tfjs_preload("dense", blueprint=blueprint) == ""
    found = ready(app, "dense", blueprint="two")
    assert found == asked_for(app, "/two/dense/model.json")


@pytest.mark.parametrize(
    ("prefix", "url"),
    [
        ("", "/dense/model.json"),
        ("/", "/dense/model.json"),
        (None, "/dense/model.json"),
        ("/deep/er/", "/deep/er/dense/model.json"),
    ],
)
def test_prefixes(tmp_path: Path, prefix: str | None, url: str) -> None:
    models = {"dense": write_model(tmp_path / "dense")}
    app = Flask(__name__, instance_path=str(tmp_path / "instance"))
    app.register_blueprint(create_blueprint(url_prefix=prefix, models=models))
    grow_old(app)
    with app.app_context():
        assert tfjs_url("dense") == url
    with app.test_request_context():
        assert tfjs_url("dense") == url
        assert tfjs_url("dense", external=True) == f"http://localhost{url}"
    assert ready(app, "dense") == asked_for(app, url)


def test_nested_blueprints(tmp_path: Path) -> None:
    app = Flask(__name__, instance_path=str(tmp_path / "instance"))
    app.config["TFJS_MODELS"] = {"dense": write_model(tmp_path / "dense")}
    parent = Blueprint("site", __name__, url_prefix="/site")
    parent.register_blueprint(tfjs_bp)
    app.register_blueprint(parent)
    grow_old(app)
    url = "/site/models/dense/model.json"
    with app.app_context():
        assert tfjs_url("dense") == url
        assert tfjs_url("dense", blueprint="site.tfjs") == url
    assert ready(app, "dense") == asked_for(app, url)


# Preload


def test_what_a_page_gets(app: Flask) -> None:
    grow_old(app)
    ready(app, "dense")
    with app.test_request_context():
        shown = render_template_string("<head>{{ tfjs_preload('dense') }}</head>")
    json, shard = asked_for(app, "/models/dense/model.json")
    assert shown == (
        '<head><link rel="preload" as="fetch" crossorigin="anonymous" '
        f'href="{json}">\n<link rel="preload" as="fetch" crossorigin="anonymous" '
        f'href="{shard}"></head>'
    )


@pytest.mark.parametrize("age", [lambda app: None, grow_old], ids=["young", "old"])
def test_the_json_until_it_is_hashed(app: Flask, age: Callable[[Flask], None]) -> None:
    age(app)
    assert preload(app, "dense") == ["/models/dense/model.json"]
    grow_old(app)
    found = ready(app, "dense")
    assert found == asked_for(app, "/models/dense/model.json")


def test_known_from_a_request(app: Flask) -> None:
    grow_old(app)
    found = asked_for(app, "/models/dense/model.json")
    assert preload(app, "dense") == found


@pytest.mark.parametrize("entry", ["v2/model.json", "v2/a b.json", "größe.json"])
@pytest.mark.parametrize("named", [True, False], ids=["named", "only one"])
def test_entries(make_app: MakeApp, tmp_path: Path, entry: str, named: bool) -> None:
    """Without a name, the URL that the page loads is that of the only entry too."""
    write_model(tmp_path / "m", entry=entry, shards=HALVES)
    app = make_app(TFJS_MODELS={"m": tmp_path / "m"})
    grow_old(app)
    arguments = ("m", entry) if named else ("m",)
    with app.test_request_context():
        url = tfjs_url(*arguments)
    assert ready(app, *arguments, count=3) == asked_for(app, url)


def test_preload_of_a_version(make_app: MakeApp, tmp_path: Path) -> None:
    write_model(tmp_path / "m", entry="model.v7.json", shards=HALVES)
    write_model(tmp_path / "m")
    app = make_app(TFJS_MODELS={"m": tmp_path / "m"})
    grow_old(app)
    found = ready(app, "m", count=3, version=7)
    assert found == asked_for(app, "/models/m/model.v7.json")


def test_several_entries(
    make_app: MakeApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "ab":
        write_model(tmp_path / "m", entry=f"{name}.json")
    app = make_app(TFJS_MODELS={"m": tmp_path / "m"})
    grow_old(app)
    assert ready(app, "m", "a.json") == asked_for(app, "/models/m/a.json")
    while preload(app, "m"):
        time.sleep(0.01)
    assert "holds several models" in caplog.text
    # And when there is one only.
    (tmp_path / "m" / "b.json").unlink()
    assert ready(app, "m") == asked_for(app, "/models/m/model.json")


def test_external(app: Flask) -> None:
    grow_old(app)
    ready(app, "dense")
    with app.test_request_context(base_url="https://models.example.org/"):
        found = urls(tfjs_preload("dense", external=True))
    local = asked_for(app, "/models/dense/model.json")
    assert found == [f"https://models.example.org{url}" for url in local]


def test_a_shard_named_twice(make_app: MakeApp, tmp_path: Path) -> None:
    """One request, so one tag."""
    weights = [{"name": "w", "shape": [16], "dtype": "float32"}]
    document = {"weightsManifest": [{"paths": ["w.bin"] * 2, "weights": weights}]}
    write_model(tmp_path / "m", document=document, shards={"w.bin": DENSE_BYTES})
    app = make_app(TFJS_MODELS={"m": tmp_path / "m"})
    grow_old(app)
    assert len(ready(app, "m")) == 2


@pytest.mark.parametrize(("count", "tags"), [(32, 33), (33, 1)])
def test_many_shards(make_app: MakeApp, tmp_path: Path, count: int, tags: int) -> None:
    shards = {f"{i}.bin": bytes([i]) * 4 for i in range(count)}
    weights = [{"name": "w", "shape": [count], "dtype": "float32"}]
    document = {"weightsManifest": [{"paths": list(shards), "weights": weights}]}
    write_model(tmp_path / "m", document=document, shards=shards)
    app = make_app(TFJS_MODELS={"m": tmp_path / "m"})
    grow_old(app)
    asked = asked_for(app, "/models/m/model.json")
    assert len(asked) == count + 1
    assert preload(app, "m") == asked[:tags]


def test_slices_of_a_repaired_model(make_app: MakeApp, tmp_path: Path) -> None:
    shards = {"a.bin": DENSE_BYTES[:8], "b.bin": DENSE_BYTES[8:]}
    write_model(tmp_path / "m", shards=shards)
    app = make_app(TFJS_MODELS={"m": tmp_path / "m"})
    grow_old(app)
    found = ready(app, "m", count=4)
    assert found == asked_for(app, "/models/m/model.json")


def test_a_model_that_changes(app: Flask, tmp_path: Path) -> None:
    grow_old(app)
    before = ready(app, "dense")
    (tmp_path / "dense" / "weights.bin").write_bytes(DENSE_BYTES[::-1])
    assert preload(app, "dense") == before[:1]
    after = ready(app, "dense")
    assert after[0] == before[0] and after[1] != before[1]


def test_escaping(make_app: MakeApp, tmp_path: Path) -> None:
    entry = "\"><script>alert('&amp;')<.json"
    write_model(tmp_path / "m", entry=entry)
    app = make_app(TFJS_MODELS={"m": tmp_path / "m"})
    grow_old(app)
    asked = asked_for(app, "/models/m/%22%3E%3Cscript%3Ealert('&amp;')%3C.json")
    found = ready(app, "m", entry)
    assert len(found) == 2
    assert [app.test_client().get(url).status_code for url in found] == [200, 200]
    assert found[1] == asked[1]
    with app.test_request_context():
        shown = render_template_string("{{ tfjs_preload('m', e) }}", e=entry)
        assert "<script" not in shown and urls(Markup(shown)) == found


# Where there is nothing to preload


def broken(directory: Path) -> None:
    (directory / "weights.bin").write_bytes(b"short")


def unloadable(directory: Path) -> None:
    (directory / "model.json").write_text("{")


def no_model(directory: Path) -> None:
    (directory / "model.json").write_text("{}")


def removed(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (broken, "weights.bin: has 5 bytes"),
        (unloadable, "model.json: "),
        (no_model, "'dense' has no model 'model.json'"),
        (removed, "the directory cannot be read"),
    ],
)
def test_what_cannot_be_delivered(
    app: Flask,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path], None],
    reason: str,
) -> None:
    """One line in the log, however often the page is shown."""
    spoil(tmp_path / "dense")
    grow_old(app)
    while preload(app, "dense", "model.json"):
        time.sleep(0.01)
    for _ in range(3):
        assert preload(app, "dense", "model.json") == []
    (record,) = caplog.records
    call = "tfjs_preload('dense', 'model.json')"
    assert record.message.startswith(f"{call} preloads nothing: ")
    assert reason in record.message
    assert str(tmp_path) not in record.message


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("unknown",), "there is no model 'unknown'"),
        (("a/b",), "'a/b' is not the name of a model"),
        (("",), "'' is not the name of a model"),
        (("dense", "other.json"), "'dense' has no model 'other.json'"),
        (("dense", "weights.bin"), "'dense' has no model 'weights.bin'"),
        (("dense", "../dense/model.json"), "'dense' has no model"),
        (("dense", "/model.json"), "'dense' has no model"),
        (("dense\n\x1b[31m",), "is not the name of a model"),
    ],
)
def test_what_is_not_there(
    app: Flask,
    caplog: pytest.LogCaptureFixture,
    arguments: tuple[str, ...],
    reason: str,
) -> None:
    for _ in range(3):
        assert preload(app, *arguments) == []
    (record,) = caplog.records
    assert reason in record.message and record.message.isprintable()


@pytest.mark.parametrize("spoil", [broken, no_model, removed])
def test_it_is_mended(
    app: Flask, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    grow_old(app)
    spoil(tmp_path / "dense")
    while preload(app, "dense", "model.json"):
        time.sleep(0.01)
    write_model(tmp_path / "dense")
    assert len(ready(app, "dense", "model.json")) == 2


@pytest.mark.parametrize(
    "error", [RuntimeError("odd\n"), OSError(24, "too many files"), KeyError("x")]
)
@pytest.mark.parametrize("place", ["find", "url", "ready"])
def test_it_never_raises(
    app: Flask,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
    error: Exception,
) -> None:
    def fail(*arguments: Any, **more: Any) -> Any:
        raise error

    if place == "ready":
        monkeypatch.setattr(directory_module.ModelDirectory, "ready", fail)
    else:
        monkeypatch.setattr(tags, "_url", fail)
    if place == "find":
        monkeypatch.setattr(catalogue.Catalogue, "model", fail)
    assert [preload(app, "dense") for _ in range(2)] == [[], []]
    (record,) = caplog.records
    assert record.message.isprintable()


@pytest.mark.parametrize(
    "arguments", [(None,), (7,), ("dense", 7), ("dense", b"x"), (["dense"],)]
)
def test_what_is_no_text(app: Flask, arguments: tuple[Any, ...]) -> None:
    assert preload(app, *arguments) == []


def test_outside_of_a_request_too(app: Flask) -> None:
    grow_old(app)
    ready(app, "dense")
    with app.app_context():
        assert len(urls(tfjs_preload("dense"))) == 2
        assert urls(tfjs_preload("dense", external=True)) == []


# What a page does not wait for


def test_no_model_file_is_opened(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    real = files.OpenFile.__init__

    def watched(self: files.OpenFile, path: str) -> None:
        opened.append(threading.get_ident())
        real(self, path)

    monkeypatch.setattr(files.OpenFile, "__init__", watched)
    grow_old(app)
    ready(app, "dense")
    (tmp_path / "dense" / "weights.bin").write_bytes(DENSE_BYTES[::-1])
    ready(app, "dense")
    assert opened and threading.get_ident() not in opened


class Held:
    """Whoever judges a model waits until :meth:`go_on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.judged: list[str] = []
        self.threads: set[int] = set()
        self._go_on = threading.Event()
        monkeypatch.setattr(directory_module, "judge", self._judge)

    def _judge(
        self, root: files.Root, entry: str, *rest: Any, **more: Any
    ) -> delivery.Verdict:
        self.judged.append(entry)
        self.threads.add(threading.get_ident())
        self._go_on.wait(20)
        return delivery.judge(root, entry, *rest, **more)

    def go_on(self) -> None:
        self._go_on.set()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(monkeypatch)
    yield held
    held.go_on()


@pytest.mark.parametrize("entry", [None, "model.json", "v2/model.json"])
def test_a_page_is_shown_at_once(
    app: Flask, tmp_path: Path, held: Held, entry: str | None
) -> None:
    """However long hashing takes; and it is done once for all pages."""
    write_model(tmp_path / "dense", entry=entry or "model.json")
    grow_old(app)
    started, threads = time.monotonic(), threading.active_count()
    for _ in range(20):
        assert len(preload(app, "dense", entry)) == 1
    assert time.monotonic() - started < 1
    assert threading.active_count() < threads + 5
    while not held.judged:
        time.sleep(0.01)
    assert held.judged == [entry or "model.json"]
    assert threading.get_ident() not in held.threads
    held.go_on()
    ready(app, "dense", entry)
    assert held.judged == [entry or "model.json"]


def test_a_request_and_a_page_share_the_work(app: Flask, held: Held) -> None:
    grow_old(app)
    asking = threading.Thread(target=asked_for, args=(app, "/models/dense/model.json"))
    asking.start()
    while not held.judged:
        time.sleep(0.01)
    assert len(preload(app, "dense")) == 1
    held.go_on()
    asking.join()
    ready(app, "dense")
    assert held.judged == ["model.json"]


def test_a_fault_in_the_background_is_not_the_end(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as too many open files just then."""
    grow_old(app)
    failed = threading.Event()

    def fail(*arguments: Any, **more: Any) -> Any:
        failed.set()
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda unhandled: None)
        patch.setattr(directory_module, "judge", fail)
        preload(app, "dense")
        assert failed.wait(5)
        time.sleep(0.05)
    assert len(ready(app, "dense")) == 2


def test_a_json_that_names_no_shards(make_app: MakeApp, tmp_path: Path) -> None:
    document = {"format": "layers-model", "modelTopology": LAYERS_TOPOLOGY}
    write_model(tmp_path / "m", document=document, shards={})
    app = make_app(TFJS_MODELS={"m": tmp_path / "m"})
    grow_old(app)
    assert json.loads(app.test_client().get("/models/m/model.json").data) == document
    assert preload(app, "m") == ["/models/m/model.json"]


def test_shards_in_other_folders(make_app: MakeApp, tmp_path: Path) -> None:
    (tmp_path / "m" / "v1").mkdir(parents=True)
    document = dense_document("../w/a%20b.bin")
    shards = {"../w/a b.bin": DENSE_BYTES}
    write_model(tmp_path / "m", entry="v1/n.json", document=document, shards=shards)
    app = make_app(TFJS_MODELS={"m": tmp_path / "m"})
    grow_old(app)
    assert ready(app, "m", "v1/n.json") == asked_for(app, "/models/m/v1/n.json")


def test_a_query_of_the_app_goes_along(app: Flask) -> None:
    """As the client does, which appends it to the URL of each shard."""

    @app.url_defaults
    def add(endpoint: str, values: dict[str, Any]) -> None:
        values["next"] = "/a/b"

    grow_old(app)
    json, shard = ready(app, "dense")
    assert json == "/models/dense/model.json?next=/a/b"
    assert re.fullmatch(r"/models/dense/weights\.[0-9a-f]{32}\.bin\?next=/a/b", shard)


def test_outside_of_an_app() -> None:
    assert tfjs_preload("dense") == ""


def test_the_main_model_becomes_another(make_app: MakeApp, tmp_path: Path) -> None:
    directory = write_model(tmp_path / "m", entry="other.json")
    (directory / "model.json").write_text('{"no": "model"}')
    app = make_app(TFJS_MODELS={"m": directory})
    grow_old(app)
    other = ready(app, "m")
    app.test_client().get("/models/m/model.json")
    tick(tmp_path)
    # In place: the names in the directory stay as they are.
    document = json.dumps(dense_document("new.bin"))
    (directory / "new.bin").write_bytes(DENSE_BYTES[::-1])
    app.test_client().get("/models/m/model.json")
    (directory / "model.json").write_text(document)
    answer = app.test_client().get("/models/m/model.json").get_json()
    (path,) = answer["weightsManifest"][0]["paths"]
    assert ready(app, "m") == [other[0], f"/models/m/{path}"]
