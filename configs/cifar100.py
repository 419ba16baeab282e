"""CIFAR-100, every row of the RoR paper (Tables I to XII, Figures 7 to 13); RoR-3-110 with stochastic depth by default.

    python -m ror_jax.main --config=configs/cifar100.py:ror3_110_sd --config.data_dir=FOLDER
    python -m ror_jax.main --config=configs/cifar100.py:ror3_110_sd,smoke --config.data_dir=FOLDER    # on a laptop
    python -m ror_jax.report --paper=ror --list                                                       # all rows

FOLDER holds the binary version, `cifar-100-binary`; without one the data are downloaded. Published error: 23.48 % after
500 epochs of batches of 128 (Table III).
"""

from configs import ror


def get_config(row: str = "ror3_110_sd"):
    return ror.get_config("cifar100", row)
