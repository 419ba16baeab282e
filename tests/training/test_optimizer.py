"""SGD as Torch has it: by hand, and against PyTorch."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ror_jax.errors import UserError
from ror_jax.training.optimizer import create_optimizer

SETTINGS = {
    "learning_rate": 0.1,
    "decay_epochs": (2, 3),
    "decay_factor": 0.1,
    "steps_per_epoch": 5,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 0.01,
    "decay_vectors": True,
}
START = {"conv": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}}
GRADIENT = {"conv": {"kernel": jnp.array([[0.5, 0.1]]), "bias": jnp.array([-1.0])}}


def run(steps, **changes):
    optimizer, _ = create_optimizer("sgd", **SETTINGS | changes)
    params, state = START, optimizer.init(START)
    for _ in range(steps):
        updates, state = optimizer.update(GRADIENT, state, params)
        params = optax.apply_updates(params, updates)
    return params["conv"]


def test_the_first_step_by_hand():
    """g = 0.5 + 0.01 * 1 = 0.51; Nesterov's step is g + 0.9 g; 1 - 0.1 * 1.9 * 0.51 = 0.9031."""
    assert float(run(1)["kernel"][0, 0]) == pytest.approx(1 - 0.1 * 1.9 * 0.51)


def test_biases_can_be_left_out_of_weight_decay():
    """Then the bias' step is 1.9 times its gradient, and the kernel's stays what it was."""
    assert float(run(1, decay_vectors=False)["bias"][0]) == pytest.approx(3 + 0.1 * 1.9 * 1.0)
    assert float(run(1, decay_vectors=False)["kernel"][0, 0]) == float(run(1)["kernel"][0, 0])


def test_the_learning_rate_falls_after_its_epochs():
    """Epochs 2 and 3 of five steps each: steps 0-9 at 0.1, 10-14 at 0.01, then 0.001."""
    _, schedule = create_optimizer("sgd", **SETTINGS)
    rates = [float(schedule(step)) for step in (0, 9, 10, 14, 15, 100)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_twenty_steps_are_those_of_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    kernel, bias = (torch.tensor(np.array(START["conv"][name]), requires_grad=True) for name in ("kernel", "bias"))
    sgd = torch.optim.SGD([kernel, bias], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.MultiStepLR(sgd, [10, 15])
    for _ in range(20):
        kernel.grad, bias.grad = (torch.tensor(np.array(GRADIENT["conv"][name])) for name in ("kernel", "bias"))
        sgd.step()
        schedule.step()
    ours = run(20)
    np.testing.assert_allclose(ours["kernel"], kernel.detach(), rtol=1e-5)
    np.testing.assert_allclose(ours["bias"], bias.detach(), rtol=1e-5)


def test_bad_settings():
    with pytest.raises(UserError, match="unknown optimizer 'sgdd'; did you mean 'sgd'"):
        create_optimizer("sgdd", **SETTINGS)
    with pytest.raises(UserError, match="learning_rate is 0; it must be positive"):
        create_optimizer("sgd", **SETTINGS | {"learning_rate": 0})
