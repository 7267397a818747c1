"""What lies in a registered directory: bounded, and without opening a file."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field

from .digests import is_settled
from .files import Root

#: Levels of folders below a registered directory that are looked into.
MAX_DEPTH = 8

#: Files and folders that are looked at in one registered directory.
MAX_FILES = 20_000

_Stamp = tuple[int, int, int, int]


@dataclass(slots=True)
class Listing:
    """The names in a registered directory, relative to it, ``/`` between folders.

    :ivar json: regular files ending in ``.json``: the candidates for models.
    :ivar names: all regular files.
    :ivar refused: files and folders that links make unservable, and why.
    :ivar truncated: whether a bound was reached.
    """

    json: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    truncated: bool = False
    settled: bool = False
    _watched: dict[str, _Stamp | None] = field(default_factory=dict)
    _looked_at: int = 0

    def is_current(self) -> bool:
        """Whether no name came or went since: a folder's time stamps change with its
        names, not with the contents of its files."""
        return self.settled and all(
            _stamp(path) == stamp for path, stamp in self._watched.items()
        )

    def _settle(self, now_ns: int) -> None:
        self.settled = all(
            stamp is None or is_settled(stamp[2:], now_ns)
            for stamp in self._watched.values()
        )


class FolderNames:
    """The names in one folder, at the price of a ``stat`` while they stay the same."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._names: frozenset[str] = frozenset()
        self._stamps: tuple[int, int] | None = None

    def of(self, path: str) -> frozenset[str]:
        """The names in the folder *path*, the same at each call; none where it cannot
        be read."""
        try:
            status = os.stat(path)
            stamps = (status.st_mtime_ns, status.st_ctime_ns)
            if stamps != self._stamps:
                now = self._clock()
                self._names = frozenset(os.listdir(path))
                self._stamps = stamps if is_settled(stamps, now) else None
        except OSError:
            return frozenset()
        return self._names


def list_directory(
    root: Root, clock: Callable[[], int] = time.time_ns, *, deep: bool = True
) -> Listing:
    """List *root*; hidden names are passed over, links followed where *root* holds
    their target.

    :param deep: whether to look into the folders in it.
    :raises OSError: the directory itself is missing or unreadable.
    """
    os.scandir(root.path).close()
    started = clock()
    listing = Listing()
    # The shallow folders first: the bound must not be spent in some deep one.
    pending: deque[tuple[str, tuple[str, ...]]] = deque([("", ())])
    while pending:
        folder, above = pending.popleft()
        real = os.path.realpath(root.join(folder) if folder else root.path)
        if real in above:  # a link to a folder it lies in
            continue
        if len(above) > MAX_DEPTH:
            listing.truncated = True
            continue
        inside = (*above, real)
        folders = _list_folder(root, folder, listing)
        pending += [(name, inside) for name in folders if deep]
    listing.json.sort()
    listing._settle(started)
    return listing


def _list_folder(root: Root, folder: str, listing: Listing) -> list[str]:
    path = root.join(folder) if folder else root.path
    # Before reading: a name that comes while we read makes the listing outdated.
    listing._watched[path] = _stamp(path)
    folders = []
    for entry in _entries(path, listing):
        if listing._looked_at >= MAX_FILES:
            listing.truncated = True
            break
        listing._looked_at += 1
        target = _stamp(entry.path) if entry.is_symlink() else None
        name = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_symlink() and not root.holds(entry.path):
            listing.refused[name] = (
                "is a link that leads out of the registered directory; "
                "name the folder it leads to in TFJS_LINK_ROOTS"
            )
        elif os.path.isdir(entry.path):
            folders.append(name)
        elif os.path.isfile(entry.path):
            listing.names.add(name)
            if name.endswith(".json"):
                listing.json.append(name)
        elif entry.is_symlink():
            # A file may come where it leads to, and no folder of ours changes then.
            listing._watched[entry.path] = target
    return folders


def _entries(path: str, listing: Listing) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            yield from (e for e in entries if _has_url(e.name))
    except PermissionError:
        return  # listed as empty; a folder that becomes readable changes its stamp
    except OSError:
        # Gone, or the system is short of something: no stamp tells when it is over.
        listing._watched[path] = None


def _has_url(name: str) -> bool:
    # A lone surrogate stands for a byte that is not UTF-8: no JSON and no URL names it.
    hidden = name.startswith(".")
    return not hidden and not any("\ud800" <= c <= "\udfff" for c in name)


def _stamp(path: str) -> _Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns
