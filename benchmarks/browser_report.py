"""The samples of all visits, their medians, and the Markdown that shows them."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from statistics import median
from typing import Any

from browser_contenders import Contender
from networks import Network
from real_models import Cut
from report import markdown_table
from visits import Visit

COLD, WARM = "cold", "warm"
CACHES = {COLD: "first visit", WARM: "second visit"}


@dataclass(frozen=True)
class Sample:
    """One visit, and of what."""

    round: int
    cut: Cut
    network: Network
    contender: Contender
    cache: str
    visit: Visit

    def as_json(self) -> dict[str, Any]:
        return {
            "round": self.round,
            "model": self.cut.model.name,
            "network": self.network.name,
            "contender": self.contender.name,
            "cache": self.cache,
            **asdict(self.visit),
        }


@dataclass(frozen=True)
class Row:
    """The visits to one contender with one model and one state of the cache."""

    contender: Contender
    samples: list[Sample]

    def seconds(self, network: Network) -> float | None:
        taken = [
            sample.visit.milliseconds / 1000
            for sample in self.samples
            if sample.network is network
        ]
        return median(taken) if taken else None

    def requests(self) -> float | None:
        taken = [sample.visit.requests for sample in self.samples]
        return median(taken) if taken else None

    def kilobytes(self) -> float | None:
        taken = [sample.visit.wire_bytes / 1000 for sample in self.samples]
        return median(taken) if taken else None


@dataclass(frozen=True)
class Results:
    """What was to be visited, and the visits that got the right model."""

    cuts: Sequence[Cut]
    networks: Sequence[Network]
    contenders: Sequence[Contender]
    samples: list[Sample]

    def rows(self, cut: Cut, cache: str) -> list[Row]:
        return [
            Row(contender, list(self._of(cut, cache, contender)))
            for contender in self.contenders
        ]

    def _of(self, cut: Cut, cache: str, contender: Contender) -> Iterable[Sample]:
        for sample in self.samples:
            if (sample.cut, sample.cache, sample.contender) == (cut, cache, contender):
                yield sample

    def spread(self) -> float:
        """How far the rounds of any one time lie apart at most, as a part of it."""
        parts = [(max(times) - min(times)) / median(times) for times in self._times()]
        return max(parts, default=0)

    def _times(self) -> Iterable[list[float]]:
        """The milliseconds of the rounds of each time in the tables."""
        times: dict[tuple[str, str, str, str], list[float]] = {}
        for sample in self.samples:
            about = (sample.cut.model.name, sample.network.name)
            key = (*about, sample.contender.name, sample.cache)
            times.setdefault(key, []).append(sample.visit.milliseconds)
        return times.values()


def tables(results: Results) -> str:
    """For each model a heading and two tables."""
    sections = []
    for cut in results.cuts:
        sections += [f"### {cut.model.title}", f"A model for {cut.describe()}."]
        for cache, title in CACHES.items():
            table = _table(results.networks, results.rows(cut, cache))
            sections += [f"{title.capitalize()}:", table]
    return "\n\n".join(sections)


def _table(networks: Sequence[Network], rows: list[Row]) -> str:
    titles = [network.title for network in networks]
    return markdown_table(
        ["served by", *titles, "requests", "kB"],
        [
            [
                row.contender.title,
                *(_cell(row.seconds(network), 2, " s") for network in networks),
                _cell(row.requests(), 0),
                _cell(row.kilobytes(), 1),
            ]
            for row in rows
        ],
    )


def _cell(figure: float | None, decimals: int, unit: str = "") -> str:
    return "-" if figure is None else f"{figure:,.{decimals}f}{unit}"
