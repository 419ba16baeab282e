"""CIFAR-10 with RoR-3-110 and stochastic depth, 500 epochs (RoR, Table II).

    python -m ror_jax.main --config=configs/cifar10.py --config.data_dir=FOLDER

FOLDER holds the binary version, `cifar-10-batches-bin`. For a first look on a laptop:

    python -m ror_jax.main --config=configs/cifar10.py --config.data_dir=FOLDER \
        --config.model.name=ror3_20 --config.model.survival=1.0 --config.epochs=2 --workdir=runs/cifar10_ror3_20
"""

from ror_jax.config import default_config


def get_config():
    config = default_config()
    config.name = "cifar10"
    config.dataset.name = "cifar10"
    config.image_size = 32
    config.central_fraction = 1.0
    config.augmentation = "pad_and_crop"
    config.model.name = "ror3_110"
    config.model.survival = 0.5
    config.task.name = "classification"
    config.epochs = 500
    config.batch_size = 128
    config.test_batch_size = 250
    config.optimizer.decay_epochs = (250, 375)
    return config
