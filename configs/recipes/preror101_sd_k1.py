r"""Pre-RoR-101 with stochastic depth, k = 1 (Deep-RoR, Tables V, VI and X).

    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/preror101_sd_k1.py:age \
        --config.data_dir=FOLDER

Published: age 61.25 +- 4.54 % exact, 93.52 +- 1.59 % 1-off; gender 91.31 +- 1.54 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preror101_sd_k1")
