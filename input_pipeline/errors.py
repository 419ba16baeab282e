"""The one exception for bad input data."""

import difflib
from collections.abc import Iterable


class DataError(ValueError):
    """The data cannot be used. The message is one line for a person: what is wrong, where, and what to do about it."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> DataError:
    """The error for a misspelt name of a `what`, with the nearest of those that are known."""
    return DataError(nearest(what, name, known))


def nearest(what: str, name: str, known: Iterable[str]) -> str:
    """A line that says that there is no such `what`, and which names are near, or some of them where none is."""
    known = sorted(known)
    near = [repr(other) for other in difflib.get_close_matches(str(name), known, n=3)]
    if near:
        return f"unknown {what} {name!r}; did you mean {' or '.join(near)}?"
    return f"unknown {what} {name!r}; known are {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}"
