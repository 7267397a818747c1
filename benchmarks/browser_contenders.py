"""What a browser loads the models from: servers, and the pages that use them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from string import Template
from urllib.parse import urljoin

from contenders import GTHREAD
from contenders import HERE
from contenders import SERVERS
from contenders import Running
from contenders import Server
from contenders import environment
from contenders import gunicorn
from contenders import running
from made_model import JSON_NAME
from made_model import SETTLED_SECONDS
from real_models import NODE_MODULES
from real_models import Cut
from scenarios import BROWSER_CODINGS
from scenarios import Answer
from scenarios import Request
from scenarios import ask

SCRIPT = NODE_MODULES / "@tensorflow/tfjs/dist/tf.min.js"
TEMPLATE = HERE / "pages" / "load.html"

PAGES = Server("pages", "the pages and tfjs", GTHREAD, gunicorn("pages"))
TFJS = Server("flask_tfjs", "flask_tfjs", GTHREAD, gunicorn("flask_tfjs_tags"))
COMPRESSED = replace(TFJS, name="flask_tfjs-compressed")
OTHERS = {server.name: server for server in SERVERS}


@dataclass(frozen=True)
class Contender:
    """``preload``: the page has the tags of ``tfjs_preload`` in its head."""

    name: str
    title: str
    server: Server
    preload: bool = False

    def page(self, cut: Cut) -> str:
        return f"{self.name}-{cut.model}.html"


CONTENDERS = (
    Contender("flask_tfjs", "flask_tfjs", TFJS),
    Contender("preload", "flask_tfjs + preload", TFJS, preload=True),
    Contender("compress", "flask_tfjs + preload + compress", COMPRESSED, preload=True),
    Contender("flask", "Flask + flask-cors", OTHERS["flask"]),
    Contender("whitenoise", "WhiteNoise", OTHERS["whitenoise"]),
    Contender("nginx", "nginx", OTHERS["nginx"]),
)


@dataclass(frozen=True)
class Place:
    """Where the pages of a contender and its models are."""

    contender: Contender
    server: Running
    pages: Running

    @property
    def models_origin(self) -> str:
        return _origin(self.server)

    def url(self, cut: Cut) -> str:
        return f"{_origin(self.pages)}/{self.contender.page(cut)}"


@contextmanager
def serving(
    contenders: Sequence[Contender], cuts: Sequence[Cut], folder: Path
) -> Iterator[list[Place]]:
    """All servers and pages, ready to be visited. The models are in ``folder``."""
    pages_folder = folder / "pages-and-script"
    _write_script(pages_folder)
    # Two contenders may share a server.
    servers = list(dict.fromkeys(one.server for one in contenders))
    with (
        running([PAGES], pages_folder, folder) as (pages,),
        running(servers, folder / "models", folder) as started,
    ):
        _prepare(started, cuts)
        by_server = {one.server: one for one in started}
        places = [Place(one, by_server[one.server], pages) for one in contenders]
        for place in places:
            for cut in cuts:
                _write_page(place, cut)
        yield places


def _write_script(folder: Path) -> None:
    folder.mkdir()
    (folder / "tf.min.js.gz").write_bytes(gzip.compress(SCRIPT.read_bytes()))


def _prepare(servers: list[Running], cuts: Sequence[Cut]) -> None:
    """Leave nothing to a visit that is done only once."""
    time.sleep(SETTLED_SECONDS)
    for server in servers:
        if server.server is COMPRESSED:
            _compress(server, cuts)
        for cut in cuts:
            _read_all(server, cut)


def _compress(running: Running, cuts: Sequence[Cut]) -> None:
    flask = [sys.executable, "-m", "flask", "--app", "flask_tfjs_blueprint"]
    for cut in cuts:
        subprocess.run(
            [*flask, "tfjs", "compress", cut.model.name],
            cwd=running.site.folder,
            env=environment(running.site),
            # Ours is for the tables.
            stdout=sys.stderr,
            check=True,
        )


def _read_all(running: Running, cut: Cut) -> None:
    for path in _paths(running, cut):
        _get(running, path, BROWSER_CODINGS)


def _paths(running: Running, cut: Cut) -> list[str]:
    """The JSON, and the shards where the served manifest says that they are."""
    path = _json_path(cut)
    document = json.loads(_get(running, path, "identity").body)
    shards = [
        urljoin(path, shard)
        for group in document["weightsManifest"]
        for shard in group["paths"]
    ]
    return [path, *shards]


def _json_path(cut: Cut) -> str:
    return f"/models/{cut.model}/{JSON_NAME}"


def _write_page(place: Place, cut: Cut) -> None:
    url, preload = _json_path(cut), ""
    if place.contender.preload:
        url, preload = _tags(place.server, cut)
    text = Template(TEMPLATE.read_text()).substitute(
        models=place.models_origin,
        pages=_origin(place.pages),
        url=url,
        preload=preload,
    )
    (place.pages.site.models / place.contender.page(cut)).write_text(text)


def _tags(running: Running, cut: Cut) -> tuple[str, str]:
    """The URL and the tags that a template of the application writes."""
    tags = json.loads(_get(running, f"/tags/{cut.model}", "identity").body)
    absent = [path for path in _paths(running, cut) if path not in tags["preload"]]
    if absent:
        raise RuntimeError(f"{running.server.title} does not preload {absent}")
    return tags["url"], tags["preload"]


def _get(running: Running, path: str, codings: str) -> Answer:
    answer = ask(running.port, Request(path, {"Accept-Encoding": codings}))
    if answer.status != 200:
        raise RuntimeError(f"{running.server.title}: {answer.status} for {path}")
    return answer


def _origin(running: Running) -> str:
    # Chromium offers br and zstd to trustworthy origins only: https, and loopback.
    return f"http://127.0.0.1:{running.port}"
