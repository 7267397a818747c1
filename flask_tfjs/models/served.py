"""What all models that have URLs offer, wherever their files come from."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import InvalidModel
from ..errors import ModelNotFound
from .delivery import Delivery
from .delivery import Examination
from .digests import Digest
from .files import Body
from .files import FileChanged
from .files import OpenFile
from .files import Root


@dataclass(frozen=True, slots=True)
class ServedFile:
    """A file, or a part of one, that has a URL.

    :ivar digest: of what is served, and where in the file that is.
    :ivar shard: whether a manifest names it; otherwise it is an asset.
    :ivar immutable: whether *name* means these bytes for ever.
    """

    name: str
    path: str
    digest: Digest
    shard: bool
    immutable: bool = False


class ServedModel(ABC):
    """All that is served under one name.

    :ivar path: of the directory or the ``.json`` file.
    :ivar label: how a person named it.
    """

    name: str
    path: str
    label: str
    root: Root

    @abstractmethod
    def entries(self) -> list[str]:
        """The JSON files that are models, sound ones and broken ones.

        :raises InvalidModel: the directory is missing or unreadable.
        """

    @abstractmethod
    def main(self) -> Delivery:
        """The model of the directory's own URL: ``model.json``, or the only one.

        :raises ModelNotFound: there is none, or there are several; names them.
        :raises InvalidModel: it cannot be loaded, or the directory is missing.
        """

    @abstractmethod
    def delivery(self, entry: str) -> Delivery:
        """The sound model that the JSON file *entry* is.

        :raises InvalidModel: it cannot be loaded, and why.
        :raises ModelNotFound: there is no such file, or it is not a model.
        """

    @abstractmethod
    def ready(self, entry: str | None) -> Delivery | None:
        """The model *entry*, or the main one, if that takes no time. Otherwise
        ``None``, and it is prepared in the background.

        :raises InvalidModel: it cannot be loaded, and why.
        :raises ModelNotFound: there is no such file, or it is not a model.
        """

    @abstractmethod
    def examine(self, entry: str) -> Examination:
        """The model that the JSON file *entry* is, checked but not hashed.

        :raises InvalidModel: it cannot be loaded, and why.
        :raises ModelNotFound: there is no such file, or it is not a model.
        """

    @abstractmethod
    def file(self, name: str) -> ServedFile:
        """The shard, the piece of a delivery or the asset *name*.

        :raises ModelNotFound: nothing of that name may be served.
        :raises InvalidModel: it is a shard of a broken model only. It is withheld: a
            client that has the model's JSON would read it as weights.
        """

    @abstractmethod
    def is_shard(self, name: str) -> bool:
        """Whether the manifest of some entry names the file *name*."""

    @abstractmethod
    def no_model(self) -> str:
        """Why there is no entry."""

    def versions(self) -> list[int]:
        """The published versions that are kept, the newest first."""
        return []

    def damaged_files(self) -> Iterator[str]:
        """The files that are not what their names say."""
        return iter(())

    def sound_entries(self) -> Iterator[str]:
        """The entries that can be loaded; none where the directory is missing."""
        try:
            entries = self.entries()
        except InvalidModel:
            return
        for entry in entries:
            try:
                self.examine(entry)
            except (InvalidModel, ModelNotFound):
                continue
            yield entry


def open_body(path: str, digest: Digest, start: int, stop: int) -> Body:
    """The bytes ``[start, stop)`` of what *digest* is of.

    :param path: of the file.
    :raises FileChanged: the file is another one by now.
    :raises OSError: it cannot be read.
    """
    file = OpenFile(path)
    if file.identity != digest.identity:
        file.close()
        raise FileChanged(file.name)
    return Body(
        file,
        digest.offset + start,
        digest.offset + stop,
        None if digest.settled else digest.promise,
    )
