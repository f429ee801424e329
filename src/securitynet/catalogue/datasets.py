"""What is known of the data sets that models were trained on. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from securitynet.catalogue.tables import data_folder


@cache
def known_datasets() -> Mapping[str, Mapping[str, Any]]:
    """Return the table of data sets: id -> facts, unknown is ``None``.

    The facts are ``id``, ``title``, ``version``, ``n_classes``, ``n_train``, ``n_val``,
    ``n_test``, ``licence``, ``gated`` (its owner asks for consent before a download),
    ``modality``, ``dims`` (``2d`` or ``3d``) and ``source_url``.
    """
    text = data_folder().joinpath("datasets.json").read_text(encoding="utf-8")
    found = {record["id"]: MappingProxyType(record) for record in json.loads(text)}
    return MappingProxyType(found)


def sizes_in_words(name: str) -> str | None:
    """Return a data set's sizes as a reader would say them, ``None`` if it is not in the table."""
    facts = known_datasets().get(name)
    if facts is None:
        return None
    parts = [
        f"{facts[f'n_{split}']:,} {word}"
        for split, word in (("train", "to train"), ("val", "to validate"), ("test", "to test"))
        if facts[f"n_{split}"] is not None
    ]
    gate = ["its owner asks for consent first"] if facts["gated"] else []
    return ", ".join([str(facts["title"]), *parts, *gate])
