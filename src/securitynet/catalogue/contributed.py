"""Contributed cards: one JSON file a model in ``data/community/``, checked rule by rule. No torch.

`problems` says in one line each why a card cannot be taken; CI runs it on every file there, and
``securitynet add model CARD.json`` on a contributor's machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from securitynet.catalogue.cards import Claim, ModelCard, parse_card
from securitynet.catalogue.datasets import known_datasets
from securitynet.catalogue.hub_rows import SPDX
from securitynet.catalogue.schema import UNKNOWN_LICENCE
from securitynet.catalogue.sources import SOURCES, source_key
from securitynet.catalogue.tables import data_folder, rows
from securitynet.errors import SecurityNetError, unknown_id
from securitynet.files.download import check_url, unreachable

PROVIDER = "community"
NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9.]+)*")
SHA256 = re.compile(r"[0-9a-f]{64}")
READ_SOURCES = ("hub", "code", "file")
"""Licences that somebody read somewhere; a presumed one is not enough for a contribution."""


def contributed_files() -> list[Path]:
    """Return the card files that ship with the package, in order of their names."""
    folder = Path(str(data_folder())) / PROVIDER
    return sorted(folder.glob("*.json"))


def problems(path: Path, *, with_links: bool = False) -> list[str]:
    """Return why a card file cannot be taken, a line each; nothing if it can.

    Args:
        path: The card file; its name is the card's.
        with_links: Ask every address of the card whether it is there.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        card = parse_card(record, where=path.name)
    except SecurityNetError as error:
        return [f"{error.where}: {error.what}"]
    except (OSError, ValueError, RecursionError) as error:
        return [f"{path.name}: not JSON: {' '.join(str(error).split())}"]
    found = [*_name(card, path, record), *_data(card), *_weights(card), *_claims(card)]
    if with_links:
        found += _dead_links(card)
    return [f"{path.name}: {problem}" for problem in found]


def _name(card: ModelCard, path: Path, record: Mapping[str, Any]) -> Iterator[str]:
    if not NAME.fullmatch(path.stem):
        yield "the file's name may have small letters, digits, dots and hyphens only"
    wanted = f"{PROVIDER}/{path.stem}"
    if (card.id, card.provider, card.name) != (wanted, PROVIDER, path.stem):
        yield f"id must be {wanted}, provider {PROVIDER} and name {path.stem}, as the file's name"
    if card.id in _taken(path):
        yield f"id {card.id} is taken by another model"
    digest = card.weights.checksum
    twin = next((row["id"] for row in _others(path) if row["weights"]["checksum"] == digest), None)
    if digest and twin:
        yield f"the weights are those of {twin}: add an alias there instead"


def _others(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the catalogue's rows, that of this very file left out."""
    is_shipped = path.resolve() in {file.resolve() for file in contributed_files()}
    own = f"{PROVIDER}/{path.stem}"
    yield from (row for row in rows() if not (is_shipped and row["id"] == own))


def _taken(path: Path) -> set[str]:
    return {name for row in _others(path) for name in (row["id"], *row["aliases"])}


def _data(card: ModelCard) -> Iterator[str]:
    known = known_datasets()
    facts = known.get(card.dataset)
    if facts is None:
        yield _unknown("data set", card.dataset, known)
    elif facts["n_classes"] not in (None, card.num_classes):
        yield f"num_classes is {card.num_classes}, but {card.dataset} has {facts['n_classes']}"


def _weights(card: ModelCard) -> Iterator[str]:
    weights = card.weights
    if weights.path is not None or not weights.url:
        yield "weights.url must be the file's public address, and weights.path be left out"
    for url in filter(None, (weights.url, *weights.mirrors)):
        yield from _address("weights.url", url)
    if weights.checksum_algorithm != "sha256" or not SHA256.fullmatch(str(weights.checksum)):
        yield "weights.checksum must be the whole sha256 in small letters"
    if weights.licence in (None, UNKNOWN_LICENCE):
        yield "weights.licence is not known: ask the author before contributing the card"
    elif weights.licence not in licences():
        yield _unknown("licence", str(weights.licence), licences())
    if weights.licence_source not in READ_SOURCES:
        yield f"weights.licence_source must be one of {', '.join(READ_SOURCES)}"


def licences() -> set[str]:
    """Return the licences that a card may name: common SPDX ids, and those of the catalogue."""
    used = {row["weights"]["licence"] for row in rows() if row["provider"] != PROVIDER}
    return (used | set(SPDX.values())) - {None, UNKNOWN_LICENCE}


def _claims(card: ModelCard) -> Iterator[str]:
    for claim in card.claims:
        if source_key(claim.source) not in SOURCES:
            yield from _address(f"the source of claim {claim.metric}", claim.source)
    if _is_twice(card.claims):
        yield "a metric is claimed twice with the same source"


def _is_twice(claims: Iterable[Claim]) -> bool:
    keys = [(claim.metric, claim.source, claim.img_size) for claim in claims]
    return len(set(keys)) < len(keys)


def _address(what: str, url: str) -> Iterator[str]:
    try:
        check_url(url)
    except SecurityNetError:
        yield f"{what} must be an https address, not {url[:60]!r}"


def _dead_links(card: ModelCard) -> Iterator[str]:
    weights, paper = card.weights, card.publication
    named = [weights.url, *weights.mirrors, paper.url if paper else None]
    named += [claim.source for claim in card.claims if "://" in claim.source]
    for url in dict.fromkeys(filter(None, named)):
        reason = unreachable(url)
        if reason is not None:
            yield f"dead link: {url}: {reason}"


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    error = unknown_id(kind, name, known, listing="docs/catalogue.md")
    return f"{error.what}; {error.hint}"
