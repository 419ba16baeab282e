"""Adience: Deep-RoR's Pre-RoR-58 with stochastic depth, from scratch, 164 epochs, tested on one of the five folds.

    python -m ror_jax.main --config=configs/adience.py:fold=3 --config.data_dir=FOLDER           # age groups
    python -m ror_jax.main --config=configs/adience.py:gender,fold=3 --config.data_dir=FOLDER
    python -m ror_jax.main --config=configs/adience.py:small --config.data_dir=FOLDER            # on two CPU cores

Without `fold` it is fold 0. Age groups have the loss weights LW3, one of the paper's two mechanisms. `small` is a size
for a laptop: a Pre-RoR of 14 layers, 64 pixels, 40 epochs, and all rows of the lists. Other networks, and both
mechanisms: `configs/deep_ror.py`.
"""

from configs import deep_ror
from ror_jax.config_argument import parse_argument

ROWS = ("age_group", "gender")


def get_config(argument: str = ""):
    words = parse_argument(argument, target=ROWS, small=bool, fold=range(5))
    fold = words.fold or 0
    config = deep_ror.get_config(f"preror58_sd,{'gender' if words.target == 'gender' else 'LW3'},fold={fold}")
    config.name = f"adience_fold{fold}"
    if words.small:
        config.name, config.row = f"adience_small_fold{fold}", None
        config.dataset.protocol = "all"  # a small collection needs all its rows
        config.update(deep_ror.SMALL)
    if words.target == "gender":
        config.name += "_gender"
    return config
