"""SVHN, every row of the RoR paper (Table XI, Figure 14); RoR-3-WRN58-4 with stochastic depth by default.

    python -m ror_jax.main --config=configs/svhn.py:ror3_wrn58_4_sd --config.data_dir=FOLDER
    python -m ror_jax.main --config=configs/svhn.py:ror3_wrn58_4_sd,smoke --config.data_dir=FOLDER    # on a laptop
    python -m ror_jax.report --paper=ror --list                                                       # all rows

FOLDER holds train_32x32.mat, extra_32x32.mat and test_32x32.mat; without one the data are downloaded. Published error:
1.59 % after 50 epochs of batches of 128, tested every 200 steps.
"""

from configs import ror


def get_config(row: str = "ror3_wrn58_4_sd"):
    return ror.get_config("svhn", row)
