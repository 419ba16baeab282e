"""IMDB-WIKI-101 after ImageNet, the second of Deep-RoR's three stages: ages 0 to 100 as classes, 120 epochs.

    python -m ror_jax.convert --weights resnet34.pth --model ror34 --output weights/ror34
    python -m ror_jax.main --config=configs/imdb_wiki.py:ror34 --config.data_dir=FOLDER

This is the stage that `configs/deep_ror.py` trains by itself before Adience, in the same folder; after the colon:
`ror34` (the default), `resnet34` or `ror152`. FOLDER holds imdb_crop and wiki_crop, unpacked from the archives of
data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki, or one of them. Epochs, learning rate and the 90/10 split are those of
sections III.E and IV.E, which name no batch size: 64 is that of the paper's training on Adience. The paper cleaned the
images by hand; here `dataset.min_face_score` and its neighbours do. For this stage alone it publishes no result.
"""

from pathlib import Path

from configs import deep_ror
from ror_jax.config_argument import parse_argument
from ror_jax.runs.recipe import stages

ROWS = ("ror34", "resnet34", "ror152")


def get_config(argument: str = ""):
    words = parse_argument(argument, network=ROWS)
    before, *_ = stages(deep_ror.get_config(f"{words.network or 'ror34'}_imdb_wiki,age"), Path())
    return before.config
