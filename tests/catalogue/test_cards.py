import json

import pytest

from securitynet.catalogue.cards import load_card, parse_card
from securitynet.catalogue.database import all_cards, find_card, select
from securitynet.errors import UsageError

GOOD = {
    "name": "mine",
    "dataset": "digits",
    "num_classes": 10,
    "architecture": ["flatten", {"linear": [64, 10]}],
    "input": {"channels": 1, "height": 8, "width": 8},
    "weights": {"path": "model.pth"},
}


def test_the_twelve_community_models_are_whole():
    cards = [card for card in all_cards() if card.provider == "community"]
    assert len(cards) == 12
    for card in cards:
        record = card.to_json()
        for name in ("id", "dataset", "num_classes", "family", "architecture", "params", "origin"):
            assert record[name] is not None, (card.id, name)
        assert len(record["weights"]["checksum"]) == 64
        assert record["weights"]["checksum_algorithm"] == "sha256"
        assert record["weights"]["url"].startswith("https://")
        assert record["weights"]["licence"]
        assert record["publication"]["title"] and record["publication"]["year"]


def test_cards_survive_json():
    for card in all_cards():
        text = json.dumps(card.to_json())
        assert parse_card(json.loads(text), where="x") == card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": 3}, "dataset: wrong type"),
        ({"num_classes": 1}, "num_classes must be at least 2"),
        ({"num_classes": None}, "num_classes: must not be null"),
        ({"input": {"channels": 2, "height": 8, "width": 8}}, "channels must be 1 or 3"),
        ({"input": {"channels": 1, "height": 8}}, "missing width"),
        ({"input": {"channels": 1, "height": 8, "width": 8, "mean": [0.1, 0.2]}}, "input.mean"),
        ({"origin": "elsewhere"}, "origin must be one of"),
        ({"claims": [{"metric": "test_accuracy", "value": 91.7, "source": "x"}]}, r"\[0, 1\]"),
        ({"nmae": "x"}, "unknown field 'nmae'"),
        ({"id": "local/../../etc/x"}, "id must be plain words"),
        ({"id": "/etc/passwd"}, "id must be plain words"),
        ({"id": "local/x\x1b[2J"}, "id must be plain words"),
        ({"id": "local/evil\u202egnp"}, "id must be plain words"),
        ({"id": "a/" + "x" * 400}, "id must be plain words"),
        ({"id": "local/x", "name": "..\\x"}, "name must be plain words"),
        ({"id": "local/x", "provider": ".."}, "provider must be plain words"),
    ],
)
def test_malformed_cards_name_the_field(change, message):
    with pytest.raises(UsageError, match=message):
        parse_card({**GOOD, **change}, where="card.json")


def test_card_files(tmp_path):
    path = tmp_path / "card.json"
    with pytest.raises(UsageError, match="no such card file"):
        load_card(path)
    path.write_text("{")
    with pytest.raises(UsageError, match="not a card"):
        load_card(path)
    path.write_text(json.dumps(GOOD))
    assert find_card(str(path)).id == "local/mine"
    assert find_card(str(tmp_path)).folder == str(tmp_path)
    checkpoint = tmp_path / "model.pth"
    checkpoint.write_bytes(b"x")
    with pytest.raises(UsageError, match="needs a card file"):
        find_card(str(checkpoint))


def test_filters():
    rows = [card.to_json() for card in all_cards() if card.provider == "community"]
    assert len(list(select(rows, ["dataset=MNIST"]))) == 4
    assert len(list(select(rows, ["dataset=cifar10", "family=resnet"]))) == 4
    assert len(list(select(rows, ["weights.licence=mit"]))) == 4
    with pytest.raises(UsageError, match="unknown field"):
        list(select(rows, ["datset=mnist"]))
    with pytest.raises(UsageError, match="not FIELD=VALUE"):
        list(select(rows, ["mnist"]))
