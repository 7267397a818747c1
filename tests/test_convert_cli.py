"""``flask tfjs convert`` and ``flask tfjs quantize``: what they print, where, and with
which exit code. What they write is looked at in the tests of the rooms behind them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from click.testing import Result
from servers import TESTS

from flask_tfjs.cli import tfjs

KERAS_2 = TESTS / "fixtures" / "keras2"
MLP = str(KERAS_2 / "mlp" / "model.keras")
GRU = str(KERAS_2 / "gru" / "model.h5")
CUSTOM = str(KERAS_2 / "custom" / "model.keras")

TAG = '<script src="/models/-/static/keras-layers.js"></script>'


def run(*args: str | Path) -> Result:
    runner = CliRunner()
    vars(runner)["mix_stderr"] = False  # click 8.1 mixes unless told not to
    return runner.invoke(tfjs, [str(arg) for arg in args])


def test_a_model_becomes_a_directory_and_the_page_is_told(tmp_path: Path) -> None:
    result = run("convert", MLP, tmp_path / "models" / "mlp")
    assert (result.exit_code, result.stderr) == (0, "")
    first, *_, last = result.stdout.splitlines()
    assert first == f"Converted {MLP} to {tmp_path}/models/mlp: 3.7 kB"
    url = "/models/mlp/model.json"
    assert last == f'const model = await tf.loadLayersModel("{url}");'
    assert TAG not in result.stdout
    names = sorted(os.listdir(tmp_path / "models" / "mlp"))
    assert names == ["group1-shard1of1.bin", "model.json"]


def test_a_model_that_needs_the_script_says_so(tmp_path: Path) -> None:
    result = run("convert", GRU, tmp_path / "gru")
    assert result.exit_code == 0
    assert "Note: gru: " in result.stdout and "the script of layers" in result.stdout
    assert TAG in result.stdout
    shown = run("show", tmp_path / "gru")
    assert TAG in shown.stdout
    (row,) = json.loads(run("show", "--json", tmp_path / "gru").stdout)
    assert row["script"] == "/models/-/static/keras-layers.js"


def test_a_model_of_stock_layers_needs_no_script(tmp_path: Path) -> None:
    run("convert", MLP, tmp_path / "mlp")
    assert "script" not in run("show", tmp_path / "mlp").stdout
    (row,) = json.loads(run("show", "--json", tmp_path / "mlp").stdout)
    assert row["script"] is None


def test_stock_layers_refuses_what_needs_the_script(tmp_path: Path) -> None:
    result = run("convert", GRU, tmp_path / "gru", "--stock-layers")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "gru: GRU has no equal" in result.stderr
    assert "reset_after=False" in result.stderr
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_converted_is_refused_by_name(tmp_path: Path) -> None:
    result = run("convert", CUSTOM, tmp_path / "custom")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: scale: TensorFlow.js has no layer Scale; ")
    assert "--custom Scale" in result.stderr
    assert os.listdir(tmp_path) == []


def test_a_class_of_the_pages_own_is_handed_through(tmp_path: Path) -> None:
    result = run("convert", CUSTOM, tmp_path / "custom", "--custom", "Scale")
    assert result.exit_code == 0, result.stderr
    assert "Note: scale: the page must register a class Scale" in result.stdout


def test_a_class_that_no_layer_has_is_told(tmp_path: Path) -> None:
    result = run("convert", MLP, tmp_path / "mlp", "--custom", "Scala")
    assert result.exit_code == 0
    assert "Note: no layer is of the class Scala" in result.stdout


def test_the_model_gets_the_name_it_is_given(tmp_path: Path) -> None:
    run("convert", MLP, tmp_path / "mlp", "--name", "digits")
    document = json.loads((tmp_path / "mlp" / "model.json").read_text())
    assert document["modelTopology"]["model_config"]["config"]["name"] == "digits"


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_there_and_back(tmp_path: Path, suffix: str) -> None:
    run("convert", MLP, tmp_path / "mlp")
    back = tmp_path / f"back{suffix}"
    result = run("convert", tmp_path / "mlp", back)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"Converted {tmp_path}/mlp to {back}: ")
    again = run("convert", back, tmp_path / "again")
    assert again.exit_code == 0, again.stderr
    shards = [tmp_path / name / "group1-shard1of1.bin" for name in ("mlp", "again")]
    assert shards[0].read_bytes() == shards[1].read_bytes()


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    target = tmp_path / "mlp"
    assert run("convert", MLP, target).exit_code == 0
    before = (target / "model.json").read_bytes()
    refused = run("convert", GRU, target)
    assert refused.exit_code == 1 and "--force" in refused.stderr
    assert (target / "model.json").read_bytes() == before
    assert run("convert", GRU, target, "--force").exit_code == 0
    assert (target / "model.json").read_bytes() != before


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["convert", "none.keras", "out"], 1, "no file or directory 'none.keras'"),
        (["convert", MLP, "out.keras"], 2, "becomes a directory"),
        (["convert", MLP, "out.json"], 2, "becomes a directory"),
        (["convert", str(KERAS_2), "out.keras"], 1, ""),
        (["convert", ".", "out.keras", "--name", "x"], 2, "for one of Keras"),
        (["quantize", "none", "out"], 1, "no file or directory 'none'"),
        (["quantize", ".", "out", "--to", "int4"], 2, "--to"),
        (["quantize", ".", "out", "--only", "float16"], 2, "PATTERN=CODING"),
        (["quantize", ".", "out", "--only", "*=int4"], 2, "PATTERN=CODING"),
    ],
)
def test_wrong_commands(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert said in result.stderr and "Traceback" not in result.stderr
    assert os.listdir(tmp_path) == []


def test_weights_are_stored_in_half_the_bytes(tmp_path: Path) -> None:
    run("convert", MLP, tmp_path / "mlp")
    result = run("quantize", tmp_path / "mlp", tmp_path / "half")
    assert (result.exit_code, result.stderr) == (0, "")
    first, head, *rows = result.stdout.splitlines()
    assert first.startswith(f"Quantized {tmp_path}/mlp to {tmp_path}/half: 3.7 kB ")
    assert head.split() == ["STORED", "AS", "BEFORE", "AFTER", "LARGEST", "CHANGE"]
    assert [row.split()[0] for row in rows] == ["float16", "float32"]


def test_eight_bits_come_with_a_warning(tmp_path: Path) -> None:
    run("convert", MLP, tmp_path / "mlp")
    result = run("quantize", tmp_path / "mlp", tmp_path / "small", "--to", "uint8")
    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: uint8 ")


def test_a_coding_for_some(tmp_path: Path) -> None:
    run("convert", MLP, tmp_path / "mlp")
    only = ["--only", "*/kernel=uint16", "--to", "none"]
    result = run("quantize", tmp_path / "mlp", tmp_path / "small", *only)
    assert result.exit_code == 0
    document = json.loads((tmp_path / "small" / "model.json").read_text())
    coded = {
        spec["name"].rpartition("/")[2]
        for group in document["weightsManifest"]
        for spec in group["weights"]
        if "quantization" in spec
    }
    assert coded == {"kernel"}


@pytest.mark.parametrize(
    "command", [["convert", MLP, "out"], ["quantize", str(TESTS), "out"]]
)
def test_the_extra_is_named_where_it_is_absent(
    tmp_path: Path, command: list[str]
) -> None:
    # As an interpreter without NumPy would fail.
    (tmp_path / "numpy.py").write_text("raise ImportError(name='numpy')")
    done = subprocess.run(
        [sys.executable, "-m", "flask", "tfjs", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: Converting and quantizing needs packages that are not installed "
        "(numpy): pip install 'flask-tfjs[keras]'\n"
    )
