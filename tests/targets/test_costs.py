"""Counted parameters and multiply-accumulates: against published ones, and against the table."""

import hashlib

import pytest

from securitynet.catalogue.database import all_cards, find_card
from securitynet.catalogue.generators.counted import table, with_costs
from securitynet.targets import costs
from securitynet.targets.costs import cost, lines

LIGHT = 30_000_000


@pytest.mark.parametrize(
    ("name", "gigas"),
    # What torchvision and timm publish for the same networks.
    [
        ("torchvision/resnet18.IMAGENET1K_V1", 1.814),
        ("torchvision/resnet50.IMAGENET1K_V1", 4.089),
        ("torchvision/mobilenet_v2.IMAGENET1K_V1", 0.301),
        ("timm/swin_tiny_patch4_window7_224.ms_in1k", 4.51),
        ("timm/convnext_tiny.fb_in1k", 4.47),
    ],
)
def test_counts_are_the_published_ones(name, gigas):
    card = find_card(name)
    count = cost(card)
    assert count.params == card.params
    assert count.macs / 1e9 == pytest.approx(gigas, rel=0.006)
    assert card.macs / 1e9 == pytest.approx(gigas, rel=0.006)


def test_the_table_is_what_is_counted():
    cards = [card for card in all_cards() if card.id in table() and card.params < LIGHT]
    cards.sort(key=lambda card: hashlib.sha256(card.id.encode()).hexdigest())
    sample = cards[:12]
    assert len(cards) > 400
    found = dict(line.rstrip("\n").split("\t", 1) for line in lines(sample))
    expected = {card.id: "{}\t{}".format(*table()[card.id]) for card in sample}
    assert found == expected


def test_every_line_of_the_table_is_of_a_card_and_fills_it():
    cards = {card.id: card for card in all_cards()}
    assert set(table()) <= set(cards)
    assert all(cards[name].macs == count.macs for name, count in table().items())


def test_a_source_keeps_its_own_figures():
    card = find_card("pytorchcv/xdensenet40_2_k24_bc_cifar10")
    assert with_costs(card) == card  # its source counts the used connections only
    assert card.params != table()[card.id].params


def test_only_what_lacks_a_figure_is_counted(card_of, monkeypatch):
    monkeypatch.setattr(costs, "table", dict)
    known = card_of(architecture="securitynet/cifar_resnet20_a", params=269_722, macs=1)
    assert list(lines([known])) == []
    unknown = card_of(architecture="securitynet/cifar_resnet20_a")
    assert [line.split("\t")[1] for line in lines([unknown])] == ["269722"]
