"""The decorator of pages that use threads: two headers, whatever the view does."""

from __future__ import annotations

import collections.abc as cabc
import typing as t
from functools import wraps

import pytest
from flask import Blueprint
from flask import Flask
from flask import Response
from flask import abort
from flask.testing import FlaskClient
from flask.views import MethodView
from flask.views import View
from servers import module_found
from servers import require

from flask_tfjs import cross_origin_isolated

NAMES = ("Cross-Origin-Opener-Policy", "Cross-Origin-Embedder-Policy")
ISOLATED = ("same-origin", "require-corp")
OPEN = (None, None)

Returned = cabc.Callable[[], t.Any]


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


def headers(client: FlaskClient, url: str = "/", method: str = "GET") -> t.Any:
    with client.open(url, method=method) as answer:
        return tuple(answer.headers.get(name) for name in NAMES)


def stream() -> cabc.Iterator[str]:
    yield "page"


RETURNED: dict[str, tuple[Returned, int]] = {
    "text": (lambda: "page", 200),
    "bytes": (lambda: b"page", 200),
    "json": (lambda: {"a": 1}, 200),
    "response": (lambda: Response("page"), 200),
    "status": (lambda: ("page", 201), 201),
    "headers": (lambda: ("page", 202, {NAMES[0]: "unsafe-none"}), 202),
    "of its own": (lambda: ("page", 200, {NAMES[1]: "unsafe-none"}), 200),
    "stream": (stream, 200),
    "abort": (lambda: abort(404), 404),
    "returned abort": (lambda: abort(Response("page", 403)), 403),
    "crash": (lambda: 1 / 0, 500),
    "nothing": (lambda: None, 500),
}


@pytest.mark.parametrize("kind", RETURNED)
def test_whatever_the_view_answers_with(app: Flask, kind: str) -> None:
    view, status = RETURNED[kind]
    app.add_url_rule("/", "page", cross_origin_isolated(view))
    with app.test_client().get("/") as answer:
        assert answer.status_code == status
        for name, value in zip(NAMES, ISOLATED, strict=True):
            assert answer.headers.getlist(name) == [value]
    assert headers(app.test_client(), method="HEAD") == ISOLATED


def test_other_pages_stay_as_they_are(app: Flask) -> None:
    @app.get("/")
    @cross_origin_isolated
    def page() -> str:
        """A page."""
        return "page"

    @app.get("/other")
    def other() -> str:
        return "page"

    assert (page.__name__, page.__doc__, list(app.view_functions)[1:]) == (
        "page",
        "A page.",
        ["page", "other"],
    )
    client = app.test_client()
    assert headers(client) == ISOLATED
    assert headers(client, "/other") == headers(client, "/nothing") == OPEN
    assert headers(client) == ISOLATED


def test_above_the_route_it_is_the_same(app: Flask) -> None:
    """The app has the bare view then, and would answer with it."""

    @cross_origin_isolated
    @app.get("/")
    def page() -> str:
        return "page"

    @cross_origin_isolated
    @app.get("/crash")
    def crash() -> str:
        raise ZeroDivisionError

    assert app.view_functions["page"] is not page
    client = app.test_client()
    assert headers(client) == headers(client, "/crash") == ISOLATED
    assert headers(client, "/nothing") == OPEN


def test_above_the_route_of_a_blueprint(app: Flask) -> None:
    blueprint = Blueprint("pages", __name__)

    @cross_origin_isolated
    @blueprint.get("/")
    def page() -> str:
        return "page"

    app.register_blueprint(blueprint)
    assert headers(app.test_client()) == ISOLATED


def test_one_view_with_and_without(app: Flask) -> None:
    def page() -> str:
        return "page"

    def outer(view: cabc.Callable[[], str]) -> cabc.Callable[[], str]:
        return wraps(view)(lambda: view())

    app.add_url_rule("/", "open", page)
    app.add_url_rule("/isolated", "isolated", outer(cross_origin_isolated(page)))
    client = app.test_client()
    assert headers(client) == OPEN
    assert headers(client, "/isolated") == ISOLATED


def test_twice_is_once(app: Flask) -> None:
    app.add_url_rule(
        "/", "page", cross_origin_isolated(cross_origin_isolated(lambda: "page"))
    )
    with app.test_client().get("/") as answer:
        assert answer.headers.getlist(NAMES[0]) == ["same-origin"]


def test_views_that_are_classes(app: Flask) -> None:
    class Page(View):
        decorators = [cross_origin_isolated]

        def dispatch_request(self) -> str:
            return "page"

    class Methods(MethodView):
        @cross_origin_isolated
        def get(self) -> str:
            return "page"

        def post(self) -> str:
            return "page"

    app.add_url_rule("/", view_func=Page.as_view("page"))
    app.add_url_rule("/methods", view_func=Methods.as_view("methods"))
    client = app.test_client()
    assert headers(client) == headers(client, "/methods") == ISOLATED
    assert headers(client, "/methods", "POST") == OPEN
    with pytest.raises(TypeError, match=r"in the class Page write decorators = \["):
        cross_origin_isolated(Page)


def test_callables_that_take_no_attribute(app: Flask) -> None:
    class Pages:
        __slots__ = ()

        def page(self) -> str:
            return "page"

    app.add_url_rule("/", "page", cross_origin_isolated(Pages().page))
    assert headers(app.test_client()) == ISOLATED


@pytest.mark.parametrize("above", [False, True])
def test_async(app: Flask, above: bool) -> None:
    require(module_found("asgiref"), "asgiref: pip install 'flask[async]'")

    async def page() -> str:
        return "page"

    isolated = cross_origin_isolated(page)
    app.add_url_rule("/", "page", page if above else isolated)
    assert headers(app.test_client()) == ISOLATED


def test_a_way_of_its_own_that_isolates_as_well_stays(app: Flask) -> None:
    def view() -> tuple[str, dict[str, str]]:
        return "page", {NAMES[1]: "credentialless"}

    app.add_url_rule("/", "page", cross_origin_isolated(view))
    assert headers(app.test_client()) == ("same-origin", "credentialless")
