"""``securitynet train references``: trained once, and every later run uses them."""

import json

import pytest

from securitynet.cli.app import run_command
from securitynet.datasets.library import load_dataset
from securitynet.training.manifests import load_references

QUICK = ["--data", "digits", "--network", "mlp", "--epochs", "1", "--per-fold", "1"]


def test_references_are_trained_listed_and_found(capsys):
    assert run_command(["train", "references", *QUICK, "--json", "-q"]) == 0
    cards = json.loads(capsys.readouterr().out)
    found = load_references(load_dataset("digits"), "out")
    assert [card["name"] for card in cards] == [m.card.name for m in found.models]
    assert len(cards) == 2 and all(card["training"]["n_train"] == 600 for card in cards)


def test_what_is_said_to_a_person(capsys):
    assert run_command(["train", "references", *QUICK]) == 0
    said = capsys.readouterr()
    assert said.out.count("card.json  train 0.") == 2
    assert "securitynet run membership MODEL --data digits" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "x/y"], "--from"),
        (["--backdoor", "badnets"], "take no --from, --backdoor, --n-train or --dp-epsilon"),
        (["--n-train", "50"], "take no --from, --backdoor, --n-train or --dp-epsilon"),
        (["--dp-epsilon", "8"], "--n-train or --dp-epsilon"),
        (["--folds", "1"], "1 folds"),
        (["--kind", "in"], "'in'"),
        (["--kind", "online"], "even number"),
        (["--network", "cnn_smal"], "unknown architecture securitynet/cnn_smal"),
    ],
)
def test_what_makes_no_sound_references_is_refused(words, message, capsys):
    assert run_command(["train", "references", *QUICK, *words]) == 2
    assert message in capsys.readouterr().err


def test_references_need_a_data_set(capsys):
    assert run_command(["train", "references"]) == 2
    assert "no data set given" in capsys.readouterr().err
