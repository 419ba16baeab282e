r"""Pre-RoR-101 with stochastic depth, k = 4 (Deep-RoR, Table V).

    python -m ror_jax.main --mode=cross_validate --folds=0 --config=configs/recipes/preror101_sd.py:age \
        --config.data_dir=FOLDER

Published on fold 0: age 60.46 % exact, 90.95 % 1-off; gender 88.37 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preror101_sd")
