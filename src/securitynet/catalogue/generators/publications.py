"""Which work published a family of networks: a table checked by hand against the packages."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any, cast

from securitynet.catalogue.schema import Publication
from securitynet.catalogue.tables import data_folder

FIVE_DIGITS = len("1501.00001")
"""arXiv's numbers have five digits since 2015."""


@cache
def _table() -> dict[str, Any]:
    text = data_folder().joinpath("publications.json").read_text(encoding="utf-8")
    return cast(dict[str, Any], json.loads(text))


def work(key: str) -> Publication:
    """Return a work by its key in the table."""
    return _publication(_table()["works"][key])


def _publication(record: dict[str, Any]) -> Publication:
    """Return a record without the places where its parts were read."""
    known = {name: value for name, value in record.items() if name != "sources"}
    for name in ("authors", "countries"):
        if name in known:
            known[name] = tuple(known[name])
    return Publication(**known)


def completed(known: Publication) -> Publication:
    """Add what the table holds of a work that a provider names, by its number or address.

    A venue replaces that of a preprint only.
    """
    found = _table()["additions"].get(known.arxiv or known.doi or known.url)
    if found is None:
        return known
    more = _publication(found)
    base = more if more.venue and known.venue_type in (None, "preprint") else known
    return replace(
        known,
        venue=base.venue,
        venue_type=base.venue_type,
        year=base.year,
        arxiv=known.arxiv or more.arxiv,
        url=None if more.arxiv else known.url,
        countries=known.countries or more.countries,
    )


def by_arxiv(number: str) -> Publication | None:
    """Return the work with an arXiv number; zeros that a spreadsheet cut off may be missing."""
    padded = number.ljust(FIVE_DIGITS, "0") if number >= "1501" else number
    for key, record in _table()["works"].items():
        if record.get("arxiv") in (number, padded):
            return work(key)
    return None


def by_family(provider: str, name: str) -> Publication | None:
    """Return the work that belongs to the longest known beginning of a model's name."""
    rules = _table()["families"][provider]
    fitting = [start for start in rules if name.startswith(start)]
    key = rules[max(fitting, key=len)] if fitting else None
    return None if key is None else work(key)


def by_timm_tag(name: str) -> Publication | None:
    """Return the work that published a way of training, if the tag of a model's name tells one.

    A rule is the beginning of the names that it holds for, a part of the tag, and a work.
    """
    tag = name.partition(".")[2]
    rules = _table()["timm_tags"]
    found = [key for start, part, key in rules if name.startswith(start) and part in tag]
    return work(found[0]) if found else None
