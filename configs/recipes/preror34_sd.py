r"""Pre-RoR-34 with stochastic depth (Deep-RoR, Tables III, VI and X, Figure 7).

    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/preror34_sd.py:age \
        --config.data_dir=FOLDER

Published: age 62.35 +- 4.69 % exact, 93.55 +- 1.90 % 1-off; gender 92.18 +- 1.51 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preror34_sd")
