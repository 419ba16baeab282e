"""`create_model` and what it returns: inputs, outputs, dropout, errors; models of one's own."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ror_jax import models
from ror_jax.errors import UserError
from ror_jax.models import create_model, list_models, model_config, register
from ror_jax.models.backbone import Map
from ror_jax.outputs import Pool

RAW = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)


def test_list_models_names_the_papers_networks():
    """Every network of the papers' tables has a name, and the names come sorted."""
    names = list_models()
    assert names == sorted(names)
    papers = """
        ror2_110 ror3_110 ror3_110_ab ror3_164 ror3_164_b333 ror4_164_b333 ror3_182 ror3_218 preror3_164 preror3_1202
        ror3_wrn40_2 ror3_wrn40_4 ror3_wrn58_2 ror3_wrn58_4 ror18 ror34 ror101 ror152 cnn_4c2f vgg16 preresnet34
        efficientnet_b0 efficientnet_b1 efficientnet_b2 convnext_tiny convnext_small convnext_base
        preresnet50 preror34 preror34_b preror50_k1 preror50_k2 preror50_k4 preror58 preror82 preror101_k2
    """
    assert set(papers.split()) <= set(names)


def test_the_network_normalises_its_input(random_network):
    """uint8 and float pixels mean the same, and mean and standard deviation are taken out channel by channel."""
    mean, std = (120.0, 90.0, 60.0), (60.0, 50.0, 40.0)
    graph, params, statistics = random_network("tiny_ror", mean=mean, std=std)
    plain, _, _ = random_network("tiny_ror")

    def outputs(graph, images):
        return nnx.merge(graph, params, statistics)(images)["label"]

    normalised = ((RAW - np.array(mean)) / np.array(std)).astype(np.float32)
    bytes_, floats, expected = jax.jit(
        lambda: (outputs(graph, RAW), outputs(graph, RAW.astype(np.float32)), outputs(plain, normalised))
    )()
    np.testing.assert_array_equal(bytes_, floats)
    np.testing.assert_allclose(bytes_, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16(random_network):
    """In bfloat16 the outputs stay near those of float32, parameters and BN statistics stay float32."""
    full, params, statistics = random_network("tiny_preror", levels=2)
    half, _, _ = random_network("tiny_preror", levels=2, dtype=jnp.bfloat16)

    def pass_over(graph, train):
        model = nnx.merge(graph, params, statistics)
        return model((RAW - 128.0) / 64, train=train), nnx.to_pure_dict(nnx.state(model))

    (wide, _), (narrow, _), (trained, after) = jax.jit(
        lambda: (pass_over(full, False), pass_over(half, False), pass_over(half, True))
    )()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((narrow, trained, after)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((narrow, trained, after)))
    difference = np.abs(narrow["features"] - wide["features"]).max() / np.abs(wide["features"]).max()
    assert 1e-4 < difference < 0.05  # not float32, but not far


def test_bfloat16_parameters():
    """`param_dtype` is that of every parameter; statistics are float32 all the same."""
    model = nnx.eval_shape(lambda: create_model("tiny_ror", 3, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model, nnx.BatchStat))} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("cnn_4c2f", dict(image_size=35)),
        ("vgg16", dict(blocks_per_group=(1,), widths=(4,), hidden=512, image_size=16)),
    ],
)
def test_dropout_behind_hidden_layers(name, overrides, random_network):
    """In training a share of the features is zero, another one each time; in evaluation none is."""
    rate = 0.3
    graph, params, statistics = random_network(name, dropout=rate, **overrides)
    for layer in params["trunks"]["features"]["hidden"].values():
        layer = layer["linear"]
        layer["kernel"], layer["bias"] = layer["kernel"] * 0, layer["bias"] * 0 + 1
    images = np.zeros((8, overrides["image_size"], overrides["image_size"], 3), np.float32)

    def features(params, **arguments):
        return nnx.merge(graph, params, statistics)(images, **arguments)["features"]

    evaluated, first, second = jax.jit(
        lambda params: (
            features(params),
            features(params, train=True, rngs=nnx.Rngs(0)),
            features(params, train=True, rngs=nnx.Rngs(1)),
        )
    )(params)
    np.testing.assert_array_equal(evaluated, 1)
    np.testing.assert_allclose(np.unique(first), [0, 1 / (1 - rate)], rtol=1e-6)
    assert abs((first == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / first.size)
    assert (first != second).any()


ERRORS = [
    ("ror3_1l0", {}, "unknown model.*ror3_110"),
    ("preror43", {}, "unknown model.*preror34"),
    ("ror34", dict(survivall=0.5), "unknown override.*'survivall'.*'survival'"),
    ("vgg16", dict(levels=3), "unknown override.*'levels'"),
    ("ror34", dict(shortcut_types="D"), "shortcut_types"),
    ("ror34", dict(shortcut_types=("B", "A")), "shortcut_types.*3"),
    ("ror34", dict(survival=0), "survival"),
    ("ror34", dict(survival=1.5), "survival"),
    ("ror34", dict(survival=float("nan")), "survival"),
    ("ror34", dict(dropout=1.0), "dropout"),
    ("ror34", dict(levels=0), "levels"),
    ("ror3_20", dict(levels=5), "levels"),
    ("ror34", dict(widths=(64, 128)), "widths.*4"),
    ("ror34", dict(blocks_per_group=(3, 0, 2, 1)), "blocks_per_group"),
    ("ror34", dict(blocks_per_group=()), "blocks_per_group"),
    ("ror34", dict(kernels=(1, 1)), "kernels"),
    ("ror34", dict(kernels=(3,)), "kernels"),
    ("ror34", dict(stem="mnist"), "stem"),
    ("ror34", dict(drop_path="pixel"), "drop_path"),
    ("ror34", dict(downsample="max"), "downsample"),
    ("ror34", dict(new_shortcut_init="zeros"), "new_shortcut_init"),
    ("ror34", dict(both_preact=True), "both_preact"),
    # A network that could not be built, or not be run.
    ("ror34", dict(kernels=(3, 2)), "kernels"),
    ("ror34", dict(widths=(64, 128, 256, 0)), "widths"),
    ("ror34", dict(expansion=0), "expansion"),
    ("preror34", dict(widths=(64, 32, 16, 8)), "widths"),
    ("vgg16", dict(widths=(64, 128)), "widths"),
    ("vgg16", dict(image_size=16), "image_size"),
    ("vgg16", dict(dropout=1.5), "dropout"),
    ("efficientnet_b0", dict(widths=(16, 24)), "widths.*7 positive"),
    ("efficientnet_b0", dict(strides=(1, 2, 2, 2, 1, 2, 0)), "strides"),
    ("efficientnet_b0", dict(kernels=(3, 3, 5, 3, 5, 5, 4)), "kernels.*odd"),
    ("efficientnet_b0", dict(blocks_per_group=()), "blocks_per_group"),
    ("efficientnet_b0", dict(stem_width=0), "stem_width"),
    ("efficientnet_b0", dict(survival=0), "survival"),
    ("efficientnet_b0", dict(dropout=1), "dropout"),
    ("convnext_tiny", dict(widths=(96,)), "widths.*4 positive"),
    ("convnext_tiny", dict(blocks_per_group=(3, 0, 9, 3)), "blocks_per_group"),
    ("convnext_tiny", dict(survival=1.5), "survival"),
    ("convnext_tiny", dict(dropout=0.5), "unknown override.*'dropout'"),
    ("cnn_4c2f", dict(image_size=10), "image_size"),
    ("cnn_4c2f", dict(dropout=-0.5), "dropout"),
]


@pytest.mark.parametrize(("name", "overrides", "message"), ERRORS)
def test_errors_name_the_field(name, overrides, message):
    """What cannot be built is refused with a message that names what is wrong with it."""
    with pytest.raises(UserError, match=message):
        model_config(name, **overrides)


def test_create_model_checks_too():
    """`create_model` refuses what `model_config` refuses."""
    with pytest.raises(UserError, match="survival"):
        create_model("ror34", 8, rngs=nnx.Rngs(0), survival=2)


@dataclasses.dataclass(frozen=True)
class MeanConfig:
    """A backbone whose only map is the image itself."""

    scale: float = 1.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    trunk: ClassVar[Pool] = Pool()

    def build(self):
        return Mean(self)


class Mean(nnx.Module):
    def __init__(self, config):
        self.config = config

    @property
    def maps(self):
        return {"last": Map(3, 1)}

    def __call__(self, images, *, train=False, rngs=None):
        return {"last": self.config.scale * images}


@pytest.fixture
def registered():
    register("mean_color", MeanConfig())
    yield
    del models._MODELS["mean_color"]


def test_a_registered_model_is_a_model(registered):
    """It is listed, takes overrides, and has features and heads as any other."""
    assert "mean_color" in list_models() and model_config("mean_color", scale=2.0) == MeanConfig(2.0)
    model = create_model("mean_color", 2, rngs=nnx.Rngs(0), scale=2.0)
    np.testing.assert_allclose(model(RAW)["features"], 2.0 * RAW.mean((1, 2)), rtol=1e-5)
    assert model(RAW)["label"].shape == (4, 2)
    with pytest.raises(UserError, match=r"unknown model 'mean_colour'.*mean_color"):
        model_config("mean_colour")


@dataclasses.dataclass
class NotFrozen:
    def build(self): ...


def test_what_cannot_be_registered(registered):
    """A name that is taken, here or by a model of the package; what is no configuration."""
    for name in ("mean_color", "ror34"):
        with pytest.raises(UserError, match=f"there is a model '{name}' already"):
            register(name, MeanConfig())
    for config in (MeanConfig, NotFrozen(), Pool(), None):
        with pytest.raises(UserError, match="'other' is no instance of a frozen dataclass with build, trunk"):
            register("other", config)
    heads = dataclasses.make_dataclass("Heads", ["heads"], bases=(MeanConfig,), frozen=True, kw_only=True)(heads=3)
    with pytest.raises(UserError, match="field 'heads', as create_model has an argument"):
        register("other", heads)
    assert "other" not in list_models()
