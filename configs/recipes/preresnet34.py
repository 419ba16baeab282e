r"""Pre-ResNet-34 (Deep-RoR, Tables III, VI, X and XI, Figure 7).

    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/preresnet34.py:two_mechanisms \
        --config.data_dir=FOLDER

Published: age 60.15 +- 3.99 % exact, 90.90 +- 1.67 % 1-off; with the two mechanisms 61.89 +- 4.16 %, 93.50 +- 1.33 %;
gender 92.04 +- 1.51 %. What may stand after the colon: see `configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preresnet34")
