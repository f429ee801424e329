"""What no card may say: figures out of range, 0 for unknown, words outside the lists."""

import pytest

from securitynet.catalogue.cards import parse_card
from securitynet.errors import UsageError

CARD = {
    "name": "mine",
    "dataset": "digits",
    "num_classes": 10,
    "architecture": "timm/resnet18",
    "input": {"channels": 1, "height": 8, "width": 8},
    "weights": {"path": "model.pth"},
}


def claim(metric, value, **more):
    return {"claims": [{"metric": metric, "value": value, "source": "x", **more}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (claim("test_accuracy", 91.7), r"\[0, 1\]"),
        (claim("paper_mia_correct_auc", 1.2), r"\[0, 1\]"),
        (claim("paper_steal_agreement", -0.1), r"\[0, 1\]"),
        (claim("test_accuracy", 0), "test_accuracy is 0"),
        (claim("train_accuracy", 0.0), "train_accuracy is 0"),
        (claim("paper_mia_correct_auc", 0), "auc is 0"),
        (claim("paper_steal_wrn_accuracy", 0), "accuracy is 0"),
        (claim("test_accuracy", 0.9, n=0), "claim.n must be positive"),
        (claim("test_accuracy", None), "must not be null"),
        ({"params": 0}, "params must be positive"),
        ({"macs": 0}, "macs must be positive"),
        ({"weights": {"bytes": 0}}, "bytes must be positive"),
        ({"status": "fine"}, "status must be one of"),
        ({"origin": "mars"}, "origin must be one of"),
        ({"publication": {"venue_type": "vision"}}, "venue_type must be one of security, ml"),
        ({"publication": {"year": 0}}, "year must lie"),
        ({"weights": {"licence_source": "hearsay"}}, "licence_source must be one of"),
        ({"weights": {"licence": "MIT", "licence_source": "unstated"}}, "nobody states one"),
        ({"weights": {"checksum_of": "zip"}}, "checksum_of must be one of"),
        ({"weights": {"checksum_of": "member"}}, "no weights.member"),
        ({"input": {"channels": 1, "height": 8, "width": 8, "depth": 0}}, "depth must lie"),
    ],
)
def test_it_is_refused_by_name(change, message):
    with pytest.raises(UsageError, match=message):
        parse_card({**CARD, **change}, where="card.json")


@pytest.mark.parametrize(
    "change",
    [
        claim("robust_accuracy", 0),
        claim("paper_mia_correct_auc", 1),
        {"pretraining": []},
        {"pretraining": None},
        {"weights": {"licence": "unknown", "licence_source": "unstated"}},
        {"input": {"channels": 1, "height": 8, "width": 8, "depth": 8}},
        {"aliases": ["hub/mine"], "run": "2", "flags": ["dead-link"], "code_licence": "MIT"},
        {"publication": {"authors": ["A B"], "doi": "10.1/2", "url": "https://example.org"}},
    ],
)
def test_it_is_a_card_and_survives_json(change):
    card = parse_card({**CARD, **change}, where="card.json")
    assert parse_card(card.to_json(), where="again") == card


def test_no_pre_training_differs_from_unknown_pre_training():
    assert parse_card({**CARD, "pretraining": []}, where="x").pretraining == ()
    assert parse_card(CARD, where="x").pretraining is None


def test_a_picture_is_what_it_was_before_there_were_volumes():
    """Results are kept under fingerprints; a new field that is not used must not change them."""
    from securitynet.records import fingerprint

    card = parse_card(CARD, where="x")
    first = ("channels", "height", "width", "mean", "std", "resize", "interpolation")
    spec = {name: card.to_json()["input"][name] for name in first}
    assert card.model_fingerprint("0") == fingerprint(["0", card.architecture, spec])
    volume = parse_card({**CARD, "input": {**CARD["input"], "depth": 8}}, where="x")
    assert volume.model_fingerprint("0") != card.model_fingerprint("0")
