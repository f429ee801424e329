"""Published models that cannot be loaded, and why. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping

from securitynet.catalogue.cards import ModelCard

ENSEMBLE = "an ensemble of networks, each in a file of its own: a card names one file"
MIXED = "it mixes the outputs of two networks, each in a file of its own: a card names one file"
SOLVER = "its features are the solution of a differential equation, for which no solver is here"
OUTSIDE = "its network is defined only in its authors' own code, which is not executed here"

REASONS: tuple[tuple[str, str], ...] = (
    ("robustbench/(.*_deck|resnet_50)", ENSEMBLE),
    ("robustbench/(resnet_152_|convnextv2_).*", MIXED),
    ("robustbench/.*_neural_ode_block", SOLVER),
    ("robustbench/.*", OUTSIDE),
)
"""Pattern of a card's architecture -> why no module is built from it; the first one counts."""
UNPUBLISHED = "nobody published its weights"


def why_not(card: ModelCard) -> str | None:
    """Return why a card's model cannot be loaded, or ``None`` if nothing is known against it."""
    architecture = card.architecture
    named = architecture.get("name") if isinstance(architecture, Mapping) else architecture
    for pattern, reason in REASONS:
        if isinstance(named, str) and re.fullmatch(pattern, named):
            return reason
    has_weights = card.weights.url is not None or card.weights.path is not None
    return None if has_weights or card.status != "no-weights" else UNPUBLISHED
