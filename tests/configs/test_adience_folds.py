"""The folds of Adience: one recipe."""

import pytest

from configs import adience, adience_fold0
from ror_jax.config import given
from ror_jax.errors import UserError


def test_a_fold_is_an_argument():
    config = adience.get_config("gender,fold=3")
    assert (config.name, config.dataset.fold, config.task.name) == ("adience_fold3_gender", 3, "gender")
    assert config.row == "deep_ror:preror58_sd,gender" and config.dataset.protocol == "levi"
    assert adience.get_config().task.weights == "LW3"


@pytest.mark.parametrize("target", ["", "gender"])
def test_fold_0_has_a_file_of_its_own(target):
    assert given(adience_fold0.get_config(target)) == given(adience.get_config(target))
    with pytest.raises(UserError, match="one fold, not both 'fold=1' and 'fold=0'"):
        adience_fold0.get_config("fold=1")


def test_small_is_no_row_of_the_paper():
    config = adience.get_config("small")
    assert (config.name, config.row, config.model.name) == ("adience_small_fold0", None, "small_preror")
    assert (config.dataset.protocol, config.image_size, config.epochs) == ("all", 64, 40)
