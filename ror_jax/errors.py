"""The one exception for what a user can mend: the command line prints its message as a single line, no traceback."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input or configuration; the message says what was wrong, where, and what to do."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest ones that do."""
    known = sorted(known)
    nearest = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"there are: {', '.join(known)}"
    return UserError(f"unknown {kind} {name!r}; {hint}")
