"""How results are shown: their names for a person, their units, their digits."""

from typing import NamedTuple


class Metric(NamedTuple):
    """What is shown of a result: `factor` times it, in `unit`, with so many digits behind the point."""

    label: str
    factor: float = 100.0
    unit: str = " %"
    digits: int = 2

    def number(self, value: float, sign: str = "") -> str:
        """A result as text, without its unit; `sign` is "+" for a difference."""
        return f"{self.factor * value:{sign}.{self.digits}f}"


YEARS = {"factor": 1.0, "unit": " years"}
SCORE = {"factor": 1.0, "unit": "", "digits": 4}

METRICS = {
    "error": Metric("test error"),
    "top_5_error": Metric("top-5 error"),
    "exact": Metric("exact"),
    "one_off": Metric("1-off"),
    "harmonic": Metric("harmonic score", **SCORE),
    "rmse": Metric("RMSE (years)", **YEARS),
    "mae": Metric("MAE (years)", **YEARS),
    "mae_expectation": Metric("MAE of the expectation (years)", **YEARS),
    "r2": Metric("R²", **SCORE),
    "within_3": Metric("within 3 years"),
    "within_5": Metric("within 5 years"),
    "within_10": Metric("within 10 years"),
    "macro_f1": Metric("gender, macro F1", **SCORE),
    "accuracy": Metric("accuracy"),
    "hours": Metric("hours", factor=1.0, unit=" h"),
}
