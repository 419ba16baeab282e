"""Optimisers by name, as the papers' Torch code has them."""

from collections.abc import Callable

import jax
import optax

from ror_jax.errors import UserError, unknown


def step_schedule(
    learning_rate: float, *, decay_epochs: tuple[float, ...], decay_factor: float, steps_per_epoch: int
) -> optax.Schedule:
    """`learning_rate`, multiplied by `decay_factor` after each of `decay_epochs`."""
    return optax.piecewise_constant_schedule(
        learning_rate, {round(epoch * steps_per_epoch): decay_factor for epoch in decay_epochs}
    )


def sgd(
    schedule: optax.Schedule, *, momentum: float, nesterov: bool, weight_decay: float, decay_vectors: bool
) -> optax.GradientTransformation:
    """SGD with momentum (dampening 0) and L2 decay added to the gradient, before the momentum, as Torch does it.

    `decay_vectors`: decay BN parameters and biases too, which Torch does by default.
    """

    def mask(params):  # the leading axis of stacked blocks makes vectors [L, C], so names decide and not dimensions
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)

    decay = optax.add_decayed_weights(weight_decay, mask=None if decay_vectors else mask)
    return optax.chain(decay, optax.sgd(schedule, momentum=momentum, nesterov=nesterov))


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"sgd": sgd}


def create_optimizer(
    name: str,
    *,
    learning_rate: float,
    decay_epochs: tuple[float, ...],
    decay_factor: float,
    steps_per_epoch: int,
    **options,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimiser `name` and its learning rate as a function of the step.

    Raises:
      UserError: unknown name, or a learning rate that is not positive.
    """
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    if not learning_rate > 0:
        raise UserError(f"optimizer.learning_rate is {learning_rate}; it must be positive")
    schedule = step_schedule(
        learning_rate, decay_epochs=decay_epochs, decay_factor=decay_factor, steps_per_epoch=steps_per_epoch
    )
    return OPTIMIZERS[name](schedule, **options), schedule
