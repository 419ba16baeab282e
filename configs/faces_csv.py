"""Your own faces, listed in a CSV file, at a size for one machine: a Pre-RoR of 14 layers, 64 pixels, 40 epochs.

    python -m ror_jax.main --config=configs/faces_csv.py --config.data_dir=FILE.csv
    python -m ror_jax.main --config=configs/faces_csv.py:gender --config.data_dir=FILE.csv
    python -m ror_jax.main --config=configs/faces_csv.py:age --config.data_dir=FILE.csv

The first line of the file names its columns, in any order; others are ignored. An empty age, gender or
identity is unknown.

    path       of an image with one upright face that fills it, from the folder of the CSV file, inside it; or full_path
    age        years, 0 to 100, may be fractional
    gender     f, female, 0, m, male, 1 or u (unknown)
    identity   optional: the same text for all images of a person
    split      optional: train, validation or test
    fold       optional: 0, 1, ...; --config.dataset.fold=0 tests on fold 0 and trains on the others
    id         optional: any text, to find the image again in predictions.csv

Without folds and splits a tenth is drawn to test on, of the people where `identity` is known.
--config.dataset.validation=0.1 holds out a tenth of the rest for validation.
"""

from configs.deep_ror import SMALL
from ror_jax.config import default_config
from ror_jax.config_argument import parse_argument

ROWS = ("age_group", "gender", "age")


def get_config(argument: str = ""):
    target = parse_argument(argument, target=ROWS).target or "age_group"
    config = default_config()
    config.name = f"faces_csv_{target}"
    config.dataset.name = "faces_csv"
    config.update(SMALL)
    config.task.name = "age_years" if target == "age" else target
    return config
