"""``securitynet train --dp-epsilon``: a private model, its twin, and what is refused."""

import json
import sys

import pytest

from securitynet.cli.app import run_command

QUICK = ["train", "mlp", "--data", "digits", "--epochs", "1", "--out", "models"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_private_model_comes_with_its_twin(capsys):
    options = ["--dp-epsilon", "4", "--dp-delta", "1e-6", "--dp-clip", "0.5"]
    assert run_command([*QUICK, *options, "--json", "-q"]) == 0
    private, twin = json.loads(capsys.readouterr().out)
    assert private["name"] == "mlp-digits-dp4-s0" and twin["id"] == private["training"]["twin"]
    facts = private["training"]["privacy"]
    assert facts["epsilon"] == pytest.approx(4, abs=0.05) and facts["epsilon"] <= 4
    assert (facts["delta"], facts["clip"]) == (1e-6, 0.5)
    assert run_command([*QUICK, *options]) == 0, "and trained once"
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(f"epsilon {facts['epsilon']:.2f}") and "epsilon" not in second


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dp-delta", "1e-6"], "--dp-delta without --dp-epsilon"),
        (["--dp-clip", "2"], "--dp-clip without --dp-epsilon"),
        (["--dp-epsilon", "0"], "epsilon 0"),
        (["--dp-epsilon", "8", "--dp-delta", "0.1"], "delta 0.1 with"),
        (["--dp-epsilon", "8", "--backdoor", "badnets"], "fresh weights and without a backdoor"),
    ],
)
def test_what_guarantees_nothing_is_refused(options, message, capsys):
    assert run_command([*QUICK, *options]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_extra_is_a_matter_of_the_environment(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "opacus", None)
    assert run_command([*QUICK, "--dp-epsilon", "8"]) == 3
    assert "pip install 'securitynet[dp]'" in capsys.readouterr().err
