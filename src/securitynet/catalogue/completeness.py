"""How complete the database is: which share of its rows has each fact. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from securitynet.catalogue.schema import UNKNOWN_LICENCE
from securitynet.catalogue.tables import Row

ACCURACIES = ("test_accuracy", "test_top5_accuracy")


def _has(name: str, part: str | None = None) -> Callable[[Row], bool]:
    """Return the check whether a row has a field, or a field of one of its parts."""

    def check(row: Row) -> bool:
        value = row[name]
        return value is not None and (part is None or value[part] is not None)

    return check


def _has_accuracy(row: Row) -> bool:
    return any(claim["metric"] in ACCURACIES for claim in row["claims"])


def _is_pinned(row: Row) -> bool:
    weights = row["weights"]
    return bool(weights["checksum"] or weights["revision"])


def _is_licence_stated(row: Row) -> bool:
    return row["weights"]["licence"] not in (None, UNKNOWN_LICENCE)


FACTS: dict[str, Callable[[Row], bool]] = {
    "data set": _has("dataset"),
    "classes": _has("num_classes"),
    "family": _has("family"),
    "architecture": _has("architecture"),
    "parameters": _has("params"),
    "input": _has("input"),
    "origin": _has("origin"),
    "address of the weights": _has("weights", "url"),
    "checksum": _has("weights", "checksum"),
    "checksum or revision": _is_pinned,
    "licence looked up": _has("weights", "licence_source"),
    "licence stated or presumed": _is_licence_stated,
    "publication": _has("publication"),
    "publication: arXiv number": _has("publication", "arxiv"),
    "publication: authors": _has("publication", "authors"),
    "publication: countries": _has("publication", "countries"),
    "accuracy claimed": _has_accuracy,
    "pre-training": _has("pretraining"),
    "multiply-accumulates": _has("macs"),
    "file size": _has("weights", "bytes"),
}
"""Fact -> whether a row has it."""


def fill_rates(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Count, for every fact, the rows that have it: of each provider and of all (``total``).

    Returns:
        One record a fact: ``fact`` and, by provider, ``n`` and ``share`` in [0, 1].
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["provider"], []).append(row)
    named = {**dict(sorted(groups.items())), "total": [row for g in groups.values() for row in g]}
    return [
        {"fact": fact, **{name: _filled(group, check) for name, group in named.items()}}
        for fact, check in FACTS.items()
    ]


def _filled(rows: list[Row], check: Callable[[Row], bool]) -> dict[str, Any]:
    n = sum(map(check, rows))
    return {"n": n, "share": n / len(rows) if rows else None}


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """Return the number of rows of each provider, and of all (``total``)."""
    found = Counter(row["provider"] for row in rows)
    return {**dict(sorted(found.items())), "total": found.total()}


def states(rows: Iterable[Row], tried: Iterable[tuple[str, bool, bool]]) -> dict[str, int]:
    """Return how many models are catalogued, have verified bytes, and are evaluated.

    Args:
        rows: The catalogue.
        tried: Model id, whether the result is fine, and whether a checksum vouched for the
            bytes, of each record of a store.
    """
    known = {name: row["id"] for row in rows for name in (row["id"], *row["aliases"])}
    verified = {row["id"] for row in rows if row["status"] in ("verified", "evaluated")}
    evaluated = {row["id"] for row in rows if row["status"] == "evaluated"}
    for model, is_fine, is_verified in tried:
        if model in known and is_fine:
            evaluated.add(known[model])
            if is_verified:
                verified.add(known[model])
    return {
        "catalogued": len(set(known.values())),
        "verified": len(verified),
        "evaluated": len(evaluated),
    }
