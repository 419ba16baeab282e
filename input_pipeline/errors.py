"""The one exception for bad input data."""

import difflib
from collections.abc import Iterable


class DataError(ValueError):
    """The data cannot be used. The message is one line for a person: what is wrong, where, and what to do about it."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> DataError:
    """The error for a misspelt name.

    Args:
        what: the kind of thing that was named, for example "data set".
        name: the name that nobody knows.
        known: the names that exist.
    """
    known = sorted(known)
    nearest = difflib.get_close_matches(str(name), known, n=1)
    suggestion = f"did you mean '{nearest[0]}'? " if nearest else ""
    return DataError(f"unknown {what} '{name}': {suggestion}known are {', '.join(known)}")
