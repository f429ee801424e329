"""The official MedMNIST weights: 252 members of 18 archives, and parameter counts by arithmetic."""

import json
from collections import Counter

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from securitynet.catalogue.cards import parse_card
from securitynet.catalogue.generate import finished
from securitynet.catalogue.generators import counting, medmnist
from securitynet.catalogue.tables import rows
from securitynet.targets.build import build_module

CARDS = {card.id: card for card in finished(medmnist.generate(None))}
OURS = ("medmnist", "robustbench", "robust-models-transfer", "ivrl")


def test_twelve_weights_a_set_of_pictures_and_eighteen_a_set_of_volumes():
    n_weights = Counter(card.id.split("/")[1] for card in CARDS.values())
    assert {n_weights[flag] for flag in medmnist.N_CLASSES} == {12}
    assert {n_weights[flag] for flag in medmnist.N_CLASSES_3D} == {18}
    assert len(CARDS) == 12 * 12 + 6 * 18


def test_weights_are_members_of_the_archive_of_weights_not_of_data():
    card = CARDS["medmnist/organamnist/resnet50_224_3"]
    assert card.weights.url.startswith("https://zenodo.org/records/7782114/files/weights_organam")
    assert (card.weights.member, card.weights.state_key) == ("resnet50_224_3.pth", "net")
    assert (card.dataset, card.run) == ("organamnist-v2", "3")
    assert card.architecture == "torchvision/resnet50"
    assert (card.input.height, card.input.resize, card.input.interpolation) == (
        224,
        None,
        "nearest",
    )


def test_what_is_known_of_an_archive_is_said_to_be_of_the_file():
    known = [card for card in CARDS.values() if card.weights.checksum]
    assert Counter(card.dataset for card in known) == {"pathmnist": 12, "pneumoniamnist": 12}
    assert {card.weights.checksum_of for card in known} == {"file"}


def test_volumes_have_depth_and_shapes_are_halved():
    volume = CARDS["medmnist/organmnist3d/resnet18_2.5D_1"]
    assert volume.input.depth == 28
    assert volume.input.std is None
    assert volume.flags == ("3d", "claim-below-published", "implausible-claim")
    shape = CARDS["medmnist/vesselmnist3d/resnet18_acs_1"]
    assert shape.input.std == (2.0, 2.0, 2.0)
    assert shape.architecture["options"] == {"convolution": "acs"}


def test_published_accuracies_are_of_large_pictures_and_the_same_for_all_runs():
    claimed = {
        name: [(claim.value, claim.source) for claim in card.claims]
        for name, card in CARDS.items()
        if any(claim.source.startswith("medmnist") for claim in card.claims)
    }
    assert len(claimed) == 6 * 2 * 3 and all("_224_" in name for name in claimed)
    (one,) = claimed["medmnist/pathmnist/resnet50_224_2"]
    assert one == (0.892, "medmnist:table 3, mean of three runs")
    assert claimed["medmnist/retinamnist/resnet18_224_1"][0][0] == 0.493


def test_several_labels_at_once_are_flagged():
    flagged = {card.id.split("/")[1] for card in CARDS.values() if "multi-label" in card.flags}
    assert flagged == {"chestmnist"}


def one_a_network(*, has_classes):
    """Return one card each for the networks that can be built here, for each number of classes."""
    found = {}
    for row in rows():
        if row["provider"] in OURS and "robustbench/" not in json.dumps(row["architecture"]):
            n_classes = row["num_classes"] if has_classes else None
            found.setdefault(json.dumps([row["architecture"], n_classes]), row)
    return list(found.values())


SMALL = [
    row for row in one_a_network(has_classes=False)
    if (row["params"] or 0) < 30_000_000 and "securitynet/" in json.dumps(row["architecture"])
]  # fmt: skip


def assert_counted(row):
    """Build the network without memory and compare its size with the table's."""
    card = parse_card({k: v for k, v in row.items() if k != "source"}, where=row["id"])
    spec = card.input
    sides = (spec.height, spec.width) if spec.depth is None else (spec.depth,) + 2 * (spec.height,)
    with torch.device("meta"), FlopCounterMode(display=False) as flops, torch.no_grad():
        built = build_module(card).eval()
        built(torch.empty(1, spec.channels, *sides))
    assert sum(parameter.numel() for parameter in built.parameters()) == card.params
    assert flops.get_total_flops() // 2 == card.macs


@pytest.mark.parametrize("row", SMALL, ids=lambda row: row["id"])
def test_counts_are_those_of_the_built_networks(row):
    assert_counted(row)


@pytest.mark.long
@pytest.mark.parametrize("row", one_a_network(has_classes=True), ids=lambda row: row["id"])
def test_counts_are_those_of_all_built_networks(row):
    assert_counted(row)


@pytest.mark.long
def test_counts_of_libraries_need_no_memory():
    assert counting.named("torchvision", "resnet50", 1000).params == 25_557_032
    assert counting.named("timm", "resnet18", 10).params == 11_181_642
    assert counting.named("torchvision", "resnet18", 7) == counting.imagenet_resnet(18, 7)
