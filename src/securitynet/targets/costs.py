"""What a network holds and what one prediction costs, counted without memory for its weights.

``python -m securitynet.targets.costs`` writes the table of what no source states; it takes half an
hour. Multiply-accumulates are those of convolutions, linear layers and products of matrices.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from securitynet.catalogue.cards import ModelCard
from securitynet.catalogue.generators.counted import TABLE, table
from securitynet.catalogue.generators.counting import Count
from securitynet.errors import UsageError
from securitynet.targets.architectures import n_parameters
from securitynet.targets.build import build_module
from securitynet.targets.left_out import why_not


def cost(card: ModelCard) -> Count:
    """Count a card's network on one input of the card's size.

    Raises:
        UsageError: If the network cannot be built.
    """
    try:
        return _counted(card, torch.device("meta"))
    except (UsageError, RuntimeError):  # it computes with numbers while it is built or run
        return _counted(card, torch.device("cpu"))


def _counted(card: ModelCard, device: torch.device) -> Count:
    spec = card.input
    sides = (spec.height, spec.width) if spec.depth is None else (
        spec.depth, spec.height, spec.width,
    )  # fmt: skip
    with device, torch.no_grad(), FlopCounterMode(display=False) as flops:
        module = build_module(card).eval()
        module(torch.zeros(1, spec.channels, *sides))
    return Count(n_parameters(module), flops.get_total_flops() // 2)


def lines(cards: Iterable[ModelCard]) -> Iterator[str]:
    """Yield the lines of the table: those of cards that lack a figure, or have it from here."""
    for card in cards:
        is_open = card.params is None or card.macs is None or card.id in table()
        if is_open and why_not(card) is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                count = cost(card)
            sys.stderr.write(f"{card.id}: {count}\n")
            yield f"{card.id}\t{count.params}\t{count.macs}\n"


def main() -> None:
    """Write the table."""
    from securitynet.catalogue.database import all_cards

    path = Path(str(files("securitynet.catalogue").joinpath("data", TABLE)))
    path.write_text("".join(lines(all_cards())), encoding="utf-8")


if __name__ == "__main__":
    main()
