r"""Pre-RoR-50 with stochastic depth, k = 4 (Deep-RoR, Table IV).

    python -m ror_jax.main --mode=cross_validate --folds=0 --config=configs/recipes/preror50_sd.py:age \
        --config.data_dir=FOLDER

Published on fold 0: age 58.62 % exact, 90.10 % 1-off; gender 88.71 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preror50_sd")
