r"""VGG-16 (Deep-RoR, Tables VI, X and XI).

    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/vgg16.py:two_mechanisms \
        --config.data_dir=FOLDER

Published: age 54.64 +- 4.76 % exact, 89.93 +- 1.87 % 1-off (Table XI; Table VI repeats the exact one in its place);
with the two mechanisms 56.11 +- 5.05 %, 90.66 +- 2.14 %; gender 88.36 +- 1.69 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("vgg16")
