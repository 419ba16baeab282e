r"""Pre-RoR-50 with stochastic depth, k = 1 (Deep-RoR, Tables IV, VI and X).

    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/preror50_sd_k1.py:age \
        --config.data_dir=FOLDER

Published: age 61.00 +- 4.15 % exact, 93.19 +- 1.67 % 1-off; gender 90.66 +- 1.41 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preror50_sd_k1")
