"""The pictures of a run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

TRAIN, TEST = "#9a9a9a", "#c0392b"


def save_curves(rows: list[dict], metrics: list[str], path: Path) -> None:
    """Draws `metrics` over the epochs, one panel each, training and test, from the rows of `metrics.jsonl`."""
    figure = Figure(figsize=(4.2 * len(metrics), 3.2), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for split, color in (("train", TRAIN), ("test", TEST)):
            points = [(row["epoch"], row[metric]) for row in rows if row["split"] == split and metric in row]
            if points:
                marker = "o" if len(points) < 3 else None
                axes.plot(*zip(*points, strict=True), color=color, label=split, marker=marker, linewidth=1.6)
        axes.set_title(metric.replace("_", " "), fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)


def save_confusion(counts: np.ndarray, names: tuple[str, ...], title: str, path: Path) -> None:
    """Draws a confusion matrix [K, K] of counts (row: true class) as percent of each true class."""
    counts = np.asarray(counts)
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    named = len(names) <= 30  # more names would not be legible
    side = max(3.5, 0.55 * len(names) + 1.6) if named else 8
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(share, cmap="Reds", vmin=0, vmax=100)
    if named:
        images = [f"{name}  ({n})" for name, n in zip(names, counts.sum(1), strict=True)]
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(len(names)), images, fontsize=8)
    else:
        figure.colorbar(picture, shrink=0.8)
    axes.set_xlabel("predicted, percent of each row")
    axes.set_ylabel("true (images)" if named else "true")
    axes.set_title(title, fontsize=9)
    if len(names) <= 12:
        for row, column in np.ndindex(share.shape):
            if counts[row, column]:
                color = "white" if share[row, column] > 55 else "black"
                axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=color, fontsize=8)
    figure.savefig(path, dpi=130)


def save_examples(images: np.ndarray, true: list[str], predicted: list[str], title: str, path: Path) -> None:
    """Draws images [N, H, W, 3] uint8 in rows of eight, each with its true and predicted class, mistakes in red."""
    columns = 8
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.25 * columns, 1.55 * rows + 0.3), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for axes in (grid := figure.subplots(rows, columns, squeeze=False)).flat:
        axes.axis("off")
    for axes, image, label, guess in zip(grid.flat, images, true, predicted, strict=False):
        axes.imshow(image)
        right = label == guess
        axes.set_title(guess if right else f"{guess}\nis {label}", fontsize=7, color="black" if right else TEST)
    figure.savefig(path, dpi=130)


def save_page(panels: list[dict], path: Path) -> bool:
    """Draws a page of panels in two columns; returns whether there was anything to draw.

    A panel has a `title` and either `curves` (test errors over the epochs, smoothed) or `bars` (last test errors beside
    the published ones). Each of their entries is a dict with `label`, `runs` and perhaps `published`.
    """
    if not panels:
        return False
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(12, 3.8 * rows), layout="constrained")
    grid = list(figure.subplots(rows, 2, squeeze=False).flat)
    for axes, panel in zip(grid, panels, strict=False):
        axes.set_title(panel["title"], fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        (_draw_curves if "curves" in panel else _draw_bars)(axes, panel)
    for axes in grid[len(panels) :]:
        axes.axis("off")
    figure.savefig(path, dpi=110)
    return True


def _draw_curves(axes, panel: dict) -> None:
    for number, entry in enumerate(panel["curves"]):
        for run in entry["runs"]:
            epochs, errors = np.array(run.curve).T
            # A running mean over a fiftieth of the tests; how much the paper smooths its curves it does not say.
            half = len(errors) // 100
            smooth = [errors[max(0, at - half) : at + half + 1].mean() for at in range(len(errors))]
            marker = "o" if len(errors) < 20 else None
            axes.plot(epochs, smooth, color=f"C{number}", marker=marker, markersize=4, linewidth=1.4)
        if entry["runs"]:
            axes.plot([], [], color=f"C{number}", label=entry["label"])
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel("test error (%)", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)


def _draw_bars(axes, panel: dict) -> None:
    entries = panel["bars"]
    places = np.arange(len(entries))
    ours = [np.mean([run.value("error") for run in entry["runs"]]) if entry["runs"] else np.nan for entry in entries]
    published = [entry.get("published", np.nan) for entry in entries]
    for offset, values, color, label in ((-0.2, published, TRAIN, "published"), (0.2, ours, TEST, "ours")):
        bars = axes.bar(places + offset, values, 0.38, color=color, label=label)
        axes.bar_label(bars, ["" if np.isnan(value) else f"{value:.2f}" for value in values], fontsize=8)
    axes.set_xticks(places, [entry["label"] for entry in entries], rotation=20, ha="right", fontsize=8)
    axes.set_ylabel("test error (%)", fontsize=9)
    axes.legend(frameon=False, fontsize=9)


def save_aging_curve(
    names: Sequence[str], accuracies: dict[int, float], majorities: dict[int, float], path: Path
) -> None:
    """Draws Deep-RoR's Figure 4: how often "older than group k?" is answered rightly, by k from 1, in shares of 1."""
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.subplots()
    groups = sorted(accuracies)
    for values, color, label in ((majorities, TRAIN, "always the same answer"), (accuracies, TEST, "classifier")):
        axes.plot(groups, [100 * values[group] for group in groups], "o-", color=color, label=label, linewidth=1.6)
    axes.set_xticks(groups, [f"{group}\n> {names[group - 1]}" for group in groups], fontsize=8)
    axes.set_xlabel("older than group k?", fontsize=9)
    axes.set_ylabel("accuracy (%)", fontsize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
