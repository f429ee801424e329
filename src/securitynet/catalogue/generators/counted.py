"""Parameters and multiply-accumulates that no source states, counted on the built networks.

The table is written by ``python -m securitynet.targets.costs``, which builds every network that it
counts; it is read here without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files

from securitynet.catalogue.generators.counting import Count
from securitynet.catalogue.schema import ModelCard

TABLE = "costs.tsv"


@cache
def table() -> Mapping[str, Count]:
    """Return a card's id -> what its network holds and costs at the card's input size."""
    text = files("securitynet.catalogue").joinpath("data", TABLE).read_text(encoding="utf-8")
    lines = (line.split("\t") for line in text.splitlines())
    return {name: Count(int(params), int(macs)) for name, params, macs in lines}


def with_costs(card: ModelCard) -> ModelCard:
    """Fill in what the card's own source does not state."""
    count = table().get(card.id)
    if count is None:
        return card
    params = count.params if card.params is None else card.params
    return replace(card, params=params, macs=count.macs if card.macs is None else card.macs)
