"""The loop of retraining in Chromium, with TensorFlow.js: load, train, save, and all
others have it; roll back, and they have the old one. And what it costs them when only
the head of a large model was trained."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from clients import saving
from clients.drivers import Chromium
from clients.drivers import start_browser
from clients.saving import Failed
from clients.saving import Look
from clients.saving import Site
from clients.saving import Studio
from clients.saving import bearer
from flask import Flask
from reference import CLIENTS
from serve_app import SPEC
from servers import TESTS
from servers import AppSpec
from servers import Pages
from servers import Server
from servers import serve
from servers import serve_pages

from flask_tfjs import bearer_token
from flask_tfjs import create_blueprint

SECRET = "s3cret"
DIGITS = TESTS.parent / "examples/digits"

# The share of a model's bytes that may go over the wire when its head was trained.
MOST = 0.10


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    with serve_pages(CLIENTS) as pages:
        yield pages


@pytest.fixture(scope="module")
def browser() -> Iterator[t.Any]:
    with start_browser() as browser:
        yield browser


class Visitor(Studio):
    """A page of the pages' origin, in a browser with a cache of its own.

    :ivar received: bytes of all answers, headers included, as the browser counts them.
    """

    def __init__(self, context: t.Any, origin: str) -> None:
        self._context = context
        self._origin = origin
        self.received = 0
        super().__init__(self._open())

    def _open(self) -> Chromium:
        opened = Chromium(self._context, self._origin, saving.PAGE)
        session = self._context.new_cdp_session(opened.page)
        session.send("Network.enable")
        session.on("Network.loadingFinished", self._count)
        return opened

    def _count(self, finished: dict[str, t.Any]) -> None:
        self.received += int(finished["encodedDataLength"])

    def reload(self) -> None:
        """The page anew, in another tab."""
        self.client = self._open()
        self.received = 0


@contextlib.contextmanager
def visiting(browser: t.Any, pages: Pages) -> Iterator[Visitor]:
    with contextlib.closing(browser.new_context()) as context:
        yield Visitor(context, pages.origin)


# The loop


@dataclass(frozen=True)
class Deployed:
    """An app on gunicorn, and the command ``flask tfjs`` beside it."""

    server: Server
    spec: AppSpec

    @property
    def url(self) -> str:
        return f"{self.server.url}/models/digits"

    def command(self, *arguments: str) -> str:
        environment = {
            **os.environ,
            SPEC: json.dumps(self.spec),
            "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
        }
        flask = [sys.executable, "-m", "flask", "--app", "serve_app:create", "tfjs"]
        done = subprocess.run(
            [*flask, *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    config = {"TFJS_UPLOADS": ["digits"]}
    spec: AppSpec = {
        "config": config,
        "blueprints": None,
        "cors": False,
        "compress": False,
        "error_pages": False,
        "token": SECRET,
        "instance_path": str(tmp_path / "instance"),
    }
    with serve("gunicorn", tmp_path, config, token=SECRET) as server:
        yield Deployed(server, spec)


def look(visitor: Visitor, url: str) -> Look:
    visitor.load(url)
    return visitor.look()


def test_the_loop(browser: t.Any, pages: Pages, deployed: Deployed) -> None:
    url = f"{deployed.url}/model.json"
    deployed.command("publish", "digits", str(DIGITS))
    with visiting(browser, pages) as trainer, visiting(browser, pages) as visitor:
        old = look(visitor, url)
        assert look(trainer, url) == old
        trainer.fit(epochs=2)
        new = trainer.look()
        assert new.prediction != old.prediction
        with pytest.raises(Failed, match="403"):
            trainer.save(deployed.url)
        saved = trainer.save(deployed.url, requestInit=bearer(SECRET))
        assert saved.body["version"] == 2

        # On the next load, though the old one is in the cache.
        assert look(visitor, url) == new

        deployed.command("rollback", "digits", "1")
        with visiting(browser, pages) as third:
            assert look(third, url) == old
            assert look(third, f"{deployed.url}/model.v1.json") == old
            assert look(third, f"{deployed.url}/model.v2.json") == new
        assert look(visitor, url) == old
        assert saved.location == f"{deployed.url}/model.v2.json"

        # The next one starts from what is current, and has a number of its own.
        assert look(trainer, url) == old
        trainer.fit()
        saved = trainer.save(url, requestInit=bearer(SECRET, "PUT"))
        assert saved.body["version"] == 3
        assert look(visitor, url) == trainer.look()


# The head


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("head")
    app = Flask(__name__, instance_path=str(folder / "instance"))
    app.register_blueprint(
        create_blueprint(
            store=folder / "store",
            uploads="*",
            authorize_publish=bearer_token(SECRET),
        )
    )
    with saving.running(app) as site:
        yield site


class Cost(t.NamedTuple):
    """Of a load: bytes of the bodies that the server sent, and of all answers that the
    browser received."""

    sent: int
    received: int


def cost(visitor: Visitor, site: Site, url: str) -> Cost:
    """Load a model in a page that has in its cache what it loaded before."""
    visitor.reload()
    before = len(site.sent)
    visitor.load(url)
    sent = sum(one.byte_length for one in site.sent[before:])
    return Cost(sent, visitor.received)


@dataclass(frozen=True)
class Training:
    """How a model like MobileNet comes to its first version and to its second.

    tfjs writes what is trained, of all layers, before what is not. So where the first
    version had all layers trained, the head moves to the front in the second, and the
    averages of batch normalization, which are last, to their layers.

    :ivar first: the layers that are trained when the first version is saved.
    :ivar alone: whether the head is trained alone, on what the base makes of inputs.
        To train the whole model changes the averages of the base, though it is frozen.
    """

    name: str
    first: t.Literal["all", "head"]
    alone: bool

    def __str__(self) -> str:
        return self.name


TRAININGS = [
    Training("the head alone", "head", alone=True),
    Training("the whole model", "all", alone=False),
]


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_a_head_costs_little(
    browser: t.Any, pages: Pages, site: Site, training: Training
) -> None:
    url = f"{site.url}/models/{training.name.replace(' ', '-')}/model.json"
    with visiting(browser, pages) as trainer, visiting(browser, pages) as visitor:
        trainer.make("mobilenet")
        trainer.train(training.first)
        trainer.save(url, requestInit=bearer(SECRET))
        whole = cost(visitor, site, url)

        trainer.load(url)
        trainer.train("head")
        trainer.fit(samples=10, epochs=2, optimizer="adam", head=training.alone)
        trainer.save(url, requestInit=bearer(SECRET))
        again = cost(visitor, site, url)
        assert visitor.look() == trainer.look()
    share, received = (one / all for one, all in zip(again, whole, strict=True))
    print(
        f"\n{training}: {whole.sent:,} bytes at first, {again.sent:,} after the head "
        f"was trained: {share:.1%}, as the browser counts them {received:.1%}"
    )
    assert whole.sent > 13_000_000
    assert 0 < share < MOST
    assert 0 < received < MOST
