"""The database: the shipped tables, looked up by id and filtered by field. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from securitynet.catalogue.cards import ModelCard, load_card, parse_card
from securitynet.errors import UsageError, unknown_id


@cache
def all_cards() -> tuple[ModelCard, ...]:
    """Return every card of the shipped tables, in order of their ids."""
    cards: list[ModelCard] = []
    for table in files("securitynet.catalogue").joinpath("data").iterdir():
        if table.name.endswith(".json"):
            for record in json.loads(table.read_text(encoding="utf-8")):
                cards.append(parse_card(record, where=f"{table.name}: {record.get('id')}"))
    return tuple(sorted(cards, key=lambda card: card.id))


def find_card(reference: str) -> ModelCard:
    """Return the card of a catalogue id, a card file, or a folder that holds ``card.json``.

    Raises:
        UsageError: If there is none; suggests close ids.
    """
    by_id = {card.id: card for card in all_cards()}
    if reference in by_id:
        return by_id[reference]
    path = Path(reference)
    if reference and _is_there(path.is_dir):
        return load_card(path / "card.json")
    if path.suffix == ".json" or _is_there(path.is_file):
        return _card_file(path)
    raise unknown_id("model", reference, by_id, listing="securitynet list models")


def _is_there(check: Callable[[], bool]) -> bool:
    """Names that no file can have, e.g. of 300 characters, are not there."""
    try:
        return check()
    except OSError:
        return False


def _card_file(path: Path) -> ModelCard:
    if path.suffix != ".json":
        raise UsageError(
            "a checkpoint needs a card file beside it",
            where=path,
            hint="write a card.json (see docs/cards.md) and give its path",
        )
    return load_card(path)


def select(records: Iterable[dict[str, Any]], filters: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the records that match every ``FIELD=VALUE`` filter.

    Fields may be dotted (``weights.licence``); text compares without case; ``null`` matches
    unknown; a list matches if any item does.

    Raises:
        UsageError: If a filter has no ``=`` or names a field that no record has.
    """
    parsed = [_parse_filter(text) for text in filters]
    rows = list(records)
    for name, _ in parsed:
        if rows and not any(_has(row, name) for row in rows):
            raise unknown_id("field", name, sorted(rows[0]), listing="securitynet list --json")
    yield from (row for row in rows if all(_matches(row, name, value) for name, value in parsed))


def _parse_filter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"filter {text!r} is not FIELD=VALUE", hint="e.g. -w dataset=cifar10")
    return name.strip(), value.strip()


def _has(row: dict[str, Any], name: str) -> bool:
    head, _, rest = name.partition(".")
    if head not in row:
        return False
    return not rest or not isinstance(row[head], dict) or _has(row[head], rest)


def lookup(row: Any, name: str) -> Any:
    """Return a dotted field of a record, ``None`` if it is not there."""
    for part in name.split("."):
        if isinstance(row, list):
            row = [item.get(part) for item in row if isinstance(item, dict)]
        else:
            row = row.get(part) if isinstance(row, dict) else None
    return row


def _matches(row: dict[str, Any], name: str, value: str) -> bool:
    found = lookup(row, name)
    items = found if isinstance(found, list) else [found]
    return any(_text(item) == value.casefold() for item in items)


def _text(item: Any) -> str:
    return "null" if item is None else str(item).casefold()
