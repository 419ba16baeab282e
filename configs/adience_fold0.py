"""Adience, tested on fold 0, trained on folds 1, 2, 3 and 4: Pre-RoR-58 with stochastic depth, 164 epochs.

    python -m ror_jax.main --config=configs/adience_fold0.py --config.data_dir=FOLDER
    python -m ror_jax.main --config=configs/adience_fold0.py:gender --config.data_dir=FOLDER

Published (Deep-RoR, mean and deviation over the five folds): age 62.50 +- 4.33 % exact, 93.63 +- 1.90 % 1-off, and
64.17 +- 3.81 %, 95.77 +- 1.24 % with the two mechanisms (Tables VI and XI), of which this file has the loss weights LW3
and not the pretraining by gender; gender 92.29 +- 1.49 % (Table X).
"""

from configs import adience


def get_config(target: str = "age_group"):
    return adience.get_config(0, target)
