r"""4c2f-CNN, the baseline of Levi and Hassner (Deep-RoR, Tables VI, X and XI, Figures 4 and 6).

    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/cnn_4c2f.py:two_mechanisms \
        --config.data_dir=FOLDER

Published: age 52.62 +- 4.37 % exact, 88.61 +- 2.27 % 1-off; with the two mechanisms 53.96 +- 3.80 %, 90.04 +- 1.54 %;
gender 87.50 +- 1.56 %. What may stand after the colon: see `configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("cnn_4c2f")
