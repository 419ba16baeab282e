r"""Pre-RoR-58 with stochastic depth (Deep-RoR, Tables III, VI, X and XI, Figure 8).

    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/preror58_sd.py:two_mechanisms \
        --config.data_dir=FOLDER

Published: age 62.50 +- 4.33 % exact, 93.63 +- 1.90 % 1-off; with the two mechanisms 64.17 +- 3.81 %, 95.77 +- 1.24 %;
gender 92.29 +- 1.49 %. What may stand after the colon: see `configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("preror58_sd")
