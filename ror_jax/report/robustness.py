"""How much answers suffer from what photographs bring with them: other sizes, tilt, blur, compression, light."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

from input_pipeline.geometry import Kind, move
from input_pipeline.jitter import blur, shift_scale_rotate
from input_pipeline.pipeline import batch_row
from input_pipeline.transforms import Crop
from ror_jax.report.analysis import mean_over_subjects, mean_text
from ror_jax.report.groups import unit_label
from ror_jax.report.page import Table
from ror_jax.tasks.answers import Answer
from ror_jax.tasks.metrics import metric

UNCHANGED = "unchanged"
BATCH = 64  # images


def _scaled(pixels: np.ndarray, factor: float, fill: Sequence[float]) -> Crop:
    return shift_scale_rotate(pixels, (0, 0), factor - 1, 0, fill)


def _turned(pixels: np.ndarray, degrees: float, fill: Sequence[float]) -> Crop:
    return shift_scale_rotate(pixels, (0, 0), 0, degrees, fill)


def _blurred(pixels: np.ndarray, sigma: float, fill: Sequence[float]) -> Crop:
    return _in_place(blur(pixels, sigma))


def _compressed(pixels: np.ndarray, quality: float, fill: Sequence[float]) -> Crop:
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=quality)
    return _in_place(np.asarray(Image.open(file)))


def _brightened(pixels: np.ndarray, factor: float, fill: Sequence[float]) -> Crop:
    return _in_place(np.clip(np.round(pixels * float(factor)), 0, 255).astype(np.uint8))


def _in_place(pixels: np.ndarray) -> Crop:
    return Crop(pixels, np.eye(2, 3))


Change = Callable[[np.ndarray, float, Sequence[float]], Crop]

CHANGES: dict[str, tuple[Change, tuple[float, ...]]] = {
    "face {:g} times as large": (_scaled, (0.8, 0.9, 1.2, 1.4)),
    "turned by {:g} degrees": (_turned, (10, 20, 30, 45)),
    "blurred with sigma {:g} px": (_blurred, (0.5, 1, 2, 4)),
    "JPEG quality {:g}": (_compressed, (50, 30, 15, 5)),
    "{:g} times as bright": (_brightened, (0.25, 0.5, 1.5, 2)),
}


def robustness(
    read: Callable[[np.ndarray], Mapping[str, Answer]],
    truth: Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    crops: Sequence[Crop],
    *,
    geometry: Mapping[str, Kind],
    fill: Sequence[float],
) -> dict[str, dict[str, np.ndarray]]:
    """Returns the main score of each answer to N images, by how these were changed: words -> ANSWER_METRIC -> [N].

    The first are those of the images as they are.

    Args:
      read: what the network answers to images, uint8 [B, size, size, 3].
      truth: see `Task.truth`.
      records: of the images.
      crops: the images as the network sees them.
      geometry: see `Dataset.geometry`; such labels move with the image.
      fill: colour of what lies outside an image.
    """
    changes = {words.format(amount): (change, amount) for words, (change, many) in CHANGES.items() for amount in many}
    found = {}
    with tqdm(total=len(crops) * (1 + len(changes)), desc="measuring robustness", unit=" images", disable=None) as bar:
        for words, change in {UNCHANGED: None, **changes}.items():
            seen = [crop.then(change[0](crop.pixels, change[1], fill)) for crop in crops] if change else crops
            rows = [
                batch_row(record, crop.pixels, mask=1) | move(record, crop.shares, geometry)
                for record, crop in zip(records, seen, strict=True)
            ]
            batch = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
            parts = []
            for start in range(0, len(seen), BATCH):
                parts.append(read(batch["image"][start : start + BATCH]))
                bar.update(len(batch["image"][start : start + BATCH]))
            answers = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
            found[words] = {}
            for name, true in truth(batch).items():
                score, values = next(iter(answers[name].scores(np.asarray(true)).items()))
                found[words][f"{name}_{score}"] = values
    return found


def robustness_table(found: Mapping[str, Mapping[str, np.ndarray]]) -> Table:
    """Returns the mean scores of `robustness` with their intervals, a row for each change."""
    rows = [
        [
            words,
            *(
                mean_text(np.arange(len(values)), values, ~np.isnan(values), metric(name).factor)[0]
                for name, values in scores.items()
            ),
        ]
        for words, scores in found.items()
    ]
    return Table(["", *map(unit_label, found[UNCHANGED])], rows)


def most_harmful(found: Mapping[str, Mapping[str, np.ndarray]]) -> tuple[str, ...]:
    """Returns a line for each score of `robustness` that a change makes worse beyond chance: the most harmful one."""
    lines = []
    for name, values in found[UNCHANGED].items():
        if (known := ~np.isnan(values)).any():
            means = {words: scores[name][known].mean() for words, scores in found.items()}
            worst = min(means, key=lambda words: metric(name).sign * means[words])
            change = mean_over_subjects(metric(name).sign * (found[worst][name] - values)[known], np.flatnonzero(known))
            if change.high < 0:
                before, after = (metric(name).number(means[words]) for words in (UNCHANGED, worst))
                lines.append(f"{unit_label(name)}: {after} instead of {before} with the most harmful change, {worst}.")
    return tuple(lines)
