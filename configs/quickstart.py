"""Age groups from drawn faces, in about two minutes on two CPU cores. Nothing is downloaded.

    python -m ror_jax.main --config=configs/quickstart.py
"""

from ror_jax.config import default_config


def get_config():
    config = default_config()
    config.name = "quickstart"
    config.dataset.name = "rendered_faces"
    config.dataset.resolution = 64
    config.dataset.fold = 0
    config.image_size = 48
    config.model.name = "preror3_20"
    config.task.name = "age_group"
    config.epochs = 6
    config.optimizer.decay_epochs = (4, 5)
    return config
