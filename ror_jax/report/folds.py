"""What the runs of one configuration say together: fold by fold, group by group, and how sure that is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from input_pipeline.datasets.faces import AGE_GROUPS, GENDERS
from ror_jax.errors import UserError
from ror_jax.evaluation.predictions import FILE, Predictions, read_predictions
from ror_jax.report.analysis import FEW, calibration, mean_and_deviation, mean_over_subjects
from ror_jax.report.figures import save_confusion
from ror_jax.report.metrics import METRICS
from ror_jax.report.page import Picture, Section, Table
from ror_jax.report.panels import save_reliability
from ror_jax.report.runs import Run, configurations, name_folds, references

AGING_GROUPS = AGE_GROUPS[:-1]  # that one can be older than
SHOWN_CLASSES = 20
PICTURES = {"surest_mistakes": "The surest mistakes", "typical_hits": "Typical hits", "curves": "Curves"}
INTERVALS = (
    "In parentheses: 95 % intervals, from 1000 bootstrap draws of subjects. They say what other faces could change, not"
    " what another training could. There is none of one subject, nor where all answers are right, or none.",
    f"† Fewer than {FEW} subjects: too few for the interval to be trusted.",
)
WORDS = (
    "Below, a section for each configuration: its runs differ in the fold alone, and all their test images are put"
    " together.",
    *INTERVALS,
    "Expected calibration error: the mean difference between how sure a network is and how often it is right (Guo et"
    " al., 2017), in ten bins of confidence.",
)


def fold_sections(runs: list[Run], ours: list[Run], folder: Path, name: str) -> tuple[list[Section], list[str]]:
    """A section for each configuration whose runs left predictions, with pictures NAME_1_... in `folder`.

    Args:
      runs: of any number of configurations.
      ours: the numbered list of runs, some of which are among these.

    Returns:
      The sections, and a line for each configuration whose predictions could not be read.
    """
    sections, problems = [], []
    if curves := aging_curves(runs, ours):
        sections.append(_aging_section(curves))
    groups = configurations([run for run in runs if run.images and (run.folder / FILE).exists()])
    if groups:
        sections.append(Section("Folds, classes, groups of people", [WORDS]))
    for number, group in enumerate(groups, start=1):
        label = _label(group, group[0].row or group[0].name, ours)
        try:
            sections.append(_section(group, label, f"{folder / name}_{number}"))
        except (UserError, KeyError, ValueError) as error:
            problems.append(f"left out the predictions of {group[0].folder} and its other folds: {error}")
    return sections, problems


def _label(group: list[Run], name: str, ours: list[Run]) -> str:
    """The name, with the numbers of the runs that were not the paper's experiment."""
    differ = [run for run in group if run.differences and run in ours]
    return f"{name} {references(differ, ours)}" if differ else name


# --- Aging curve ----------------------------------------------------------------------------------------------------


def aging_curves(runs: list[Run], ours: list[Run]) -> list[dict]:
    """What networks answered to "is the face older than group k?" (Deep-RoR, equation 2, Figure 4).

    Returns:
      A dict for each configuration but for k: `label`, `runs`, `points`, the accuracies in percent by k, each the mean
      over the folds.
    """
    asked: dict[str, dict[int, list[Run]]] = {}
    for group in configurations([run for run in runs if run.task == "older_than"]):
        asked.setdefault(group[0].configuration(but="task.group"), {})[group[0].settings["task.group"]] = group
    curves = []
    for groups in asked.values():
        members = [run for group in groups.values() for run in group]
        name = members[0].row.partition(":")[0] if members[0].row else members[0].name
        points = {k: float(np.mean([run.value("accuracy") for run in groups[k]])) for k in sorted(groups)}
        curves.append({"label": _label(members, name, ours), "runs": members, "points": points})
    return curves


def _aging_section(curves: list[dict]) -> Section:
    rows = [
        [curve["label"], *(f"{curve['points'][k]:.2f}" if k in curve["points"] else "" for k in range(1, 8))]
        for curve in curves
    ]
    words = "Accuracy in percent, the mean over the folds that are there."
    return Section("Aging curve: is the face older than this group?", [words, Table(["", *AGING_GROUPS], rows)])


# --- One configuration ----------------------------------------------------------------------------------------------


def _section(group: list[Run], label: str, stem: str) -> Section:
    """All about one configuration; pictures are written to STEM_....png."""
    first = group[0]
    parts = [*result_parts(group, stem), f"Folder: {first.folder}."]
    for name, words in PICTURES.items():
        if (path := first.folder / f"{name}.png").exists():
            parts.append(Picture(path, f"{words} of {name_folds([first.fold])}"))
    return Section(f"{label} ({first.task.replace('_', ' ')})", parts)


def result_parts(group: list[Run], stem: str) -> list[str | Table | Picture]:
    """The results of the runs of one configuration; pictures, on which there are no faces, are written to STEM_....png.

    Raises:
      UserError: predictions are missing or damaged.
      ValueError: they are not those of the test.
    """
    first = group[0]
    predictions = read_predictions([run.folder for run in group])
    split = name_folds(run.fold for run in group)
    images, subjects = len(predictions.true), len(set(predictions.subjects))
    known = predictions.true[predictions.true >= 0]
    if len(known) != (tested := sum(run.results["images"] for run in group)):
        raise ValueError(f"{len(known)} predictions of {tested} images; test again")
    data = f"{first.settings['dataset.name']}, {split}, seed {first.seed}"
    share = np.bincount(known).max() / len(known)
    majority = f"Always the most frequent class would be right for {100 * share:.2f} %."
    both = "SmoothL1 and binary cross-entropy" if first.task == "age_gender" else None
    objective = f"Objective: {both or first.settings.get('task.objective') or 'cross_entropy'}."
    parts = [f"{data}: {images} test images of {subjects} subjects. {majority} {objective}", _fold_table(group)]
    if len(first.classes) <= SHOWN_CLASSES:
        parts += ["Recall in percent:", _recall_table(predictions, first.classes)]
    parts += _by_group_and_gender(predictions, first.task)
    parts += _by_decade(predictions, first.task)
    return [*parts, _confusion(predictions, first.classes, split, stem), *_reliability(predictions, split, stem)]


def _fold_table(group: list[Run]) -> Table:
    metrics = [metric for metric in METRICS if metric in group[0].results]
    images = [run.results["images"] for run in group]
    rows = [
        [name_folds([run.fold]), str(count), *map(run.text, metrics)] for run, count in zip(group, images, strict=True)
    ]
    if len(group) > 1:
        means = (mean_and_deviation([run.value(metric) for run in group], METRICS[metric].digits) for metric in metrics)
        rows.append(["mean ± standard deviation (n - 1)", str(sum(images)), *means])
    if "baseline" in group[0].results:
        blind = [run.results["baseline"] for run in group]
        means = (METRICS[metric].number(np.mean([results[metric] for results in blind])) for metric in metrics)
        rows.append(["the same answer to all images, as the training labels suggest", str(sum(images)), *means])
    return Table(["", "images", *(METRICS[metric].label for metric in metrics)], rows)


def _recall_table(predictions: Predictions, names: Sequence[str]) -> Table:
    rows = []
    for number, name in enumerate(names):
        if (chosen := predictions.true == number).any():
            rows.append([name, *_mean(predictions.predicted == number, predictions.subjects, chosen)])
    return Table(["true class", "recall", "images / subjects"], rows)


def _by_group_and_gender(predictions: Predictions, task: str) -> list[str | Table]:
    """The task's own score of women and men of each age group, where records know both."""
    groups, genders = predictions.number("age_group"), predictions.number("gender")
    metric, hits = next(iter(predictions.scores(task).items()))
    both = (groups >= 0) & (genders >= 0) & ~np.isnan(hits)
    if not both.any():
        return ["The records do not know both age group and gender."]
    rows = []
    for number, name in [*enumerate(AGE_GROUPS), (-1, "all")]:
        chosen = both & ((groups == number) | (number < 0))
        if chosen.any():
            sides = (chosen & (genders == side) for side in range(len(GENDERS)))
            found = (_mean(hits, predictions.subjects, side, METRICS[metric].factor) for side in sides)
            rows.append([name, *(cell for cells in found for cell in cells)])
    columns = [cell for gender in GENDERS for cell in (gender, "images / subjects")]
    what = f"{'In percent, ' * (METRICS[metric].unit == ' %')}{METRICS[metric].label}"
    words = f"{what}, of the {both.sum()} images whose records know age group and gender:"
    return [words, Table(["age group", *columns], rows)]


def _by_decade(predictions: Predictions, task: str) -> list[str | Table]:
    """Errors of age by the decade of the true age; nothing where no age in years was learnt."""
    scores, ages = predictions.scores(task), predictions.number("age")
    if "mae" not in scores:
        return []
    error = predictions.years - ages
    rows = []
    for first in range(0, 101, 10):
        chosen = (ages >= first) & (ages < first + 10)
        if chosen.any():
            mae, count = _mean(scores["mae"], predictions.subjects, chosen, 1.0)
            rmse, bias = np.sqrt(np.square(error[chosen]).mean()), error[chosen].mean()
            rows.append([f"{first}-{first + 9}", mae, f"{rmse:.1f}", f"{bias:+.1f}", count])
    words = "In years, by the decade of the true age; the mean error is above 0 where faces are taken for older ones:"
    return [words, Table(["true age", "MAE", "RMSE", "mean error", "images / subjects"], rows)]


def _mean(values: np.ndarray, subjects: np.ndarray, chosen: np.ndarray, factor: float = 100.0) -> tuple[str, str]:
    """Of the chosen images the mean, times the factor, with its interval, and how many images and subjects they are."""
    if not chosen.any():
        return "", "0"
    mean = mean_over_subjects(factor * values[chosen], subjects[chosen])
    interval = f" ({mean.low:.1f} to {mean.high:.1f})" if mean.low < mean.high else ""
    few = " †" if mean.subjects < FEW else ""
    return f"{mean.value:.1f}{interval}{few}", f"{mean.images} / {mean.subjects}"


def _confusion(predictions: Predictions, names: Sequence[str], split: str, stem: str) -> Picture:
    size = len(names)
    known = predictions.true >= 0
    places = size * predictions.true[known] + predictions.predicted[known]
    counts = np.bincount(places, minlength=size**2).reshape(size, size)
    save_confusion(counts, names, split, path := Path(f"{stem}_confusion.png"))
    return Picture(path, f"Confusion matrix of {split}")


def _reliability(predictions: Predictions, split: str, stem: str) -> tuple[str, Picture]:
    known = predictions.true >= 0
    hits, confidence = ~predictions.mistakes[known], predictions.confidence[known]
    found = calibration(confidence, hits)
    save_reliability(found, split, path := Path(f"{stem}_reliability.png"))
    words = (
        f"Expected calibration error: {100 * found.error:.2f} %. The mean confidence is"
        f" {100 * confidence.mean():.2f} %, {100 * hits.mean():.2f} % of the answers are right."
    )
    return words, Picture(path, f"Reliability of {split}: accuracy by confidence, and the number of images in each bin")
