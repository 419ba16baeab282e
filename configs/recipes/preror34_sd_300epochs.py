r"""Pre-RoR-34 with stochastic depth, 300 epochs instead of 164 (Deep-RoR, Table III).

    python -m ror_jax.main --mode=cross_validate --folds=0 --config=configs/recipes/preror34_sd_300epochs.py:age \
        --config.data_dir=FOLDER

Published on fold 0: age 61.52 % exact, 91.56 % 1-off; gender 90.84 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preror34_sd_300epochs")
