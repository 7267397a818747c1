"""``TFJS_CACHE``: what was computed once, for all processes and restarts. Everything in
it can be computed again, so whatever goes wrong here only costs time."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Iterable
from collections.abc import Iterator
from typing import TYPE_CHECKING
from typing import Literal

from ..locks import locked

if TYPE_CHECKING:
    import sqlite3

logger = logging.getLogger("flask_tfjs")

#: Digests that are remembered; some 200 bytes each. The least used go first.
MAX_DIGESTS = 100_000

#: Bytes of all encoded files together. The least used go first.
MAX_ENCODED_BYTES = 4 * 1024**3

# The number is that of the layout.
_DATABASE = "digests-1.sqlite3"
_ENCODED = "encoded"
_LOCKS = "locks"

# Another process writes for a moment only; nobody waits long for a digest that can be
# computed.
_PATIENCE_SECONDS = 0.2
_HASHING_SECONDS = 10.0

# After a failure, seconds without what failed, to read or to write: a request asks for
# many digests.
_PAUSE_SECONDS = 30.0

_SECONDS_A_DAY = 24 * 60 * 60

_TABLE = """
CREATE TABLE IF NOT EXISTS digests (
    key TEXT PRIMARY KEY, sha256 BLOB, proof BLOB, day INTEGER
) WITHOUT ROWID
"""


_Access = Literal["read", "write"]


class _Damaged(OSError):
    """The database was damaged; the next look finds a new one."""


class Cache:
    """A directory that many processes share; made when something is written to it.

    A damaged database is replaced by a new one. What else fails is logged once and
    taken as an empty cache.

    :param path: absolute.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._told: set[str] = set()
        # One that is read-only is of use all the same.
        self._paused_until: dict[_Access, float] = {"read": 0.0, "write": 0.0}

    def digest(self, key: str) -> bytes | None:
        """The SHA-256 remembered as *key*."""
        if self._is_paused("read") or not os.path.exists(self._database):
            return None
        with self._harmless("read"):
            return self._look_up(key)
        return None

    def remember(self, key: str, sha256: bytes) -> None:
        """Keep *sha256* under *key*, whatever was there before."""
        if not self._is_paused("write"):
            with self._harmless("write"):
                os.makedirs(self.path, exist_ok=True)
                self._write(key, sha256)

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Exclude the other processes that do the same for *key*, but not for ever: one
        of them may stand still."""
        with contextlib.ExitStack() as stack:
            with self._harmless("write"):
                os.makedirs(os.path.join(self.path, _LOCKS), exist_ok=True)
                name = hashlib.sha256(key.encode()).hexdigest()[:32]
                path = os.path.join(self.path, _LOCKS, name)
                stack.enter_context(locked(path, _HASHING_SECONDS))
                # One that waits for the file that goes may meet another with a new
                # one: then both do the work, which is no harm.
                stack.callback(_remove, path)
            yield

    @property
    def encoded_folder(self) -> str:
        """Where the encoded files are, once there are any."""
        return os.path.join(self.path, _ENCODED)

    def encoded_path(self, name: str) -> str:
        return os.path.join(self.encoded_folder, name)

    def write_encoded(self, name: str, blocks: Iterable[bytes], max_bytes: int) -> int:
        """Keep *blocks* as the encoded file *name*: whole or not at all.

        Its digest is kept as well, so that damage is told from what was written.

        :param max_bytes: if there are more, nothing is kept.
        :returns: the number of bytes in *blocks*.
        :raises OSError: it cannot be written, such as when the disk is full.
        """
        folder = self.encoded_folder
        os.makedirs(folder, exist_ok=True)
        hasher, length = hashlib.sha256(), 0
        temporary = os.path.join(folder, f".{secrets.token_hex(16)}")
        try:
            with open(temporary, "xb") as file:
                for block in blocks:
                    hasher.update(block)
                    length += len(block)
                    if length <= max_bytes:
                        file.write(block)
                file.flush()
                os.fsync(file.fileno())
            if length <= max_bytes:
                # Before the file is there: without it nobody would trust the file.
                self._write(name, hasher.digest())
                os.replace(temporary, self.encoded_path(name))
        finally:
            _remove(temporary)
        self._make_room(folder)
        return length

    @property
    def _database(self) -> str:
        return os.path.join(self.path, _DATABASE)

    def _look_up(self, key: str) -> bytes | None:
        select = "SELECT sha256, proof, day FROM digests WHERE key = ?"
        with _connect(self._database) as connection:
            row = connection.execute(select, (key,)).fetchone()
        if row is None or not isinstance(row[0], bytes):
            return None
        sha256: bytes = row[0]
        proof, day = row[1:]
        if proof != _proof(key, sha256):
            return None
        if day != _today():
            with contextlib.suppress(OSError):  # it may be read-only
                self._write(key, sha256)
        return sha256

    def _write(self, key: str, sha256: bytes) -> None:
        with _connect(self._database) as connection:
            connection.execute(
                "REPLACE INTO digests VALUES (?, ?, ?, ?)",
                (key, sha256, _proof(key, sha256), _today()),
            )
            count = connection.execute("SELECT count(*) FROM digests").fetchone()[0]
            if count > MAX_DIGESTS:
                # A tenth more than need be: not each new one is to make room anew.
                connection.execute(
                    "DELETE FROM digests WHERE key IN "
                    "(SELECT key FROM digests ORDER BY day LIMIT ?)",
                    (count - MAX_DIGESTS * 9 // 10,),
                )

    def _make_room(self, folder: str) -> None:
        kept: list[tuple[float, int, str]] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # another process makes room too
                    status = entry.stat()
                    used = max(status.st_atime, status.st_mtime)
                    if not entry.name.startswith("."):
                        kept.append((used, status.st_size, entry.path))
                    elif used < time.time() - _SECONDS_A_DAY:
                        os.unlink(entry.path)  # left by a process that was killed
        excess = sum(size for _, size, _ in kept) - MAX_ENCODED_BYTES
        for _, size, path in sorted(kept):
            if excess <= 0:
                break
            _remove(path)
            excess -= size

    def _is_paused(self, access: _Access) -> bool:
        return time.monotonic() < self._paused_until[access]

    @contextlib.contextmanager
    def _harmless(self, access: _Access) -> Iterator[None]:
        try:
            yield
        except (OSError, ImportError) as error:
            if not isinstance(error, _Damaged):
                self._paused_until[access] = time.monotonic() + _PAUSE_SECONDS
            message = str(error.strerror if isinstance(error, OSError) else error)
            if message not in self._told:
                self._told.add(message)
                logger.warning(
                    "the cache %s (TFJS_CACHE): %s; all works without it, only slower",
                    self.path,
                    message,
                )


@contextlib.contextmanager
def _connect(path: str) -> Iterator[sqlite3.Connection]:
    """A connection for one transaction: none may outlive a fork or leave its thread.

    :raises OSError: the database cannot be used. A damaged one is removed.
    :raises ImportError: this Python was built without SQLite.
    """
    import sqlite3

    try:
        # Without waiting for the disk: a row that a crash spoils fails its proof.
        with contextlib.closing(
            sqlite3.connect(path, timeout=_PATIENCE_SECONDS)
        ) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(_TABLE)
            with connection:
                yield connection
    except sqlite3.OperationalError as error:
        raise OSError(errno.EIO, str(error)) from error
    except sqlite3.DatabaseError as error:
        for damaged in (path, f"{path}-journal"):
            _remove(damaged)
        message = (
            f"its database was damaged and is begun anew ({error}); what 'flask tfjs "
            "compress' made must be made again"
        )
        raise _Damaged(errno.EIO, message) from error


def _proof(key: str, sha256: bytes) -> bytes:
    """What tells a row from a damaged one: a wrong digest would be served for ever."""
    return hashlib.sha256(key.encode() + b"\0" + sha256).digest()[:16]


def _today() -> int:
    return int(time.time() // _SECONDS_A_DAY)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
