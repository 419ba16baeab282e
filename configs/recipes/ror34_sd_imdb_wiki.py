r"""RoR-34 from ImageNet and IMDB-WIKI-101, with stochastic depth on Adience (Deep-RoR, Table IX).

    python -m tools.convert_torchvision --weights resnet34.pth --model ror34 --output weights/ror34
    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/ror34_sd_imdb_wiki.py:age \
        --config.data_dir=FOLDER --config.stage.imdb_wiki.data_dir=FOLDER_OF_IMDB_WIKI

Published: age 66.42 +- 2.64 % exact, 97.35 +- 0.65 % 1-off; gender 92.90 +- 1.76 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("ror34_sd_imdb_wiki")
