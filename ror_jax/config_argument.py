"""What may follow the colon in `--config=FILE:ARGUMENT`: words, separated by commas."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from ror_jax.errors import UserError, unknown


def parse_argument(argument: str, **kinds: Iterable[str] | range | type[bool]) -> SimpleNamespace:
    """Returns the choices that an argument such as "ror34,smoke,fold=3" makes: by kind, one value or None.

    Args:
      argument: words in any order, separated by commas; each belongs to one of the kinds.
      **kinds: the words of each kind. A range stands for KIND=NUMBER with each of its numbers, whose value is the
        number; `bool` for the name of the kind itself, whose value is True. Others are their own value.

    Raises:
      UserError: a word belongs to no kind, and the message names the nearest ones; or two belong to the same kind.
    """
    words = {word: (kind, value) for kind, spec in kinds.items() for word, value in _values(kind, spec).items()}
    given: dict[str, str] = {}  # word by kind
    for word in filter(None, argument.split(",")):
        if word not in words:
            raise UserError(f"{unknown('config argument', word, words)} (--list prints the rows of a config file)")
        kind, _ = words[word]
        if kind in given:
            raise UserError(f"the config takes one {kind}, not both {given[kind]!r} and {word!r}")
        given[kind] = word
    return SimpleNamespace(**{kind: words[given[kind]][1] if kind in given else None for kind in kinds})


def _values(kind: str, spec: Iterable[str] | range | type[bool]) -> dict[str, Any]:
    """The words of a kind with their values."""
    if spec is bool:
        return {kind: True}
    if isinstance(spec, range):
        return {f"{kind}={number}": number for number in spec}
    return {word: word for word in spec}
