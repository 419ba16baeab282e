r"""ResNet-34 from ImageNet (Deep-RoR, Table VIII).

    python -m tools.convert_torchvision --weights resnet34.pth --model resnet34 --output weights/resnet34
    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/resnet34_imagenet.py:age \
        --config.data_dir=FOLDER

Published: age 61.15 +- 4.53 % exact, 92.90 +- 1.98 % 1-off; gender 91.18 +- 1.53 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("resnet34_imagenet")
