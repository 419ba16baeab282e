"""What a network answers to a face, as a person reads it."""

from typing import Any

import numpy as np

from input_pipeline.datasets.faces import AGE_GROUPS, AGE_RANGES, nearest_age_group
from ror_jax.tasks.age_gender import OLDEST


def readings(answers: dict, task, interval: dict | None) -> list[dict[str, Any]]:
    """A dict for each of B faces, from what `task.predict` answered, arrays [B, ...].

    Args:
      interval: `below` and `above`, how far the truth may lie from an age, in years, or from an age group, in groups;
        None where that is not known.

    Returns:
      Of what the model knows: `age` in years, `age_interval` [low, high]; the name of the `age_group`, its
      `age_group_probability` and, by name, `age_group_probabilities`; likewise `gender` and any other label.
    """
    found: dict[str, Any] = {}
    for target, answer in answers.items():
        if target != "age":
            found |= _classes(target, answer["class"], answer["probabilities"], task.names)
    if "age" in answers:
        found |= _ages(answers["age"], interval)
    elif answers.keys() == {"age_group"} and tuple(task.names) == AGE_GROUPS and interval:
        groups = answers["age_group"]["class"]
        first = np.clip(groups - interval["below"], 0, len(AGE_GROUPS) - 1).astype(int)
        last = np.clip(groups + interval["above"], 0, len(AGE_GROUPS) - 1).astype(int)
        low, high = np.transpose(AGE_RANGES).astype(float)
        found["age_interval"] = np.stack([low[first], high[last]], 1).tolist()
    return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]


def _ages(answer: dict, interval: dict | None) -> dict[str, list]:
    if "years" in answer:
        years, groups = answer["years"], {"age_group": [AGE_GROUPS[k] for k in nearest_age_group(answer["years"])]}
    else:  # a probability for each year: their mean, and the sums over the groups
        years, probabilities = answer["expectation"], answer["probabilities"]
        of_year = nearest_age_group(np.arange(probabilities.shape[1]))
        sums = np.stack([probabilities[:, of_year == k].sum(1) for k in range(len(AGE_GROUPS))], 1)
        groups = _classes("age_group", sums.argmax(1), sums, AGE_GROUPS)
    found = {"age": [round(float(age), 1) for age in years]}
    if interval:
        ends = np.stack([years - interval["below"], years + interval["above"]], 1).clip(0, OLDEST)
        found["age_interval"] = [[round(float(end), 1) for end in pair] for pair in ends]
    return found | groups


def _classes(target: str, classes: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...]) -> dict[str, list]:
    rows = [[round(float(value), 4) for value in row] for row in probabilities]
    return {
        target: [names[number] for number in classes],
        f"{target}_probability": [row[number] for row, number in zip(rows, classes, strict=True)],
        f"{target}_probabilities": [dict(zip(names, row, strict=True)) for row in rows],
    }
