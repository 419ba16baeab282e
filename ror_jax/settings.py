"""Settings as the functions and classes that read them declare them: in a signature and its docstring."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

from ml_collections import ConfigDict, FieldReference

TYPES = (bool, int, float, str, tuple, Mapping)
_ENTRY = re.compile(r"(\w+(?:, \w+)*): (.*)")


class Setting(NamedTuple):
    """What is declared of a setting.

    Attributes:
      type: one of `TYPES`, or `object` for values of several types.
      default: its value where nobody sets it; None also where a value is required.
      description: one line.
    """

    type: type
    default: Any
    description: str


@functools.cache
def declared(reader: Callable, skip: tuple[str, ...] = ()) -> dict[str, Setting]:
    """Returns the settings that a function or class reads, by name.

    Settings are the keyword-only parameters; of a class without any, such as most dataclasses, all parameters or
    fields. Their descriptions are in the sections "Args" and "Attributes" of its docstring, in Google's style; a class
    inherits those of its bases. An entry "width, height: text" describes several settings.

    Args:
      reader: the function or class.
      skip: parameters that are no settings.
    """
    parameters = inspect.signature(reader, eval_str=True).parameters.values()
    keywords = [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    if inspect.isclass(reader) and not keywords:
        keywords = parameters
    texts = _descriptions(reader)
    return {
        parameter.name: Setting(
            _type(parameter.annotation),
            None if parameter.default is parameter.empty else parameter.default,
            texts.get(parameter.name, ""),
        )
        for parameter in keywords
        if parameter.name not in skip
    }


def optional(declarations: Iterable[Mapping[str, Setting]]) -> dict[str, Setting]:
    """Returns the union of several readers' settings, with the default None: that of whoever reads the setting.

    A mapping has the default {}. The first description of a setting counts. Its type is `object` where readers have
    different ones.
    """
    union: dict[str, Setting] = {}
    for settings in declarations:
        for name, setting in settings.items():
            known = union.get(name, setting)
            kind = setting.type if setting.type is known.type else object
            default = {} if kind is Mapping else None
            union[name] = Setting(kind, default, known.description or setting.description)
    return union


def to_config(settings: Mapping[str, Setting]) -> ConfigDict:
    """Returns a config of these settings with their defaults; None can be replaced by a value of the setting's type.

    A default that is a mapping becomes a config in this one.
    """
    config = ConfigDict()
    for name, (kind, default, _) in settings.items():
        if isinstance(default, Mapping):
            config[name] = ConfigDict(dict(default))
        elif default is None or kind is object:
            config[name] = FieldReference(default, field_type=kind)
        else:
            config[name] = default
    return config


def _type(annotation: Any) -> type:
    if get_origin(annotation) in (Union, UnionType):
        first, *others = (kind for kind in get_args(annotation) if kind is not NoneType)
        return object if others else _type(first)
    kind = get_origin(annotation) or annotation
    return kind if kind in TYPES else object


def _descriptions(reader: Callable) -> dict[str, str]:
    """The descriptions in a docstring by name, each in one line."""
    if inspect.isclass(reader):
        docstrings = [base.__dict__.get("__doc__") for base in reader.__mro__]
    else:
        docstrings = [reader.__doc__]
    texts: dict[str, str] = {}
    for docstring in docstrings:
        for names, text in _entries(docstring or ""):
            for name in names.split(", "):
                texts.setdefault(name, text)
    return texts


def _entries(docstring: str) -> list[tuple[str, str]]:
    """The entries of the sections "Args" and "Attributes": (names, description)."""
    entries: list[list[str]] = []
    inside, margin = False, 0  # of such a section; of its entries, in spaces
    for line in filter(None, inspect.cleandoc(docstring).splitlines()):
        indent = len(line) - len(line.lstrip())
        if not indent:
            inside, margin = line in ("Args:", "Attributes:"), 0
        elif inside and indent > (margin or indent):
            entries[-1].append(line.strip())
        elif inside:
            margin = indent
            entries.append([line.strip()])
    joined = (_ENTRY.fullmatch(" ".join(lines)) for lines in entries)
    return [entry.groups() for entry in joined if entry]
