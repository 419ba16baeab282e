"""Weights for a network: which tensors of a file it takes, and cards that it does not take."""

import json
import os

import numpy as np
import pytest

from ror_jax.errors import UserError
from ror_jax.models.weights import load_card, load_weights, save_weights, take

BACKBONE = {"params.backbone.stem.kernel": np.ones((3, 3, 3, 4))}


CARD = {"model": "ror34", "overrides": {}, "heads": {}, "trunks": {}, "mean": [0.0] * 3, "std": [1.0] * 3}


def with_head(columns, count):
    head = {"params.heads.age_group.kernel": np.ones((4, columns)), "params.heads.age_group.bias": np.ones(count)}
    return BACKBONE | head


@pytest.mark.parametrize(("head", "names"), [((7, 7), 3), ((1, 7), 1), ((8, 8), 1)])
def test_a_prediction_layer_is_taken_whole_or_not(head, names):
    """Of a layer with one kernel column the bias would fit; alone it means nothing."""
    assert len(take(with_head(*head), with_head(7, 7))) == names


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_who_may_read_the_weights_says_the_umask(umask, tmp_path):
    before = os.umask(umask)
    try:
        save_weights(tmp_path, {"a": np.ones(3, np.float32)}, {}, CARD)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~umask}
    assert load_weights(tmp_path).tensors["params.a"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("number", [np.nan, -np.inf, -1e-6])
def test_numbers_that_are_no_weights_are_refused(number, tmp_path):
    """Neither a mean nor a kernel is wrong below 0."""
    save_weights(
        tmp_path, {"kernel": np.array([-1.0, 1])}, {"norm": {"mean": np.array([-1.0]), "var": np.ones(2)}}, CARD
    )
    assert len(load_weights(tmp_path).tensors) == 3
    save_weights(tmp_path, {}, {"norm": {"var": np.array([1, number], np.float32)}}, CARD)
    with pytest.raises(UserError, match=r"weights\.safetensors has numbers .* in batch_stats\.norm\.var$"):
        load_weights(tmp_path)


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
