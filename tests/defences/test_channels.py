"""Response channels keep the label, change the answer as they say, and bound the access."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securitynet.cli.app import run_command
from securitynet.defences.channels import KINDS, parse_defence
from securitynet.errors import AccessError, UsageError
from securitynet.registry import Access

NAMES = ("top1", "top:3", "round:1", "round:2", "temperature:4", "temperature:0.5", "noise:2")


def log_softmax(logits):
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


@pytest.fixture
def log_p():
    rng = np.random.default_rng(0)
    return log_softmax(rng.normal(0, 6, (400, 7)))


@pytest.mark.parametrize("name", NAMES)
def test_the_label_stays_and_answers_are_log_posteriors(name, log_p):
    answered = parse_defence(name).respond(log_p)
    assert (answered.argmax(1) == log_p.argmax(1)).all()
    assert answered.shape == log_p.shape and (answered <= 1e-12).all()
    assert np.isfinite(answered).all()


@given(st.integers(0, 2**32), st.sampled_from(NAMES), st.floats(0.01, 500), st.integers(2, 12))
def test_the_label_stays_for_any_answer(seed, name, spread, n_classes):
    logits = np.random.default_rng(seed).normal(0, spread, (5, n_classes))
    log_p = log_softmax(logits)
    answered = parse_defence(name).respond(log_p)
    assert not np.isnan(answered).any()
    best = log_p.argmax(1)
    # Exactly equal posteriors have no one label to keep.
    ties = (log_p == log_p.max(1, keepdims=True)).sum(1) > 1
    assert ((answered.argmax(1) == best) | ties).all()


def test_top_k_hides_the_rest_and_keeps_the_mass(log_p):
    shown = np.exp(parse_defence("top:2").respond(log_p))
    p = np.exp(log_p)
    order = np.argsort(-p, 1)
    for row, (before, after) in enumerate(zip(p, shown, strict=True)):
        kept, hidden = order[row, :2], order[row, 2:]
        np.testing.assert_allclose(after[kept], before[kept])
        assert np.ptp(after[hidden]) == 0
    is_plain = np.sort(p, 1)[:, -2] > (1 - np.sort(p, 1)[:, -2:].sum(1)) / 5
    np.testing.assert_allclose(shown[is_plain].sum(1), 1, atol=1e-9)


def test_rounding_and_temperature_are_what_they_say(log_p):
    rounded = np.exp(parse_defence("round:2").respond(log_p))
    np.testing.assert_allclose(rounded, np.round(np.exp(log_p), 2), atol=1e-9)
    tempered = parse_defence("temperature:4").respond(log_p)
    np.testing.assert_allclose(tempered, log_softmax(log_p / 4))


def test_noise_is_the_same_when_asked_again_and_differs_between_answers(log_p):
    channel = parse_defence("noise:1")
    once, again = channel.respond(log_p), channel.respond(log_p[::-1].copy())[::-1]
    np.testing.assert_array_equal(once, again)  # whatever else is in the batch
    added = once - log_p
    added -= added.mean(1, keepdims=True)
    assert 0.7 < added.std() < 1.3
    assert abs(np.corrcoef(added[:200].ravel(), added[200:].ravel())[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("text", "name"),
    [("top1", "top:1"), ("TOP:3", "top:3"), ("top", "top:1"), ("label", "label"),
     ("temperature:4.0", "temperature:4"), ("round", "round:2")],
)  # fmt: skip
def test_names_are_canonical(text, name):
    assert parse_defence(text).name == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tops", "unknown defence 'tops'; did you mean top"),
        ("label:3", "label takes no number"),
        ("temperature", "temperature needs a number from 0.01"),
        ("temperature:0", "needs a number from 0.01"),
        ("temperature:nan", "needs a number"),
        ("top:1.5", "needs a whole number from 1"),
        ("round:-1", "needs a whole number from 0"),
        ("top:x", "needs a whole number"),
    ],
)
def test_what_is_no_defence_is_named(text, message):
    with pytest.raises(UsageError, match=message):
        parse_defence(text)


# in a run


@pytest.fixture
def card(tmp_path, capsys):
    words = ["train", "mlp", "--data", "digits", "--epochs", "2", "--out", str(tmp_path), "-q"]
    assert run_command(words) == 0
    capsys.readouterr()
    return tmp_path / "mlp-digits-s0" / "card.json"


@pytest.fixture
def records(card, tmp_path, capsys):
    def records(methods, *more):
        words = ["run", methods, str(card), "--store", str(tmp_path / "store"), "--json", "-q"]
        code = run_command([*words, *more])
        return code, json.loads(capsys.readouterr().out)

    return records


def test_a_defended_model_has_records_of_its_own(records):
    _, (plain,) = records("mia.loss")
    code, (behind,) = records("mia.loss", "--defence", "top1")
    assert code == 0 and behind["conditions"] == {"defence": "top:1"} and not plain["conditions"]
    assert behind["key"] != plain["key"]
    assert behind["measures"]["auc"] != plain["measures"]["auc"]
    assert behind["measures"]["test_accuracy"] == plain["measures"]["test_accuracy"]


def test_label_only_refuses_scores_and_keeps_what_needs_labels(records):
    code, found = records("mia.loss,mia.correctness", "--defence", "label")
    by_method = {record["method"]: record for record in found}
    assert code == 1 and by_method["mia.correctness"]["status"] == "ok"
    refused = by_method["mia.loss"]
    assert refused["status"] == "refused" and "access" in refused["flags"]
    assert "has LABELS behind label" in refused["error"]


def test_gradients_do_not_come_through(records):
    code, (found,) = records("backdoor.neural_cleanse", "--defence", "round:3")
    assert code == 1 and found["status"] == "refused" and "access" in found["flags"]


def test_a_wrong_defence_is_a_usage_error(card, capsys):
    assert run_command(["run", "mia.loss", str(card), "--defence", "tops"]) == 2
    assert "did you mean top" in capsys.readouterr().err


def test_the_report_names_the_defence(records, tmp_path, capsys):
    records("mia.loss", "--defence", "temperature:4")
    assert run_command(["report", "--store", str(tmp_path / "store")]) == 0
    assert "behind temperature:4" in " ".join(capsys.readouterr().out.split())


def test_access_is_bounded_by_the_channel(card):
    from securitynet.catalogue.cards import load_card
    from securitynet.targets.build import load_target

    target = load_target(load_card(card))
    pixels = np.zeros((2, 8, 8, 1), np.uint8)
    behind = target.defended(parse_defence("top1"))
    assert behind.access is Access.SCORES and behind.limited(Access.LABELS).labels(pixels).shape
    with pytest.raises(AccessError):
        behind.logits(pixels)
    assert set(KINDS) == {"label", "top", "round", "temperature", "noise"}
