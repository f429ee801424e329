"""The door as a whole: benign files come through bit by bit, everything else has its own error."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from securitynet.catalogue.cards import Weights
from securitynet.errors import IntegrityError, ResourceError, UsageError
from securitynet.files.digest import digest
from securitynet.weights import child, door
from securitynet.weights.door import open_checkpoint
from securitynet.weights.inspect import scan
from securitynet.weights.strict import check, load_into

PUBLIC = json.loads((Path(__file__).parent / "public.json").read_text())


def opened(path, **fields):
    return open_checkpoint(Weights(path=str(path), **fields), folder=None, where="card")


def same(left, right):
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name])
        for name in left
    )


def trusted(path, key, prefix):
    """Load a checkpoint without the door: only for files whose checksum is known."""
    found = torch.load(path, weights_only=True, map_location="cpu")
    found = found["state_dict"] if key else found
    found = found[0] if isinstance(found, list) else found
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


@pytest.mark.public
@pytest.mark.parametrize("name", PUBLIC)
def test_public_checkpoints_are_safe_and_bit_equal(name, public_models, tmp_path):
    path, facts = public_models / name, PUBLIC[name]
    assert digest(path) == facts["sha256"]
    report = scan(path)
    assert (report.verdict, report.format, report.findings) == ("SAFE", facts["format"], ())
    made = tmp_path / "made.safetensors"
    for key in (None, facts["state_key"]):
        outcome = child.convert(str(path), str(made), key, facts["sha256"])
        assert (outcome["state_key"], outcome["prefix"]) == (facts["state_key"], facts["prefix"])
        assert same(load_file(made), trusted(path, facts["state_key"], facts["prefix"]))


@pytest.mark.public
@pytest.mark.parametrize("name", PUBLIC)
def test_public_checkpoints_come_through_the_whole_door(name, public_models):
    facts = PUBLIC[name]
    found = opened(public_models / name, checksum=facts["sha256"], checksum_algorithm="sha256")
    assert same(
        load_file(found.path), trusted(public_models / name, facts["state_key"], facts["prefix"])
    )


@pytest.mark.parametrize("container", ["zipped", "legacy"])
def test_a_checkpoint_comes_through_once(container, state, request, monkeypatch):
    path = request.getfixturevalue(container)
    first = opened(path)
    assert (first.sha256, first.prefix, first.notes) == (digest(path), "", ())
    assert same(load_file(first.path), state)
    assert first.path.stat().st_mode & 0o222 == 0
    with safe_open(first.path, "pt") as file:
        assert file.metadata()["sha256"] == first.sha256
    monkeypatch.setattr(door, "convert", None)  # the second time nothing is converted
    assert opened(path) == first


def test_a_cached_checkpoint_needs_neither_torch_nor_the_file(zipped):
    first = opened(zipped)
    zipped.unlink()
    code = (
        "import sys; from securitynet.catalogue.cards import Weights\n"
        "from securitynet.weights.door import open_checkpoint\n"
        f"w = Weights(checksum={first.sha256!r}, checksum_algorithm='sha256')\n"
        "print(open_checkpoint(w, folder=None, where='card').path, 'torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [str(first.path), "False"]


def test_safetensors_are_only_copied(tmp_path, state):
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    found = opened(path)
    assert found.format == "safetensors"
    assert found.path.read_bytes() == path.read_bytes()


def test_a_damaged_cache_is_noticed(tmp_path, state):
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    found = opened(path)
    found.path.chmod(0o644)
    data = bytearray(found.path.read_bytes())
    data[-1] ^= 1
    found.path.write_bytes(data)
    with pytest.raises(IntegrityError, match="cached weights are damaged"):
        load_into(nn.Linear(1, 1), found, where="card")
    found.path.write_bytes(data[:-1])
    assert opened(path).converted_sha256 == found.converted_sha256
    assert digest(opened(path).path) == found.converted_sha256


def test_a_missing_file_says_where_it_should_be():
    with pytest.raises(ResourceError, match=r"no checkpoint at nowhere\.pt"):
        opened("nowhere.pt")


def test_a_wrong_checksum_is_no_match(zipped):
    with pytest.raises(IntegrityError, match="does not have the card's sha256"):
        opened(zipped, checksum="0" * 64, checksum_algorithm="sha256")


@pytest.mark.parametrize("container", ["zipped", "legacy"])
def test_a_truncated_file_is_damaged_not_hostile(container, request):
    path = request.getfixturevalue(container)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match="damaged"):
        opened(path)


def test_a_card_without_file_or_checksum_is_refused():
    with pytest.raises(UsageError, match="names no weights"):
        open_checkpoint(Weights(), folder=None, where="card")
    with pytest.raises(ResourceError, match="SECURITYNET_MIRROR"):
        open_checkpoint(Weights(checksum="0" * 64), folder=None, where="card")


def test_a_mirrored_file_is_found_by_its_checksum(tmp_path, state, monkeypatch):
    path = tmp_path / "mirror" / "deep" / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_file(state, path)
    monkeypatch.setenv("SECURITYNET_MIRROR", str(tmp_path / "mirror"))
    weights = Weights(
        url="https://host.invalid/x", checksum=digest(path)[:8], checksum_algorithm="sha256-prefix"
    )
    assert open_checkpoint(weights, folder=None, where="card").sha256 == digest(path)


def test_a_file_that_changes_while_it_is_read_is_refused(zipped, monkeypatch):
    monkeypatch.setattr(door, "digest_once", lambda path: "0" * 64)
    with pytest.raises(IntegrityError, match="changed while"):
        opened(zipped)


def test_a_state_key_that_is_not_there_is_named(zipped):
    with pytest.raises(IntegrityError, match="nothing at 'net'"):
        opened(zipped, state_key="net")


@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda s: s, ""),
        (lambda s: {"net": s, "loss": torch.zeros(1)}, "net"),
        (lambda s: {"state_dict": [s, s]}, "state_dict[0]"),
        (lambda s: {"model": {"state_dict": s}}, "model.state_dict"),
        (lambda s: [s], "[0]"),
    ],
)
def test_wrappers_are_found(wrap, place, state):
    found, where = child.find_state(wrap(state), None)
    assert (found, where) == (state, place)
    assert child.find_state(wrap(state), place)[0] is state


@pytest.mark.parametrize(
    "loaded", [None, [], {}, {"epoch": 1}, {1: torch.zeros(1)}, torch.zeros(2)]
)
def test_what_holds_no_state_dict_is_refused(loaded):
    with pytest.raises(ValueError, match="no state dict"):
        child.find_state(loaded, None)


def test_leftovers_of_training_are_left_out(tmp_path, state):
    path, made = tmp_path / "full.pt", tmp_path / "made.safetensors"
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    leftovers = {"acc": np.float64(0.5), "args": argparse.Namespace(lr=1), "seen": {1, 2}}
    torch.save({"state_dict": parallel, "losses": np.arange(3.0), **leftovers}, path)
    assert scan(path).verdict == "SAFE"
    outcome = child.convert(str(path), str(made), None, "")
    assert outcome["prefix"] == "module."
    assert same(load_file(made), state)


def test_shared_and_strided_tensors_are_written_whole(tmp_path):
    path, made = tmp_path / "shared.pt", tmp_path / "made.safetensors"
    base = torch.arange(12.0).reshape(3, 4)
    state = {"a": base, "b": base.T, "c": base[1:, 2:], "d": base[0].half(), "n": torch.tensor(7)}
    torch.save(state, path)
    assert scan(path).verdict == "SAFE"
    child.convert(str(path), str(made), None, "")
    assert same(load_file(made), state)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("0.weight"), "0.weight is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "extra is not part of it"),
        (lambda s: s.update({"0.bias": torch.zeros(3)}), r"shape \[3\] instead of \[2\]"),
        (lambda s: s.update({"0.bias": torch.tensor([0, 1])}), "type torch.int64"),
        (lambda s: s.update({"0.bias": torch.tensor([0.0, torch.nan])}), "not finite"),
    ],
)
def test_what_does_not_fit_is_named(change, words, tmp_path, state):
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    changed = dict(state)
    change(changed)
    save_file(changed, tmp_path / "odd.safetensors")
    with pytest.raises(IntegrityError, match=words):
        load_into(module, opened(tmp_path / "odd.safetensors"), where="card")
    assert same(module.state_dict(), before)


def test_all_problems_are_counted_three_are_spelled_out(tmp_path, caplog):
    caplog.set_level("INFO")
    save_file({"w": torch.zeros(1)}, tmp_path / "odd.safetensors")
    module = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    with pytest.raises(IntegrityError, match=r"missing; .*missing; .*missing and 2 more"):
        load_into(module, opened(tmp_path / "odd.safetensors"), where="card")
    names = ["0.weight", "0.bias", "1.weight", "1.bias"]
    expected = [*(f"card: {name} is missing" for name in names), "card: w is not part of it"]
    assert [record.getMessage() for record in caplog.records] == expected


def test_absent_batch_counters_are_forgiven(tmp_path, state):
    old = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    save_file(old, tmp_path / "old.safetensors")
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    load_into(module, opened(tmp_path / "old.safetensors"), where="card")
    assert torch.equal(module[0].weight, state["0.weight"])
    assert check(module.state_dict(), {**old, "1.num_batches_tracked": torch.tensor(0)}) == []
