"""Faults of many layers, told at once: who mends a model wants to know all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import InvalidModel


class Faults:
    """What is found to be wrong, one layer after another."""

    def __init__(self) -> None:
        self._where: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._where)

    @contextlib.contextmanager
    def of(self, where: str) -> Iterator[None]:
        """Keep a fault of the block, and go on after it.

        :param where: the layer, for a config that is not what it should be.
        """
        try:
            yield
        except InvalidModel as fault:
            self.add(fault)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            reason = f"its config is not what TensorFlow.js writes ({error!r})"
            self.add(InvalidModel(f"{reason}; save the model again", where))

    def add(self, fault: InvalidModel) -> None:
        self._where.setdefault(fault.message, []).append(fault.where)

    def tell(self) -> None:
        """:raises InvalidModel: there are faults; it names all layers and reasons."""
        if not self._where:
            return
        told = [(", ".join(dict.fromkeys(w)), m) for m, w in self._where.items()]
        (where, message), *others = told
        for other_where, other in others:
            message += f"; {other_where}: {other}"
        raise InvalidModel(message, where)
