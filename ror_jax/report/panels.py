"""The pictures of a report."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ror_jax.report.figures import TEST, TRAIN
from ror_jax.tasks.metrics import metric


def save_page(panels: list[dict], path: Path) -> bool:
    """Draws a page of panels, two in a row; returns whether there was anything to draw.

    A panel has a `title` and its entries, each a dict with `label`: either `curves` of `runs`, the panel's `metric`
    over the epochs, smoothed; or `bars`, our last result `ours` beside the `published` one, either may be missing, of
    the `metric`; or `aging`, `points` of accuracy in percent by number of the age group, from 1, with their names
    as the panel's `groups`.
    """
    if not panels:
        return False
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6 * columns, 3.8 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    draw = {"curves": _draw_curves, "bars": _draw_bars, "aging": _draw_aging}
    for axes, panel in zip(grid, panels, strict=False):
        axes.set_title(panel["title"], fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        draw[next(kind for kind in draw if kind in panel)](axes, panel)
        axes.legend(frameon=False, fontsize=9)
    for axes in grid[len(panels) :]:
        axes.axis("off")
    figure.savefig(path, dpi=110)
    return True


def _draw_curves(axes, panel: dict) -> None:
    for number, entry in enumerate(panel["curves"]):
        for run in entry["runs"]:
            epochs, errors = np.array(run.curve(panel["metric"])).T
            # A running mean over a fiftieth of the tests; how much the paper smooths its curves it does not say.
            half = len(errors) // 100
            smooth = [errors[max(0, at - half) : at + half + 1].mean() for at in range(len(errors))]
            marker = "o" if len(errors) < 20 else None
            axes.plot(epochs, smooth, color=f"C{number}", marker=marker, markersize=4, linewidth=1.4)
        if entry["runs"]:
            axes.plot([], [], color=f"C{number}", label=entry["label"])
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel(_axis(panel), fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)


def _draw_bars(axes, panel: dict) -> None:
    entries = panel["bars"]
    places = np.arange(len(entries))
    colors = {"published": TRAIN, "ours": TEST}
    known = [label for label in colors if any(label in entry for entry in entries)]
    for number, label in enumerate(known):
        values = [float(entry.get(label, np.nan)) for entry in entries]
        offset = 0.4 * (number - (len(known) - 1) / 2)
        bars = axes.bar(places + offset, values, 0.38, color=colors[label], label=label)
        axes.bar_label(bars, ["" if np.isnan(value) else f"{value:.2f}" for value in values], fontsize=8)
    axes.set_xticks(places, [entry["label"] for entry in entries], rotation=20, ha="right", fontsize=8)
    axes.set_xlim(-0.6, len(entries) - 0.4)
    axes.set_ylabel(_axis(panel), fontsize=9)


def _axis(panel: dict) -> str:
    shown = metric(panel["metric"])
    return f"{shown.label} (%)" if shown.unit == " %" else shown.label


def _draw_aging(axes, panel: dict) -> None:
    for entry in panel["aging"]:
        axes.plot(*zip(*entry["points"].items(), strict=True), marker="o", markersize=4, label=entry["label"])
    axes.set_xticks(range(1, 1 + len(panel["groups"])), panel["groups"])
    axes.set_xlabel("older than this group?", fontsize=9)
    axes.set_ylabel("accuracy (%)", fontsize=9)
    axes.grid(alpha=0.25)
