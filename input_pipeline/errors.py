"""Exceptions for bad input: command lines print their messages as one line, without a traceback."""

import difflib
from collections.abc import Iterable

LONGEST = 300  # letters of what a message repeats


class InputError(ValueError):
    """Data or settings cannot be used. The message is one line for a person: what is wrong, where, and what to do."""


class DataError(InputError):
    """Data cannot be used."""


def shortened(text: str) -> str:
    """The text, or its beginning and its end where it is too long for one line of a message."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


def unknown_name(what: str, name: str, known: Iterable[str]) -> DataError:
    """The error for a misspelt name of a `what`, with the nearest of those that are known."""
    return DataError(nearest(what, name, known))


def nearest(what: str, name: str, known: Iterable[str]) -> str:
    """A line that says that there is no such `what`, and which names are near, or some of them where none is."""
    known, name = sorted(known), shortened(str(name))

    def changes(other: str) -> int:
        """Returns how many letters must be inserted, deleted or replaced."""
        steps = difflib.SequenceMatcher(None, name, other).get_opcodes()
        return sum(max(i2 - i1, j2 - j1) for kind, i1, i2, j1, j2 in steps if kind != "equal")

    near = sorted(difflib.get_close_matches(name, known, n=max(1, len(known))), key=changes)[:3]
    if near:
        return f"unknown {what} {name!r}; did you mean {' or '.join(map(repr, near))}?"
    return f"unknown {what} {name!r}; known are {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}"
