"""Reading model cards: every name, type and range is checked. No torch."""

from __future__ import annotations

import json
import math
import reprlib
import types
import typing
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from securitynet.catalogue.schema import (
    CHECKSUM_OF,
    LICENCE_SOURCES,
    ORIGINS,
    STATUSES,
    UNKNOWN_LICENCE,
    VENUE_TYPES,
    Claim,
    InputSpec,
    ModelCard,
    Publication,
    Weights,
)
from securitynet.errors import UsageError, unknown_id
from securitynet.records import canonical_json

__all__ = [
    "Claim", "InputSpec", "ModelCard", "Publication", "Weights", "load_card", "parse_card",
]  # fmt: skip

MAX_SIDE = 8192
"""Pixels; a card must not ask for more memory than a machine has."""
CARD_GUIDE = "see docs/cards.md for the format"
SHARES = ("accuracy", "auc", "agreement")
"""Words in the names of metrics that lie in [0, 1]."""
MAX_ID = 300
NEVER_ZERO = ("test_accuracy", "test_top5_accuracy", "train_accuracy")
"""Metrics of which a 0 means that somebody wrote 0 for unknown; also all of the paper's table."""


def parse_card(record: Mapping[str, Any], *, where: str, folder: Path | None = None) -> ModelCard:
    """Build a card from JSON, checking names, types and ranges.

    Args:
        record: The card's JSON object. ``id`` may be left out if ``name`` is given.
        where: Named in errors: file and entry.
        folder: Folder that relative paths of the card refer to.

    Returns:
        The card.

    Raises:
        UsageError: Naming the field that is missing, unknown, of the wrong type or out of range.
    """
    if not isinstance(record, Mapping):
        raise UsageError("a card is a JSON object", where=where, hint=CARD_GUIDE)
    filled = {"provider": "local", "name": None, **record}
    filled["name"] = filled["name"] or (folder.name if folder else None) or "model"
    filled.setdefault("id", f"{filled['provider']}/{filled['name']}")
    card = typing.cast(ModelCard, _build(ModelCard, filled, where=where))
    _check(card, where)
    return replace(card, folder=None if folder is None else str(folder))


def load_card(path: Path) -> ModelCard:
    """Read one card file.

    Raises:
        UsageError: If the file is missing, not JSON or not a card.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError("no such card file", where=path, hint=CARD_GUIDE) from None
    except (ValueError, OSError, RecursionError) as error:
        raise UsageError(f"not a card: {error}", where=path, hint=CARD_GUIDE) from None
    return parse_card(record, where=str(path), folder=path.resolve().parent)


def _build(kind: type[Any], record: Any, *, where: str) -> Any:
    if not isinstance(record, Mapping):
        raise UsageError(f"expected an object, got {_shown(record)}", where=where, hint=CARD_GUIDE)
    known = {f.name: f for f in fields(kind) if f.name != "folder"}
    for name in record:
        if name not in known:
            error = unknown_id("field", name, known, listing="docs/cards.md")
            raise UsageError(error.what, where=where, hint=error.hint)
    missing = [
        name
        for name, item in known.items()
        if name not in record and item.default is MISSING and item.default_factory is MISSING
    ]
    if missing:
        raise UsageError(f"missing {', '.join(missing)}", where=where, hint=CARD_GUIDE)
    hints = _type_hints(typing.cast(Hashable, kind))
    values = {
        name: _convert(hints[name], value, where=f"{where}: {name}")
        for name, value in record.items()
    }
    return kind(**values)


@cache
def _type_hints(kind: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _convert(hint: Any, value: Any, *, where: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None:
        if types.NoneType in options:
            return None
        raise UsageError("must not be null", where=where, hint=CARD_GUIDE)
    for kind in options:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, Mapping):
            return _build(kind, value, where=where)
        if origin is tuple and isinstance(value, list | tuple):
            return tuple(_convert(arguments[0], item, where=where) for item in value)
        if kind is Any or (isinstance(kind, type) and _is_a(value, kind)):
            return _finite(value, where) if kind is float else value
        if origin is not None and isinstance(origin, type) and isinstance(value, origin):
            return value
    raise UsageError(f"wrong type: {_shown(value)}", where=where, hint=CARD_GUIDE)


def _shown(value: Any) -> str:
    return reprlib.repr(value)


def _finite(value: Any, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UsageError(f"not a finite number: {_shown(value)}", where=where, hint=CARD_GUIDE)
    return number


def _is_a(value: Any, kind: type[Any]) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _check(card: ModelCard, where: str) -> None:
    for find in (_input_problems, _weights_problems, _card_problems, _claim_problems):
        for problem in find(card):
            raise UsageError(problem, where=where, hint=CARD_GUIDE)
    try:
        canonical_json(card.to_json()).encode()
    except (ValueError, TypeError, RecursionError) as error:
        reason = f"holds what JSON cannot: {error}"
        raise UsageError(reason, where=where, hint=CARD_GUIDE) from None


def _card_problems(card: ModelCard) -> Iterator[str]:
    paper = card.publication or Publication()
    for name in ("id", "name", "provider"):
        if not _is_plain(getattr(card, name)):
            yield f"{name} must be plain words between slashes, without control characters or '..'"
    yield from _one_of("origin", card.origin, ORIGINS)
    yield from _one_of("status", card.status, STATUSES)
    yield from _one_of("publication.venue_type", paper.venue_type, (None, *VENUE_TYPES))
    if paper.year is not None and not 1900 < paper.year < 2100:
        yield "publication.year must lie in 1901 to 2099"
    if card.num_classes < 2:
        yield "num_classes must be at least 2"
    for name in ("params", "macs"):
        number = getattr(card, name)
        if number is not None and number <= 0:
            yield f"{name} must be positive; unknown is null"


def _is_plain(text: str) -> bool:
    """Whether an id can be looked up, printed and used as a file's name without harm."""
    parts = text.split("/")
    is_clean = text.isprintable() and "\\" not in text and len(text) <= MAX_ID
    return is_clean and not any(part.strip() in ("", ".", "..") for part in parts)


def _one_of(name: str, value: str | None, allowed: tuple[str | None, ...]) -> Iterator[str]:
    if value not in allowed:
        yield f"{name} must be one of {', '.join(word for word in allowed if word)}"


def _input_problems(card: ModelCard) -> Iterator[str]:
    spec = card.input
    low, high = min(spec.height, spec.width), max(spec.height, spec.width)
    if spec.channels not in (1, 3):
        yield "input.channels must be 1 or 3"
    if not 0 < low <= high <= MAX_SIDE:
        yield f"input.height and width must lie in 1 to {MAX_SIDE}"
    if spec.depth is not None and not 0 < spec.depth <= MAX_SIDE:
        yield f"input.depth must lie in 1 to {MAX_SIDE}"
    if spec.resize is not None and not high / 2 <= spec.resize <= MAX_SIDE:
        yield f"input.resize must lie between half the input's sides and {MAX_SIDE}"
    if not _fits(spec.mean, spec.channels):
        yield "input.mean needs one number a channel"
    if not _fits(spec.std, spec.channels) or any(number <= 0 for number in spec.std or ()):
        yield "input.std needs one positive number a channel"
    if spec.interpolation not in ("bilinear", "bicubic", "nearest"):
        yield "input.interpolation must be bilinear, bicubic or nearest"


def _weights_problems(card: ModelCard) -> Iterator[str]:
    weights = card.weights
    yield from _one_of("weights.checksum_of", weights.checksum_of, CHECKSUM_OF)
    yield from _one_of("weights.licence_source", weights.licence_source, (None, *LICENCE_SOURCES))
    if weights.bytes is not None and weights.bytes <= 0:
        yield "weights.bytes must be positive; unknown is null"
    if weights.checksum_of == "member" and weights.member is None:
        yield "weights.checksum_of is member, but no weights.member is named"
    if weights.licence_source == "unstated" and weights.licence not in (None, UNKNOWN_LICENCE):
        yield "weights.licence is given, but weights.licence_source says that nobody states one"


def _claim_problems(card: ModelCard) -> Iterator[str]:
    for claim in card.claims:
        is_share = any(word in claim.metric for word in SHARES)
        if is_share and not 0 <= claim.value <= 1:
            yield "accuracy claims must lie in [0, 1], and so must AUC and agreement"
        is_counted = claim.metric in NEVER_ZERO or claim.metric.startswith("paper_")
        if claim.value == 0 and (is_counted or "auc" in claim.metric):
            yield f"claim {claim.metric} is 0; a figure that is not known is left out"
        if claim.n is not None and claim.n <= 0:
            yield "claim.n must be positive; unknown is null"


def _fits(numbers: tuple[float, ...] | None, channels: int) -> bool:
    return numbers is None or len(numbers) == channels
