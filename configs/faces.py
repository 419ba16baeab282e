"""The network in the package, and a larger one: age with an interval for each face, and gender, from FairFace.

    python -m ror_jax.main --config=configs/faces.py:small --config.data_dir=FAIRFACE
    python -m ror_jax.main --config=configs/faces.py:base --config.data_dir=FAIRFACE

FAIRFACE is the folder of github.com/joojs/fairface: train/, val/ and the two label files (CC BY 4.0). `small`, the
network in the package, trains on two CPU cores in one to two hours; `base` is for a GPU. A tenth of the training images
is held out to choose the epoch and to set the intervals. FairFace's own validation images are the test.
"""

from ror_jax.config import default_config
from ror_jax.config_argument import parse_argument

ROWS = ("small", "base")


def get_config(argument: str = ""):
    words = parse_argument(argument, size=ROWS)
    size = words.size or "small"
    config = default_config()
    config.name = f"faces_{size}"
    config.dataset.update({"name": "fairface", "align": 0.0, "validation": 0.1})
    config.task.name = "age_span+gender"
    config.model.name = "ror18"
    config.augmentation, config.min_area = "scale", 0.6
    config.jitter.update(
        {
            "shift_scale_rotate": 0.5,
            "scale": 0.2,
            "brightness_contrast": 0.5,
            "hue_saturation": 0.3,
            "noise": 0.1,
            "blur": 0.2,
        }
    )
    config.sampling.update({"label": "age", "bin_width": 10.0, "power": 0.5})
    config.optimizer.update(
        {
            "name": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 0.05,
            "decay_vectors": False,
            "schedule": "cosine",
            "warmup_epochs": 0.5,
        }
    )
    config.batch_size = 64
    config.views = "flip"
    if size == "small":
        config.dataset.resolution = 112
        config.image_size, config.resize = 96, 104
        config.model.widths = (32, 64, 128, 256)
        config.epochs = 12
    else:
        config.dataset.resolution = 128
        config.image_size, config.resize = 112, 120
        config.model.name, config.model.dtype = "ror34", "bfloat16"
        config.model.survival = 0.8
        config.epochs = 40
    return config
