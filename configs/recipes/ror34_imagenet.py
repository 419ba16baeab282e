r"""RoR-34 from ImageNet (Deep-RoR, Table VIII).

    python -m tools.convert_torchvision --weights resnet34.pth --model ror34 --output weights/ror34
    python -m ror_jax.main --mode=cross_validate --config=configs/recipes/ror34_imagenet.py:age \
        --config.data_dir=FOLDER

Published: age 61.73 +- 4.31 % exact, 92.97 +- 1.55 % 1-off; gender 91.96 +- 1.53 %. What may stand after the colon: see
`configs.deep_ror`.
"""

from configs.deep_ror import recipe

get_config = recipe("ror34_imagenet")
