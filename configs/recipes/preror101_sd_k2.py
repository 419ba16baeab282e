r"""Pre-RoR-101 with stochastic depth, k = 2 (Deep-RoR, Tables V, VI and X).

    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/preror101_sd_k2.py:age \
        --config.data_dir=FOLDER

Published: age 61.54 +- 4.97 % exact, 93.37 +- 1.72 % 1-off; gender 91.09 +- 1.44 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preror101_sd_k2")
