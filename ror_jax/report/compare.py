"""Two runs, or two cross-validations, on the same test images: what differs, by how much, how surely."""

from pathlib import Path

import numpy as np

from ror_jax.errors import UserError
from ror_jax.report.analysis import FEW, mean_over_subjects
from ror_jax.report.folds import by_test
from ror_jax.report.page import Section
from ror_jax.report.predictions import FILE, Predictions, read_predictions
from ror_jax.report.runs import Run, in_words, name_folds, read_run
from ror_jax.tasks.metrics import metric

DRAWS = 2000
CAUTION = (
    f"The intervals, 95 %, are from {DRAWS} paired bootstrap draws of subjects. They say what other faces could change,"
    " not what another training could: for that, train both with several seeds."
)


def compare(first: Path | str, second: Path | str) -> list[Section]:
    """The sections of a page that compares B, `second`, with A, `first`.

    Each is the folder of a run, or one with the folders `fold_0`, `fold_1` ... of runs. Images are paired by their
    place in `predictions.csv`, fold by fold.

    Raises:
      UserError: there are no such runs, or they were not tested on the same images with the same classes.
    """
    all_a, all_b = _runs(Path(first)), _runs(Path(second))
    folds = [fold for fold in all_a if fold in all_b]
    if not folds:
        raise UserError(
            f"{first} has {name_folds(all_a)}, {second} {name_folds(all_b)}: test both on the same fold to compare"
        )
    a, b = ([found[fold] for fold in folds] for found in (all_a, all_b))
    tests_a, tests_b = by_test(a), by_test(b)
    splits = [split for split in tests_a if split in tests_b]
    if not splits:
        raise UserError(
            f"nothing to compare: {first} has the tests {', '.join(tests_a)}, {second} {', '.join(tests_b)}"
        )
    results = [_results(split, tests_a[split], tests_b[split], folds) for split in splits]
    settings = _settings(a[0], b[0])
    words = tuple(f"{key}: {in_words(values[0])} in A, {in_words(values[1])} in B" for key, values in settings.items())
    warnings = [
        f"{name_folds([fold])} is in one of the two only, and left out." for fold in all_a.keys() ^ all_b.keys()
    ]
    if [run.seed for run in a] != [run.seed for run in b]:
        warnings.append("Their seeds differ: chance in training is a part of the difference.")
    if _parts(settings) > 1:
        warnings.append("They differ in several things: which of them makes the difference cannot be told.")
    return [
        Section("Comparison", [(f"A: {first}", f"B: {second}")]),
        *results,
        Section("Settings that differ", [words or "None."]),
        *([Section("Beware", [tuple(warnings)])] if warnings else []),
    ]


def _results(split: str, a: list[Run], b: list[Run], folds: list[int | None]) -> Section:
    """What differs on one test, whose runs are those of the same folds in the same order."""
    for run, other in zip(a, b, strict=True):
        _check_images(run, other)
    predicted = [read_predictions([run.place for run in side], side[0].answers) for side in (a, b)]
    scores_a, scores_b = (side.scores() for side in predicted)
    people = predicted[0].subjects
    number = len(set(people))
    known = [name for name in scores_a if name in scores_b and not np.isnan(scores_a[name]).all()]
    lines = tuple(_line(name, scores_a[name], scores_b[name], people) for name in known)
    what = "test images" if split == "test" else f"images of {split},"
    words = f"On {name_folds(folds)}: {len(people)} {what} of {number} subjects."
    few = [f"Fewer than {FEW} subjects are too few for the intervals to be trusted."] if number < FEW else []
    return Section("Results" if split == "test" else f"Results on {split}", [words, lines, CAUTION, *few])


def _runs(folder: Path) -> dict[int | None, Run]:
    """The tested runs of a folder, by fold."""
    folds = [place for place in sorted(folder.glob("fold_*")) if place.name.removeprefix("fold_").isdecimal()]
    places = [folder] if (folder / "config.json").exists() else folds
    runs = [run for place in places if (place / FILE).exists() and (run := read_run(place))]
    if not runs:
        raise UserError(
            f"{folder} is no folder of a run, or of runs fold_0, fold_1 ..., that has ended: no {FILE} there"
        )
    return {run.fold: run for run in runs}


def _settings(a: Run, b: Run) -> dict[str, tuple]:
    """The settings that differ, by dotted name."""
    both = {key: (a.settings.get(key), b.settings.get(key)) for key in sorted(a.settings.keys() | b.settings.keys())}
    return {key: values for key, values in both.items() if values[0] != values[1]}


def _parts(settings: dict) -> int:
    """How many things settings are about: the model, the task ..."""
    names = (key.partition(".")[0] for key in settings)
    return len({"start" if name in ("init_from", "stage", "stages") else name for name in names})


def _check_images(a: Run, b: Run) -> None:
    """Raises UserError unless both runs gave answers to the same questions."""
    found_a, found_b = (read_predictions([run.place], run.answers) for run in (a, b))
    if a.answers.keys() != b.answers.keys():
        told = (f"{run.folder} answers with {', '.join(run.answers)}" for run in (a, b))
        raise UserError(f"nothing to compare: {', '.join(told)}")
    for name, form in a.answers.items():
        for key, value in form.items():
            if value != (other := b.answers[name].get(key)):
                values = f"{in_words(value)} in {a.folder} and {in_words(other)} in {b.folder}"
                raise UserError(f"nothing to compare: the {key} of {name}: {values}")
    if len(found_a) != len(found_b):
        raise UserError(f"not the same test images: {len(found_a)} in {a.place}, {len(found_b)} in {b.place}")
    facts_a, facts_b = _facts(found_a), _facts(found_b)
    for name in [name for name in facts_a if name in facts_b]:
        if (other := np.flatnonzero(facts_a[name] != facts_b[name])).size:
            at = other[0]
            values = f"{facts_a[name][at]} in {a.folder} and {facts_b[name][at]} in {b.folder}"
            raise UserError(f"not the same test images in the same order: {name} of image {at + 1} is {values}")


def _facts(predictions: Predictions) -> dict[str, np.ndarray]:
    """What is known of the images [N], with the truth of the answers; of one of several numbers their sum."""
    return predictions.facts | {
        f"the true {name}": np.nansum(truth.reshape(len(truth), -1), 1) for name, truth in predictions.truth.items()
    }


def _line(name: str, a: np.ndarray, b: np.ndarray, subjects: np.ndarray) -> str:
    """Both values, their difference, and whether it could as well be none."""
    known = ~np.isnan(a)  # whose label is
    a, b, shown = a[known], b[known], metric(name)
    difference = mean_over_subjects(b - a, subjects[known], draws=DRAWS)
    verdict = "contains" if difference.low <= 0 <= difference.high else "does not contain"
    points = " points" if shown.unit == " %" else shown.unit
    change, low, high = (shown.number(value, "+") for value in (difference.value, difference.low, difference.high))
    return (
        f"{shown.label}: A {shown.number(a.mean())}{shown.unit}, B {shown.number(b.mean())}{shown.unit};"
        f" B - A = {change}{points}, interval {low} to {high}, which {verdict} 0"
    )
