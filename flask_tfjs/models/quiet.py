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

from .files import Identity
from .files import identify

#: Nanoseconds that a model's files must be at rest before it is delivered.
QUIET_NS = 500_000_000

#: Nanoseconds that a copy beside a file may stand still before it counts as left over.
STALLED_NS = 10_000_000_000

# How rsync, editors, browsers and programs that replace a file by renaming call it
# until then.
_SUFFIXES = ("~", ".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload")


def unrest_ns(watched: Mapping[str, Identity | None], now_ns: int) -> int:
    """Nanoseconds until the files may be at rest; 0: they are.

    :param watched: the path of each file and its identity just now.
    :param now_ns: since the epoch, as the file system stamps.
    """
    stamps = [stamp for seen in watched.values() if seen for stamp in seen.stamps]
    # A stamp in the future was set by hand, or by another machine's clock.
    ages = [now_ns - stamp for stamp in stamps if stamp <= now_ns]
    youngest = min(ages, default=QUIET_NS)
    if youngest < QUIET_NS:
        return QUIET_NS - youngest
    return QUIET_NS if _is_copied(watched, now_ns) else 0


def _is_copied(paths: Iterable[str], now_ns: int) -> bool:
    """Whether a copy that will replace one of the files is under way beside it."""
    bases: dict[str, list[str]] = {}
    for path in paths:
        folder, base = os.path.split(path)
        bases.setdefault(folder, []).append(base)
    return any(
        any(base in name for base in bases[folder])
        for folder in bases
        for name in _young_copies(folder, now_ns)
    )


def _young_copies(folder: str, now_ns: int) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.endswith(_SUFFIXES):
                    copy = identify(entry.path)
                    if copy and 0 <= now_ns - copy.modified_ns < STALLED_NS:
                        yield entry.name
    except OSError:
        return  # the folder is gone
