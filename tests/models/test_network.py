"""The shared hidden layers between backbone and outputs, and outputs that see no image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models import create_model, model_config
from ror_jax.models.network import Mlp
from ror_jax.models.weights import flatten

AGE_GENDER = {"age": 1, "gender": 1}


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
    width = nnx.eval_shape(lambda: model_config(name).build()).num_features
    assert parameters(name, AGE_GENDER, mlp_widths=(8, 6)) == alone + 8 * width + 8 + 54 + 28 + 14


def test_hidden_layers_are_those_of_torch():
    """In training and in evaluation; the running statistics of batch norm move alike."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    config = model_config("tiny_ror")
    ours = Mlp(5, (7, 4), 0.0, config=config)
    layers = [torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.GELU()]
    layers += [torch.nn.Linear(7, 4), torch.nn.BatchNorm1d(4), torch.nn.GELU()]
    theirs = torch.nn.Sequential(*layers)
    for linear, norm, (their_linear, their_norm) in zip(
        ours.linears, ours.norms, ((layers[0], layers[1]), (layers[3], layers[4])), strict=True
    ):
        linear.kernel[...] = jnp.array(their_linear.weight.detach().numpy().T)
        linear.bias[...] = jnp.array(their_linear.bias.detach().numpy())
        assert norm.scale.shape == tuple(their_norm.weight.shape)
    x = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
    for train in (True, False):
        theirs.train(train)
        expected = theirs(torch.tensor(x)).detach()
        np.testing.assert_allclose(ours(jnp.array(x), train=train, rngs=None), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.norms[1].var[...], layers[4].running_var, rtol=1e-5)


def test_dropout_of_hidden_layers():
    """A third of the numbers is dropped in training, the others grow by a half; in evaluation nothing is."""
    mlp = Mlp(4, (300,), 1 / 3, config=model_config("tiny_ror"))
    mlp.norms[0].bias[...] = jnp.full(300, 2.0)  # of equal inputs, all outputs are GELU(2)
    x = jnp.ones((20, 4))
    gelu = float(nnx.gelu(jnp.array(2.0), approximate=False))
    found = np.asarray(mlp(x, train=True, rngs=nnx.Rngs(0)))
    assert (found == 0).mean() == pytest.approx(1 / 3, abs=0.03)
    assert found[found != 0] == pytest.approx(1.5 * gelu, rel=1e-4)
    assert (np.asarray(mlp(x, train=False, rngs=None)) != 0).all()


def test_numbers_that_are_the_same_for_all_images():
    network = create_model("tiny_ror", AGE_GENDER | {"log_variances": (0, 2)}, rngs=nnx.Rngs(0), mlp_widths=[6])
    network.heads["log_variances"].bias[...] = jnp.array([1.0, 2.0])
    found = network(np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3)))
    assert found["log_variances"].tolist() == [[1, 2]] * 3
    assert found["age"].shape == found["gender"].shape == (3, 1) and found["features"].shape == (3, 32)
    names = flatten(nnx.to_pure_dict(nnx.state(network, nnx.Param)), {})
    assert "params.heads.log_variances.bias" in names and "params.heads.log_variances.kernel" not in names


@pytest.mark.parametrize(
    ("options", "words"),
    [({"mlp_widths": (8, 0)}, "mlp_widths"), ({"mlp_widths": (8,), "mlp_dropout": 1.0}, "mlp_dropout")],
)
def test_hidden_layers_that_make_no_sense(options, words):
    with pytest.raises(UserError, match=words):
        create_model("tiny_ror", 2, rngs=nnx.Rngs(0), **options)
