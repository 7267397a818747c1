"""What the entries of a directory deliver, by the names that have URLs."""

from __future__ import annotations

from .delivery import Delivery
from .delivery import Piece


class Delivered:
    """The last delivery of each entry, and the one before it: who has its JSON still
    asks for its pieces."""

    def __init__(self) -> None:
        self._deliveries: dict[str, list[Delivery]] = {}
        self._owners: dict[str, str] = {}

    def owner(self, name: str) -> str | None:
        """An entry that delivers the shard or the piece *name*, the first to look at;
        there may be others."""
        return self._owners.get(name)

    def piece(self, entry: str, name: str) -> Piece | None:
        """What *entry* delivers as *name*."""
        for delivery in reversed(self._deliveries.get(entry, [])):
            if name in delivery.pieces:
                return delivery.pieces[name]
        return None

    def keep(self, delivery: Delivery) -> None:
        entry = delivery.entry
        before = self._deliveries.get(entry, [])
        same = bool(before) and before[-1].digest == delivery.digest
        kept = [*(before[:-1] if same else before[-1:]), delivery]
        self._deliveries[entry] = kept
        # Others look a name up meanwhile: none may be missing for a moment.
        self._owners.update(dict.fromkeys(_names(kept), entry))
        self._drop(entry, _names(before) - _names(kept))

    def forget(self, entry: str) -> None:
        self._drop(entry, _names(self._deliveries.pop(entry, [])))

    def _drop(self, entry: str, names: set[str]) -> None:
        for name in names:
            if self._owners.get(name) == entry:
                self._owners.pop(name, None)


def _names(deliveries: list[Delivery]) -> set[str]:
    return {name for d in deliveries for name in (*d.files, *d.pieces)}
