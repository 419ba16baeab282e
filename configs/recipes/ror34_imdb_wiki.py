r"""RoR-34 from ImageNet and IMDB-WIKI-101 (Deep-RoR, Tables IX, X and XI).

    python -m tools.convert_torchvision --weights resnet34.pth --model ror34 --output weights/ror34
    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/ror34_imdb_wiki.py:two_mechanisms \
        --config.data_dir=FOLDER --config.stage.imdb_wiki.data_dir=FOLDER_OF_IMDB_WIKI

Published: age 66.74 +- 2.69 % exact, 97.38 +- 0.65 % 1-off; with the two mechanisms 66.91 +- 2.51 %, 97.49 +- 0.76 %;
gender 93.24 +- 1.77 %. What may stand after the colon: see `configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("ror34_imdb_wiki")
