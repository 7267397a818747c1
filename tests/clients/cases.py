"""What both kinds of client load, and how: the tables of test_clients.py."""

from __future__ import annotations

import collections.abc as cabc
import contextlib
import functools
import json
import os
import re
import typing as t
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import reference
from reference import Model
from servers import Server
from servers import require_program
from servers import serve

from clients.drivers import Job
from clients.drivers import Result
from clients.drivers import require_packages


def real_models(nsfwjs: Path) -> list[Model]:
    """All of the npm packages, those of nsfwjs as they are unpacked there."""
    return [
        *reference.human_models(),
        *reference.face_models(),
        *reference.nsfw_models(nsfwjs),
    ]


#: The weights of each in other files. All of these are published as one file, and so
#: not cut into one, but for two.
CUTS: dict[str, dict[str, t.Any]] = {
    "whole": {"sizes": reference.whole},
    "split": {"sizes": reference.quarter_and_rest},
    "mebibytes": {"sizes": reference.mebibytes, "extension": ""},
    "groups": {"groups": 2},
}
IN_MANY_FILES = ["inception_v3", "mobilenet_v2_mid"]


def cut_of(model: Model, cut: str, root: Path) -> Model:
    """Where a cut of a real model is below ``root``."""
    name = f"{model.name}-{cut}"
    entry = Path(Path(model.entry).stem, model.entry)
    return Model(name, root / name, entry.as_posix(), model.loader, model.path)


def cuts_of(models: list[Model], root: Path) -> list[tuple[Model, dict[str, t.Any]]]:
    return [
        (cut_of(model, cut, root), how)
        for cut, how in CUTS.items()
        for model in models
        if cut != "whole" or model.name in IN_MANY_FILES
    ]


REAL = [str(model) for model in real_models(Path())]
RECUT = [str(cut) for cut, _ in cuts_of(real_models(Path()), Path())]

MADE = [
    "dtypes",
    "dtypes-cut",
    "dtypes-groups",
    "strings",
    "odd-cuts",
    "one-scalar",
    "dense",
    "dense-saved",
    "dense-folders",
    "dense-odd-names",
    "dense-no-extension",
    "dense-adam",
    "list",
]


@dataclass(frozen=True)
class Zoo:
    """Every model of the tests, under the names that `REAL` and the others list."""

    models: dict[str, Model]

    def __getitem__(self, name: str) -> Model:
        return self.models[name]

    def config(self) -> dict[str, t.Any]:
        directories = {m.name: str(m.directory) for m in self.models.values()}
        return {"TFJS_MODELS": directories}


@functools.cache
def build_zoo(root: Path) -> Zoo:
    """Unpack, cut and make them all, once below a folder."""
    require_packages()
    reference.unpack_nsfw_models(require_program("node"), root / "nsfwjs")
    real = real_models(root / "nsfwjs")
    models = {str(model): model for model in real}

    for cut, how in cuts_of(real, root / "cut"):
        assert cut.original is not None
        reference.recut(cut.original, cut.path.parent, **how)
        models[str(cut)] = cut

    made = reference.made_models(root / "made")
    assert [model.name for model in made] == MADE
    broken = reference.broken_models(root / "broken")
    misread = reference.misread_model(root)
    models.update({model.name: model for model in [*made, *broken, misread]})

    teachable = reference.dense_model(root / "teachable", path="weights.bin")
    metadata = {"labels": ["cat", "größe"], "imageSize": 224}
    (teachable.directory / "metadata.json").write_text(json.dumps(metadata))
    models["teachable"] = teachable
    return Zoo(models)


def load(model: Model, base: str) -> Job:
    return {"loader": model.loader, "url": base + model.url}


def check_whole(result: Result, model: Model, unused: int = 0) -> None:
    """Every weight of the file arrived, bit by bit, and nothing was asked in vain.
    Of face-api's nets, one leaves some graph constants ``unused``.
    """
    assert "error" not in result, result
    weights = result["weights"]
    expected = model.fingerprints()
    if unused:
        assert len(weights) == len(expected) - unused
        expected = {name: expected[name] for name in weights}
    assert weights == expected
    assert {request["status"] for request in result["requests"]} == {200}


def check_requests(result: Result, model: Model) -> None:
    """The JSON is asked for once, and each shard by the name of its content; where the
    last one would be misread, both its halves."""
    document = json.loads(model.path.read_text())
    groups = reference.groups_of(document)
    shards = sum(len(group["paths"]) for group in groups)
    first, *others = [request["url"] for request in result["requests"]]
    assert first.endswith(".json")
    assert len(others) == shards + reference.misread_rows(model.path)
    assert all(re.search(r"\.[0-9a-f]{32}\.bin$", url) for url in others)


@dataclass(frozen=True)
class Use:
    """A way to load a model that users take. ``job`` gets the URL of its directory,
    without a slash.
    """

    name: str
    model: str
    job: cabc.Callable[[str], Job]
    check: cabc.Callable[[Result], object] = lambda result: None
    unused: int = 0

    def __str__(self) -> str:
        return self.name


def queries(result: Result) -> set[str]:
    return {request["url"].partition("?")[2] for request in result["requests"]}


def check_query(query: str) -> cabc.Callable[[Result], None]:
    def check(result: Result) -> None:
        assert queries(result) == {query}

    return check


def check_progress(result: Result) -> None:
    progress = result["progress"]
    assert progress == sorted(progress)
    assert progress[-1] == 1


def check_metadata(result: Result) -> None:
    assert result["also"] == [{"labels": ["cat", "größe"], "imageSize": 224}]


def layers(**job: t.Any) -> cabc.Callable[[str], Job]:
    return entry("layers", "/model.json", **job)


def graph(**job: t.Any) -> cabc.Callable[[str], Job]:
    return entry("graph", "/model.json", **job)


def entry(loader: str, suffix: str, **job: t.Any) -> cabc.Callable[[str], Job]:
    """A job for ``base + suffix``; a string in ``job`` may name the ``{base}`` too."""

    def make(base: str) -> Job:
        given: t.Any = {
            key: value.format(base=base) if isinstance(value, str) else value
            for key, value in job.items()
        }
        return t.cast(Job, {"loader": loader, "url": base + suffix, **given})

    return make


CUSTOM_HEADERS = {
    "requestInit": {"headers": {"Authorization": "Bearer token", "X-Custom": "1"}}
}
LAYERS = "mobilenet_v2/model.json"
GRAPH = "mobilenet_v2_mid/model.json"

USES = [
    Use("layers-directory", LAYERS, entry("layers", "")),
    Use("layers-directory-slash", LAYERS, entry("layers", "/")),
    Use("graph-directory", GRAPH, entry("graph", "")),
    Use("graph-directory-slash", GRAPH, entry("graph", "/")),
    Use(
        "graph-tfhub",
        GRAPH,
        entry("graph", "", options={"fromTFHub": True}),
        check_query("tfjs-format=file"),
    ),
    Use("graph-tfhub-slash", GRAPH, entry("graph", "/", options={"fromTFHub": True})),
    Use("query", GRAPH, entry("graph", "/model.json?v=1"), check_query("v=1")),
    Use("query-directory", GRAPH, entry("graph", "?v=1"), check_query("v=1")),
    Use("fragment", LAYERS, entry("layers", "/model.json#here")),
    Use("headers-layers", LAYERS, layers(options=CUSTOM_HEADERS)),
    Use("headers-graph", GRAPH, graph(options=CUSTOM_HEADERS)),
    Use("progress", GRAPH, graph(progress=True), check_progress),
    Use("stream", GRAPH, graph(options={"streamWeights": True})),
    Use("weight-urls", GRAPH, graph(weightUrl="{base}/*?token=abc")),
    Use("artifacts", "dtypes", entry("artifacts", "/model.json")),
    Use(
        "teachable-machine",
        "teachable",
        layers(also=["metadata.json"]),
        check_metadata,
    ),
    *(
        Use(
            net,
            f"face/{name}-weights_manifest.json",
            entry("faceapi", "", net=net),
            unused=17 if net == "ssdMobilenetv1" else 0,
        )
        for name, net in reference.FACE_NETS.items()
    ),
    Use("nsfwjs", LAYERS, entry("nsfwjs", "/")),
    Use("nsfwjs-graph", GRAPH, entry("nsfwjs", "/", options={"type": "graph"})),
]


def job_of(use: Use, model: Model, base: str) -> Job:
    return use.job(f"{base}/models/{model.name}")


# Models that change while they are served. Each test spoils one of its own.


@dataclass(frozen=True)
class Spoil:
    name: str
    act: cabc.Callable[[Path], object]

    def __str__(self) -> str:
        return self.name


def remove_all(shard: Path) -> None:
    for path in shard.parent.iterdir():
        path.unlink()


SPOILED = [
    *(Spoil(name, act) for name, act in reference.BROKEN.items()),
    Spoil("directory", remove_all),
]


@dataclass(frozen=True)
class Served:
    """A server of the whole zoo, and models of its own that the tests change: one
    under the name of each spoil, and one to retrain.
    """

    server: Server
    changing: dict[str, Model]

    @property
    def url(self) -> str:
        return self.server.url


@contextlib.contextmanager
def serve_zoo(kind: str, directory: Path, zoo: Zoo) -> cabc.Iterator[Served]:
    names = [*(f"spoiled-{spoil}" for spoil in SPOILED), "retrained"]
    changing = {name: reference.dense_model(directory / name) for name in names}
    config = zoo.config()
    for name, model in changing.items():
        config["TFJS_MODELS"][name] = str(model.directory)
    with serve(kind, directory, config) as server:
        yield Served(server, changing)


def spoiled_shard(model: Model) -> Path:
    return model.directory / "group2-shard1of1.bin"


def retrain(model: Model) -> None:
    """Other weights in a file of the same size and, as after a copy that preserves
    times, of the same modification time.
    """
    shard = spoiled_shard(model)
    before = shard.stat()
    weights = np.frombuffer(shard.read_bytes(), "<f4") + np.float32(1)
    shard.write_bytes(weights.tobytes())
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    reference.read_model.cache_clear()
