"""The words after the name of a config file."""

import pytest

from ror_jax.config_argument import parse_argument
from ror_jax.errors import UserError

KINDS = {"network": ("ror34", "vgg16"), "smoke": bool, "fold": range(5)}


@pytest.mark.parametrize(
    ("argument", "network", "smoke", "fold"),
    [
        ("", None, None, None),
        ("vgg16", "vgg16", None, None),
        ("ror34,smoke,fold=3", "ror34", True, 3),
        ("fold=0,ror34,", "ror34", None, 0),
    ],
)
def test_each_word_chooses_of_its_kind_in_any_order(argument, network, smoke, fold):
    chosen = parse_argument(argument, **KINDS)
    assert (chosen.network, chosen.smoke, chosen.fold) == (network, smoke, fold)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("rar34", "'rar34'; did you mean 'ror34'"),
        ("ror34,smok", "'smok'; did you mean 'smoke'"),
        ("fild=3", "'fild=3'; did you mean 'fold=3'"),
        ("fold=7", "'fold=7'; did you mean 'fold=4'"),
        ("smoke=1", "'smoke=1'; did you mean 'smoke'"),
        ("fold", "'fold'; did you mean 'fold=4'"),
        ("ror34,smoke,vgg16", "one network, not both 'ror34' and 'vgg16'"),
        ("fold=1,fold=2", "one fold, not both 'fold=1' and 'fold=2'"),
        ("smoke,smoke", "one smoke, not both"),
    ],
)
def test_what_makes_no_sense_is_refused(argument, message):
    with pytest.raises(UserError, match=message):
        parse_argument(argument, **KINDS)
