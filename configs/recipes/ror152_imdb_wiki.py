r"""RoR-152 from ImageNet and IMDB-WIKI-101 (Deep-RoR, Table XI).

    python -m tools.convert_torchvision --weights resnet152.pth --model ror152 --output weights/ror152
    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/ror152_imdb_wiki.py:two_mechanisms \
        --config.data_dir=FOLDER --config.stage.imdb_wiki.data_dir=FOLDER_OF_IMDB_WIKI

Published: with the two mechanisms: age 67.34 +- 3.56 % exact, 97.51 +- 0.67 % 1-off. What may stand after the colon:
see `configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("ror152_imdb_wiki", usual="two_mechanisms")
