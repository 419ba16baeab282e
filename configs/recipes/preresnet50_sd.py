r"""Pre-ResNet-50 with stochastic depth, k = 4 (Deep-RoR, Table IV).

    python -m ror_jax.main --mode=cross_validate --folds=0 --config=configs/recipes/preresnet50_sd.py:age \
        --config.data_dir=FOLDER

Published on fold 0: age 60.05 % exact, 88.98 % 1-off; gender 89.82 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preresnet50_sd")
