"""Which questions can be asked, and the weights that follow from the answers, by hand."""

import numpy as np
import pytest

from input_pipeline.records import ArraySource
from ror_jax.runs.aging_curve import answerable, propose_weights


def groups(*numbers):
    return ArraySource({"age_group": np.array(numbers)})


def test_a_question_needs_both_answers_in_every_split():
    """Training has groups 2 to 5, one unknown; testing 3 to 5: "older than the second (1)?" is always yes there."""
    assert answerable(6, [groups(2, 3, -1, 4, 5), groups(3, 4, 5)]) == ([4, 5], [1, 2, 3])


def test_weights_follow_the_errors_at_a_groups_borders():
    """Errors at the borders 0.1, 0.3, 0.1; of the groups 0.1, 0.2, 0.2, 0.1: the middle ones weigh 1.5."""
    assert propose_weights({1: 0.9, 2: 0.7, 3: 0.9}, 4) == pytest.approx((1, 1.5, 1.5, 1))


def test_a_group_with_one_known_border():
    """Errors 0.4 at the third border, 0.2 at the fourth: groups 3, 4, 5 have 0.4, 0.3, 0.2; the first two none."""
    assert propose_weights({3: 0.6, 4: 0.8}, 5) == pytest.approx((1, 1, 1.5, 1.25, 1))


def test_a_flat_curve_proposes_equal_weights():
    assert propose_weights({1: 0.8, 2: 0.8}, 3) == pytest.approx((1, 1, 1))
