"""``flask tfjs compress``: which shards gain enough, what is printed, and what goes
wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import struct
import sys
from collections.abc import Iterable
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from conftest import MakeApp
from conftest import grow_old
from filesystem import make_clock_coarse
from filesystem import unprivileged_directory
from flask import Flask
from models import write_model

from flask_tfjs import create_blueprint
from flask_tfjs.cli import tfjs
from flask_tfjs.http.codings import encoded_blocks
from flask_tfjs.models import encodings

_random = random.Random(0)
NOISE = _random.randbytes(50_000)
# As weights are: small numbers around zero, of which only the exponent repeats.
FLOATS = b"".join(struct.pack("<f", _random.gauss(0, 0.1)) for _ in range(12_500))
# As quantized weights are: most of them near the middle.
BYTES = bytes(min(max(int(_random.gauss(128, 20)), 0), 255) for _ in range(50_000))


def noise_but_for(share: float) -> bytes:
    """What becomes smaller by little more than that *share*."""
    zeros = int(len(NOISE) * share)
    return NOISE[zeros:] + bytes(zeros)


def write(directory: Path, entry: str = "model.json", /, **shards: bytes) -> Path:
    files = {f"{name}.bin": data for name, data in shards.items()}
    weights = [
        {"name": name, "shape": [len(data)], "dtype": "bool"}
        for name, data in files.items()
    ]
    document = {"weightsManifest": [{"paths": list(files), "weights": weights}]}
    return write_model(directory, entry=entry, document=document, shards=files)


def make(make_app: MakeApp, tmp_path: Path, **shards: bytes) -> Flask:
    return make_app(TFJS_MODELS={"m": write(tmp_path / "m", **shards)})


def run(app: Flask, *arguments: str) -> Result:
    runner = app.test_cli_runner()
    vars(runner)["mix_stderr"] = False  # click 8.1 mixes unless told not to
    result = runner.invoke(tfjs, ["compress", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def encoded(folder: Path) -> list[str]:
    path = folder / "encoded"
    return sorted(os.listdir(path)) if path.exists() else []


# What is kept


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (NOISE, False),
        (noise_but_for(0.04), False),
        (noise_but_for(0.06), True),
        (BYTES, True),
        (bytes(50_000), True),
    ],
    ids=["noise", "4 %", "6 %", "uint8", "zeros"],
)
def test_what_gains_enough(
    make_app: MakeApp, tmp_path: Path, data: bytes, kept: bool
) -> None:
    app = make(make_app, tmp_path, w=data)
    found = rows(run(app, "m", "--json"))
    assert [(row["coding"], row["kept"]) for row in found] == [
        ("br", kept),
        ("gzip", kept),
    ]
    for row in found:
        assert row["name"].startswith("w.") and row["length"] == len(data)
        assert (row["encoded"] <= 0.95 * len(data)) is kept
        assert (row["encoded"] > 0.9 * len(data)) is (data is not BYTES and any(data))
    assert len(encoded(tmp_path / "instance/tfjs-cache")) == (2 if kept else 0)


@pytest.mark.parametrize(("length", "kept"), [(95, True), (96, False)])
def test_five_percent(
    make_app: MakeApp,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    length: int,
    kept: bool,
) -> None:
    def of_length(blocks: Iterable[bytes], coding: str) -> Iterator[bytes]:
        assert sum(map(len, blocks)) == 100
        yield bytes(length)

    monkeypatch.setattr(encodings, "encoded_blocks", of_length)
    app = make(make_app, tmp_path, w=NOISE[:100])
    assert {row["kept"] for row in rows(run(app, "m", "--json"))} == {kept}


def test_float_weights_gain_little(make_app: MakeApp, tmp_path: Path) -> None:
    app = make(make_app, tmp_path, w=FLOATS)
    for row in rows(run(app, "m", "--json")):
        assert 0.85 < row["encoded"] / row["length"] < 1


# What is printed


def test_output(make_app: MakeApp, tmp_path: Path) -> None:
    app = make(make_app, tmp_path, a=bytes(50_000), b=NOISE)
    result = run(app, "m")
    assert result.exit_code == 0
    head, *lines, br, gzip = result.stdout.splitlines()
    assert head.split() == ["SHARD", "CODING", "BYTES", "ENCODED", "SHARE"]
    cells = [line.split(maxsplit=5) for line in lines]
    assert [(c[0].partition(".")[0], c[1], c[2], c[5]) for c in cells] == [
        ("a", "br", "50,000", "kept"),
        ("a", "gzip", "50,000", "kept"),
        ("b", "br", "50,000", "gains too little"),
        ("b", "gzip", "50,000", "gains too little"),
    ]
    assert {c[4] for c in cells} == {"0.00", "1.00"}
    # What is not kept goes out as it is.
    small = {c[1]: int(c[3].replace(",", "")) for c in cells[:2]}
    for coding, line in (("br", br), ("gzip", gzip)):
        after = f"{50_000 + small[coding]:,}"
        assert line == f"{coding}: 100,000 bytes of shards become {after}"


def test_json(make_app: MakeApp, tmp_path: Path) -> None:
    app = make(make_app, tmp_path, w=BYTES)
    with app.test_client().get("/models/m/model.json") as response:
        (path,) = response.get_json()["weightsManifest"][0]["paths"]
    for row, coding in zip(rows(run(app, "m", "--json")), ("br", "gzip"), strict=True):
        headers = {"Accept-Encoding": coding}
        with app.test_client().get(f"/models/m/{path}", headers=headers) as response:
            length = len(response.data)
        assert row == {
            "name": path,
            "coding": coding,
            "length": 50_000,
            "encoded": length,
            "kept": True,
        }


def test_all_entries_and_each_content_once(make_app: MakeApp, tmp_path: Path) -> None:
    write(tmp_path / "m", "a.json", w=BYTES, x=NOISE)
    write(tmp_path / "m", "b.json", w=BYTES)
    write(tmp_path / "m", "sub/c.json", y=bytes(1000))
    app = make_app(TFJS_MODELS={"m": tmp_path / "m"})
    names = [row["name"].partition(".")[0] for row in rows(run(app, "m", "--json"))]
    assert sorted(names) == ["sub/y", "sub/y", "w", "w", "x", "x"]


def test_empty_shards_are_left_out(make_app: MakeApp, tmp_path: Path) -> None:
    app = make(make_app, tmp_path, a=BYTES, b=b"")
    assert {row["length"] for row in rows(run(app, "m", "--json"))} == {50_000}


def test_show_tells_what_goes_over_the_wire(make_app: MakeApp, tmp_path: Path) -> None:
    app = make(make_app, tmp_path, w=BYTES)

    def on_the_wire() -> dict[str, int]:
        result = app.test_cli_runner().invoke(tfjs, ["show", "m", "--json"])
        found: dict[str, int] = json.loads(result.stdout)[0]["bytes_on_the_wire"]
        return found

    before = on_the_wire()
    made = {row["coding"]: row for row in rows(run(app, "m", "--json"))}
    after = on_the_wire()
    for coding in before:
        saved = 50_000 - made[coding]["encoded"] if coding in made else 0
        assert after[coding] == before[coding] - saved


# Again


@pytest.mark.parametrize("age", [lambda app: None, grow_old], ids=["young", "old"])
def test_the_second_run_has_nothing_to_do(
    make_app: MakeApp,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    age: Any,
) -> None:
    models = {"m": write(tmp_path / "m", w=BYTES, z=bytes(9000))}
    first, second = (make_app(TFJS_MODELS=models) for _ in range(2))
    age(first)
    age(second)
    found = rows(run(first, "m", "--json"))

    def never(blocks: Any, coding: str) -> Any:
        raise AssertionError("encoded again")

    monkeypatch.setattr(encodings, "encoded_blocks", never)
    assert rows(run(second, "m", "--json")) == found
    assert run(second, "m").stdout.count(" kept") == 4


def test_what_changed_since(make_app: MakeApp, tmp_path: Path) -> None:
    app = make(make_app, tmp_path, w=BYTES)
    before = rows(run(app, "m", "--json"))
    (tmp_path / "m" / "w.bin").write_bytes(BYTES[::-1])
    after = rows(run(app, "m", "--json"))
    assert {r["name"] for r in before}.isdisjoint(r["name"] for r in after)
    assert len(encoded(tmp_path / "instance/tfjs-cache")) == 4


# What goes wrong


def refusal(result: Result) -> str:
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


def test_unknown_model(app: Flask) -> None:
    assert refusal(run(app, "unknown")) == "Error: there is no model 'unknown'"


def test_no_shards(make_app: MakeApp, tmp_path: Path) -> None:
    document = {"format": "graph-model", "modelTopology": {"node": []}}
    write_model(tmp_path / "m", document=document, shards={})
    app = make_app(TFJS_MODELS={"m": tmp_path / "m"})
    assert refusal(run(app, "m")) == "Error: m: there are no shards to encode"


def test_a_broken_entry_beside_a_sound_one(make_app: MakeApp, tmp_path: Path) -> None:
    app = make(make_app, tmp_path, w=BYTES)
    write(tmp_path / "m", "broken.json", b=NOISE)
    (tmp_path / "m" / "b.bin").write_bytes(b"")
    result = run(app, "m", "--json")
    assert result.exit_code == 1
    assert [row["kept"] for row in json.loads(result.stdout)] == [True, True]
    assert "Error: m/broken.json: b.bin: has 0 bytes" in result.stderr


def test_the_cache_is_off(make_app: MakeApp, tmp_path: Path) -> None:
    models = {"m": write(tmp_path / "m", w=BYTES)}
    app = make_app(TFJS_MODELS=models, TFJS_CACHE=None)
    assert refusal(run(app, "m")) == (
        "Error: TFJS_CACHE is off, so nothing can be kept; set it to a directory"
    )


def test_the_cache_is_a_file(make_app: MakeApp, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    models = {"m": write(tmp_path / "m", w=BYTES)}
    app = make_app(TFJS_MODELS=models, TFJS_CACHE=tmp_path / "cache")
    assert "TFJS_CACHE" in refusal(run(app, "m"))


@pytest.mark.parametrize("place", [".", "cache", "cache/encoded"])
def test_the_cache_cannot_be_written(make_app: MakeApp, place: str) -> None:
    with unprivileged_directory() as directory:
        write(directory / "m", w=BYTES)
        cache = directory / "cache"
        if place != ".":
            (directory / place).mkdir(parents=True)
        app = make_app(TFJS_MODELS={"m": directory / "m"}, TFJS_CACHE=cache)
        (directory / place).chmod(0o555)
        assert "Permission denied" in refusal(run(app, "m"))
        (directory / place).chmod(0o755)
        assert encoded(cache) == []


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_nothing_is_left_of_what_fails(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Such as on a full disk."""
    app = make(make_app, tmp_path, w=BYTES)

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        assert "No space left on device" in refusal(run(app, "m"))
    assert encoded(tmp_path / "instance/tfjs-cache") == []
    assert len(rows(run(app, "m", "--json"))) == 2


@pytest.mark.parametrize("coarse", [True, False])
def test_a_shard_that_changes_meanwhile(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coarse: bool
) -> None:
    """Its encoding would be that of neither content."""
    if coarse:
        make_clock_coarse(monkeypatch)
    app = make(make_app, tmp_path, w=BYTES)

    def changing(read: Iterable[bytes], coding: str) -> Iterator[bytes]:
        path = tmp_path / "m" / "w.bin"
        stat = path.stat()
        path.write_bytes(BYTES[::-1])
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        return encoded_blocks(read, coding)

    monkeypatch.setattr(encodings, "encoded_blocks", changing)
    assert "is being written to; ask again" in refusal(run(app, "m"))
    assert encoded(tmp_path / "instance/tfjs-cache") == []


# Without the extra


def test_gzip_only(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec

    def without(name: str, *rest: Any) -> ModuleSpec | None:
        return None if name in ("brotli", "zstandard") else find_spec(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    app = make(make_app, tmp_path, w=BYTES)
    result = run(app, "m", "--json")
    assert [row["coding"] for row in rows(result)] == ["gzip"]
    hint = "Without br, which gains more: pip install 'flask-tfjs[compress]'"
    assert hint in result.stderr
    headers = {"Accept-Encoding": "br, zstd, gzip;q=0.1"}
    for url in ("/models/m/model.json", "/models/m/w.bin"):
        with app.test_client().get(url, headers=headers) as response:
            assert response.headers["Content-Encoding"] == "gzip"


def test_no_hint_where_it_is_installed(make_app: MakeApp, tmp_path: Path) -> None:
    result = run(make(make_app, tmp_path, w=BYTES), "m")
    assert "pip install" not in result.stderr


def test_one_of_several_blueprints(make_app: MakeApp, tmp_path: Path) -> None:
    app = make(make_app, tmp_path, w=BYTES)
    app.register_blueprint(
        create_blueprint(
            "more",
            url_prefix="/more",
            models={"n": write(tmp_path / "n", w=BYTES)},
            cache=tmp_path / "other",
        )
    )
    assert "name one: tfjs, more" in refusal(run(app, "n"))
    assert len(rows(run(app, "n", "--blueprint", "more", "--json"))) == 2
    assert len(encoded(tmp_path / "other")) == 2
    assert not (tmp_path / "instance/tfjs-cache").exists()


def test_python_without_sqlite(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make(make_app, tmp_path, w=BYTES)
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    assert "TFJS_CACHE needs SQLite" in refusal(run(app, "m"))
