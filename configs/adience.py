"""What the five folds of Adience share: Deep-RoR's training from scratch, Pre-RoR-58 with stochastic depth."""

from ml_collections import ConfigDict

from ror_jax.config import default_config


def get_config(fold: int, target: str) -> ConfigDict:
    """Settings for testing on `fold`; `target` is "age_group" (with the loss weights LW3) or "gender"."""
    config = default_config()  # the optimiser, the batch and the schedule are the paper's already
    config.name = f"adience_fold{fold}" if target == "age_group" else f"adience_fold{fold}_{target}"
    config.dataset.name = "adience"
    config.dataset.fold = fold
    config.dataset.protocol = "levi"
    config.model.name = "preror58"
    config.model.survival = 0.5
    config.task.name = target
    if target == "age_group":
        config.task.weights = "LW3"
    return config
