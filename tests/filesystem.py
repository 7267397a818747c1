"""What the tests do to files, and how long they let them be read."""

from __future__ import annotations

import codecs
import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from flask_tfjs.models import files
from flask_tfjs.models import listing


def bind(path: Path) -> None:
    """Put a socket at *path*."""
    here = os.getcwd()
    os.chdir(path.parent)  # the address of a socket may have 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def tick(directory: Path) -> None:
    """Wait until the file system's clock has moved: what is written from now on has
    other time stamps than anything in *directory*."""
    paths = [directory, *directory.rglob("*")]
    latest = max(path.lstat().st_ctime_ns for path in paths)
    while True:
        with tempfile.TemporaryFile(dir=directory.parent) as file:
            if os.fstat(file.fileno()).st_ctime_ns > latest:
                return


def make_clock_coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all files look as on a file system whose clock ticks every two seconds, such
    as FAT. Newer kernels stamp so finely that no two writes share a stamp."""

    def coarse(stamp: int) -> int:
        return stamp - stamp % 2_000_000_000

    identity, folder_stamp = files._identity, listing._stamp

    def coarse_identity(status: os.stat_result) -> files.Identity | None:
        found = identity(status)
        if found is None:
            return None
        return files.Identity(*found[:3], *map(coarse, found.stamps))

    def coarse_stamp(path: str) -> tuple[int, int, int, int] | None:
        found = folder_stamp(path)
        return found and (*found[:2], coarse(found[2]), coarse(found[3]))

    monkeypatch.setattr(files, "_identity", coarse_identity)
    monkeypatch.setattr(listing, "_stamp", coarse_stamp)


@contextlib.contextmanager
def time_limit(seconds: float = 10) -> Iterator[None]:
    """Raise in the midst of whatever takes longer, a blocking call of the system
    included."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done in {seconds} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


NOBODY = 65534


@contextlib.contextmanager
def unprivileged_directory() -> Iterator[Path]:
    """A new directory, and a process for which permissions count: root has them all,
    and pytest's own folders of root let nobody else in."""
    directory = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    if root:
        directory.chmod(0o755)
        os.chown(directory, NOBODY, NOBODY)
        # Imported at its first use, when the interpreter's files may be out of reach.
        for codec in ("utf-8-sig", "idna"):
            codecs.lookup(codec)
        os.seteuid(NOBODY)
    try:
        yield directory
    finally:
        if root:
            os.seteuid(0)
        directory.chmod(0o755)
        for folder, names, _ in os.walk(directory):
            for name in names:
                Path(folder, name).chmod(0o755)
        shutil.rmtree(directory)
