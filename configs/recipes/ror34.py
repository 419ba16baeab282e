"""RoR-34 from scratch (Deep-RoR, Table VIII).

    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/ror34.py:age --config.data_dir=FOLDER

Published: age 60.29 +- 4.25 % exact, 92.44 +- 1.45 % 1-off; gender 91.07 +- 1.64 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("ror34")
