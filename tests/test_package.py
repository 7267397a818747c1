"""What is built and installed is complete, and nothing more."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest

import flask_tfjs

ROOT = Path(__file__).parent.parent

#: Rooms whose tests need nothing but the package and pytest.
SDIST_TESTS = ("test_config.py", "test_registry.py", "test_cli.py", "test_findings.py")


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", directory, cwd=ROOT)
    return directory


@pytest.fixture(scope="module")
def sdist(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (archive,) = dist.glob("*.tar.gz")
    directory = tmp_path_factory.mktemp("sdist")
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    (unpacked,) = directory.iterdir()
    return unpacked


def files_of_the_checkout(*folders: str) -> set[str]:
    options = ("--cached", "--others", "--exclude-standard")
    listed = run("git", "ls-files", *options, "--", *folders, cwd=ROOT).split("\n")
    return {name for name in listed if name and not name.endswith(".gitignore")}


def in_a_checkout() -> bool:
    return (ROOT / ".git").exists()


@pytest.mark.skipif(not in_a_checkout(), reason="compares with what git tracks")
def test_the_sdist_holds_every_file(sdist: Path) -> None:
    shipped = {
        path.relative_to(sdist).as_posix()
        for path in sdist.rglob("*")
        if path.is_file()
    }
    mine = files_of_the_checkout()
    assert mine - shipped == set()
    extra = {name for name in shipped - mine if ".egg-info/" not in name}
    assert extra == {"PKG-INFO"}


@pytest.mark.skipif(not in_a_checkout(), reason="compares with what git tracks")
def test_the_wheel_holds_the_package_alone(dist: Path) -> None:
    (archive,) = dist.glob("*.whl")
    with zipfile.ZipFile(archive) as wheel:
        names = {n for n in wheel.namelist() if ".dist-info/" not in n}
    assert names == files_of_the_checkout("flask_tfjs")
    assert "flask_tfjs/py.typed" in names


def test_the_tests_of_the_sdist_run(sdist: Path) -> None:
    tests: Sequence[object] = [sdist / "tests" / name for name in SDIST_TESTS]
    run(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *tests,
        cwd=sdist,
    )


def test_the_wheel_runs_alone(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", wheel, cwd=tmp_path)
    installed = run(python, "-m", "pip", "list", "--format=freeze", cwd=tmp_path)
    names = {line.partition("==")[0].lower() for line in installed.split()}
    assert names - {"pip", "setuptools"} == {
        *("flask-tfjs", "flask", "werkzeug", "click"),
        *("blinker", "itsdangerous", "jinja2", "markupsafe"),
    }
    (tmp_path / "app.py").write_text(
        "from flask import Flask\nfrom flask_tfjs import tfjs_bp\n"
        "app = Flask(__name__)\napp.register_blueprint(tfjs_bp)\n"
    )
    assert "No models" in run(python, "-m", "flask", "tfjs", "list", cwd=tmp_path)


def test_dependencies_are_three() -> None:
    required = metadata.requires("flask-tfjs") or []
    core = sorted(text for text in required if "extra ==" not in text)
    assert core == ["click>=8.1", "flask>=3.1", "werkzeug>=3.1"]


def test_the_public_names_are_those_of_all() -> None:
    assert sorted(flask_tfjs.__all__) == flask_tfjs.__all__
    for name in flask_tfjs.__all__:
        assert getattr(flask_tfjs, name) is not None
