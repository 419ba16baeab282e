"""The exception for settings that make no sense."""

from collections.abc import Iterable, Mapping
from typing import Any

from input_pipeline.errors import InputError, nearest


class UserError(InputError):
    """A setting makes no sense, or a file that the program wrote cannot be used."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest ones that do."""
    return UserError(nearest(kind, name, known))


def check_fields(settings: Any, wanted: Mapping[str, tuple[bool, str]], prefix: str = "") -> None:
    """Raises UserError at the first invalid attribute of `settings`.

    Args:
      wanted: by name of the attribute, whether its value is valid, and what it must be.
      prefix: of the names in the message.
    """
    check_values({f"{prefix}{name}": (getattr(settings, name), *rule) for name, rule in wanted.items()})


def check_values(wanted: Mapping[str, tuple[Any, bool, str]]) -> None:
    """Raises UserError at the first invalid value; `wanted` is as in `check_fields`, with the value before the rest."""
    for name, (value, valid, what) in wanted.items():
        if not valid:
            raise UserError(f"{name} is {value!r}; it must be {what}")
