"""What the five folds of Adience share: Deep-RoR's Pre-RoR-58 with stochastic depth, from scratch."""

from ml_collections import ConfigDict

from configs.deep_ror import recipe

VARIANTS = {"age_group": "LW3", "gender": "gender"}


def get_config(fold: int, target: str) -> ConfigDict:
    """Settings for testing on `fold`; `target` is "age_group" (with the loss weights LW3) or "gender"."""
    config = recipe("preror58_sd")(VARIANTS.get(target, target))
    config.name = f"adience_fold{fold}" if target == "age_group" else f"adience_fold{fold}_{target}"
    config.dataset.fold = fold
    return config
