r"""Pre-RoR-34 with stochastic depth, dropout, and shortcuts of type B in all levels (Deep-RoR, Table III).

    python -m ror_jax.main --mode=cross_validate --folds=0 --config=configs/recipes/preror34_sd_dropout_b.py:age \
        --config.data_dir=FOLDER

Published on fold 0: age 59.87 % exact, 88.68 % 1-off; gender 90.32 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preror34_sd_dropout_b")
