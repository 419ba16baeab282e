r"""Pre-RoR-50 with stochastic depth, k = 2 (Deep-RoR, Tables IV, VI and X).

    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/preror50_sd_k2.py:age \
        --config.data_dir=FOLDER

Published: age 61.31 +- 4.29 % exact, 93.45 +- 1.34 % 1-off; gender 90.45 +- 1.39 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preror50_sd_k2")
