"""The compiled step of evaluation on a network that gives back its pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ror_jax.tasks import create_task
from ror_jax.training.mesh import create_mesh
from ror_jax.training.state import TrainState, empty_metrics
from ror_jax.training.step import make_eval_step


class Pixels(nnx.Module):
    """Outputs are the channels of the first pixel."""

    def __call__(self, images):
        return {"age_group": images[:, 0, 0]}


@pytest.mark.parametrize(
    ("objective", "views", "expected"),
    [
        # Softmax (0.8, 0.2, 0) and (0.4, 0.1, 0.5); what is added to all outputs of a view means nothing.
        ("cross_entropy", [np.log([0.8, 0.2, 1e-9]) + 3, np.log([0.4, 0.1, 0.5]) - 5], [0.6, 0.15, 0.25]),
        # Once surely yes, twice rather no: no, though the mean of the outputs is positive.
        ("ladder", [(60, 60), (-np.log(4), -40), (-np.log(4), -40)], [1.6 / 3, 0.4 / 3, 1 / 3]),
    ],
)
def test_probabilities_are_averaged_over_views(objective, views, expected):
    task = create_task("age_group", {"age_group": tuple("abc")}, objective=objective)
    state = TrainState(jnp.zeros((), jnp.int32), {}, {}, (), {}, {})
    image = jnp.array(views, jnp.float32)[None, :, None, None]  # [1, V, 1, 1, M]
    batch = {"image": image, "mask": jnp.ones(1), "age_group": jnp.zeros(1, jnp.int32)}
    mesh = create_mesh(1)
    step = make_eval_step(nnx.split(Pixels())[0], task, mesh)
    sums, predictions, _ = step(state, batch, empty_metrics(task, mesh))
    np.testing.assert_allclose(predictions["age_group"]["probabilities"], [expected], rtol=1e-6)
    results = task.summarize(jax.device_get(sums))
    assert (results["exact"], results["cross_entropy"]) == (1, pytest.approx(-np.log(expected[0]), rel=1e-6))
