"""Adience's layout at a size for two CPU cores: fold 0, a Pre-RoR of 14 layers, 64 pixels, 40 epochs.

python -m ror_jax.main --config=configs/adience_small.py --config.data_dir=FOLDER
python -m ror_jax.main --config=configs/adience_small.py:gender --config.data_dir=FOLDER
"""

from configs import adience


def get_config(target: str = "age_group"):
    config = adience.get_config(0, target)
    config.name, config.row = config.name.replace("fold0", "small"), None
    config.dataset.protocol = "all"  # a small collection needs all its rows
    config.dataset.resolution = 72
    config.image_size, config.resize = 64, 72
    config.min_area = 0.5
    config.model.name = "small_preror"
    config.model.survival = 0.8
    config.batch_size = 32
    config.epochs = 40
    config.optimizer.decay_epochs = (25, 35)
    return config
