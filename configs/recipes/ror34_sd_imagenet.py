r"""RoR-34 from ImageNet, with stochastic depth (Deep-RoR, Tables VIII, X and XI).

    python -m tools.convert_torchvision --weights resnet34.pth --model ror34 --output weights/ror34
    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/ror34_sd_imagenet.py:two_mechanisms \
        --config.data_dir=FOLDER

Published: age 62.34 +- 4.53 % exact, 93.64 +- 1.47 % 1-off; with the two mechanisms 63.76 +- 4.18 %, 94.92 +- 1.42 %;
gender 92.43 +- 1.51 %. What may stand after the colon: see `configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("ror34_sd_imagenet")
