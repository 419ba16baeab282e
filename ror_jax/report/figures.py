"""The pictures of a run."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ror_jax.files import replacing

TRAIN, VALIDATION, TEST = "#9a9a9a", "#2471a3", "#c0392b"


def save_curves(rows: list[dict], metrics: list[str], path: Path) -> None:
    """Draws `metrics` over the epochs, one panel each, a line a split, from the rows of `metrics.jsonl`."""
    figure = Figure(figsize=(4.2 * len(metrics), 3.2), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for split, color in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
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
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=130)


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
    figure.suptitle("\n".join(textwrap.wrap(title, round(14 * side))), fontsize=9)
    if len(names) <= 12:
        for row, column in np.ndindex(share.shape):
            if counts[row, column]:
                color = "white" if share[row, column] > 55 else "black"
                axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=color, fontsize=8)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=130)


def save_sampling(label: str, names: tuple[str, ...], images: np.ndarray, drawn: np.ndarray, path: Path) -> None:
    """Draws how many training images lie in each bin of a label, [bins], and how many of an epoch's drawn ones."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(names))
    axes.bar(places - 0.2, images, 0.4, color=TRAIN, label=f"training images ({images.sum()})")
    axes.bar(places + 0.2, drawn, 0.4, color=TEST, label=f"drawn in the first epoch ({drawn.sum()})")
    named = slice(None, None, -(-len(names) // 25))  # more names would not be legible
    axes.set_xticks(places[named], names[named], rotation=45, fontsize=8)
    axes.set_xlabel(label.replace("_", " "), fontsize=9)
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=130)


def save_examples(images: np.ndarray, words: list[str], mistakes: np.ndarray, title: str, path: Path) -> None:
    """Draws images [N, H, W, 3] uint8 in rows of eight, each with its words, in red where it is a mistake, bool [N]."""
    columns = 8
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.25 * columns, 1.55 * rows + 0.3), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for axes in (grid := figure.subplots(rows, columns, squeeze=False)).flat:
        axes.axis("off")
    for axes, image, text, mistake in zip(grid.flat, images, words, mistakes, strict=False):
        axes.imshow(image)
        axes.set_title(text, fontsize=7, color=TEST if mistake else "black")
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=130)
