"""One registered directory: its entries and files. A URL never becomes a file path: it
is looked up among the names that the directory and the manifests in it offer."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import posixpath
import threading
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

from ..errors import InvalidModel
from ..errors import ModelNotFound
from ..format.paths import content_stem
from ..format.paths import stem
from ..locks import KeyedLocks
from .delivered import Delivered
from .delivery import BeingWritten
from .delivery import Delivery
from .delivery import Examination
from .delivery import Unreadable
from .delivery import Verdict
from .delivery import examine
from .delivery import judge
from .delivery import named_files
from .delivery import read
from .delivery import unreadable
from .digests import Digests
from .digests import is_settled
from .files import Identity
from .files import Root
from .files import identify
from .listing import Listing
from .listing import list_directory
from .names import MAIN
from .served import ServedFile
from .served import ServedModel

# Seconds that a request waits for a model that is being written to.
_PATIENCE = 1.5

# Seconds after a wait in vain in which nobody waits for that model.
_HOPELESS = 2.0


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What one look into a JSON file told.

    :ivar files: what its manifest may name, there or not.
    :ivar stems: of the content-addressed names its pieces have.
    """

    identity: Identity | None
    settled: bool
    is_entry: bool
    files: frozenset[str]
    stems: frozenset[str]


class ModelDirectory(ServedModel):
    """A registered directory, or a registered JSON file and what lies beside it.

    :ivar only: the file's name, where a file is registered.
    :ivar repair: whether what can be mended is.
    """

    def __init__(
        self,
        name: str,
        path: str,
        *,
        assets: Sequence[str] = (),
        link_roots: Sequence[str] = (),
        digests: Digests | None = None,
        label: str | None = None,
        repair: bool = True,
    ) -> None:
        self.name = name
        self.path = path
        self.label = label or name
        single = path.endswith(".json") and not os.path.isdir(path)
        self.only = os.path.basename(path) if single else None
        self.root = Root(os.path.dirname(path) if single else path, tuple(link_roots))
        self._assets = tuple(assets)
        self.digests = digests or Digests()
        self.repair = repair
        self._listing: Listing | None = None
        self._candidates: dict[str, _Candidate] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._judging = KeyedLocks()
        self._delivered = Delivered()
        self._main: str | None = None  # in place of MAIN, where that is no model
        self._absent: dict[str | None, ModelNotFound] = {}
        self._preparing: set[tuple[int, str | None]] = set()
        self._hopeless: dict[str, float] = {}

    def listing(self) -> Listing:
        """The names in the directory, as they are now.

        :raises InvalidModel: the directory is missing or unreadable.
        """
        listing = self._listing
        if listing is None or not listing.is_current():
            try:
                listing = list_directory(
                    self.root, self.digests.clock, deep=self.only is None
                )
            except (OSError, ValueError) as error:
                self._listing = None
                raise InvalidModel(_unlistable(error), self.name) from None
            if self.only is not None:
                listing.json = [n for n in listing.json if n == self.only]
            self._listing = listing
            self._prune(set(listing.json))
        return listing

    def _prune(self, names: set[str]) -> None:
        self._main = None
        self._absent.clear()
        for name in (self._candidates.keys() | self._verdicts.keys()) - names:
            self._candidates.pop(name, None)
            self._forget(name)

    def entries(self) -> list[str]:
        return [name for name in self.listing().json if self._candidate(name).is_entry]

    def main(self) -> Delivery:
        try:
            delivery = self.delivery(MAIN)
            self._main = None
            return delivery
        except ModelNotFound as error:
            entries = self.entries()
            if not entries:
                raise ModelNotFound(
                    self._refusal(MAIN) or f"{self.name}: {self.no_model()}"
                ) from error
            if len(entries) > 1:
                raise ModelNotFound(
                    f"{self.name!r} holds several models; put one of these in place of "
                    f"{MAIN}: {', '.join(entries)}"
                ) from error
        self._main = entries[0]
        return self.delivery(entries[0])

    def ready(self, entry: str | None) -> Delivery | None:
        listed = self.listing().json
        if entry is not None and entry not in listed:
            raise self._no_such(entry)
        name = entry or self._main or MAIN
        verdict = self._verdicts.get(name)
        if verdict is not None and verdict.is_current():
            if entry is not None or verdict.outcome is not None:
                return self._outcome(verdict, name)
        self._prepare(entry)
        if entry in self._absent:
            raise copy(self._absent[entry])
        return None

    def _prepare(self, entry: str | None) -> None:
        key = (os.getpid(), entry)  # a child has none of its parent's threads

        def prepare() -> None:
            self._preparing.add(key)
            absent = None
            try:
                self.main() if entry is None else self.delivery(entry)
            except ModelNotFound as error:
                absent = error
            except InvalidModel:
                pass  # the verdict says it
            finally:
                self._preparing.discard(key)
            if absent is None:
                self._absent.pop(entry, None)
            else:
                self._absent[entry] = absent

        if key not in self._preparing:
            threading.Thread(target=prepare, daemon=True).start()

    def examine(self, entry: str) -> Examination:
        if entry in self.listing().json:
            reading = read(self.root, entry)
            if reading.fault is not None:
                raise reading.fault
            if reading.model is not None:
                return examine(self.root, entry, reading.model, repair=self.repair)
        raise self._no_such(entry)

    def delivery(self, entry: str) -> Delivery:
        # Waits a moment where it is being written to.
        return self._outcome(self._current(entry, _deadline()), entry)

    def _outcome(self, verdict: Verdict, entry: str) -> Delivery:
        if isinstance(verdict.outcome, InvalidModel):
            raise copy(verdict.outcome)
        if verdict.outcome is None:
            raise self._no_such(entry)
        return verdict.outcome

    def file(self, name: str) -> ServedFile:
        deadline = _deadline()
        content = self._content(name, deadline)
        if content is not None:
            return content
        owner = self._delivered.owner(name)
        shard = self._shard(owner, name, deadline) if owner is not None else None
        return shard if isinstance(shard, ServedFile) else self._search(name, deadline)

    def is_shard(self, name: str) -> bool:
        return any(name in self._candidate(e).files for e in self.listing().json)

    def named_by_manifests(self) -> set[str]:
        """The files that some manifest may mean, there or not."""
        return {f for e in self.listing().json for f in self._candidate(e).files}

    def assets_beside(self, entry: str) -> list[str]:
        """The assets in the folder of *entry*, but for its own JSON and its shards."""
        folder = posixpath.dirname(entry)
        return [
            name
            for name in sorted(self.listing().names - {entry})
            if posixpath.dirname(name) == folder
            and self._is_asset(name)
            and not self.is_shard(name)
        ]

    def _judge(self, entry: str, deadline: float) -> Verdict:
        while True:
            if entry not in self.listing().json:
                self._forget(entry)
                raise self._no_such(entry)
            with self._judging.hold(entry):
                verdict = self._verdicts.get(entry)
                if verdict is None or not verdict.is_current():
                    verdict = judge(self.root, entry, self.digests, repair=self.repair)
                    self._verdicts[entry] = verdict
                    if isinstance(verdict.outcome, Delivery):
                        self._delivered.keep(verdict.outcome)
            # Outside of the lock: all who wait may look again at the same time.
            if not isinstance(verdict.outcome, BeingWritten):
                self._hopeless.pop(entry, None)
                return verdict
            if not self._wait(entry, verdict.outcome, deadline):
                return verdict

    def _wait(self, entry: str, fault: BeingWritten, deadline: float) -> bool:
        """Wait for the end of a writer, unless there is little hope."""
        now, wait = time.monotonic(), fault.again_ns / 1e9
        if now < self._hopeless.get(entry, 0):
            return False
        if now + wait > deadline:
            # Those who ask next need not find out by waiting, too.
            self._hopeless[entry] = now + _HOPELESS
            return False
        time.sleep(wait)
        return True

    def _forget(self, entry: str) -> None:
        self._verdicts.pop(entry, None)
        self._hopeless.pop(entry, None)
        self._delivered.forget(entry)

    def _content(self, name: str, deadline: float) -> ServedFile | None:
        """What *name* means, if it is the name of a content that is still there."""
        of = content_stem(name)
        if of is None:
            return None
        owner = self._delivered.owner(name)
        piece = self._piece(owner, name) if owner is not None else None
        return piece or self._search_content(name, of, deadline)

    def _search_content(self, name: str, of: str, deadline: float) -> ServedFile | None:
        # A JSON with this name in it may come from another process.
        for entry in self.listing().json:
            beside = posixpath.dirname(entry) == posixpath.dirname(name)
            if beside and of in self._candidate(entry).stems:
                with contextlib.suppress(ModelNotFound):
                    self._current(entry, deadline)
                piece = self._piece(entry, name)
                if piece is not None:
                    return piece
        return None

    def _piece(self, entry: str, name: str) -> ServedFile | None:
        piece = self._delivered.piece(entry, name)
        if piece is None:
            return None
        path = self.root.join(piece.file)
        there = identify(path) == piece.digest.identity
        # Who removes the JSON takes the model from the air.
        if not there or identify(self.root.join(entry)) is None:
            return None
        return ServedFile(name, path, piece.digest, shard=True, immutable=True)

    def _current(self, entry: str, deadline: float) -> Verdict:
        verdict = self._verdicts.get(entry)
        if verdict is None or not verdict.is_current():
            verdict = self._judge(entry, deadline)
        return verdict

    def _shard(
        self, entry: str, name: str, deadline: float
    ) -> ServedFile | InvalidModel | None:
        """The shard *name* of the model *entry*, as both are now; the fault of a broken
        model; ``None`` where the model is gone or does not name it."""
        verdict = self._verdicts.get(entry)
        if verdict is None or not self._still_says(verdict, entry, name):
            try:
                verdict = self._judge(entry, deadline)
            except ModelNotFound:
                return None
        if not isinstance(verdict.outcome, Delivery):
            return verdict.outcome
        digest = verdict.outcome.files.get(name)
        if digest is None:
            return None
        return ServedFile(name, self.root.join(name), digest, shard=True)

    def _still_says(self, verdict: Verdict, entry: str, name: str) -> bool:
        if not isinstance(verdict.outcome, Delivery):
            return verdict.is_current()  # any of its files may have been mended
        return verdict.settled and all(
            identify(path) == verdict.watched.get(path)
            for path in (self.root.join(entry), self.root.join(name))
        )

    def _search(self, name: str, deadline: float) -> ServedFile:
        fault: InvalidModel | None = None
        for entry in self.listing().json:
            if name in self._candidate(entry).files:
                shard = self._shard(entry, name, deadline)
                if isinstance(shard, ServedFile):
                    return shard
                fault = shard or fault
        if fault is not None and self.root.identify(name) is not None:
            raise copy(fault)
        if self._is_asset(name):
            return self._asset(name)
        raise self._no_such(name)

    def _asset(self, name: str) -> ServedFile:
        path = self.root.join(name)
        try:
            with self.root.open(name) as file:
                digest = self.digests.of(path)
        except OSError as error:
            raise unreadable(error, name) from None
        if digest.identity != file.identity:
            raise BeingWritten(name)
        return ServedFile(name, path, digest, shard=False)

    def _is_asset(self, name: str) -> bool:
        folder, base = posixpath.split(name)
        return (
            name in self.listing().names
            and any(fnmatch.fnmatchcase(base, pattern) for pattern in self._assets)
            and any(posixpath.dirname(entry) == folder for entry in self.entries())
        )

    def _candidate(self, name: str) -> _Candidate:
        known = self._candidates.get(name)
        if (
            known is not None
            and known.settled
            and known.identity == identify(self.root.join(name))
        ):
            return known
        now = self.digests.clock()
        reading = read(self.root, name)
        files = named_files(name, reading.model) if reading.model else frozenset()
        known = self._candidates[name] = _Candidate(
            reading.identity,
            reading.identity is not None
            and is_settled(reading.identity.stamps, now)
            and not isinstance(reading.fault, Unreadable),
            reading.is_entry,
            files,
            frozenset(map(stem, files)),
        )
        return known

    def no_model(self) -> str:
        names = self.listing().json
        if self.only is not None and self.only not in names:
            return f"there is no file {self.only}; correct the path"
        if MAIN in names or self.only is not None:
            return (
                f"{self.only or MAIN} is JSON, but not a TensorFlow.js model: it has "
                "neither 'modelTopology' nor 'weightsManifest'; convert the model"
            )
        return "no JSON file in it is a TensorFlow.js model; convert or save one there"

    def _no_such(self, name: str) -> ModelNotFound:
        return ModelNotFound(
            self._refusal(name) or f"{self.name!r} has no model {name!r}"
        )

    def _refusal(self, name: str) -> str | None:
        reason = self.listing().refused.get(name)
        return reason and f"{name} {reason}"


def _deadline() -> float:
    return time.monotonic() + _PATIENCE


def _unlistable(error: Exception) -> str:
    if isinstance(error, NotADirectoryError):
        return "the path is a file; register the directory or the model's .json file"
    return (
        f"the directory cannot be read: {getattr(error, 'strerror', error)}; "
        "put it back or correct the path"
    )
