"""Locks: one for each key within a process, one for each file between processes."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Hashable
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # there is no other name to give it

_POLL_SECONDS = 0.02


class KeyedLocks:
    """A lock for each key, forgotten when nobody holds it or waits for it.

    A child that is forked meanwhile has locks of its own: whoever holds those of its
    parent does not live in it.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[Hashable, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def hold(self, key: Hashable) -> Iterator[None]:
        key = (os.getpid(), key)
        with self._guard:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = lock, users - 1


@contextlib.contextmanager
def locked(path: str, patience: float = math.inf) -> Iterator[None]:
    """Exclude other processes, and other threads, until the end of the block or of the
    process. On Windows nobody is excluded.

    :param path: a directory, or a file that is made where there is none.
    :param patience: seconds after which the block begins all the same.
    :raises OSError: it can be neither opened nor made.
    """
    if fcntl is None:
        yield
        return
    folder = os.path.isdir(path)
    flags = os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT
    fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
    try:
        held = _lock(fd, patience)
        try:
            yield
        finally:
            # Closing is not enough where a child that was forked has the file open.
            if held:
                fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def _lock(fd: int, patience: float) -> bool:
    if patience == math.inf:
        fcntl.flock(fd, fcntl.LOCK_EX)
        return True
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def locked_at_once(path: str) -> Iterator[bool]:
    """The same for a file that is there, without waiting: tells whether the lock was to
    be had. On Windows it never is.

    :raises OSError: there is no such file.
    """
    if fcntl is None:
        yield False
        return
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield _lock(fd, 0)
    finally:
        os.close(fd)
