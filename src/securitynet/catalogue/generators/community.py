"""Single checkpoints of their authors: a table kept by hand, written in the common form."""

from __future__ import annotations

import json
from pathlib import Path

from securitynet.catalogue.cards import ModelCard, parse_card
from securitynet.catalogue.tables import stored_text
from securitynet.errors import ResourceError


def generate(facts: Path | None) -> list[ModelCard]:
    """Return the cards of the table as it stands."""
    text = stored_text("community")
    if text is None:
        raise ResourceError("there is no table of community models")
    return [parse_card(json.loads(line), where="community") for line in text.splitlines()]
