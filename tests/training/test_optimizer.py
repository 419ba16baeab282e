"""SGD and AdamW as Torch has them: by hand, and against PyTorch; schedules, clipping, parts of a network."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ror_jax.errors import UserError
from ror_jax.training.optimizer import check_parts, create_optimizer

SETTINGS = {
    "learning_rate": 0.1,
    "decay_epochs": (2, 3),
    "decay_factor": 0.1,
    "epochs": 4,
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


ADAMW = {"momentum": None, "nesterov": None, "schedule": "cosine"}  # None: leave it out


def run_adamw(steps, **changes):
    settings = {name: value for name, value in (SETTINGS | ADAMW | changes).items() if value is not None}
    optimizer, _ = create_optimizer("adamw", **settings)
    params, state = START, optimizer.init(START)
    for _ in range(steps):
        updates, state = optimizer.update(GRADIENT, state, params)
        params = optax.apply_updates(params, updates)
    return params["conv"]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_twenty_steps_are_those_of_torch(name):
    """SGD with its steps, AdamW with CosineAnnealingLR over the four epochs of five steps."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    kernel, bias = (torch.tensor(np.array(START["conv"][name]), requires_grad=True) for name in ("kernel", "bias"))
    if name == "sgd":
        theirs = torch.optim.SGD([kernel, bias], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.MultiStepLR(theirs, [10, 15])
    else:
        theirs = torch.optim.AdamW([kernel, bias], lr=0.1, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 20)
    for _ in range(20):
        kernel.grad, bias.grad = (torch.tensor(np.array(GRADIENT["conv"][name])) for name in ("kernel", "bias"))
        theirs.step()
        schedule.step()
    ours = (run if name == "sgd" else run_adamw)(20)
    np.testing.assert_allclose(ours["kernel"], kernel.detach(), rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(ours["bias"], bias.detach(), rtol=1e-5, atol=2e-5)


def test_a_cosine_with_warm_up_by_hand():
    """20 steps; over the first 5 a fifth more each: 0.1 * 1/5 * 1, then half of 0.1 in the middle, 0 at the end."""
    _, schedule = create_optimizer("sgd", **SETTINGS | {"schedule": "cosine", "warmup_epochs": 1})
    rates = [float(schedule(step)) for step in (0, 4, 10, 20)]
    assert rates == pytest.approx([0.02, 0.1 * (1 + np.cos(np.pi / 5)) / 2, 0.05, 0], abs=1e-8)


def test_gradients_are_clipped_together():
    """Their norm is sqrt(0.25 + 0.01 + 1) = 1.1225; clipped to half of that, the step without momentum is halved."""
    plain = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    whole, half = run(1, **plain), run(1, **plain, clip_norm=np.sqrt(1.26) / 2)
    for name in whole:
        start = START["conv"][name]
        np.testing.assert_allclose(half[name] - start, (whole[name] - start) / 2, rtol=1e-5, atol=2e-5)
    np.testing.assert_array_equal(run(1, **plain, clip_norm=1.2)["kernel"], whole["kernel"])


PARTS = {"backbone": START, "heads": START}


def changes_of_parts(**settings):
    """The kernels' first steps, by part."""
    optimizer, _ = create_optimizer("sgd", **SETTINGS | {"clip_norm": 0.1} | settings)
    gradients = {"backbone": {"conv": {"kernel": jnp.array([[np.nan, 1.0]]), "bias": jnp.array([1.0])}}} | {
        "heads": GRADIENT
    }
    if "frozen" not in settings:
        gradients["backbone"] = GRADIENT
    updates, _ = optimizer.update(gradients, optimizer.init(PARTS), PARTS)
    return {part: updates[part]["conv"]["kernel"] for part in updates}


def test_parts_have_rates_of_their_own():
    usual, own = changes_of_parts(), changes_of_parts(rates={"backbone": 0.5, "heads": 10.0})
    np.testing.assert_allclose(own["backbone"], usual["backbone"] / 2, rtol=1e-6)
    np.testing.assert_allclose(own["heads"], usual["heads"] * 10, rtol=1e-6)


def test_frozen_parts_stay_and_take_no_part_in_clipping():
    """Whatever their gradients are; the others move as if they were alone."""
    found = changes_of_parts(frozen=("backbone.conv",))
    optimizer, _ = create_optimizer("sgd", **SETTINGS | {"clip_norm": 0.1})
    alone, _ = optimizer.update({"heads": GRADIENT}, optimizer.init({"heads": START}), {"heads": START})
    assert (found["backbone"] == 0).all()
    np.testing.assert_allclose(found["heads"], alone["heads"]["conv"]["kernel"], rtol=1e-6)


def test_parts_that_cannot_be_frozen():
    check_parts(PARTS, {"heads": 2.0, "trunks": 1.0}, ("backbone", "heads.conv.bias"))
    with pytest.raises(UserError, match=r"'backbone\.convs'; did you mean 'backbone\.conv'"):
        check_parts(PARTS, {}, ("backbone.convs",))
    with pytest.raises(UserError, match="the whole network"):
        check_parts(PARTS, {}, ("backbone", "heads"))
    with pytest.raises(UserError, match="the whole network"):
        check_parts(PARTS, {"heads": 0.0}, ("backbone",))
    with pytest.raises(UserError, match="the network has no trunks"):
        check_parts(PARTS, {"trunks": 2.0}, ())


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("sgdd", {}, "unknown optimizer 'sgdd'; did you mean 'sgd'"),
        ("sgd", {"learning_rate": 0}, "learning_rate is 0; it must be positive"),
        ("sgd", {"clip_norm": 0}, "clip_norm is 0; it must be positive"),
        ("sgd", {"warmup_epochs": -1}, "warmup_epochs is -1; it must be 0 or more"),
        ("sgd", {"rates": {"heads": -1}}, "rates.heads is -1; it must be 0 or more"),
        ("sgd", {"schedule": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ("sgd", {"beta1": 0.9}, "unknown option of optimizer 'sgd': 'beta1'"),
        ("adamw", {}, "unknown option of optimizer 'adamw': 'momentum'"),
    ],
)
def test_bad_settings(name, settings, words):
    with pytest.raises(UserError, match=words):
        create_optimizer(name, **SETTINGS | settings)


def test_a_test_alone_has_no_epochs_to_warm_up_in():
    create_optimizer("sgd", **SETTINGS | {"epochs": 0, "warmup_epochs": 0.5})
