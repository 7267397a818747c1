"""Whether somebody writes a model just now.

A model is several files, and nothing on disk tells that only some of them are written
yet: a shard trained anew has the size of the old one. What can be told is that writers
write one file right after the other. So a model counts once all its files have been at
rest for a while.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import NamedTuple

from .files import Identity
from .files import identify

#: Nanoseconds that a model's files must be at rest before it is delivered.
QUIET_NS = 500_000_000

#: Nanoseconds that a copy beside a file may stand still before it counts as left over.
STALLED_NS = 10_000_000_000

#: Nanoseconds after which a change of a file has nothing to do with a copy beside it:
#: the copy is the first of a new model, and the old one is still whole.
DEPLOY_NS = 3_600_000_000_000

#: Nanoseconds by which the clock of a file server may be ahead.
AHEAD_NS = 60_000_000_000

# How rsync, browsers and programs that replace a file by renaming call it until then.
_SUFFIXES = ("~", ".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload")

# Vim's swap files live as long as the editor.
_NO_COPIES = (".swp", ".swx")


class Unrest(NamedTuple):
    """A sign of a writer.

    :ivar path: of the file that it was seen at.
    :ivar again_ns: nanoseconds after which another look may find the model at rest.
    """

    path: str
    again_ns: int


def find_unrest(
    root: str, watched: Mapping[str, Identity | None], now_ns: int
) -> Unrest | None:
    """A sign that a model is being written to.

    :param root: the registered directory. What leads to it is not looked at: who
        switches that replaces all files at once.
    :param watched: the path of each of its files and its identity just now.
    :param now_ns: since the epoch, as the file system stamps.
    """
    ages: dict[str, int] = {}
    for path, stamps in _stamps(root, watched).items():
        # One in the far future was set by hand.
        near = [now_ns - stamp for stamp in stamps if stamp - now_ns < AHEAD_NS]
        if near:
            ages[path] = min(near)
    youngest = min(ages, key=ages.__getitem__, default=None)
    if youngest is not None and ages[youngest] < QUIET_NS:
        return Unrest(youngest, QUIET_NS - ages[youngest])
    # The folder of a copy is as young as the copy.
    if all(ages.get(path, DEPLOY_NS) >= DEPLOY_NS for path in watched):
        return None
    copy = next(_copies(watched, now_ns), None)
    return None if copy is None else Unrest(copy, QUIET_NS)


def _stamps(
    root: str, watched: Mapping[str, Identity | None]
) -> dict[str, tuple[int, ...]]:
    """The time stamps of the files and of all that leads to them."""
    found: dict[str, tuple[int, ...]] = {}
    for path, seen in watched.items():
        for part in _below(root, path):
            if part not in found:
                found[part] = _own_stamps(part)
        # Links have stamps of their own; where nothing is, its folder tells since when.
        also = seen.stamps if seen is not None else _own_stamps(os.path.dirname(path))
        found[path] = (*found.get(path, ()), *also)
    return found


def _below(root: str, path: str) -> Iterator[str]:
    while len(path) > len(root):
        yield path
        path = os.path.dirname(path)


def _own_stamps(path: str) -> tuple[int, ...]:
    try:
        status = os.lstat(path)
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ctime_ns


def _copies(paths: Iterable[str], now_ns: int) -> Iterator[str]:
    """The copies under way that will replace one of the files."""
    bases: dict[str, list[str]] = {}
    for path in paths:
        folder, base = os.path.split(path)
        bases.setdefault(folder, []).append(base)
    for folder in bases:
        for copy in _young_copies(folder, now_ns):
            if any(base in os.path.basename(copy) for base in bases[folder]):
                yield copy


def _young_copies(folder: str, now_ns: int) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(".") or name.endswith(_SUFFIXES):
                    copy = identify(entry.path)
                    age = now_ns - copy.modified_ns if copy else STALLED_NS
                    if abs(age) < STALLED_NS and not name.endswith(_NO_COPIES):
                        yield entry.path
    except OSError:
        return  # the folder is gone
