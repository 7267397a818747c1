"""Models as files, there whole or not at all: a directory that any server can serve,
or one file."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import TFJSError
from ..format import strict_json
from ..format.manifest import read_document
from ..format.repair import mend_manifest
from ..models.delivery import named_files
from ..models.delivery import read
from ..models.files import Root
from ..models.names import MAIN
from ..models.store import Folder
from ..models.store import Staging
from ..models.store import sync

#: Bytes of each shard but the last, as TensorFlow's converter cuts (tfjs-converter
#: ``python/tensorflowjs/write_weights.py``). With all but the last of one size and that
#: not larger, every client finds every weight.
SHARD_BYTES = 4 * 1024 * 1024

#: The bytes of a weight's values as they are stored, or an array that has them.
Data = bytes | bytearray | NDArray[Any]

# What the writing of a file ends with when there is no room; reading never does.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class NewDirectory:
    """A directory that is at its destination when the ``with`` block ends well.

    Until then its files are in a hidden directory beside the destination, which is
    removed when the block fails or is interrupted.

    :param destination: must not be there, or be empty. Its parents are made.
    :param force: the model at the destination is replaced, once the new one is
        complete. Other files there, such as labels, stay.
    :param source: what is read meanwhile; it must not be in the destination.
    :raises TFJSError: the destination cannot be written or replaced.
    """

    def __init__(
        self,
        destination: str | os.PathLike[str],
        *,
        force: bool = False,
        source: str | os.PathLike[str] | None = None,
    ) -> None:
        self._place = _Place(destination, source)
        self._force = force

    def __enter__(self) -> NewDirectory:
        self._refuse()
        self.path = self._place.hidden()
        self._staging = Staging(self.path)
        try:
            with self._place.writing():
                self._place.make_folder()
                os.mkdir(self.path)
        except BaseException:
            self._place.remove_folder()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._refuse()
                with self._place.writing():
                    self._commit()
        finally:
            shutil.rmtree(self.path, ignore_errors=True)
            self._place.remove_folder()

    def write_model(
        self,
        document: Mapping[str, Any],
        weights: Iterable[tuple[Mapping[str, Any], Data]],
    ) -> int:
        """Write ``model.json`` and its shards, one group of all weights.

        :param document: the JSON's value; its ``weightsManifest`` is written anew.
        :param weights: the spec of each weight, as the manifest has it, and its bytes;
            each is asked for when those before are written.
        :returns: bytes of all shards.
        :raises InvalidModel: two weights have one name.
        """
        specs = []
        with contextlib.closing(_Shards(self._staging)) as shards:
            for spec, data in weights:
                specs.append(dict(spec))
                with self._place.writing():
                    shards.write(data)
                del data  # the next one needs the room
            with self._place.writing():
                paths = shards.finish() if specs else []
        manifest = [{"paths": paths, "weights": specs}] if specs else []
        model = read_document({**document, "weightsManifest": manifest})
        assert model is not None
        assert model.byte_length in (None, shards.byte_length), "bytes and specs differ"
        whole, _ = mend_manifest(model)
        self.write_file(MAIN, [strict_json.dumps(whole)])
        return shards.byte_length

    def write_file(self, name: str, blocks: Iterable[bytes]) -> None:
        """Write a file beside the model."""
        with self._place.writing():
            os.rename(self._staging.copy(blocks), os.path.join(self.path, name))

    def _refuse(self) -> None:
        place = self._place
        if os.path.lexists(place.path) and not os.path.isdir(place.path):
            raise TFJSError(f"{place} is not a directory; name another")
        with place.writing():
            if not os.path.isdir(place.path):
                return
            if place.holds_source():
                raise TFJSError(
                    f"{place} is or holds what is read, {place.source}; name another "
                    "directory"
                )
            if os.path.ismount(place.path) or _holds(place.path, os.getcwd()):
                raise TFJSError(
                    f"{place} is the current directory, or a mount point, and cannot "
                    "be replaced; name a new directory in it"
                )
            names = os.listdir(place.path)
        if names and not self._force:
            raise TFJSError(
                f"{place} is there and not empty; --force replaces the model in it"
            )
        if names and MAIN not in names:
            raise TFJSError(
                f"{place} is there and holds no {MAIN}, so it is no model that could "
                "be replaced; name another directory"
            )

    def _commit(self) -> None:
        place = self._place.path
        if os.path.isdir(place):
            shutil.copymode(place, self.path)
        Folder(self.path).sync()
        if self._force and os.path.isdir(place):
            self._replace(place)
        else:
            # The system refuses if it is no longer empty.
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(place)
            os.rename(self.path, place)
        Folder(place).sync(is_new=True)

    def _replace(self, place: str) -> None:
        away = self._place.hidden()
        try:
            os.rename(place, away)
            os.rename(self.path, place)
        finally:
            # However it ended, be it by an interrupt after either of them.
            if os.path.lexists(away):
                self._settle(away, place)

    def _settle(self, away: str, place: str) -> None:
        """Put back what was moved away, or what of it is no part of the old model."""
        try:
            if os.path.lexists(place):
                _move_the_rest(away, place)
            else:
                os.rename(away, place)
        except OSError as error:
            raise TFJSError(
                f"{self._place.unwritable(error)}; what was in it is now in {away}"
            ) from None
        shutil.rmtree(away, ignore_errors=True)


@contextlib.contextmanager
def new_file(
    destination: str | os.PathLike[str],
    *,
    force: bool = False,
    source: str | os.PathLike[str] | None = None,
) -> Iterator[BinaryIO]:
    """A file, open for reading and writing, that is at its destination when the block
    ends well; until then it is a hidden one beside it, removed if the block fails.

    :param force: whether a file there is replaced.
    :param source: what is read meanwhile; it must not be the destination.
    :raises TFJSError: the destination cannot be written or replaced.
    """
    place = _Place(destination, source)
    _refuse_file(place, force)
    path = place.hidden()
    try:
        with place.writing():
            place.make_folder()
            file = open(path, "x+b")
        try:
            with file:
                yield file
                sync(file)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise place.unwritable(error) from None
            raise
        _refuse_file(place, force)
        with place.writing():
            _move_file(path, place.path, force)
    finally:
        with contextlib.suppress(OSError):  # it is in its place, or never was
            os.unlink(path)
        place.remove_folder()


def _refuse_file(place: _Place, force: bool) -> None:
    if not os.path.lexists(place.path):
        return
    if not os.path.isfile(place.path):
        raise TFJSError(f"{place} is there and is not a file; name another")
    with place.writing():
        if place.holds_source():
            raise TFJSError(f"{place} is what is read; name another file")
    if not force:
        raise TFJSError(f"{place} is there; --force replaces it")


def _move_file(staged: str, path: str, force: bool) -> None:
    folder, name = Folder(os.path.dirname(path)), os.path.basename(path)
    if force:
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, staged)
        folder.replace(staged, name)
    else:
        folder.claim(staged, name)
    folder.sync()


class _Place:
    """A destination.

    :ivar path: absolute, links resolved: what a link leads to is written.
    :ivar source: what is read to write it.
    """

    def __init__(
        self,
        destination: str | os.PathLike[str],
        source: str | os.PathLike[str] | None,
    ) -> None:
        self._name = os.fspath(destination)
        self.source = None if source is None else os.fspath(source)
        if not self._name:
            raise TFJSError("the destination is empty; name one")
        self.path = os.path.realpath(self._name)
        self._folder = os.path.dirname(self.path)
        self._made: list[str] = []

    def __str__(self) -> str:
        return self._name

    def make_folder(self) -> None:
        """Make the directory that it is in, and those above.

        :raises OSError: they cannot be made.
        """
        if os.path.isfile(self._folder):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        above = (self._folder, *map(str, Path(self._folder).parents))
        self._made = [path for path in above if not os.path.lexists(path)]
        os.makedirs(self._folder, exist_ok=True)

    def remove_folder(self) -> None:
        """Remove what was made for it, unless there is something in it."""
        for path in self._made:
            with contextlib.suppress(OSError):
                os.rmdir(path)

    def hidden(self) -> str:
        """A path beside it that nobody can guess."""
        return os.path.join(self._folder, f".tfjs-{secrets.token_hex(8)}")

    def holds_source(self) -> bool:
        return self.source is not None and _holds(self.path, self.source)

    def unwritable(self, error: OSError) -> TFJSError:
        return TFJSError(f"{self} cannot be written: {error.strerror or error}")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """What the system refuses here is due to the destination."""
        try:
            yield
        except OSError as error:
            raise self.unwritable(error) from None


class _Shards:
    """A row of bytes on its way into shards of :data:`SHARD_BYTES`, whose names tell
    how many there are and so come last."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._files: list[str] = []
        self._file: BinaryIO | None = None
        self._room = 0
        self.byte_length = 0

    def write(self, data: Data) -> None:
        view = _bytes(data)
        self.byte_length += len(view)
        while view:
            if self._file is None:
                self._begin()
            assert self._file is not None
            part = view[: self._room]
            self._file.write(part)
            self._room -= len(part)
            view = view[len(part) :]
            if not self._room:
                self._end()

    def finish(self) -> list[str]:
        """The names of the shards, one at least."""
        if not self._files:
            self._begin()
        if self._file is not None:
            self._end()
        count = len(self._files)
        names = [f"group1-shard{i}of{count}.bin" for i in range(1, count + 1)]
        for path, name in zip(self._files, names, strict=True):
            os.rename(path, os.path.join(self._staging.path, name))
        return names

    def close(self) -> None:
        """Let go of a shard that was begun."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # the disk is full, as was told
                self._file.close()

    def _begin(self) -> None:
        self._file = self._staging.create()
        self._files.append(self._file.name)
        self._room = SHARD_BYTES

    def _end(self) -> None:
        assert self._file is not None
        with self._file as file:
            sync(file)
        self._file = None


def _bytes(data: Data) -> memoryview:
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8).data
    return memoryview(data)


def _holds(folder: str, path: str) -> bool:
    """Whether *path*, links resolved, is the directory *folder* or in it."""
    real = Path(os.path.realpath(path))
    return any(
        above.exists() and os.path.samefile(above, folder)
        for above in (real, *real.parents)
    )


def _move_the_rest(old: str, new: str) -> None:
    """Move what lies beside an old model but is no part of it beside the new one."""
    model = read(Root(old), MAIN).model
    parts = {MAIN} | (named_files(MAIN, model) if model else set())
    for name in os.listdir(old):
        # An encoding of a part, such as model.json.gz, is one, too.
        part = any(name == one or name.startswith(f"{one}.") for one in parts)
        if not part and not os.path.lexists(os.path.join(new, name)):
            os.rename(os.path.join(old, name), os.path.join(new, name))
