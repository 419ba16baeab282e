"""Adience, tested on fold 0, trained on folds 1, 2, 3 and 4: `configs/adience.py:fold=0`.

python -m ror_jax.main --config=configs/adience_fold0.py --config.data_dir=FOLDER
python -m ror_jax.main --config=configs/adience_fold0.py:gender --config.data_dir=FOLDER
"""

from configs import adience
from configs.adience import ROWS  # noqa: F401


def get_config(argument: str = ""):
    return adience.get_config(f"{argument},fold=0")
