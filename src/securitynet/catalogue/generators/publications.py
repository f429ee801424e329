"""Which work published a family of networks: a table checked by hand against the packages."""

from __future__ import annotations

import json
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
    record = dict(_table()["works"][key])
    for name in ("authors", "countries"):
        if name in record:
            record[name] = tuple(record[name])
    return Publication(**record)


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


def by_timm_tag(tag: str) -> Publication | None:
    """Return the work that published a way of training, if the tag names one."""
    found = [key for part, key in _table()["timm_tags"].items() if part in tag]
    return work(found[0]) if found else None
