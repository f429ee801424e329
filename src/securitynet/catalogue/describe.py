"""What the records' dataclasses say of themselves: attributes in words, and columns. No torch."""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

Kind = typing.Literal["text", "json", "integer", "real", "boolean", "texts", "reals"]
SCALARS: dict[Any, Kind] = {str: "text", bool: "boolean", int: "integer", float: "real"}
LISTS: dict[Any, Kind] = {str: "texts", float: "reals"}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its name, ``weights_url`` for ``weights.url``.
        kind: What it holds; ``json`` is text that holds a JSON value.
        about: What it means.
        is_required: Whether it is never null.
        path: Where the value lies in a record's JSON.
    """

    name: str
    kind: Kind
    about: str
    is_required: bool = False
    path: tuple[str, ...] = ()


def attributes(kind: type[Any]) -> dict[str, str]:
    """Return what the docstring of a dataclass says of each of its attributes."""
    text = inspect.getdoc(kind) or ""
    section = re.search(r"^Attributes:\n((?:    .*\n?)+)", text, flags=re.M)
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section[1] if section else "", re.M)
    home = vars(sys.modules[kind.__module__])
    return {name: _words(" ".join(words.split()), home) for name, words in entries}


def _words(text: str, home: Mapping[str, Any]) -> str:
    """Say it for readers who see no Python: null, and choices instead of a constant's name."""

    def spelt(found: re.Match[str]) -> str:
        value = home.get(found[1])
        return ", ".join(f"`{item}`" for item in value) if isinstance(value, tuple) else found[0]

    plain = text.replace("``", "`").replace("`None`", "null").replace("() = none", "empty = none")
    return re.sub(r"`([A-Z_]+)`", spelt, plain)


def columns(
    kind: type[Any], *, without: tuple[str, ...] = (), prefix: tuple[str, ...] = ()
) -> Iterator[Column]:
    """Yield the columns of a dataclass; those of a dataclass inside it bear its name.

    Args:
        kind: The dataclass.
        without: Attributes to leave out.
        prefix: Names of what it lies in.
    """
    hints, words = typing.get_type_hints(kind), attributes(kind)
    for item in fields(kind):
        if item.name in without:
            continue
        path = (*prefix, item.name)
        options = alternatives(hints[item.name])
        inner = next((option for option in options if is_dataclass(option)), None)
        if isinstance(inner, type):
            yield from columns(inner, prefix=path)
            continue
        is_required = types.NoneType not in options and "publication" not in prefix
        name = "_".join(path)
        yield Column(name, _kind(options), words.get(item.name, ""), is_required, path)


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the types that an annotation allows."""
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _kind(options: tuple[Any, ...]) -> Kind:
    known = [option for option in options if option is not types.NoneType]
    if len(known) != 1:
        return "json"
    origin, arguments = typing.get_origin(known[0]), typing.get_args(known[0])
    if origin is tuple:
        return LISTS.get(arguments[0], "json")
    return "text" if origin is typing.Literal else SCALARS.get(known[0], "json")


def value_at(record: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return the value at a path, ``None`` if it or what it lies in is not there."""
    found: Any = record
    for name in path:
        found = None if found is None else found.get(name)
    return found
