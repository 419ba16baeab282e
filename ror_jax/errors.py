"""The exception for what a user can mend: the command line prints its message as one line, without a traceback."""

from collections.abc import Iterable

from input_pipeline.errors import nearest


class UserError(ValueError):
    """A setting that makes no sense. The message says what was wrong, where, and what to do."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest ones that do."""
    return UserError(nearest(kind, name, known))
