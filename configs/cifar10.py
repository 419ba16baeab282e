"""CIFAR-10, every row of the RoR paper (Tables I to XII, Figures 5 to 12); RoR-3-110 with stochastic depth by default.

    python -m ror_jax.main --config=configs/cifar10.py:ror3_110_sd --config.data_dir=FOLDER
    python -m ror_jax.main --config=configs/cifar10.py:ror3_110_sd,smoke --config.data_dir=FOLDER    # on a laptop
    python -m ror_jax.report --paper=ror --list                                                      # all rows

FOLDER holds the binary version, `cifar-10-batches-bin`; without one the data are downloaded. Published for RoR-3-110
without stochastic depth: an error of 5.08 % after 500 epochs of batches of 128 (section V.B).
"""

from configs import ror


def get_config(row: str = "ror3_110_sd"):
    return ror.get_config("cifar10", row)
