"""Optimisers and learning rates by name, as the papers' Torch code has them."""

import inspect
import itertools
import math
import types
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import optax

from ror_jax.errors import UserError, check_values, unknown

PARTS = types.MappingProxyType({"backbone": 1.0, "trunks": 1.0, "heads": 1.0})  # of a network, with usual rates


def step_schedule(*, decay_epochs: tuple[float, ...], decay_factor: float, steps_per_epoch: int) -> optax.Schedule:
    """1, multiplied by `decay_factor` after each of `decay_epochs`."""
    return optax.piecewise_constant_schedule(
        1.0, {round(epoch * steps_per_epoch): decay_factor for epoch in decay_epochs}
    )


def _decay_mask(params):  # the leading axis of stacked blocks makes vectors [L, C], so names decide and not dimensions
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def sgd(
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    decay_vectors: bool,
    momentum: float = 0.9,
    nesterov: bool = True,
) -> optax.GradientTransformation:
    """SGD with momentum (dampening 0) and L2 decay added to the gradient, before the momentum, as Torch does it.

    Args:
      momentum: momentum, in [0, 1).
      nesterov: use Nesterov's form of momentum.
    """
    check_values({"optimizer.momentum": (momentum, 0 <= momentum < 1, "in [0, 1)")})
    decay = optax.add_decayed_weights(weight_decay, mask=None if decay_vectors else _decay_mask)
    return optax.chain(decay, optax.sgd(schedule, momentum=momentum, nesterov=nesterov))


def adamw(
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    decay_vectors: bool,
    beta1: float = 0.9,
    beta2: float = 0.999,
) -> optax.GradientTransformation:
    """Adam with decay of the parameters beside the gradient (Loshchilov and Hutter, ICLR 2019), as Torch's AdamW.

    Args:
      beta1: decay rate of the running mean of the gradients, in [0, 1).
      beta2: decay rate of the running mean of their squares, in [0, 1).
    """
    betas = {"optimizer.beta1": beta1, "optimizer.beta2": beta2}
    check_values({name: (beta, 0 <= beta < 1, "in [0, 1)") for name, beta in betas.items()})
    mask = None if decay_vectors else _decay_mask
    return optax.adamw(schedule, beta1, beta2, weight_decay=weight_decay, mask=mask)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"adamw": adamw, "sgd": sgd}
SCHEDULES = ("step", "cosine")


def create_optimizer(
    name: str = "sgd",
    *,
    learning_rate: float = 0.1,
    schedule: str = "step",
    warmup_epochs: float = 0.0,
    decay_epochs: tuple[float, ...] = (80, 122),
    decay_factor: float = 0.1,
    weight_decay: float = 1e-4,
    decay_vectors: bool = True,
    clip_norm: float | None = None,
    rates: Mapping[str, float] = PARTS,
    frozen: tuple[str, ...] = (),
    epochs: int,
    steps_per_epoch: int,
    **options,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Returns the optimiser `name` and its learning rate as a function of the step.

    The defaults are those of Deep-RoR's training from scratch (section IV.A).

    Args:
      learning_rate: the learning rate that schedule and warm-up are factors of.
      schedule: "step", see `step_schedule`; or "cosine", half a cosine from the learning rate to 0 over all epochs
        (Torch's CosineAnnealingLR, but step by step).
      warmup_epochs: epochs in which a factor of the learning rate rises from 0 to 1.
      decay_epochs: after each of these epochs the schedule "step" multiplies the learning rate by `decay_factor`.
      decay_factor: factor of the schedule "step", in (0, 1].
      weight_decay: strength of the decay of the parameters, in [0, 1).
      decay_vectors: apply weight decay to BN parameters and biases too, as in Torch.
      clip_norm: gradients whose norm, over all parameters that are not frozen, is larger are scaled down to this.
      rates: factor of the learning rate of a part of the network, by the part's name.
      frozen: parts of the network that are not trained, such as "backbone.stem". Their batch statistics move on.
      epochs: of the whole training.
      steps_per_epoch: steps of an epoch.
      **options: of the optimiser, see there.

    Raises:
      UserError: unknown name or option, or a number that makes no sense.
    """
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    decay = {"weight_decay": weight_decay, "decay_vectors": decay_vectors}
    known = inspect.signature(OPTIMIZERS[name]).parameters.keys() - {"schedule", *decay}
    for option in options:
        if option not in known:
            raise unknown(f"option of optimizer {name!r}:", option, known)
    if schedule not in SCHEDULES:
        raise unknown("schedule", schedule, SCHEDULES)
    rising = all(before < after for before, after in itertools.pairwise((0, *decay_epochs)))
    wanted = {
        "learning_rate": (learning_rate, learning_rate > 0, "positive"),
        "clip_norm": (clip_norm, clip_norm is None or clip_norm > 0, "positive"),
        # Without epochs there is only a test.
        "warmup_epochs": (
            warmup_epochs,
            0 <= warmup_epochs <= (epochs or math.inf),
            f"0 or more, and at most epochs, {epochs}",
        ),
        "decay_epochs": (decay_epochs, rising, "positive epochs that rise"),
        "decay_factor": (decay_factor, 0 < decay_factor <= 1, "in (0, 1]"),
        "weight_decay": (weight_decay, 0 <= weight_decay < 1, "in [0, 1)"),
        **{f"rates.{part}": (value, 0 <= value < math.inf, "0 or more") for part, value in rates.items()},
    }
    check_values({f"optimizer.{setting}": rule for setting, rule in wanted.items()})

    if schedule == "cosine":
        factor = optax.cosine_decay_schedule(1.0, max(epochs * steps_per_epoch, 1))
    else:
        factor = step_schedule(decay_epochs=decay_epochs, decay_factor=decay_factor, steps_per_epoch=steps_per_epoch)
    warmup_steps = warmup_epochs * steps_per_epoch

    def rate(step):
        warm = jnp.minimum((step + 1) / warmup_steps, 1.0) if warmup_steps else 1.0
        return learning_rate * warm * factor(step)

    def factor_of(part: str) -> float:
        return 0.0 if _is_in(part, frozen) else rates.get(part.partition(".")[0], 1.0)

    chain = [
        *([_scale_parts(lambda part: float(not _is_in(part, frozen)))] if frozen else []),
        *([optax.clip_by_global_norm(clip_norm)] if clip_norm is not None else []),
        OPTIMIZERS[name](rate, **decay, **options),
        *([_scale_parts(factor_of)] if frozen or any(value != 1 for value in rates.values()) else []),
    ]
    return optax.chain(*chain), rate


def check_parts(params: dict, rates: Mapping[str, float], frozen: Iterable[str]) -> None:
    """Raises UserError if one of the names is no part of the network, or if nothing is left to train."""
    names = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for part, rate in rates.items():
        if rate != 1 and part not in params:
            raise UserError(f"optimizer.rates.{part} is {rate}, but the network has no {part}; leave it 1")
    for part in map(str, frozen):
        if not any(_is_in(name, (part,)) for name in names):
            depth = part.count(".") + 1
            parts = sorted({".".join(name.split(".")[:depth]) for name in names})
            raise unknown("part of the network in optimizer.frozen:", part, parts)
    still = (*frozen, *(part for part, rate in rates.items() if rate == 0))
    if all(_is_in(name, still) for name in names):
        raise UserError("optimizer.frozen and rates of 0: that is the whole network; leave a part to train")


def _scale_parts(factor_of: Callable[[str], float]) -> optax.GradientTransformation:
    """Multiplies what is computed for each parameter by the factor of its name; 0 makes it 0, whatever it was."""

    def scale(path, update):
        factor = factor_of(_name(path))
        return update if factor == 1 else factor * update if factor else jnp.zeros_like(update)

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates))


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_in(name: str, parts: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{part}.") for part in parts)
