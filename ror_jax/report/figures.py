"""The pictures of a run."""

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ror_jax.files import replacing
from ror_jax.report.analysis import calibration
from ror_jax.tasks.answers import Answer

STYLES = ("-", "--", ":", "-.")
TRAIN, VALIDATION, TEST = "#9a9a9a", "#2471a3", "#c0392b"


def save_curves(rows: list[dict], names: list[str], path: Path) -> None:
    """Draws these results over the epochs, one panel each, a line a split, from the rows of `metrics.jsonl`."""
    splits = dict.fromkeys(row["split"] for row in rows if row["split"] != "step")
    styles = dict.fromkeys((TRAIN, VALIDATION, TEST), 0)  # those taken of each colour
    for split in splits:
        color = {"train": TRAIN, "validation": VALIDATION}.get(split.partition("_")[0], TEST)
        splits[split] = {"color": color, "linestyle": STYLES[styles[color] % len(STYLES)], "linewidth": 1.6}
        styles[color] += 1
    figure = Figure(figsize=(4.2 * len(names), 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for split, style in splits.items():
            points = [(row["epoch"], row[name]) for row in rows if row["split"] == split and name in row]
            if points:
                marker = "o" if len(points) < 3 else None
                axes.plot(*zip(*points, strict=True), label=split, marker=marker, **style)
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    _save(figure, path)


def save_sampling(label: str, names: tuple[str, ...], images: np.ndarray, drawn: np.ndarray, path: Path) -> None:
    """Draws how many training images lie in each bin of a label, [bins], and how many of an epoch's drawn ones."""
    figure, axes = _plot(8, 3.2, "y")
    places = np.arange(len(names))
    axes.bar(places - 0.2, images, 0.4, color=TRAIN, label=f"training images ({images.sum()})")
    axes.bar(places + 0.2, drawn, 0.4, color=TEST, label=f"drawn in the first epoch ({drawn.sum()})")
    named = slice(None, None, -(-len(names) // 25))  # more names would not be legible
    axes.set_xticks(places[named], names[named], rotation=45, fontsize=8)
    axes.set_xlabel(label.replace("_", " "), fontsize=9)
    axes.legend(frameon=False, fontsize=9)
    _save(figure, path)


def save_examples(
    images: np.ndarray,
    words: list[str],
    mistakes: np.ndarray,
    points: list[tuple[np.ndarray, str]],
    title: str,
    path: Path,
) -> None:
    """Draws images [N, H, W, 3] uint8 in rows of eight, each with its words, in red where it is a mistake, bool [N].

    `points` [N, K, 2], parts of the side, are drawn on them in their colours.
    """
    columns, side = 8, 1.15  # inches an image
    rows = -(-len(images) // columns)
    title, words = _lines(title, 120), [_lines(each, 24) for each in words]
    top, height = 0.35 + 0.17 * title.count("\n"), 1.45 + 0.12 * max(each.count("\n") for each in words)
    width, bottom = 1.25 * columns, top + height * rows
    figure = Figure(figsize=(width, bottom))
    figure.suptitle(title, fontsize=10, y=1 - 0.08 / bottom)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(bottom, 0))  # in inches; one for each image is slow
    axes.axis("off")
    for number, image in enumerate(images):
        size = side * np.array(image.shape[1::-1]) / max(image.shape[:2])
        row, column = divmod(number, columns)
        corner = np.array([1.25 * column + 0.05, top + height * (row + 1) - 0.05 - size[1]])  # upper left
        (left, upper), (right, lower) = corner, corner + size
        axes.imshow(image, extent=(left, right, lower, upper), aspect="auto")
        color = TEST if mistakes[number] else "black"
        axes.text(left + size[0] / 2, upper - 0.04, words[number], fontsize=7, color=color, ha="center", va="bottom")
        for places, shade in points:
            axes.plot(*(corner + places[number] * size).T, ".", color=shade, markersize=3)
    _save(figure, path)


def _confusion(title: str, path: Path, counts: np.ndarray, names: tuple[str, ...]) -> None:
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
    figure.suptitle(_lines(title, round(14 * side)), fontsize=9)
    if len(names) <= 12:
        for row, column in np.ndindex(share.shape):
            if counts[row, column]:
                color = "white" if share[row, column] > 55 else "black"
                axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=color, fontsize=8)
    _save(figure, path)


def _reliability(title: str, path: Path, confidence: np.ndarray, correct: np.ndarray) -> None:
    """Draws accuracy over confidence, with the number of images on each bar."""
    found = calibration(confidence, correct)
    bins = len(found.images)
    figure, axes = _plot(4.6, 4.6)
    left = np.arange(bins) / bins
    axes.plot([0, 1], [0, 1], color=TRAIN, linewidth=1, linestyle="--", label="perfect")
    bars = axes.bar(left, np.nan_to_num(found.accuracy), 1 / bins, align="edge", color=TEST, edgecolor="white")
    axes.bar_label(bars, [str(images) if images else "" for images in found.images], fontsize=7)
    axes.plot(found.confidence, found.accuracy, "k.", markersize=4, label="mean confidence of a bin")
    axes.set(xlim=(0, 1), ylim=(0, 1.08), xlabel="confidence", ylabel="accuracy")
    _finish(figure, axes, title, path)


def _scatter(title: str, path: Path, true: np.ndarray, predicted: np.ndarray, limits: tuple[float, float]) -> None:
    """Draws answers over the truth, a point an image."""
    figure, axes = _plot(4.6, 4.6)
    axes.plot(limits, limits, color=TRAIN, linewidth=1, linestyle="--", label="right")
    axes.scatter(true, predicted, s=9, color=TEST, alpha=max(0.1, min(0.6, 200 / max(len(true), 1))), linewidths=0)
    axes.set(xlim=limits, ylim=limits, xlabel="true", ylabel="predicted")
    _finish(figure, axes, title, path)


def _shares(title: str, path: Path, names: tuple[str, ...], bars: dict[str, np.ndarray]) -> None:
    """Draws shares [K] of K names as horizontal bars, a colour for each name of `bars`."""
    figure, axes = _plot(6, 1.2 + 0.28 * len(names), "x")
    places, height = np.arange(len(names)), 0.8 / len(bars)
    for number, (label, shares) in enumerate(bars.items()):
        offset = height * (number - (len(bars) - 1) / 2)
        axes.barh(places + offset, 100 * shares, height, color=(TEST, VALIDATION, TRAIN)[number % 3], label=label)
    axes.set_yticks(places, [name.replace("_", " ") for name in names], fontsize=8)
    axes.set(xlim=(0, 100), ylim=(len(names) - 0.4, -0.6), xlabel="percent")
    _finish(figure, axes, title, path)


def _cumulative(title: str, path: Path, errors: np.ndarray, failure: float) -> None:
    """Draws the share of images whose error [N] is at most x."""
    figure, axes = _plot(4.6, 3.6)
    shares, last = 100 * np.arange(len(errors) + 1) / max(len(errors), 1), 300 * failure
    places = [0, *100 * np.sort(errors), last]
    axes.step(places, [*shares, shares[-1]], color=TEST, where="post", label=f"{len(errors)} images")
    axes.axvline(100 * failure, color=TRAIN, linewidth=1, linestyle="--", label="failure")
    axes.set(xlim=(0, last), ylim=(0, 101), xlabel="error, percent", ylabel="images, percent")
    _finish(figure, axes, title, path)


def _plot(width: float, height: float, grid: str = "both") -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, alpha=0.25)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=130)


def _finish(figure: Figure, axes: Any, title: str, path: Path) -> None:
    axes.set_title(_lines(title, 60), fontsize=9)
    figure.legend(frameon=False, fontsize=8, ncols=2, loc="outside lower center")
    _save(figure, path)


def _lines(text: str, width: int) -> str:
    """The text with no line of more characters."""
    parts = text.replace(" %", "\N{NO-BREAK SPACE}%").splitlines()
    return "\n".join(line for part in parts for line in textwrap.wrap(part, width))


DRAWINGS: dict[str, Callable[..., None]] = {
    "confusion": _confusion,
    "cumulative": _cumulative,
    "reliability": _reliability,
    "scatter": _scatter,
    "shares": _shares,
}


def draw(kind: str, title: str, path: Path, data: dict[str, Any]) -> None:
    """Writes a picture of `DRAWINGS`, see `ror_jax.tasks.answers.Figure`."""
    DRAWINGS[kind](title, path, **data)


def draw_answers(judged: Mapping[str, tuple[Answer, np.ndarray]], stem: str, title: str) -> list[tuple[Path, str]]:
    """Writes the pictures of answers, by name with their truth, to STEMANSWER_KIND.png; returns paths and captions."""
    drawn = []
    for name, (answer, truth) in judged.items():
        for figure in answer.figures(truth):
            path, words = Path(f"{stem}{name}_{figure.kind}.png"), f"{name.replace('_', ' ')}: {figure.words}"
            draw(figure.kind, f"{words}\n{title}", path, figure.data)
            drawn.append((path, words))
    return drawn
