"""Heads: on shared hidden layers, with hidden layers of their own, on other trunks, on none; what makes no sense."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models import create_model, describe_network, load_model, model_config
from ror_jax.models.weights import flatten, save_weights
from ror_jax.outputs import Flatten, Fuse, Head, Hidden, Pool, from_json, to_json

AGE_GENDER = {"age": 1, "gender": Head(1)}
IMAGES = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3))


def parameters(name, heads, **options):
    network = nnx.eval_shape(lambda: create_model(name, heads, rngs=nnx.Rngs(0), **options))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))


@pytest.mark.parametrize(
    ("name", "count"),
    [("resnet18", 11_572_546), ("efficientnet_b0", 4_796_798), ("convnext_tiny", 28_347_234)],
)
def test_the_networks_of_the_multi_task_article(name, count):
    """Section 7 prints 11.5, 4.8 and 28.3 million."""
    assert parameters(name, AGE_GENDER, mlp_widths=(512, 256)) == count


ONE_OF_EACH = ("cifar_resnet8", "cnn_4c2f", "ror3_wrn16_4", "tiny_bottleneck", "tiny_convnext", "tiny_efficientnet")


@pytest.mark.parametrize("name", [*ONE_OF_EACH, "tiny_preror", "tiny_ror", "vgg16"])
def test_any_model_can_be_the_backbone(name):
    """Hidden layers of 8 and 6: 8 F + 8 + 6 * 8 + 6 weights and biases, 2 (8 + 6) of batch norm; 7 of each output."""
    alone = parameters(name, {})
    network = nnx.eval_shape(lambda: create_model(name, {}, rngs=nnx.Rngs(0)))
    width = network.trunks["features"].width
    assert parameters(name, AGE_GENDER, mlp_widths=(8, 6)) == alone + 8 * width + 8 + 54 + 28 + 14


def test_a_head_reads_its_trunk_through_its_hidden_layers(random_network):
    """Each of three heads is, by hand, what it says of the features that the network gives beside it."""
    heads = {
        "plain": Head(2),
        "deep": Head(3, "early", hidden=(Hidden(5), Hidden(4, norm=True, activation="gelu"))),
        "column": Head(4, shared_column=True),
    }
    graph, params, statistics = random_network("tiny_ror", heads, trunks={"early": Pool("group1", kind="max")})
    found = jax.jit(lambda: nnx.merge(graph, params, statistics)(IMAGES))()
    assert {name: x.shape for name, x in found.items()} == {
        "plain": (3, 2), "deep": (3, 3), "column": (3, 4), "features": (3, 32), "early": (3, 8),
    }  # fmt: skip
    assert all(x.dtype == jnp.float32 for x in found.values())
    weights = jax.device_get(params["heads"])
    assert weights["column"]["kernel"].shape == (32, 1)
    for name in ("plain", "column"):
        expected = found["features"] @ weights[name]["kernel"] + weights[name]["bias"]
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-4)
    x, (first, second) = found["early"], weights["deep"]["hidden"].values()
    x = np.maximum(x @ first["linear"]["kernel"] + first["linear"]["bias"], 0)
    x = x @ second["linear"]["kernel"] + second["linear"]["bias"]
    moments = jax.device_get(statistics["heads"]["deep"]["hidden"][1]["norm"])
    x = (x - moments["mean"]) / np.sqrt(moments["var"] + 1e-5) * second["norm"]["scale"] + second["norm"]["bias"]
    x = jax.nn.gelu(x, approximate=False)
    expected = x @ weights["deep"]["kernel"] + weights["deep"]["bias"]
    np.testing.assert_allclose(found["deep"], expected, rtol=1e-4, atol=1e-4)


def test_numbers_that_are_the_same_for_all_images():
    heads = AGE_GENDER | {"log_variances": Head(2, trunk=None)}

    def run():
        network = create_model("tiny_ror", heads, rngs=nnx.Rngs(0), mlp_widths=[6])
        network.heads["log_variances"].bias[...] = jnp.array([1.0, 2.0])
        return network(IMAGES), flatten(nnx.to_pure_dict(nnx.state(network, nnx.Param)), {})

    found, names = jax.jit(run)()
    assert found["log_variances"].tolist() == [[1, 2]] * 3
    assert found["age"].shape == found["gender"].shape == (3, 1) and found["features"].shape == (3, 6)
    assert "params.heads.log_variances.bias" in names and "params.heads.log_variances.kernel" not in names
    assert {"params.heads.age.kernel", "params.trunks.features.hidden.0.linear.kernel"} <= names.keys()


def test_trunks_that_no_head_reads_are_not_built():
    """But for "features", which is always there, and may be another one than the model's."""
    trunks = {"features": Pool("group1"), "unread": Pool("group2")}
    network = nnx.eval_shape(lambda: create_model("tiny_ror", {}, rngs=nnx.Rngs(0), trunks=trunks))
    assert network.trunk_specs == {"features": Pool("group1")} and network.trunks["features"].width == 8
    assert network.head_specs == {}


def test_the_default_trunk_is_that_of_the_configuration():
    """VGG's and 4c2f's hidden layers, ConvNeXt's normalisation, EfficientNet's dropout."""
    assert model_config("ror34").trunk == Pool()
    assert model_config("efficientnet_b2", dropout=0.4).trunk == Pool(dropout=0.4)
    assert model_config("convnext_tiny").trunk == Pool(norm=True)
    assert model_config("vgg16", hidden=7).trunk == Flatten(hidden=(Hidden(7, dropout=0.5),) * 2)
    assert model_config("cnn_4c2f", dropout=0.1).trunk == Flatten(hidden=(Hidden(512, dropout=0.1),) * 2)


def test_a_folder_of_weights_keeps_heads_and_trunks(random_network, tmp_path):
    """`load_model` builds from `describe_network` what was saved, with the hidden layers once."""
    heads = {"a": Head(2, hidden=(Hidden(3),)), "b": Head(2, "fused"), "c": Head(1, None)}
    trunks = {"fused": Fuse(("group1", "last"), side=2, width=4)}
    graph, *states = random_network("tiny_ror", heads, trunks=trunks, mlp_widths=(6,))
    model = nnx.merge(graph, *states)
    card = describe_network("tiny_ror", {"mlp_widths": (6,), "survival": 0.5}, model)
    assert card["overrides"] == {"survival": 0.5}
    save_weights(tmp_path, *states, card)
    loaded = load_model(tmp_path)
    assert loaded.head_specs == heads and loaded.trunk_specs == model.trunk_specs
    assert loaded.trunks["features"].width == 6 and loaded.backbone.config.survival == 0.5
    jax.tree.map(np.testing.assert_array_equal, nnx.state(loaded), nnx.state(model))
    assert from_json(to_json(trunks)) == trunks


ERRORS = [
    (dict(mlp_widths=(8, 0)), "mlp_widths=.*width is 0"),
    (dict(mlp_widths=(8,), mlp_dropout=1.0), "mlp_dropout=1.0.*dropout is 1.0"),
    (dict(heads={"age": Head(1, "feature")}), "head 'age': unknown trunk 'feature'.*'features'"),
    (dict(heads={"features": 2}), "'features': that is the name of a trunk"),
    (dict(heads={"early": 2}, trunks={"early": Pool("group1")}), "'early': that is the name of a trunk"),
    (dict(trunks={"features": Pool("group5")}), "trunk 'features': unknown map 'group5'.*'group[1-4]'"),
    (
        dict(heads={"a": Head(1, "t")}, trunks={"t": Fuse(("last", "stm"), 2, 4)}),
        "trunk 't': unknown map 'stm'.*'stem'",
    ),
    (dict(trunks={"features": Flatten()}), "trunk 'features': its map 'last'.*Pool or Fuse"),
    (dict(heads={"age": (1, 3)}), "size is .1, 3."),
]


@pytest.mark.parametrize(("options", "words"), ERRORS)
def test_networks_that_make_no_sense(options, words):
    with pytest.raises(UserError, match=words) as error:
        nnx.eval_shape(lambda: create_model("tiny_ror", rngs=nnx.Rngs(0), **{"heads": 2, **options}))
    assert "\n" not in str(error.value)
