"""Age and gender from FairFace's spans of years, with an interval for each age, at a size for two CPU cores.

    python -m ror_jax.main --config=configs/fairface.py --config.data_dir=FAIRFACE
    python -m ror_jax.main --config=configs/fairface.py:mixture --config.dataset.mixture.fairface.data_dir=FAIRFACE \\
        --config.dataset.mixture.own.data_dir=FACES.csv

FAIRFACE is the folder of github.com/joojs/fairface: train/, val/ and the two label files. `mixture` takes a fifth of
the training images from FACES.csv, see `input_pipeline.datasets.faces_csv`, whose ages may be exact; results are told
of each of the two. A tenth of the training images, or people, is held out to choose an epoch and to set intervals by;
where FACES.csv has rows for validation, say --config.dataset.mixture.own.validation=0.
"""

from ml_collections.config_dict import placeholder

from ror_jax.config import default_config
from ror_jax.config_argument import parse_argument

ROWS = ("", "mixture")


def get_config(argument: str = ""):
    words = parse_argument(argument, mixture=bool)
    config = default_config()
    config.name = "fairface_mixture" if words.mixture else "fairface"
    if words.mixture:
        config.dataset.name = "mixture"
        config.dataset.mixture = {
            "fairface": {"share": 0.8, "data_dir": placeholder(str), "resolution": 72, "validation": 0.1},
            "own": {
                "name": "faces_csv",
                "share": 0.2,
                "data_dir": placeholder(str),
                "resolution": 72,
                "validation": 0.1,
            },
        }
    else:
        config.dataset.update({"name": "fairface", "resolution": 72, "validation": 0.1})
    config.image_size, config.resize = 64, 72
    config.min_area = 0.5
    config.model.name = "small_preror"
    config.task.name = "age_span+gender"
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate, config.optimizer.weight_decay = 1e-3, 0.02
    config.optimizer.schedule, config.optimizer.warmup_epochs = "cosine", 0.5
    config.batch_size = 64
    config.epochs = 10
    config.views = "flip"
    return config
