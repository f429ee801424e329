"""Rows without nesting, for CSV and data frames: ``weights.url``, ``claims.test_accuracy``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from securitynet.catalogue.tables import PARTS

Row = Mapping[str, Any]
WHOLE = ("architecture", "training")
"""Fields that stay as they are: every model fills them in its own way."""
LEFT_OUT = ("details", "blobs")
"""Curves and arrays, which are no cells of a table."""


def flatten(rows: Sequence[Row]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns, and each row as column -> value; a row lacks what it does not have.

    A claim becomes ``claims.METRIC``, the first value that is claimed of the metric.
    """
    flat = [dict(_cells(row)) for row in rows]
    heads = {name: i for i, name in enumerate(dict.fromkeys(name for row in rows for name in row))}
    seen = dict.fromkeys(name for row in flat for name in row)
    nested = {name.rpartition(".")[0] for name in seen}
    seen = {name: None for name in seen if name not in nested}  # null where others have parts

    def place(name: str) -> tuple[int, str]:
        head = name.partition(".")[0]
        return heads[head], name if head == "claims" else ""

    return sorted(seen, key=place), flat


def _cells(row: Row) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if name in LEFT_OUT:
            continue
        if name == "claims":
            yield from _claims(value)
        elif name not in WHOLE and (isinstance(value, Mapping) or name in PARTS):
            yield from _parts(name, value)
        else:
            yield name, value


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if value is None and name in PARTS:
        value = {item.name: None for item in fields(PARTS[name])}
    if not isinstance(value, Mapping):
        yield name, value
        return
    for inner, item in value.items():
        yield from _parts(f"{name}.{inner}", item)


def _claims(claims: Iterable[Row]) -> Iterator[tuple[str, Any]]:
    """The first of a metric comes last here, so that it is what a mapping keeps."""
    for claim in reversed(list(claims)):
        yield f"claims.{claim['metric']}", claim["value"]
