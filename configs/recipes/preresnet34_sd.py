r"""Pre-ResNet-34 with stochastic depth (Deep-RoR, Tables III and VI, Figure 7).

    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/preresnet34_sd.py:age \
        --config.data_dir=FOLDER

Published: age 60.98 +- 4.21 % exact, 91.87 +- 1.73 % 1-off. What may stand after the colon: see `configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preresnet34_sd")
