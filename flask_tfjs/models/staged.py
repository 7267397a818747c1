"""A model on its way into the store."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import NamedTuple


class StagedFile(NamedTuple):
    """A file of a model that is about to be published.

    :ivar name: by content.
    :ivar sha256: 64 hex digits.
    """

    name: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class StagedModel:
    """A checked model whose files wait in a staging folder.

    :ivar document: the JSON's value, but for ``paths`` and what tells the release.
    :ivar shards: of each group.
    :ivar assets: files that go with it, by name; ``None``: those of the current
        version.
    """

    document: Any
    shards: Sequence[Sequence[StagedFile]]
    assets: Mapping[str, StagedFile] | None = None
