"""What the runs of one configuration say together: fold by fold, group by group, and how sure that is."""

from functools import partial
from pathlib import Path

import numpy as np

from input_pipeline.age_groups import AGE_GROUPS
from ror_jax.errors import UserError
from ror_jax.report.analysis import FEW, calibration, mean_and_deviation, mean_text
from ror_jax.report.figures import draw_answers
from ror_jax.report.groups import by_people, people, unit_label, women_and_men
from ror_jax.report.page import Picture, Section, Table
from ror_jax.report.predictions import FILE, Predictions, read_predictions
from ror_jax.report.runs import Run, configurations, name_folds, references
from ror_jax.tasks.answers import Answer, Class
from ror_jax.tasks.metrics import metric, tabled

AGING_GROUPS = AGE_GROUPS[:-1]  # that one can be older than
PICTURES = {"surest_mistakes": "The surest mistakes", "typical_hits": "Typical hits", "curves": "Curves"}
INTERVALS = (
    "In parentheses: 95 % intervals, from 1000 bootstrap draws of subjects. They tell how far"
    " other faces could change a mean, not how far another training could. Where all numbers are equal, there is none.",
    f"† Fewer than {FEW} subjects: the interval is narrower than it should be.",
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
    parts = [*result_parts(group, read_tested(group), stem), f"Folder: {first.place}."]
    for name, words in PICTURES.items():
        if (path := first.place / f"{name}.png").exists():
            parts.append(Picture(path, f"{words} of {name_folds([first.fold])}"))
    return Section(f"{label} ({first.task.replace('_', ' ')})", parts)


def read_tested(group: list[Run]) -> Predictions:
    """The predictions of the runs of one configuration, together.

    Raises:
      UserError: predictions are missing or damaged.
      ValueError: they are not those of the test.
    """
    predictions = read_predictions([run.place for run in group], group[0].answers)
    if len(predictions) != (tested := sum(run.tested for run in group)):
        raise ValueError(f"{len(predictions)} predictions of {tested} images; test again")
    return predictions


def result_parts(group: list[Run], predictions: Predictions, stem: str) -> list[str | Table | Picture]:
    """The results of the runs of one configuration; pictures, on which there are no faces, are written to STEM_....png.

    `predictions` are those of `read_tested`.
    """
    first, split = group[0], name_folds(run.fold for run in group)
    images, subjects, groups = len(predictions), predictions.subjects, people(predictions, first)
    data = f"{first.settings['dataset.name']}, {split}, seed {first.seed}"
    what = "test images" if first.split == "test" else f"images of {first.split},"
    parts = [f"{data}: {images} {what} of {len(set(subjects))} subjects. Objective: {first.loss}.", _fold_table(group)]
    judged = predictions.judged()
    for name, (answer, truth) in judged.items():
        title = f"**{name.replace('_', ' ').capitalize()}.**"
        for table in answer.tables(truth, partial(mean_text, subjects)):
            parts += [f"{title} {table.words}", Table(table.columns, table.rows)]
        parts += [f"{title} {words}" for words in _words(answer, truth)]
        scores = answer.scores(truth)
        main = next(iter(scores))
        count, table = women_and_men(subjects, groups, main, scores[main])
        words = f"{title} {unit_label(main)} of the {count} images whose age group and gender are known:"
        parts += [words, table] if count else [f"{title} The records do not know both age group and gender."]
        if (table := by_people(subjects, groups, scores)).rows:
            parts += [f"{title} By group of people:", table]
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
