"""Every card's architecture is built from the card alone, without weights, on no device."""

import hashlib
from collections import Counter

import pytest
import torch

from securitynet.catalogue.database import all_cards
from securitynet.errors import UsageError
from securitynet.targets.architectures import n_parameters
from securitynet.targets.build import build_module
from securitynet.targets.left_out import REASONS, why_not

SHARE = 20  # one card in twenty in the default tier
MANY = 150_000_000
UNEQUAL = ("pytorchcv/xdensenet40_",)
"""Its table counts the used connections only; the module keeps masked ones."""


def is_sampled(card):
    return int(hashlib.sha256(card.id.encode()).hexdigest()[:8], 16) % SHARE == 0


def built(card):
    """Build on the meta device; torchvision's RegNets compute with numbers while they are built."""
    try:
        with torch.device("meta"):
            return build_module(card)
    except UsageError as error:
        if "meta tensor" not in error.what or (card.params or 0) > MANY:
            raise
    return build_module(card)


def failures(cards):
    """Return what is wrong with each card that does not give the module it promises."""
    wrong = {}
    for card in cards:
        try:
            n_params = n_parameters(built(card))
        except UsageError as error:
            if "meta tensor" not in error.what:
                wrong[card.id] = error.what
            continue
        if card.params not in (None, n_params) and not card.id.startswith(UNEQUAL):
            wrong[card.id] = f"{n_params:,} parameters instead of {card.params:,}"
    return wrong


def loadable():
    return [card for card in all_cards() if why_not(card) is None]


def test_a_share_of_the_cards_is_built():
    cards = [card for card in loadable() if is_sampled(card)]
    large = [card for card in cards if card.architecture and "regnet" in str(card.architecture)]
    light = [card for card in cards if card not in large or (card.params or 0) < 3e7]
    assert len(light) > 0.8 * len(loadable()) / SHARE
    assert failures(light) == {}


@pytest.mark.long
def test_every_card_is_built():
    assert failures(loadable()) == {}


def test_what_is_left_out_is_little_and_says_why():
    left_out = {card.id: why_not(card) for card in all_cards() if why_not(card) is not None}
    assert all(len(reason) > 20 for reason in left_out.values())
    places = Counter(name.split("/")[0] for name in left_out)
    assert set(places) <= {"robustbench"}
    assert sum(places.values()) <= 12
    assert {reason for _, reason in REASONS} >= set(left_out.values())
