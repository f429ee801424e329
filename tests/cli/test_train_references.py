"""``securitynet train references``: trained once, and every later run uses them."""

import json

import numpy as np
import pytest

from securitynet.cli.app import run_command
from securitynet.datasets.images import make_audit
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
        (["--from", "x/y"], "references take no --from"),
        (["--backdoor", "badnets", "--n-train", "50"], "take no --backdoor or --n-train"),
        (["--dp-epsilon", "8"], "references take no --dp-epsilon"),
        (["--name", "mine", "--out", "here"], "take no --name or --out"),
        (["--seeds", "0-4"], "5 seeds for one set of references"),
        (["--kind", "online", "--folds", "2"], "online references have no --folds"),
        (["--folds", "1"], "1 folds"),
        (["--kind", "in"], "'in'"),
        (["--kind", "online"], "even number"),
        (["--network", "cnn_smal"], "unknown architecture securitynet/cnn_smal"),
    ],
)
def test_what_makes_no_sound_references_is_refused(words, message, capsys):
    assert run_command(["train", "references", *QUICK, *words]) == 2
    assert message in capsys.readouterr().err


def test_a_list_for_references_that_share_nothing_out_is_refused(tmp_path, capsys):
    listed = tmp_path / "mine.txt"
    listed.write_text("train:3\n")
    assert run_command(["train", "references", *QUICK, "--also", str(listed)]) == 2
    assert "--also goes with --kind online" in capsys.readouterr().err


def test_online_references_share_out_the_audit_and_the_listed_images(tmp_path, capsys):
    digits = load_dataset("digits")
    np.save(tmp_path / "a.npy", digits.train.indices[:9])
    (tmp_path / "b.txt").write_text("train:3\ntest:1100\n")
    also = ["--also", str(tmp_path / "a.npy"), "--also", str(tmp_path / "b.txt")]
    words = ["train", "references", *QUICK, "--kind", "online", "--per-fold", "2", *also]
    assert run_command(words) == 0
    said = capsys.readouterr()
    assert "used from now on: securitynet run mia.lira_online MODEL --data digits" in said.err
    first, second = (m.trained_on for m in load_references(digits, "online").models)
    audited = make_audit(digits).data.audit.indices
    listed = [digits.train.indices[3], *digits.train.indices[:9], digits.test.indices[1100]]
    assert set(first) | set(second) == {*audited, *listed} and not set(first) & set(second)


@pytest.mark.parametrize("words", [["--kind", "online"], ["--per-fold", "8"], ["--also", "x"]])
def test_what_only_references_have_is_not_ignored_for_a_model(words, capsys):
    assert run_command(["train", "mlp", "--data", "digits", *words]) == 2
    assert f"{words[0]} only with references" in capsys.readouterr().err


def test_references_need_a_data_set(capsys):
    assert run_command(["train", "references"]) == 2
    assert "no data set given" in capsys.readouterr().err
