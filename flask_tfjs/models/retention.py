"""What of a published model is kept, and for how long."""

from __future__ import annotations

import os
from typing import NamedTuple

from .assets import show_assets
from .store import LocalStore
from .store import version_name
from .versions import current
from .versions import files_of
from .versions import releases


class Swept(NamedTuple):
    """What a cleaning removed.

    :ivar faults: why some of the names were passed over.
    """

    files: int
    byte_length: int
    faults: tuple[str, ...] = ()


def collect(store: LocalStore, name: str, *, keep: int, grace: float) -> Swept:
    """Remove the versions of *name* that are neither current, nor among the *keep*
    newest, nor were current within *grace* seconds; and the shards and assets that no
    remaining version names, and that are older than that.

    :raises InvalidModel: a JSON was changed by hand; nothing is removed then, since
        nobody knows what it named.
    """
    if not os.path.isdir(store.folder(name).path):
        return Swept(0, 0)
    with store.stage() as staging, store.writing(name) as folder:
        now = current(folder)
        there = folder.versions()
        kept = set(there[:keep]) | {n for n in there if folder.age_of(n) <= grace}
        named: set[str] = set()
        if now is None:
            # Never published, or the remains of it: nothing of it is served.
            folder.remember_last_version(staging)
            kept = set()
        else:
            kept.add(now.release.version)
            named.update(files_of(folder, now.release))
        for number, release in releases(store, folder).items():
            if number in kept:
                named.update(files_of(folder, release))
        show_assets(store, folder, staging, now.release if now else None)
        removed = [folder.join(version_name(n)) for n in there if n not in kept]
        removed += [
            path
            for path in folder.content_files()
            if path not in named and folder.age(path) > grace
        ]
        for path in removed:
            store.releases.pop(path, None)
        return Swept(len(removed), sum(folder.remove(path) for path in removed))
