"""What the JSON of a published model says of itself: a member that no client of
TensorFlow.js looks at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from typing import TypeGuard

from ..errors import InvalidModel
from .manifest import ModelJSON
from .paths import content_name
from .paths import content_stem

#: The member, of the object, or in a bare list that of the first group.
MEMBER = "flaskTfjs"

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a published model.

    :ivar version: 1 or more; never given twice under one name.
    :ivar published: when, as RFC 3339 writes it, in UTC.
    :ivar sha256: of each shard, by the name of its file, 64 hex digits.
    :ivar assets: of each file that goes with the model, by its name, the same.
    """

    version: int
    published: str
    sha256: Mapping[str, str]
    assets: Mapping[str, str]


def with_release(document: Any, release: Release) -> Any:
    """A model's *document* that says which release it is."""
    member = {
        "version": release.version,
        "published": release.published,
        "sha256": dict(release.sha256),
        "assets": dict(release.assets),
    }
    if isinstance(document, list):
        return [{**document[0], MEMBER: member}, *document[1:]]
    return {**document, MEMBER: member}


def release_of(model: ModelJSON, where: str) -> Release:
    """Which release *model* is.

    :param where: the file's relative name, for the message.
    :raises InvalidModel: it does not say so, or not rightly.
    """
    holder = model.document[0] if model.is_list else model.document
    member = holder.get(MEMBER)
    if not isinstance(member, dict):
        raise InvalidModel(
            "is not a published model, but lies in the folder of published ones; move "
            "its directory elsewhere, and publish or register it",
            where,
        )
    release = _read(member)
    named = {path for group in model.groups for path in group.paths}
    if release is None or set(release.sha256) != named:
        raise changed_by_hand(where)
    return release


def changed_by_hand(where: str) -> InvalidModel:
    return InvalidModel(
        f"the member {MEMBER!r} was changed by hand; publish the model again", where
    )


def _read(member: dict[str, Any]) -> Release | None:
    version, published = member.get("version"), member.get("published")
    sha256, assets = member.get("sha256"), member.get("assets")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        return None
    if not _are_digests(sha256) or not _are_digests(assets):
        return None
    if not isinstance(published, str) or not all(map(_is_content_name, sha256.items())):
        return None
    return Release(version, published, sha256, assets)


def _are_digests(value: Any) -> TypeGuard[dict[str, str]]:
    return isinstance(value, dict) and all(
        "/" not in name and isinstance(digest, str) and _SHA256.fullmatch(digest)
        for name, digest in value.items()
    )


def _is_content_name(item: tuple[str, str]) -> bool:
    name, sha256 = item
    of = content_stem(name)
    return of is not None and name == content_name(of, bytes.fromhex(sha256))
