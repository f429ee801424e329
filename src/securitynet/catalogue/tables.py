"""The tables that ship with the package: one JSON line a card, without what is default.

Contributed cards lie beside them in ``community/``, one JSON file each.

They are checked when they are written; a listing reads them as plain rows, in a tenth of the time.
"""

from __future__ import annotations

import contextlib
import gc
import gzip
import io
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

from securitynet.catalogue.schema import Claim, InputSpec, ModelCard, Publication, Weights
from securitynet.catalogue.sources import source_keys
from securitynet.errors import UsageError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

ENDINGS = (".jsonl", ".jsonl.gz")
COMMUNITY = "community"
MAX_PLAIN_BYTES = 50_000
"""Larger tables are compressed: they are generated, not edited."""
PARTS: dict[str, type[Any]] = {
    "input": InputSpec, "weights": Weights, "publication": Publication, "claims": Claim,
}  # fmt: skip
Row = dict[str, Any]


def data_folder() -> Traversable:
    """Return where the tables lie."""
    return files("securitynet.catalogue").joinpath("data")


@cache
def rows() -> tuple[Row, ...]:
    """Return every card of the shipped tables as JSON values, in order of their ids.

    A row is the card's JSON and one field more: ``source``, the short keys of its claims' sources.

    Raises:
        UsageError: If an id is there twice.
    """
    with _without_garbage_collection():
        return tuple(read_rows(_tables(data_folder())))


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Do not look for cycles while a hundred thousand objects without any are made."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _tables(folder: Traversable) -> Iterator[tuple[str, bytes]]:
    for item in folder.iterdir():
        if item.name.endswith(ENDINGS):
            yield item.name, item.read_bytes()
    yield from contributed(folder)


def contributed(folder: Traversable) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the contributed cards' files."""
    place = folder.joinpath(COMMUNITY)
    if place.is_dir():
        for item in sorted(place.iterdir(), key=lambda item: item.name):
            if item.name.endswith(".json"):
                yield f"{COMMUNITY}/{item.name}", item.read_bytes()


def read_rows(tables: Iterable[tuple[str, bytes]]) -> list[Row]:
    """Read tables, given as file name and content, into rows in order of their ids.

    Raises:
        UsageError: If an id is there twice, or a line is not JSON.
    """
    found: dict[str, Row] = {}
    places: dict[str, str] = {}
    for name, content in tables:
        for number, row in enumerate(_read(name, content), start=1):
            place = f"{name}:{number}"
            other = places.setdefault(row["id"], place)
            if other != place:
                raise UsageError(f"model {row['id']!r} is there twice", where=f"{other}, {place}")
            found[row["id"]] = row
    return [found[name] for name in sorted(found)]


def _lines(name: str, content: bytes) -> list[str]:
    plain = gzip.decompress(content) if name.endswith(".gz") else content
    lines = plain.decode().splitlines()
    return [" ".join(lines)] if name.endswith(".json") else lines


def _read(name: str, content: bytes) -> list[Row]:
    lines = _lines(name, content)
    try:
        found = [expand(record) for record in json.loads(f"[{','.join(lines)}]")]
        if len(found) != len(lines) or not all(isinstance(row["id"], str) for row in found):
            raise ValueError("a line is no card")
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"not a table of models: {error}", where=name) from None


def expand(record: Mapping[str, Any]) -> Row:
    """Return the whole row of a stored record: defaults and ``source`` filled in."""
    blank = _blank(ModelCard)
    row = {name: record.get(name, default) for name, default in blank.items()}
    for name in ("input", "weights", "publication"):
        if row[name] is not None:
            row[name] = {**_blank(cast(Hashable, PARTS[name])), **row[name]}
    row["claims"] = [{**_blank(Claim), **claim} for claim in row["claims"]]
    row["source"] = source_keys(row["claims"])
    return row


@cache
def _blank(kind: Hashable) -> dict[str, Any]:
    return {
        item.name: _default(item) for item in fields(cast(type[Any], kind)) if item.name != "folder"
    }


def _default(item: Field[Any]) -> Any:
    if item.default is MISSING:
        return None
    return list(item.default) if isinstance(item.default, tuple) else item.default


def shorten(record: Mapping[str, Any], kind: type[Any] = ModelCard) -> Row:
    """Return a card's JSON without what is default: the inverse of :func:`expand`."""
    blank = _blank(cast(Hashable, kind))
    kept = {name: value for name, value in record.items() if value != blank[name]}
    if kind is ModelCard:
        for name in ("input", "weights", "publication"):
            if kept.get(name):
                kept[name] = shorten(kept[name], PARTS[name])
        if "claims" in kept:
            kept["claims"] = [shorten(claim, Claim) for claim in kept["claims"]]
    return kept


def table_text(cards: Iterable[ModelCard]) -> str:
    """Return the text of a table: one line a card, in order of their ids."""
    ordered = sorted(cards, key=lambda card: card.id)
    lines = (shorten(card.to_json()) for card in ordered)
    return "".join(
        json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"
        for line in lines
    )


def table_file(name: str, text: str) -> tuple[str, bytes]:
    """Return a table's file name and content; compressed if it would be large."""
    plain = text.encode()
    if len(plain) <= MAX_PLAIN_BYTES:
        return f"{name}.jsonl", plain
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(plain)
    return f"{name}.jsonl.gz", packed.getvalue()


def stored_text(name: str) -> str | None:
    """Return the text of a shipped table, ``None`` if there is none."""
    for ending in ENDINGS:
        item = data_folder().joinpath(f"{name}{ending}")
        if item.is_file():
            return "\n".join([*_lines(item.name, item.read_bytes()), ""])
    return None
