"""Weights for a network: which tensors of a file it takes."""

import numpy as np
import pytest

from ror_jax.models.weights import take

BACKBONE = {"params.backbone.stem.kernel": np.ones((3, 3, 3, 4))}


def with_head(columns, count):
    head = {"params.heads.age_group.kernel": np.ones((4, columns)), "params.heads.age_group.bias": np.ones(count)}
    return BACKBONE | head


@pytest.mark.parametrize(("head", "names"), [((7, 7), 3), ((1, 7), 1), ((8, 8), 1)])
def test_a_prediction_layer_is_taken_whole_or_not(head, names):
    """Of a layer with one kernel column the bias would fit; alone it means nothing."""
    assert len(take(with_head(*head), with_head(7, 7))) == names
