"""``TFJS_STORE`` as a directory: the files of published models. What becomes of them is
decided elsewhere (:mod:`.publish`); here is how they get there whole, and stay."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import InvalidModel
from ..format.paths import content_stem
from ..format.release import Release
from ..locks import KeyedLocks
from ..locks import locked
from ..locks import locked_at_once
from .files import BLOCK_SIZE
from .files import Identity
from .files import OpenFile
from .files import identify
from .listing import FolderNames
from .names import MAIN
from .names import is_name

_VERSION = re.compile(r"model\.v([1-9][0-9]{0,17})\.json")

# Hidden, so that neither we nor other servers serve them.
_LOCKS = ".locks"
_STAGING = ".tmp-"
_ASSETS = ".assets"
_LAST_VERSION = ".last-version"

# In a staging folder.
_LOCK = "lock"


def version_name(version: int) -> str:
    """The name of the file that is the JSON of *version* for ever."""
    return f"model.v{version}.json"


def version_of(name: str) -> int | None:
    """The version whose JSON the file *name* is."""
    found = _VERSION.fullmatch(name)
    return int(found[1]) if found else None


class Staging:
    """A folder for files that are not yet part of a model."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._count = 0

    def create(self) -> BinaryIO:
        """A new file, open for reading and writing."""
        self._count += 1
        return open(os.path.join(self.path, str(self._count)), "x+b")

    def write(self, data: bytes) -> str:
        """The path of a new file that holds *data*, safely on the disk."""
        return self.copy([data])

    def copy(self, blocks: Iterable[bytes]) -> str:
        """The same for the *blocks* of a file."""
        with self.create() as file:
            file.writelines(blocks)
            sync(file)
            return file.name


class Folder:
    """The files of one name. Whoever changes them holds its lock.

    ``model.json`` is the current version and the commit point: of all that may be
    served, the only file that is ever replaced.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def join(self, name: str) -> str:
        return os.path.join(self.path, name)

    def asset_path(self, sha256: str) -> str:
        return os.path.join(self.path, _ASSETS, sha256)

    @property
    def exists(self) -> bool:
        return os.path.isdir(self.path)

    @property
    def is_published(self) -> bool:
        return identify(self.join(MAIN)) is not None

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; ``None`` where there is none."""
        try:
            with OpenFile(self.join(name)) as file:
                return file.read(0, file.identity.size)
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """The files that may be served."""
        return [name for name in _files_in(self.path) if not name.startswith(".")]

    def asset_names(self) -> list[str]:
        return _files_in(os.path.join(self.path, _ASSETS))

    def content_files(self) -> list[str]:
        """The paths of the shards and assets that are there."""
        shards = [self.join(n) for n in self.names() if content_stem(n) is not None]
        return shards + [self.asset_path(sha256) for sha256 in self.asset_names()]

    def version_files(self) -> list[str]:
        """The paths of the versions that are there."""
        return [self.join(version_name(version)) for version in self.versions()]

    def versions(self) -> list[int]:
        """The versions that are there, the newest first."""
        found = (version_of(name) for name in self.names())
        return sorted((v for v in found if v is not None), reverse=True)

    def last_version(self) -> int:
        """The highest version that was ever given; 0 before the first."""
        remembered = (self.read(_LAST_VERSION) or b"").decode("ascii", "replace")
        last = int(remembered) if remembered.isdecimal() else 0
        # Whatever is called like a version: its name is taken.
        found = map(version_of, os.listdir(self.path) if self.exists else ())
        return max([last, *(version for version in found if version is not None)])

    def remember_last_version(self, staging: Staging) -> None:
        """Keep the highest version in mind, whatever becomes of its file."""
        last = str(self.last_version()).encode()
        if last not in (b"0", self.read(_LAST_VERSION)):
            self.replace(staging.write(last), _LAST_VERSION)
            self.sync()

    def make(self) -> bool:
        """Make the folder; tell whether there was none."""
        try:
            os.mkdir(self.path)
        except FileExistsError:
            return False
        return True

    def adopt(self, staged: str, path: str) -> bool:
        """Move a staged file to *path*, which names its content. Tells whether there
        was none."""
        there = os.path.isfile(path)
        # By its bytes: what a failing disk made of them is mended so.
        if not there or not _are_equal(staged, path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(staged, path)
        return not there

    def claim(self, staged: str, name: str) -> None:
        """Move a staged file to *name*, which nobody has yet.

        :raises FileExistsError: somebody has.
        """
        path = self.join(name)
        try:
            # A link is refused where there is a file, even if locks do not work.
            os.link(staged, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(path):
                raise FileExistsError(path) from None
            os.rename(staged, path)

    def replace(self, staged: str, name: str) -> None:
        os.replace(staged, self.join(name))

    def touch(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.join(name))

    def remove(self, path: str) -> int:
        """Remove a file; tell how many bytes that frees."""
        try:
            size = os.stat(path).st_size
            os.unlink(path)
        except FileNotFoundError:
            return 0
        return size

    def age_of(self, version: int) -> float:
        """Seconds since *version* was published or last current."""
        return self.age(self.join(version_name(version)))

    def age(self, path: str) -> float:
        """Seconds since the file *path* was written or touched; 0 if it is gone."""
        try:
            return time.time() - os.stat(path).st_mtime
        except FileNotFoundError:
            return 0

    def sync(self, *, is_new: bool = False) -> None:
        """Wait until the names in the folder are safe, and its own where it is new."""
        above = [os.path.dirname(self.path)] if is_new else []
        for path in (os.path.join(self.path, _ASSETS), self.path, *above):
            with contextlib.suppress(FileNotFoundError):
                _sync_folder(path)


class LocalStore:
    """A directory that any number of processes publish into; made when it is needed.

    :param path: absolute.
    :ivar releases: what versions say of themselves, by the path of their JSON, with the
        identity of that.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.releases: dict[str, tuple[Identity | None, Release | None]] = {}
        self._writing = KeyedLocks()
        self._names = FolderNames()

    def folder(self, name: str) -> Folder:
        return Folder(os.path.join(self.path, name))

    def spells(self, name: str) -> bool:
        """Whether a folder is called just so. Some file systems do not tell capital
        letters from small ones, and whoever guards a model by its name does."""
        return name in self._names.of(self.path)

    def names(self) -> list[str]:
        """The published models."""
        return [name for name in self.folders() if self.folder(name).is_published]

    def folders(self) -> list[str]:
        """All names that have files, such as those of models no longer published."""
        try:
            found = os.listdir(self.path)
        except OSError:
            return []
        return sorted(
            n for n in found if is_name(n) and os.path.isdir(os.path.join(self.path, n))
        )

    @property
    def fault(self) -> str | None:
        """What to tell the owner when it is there and cannot be looked into."""
        try:
            os.scandir(self.path).close()
        except FileNotFoundError:
            pass
        except OSError as error:
            return f"TFJS_STORE: {self.path} cannot be read: {error.strerror}"
        return None

    @contextlib.contextmanager
    def stage(self) -> Iterator[Staging]:
        """A folder beside the models, removed at the end of the block whatever happens.

        Its lock tells others that its owner lives.
        """
        made = _make_folders(self.path)
        try:
            with contextlib.ExitStack() as stack:
                yield Staging(self._make_staging(stack))
        finally:
            if made:
                with contextlib.suppress(OSError):  # there is something in it
                    os.rmdir(self.path)

    def _make_staging(self, stack: contextlib.ExitStack) -> str:
        while True:
            path = os.path.join(self.path, f"{_STAGING}{secrets.token_hex(8)}")
            os.mkdir(path)
            stack.callback(shutil.rmtree, path, ignore_errors=True)
            lock = os.path.join(path, _LOCK)
            with contextlib.suppress(FileNotFoundError):
                stack.enter_context(locked(lock))
            # Somebody who sweeps may have been faster than the lock.
            if os.path.exists(lock):
                return path

    def sweep_staging(self) -> int:
        """Remove what writers left that were killed; tell how many bytes that frees."""
        try:
            found = os.listdir(self.path)
        except FileNotFoundError:
            return 0
        freed = 0
        for name in found:
            if name.startswith(_STAGING):
                with contextlib.suppress(OSError):  # it is not ours
                    freed += _sweep(os.path.join(self.path, name))
        return freed

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Folder]:
        """Exclude the other writers of *name*. A writer that is killed excludes nobody.

        On Windows only those of this process are excluded.

        :raises InvalidModel: the file system takes another's name for this one.
        """
        os.makedirs(os.path.join(self.path, _LOCKS), exist_ok=True)
        lock = os.path.join(self.path, _LOCKS, name)
        if self.folder(name).exists and not self.spells(name):
            raise InvalidModel(
                "another model's name differs from it in small and capital letters "
                "only, and this file system does not; choose another name",
                name,
            )
        with self._writing.hold(name), locked(lock):
            yield self.folder(name)


def sync(file: BinaryIO) -> None:
    """Wait until what was written to *file* is safe from a crash of the machine."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(path: str) -> None:
    if os.name == "nt":  # cannot open a folder
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _are_equal(path: str, other: str) -> bool:
    with open(path, "rb") as file, open(other, "rb") as other_file:
        while True:
            block = file.read(BLOCK_SIZE)
            if block != other_file.read(BLOCK_SIZE):
                return False
            if not block:
                return True


def _files_in(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except FileNotFoundError:
        return []


def _make_folders(path: str) -> bool:
    """Make a folder and those above it; tell whether there was none."""
    try:
        os.makedirs(path)
    except FileExistsError:
        return False
    return True


def _sweep(path: str) -> int:
    """Remove a staging folder whose owner is dead; tell how many bytes that frees."""
    try:
        # Held while it is removed: an owner that is about to lock it sees that then.
        with locked_at_once(os.path.join(path, _LOCK)) as abandoned:
            return _remove_tree(path) if abandoned else 0
    except FileNotFoundError:
        pass
    # Its owner is about to make the lock, or was killed before; that takes no minute.
    with contextlib.suppress(FileNotFoundError):
        if time.time() - os.stat(path).st_mtime > 60:
            return _remove_tree(path)
    return 0


def _remove_tree(path: str) -> int:
    freed = _size(path)
    shutil.rmtree(path, ignore_errors=True)
    return freed


def _size(path: str) -> int:
    freed = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
        for entry in entries:
            freed += entry.stat(follow_symlinks=False).st_size
    return freed
