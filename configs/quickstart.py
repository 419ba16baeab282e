"""Age groups from drawn faces, in about two minutes on two CPU cores. Nothing is downloaded.

    python -m ror_jax.main --config=configs/quickstart.py
    python -m ror_jax.main --config=configs/quickstart.py:two_mechanisms    # gender first: see `configs/deep_ror.py`

A Pre-RoR-3 of 14 layers with stochastic depth and the loss weights LW3, all at a size for a laptop.
"""

from configs.deep_ror import SMALL, VARIANTS, set_variant
from ror_jax.config import default_config
from ror_jax.config_argument import parse_argument

ROWS = tuple(VARIANTS)


def get_config(argument: str = ""):
    variant = parse_argument(argument, variant=VARIANTS).variant or "LW3"
    config = default_config()
    set_variant(config, "quickstart", variant)
    if variant == "LW3":
        config.name = "quickstart"
    config.dataset.update({"name": "rendered_faces", "fold": 0})
    config.update(SMALL | {"batch_size": 64, "epochs": 12, "optimizer": {"decay_epochs": (8, 11)}})
    config.closing_words = """
These faces are drawn; the result says nothing about people. To train on photographs, get Adience
(talhassner.github.io/home/projects/Adience/Adience-data.html) or lay your own faces out like it, and run

    source .venv/bin/activate
    python -m ror_jax.main --config=configs/adience.py:small --config.data_dir=FOLDER    # on a laptop
    python -m ror_jax.main --config=configs/adience_fold0.py --config.data_dir=FOLDER    # the paper's, on a GPU
"""
    return config
