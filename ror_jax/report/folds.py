"""What the runs of one configuration say together: fold by fold, group by group, and how sure that is."""

from functools import partial
from pathlib import Path

import numpy as np

from input_pipeline.age_groups import AGE_GROUPS
from input_pipeline.datasets.faces import GENDERS
from ror_jax.errors import UserError
from ror_jax.report.analysis import FEW, calibration, mean_and_deviation, mean_over_subjects
from ror_jax.report.figures import draw_answers
from ror_jax.report.page import Picture, Section, Table
from ror_jax.report.predictions import FILE, Predictions, read_predictions
from ror_jax.report.runs import Run, configurations, name_folds, references
from ror_jax.tasks.answers import Answer, Class
from ror_jax.tasks.metrics import metric, tabled

AGING_GROUPS = AGE_GROUPS[:-1]  # that one can be older than
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
    groups = configurations([run for run in runs if run.images and (run.place / FILE).exists()])
    if groups:
        sections.append(Section("Folds, classes, groups of people", [WORDS]))
    for number, group in enumerate(groups, start=1):
        label = _label(group, group[0].row or group[0].name, ours)
        try:
            for split, tested in by_test(group).items():
                of, end = ("", "") if split == "test" else (f", {split}", f"_{split}")
                sections.append(_section(tested, f"{label}{of}", f"{folder / name}_{number}{end}"))
        except (UserError, KeyError, ValueError) as error:
            problems.append(f"left out the predictions of {group[0].folder} and its other folds: {error}")
    return sections, problems


def by_test(group: list[Run]) -> dict[str, list[Run]]:
    """The runs of one configuration for each of the tests that all of them have, by its name."""
    tests = [{each.split: each for each in (run, *run.further)} for run in group]
    return {split: [each[split] for each in tests] for split in tests[0] if all(split in each for each in tests)}


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
    for group in configurations([run for run in runs if run.settings.get("task.group") is not None]):
        asked.setdefault(group[0].configuration(but="task.group"), {})[group[0].settings["task.group"]] = group
    curves = []
    for groups in asked.values():
        members = [run for group in groups.values() for run in group]
        name = members[0].row.rpartition(",")[0] if members[0].row else members[0].name
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
    parts = [*result_parts(group, stem), f"Folder: {first.place}."]
    for name, words in PICTURES.items():
        if (path := first.place / f"{name}.png").exists():
            parts.append(Picture(path, f"{words} of {name_folds([first.fold])}"))
    return Section(f"{label} ({first.task.replace('_', ' ')})", parts)


def result_parts(group: list[Run], stem: str) -> list[str | Table | Picture]:
    """The results of the runs of one configuration; pictures, on which there are no faces, are written to STEM_....png.

    Raises:
      UserError: predictions are missing or damaged.
      ValueError: they are not those of the test.
    """
    first = group[0]
    predictions = read_predictions([run.place for run in group], first.answers)
    split = name_folds(run.fold for run in group)
    images, subjects = len(predictions), len(set(predictions.subjects))
    if images != (tested := sum(run.tested for run in group)):
        raise ValueError(f"{images} predictions of {tested} images; test again")
    data = f"{first.settings['dataset.name']}, {split}, seed {first.seed}"
    what = "test images" if first.split == "test" else f"images of {first.split},"
    parts = [f"{data}: {images} {what} of {subjects} subjects. Objective: {first.loss}.", _fold_table(group)]
    judged = predictions.judged()
    for name, (answer, truth) in judged.items():
        title = f"**{name.replace('_', ' ').capitalize()}.**"
        for table in answer.tables(truth, partial(_mean, predictions.subjects)):
            parts += [f"{title} {table.words}", Table(table.columns, table.rows)]
        parts += [f"{title} {words}" for words in _words(answer, truth)]
        parts += _by_group_and_gender(predictions, title, answer.scores(truth))
        for column in first.groups:
            parts += _by_text(predictions, column, title, answer.scores(truth))
    return parts + [Picture(path, f"{words} ({split})") for path, words in draw_answers(judged, f"{stem}_", split)]


def _fold_table(group: list[Run]) -> Table:
    names = tabled(group[0].results)
    rows = [[name_folds([run.fold]), str(run.tested), *map(run.text, names)] for run in group]
    images = str(sum(run.tested for run in group))
    if len(group) > 1:
        means = (mean_and_deviation([run.value(name) for run in group], metric(name).digits) for name in names)
        rows.append(["mean ± standard deviation (n - 1)", images, *means])
    if "baseline" in group[0].results:
        blind = [run.results["baseline"] for run in group]
        means = (metric(name).number(np.mean([results[name] for results in blind])) for name in names)
        rows.append(["the same answer to all images, as the training labels suggest", images, *means])
    return Table(["", "images", *(metric(name).label for name in names)], rows)


def _words(answer: Answer, truth: np.ndarray) -> list[str]:
    """Of classes, how many images have the most frequent one, and what confidence is worth."""
    if not isinstance(answer, Class) or not (known := truth >= 0).any():
        return []
    share = np.bincount(truth[known]).max() / known.sum()
    words = f"Always the most frequent class would be right for {100 * share:.2f} %."
    if answer.confidence is None:
        return [words]
    hits, confidence = ~answer.mistakes(truth)[known], answer.confidence[known]
    return [
        f"{words} Expected calibration error: {100 * calibration(confidence, hits).error:.2f} %. The mean confidence is"
        f" {100 * confidence.mean():.2f} %, {100 * hits.mean():.2f} % of the answers are right."
    ]


def _by_group_and_gender(predictions: Predictions, title: str, scores: dict[str, np.ndarray]) -> list[str | Table]:
    """The first of an answer's scores, of women and men of each age group, where records know both."""
    groups, genders = predictions.number("age_group"), predictions.number("gender")
    name, values = next(iter(scores.items()))
    both = (groups >= 0) & (genders >= 0) & ~np.isnan(values)
    if not both.any():
        return [f"{title} The records do not know both age group and gender."]
    rows = []
    for number, group in [*enumerate(AGE_GROUPS), (-1, "all")]:
        chosen = both & ((groups == number) | (number < 0))
        if chosen.any():
            sides = (chosen & (genders == side) for side in range(len(GENDERS)))
            found = (_mean(predictions.subjects, values, side, metric(name).factor) for side in sides)
            rows.append([group, *(cell for cells in found for cell in cells)])
    columns = [cell for gender in GENDERS for cell in (gender, "images / subjects")]
    what = f"{'In percent, ' * (metric(name).unit == ' %')}{metric(name).label}"
    words = f"{title} {what}, of the {both.sum()} images whose records know age group and gender:"
    return [words, Table(["age group", *columns], rows)]


def _by_text(predictions: Predictions, column: str, title: str, scores: dict[str, np.ndarray]) -> list[str | Table]:
    """All scores of an answer by the values of a column of text that the network never sees."""
    rows = []
    for value, chosen in predictions.groups(column).items():
        found = [
            _mean(predictions.subjects, values, chosen & ~np.isnan(values), metric(name).factor)
            for name, values in scores.items()
        ]
        rows.append([value, *(mean for mean, _ in found), found[0][1]])
    labels = [f"{metric(name).label}{' (%)' * (metric(name).unit == ' %')}" for name in scores]
    return (
        [f"{title} By {column.replace('_', ' ')}:", Table([column, *labels, "images / subjects"], rows)] if rows else []
    )


def _mean(subjects: np.ndarray, values: np.ndarray, chosen: np.ndarray, factor: float = 100.0) -> tuple[str, str]:
    """Of the chosen images the mean, times the factor, with its interval, and how many images and subjects they are."""
    if not chosen.any():
        return "", "0"
    mean = mean_over_subjects(factor * values[chosen], subjects[chosen])
    interval = f" ({mean.low:.1f} to {mean.high:.1f})" if mean.low < mean.high else ""
    few = " †" if mean.subjects < FEW else ""
    return f"{mean.value:.1f}{interval}{few}", f"{mean.images} / {mean.subjects}"
