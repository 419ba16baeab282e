"""ResNet-34 from scratch (Deep-RoR, Table VIII).

    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/resnet34.py:age --config.data_dir=FOLDER

Published: age 59.39 +- 4.45 % exact, 91.98 +- 1.57 % 1-off; gender 90.12 +- 1.48 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("resnet34")
