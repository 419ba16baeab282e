r"""ResNet-34 from ImageNet, with stochastic depth (Deep-RoR, Table VIII).

    python -m tools.convert_torchvision --weights resnet34.pth --model resnet34 --output weights/resnet34
    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/resnet34_sd_imagenet.py:age \
        --config.data_dir=FOLDER

Published: age 61.47 +- 5.17 % exact, 93.39 +- 1.95 % 1-off; gender 91.98 +- 1.49 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("resnet34_sd_imagenet")
