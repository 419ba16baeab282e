r"""Pre-RoR-58 without stochastic depth (Deep-RoR, Figure 8).

    python -m ror_jax.main --mode=cross_validate --folds=0 --config=configs/recipes/preror58.py:age \
        --config.data_dir=FOLDER

Published: a curve. What may stand after the colon: see `configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preror58")
