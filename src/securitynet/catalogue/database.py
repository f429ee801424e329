"""The database: the shipped tables, looked up by id and filtered by field. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from securitynet.catalogue.cards import ModelCard, load_card, parse_card
from securitynet.catalogue.pins import known_rows, pins_stamp
from securitynet.catalogue.tables import Row, rows
from securitynet.errors import UsageError, unknown_id

METRICS = {"top1": "test_accuracy", "top5": "test_top5_accuracy"}
"""Short names of metrics in filters and for sorting: ``claims.top1``."""
CLAIM_FIELDS = ("metric", "value", "source", "n", "img_size", "revision")


@cache
def all_cards() -> tuple[ModelCard, ...]:
    """Return every card of the shipped tables, in order of their ids; rows are much faster."""
    return tuple(map(card_of, rows()))


def card_of(row: Row) -> ModelCard:
    """Return the card of a row of the shipped tables, checked."""
    record = {name: value for name, value in row.items() if name != "source"}
    return parse_card(record, where=f"catalogue: {row['id']}")


def _by_id() -> dict[str, Row]:
    """Rows by id, and by the ids under which others host the same weights."""
    return _indexed(pins_stamp())


@cache
def _indexed(stamp: object) -> dict[str, Row]:
    found = {alias: row for row in known_rows() for alias in row["aliases"]}
    return {**found, **{row["id"]: row for row in known_rows()}}


def known_ids() -> list[str]:
    """Return every id of the catalogue, those under which others host a model included."""
    return sorted(_by_id())


def find_card(reference: str) -> ModelCard:
    """Return the card of a catalogue id, an alias, a card file, or a folder with ``card.json``.

    Raises:
        UsageError: If there is none; suggests close ids.
    """
    known = _by_id()
    if reference in known:
        return card_of(known[reference])
    path = Path(reference)
    if reference and _is_there(path.is_dir):
        return load_card(path / "card.json")
    if path.suffix == ".json" or _is_there(path.is_file):
        return _card_file(path)
    if reference.startswith("hub/"):
        raise UsageError(
            "a model of the hub has no card: nobody states its input there",
            where=reference,
            hint="download it (`securitynet show` says where), then `securitynet add model FILE`",
        )
    raise unknown_id("model", reference, known, listing="securitynet list models")


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


def select(records: Iterable[Row], filters: Iterable[str]) -> Iterator[Row]:
    """Yield the records that match every ``FIELD=VALUE`` filter.

    Fields may be dotted (``weights.licence``); ``claims.METRIC`` is the figure that is claimed;
    text compares without case; ``null`` matches unknown, ``yes`` and ``no`` a truth value; a list
    matches if any item does.

    Raises:
        UsageError: If a filter has no ``=`` or names a field that no record has.
    """
    parsed = [_parse_filter(text) for text in filters]
    kept = list(records)
    for name, _ in parsed:
        check_field(kept, name)
    yield from (row for row in kept if all(_matches(row, name, value) for name, value in parsed))


def check_field(records: Iterable[Row], name: str) -> None:
    """Refuse a field that no record has.

    Raises:
        UsageError: If there are records and none has the field; suggests close ones.
    """
    known = list(records)
    if known and not any(_has(row, name) for row in known):
        raise unknown_id("field", name, sorted(known[0]), listing="securitynet list --json")


def _parse_filter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"filter {text!r} is not FIELD=VALUE", hint="e.g. -w dataset=cifar10")
    return name.strip(), value.strip()


def _has(row: Row, name: str) -> bool:
    head, _, rest = name.partition(".")
    if head not in row:
        return False
    if not rest:
        return True
    if head == "claims" and isinstance(row[head], list):
        metric = METRICS.get(rest, rest)
        return rest in CLAIM_FIELDS or any(claim.get("metric") == metric for claim in row[head])
    return not isinstance(row[head], dict) or _has(row[head], rest)


def lookup(row: Any, name: str) -> Any:
    """Return a dotted field of a record, ``None`` if it is not there.

    ``claims.METRIC`` gives the values that are claimed of a metric, ``claims.top1`` those of
    ``test_accuracy``.
    """
    if isinstance(row, dict) and name.startswith("claims."):
        rest = name.partition(".")[2]
        if rest not in CLAIM_FIELDS:
            metric = METRICS.get(rest, rest)
            found = [item["value"] for item in row["claims"] if item["metric"] == metric]
            return found or None
    for part in name.split("."):
        if isinstance(row, list):
            row = [item.get(part) for item in row if isinstance(item, dict)]
        else:
            row = row.get(part) if isinstance(row, dict) else None
    return row


def _matches(row: Row, name: str, value: str) -> bool:
    found = lookup(row, name)
    items = found if isinstance(found, list) else [found]
    return any(value.casefold() in _texts(item) for item in items)


def _texts(item: Any) -> tuple[str, ...]:
    """Return how a value may be written in a filter."""
    if isinstance(item, bool):
        return ("true", "yes") if item else ("false", "no")
    return ("null",) if item is None else (str(item).casefold(),)
