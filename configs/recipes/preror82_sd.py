r"""Pre-RoR-82 with stochastic depth (Deep-RoR, Tables III, VI and X).

    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/preror82_sd.py:age \
        --config.data_dir=FOLDER

Published: age 62.14 +- 4.10 % exact, 93.68 +- 1.22 % 1-off; gender 92.37 +- 1.52 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preror82_sd")
