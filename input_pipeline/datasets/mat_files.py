"""Reading MATLAB's files."""

import pathlib
import warnings
from collections.abc import Callable
from typing import Any

from scipy.io.matlab import MatReadWarning

from input_pipeline.errors import DataError


def read_mat(function: Callable[..., Any], path: pathlib.Path, wanted: str, **options: Any) -> Any:
    """`function(file, **options)`, a function of scipy.io, with its errors, which are many, as `DataError`.

    `wanted` is what the message ends with: which file should be there.
    """
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("error", MatReadWarning)  # scipy warns of what it cannot read and goes on
            return function(file, **options)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); {wanted}") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is not a whole .mat file ({reason}); {wanted}") from error
