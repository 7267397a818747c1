"""Inside other people's apps: extensions, hooks, error pages and mount points that
touch every answer of the app."""

from __future__ import annotations

import base64
import collections.abc as cabc
import gc
import gzip
import hashlib
import importlib
import json
import os
import typing as t
from pathlib import Path

import pytest
from conftest import grow_old
from decoding import DECODE
from flask import Flask
from flask import Response
from flask import abort
from flask import redirect
from flask import session
from flask.testing import FlaskClient
from models import DENSE_BYTES
from models import content_name
from models import dense_document
from models import write_model
from servers import module_found
from servers import require
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client
from werkzeug.wrappers import Response as WSGIResponse

from flask_tfjs import tfjs_bp
from flask_tfjs.http import codings

Step = cabc.Callable[[Flask], object]
Headers = dict[str, str]

JSON_URL = "/models/dense/model.json"
BARE_URL = "/models/dense"
SHARD_URL = "/models/dense/weights.bin"
SHARD = content_name("weights", DENSE_BYTES)
HASHED_URL = f"/models/dense/{SHARD}"
ASSET_URL = "/models/dense/labels.txt"
JSON_ASSET_URL = "/models/dense/metadata.json"

FILES = Path("/proc/self/fd")

LABELS = b"".join(b"label %d\n" % number for number in range(300))
METADATA = json.dumps({"labels": LABELS.decode().split("\n")}).encode()

#: Large enough that layers with a least size find it worth encoding.
DOCUMENT = dense_document("weights.bin", userDefinedMetadata={"notes": "n " * 2000})


def ours(app: Flask) -> None:
    app.register_blueprint(tfjs_bp)


def cors(**options: t.Any) -> Step:
    def step(app: Flask) -> None:
        require(module_found("flask_cors"), "flask-cors")
        importlib.import_module("flask_cors").CORS(app, **options)

    return step


def compress(*algorithms: str, **config: t.Any) -> Step:
    def step(app: Flask) -> None:
        require(module_found("flask_compress"), "Flask-Compress")
        if algorithms:
            app.config["COMPRESS_ALGORITHM"] = list(algorithms)
            streamed = [name for name in algorithms if name != "gzip"] or ["br"]
            app.config["COMPRESS_ALGORITHM_STREAMING"] = streamed
        app.config.update({f"COMPRESS_{key}": value for key, value in config.items()})
        importlib.import_module("flask_compress").Compress(app)

    return step


class Kept:
    """A cache of encoded bodies, as Flask-Compress wants it."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def set(self, key: str, value: bytes) -> None:
        self.kept[key] = value


def keeping(*algorithms: str) -> Step:
    def key(request: t.Any) -> str:
        return str(request.url)

    return compress(*algorithms, CACHE_BACKEND=Kept, CACHE_KEY=key)


def stamp(app: Flask) -> None:
    @app.after_request
    def stamp_it(response: Response) -> Response:
        response.headers["X-Stamp"] = "1"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.vary.add("Cookie")
        response.set_cookie("seen", "1")
        return response


def own_response_class(app: Flask) -> None:
    class Sealed(Response):
        default_mimetype = "text/html"

    app.response_class = Sealed


def error_pages(app: Flask) -> None:
    def page(error: Exception) -> tuple[str, int]:
        return "<!doctype html>" + "oops " * 1000, getattr(error, "code", None) or 500

    app.register_error_handler(Exception, page)


def no_strict_slashes(app: Flask) -> None:
    app.url_map.strict_slashes = False


NEIGHBOURS: dict[str, list[Step]] = {
    "none": [ours],
    "cors-before": [cors(), ours],
    "cors-after": [ours, cors()],
    "cors-credentials": [ours, cors(supports_credentials=True)],
    "cors-resources": [ours, cors(resources={r"/models/*": {"origins": "*"}})],
    "cors-wildcard": [cors(send_wildcard=True), ours],
    "compress-before": [compress(), ours],
    "compress-after": [ours, compress()],
    "compress-br": [ours, compress("br", MIN_SIZE=0)],
    "compress-zstd": [compress("zstd", MIN_SIZE=0), ours],
    "compress-gzip": [ours, compress("gzip", MIN_SIZE=0)],
    "compress-deflate": [compress("deflate", MIN_SIZE=0), ours],
    "compress-no-streams": [ours, compress(STREAMS=False, MIN_SIZE=0)],
    "compress-no-conditions": [
        ours,
        compress(EVALUATE_CONDITIONAL_REQUEST=False, MIN_SIZE=0),
    ],
    "compress-kept": [ours, keeping()],
    "compress-kept-before": [keeping("br", "deflate"), ours],
    "both-before": [cors(), compress(), ours],
    "both-after": [ours, compress(), cors()],
    "both-around": [compress(), ours, cors()],
    "stamp-before": [stamp, ours],
    "stamp-after": [ours, stamp],
    "response-class": [own_response_class, ours],
    "error-pages": [error_pages, ours],
    "slashes": [no_strict_slashes, ours],
    "all": [stamp, error_pages, cors(), ours, own_response_class, keeping()],
}

# Whether answers of a layer that encodes can be revalidated is up to that layer.
NEVER_304 = {"compress-no-conditions"}

ACCEPTED = [
    None,
    "identity",
    "gzip",
    "br",
    "zstd",
    "deflate",
    "gzip, deflate, br, zstd",
    "*",
    "br;q=1, gzip;q=0.5",
    "gzip;q=0, br",
]


Make = cabc.Callable[..., Flask]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """``make(step, …)``: an app made in these steps, one of which is `ours`; with
    ``extra=False`` the packages behind br and zstd are not there for us."""
    models = tmp_path_factory.mktemp("models")
    write_model(models / "dense", document=DOCUMENT)
    (models / "dense" / "labels.txt").write_bytes(LABELS)
    (models / "dense" / "metadata.json").write_bytes(METADATA)

    def make(*steps: Step, extra: bool = True, **config: t.Any) -> Flask:
        app = Flask(__name__, instance_path=str(models / "instance"))
        app.config.update(TESTING=True, TFJS_MODELS={"dense": models / "dense"})
        app.config.update(config)
        with pytest.MonkeyPatch.context() as patch:
            if not extra:
                patch.setattr(codings, "_can_make", lambda coding: coding == "gzip")
            for step in steps:
                step(app)
        grow_old(app)
        return app

    return make


@pytest.fixture(scope="module", params=NEIGHBOURS)
def neighbours(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[True, False], ids=["extra", "gzip-alone"])
def extra(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def client(neighbours: str, extra: bool, make: Make) -> FlaskClient:
    return make(*NEIGHBOURS[neighbours], extra=extra).test_client()


def repr_digest(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def accepting(accept: str | None, **more: str) -> Headers:
    headers = {} if accept is None else {"Accept-Encoding": accept}
    return {**headers, **{name.replace("_", "-"): text for name, text in more.items()}}


def plain_text(client: FlaskClient, url: str) -> bytes:
    with client.get(url) as r:
        assert r.status_code == 200
        assert "Content-Encoding" not in r.headers
        body: bytes = r.data
        return body


@pytest.mark.parametrize(
    ("name", "coding"),
    [
        ("compress-before", "zstd"),
        ("compress-after", "zstd"),
        ("compress-br", "br"),
        ("compress-zstd", "zstd"),
        ("compress-deflate", "deflate"),
        ("compress-kept", "zstd"),
        ("both-around", "zstd"),
        ("all", "zstd"),
    ],
)
def test_layers_that_encode_are_at_work(make: Make, name: str, coding: str) -> None:
    client = make(*NEIGHBOURS[name], extra=False).test_client()
    for url in (JSON_URL, ASSET_URL):
        with client.get(url, headers=accepting("br, zstd, deflate")) as r:
            assert r.headers["Content-Encoding"] == coding


@pytest.mark.parametrize("neighbours", NEIGHBOURS)
def test_what_we_encoded_is_not_encoded_anew(make: Make, neighbours: str) -> None:
    client = make(*NEIGHBOURS[neighbours]).test_client()
    ours = client.application.extensions["tfjs"]["tfjs"].codings
    for coding in ours:
        with client.get(JSON_URL, headers=accepting(coding)) as r:
            assert r.headers["Content-Encoding"] == coding
            assert r.headers["ETag"].endswith(f'-{coding}"')
            assert r.headers["Repr-Digest"] == repr_digest(r.data)


@pytest.mark.parametrize("url", [JSON_URL, BARE_URL])
def test_json_decodes_to_the_model_also_after_head(
    make: Make, neighbours: str, extra: bool, url: str
) -> None:
    path = f"dense/{SHARD}" if url == BARE_URL else SHARD
    client = make(*NEIGHBOURS[neighbours], extra=extra).test_client()
    for accept in ACCEPTED:
        client.head(url, headers=accepting(accept)).close()
        with client.get(url, headers=accepting(accept)) as r:
            assert r.status_code == 200
            document = json.loads(DECODE[r.headers.get("Content-Encoding")](r.data))
        assert document["weightsManifest"][0].pop("paths") == [path]
        assert document["userDefinedMetadata"] == DOCUMENT["userDefinedMetadata"]
        assert document["modelTopology"] == DOCUMENT["modelTopology"]


@pytest.mark.parametrize("url", [JSON_URL, BARE_URL])
def test_strong_tag_is_of_one_coding_only(client: FlaskClient, url: str) -> None:
    codings: dict[str, str | None] = {}
    for accept in ACCEPTED:
        with client.get(url, headers=accepting(accept)) as r:
            assert "Accept-Encoding" in r.headers["Vary"]
            tag, coding = r.headers["ETag"], r.headers.get("Content-Encoding")
            assert not tag.startswith("W/")
            assert codings.setdefault(tag, coding) == coding
    assert len(codings) >= 2


@pytest.mark.parametrize("url", [JSON_URL, BARE_URL])
def test_digest_of_json_is_right_or_absent(client: FlaskClient, url: str) -> None:
    for accept in ACCEPTED:
        with client.get(url, headers=accepting(accept)) as r:
            assert r.headers.get("Repr-Digest") in (None, repr_digest(r.data))
            assert r.headers["Content-Length"] == str(len(r.data))


@pytest.mark.parametrize("url", [JSON_URL, BARE_URL, ASSET_URL, JSON_ASSET_URL])
def test_text_is_never_sent_in_part(client: FlaskClient, url: str) -> None:
    whole = plain_text(client, url)
    for accept in ACCEPTED:
        for range_ in ("bytes=0-99", "bytes=-1", "bytes=999999-"):
            with client.get(url, headers=accepting(accept, Range=range_)) as r:
                assert r.status_code == 200
                assert "Content-Range" not in r.headers
                assert DECODE[r.headers.get("Content-Encoding")](r.data) == whole


@pytest.mark.parametrize("url", [JSON_URL, BARE_URL, SHARD_URL, HASHED_URL])
def test_tag_is_answered_with_304(
    client: FlaskClient, neighbours: str, url: str
) -> None:
    ours = client.application.extensions["tfjs"]["tfjs"].codings
    for accept in ACCEPTED:
        with client.get(url, headers=accepting(accept)) as r:
            tag, coding = r.headers["ETag"], r.headers.get("Content-Encoding")
        if coding not in (None, *ours) and neighbours in NEVER_304:
            continue
        with client.get(url, headers=accepting(accept, If_None_Match=tag)) as r:
            assert (r.status_code, r.data) == (304, b"")
            assert r.headers["ETag"] == tag
            assert "Content-Length" not in r.headers


@pytest.mark.parametrize("url", [JSON_URL, BARE_URL, SHARD_URL, HASHED_URL, ASSET_URL])
def test_head_is_get_without_the_body(client: FlaskClient, url: str) -> None:
    for accept in ACCEPTED:
        with client.head(url, headers=accepting(accept)) as head:
            assert (head.status_code, head.data) == (200, b"")
        with client.get(url, headers=accepting(accept)) as r:
            # Some layers add it, and a second may pass between the two.
            assert ("Date" in head.headers) == ("Date" in r.headers)
            head.headers.pop("Date", None)
            r.headers.pop("Date", None)
            assert dict(head.headers) == dict(r.headers)


@pytest.mark.parametrize(
    "url, cached",
    [(SHARD_URL, "no-cache"), (HASHED_URL, "max-age=31536000, immutable")],
)
def test_shard_is_byte_exact(client: FlaskClient, url: str, cached: str) -> None:
    for accept in ACCEPTED:
        with client.get(url, headers=accepting(accept)) as r:
            # Not for caches that many share, if a layer sets a cookie.
            private = "private, " if "Set-Cookie" in r.headers else ""
            assert r.headers["Cache-Control"] == private + cached
            assert (r.status_code, r.data) == (200, DENSE_BYTES)
            assert r.headers["Content-Length"] == str(len(DENSE_BYTES))
            assert r.headers["Repr-Digest"] == repr_digest(DENSE_BYTES)
            assert r.headers["Content-Type"] == "application/octet-stream"
            assert "Content-Encoding" not in r.headers
        headers = accepting(accept, Range="bytes=4-7")
        with client.get(url, headers=headers) as r:
            assert (r.status_code, r.data) == (206, DENSE_BYTES[4:8])
            assert r.headers["Content-Length"] == "4"
            assert r.headers["Content-Range"] == f"bytes 4-7/{len(DENSE_BYTES)}"


@pytest.mark.parametrize(
    ("url", "body"), [(ASSET_URL, LABELS), (JSON_ASSET_URL, METADATA)]
)
def test_asset_decodes_to_the_file(client: FlaskClient, url: str, body: bytes) -> None:
    for accept in ACCEPTED:
        with client.get(url, headers=accepting(accept)) as r:
            assert r.status_code == 200
            assert DECODE[r.headers.get("Content-Encoding")](r.data) == body
            assert r.headers.get("Repr-Digest") in (None, repr_digest(r.data))


@pytest.mark.parametrize(
    ("method", "url", "headers", "status"),
    [
        ("GET", "/models/dense/missing.bin", {}, 404),
        ("GET", "/models/unknown/weights.bin", {}, 404),
        ("GET", f"/models/dense/weights.{'0' * 32}.bin", {}, 404),
        *(
            wrong
            for url in (SHARD_URL, HASHED_URL)
            for wrong in (
                ("POST", url, {}, 405),
                ("GET", url, {"If-Match": '"x"'}, 412),
                ("GET", url, {"Range": "bytes=999-"}, 416),
            )
        ),
    ],
)
def test_errors_are_no_weights(
    client: FlaskClient, method: str, url: str, headers: Headers, status: int
) -> None:
    for accept in ACCEPTED:
        asked = {**headers, **accepting(accept)}
        with client.open(url, method=method, headers=asked) as r:
            assert (r.status_code, r.data) == (status, b"")
            assert r.headers["Content-Length"] == "0"
            assert r.headers.getlist("Access-Control-Allow-Origin") == ["*"]


@pytest.mark.parametrize("origin", [None, "https://other.example", "null"])
def test_one_allowed_origin_and_no_credentials(
    client: FlaskClient, origin: str | None
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        for url in (JSON_URL, SHARD_URL, "/models/dense/missing.bin"):
            with client.open(url, method=method, headers=headers) as r:
                assert r.headers.getlist("Access-Control-Allow-Origin") == ["*"]
                assert "Access-Control-Allow-Credentials" not in r.headers


def test_preflight_is_ours(client: FlaskClient) -> None:
    headers = {
        "Origin": "https://other.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    with client.options(JSON_URL, headers=headers) as r:
        assert (r.status_code, r.data) == (204, b"")
        assert r.headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
        assert r.headers["Access-Control-Allow-Headers"] == "authorization"


@pytest.mark.skipif(not FILES.is_dir(), reason="open files are counted in /proc")
def test_layers_that_wrap_bodies_leave_no_file_open(client: FlaskClient) -> None:
    urls = (ASSET_URL, JSON_ASSET_URL, SHARD_URL, HASHED_URL)
    gc.collect()
    before = len(os.listdir(FILES))
    for accept in ACCEPTED:
        for url in urls:
            for method in ("GET", "HEAD"):
                headers = accepting(accept)
                client.open(url, method=method, headers=headers).close()
    assert len(os.listdir(FILES)) <= before


@pytest.mark.skipif(not FILES.is_dir(), reason="open files are counted in /proc")
def test_body_that_a_hook_replaces_is_closed(make: Make) -> None:
    kept = []

    def replace(app: Flask) -> None:
        @app.after_request
        def wrap(response: Response) -> Response:
            kept.append(response.response)
            response.response = list(response.iter_encoded())
            return response

    client = make(ours, replace).test_client()
    client.get(JSON_URL).close()
    before = len(os.listdir(FILES))
    for _ in range(3):
        with client.get(SHARD_URL) as r:
            assert r.data == DENSE_BYTES
    assert len(kept) == 4
    assert len(os.listdir(FILES)) <= before


Refusal = cabc.Callable[[], t.Any]


def refuse_by_abort() -> t.Any:
    abort(401)


def refuse_by_page() -> t.Any:
    return "<!doctype html>" + "please log in " * 1000, 403


def refuse_by_crash() -> t.Any:
    raise RuntimeError("nobody thought of this")


@pytest.mark.parametrize(
    ("refuse", "status"),
    [(refuse_by_abort, 401), (refuse_by_page, 403), (refuse_by_crash, 500)],
    ids=["abort", "page", "crash"],
)
@pytest.mark.parametrize(
    "steps",
    [
        [ours],
        [error_pages, ours, stamp],
        [cors(), compress(MIN_SIZE=0), ours],
        [ours, compress(MIN_SIZE=0), cors(supports_credentials=True)],
    ],
    ids=["alone", "error-pages", "before", "after"],
)
@pytest.mark.parametrize("first", [True, False], ids=["hook-first", "hook-last"])
def test_hook_that_refuses(
    make: Make,
    steps: list[Step],
    refuse: Refusal,
    status: int,
    first: bool,
) -> None:
    def hook(app: Flask) -> None:
        app.before_request(refuse)

    app = make(*([hook, *steps] if first else [*steps, hook]))
    app.config.update(TESTING=False, PROPAGATE_EXCEPTIONS=False)
    client = app.test_client()
    headers = accepting("br, gzip", Origin="https://other.example")
    for url in (SHARD_URL, HASHED_URL, "/models/dense/missing.bin"):
        with client.get(url, headers=headers) as r:
            assert (r.status_code, r.data) == (status, b"")
            assert "immutable" not in r.headers.get("Cache-Control", "")
            assert r.headers["Content-Length"] == "0"
            assert "Content-Encoding" not in r.headers
            assert len(r.headers.getlist("Access-Control-Allow-Origin")) == 1
    with client.get(JSON_URL, headers=headers) as r:
        assert r.status_code == status
        assert len(r.headers.getlist("Access-Control-Allow-Origin")) == 1


def test_hook_that_redirects_is_left_alone(make: Make) -> None:
    def to_https(app: Flask) -> None:
        app.before_request(lambda: redirect("https://localhost/elsewhere", 307))

    with make(ours, to_https).test_client().get(SHARD_URL) as r:
        assert r.status_code == 307
        assert r.headers["Access-Control-Allow-Origin"] == "*"


def test_hook_that_answers_is_left_alone(make: Make) -> None:
    def answer(app: Flask) -> None:
        app.before_request(lambda: Response(DENSE_BYTES, 200, mimetype="x/y"))

    with make(ours, answer).test_client().get(SHARD_URL) as r:
        assert (r.status_code, r.data) == (200, DENSE_BYTES)
        assert r.headers["Access-Control-Allow-Origin"] == "*"


def test_error_page_encoded_by_a_hook_is_emptied(
    make: Make,
) -> None:
    def encode(app: Flask) -> None:
        @app.after_request
        def encode_it(response: Response) -> Response:
            response.set_data(gzip.compress(b"oops"))
            response.headers["Content-Encoding"] = "gzip"
            return response

        app.before_request(refuse_by_abort)

    with make(ours, encode).test_client().get(SHARD_URL) as r:
        assert (r.status_code, r.data) == (401, b"")
        assert "Content-Encoding" not in r.headers


def test_error_with_a_resource_policy_of_the_app_is_readable(
    make: Make,
) -> None:
    def guard(app: Flask) -> None:
        @app.after_request
        def add(response: Response) -> Response:
            response.headers["Cross-Origin-Resource-Policy"] = "same-site"
            return response

        app.before_request(refuse_by_abort)

    with make(ours, guard).test_client().get(JSON_URL) as r:
        assert r.status_code == 401
        assert r.headers["Access-Control-Allow-Origin"] == "*"
        assert r.headers["Cross-Origin-Resource-Policy"] == "same-site"


def test_other_urls_of_the_app_are_left_alone(make: Make) -> None:
    def others(app: Flask) -> None:
        app.add_url_rule("/page", "page", lambda: "a page")
        app.add_url_rule("/models-list", "list", lambda: "a list")

    client = make(others, ours).test_client()
    for url, status in (("/page", 200), ("/models-list", 200), ("/nothing", 404)):
        with client.get(url) as r:
            assert r.status_code == status
            assert r.data
            assert not any(name.startswith("Access-") for name in r.headers.keys())
            assert "Cross-Origin-Resource-Policy" not in r.headers
    with client.post("/page") as r:
        assert r.status_code == 405
    with client.get("/page/") as r:
        assert r.status_code == 404


def at_prefix(prefix: str | None) -> Step:
    def step(app: Flask) -> None:
        app.register_blueprint(tfjs_bp, url_prefix=prefix)

    return step


@pytest.mark.parametrize(
    ("prefix", "base"),
    [
        ("/models", "/models"),
        ("/models/", "/models"),
        ("/a/b/c", "/a/b/c"),
        ("/", ""),
        ("/with space", "/with%20space"),
        ("/mod\u00e8les", "/mod%C3%A8les"),
        ("/v1.0", "/v1.0"),
        ("/<tenant>/models", "/acme/models"),
    ],
)
@pytest.mark.parametrize(
    "steps", [[], [compress(MIN_SIZE=0), cors()]], ids=["alone", "both"]
)
def test_prefixes(make: Make, steps: list[Step], prefix: str, base: str) -> None:
    client = make(*steps, at_prefix(prefix)).test_client()
    for url in ("/dense", "/dense/", "/dense/model.json", "/dense/weights.bin"):
        with client.get(base + url) as r:
            assert r.status_code == 200
    for url in ("/dense/missing.bin", "/unknown"):
        with client.get(base + url) as r:
            assert r.status_code == 404
            assert r.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("target", ["/a//b/dense", "/a/b//dense", "/a//b//dense"])
def test_slashes_are_not_merged(make: Make, target: str) -> None:
    with make(at_prefix("/a/b")).test_client().get(target) as r:
        assert r.status_code == 404
        assert "Location" not in r.headers


@pytest.mark.parametrize("strict", [True, False])
def test_strict_slashes_of_the_app(make: Make, strict: bool) -> None:
    app = make(ours)
    app.url_map.strict_slashes = strict
    client = app.test_client()
    for url, status in (
        ("/models", 404),
        ("/models/", 404),
        ("/models/dense", 200),
        ("/models/dense/", 200),
        ("/models/dense/model.json/", 404),
        ("/models/dense/weights.bin/", 404),
    ):
        with client.get(url) as r:
            assert r.status_code == status, url


@pytest.mark.parametrize(
    ("host", "status"), [("cdn.example.org", 200), ("example.org", 404)]
)
def test_subdomain(make: Make, host: str, status: int) -> None:
    def register(app: Flask) -> None:
        app.subdomain_matching = True
        app.url_map.subdomain_matching = True  # type: ignore[attr-defined]
        app.register_blueprint(tfjs_bp, subdomain="cdn")

    client = make(register, SERVER_NAME="example.org").test_client()
    with client.get(JSON_URL, base_url=f"http://{host}") as r:
        assert r.status_code == status


def test_mounted_below_another_app(make: Make) -> None:
    app = make(ours, cors(), compress(MIN_SIZE=0), APPLICATION_ROOT="/ml")
    outer = Flask("outer")
    mounted = DispatcherMiddleware(outer.wsgi_app, {"/ml": app.wsgi_app})
    client = Client(mounted, WSGIResponse)
    for url in (JSON_URL, BARE_URL):
        for accept in ACCEPTED:
            with client.get(f"/ml{url}", headers=accepting(accept)) as r:
                assert r.status_code == 200
                text = DECODE[r.headers.get("Content-Encoding")](r.data)
            path = json.loads(text)["weightsManifest"][0]["paths"][0]
            folder = url.rpartition("/")[0]
            with client.get(f"/ml{folder}/{path}") as r:
                assert (r.status_code, r.data) == (200, DENSE_BYTES)
    with client.get(JSON_URL) as r:
        assert r.status_code == 404


@pytest.mark.parametrize(
    "path", ["model.json", "weights.bin", content_name("weights", DENSE_BYTES)]
)
def test_a_session_in_an_answer_is_kept_from_caches_that_many_share(
    app: Flask, path: str
) -> None:
    app.secret_key = "test"

    @app.after_request
    def visit(response: Response) -> Response:
        session["visits"] = session.get("visits", 0) + 1
        return response

    client = app.test_client()
    with client.get(f"/models/dense/{path}") as response:
        assert "Set-Cookie" in response.headers
        directives = response.headers["Cache-Control"].split(", ")
        assert directives[0] == "private" and "no-store" not in directives
    with client.get("/models/dense/missing.bin") as response:
        assert response.headers["Cache-Control"] == "no-store"
