"""Your own faces, from the network in the package: age with an interval for each face, and gender, on two CPU cores.

    python -m ror_jax.main --config=configs/finetune.py --config.data_dir=FACES.csv            # all layers
    python -m ror_jax.main --config=configs/finetune.py:frozen --config.data_dir=FACES.csv     # the prediction layers
    python -m ror_jax.main --config=configs/finetune.py:scratch --config.data_dir=FACES.csv    # to compare

`input_pipeline/README.md` describes FACES.csv. In each image the main face is found and cut out as in the training of
`faces_small`. `scratch` trains the same network from random weights. If the file has only ages or only genders, say
--config.task.name=age_span or --config.task.name=gender.
"""

from configs import faces
from ror_jax.config_argument import parse_argument
from ror_jax.models.zoo import DEFAULT

ROWS = ("", "frozen", "scratch")


def get_config(argument: str = ""):
    how = parse_argument(argument, how=("frozen", "scratch")).how
    config = faces.get_config("small")
    config.name = f"finetune_{how}" if how else "finetune"
    config.dataset.name = "faces_csv"
    config.sampling.label = None
    config.batch_size = 32
    config.epochs, config.optimizer.warmup_epochs = 20, 0.0
    config.optimizer.learning_rate = {None: 3e-4, "frozen": 3e-3, "scratch": 1e-3}[how]
    if how != "scratch":
        config.init_from = DEFAULT
    if how == "frozen":
        config.optimizer.frozen = ("backbone",)
    return config
