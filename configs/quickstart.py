"""Age groups from drawn faces, in about two minutes on two CPU cores. Nothing is downloaded.

    python -m ror_jax.main --config=configs/quickstart.py
    python -m ror_jax.main --config=configs/quickstart.py:two_mechanisms    # gender first: see `configs.deep_ror`

A Pre-RoR-3 of 14 layers with stochastic depth and the loss weights LW3, all at a size for a laptop.
"""

from configs.deep_ror import set_variant
from ror_jax.config import default_config


def get_config(variant: str = "LW3"):
    config = default_config()
    set_variant(config, "quickstart", variant)
    if variant == "LW3":
        config.name = "quickstart"
    config.dataset.name = "rendered_faces"
    config.dataset.resolution = 72
    config.dataset.fold = 0
    config.image_size, config.resize = 64, 72
    config.min_area = 0.5
    config.model.name = "small_preror"
    config.model.survival = 0.8
    config.epochs = 12
    config.optimizer.decay_epochs = (8, 11)
    config.closing_words = """
These faces are drawn; the result says nothing about people. To train on photographs, get Adience
(talhassner.github.io/home/projects/Adience/Adience-data.html) or lay your own faces out like it, and run

    source .venv/bin/activate
    python -m ror_jax.main --config=configs/adience_small.py --config.data_dir=FOLDER    # on a laptop
    python -m ror_jax.main --config=configs/adience_fold0.py --config.data_dir=FOLDER    # the paper's, on a GPU
"""
    return config
