r"""ResNet-34 from ImageNet and IMDB-WIKI-101 (Deep-RoR, Tables IX and X).

    python -m tools.convert_torchvision --weights resnet34.pth --model resnet34 --output weights/resnet34
    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/resnet34_imdb_wiki.py:age \
        --config.data_dir=FOLDER --config.stage.imdb_wiki.data_dir=FOLDER_OF_IMDB_WIKI

Published: age 66.63 +- 3.04 % exact, 97.20 +- 0.65 % 1-off; gender 93.17 +- 1.57 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("resnet34_imdb_wiki")
