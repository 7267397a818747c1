"""Names -> directories -> entries and files. A URL never becomes a file path: it is
looked up among the names that a directory and the manifests in it offer."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import threading
from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

from ..errors import InvalidModel
from ..errors import ModelNotFound
from .delivery import Delivery
from .delivery import Examination
from .delivery import Unreadable
from .delivery import Verdict
from .delivery import examine
from .delivery import judge
from .delivery import named_files
from .delivery import read
from .delivery import unreadable
from .digests import Digest
from .digests import Digests
from .digests import is_settled
from .files import Identity
from .files import Root
from .files import identify
from .listing import Listing
from .listing import list_directory
from .sources import Sources

#: The entry that a model's directory URL answers with, where there is one.
MAIN = "model.json"


@dataclass(frozen=True, slots=True)
class ServedFile:
    """A file that has a URL.

    :ivar shard: whether a manifest names it; otherwise it is an asset.
    """

    name: str
    path: str
    digest: Digest
    shard: bool


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What one look into a JSON file told.

    :ivar files: what its manifest may name, there or not.
    """

    identity: Identity | None
    settled: bool
    is_entry: bool
    files: frozenset[str]


class Catalogue:
    """The models of one registered blueprint of one app."""

    def __init__(
        self,
        sources: Sources,
        *,
        assets: Sequence[str] = (),
        link_roots: Sequence[str] = (),
        digests: Digests | None = None,
    ) -> None:
        self.sources = sources
        self._assets = tuple(assets)
        self._link_roots = tuple(link_roots)
        self.digests = digests or Digests()
        self._directories: dict[str, ModelDirectory] = {}

    def names(self) -> list[str]:
        return list(self.sources.all())

    def directory(self, name: str) -> ModelDirectory:
        """The directory registered as *name*.

        :raises ModelNotFound: there is none.
        :raises InvalidModel: the folder it would be in cannot be read.
        """
        path = self.sources.path(name)
        folder = self.sources.folder
        if path is None and folder is not None and folder.unreadable is not None:
            raise InvalidModel(
                f"the folder of models cannot be read: {folder.unreadable}", name
            )
        if path is None:
            raise ModelNotFound(f"no model is registered as {name!r}")
        directory = self._directories.get(name)
        if directory is None or directory.path != path:
            directory = ModelDirectory(
                name,
                path,
                assets=self._assets,
                link_roots=self._link_roots,
                digests=self.digests,
            )
            self._directories[name] = directory
        return directory


def entry_at_the_top(path: str) -> str | None:
    """A JSON file of the directory *path* that is a model; sub-directories are not
    looked into. ``None`` where there is none or no directory."""
    try:
        names = sorted(name for name in os.listdir(path) if name.endswith(".json"))
    except OSError:
        return None
    readings = ((name, read(Root(path), name)) for name in names)
    return next((name for name, reading in readings if reading.is_entry), None)


def _unlistable(error: Exception) -> str:
    if isinstance(error, NotADirectoryError):
        return "the path is a file; register the directory or the model's .json file"
    return (
        f"the directory cannot be read: {getattr(error, 'strerror', error)}; "
        "put it back or correct the path"
    )


class ModelDirectory:
    """A registered directory, or a registered JSON file and what lies beside it.

    :ivar path: absolute, as registered.
    :ivar only: the file's name, where a file is registered.
    :ivar label: how a person named it.
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
    ) -> None:
        self.name = name
        self.path = path
        self.label = label or name
        single = path.endswith(".json") and not os.path.isdir(path)
        self.only = os.path.basename(path) if single else None
        self.root = Root(os.path.dirname(path) if single else path, tuple(link_roots))
        self._assets = tuple(assets)
        self.digests = digests or Digests()
        self._listing: Listing | None = None
        self._candidates: dict[str, _Candidate] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._owners: dict[str, str] = {}
        self._judging: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

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
        for name in (self._candidates.keys() | self._verdicts.keys()) - names:
            self._candidates.pop(name, None)
            self._judging.pop(name, None)
            self._forget(name)

    def entries(self) -> list[str]:
        """The JSON files that are models, sound ones and broken ones.

        :raises InvalidModel: the directory is missing or unreadable.
        """
        return [name for name in self.listing().json if self._candidate(name).is_entry]

    def main(self) -> Delivery:
        """The model of the directory's own URL: ``model.json``, or the only one.

        :raises ModelNotFound: there is none, or there are several; names them.
        :raises InvalidModel: it cannot be loaded, or the directory is missing.
        """
        try:
            return self.delivery(MAIN)
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
            )
        return self.delivery(entries[0])

    def examine(self, entry: str) -> Examination:
        """The model that the JSON file *entry* is, checked but not hashed.

        :raises InvalidModel: it cannot be loaded, and why.
        :raises ModelNotFound: there is no such file, or it is not a model.
        """
        if entry in self.listing().json:
            reading = read(self.root, entry)
            if reading.fault is not None:
                raise reading.fault
            if reading.model is not None:
                return examine(self.root, entry, reading.model)
        raise self._no_such(entry)

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

    def delivery(self, entry: str) -> Delivery:
        """The sound model that the JSON file *entry* is.

        :raises InvalidModel: it cannot be loaded, and why.
        :raises ModelNotFound: there is no such file, or it is not a model.
        """
        verdict = self._verdicts.get(entry)
        if verdict is None or not verdict.is_current():
            verdict = self._judge(entry)
        if isinstance(verdict.outcome, InvalidModel):
            raise copy(verdict.outcome)
        if verdict.outcome is None:
            raise self._no_such(entry)
        return verdict.outcome

    def file(self, name: str) -> ServedFile:
        """The shard or asset *name*.

        :raises ModelNotFound: nothing of that name may be served.
        :raises InvalidModel: it is a shard of a broken model only. It is withheld: a
            client that has the model's JSON would read it as weights.
        """
        owner = self._owners.get(name)
        shard = self._shard(owner, name) if owner is not None else None
        return shard if isinstance(shard, ServedFile) else self._search(name)

    def is_shard(self, name: str) -> bool:
        """Whether the manifest of some entry names the file *name*."""
        return any(name in self._candidate(e).files for e in self.listing().json)

    def _judge(self, entry: str) -> Verdict:
        if entry not in self.listing().json:
            self._forget(entry)
            raise self._no_such(entry)
        with self._judging[entry]:
            verdict = self._verdicts.get(entry)
            if verdict is None or not verdict.is_current():
                verdict = judge(self.root, entry, self.digests)
                self._keep(entry, verdict)
        return verdict

    def _keep(self, entry: str, verdict: Verdict) -> None:
        self._forget(entry)
        self._verdicts[entry] = verdict
        if isinstance(verdict.outcome, Delivery):
            for name in verdict.outcome.files:
                self._owners[name] = entry

    def _forget(self, entry: str) -> None:
        verdict = self._verdicts.pop(entry, None)
        if verdict is not None and isinstance(verdict.outcome, Delivery):
            for name in verdict.outcome.files:
                if self._owners.get(name) == entry:
                    self._owners.pop(name, None)

    def _shard(self, entry: str, name: str) -> ServedFile | InvalidModel | None:
        """The shard *name* of the model *entry*, as both are now; the fault of a broken
        model; ``None`` where the model is gone or does not name it."""
        verdict = self._verdicts.get(entry)
        if verdict is None or not self._still_says(verdict, entry, name):
            try:
                verdict = self._judge(entry)
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

    def _search(self, name: str) -> ServedFile:
        fault: InvalidModel | None = None
        for entry in self.listing().json:
            if name in self._candidate(entry).files:
                shard = self._shard(entry, name)
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
            raise Unreadable("is being written to; ask again", name)
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
        known = self._candidates[name] = _Candidate(
            reading.identity,
            reading.identity is not None
            and is_settled(reading.identity.stamps, now)
            and not isinstance(reading.fault, Unreadable),
            reading.is_entry,
            named_files(name, reading.model) if reading.model else frozenset(),
        )
        return known

    def no_model(self) -> str:
        """Why there is no entry."""
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
