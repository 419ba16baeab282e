"""ImageNet, every row of the RoR paper's Table XIII: RoR-3 built from a pretrained ResNet; RoR-3-34 by default.

    python -m tools.convert_torchvision --weights resnet34.pth --model ror34 --output weights/ror34
    python -m ror_jax.main --config=configs/imagenet.py:ror3_34 --config.data_dir=FOLDER

FOLDER holds train/CLASS/*.JPEG and val/CLASS/*.JPEG, or tensorflow-datasets' imagenet2012 (array_record). Published
error: 24.47 % top-1, 7.13 % top-5 after 10 epochs of batches of 128, ten-crop testing. The ResNets are only tested:

    python -m tools.convert_torchvision --weights resnet34.pth --model resnet34 --output weights/resnet34
    python -m ror_jax.main --config=configs/imagenet.py:resnet34 --config.data_dir=FOLDER

With --config.views=single and a --workdir of its own this is torchvision's own test (resize 256, centre 224), for which
it publishes top-1 accuracies of 69.76, 73.31, 76.13, 77.37 and 78.31 % for the first weights of its ResNet-18, 34, 50,
101 and 152.
"""

from configs import ror


def get_config(row: str = "ror3_34"):
    return ror.get_config("imagenet", row)
