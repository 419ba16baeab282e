"""What the tests of the models share: networks of random numbers, and what they run as."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ror_jax.models import create_model


@pytest.fixture(scope="session")
def torch_libraries():
    """Makes sure that torchvision and timm can be imported; without them the test is skipped."""
    torch = pytest.importorskip("torch", reason="the networks to compare with are torchvision's and timm's")
    for name in ("torchvision", "timm"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"the networks to compare with need {name}")
    try:
        import torchvision
    except RuntimeError:
        # Its compiled operators are made for another PyTorch, and two of them must be known while it is imported. The
        # networks use neither: a declaration is enough.
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401


@pytest.fixture(scope="session")
def random_network():
    """`random_network(name, num_classes, **overrides) -> (graph, params, statistics)`, nothing in it zero or one."""

    def make(name, num_classes=3, **overrides):
        model = nnx.eval_shape(lambda: create_model(name, num_classes, rngs=nnx.Rngs(0), **overrides))
        graph, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
        rng = np.random.default_rng(0)

        def numbers(path, leaf):
            normal = rng.standard_normal(leaf.shape, np.float32)
            match path[-1].key:
                case "kernel":  # He, fan-in: the activations neither grow nor vanish
                    return normal * np.float32(np.sqrt(2 / np.prod(leaf.shape[-4:-1])))
                case "scale" | "var" | "layer_scale":
                    return np.exp(normal / 4)
                case "bias" | "mean":
                    return normal / 4

        return graph, *(
            jax.tree.map(jnp.asarray, jax.tree_util.tree_map_with_path(numbers, nnx.to_pure_dict(state)))
            for state in (params, statistics)
        )

    return make


@pytest.fixture(scope="session")
def one_step(random_network):
    """`one_step(name, images, **overrides)`: loss, outputs, moved statistics and gradients of a step of training."""

    def run(name, images, **overrides):
        graph, params, statistics = random_network(name, **overrides)

        def loss(params):
            model = nnx.merge(graph, params, statistics)
            outputs = model(images, train=True, rngs=nnx.Rngs(3))["label"]
            return (outputs**2).sum(), (outputs, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    return run


@pytest.fixture(scope="session")
def equations():
    """`equations(jaxpr, into=...)`: all equations, those of nested jaxprs too if `into(equation)` says so."""

    def walk(jaxpr, into=lambda equation: True):
        for equation in jaxpr.eqns:
            yield equation
            if not into(equation):
                continue
            for value in jax.tree.leaves(list(equation.params.values())):
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    yield from walk(inner, into)

    return walk
