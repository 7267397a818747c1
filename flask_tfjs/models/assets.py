"""The assets of a published model under their own names beside it, where other servers
find them. This one sends what the current version names, by content."""

from __future__ import annotations

import hashlib
import logging

from ..errors import InvalidModel
from ..format.release import Release
from .store import Folder
from .store import LocalStore
from .store import Staging
from .versions import releases

logger = logging.getLogger("flask_tfjs")


def show_assets(
    store: LocalStore, folder: Folder, staging: Staging, release: Release | None
) -> None:
    """Put the assets of *release* under their own names beside the model, where other
    servers find them, and remove those of other versions."""
    wanted = release.assets if release else {}
    try:
        for name, sha256 in wanted.items():
            if _shown(folder, name) != sha256:
                with open(folder.asset_path(sha256), "rb") as asset:
                    folder.replace(staging.copy(asset), name)
        for name, digests in _known_assets(store, folder).items():
            # Another content is somebody else's file.
            if name not in wanted and _shown(folder, name) in digests:
                folder.remove(folder.join(name))
    except (OSError, InvalidModel) as error:
        logger.warning(
            "%s: the files beside the model are those of another version (%s); only "
            "servers other than this one send them",
            folder.path,
            error,
        )


def _shown(folder: Folder, name: str) -> str | None:
    """The digest of the file *name* beside the model."""
    data = folder.read(name)
    return None if data is None else hashlib.sha256(data).hexdigest()


def _known_assets(store: LocalStore, folder: Folder) -> dict[str, set[str]]:
    """The digests that each asset has or had in some version."""
    known: dict[str, set[str]] = {}
    for release in releases(store, folder).values():
        for name, sha256 in release.assets.items():
            known.setdefault(name, set()).add(sha256)
    return known
