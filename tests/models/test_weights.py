"""Weights for a network: which tensors of a file it takes, and cards that it does not take."""

import json

import numpy as np
import pytest

from ror_jax.errors import UserError
from ror_jax.models.weights import load_card, take

BACKBONE = {"params.backbone.stem.kernel": np.ones((3, 3, 3, 4))}


def with_head(columns, count):
    head = {"params.heads.age_group.kernel": np.ones((4, columns)), "params.heads.age_group.bias": np.ones(count)}
    return BACKBONE | head


@pytest.mark.parametrize(("head", "names"), [((7, 7), 3), ((1, 7), 1), ((8, 8), 1)])
def test_a_prediction_layer_is_taken_whole_or_not(head, names):
    """Of a layer with one kernel column the bias would fit; alone it means nothing."""
    assert len(take(with_head(*head), with_head(7, 7))) == names


HIDDEN = {
    "params.trunks.features.hidden.0.linear.kernel": np.ones((4, 6)),
    "params.trunks.features.hidden.0.norm.scale": np.ones(6),
    "batch_stats.trunks.features.hidden.0.norm.mean": np.ones(6),
}


def test_hidden_layers_are_fresh_where_the_file_has_none_or_others():
    """Batch norm with its statistics or not at all; of hidden layers that fit, everything is taken."""
    assert take(BACKBONE, BACKBONE | HIDDEN).keys() == BACKBONE.keys()
    assert take(BACKBONE | HIDDEN, BACKBONE).keys() == BACKBONE.keys()
    assert take(BACKBONE | HIDDEN, BACKBONE | HIDDEN).keys() == (BACKBONE | HIDDEN).keys()
    wider = HIDDEN | {
        "params.trunks.features.hidden.0.norm.scale": np.ones(7),
        "batch_stats.trunks.features.hidden.0.norm.mean": np.ones(6),
    }
    kept = take(BACKBONE | wider, BACKBONE | HIDDEN).keys()
    assert kept == {"params.backbone.stem.kernel", "params.trunks.features.hidden.0.linear.kernel"}


@pytest.mark.parametrize("heads", [{"age_group": 8}, {"age": [1, 7], "shared": [0, 2]}, {}])
def test_cards_without_trunks_are_of_an_older_program(heads, tmp_path):
    """The message says in one line what to do."""
    card = {"model": "ror34", "overrides": {}, "heads": heads, "mean": [0.0] * 3, "std": [1.0] * 3}
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"before 0\.2 .*convert, train or export") as error:
        load_card(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "model.json").write_text(json.dumps(card | {"trunks": {}}))
    assert load_card(tmp_path)["heads"] == heads
