"""How hard it is to tell an age group from the older ones: Deep-RoR, section III.C, equation 2 and Figure 4."""

from collections.abc import Iterable, Mapping

import numpy as np

from input_pipeline.records import Source, label_columns

HEAVIEST = 1.5  # as in LW3


def answerable(num_groups: int, sources: Iterable[Source]) -> tuple[list[int], list[int]]:
    """The questions "older than group k?", k = 1 ... K - 1, to which all sources have both answers; and the others."""
    found = []
    for source in sources:
        groups = label_columns(source, ["age_group"])["age_group"]
        found.append(groups[groups >= 0])
    questions = range(1, num_groups)
    kept = [k for k in questions if all((groups >= k).any() and (groups < k).any() for groups in found)]
    return kept, [k for k in questions if k not in kept]


def propose_weights(accuracies: Mapping[int, float], num_groups: int) -> tuple[float, ...]:
    """Class weights from the aging curve: the harder a group's neighbours are to tell from it, the heavier it weighs.

    The paper reads LW3 off its curve by eye. Here the error of group g (from 1) is the mean of those of the questions
    at its two borders, e_g = mean(1 - a_(g-1), 1 - a_g), of one at the ends of the curve; and
    w_g = 1 + 0.5 (e_g - min e) / (max e - min e), so that the easiest group weighs 1 and the hardest 1.5, as in LW3.

    Args:
      accuracies: of the questions "older than group k?", 0 to 1, by k from 1. Better than shares of right answers,
        which the sizes of the groups move too, is the mean of the recalls of yes and no.
      num_groups: K. A group of which no border was asked weighs 1.
    """
    errors = {}
    for group in range(1, num_groups + 1):
        borders = [1 - accuracies[k] for k in (group - 1, group) if k in accuracies]
        if borders:
            errors[group] = np.mean(borders)
    low, high = min(errors.values()), max(errors.values())
    share = {group: (error - low) / (high - low) if high > low else 0.0 for group, error in errors.items()}
    return tuple(float(1 + (HEAVIEST - 1) * share.get(group, 0.0)) for group in range(1, num_groups + 1))
