"""Medians, ratios and the Markdown that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from statistics import median
from typing import Any

from contenders import Server
from load import Sample
from scenarios import Check
from scenarios import Scenario

FLASK, BARE = "flask", "bare"


@dataclass(frozen=True)
class Result:
    """One server in one scenario: its answer, and one sample per round."""

    scenario: Scenario
    server: Server
    check: Check
    samples: list[Sample]

    @property
    def requests_per_second(self) -> float:
        return median(sample.requests_per_second for sample in self.samples)

    @property
    def megabytes_per_second(self) -> float:
        return median(sample.megabytes_per_second for sample in self.samples)

    @property
    def cpu_microseconds(self) -> float:
        return median(sample.cpu_microseconds for sample in self.samples)

    def times(self, other: Result | None) -> float | None:
        """How many times as many requests, compared round by round.

        A round's samples are taken seconds apart, so what else the machine does
        weighs on both of them.
        """
        if other is None or not self.samples or not other.samples:
            return None
        return median(
            mine.requests_per_second / theirs.requests_per_second
            for mine, theirs in zip(self.samples, other.samples, strict=True)
        )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in the first column to the left, figures in the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rules = [
        "-" * width if column == 0 else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    lines = [_line(header, widths), _line(rules, widths)]
    lines += [_line(row, widths) for row in rows]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: list[int]) -> str:
    aligned = [
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(aligned)} |"


def markdown_list(facts: dict[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def scenario_section(results: Sequence[Result]) -> str:
    """Heading and table of one scenario."""
    by_name = {result.server.name: result for result in results}
    flask, bare = by_name.get(FLASK), by_name.get(BARE)
    header = ["server", "requests/s", "MB/s", "CPU µs/request"]
    header += ["x Flask", "x bare", "answer"]
    rows = [
        [
            result.server.title,
            *_figures(result),
            _times(result.times(flask)),
            _times(result.times(bare)),
            result.check.summary(),
        ]
        for result in results
    ]
    return f"### {results[0].scenario.title}\n\n{markdown_table(header, rows)}"


def _figures(result: Result) -> tuple[str, str, str]:
    if not result.samples:
        return "-", "-", "-"
    return (
        f"{result.requests_per_second:,.0f}",
        f"{result.megabytes_per_second:,.0f}" if result.check.answer.body else "-",
        f"{result.cpu_microseconds:,.0f}",
    )


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def as_json(result: Result) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    if result.samples:
        figures = {
            "requests_per_second": result.requests_per_second,
            "megabytes_per_second": result.megabytes_per_second,
            "cpu_microseconds": result.cpu_microseconds,
        }
    return {
        "scenario": result.scenario.name,
        "server": result.server.name,
        "runs_on": result.server.runs_on,
        "answer": result.check.summary(),
        "answer_headers": dict(result.check.answer.headers.items()),
        "median": figures,
        "rounds": [asdict(sample) for sample in result.samples],
    }
