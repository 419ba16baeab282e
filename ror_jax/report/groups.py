"""Results by group of people: by age group, by gender, and by what else the data set knows, such as race."""

from collections.abc import Mapping

import numpy as np

from input_pipeline.datasets.faces import GENDERS
from ror_jax.report.analysis import mean_text
from ror_jax.report.page import Table
from ror_jax.report.predictions import Predictions
from ror_jax.report.runs import Run
from ror_jax.tasks.answers import Class
from ror_jax.tasks.metrics import metric

ENOUGH = 50  # images; smaller groups are not called the worst or the best

Groups = Mapping[str, Mapping[str, np.ndarray]]


def people(predictions: Predictions, run: Run) -> Groups:
    """Returns which images show whom: "age group", "gender" and `run.groups` -> group -> bool [N].

    The age groups are those of the records; where the data set names none, those of the answer `age_group`.
    """
    names, numbers = run.age_groups, predictions.number("age_group")
    answer, truth = predictions.judged().get("age_group", (None, None))
    if not names and isinstance(answer, Class):
        names, numbers = answer.names, truth
    ages = {name: numbers == number for number, name in enumerate(names)}
    genders = {name: predictions.number("gender") == number for number, name in enumerate(GENDERS)}
    texts = {column.replace("_", " "): predictions.groups(column) for column in run.groups}
    return {"age group": ages, "gender": genders} | texts


def by_people(subjects: np.ndarray, groups: Groups, scores: Mapping[str, np.ndarray]) -> Table:
    """Returns a table of all scores [N] of an answer, a row for each group that has images."""
    rows = []
    for by, members in groups.items():
        for group, chosen in members.items():
            known = {name: chosen & ~np.isnan(values) for name, values in scores.items()}
            found = [mean_text(subjects, scores[name], known[name], metric(name).factor) for name in scores]
            if next(iter(known.values())).any():
                rows.append([f"{by} {group}", *(mean for mean, _ in found), found[0][1]])
    return Table(["", *map(unit_label, scores), "images / subjects"], rows)


def women_and_men(subjects: np.ndarray, groups: Groups, name: str, values: np.ndarray) -> tuple[int, Table]:
    """Returns how many images have a score and show whose age group and gender are known; and a table of its means."""
    ages, genders = groups["age group"], groups["gender"]
    known = np.any([np.zeros(len(values), bool), *ages.values()], axis=0) & ~np.isnan(values)
    rows = []
    for group, chosen in (ages | {"all": known}).items():
        sides = [known & chosen & side for side in genders.values()]
        if np.any(sides):
            found = (mean_text(subjects, values, side, metric(name).factor) for side in sides)
            rows.append([group, *(cell for cells in found for cell in cells)])
    columns = [cell for gender in genders for cell in (gender, "images / subjects")]
    return int(np.sum(sides)), Table(["age group", *columns], rows)


def extremes(
    subjects: np.ndarray, groups: Groups, name: str, values: np.ndarray
) -> dict[str, tuple[tuple[str, str], tuple[str, str]]]:
    """Returns, by what people are grouped by, the groups with the worst and the best mean of a score, and these means.

    Groups of fewer than `ENOUGH` images are left out, and so is a grouping of which fewer than two are left.
    """
    found = {}
    for by, members in groups.items():
        known = {group: chosen & ~np.isnan(values) for group, chosen in members.items()}
        means = {group: values[chosen].mean() for group, chosen in known.items() if chosen.sum() >= ENOUGH}
        if len(means) > 1:
            ordered = sorted(means, key=lambda group: metric(name).sign * means[group])
            found[by] = tuple(
                (_name(group), mean_text(subjects, values, known[group], metric(name).factor)[0])
                for group in (ordered[0], ordered[-1])
            )
    return found


def unit_label(name: str) -> str:
    """The label of a metric with its unit."""
    return f"{metric(name).label}{' (%)' * (metric(name).unit == ' %')}"


def _name(group: str) -> str:
    """A group in a sentence: "70-" is "70+"."""
    return f"{group[:-1]}+" if group.endswith("-") else group
