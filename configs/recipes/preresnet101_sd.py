r"""Pre-ResNet-101 with stochastic depth, k = 4 (Deep-RoR, Table V).

    python -m ror_jax.main --mode=cross_validate --folds=0 --config=configs/recipes/preresnet101_sd.py:age \
        --config.data_dir=FOLDER

Published on fold 0: age 59.16 % exact, 89.61 % 1-off; gender 89.12 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preresnet101_sd")
