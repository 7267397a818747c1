"""The plot of the documentation: the times over one of the networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from browser_contenders import Contender
from browser_report import CACHES
from browser_report import Results
from browser_report import Row
from networks import Network

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# All three would be many bars, and their times are an order of magnitude apart.
NETWORK = "fast-4g"

OURS, OTHERS, INK = "#1f5fa8", "#8a929b", "#1a1a1a"


def draw(results: Results, path: Path) -> None:
    """Bars for each model and visit. It has its own background, for dark pages too."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    network = _network(results)
    panels = [(cut, cache) for cut in results.cuts for cache in CACHES]
    lines = len(results.cuts)
    settings = matplotlib.rc_context(
        {
            "font.size": 10,
            "text.color": INK,
            # Text stays text, which is smaller and can be searched.
            "svg.fonttype": "none",
            # The same samples make the same file.
            "svg.hashsalt": "flask_tfjs",
        }
    )
    with settings:
        size = (8.2, 0.7 + lines * (0.6 + 0.27 * len(results.contenders)))
        # The space between the panels, as a part of one of them.
        layout = ConstrainedLayoutEngine(hspace=0.12, wspace=0.05)
        figure = Figure(figsize=size, layout=layout, facecolor="white")
        title = f"Seconds from opening a page to the loaded model, over {network.title}"
        figure.suptitle(title, fontsize=11)
        grid = figure.subplots(lines, len(CACHES), sharey=True, squeeze=False)
        for axes, (cut, cache) in zip(grid.flat, panels, strict=True):
            title = f"{cut.model.title}, {CACHES[cache]}"
            axes.set_title(title, fontsize=10, loc="left")
            _bars(axes, results.rows(cut, cache), network)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _network(results: Results) -> Network:
    chosen = [one for one in results.networks if one.name == NETWORK]
    return chosen[0] if chosen else results.networks[0]


def _bars(axes: Axes, rows: list[Row], network: Network) -> None:
    seconds = [row.seconds(network) or 0 for row in rows]
    colours = [_colour(row.contender) for row in rows]
    bars = axes.barh([row.contender.title for row in rows], seconds, color=colours)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    # The first row of the table is the topmost bar, in each of the panels that share
    # the axis; room for the label of the longest bar.
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, max(seconds) * 1.15)
    axes.xaxis.set_visible(False)
    axes.tick_params(left=False, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _colour(contender: Contender) -> str:
    return OURS if contender.title.startswith("flask_tfjs") else OTHERS
