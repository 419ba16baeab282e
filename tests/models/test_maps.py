"""What backbones say of their feature maps is what they return."""

import jax.numpy as jnp
import pytest
from flax import nnx

from ror_jax.models import model_config
from ror_jax.models.backbone import Map

KNOWN = {
    "tiny_ror": [Map(8, 4), Map(8, 4), Map(16, 8), Map(24, 16), Map(32, 32), Map(32, 32)],
    "ror3_wrn16_4": [Map(16, 1), Map(64, 1), Map(128, 2), Map(256, 4), Map(256, 4)],
    "resnet50": [Map(64, 4), Map(256, 4), Map(512, 8), Map(1024, 16), Map(2048, 32), Map(2048, 32)],
    "tiny_efficientnet": [Map(8, 2), Map(8, 2), Map(8, 4), Map(16, 8), Map(32, 8)],
    "tiny_convnext": [Map(8, 4), Map(8, 4), Map(16, 8), Map(16, 8)],
}
FIXED = {  # sides of 224, 112, 56, 28, 14, 7; and (227 - 7) / 4 + 1 = 56, 28, 14, 7
    "vgg16": [Map(64, 2, 112), Map(128, 4, 56), Map(256, 8, 28), Map(512, 16, 14), Map(512, 32, 7), Map(512, 32, 7)],
    "cnn_4c2f": [Map(96, 8, 28), Map(256, 16, 14), Map(384, 32, 7), Map(384, 32, 7)],
}


def backbone(name, **overrides):
    return nnx.eval_shape(lambda: model_config(name, **overrides).build())


@pytest.mark.parametrize("name", [*KNOWN, *FIXED])
def test_names_widths_and_strides(name):
    stem, expected = ["stem"] * (name in KNOWN), (KNOWN | FIXED)[name]
    groups = [f"group{group + 1}" for group in range(len(expected) - 1 - len(stem))]
    assert backbone(name).maps == dict(zip([*stem, *groups, "last"], expected, strict=True))


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("tiny_ror", {}),
        ("tiny_preror", {}),
        ("ror4_20", {"blocks_per_group": (2, 1, 1), "levels": 2, "widths": (8, 8, 8)}),
        ("cifar_resnet8", {"widths": (8, 8, 8)}),
        ("tiny_bottleneck", {}),
        ("tiny_efficientnet", {}),
        ("tiny_convnext", {}),
        ("vgg16", {"blocks_per_group": (1, 2), "widths": (4, 6), "image_size": 64}),
        ("cnn_4c2f", {"image_size": 64}),
    ],
)
def test_maps_have_the_shapes_that_are_told(name, overrides):
    """In half precision, too, they are in the dtype of the computation."""
    model = backbone(name, dtype=jnp.bfloat16, **overrides)
    images = jnp.zeros((2, 64, 64, 3), jnp.bfloat16)
    found = nnx.eval_shape(lambda model: model(images, train=True, rngs=nnx.Rngs(0)), model)
    assert model.maps.keys() == found.keys() and list(model.maps)[-1] == "last"
    for key, (width, stride, side) in model.maps.items():
        side = 64 // stride if side is None else side
        assert (found[key].shape, found[key].dtype) == ((2, side, side, width), jnp.bfloat16), key
