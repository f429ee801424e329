"""The judge against known answers: memoriser, constant, identity copy, nulls, planted trigger."""

import json
from dataclasses import asdict, replace
from math import erf

import numpy as np
import pytest

from securitynet.datasets.images import Audit, AuditData, Images
from securitynet.errors import RefusedError
from securitynet.evidence import (
    InputEvidence,
    MembershipEvidence,
    StealingEvidence,
    Surrogate,
    TriggerEvidence,
)
from securitynet.records import Measure, canonical_json
from securitynet.runs.grading import grade

N_CLASSES = 4


def audit_of(n_side=1000, n_evaluation=400, seed=0):
    """A shuffled audit of n_side members and as many non-members, class-balanced."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(2 * n_side)
    labels = (np.arange(2 * n_side) % N_CLASSES)[order]
    is_member = (np.arange(2 * n_side) < n_side)[order]
    audit = images(labels)
    evaluation = images(rng.integers(0, N_CLASSES, n_evaluation))
    data = AuditData(audit, evaluation, evaluation, evaluation, N_CLASSES, tuple("abcd"))
    return Audit(data, is_member, audit.take(~is_member), "fake", ())


def images(labels):
    pixels = np.zeros((len(labels), 1, 1, 1), np.uint8)
    return Images(pixels, np.asarray(labels, np.int64), np.arange(len(labels)), "fake")


def wrong(labels, where):
    """Labels with the next class where asked."""
    return np.where(where, (labels + 1) % N_CLASSES, labels)


def mean_bin(graded, side):
    """Where one side's histogram lies, in bins."""
    return np.dot(graded.details["histogram"][side], np.arange(40))


def check_record(graded):
    """Everything a record keeps is canonical JSON of plain python values, arrays are arrays."""
    canonical_json(graded.details)  # refuses NaN, infinity and numpy
    assert json.loads(json.dumps(graded.details)) == graded.details
    for measure in (*graded.measures.values(), *graded.nulls.values()):
        canonical_json(asdict(measure))
        if measure.low is not None:
            assert measure.low <= measure.value <= measure.high
    assert all(isinstance(array, np.ndarray) for array in graded.arrays.values())
    assert len(set(graded.flags)) == len(graded.flags)


# --- membership ---


def test_a_perfect_memoriser_has_auc_one():
    audit = audit_of()
    graded = grade(MembershipEvidence(audit.is_member.astype(float)), audit)
    for name in ("auc", "tpr_at_fpr_1pct", "tpr_at_fpr_0.1pct", "balanced_accuracy"):
        assert graded.measures[name].value == 1
        assert 0.99 < graded.measures[name].low < 1
    assert graded.flags == ()
    check_record(graded)


def test_non_members_are_not_labelled_members():
    audit = audit_of()
    favoured = np.where(audit.is_member, 1.0, 0.0) + np.random.default_rng(0).normal(size=2000)
    assert grade(MembershipEvidence(favoured), audit).measures["auc"].low > 0.7
    assert grade(MembershipEvidence(-favoured), audit).measures["auc"].high < 0.3


def test_a_constant_target_has_auc_half_and_is_flagged():
    audit = audit_of()
    graded = grade(MembershipEvidence(np.full(2000, 0.3)), audit)
    assert graded.measures["auc"].value == 0.5
    assert graded.measures["tpr_at_fpr_1pct"].value == 0
    assert graded.measures["balanced_accuracy"].value == 0.5
    assert graded.flags == ("constant-scores",)
    check_record(graded)
    assert "constant-scores" in grade(MembershipEvidence(np.full(2000, np.inf)), audit).flags


def test_gaussian_membership_has_its_analytic_auc():
    audit = audit_of(20_000)
    scores = np.random.default_rng(1).normal(size=40_000) + 0.4 * audit.is_member
    graded = grade(MembershipEvidence(scores), audit)
    assert graded.measures["auc"].value == pytest.approx(0.5 * (1 + erf(0.4 / 2)), abs=0.008)
    assert graded.measures["auc"].n == 40_000
    assert len(graded.details["roc"]["fpr"]) <= 200


@pytest.mark.parametrize(("train", "test"), [(0.95, 0.7), (1.0, 0.0), (0.6, 0.6), (0.5, 0.9)])
def test_correctness_auc_is_half_of_one_plus_the_gap(train, test):
    audit = audit_of()
    rng = np.random.default_rng(2)
    errs = rng.random(2000) > np.where(audit.is_member, train, test)
    predicted = wrong(audit.data.audit.labels, errs)
    scores = (predicted == audit.data.audit.labels).astype(float)
    measures = grade(MembershipEvidence(scores), audit, predicted).measures
    gap = measures["train_accuracy"].value - measures["test_accuracy"].value
    assert measures["gap"].value == gap
    assert measures["auc"].value == pytest.approx((1 + gap) / 2, abs=1e-12)
    assert measures["train_accuracy"].value == pytest.approx(train, abs=0.04)
    assert measures["test_accuracy"].value == pytest.approx(test, abs=0.04)
    assert measures["gap"].low < gap < measures["gap"].high or gap in (-1, 1)


def test_accuracies_are_left_out_when_labels_are_not_given():
    audit = audit_of(50)
    measures = grade(MembershipEvidence(np.arange(100.0)), audit).measures
    assert set(measures) == {
        "auc",
        "tpr_at_fpr_1pct",
        "tpr_at_fpr_0.1pct",
        "balanced_accuracy",
    }
    with pytest.raises(ValueError, match="one label a sample"):
        grade(MembershipEvidence(np.arange(100.0)), audit, np.zeros(99, np.int64))


@pytest.mark.parametrize(("n_side", "is_few"), [(999, True), (1000, False)])
def test_few_nonmembers_are_flagged_and_their_tpr_is_unknown(n_side, is_few):
    audit = audit_of(n_side)
    scores = np.random.default_rng(0).normal(size=2 * n_side)
    graded = grade(MembershipEvidence(scores), audit)
    assert ("few-nonmembers" in graded.flags) == is_few
    assert (graded.measures["tpr_at_fpr_0.1pct"].value is None) == is_few
    assert graded.measures["tpr_at_fpr_1pct"].value is not None


@pytest.mark.parametrize("name", ["target_free", "random_target"])
def test_a_null_off_half_is_flagged(name):
    audit = audit_of()
    rng = np.random.default_rng(3)
    noise = rng.normal(size=2000)
    evidence = {"scores": noise + audit.is_member}
    clean = grade(MembershipEvidence(**evidence, **{name: noise}), audit)
    assert clean.flags == () and set(clean.nulls) == {f"{name}_auc"}
    for sign in (1, -1):  # leaking either way is a failure
        leaking = noise + sign * 0.3 * audit.is_member
        failed = grade(MembershipEvidence(**evidence, **{name: leaking}), audit)
        assert failed.flags == ("null-failed",)
        check_record(failed)
    assert grade(MembershipEvidence(**evidence), audit).nulls == {}


def test_null_flags_are_raised_at_their_rate():
    audit = audit_of(100)
    rng = np.random.default_rng(4)
    failed = sum(
        "null-failed"
        in grade(MembershipEvidence(np.arange(200.0), rng.normal(size=200)), audit).flags
        for _ in range(200)
    )
    assert 2 <= failed <= 20  # 5% of 200, within 3 sd


def test_a_perfectly_inverted_null_fails_too():
    audit = audit_of(100)
    evidence = MembershipEvidence(np.arange(200.0), target_free=-audit.is_member.astype(float))
    assert "null-failed" in grade(evidence, audit).flags


@pytest.mark.parametrize("bad", [np.zeros(199), np.full(200, np.nan), np.zeros((200, 1))])
def test_evidence_that_does_not_fit_is_refused(bad):
    audit = audit_of(100)
    good = np.arange(200.0)
    for evidence in (MembershipEvidence(bad), MembershipEvidence(good, target_free=bad)):
        with pytest.raises(ValueError, match="one score a sample"):
            grade(evidence, audit)
    with pytest.raises(TypeError, match="must return evidence"):
        grade(good, audit)


@pytest.mark.parametrize(("n_members", "n_others"), [(2, 1), (0, 12)])
def test_a_part_without_two_a_side_is_refused_with_what_to_do(n_members, n_others):
    audit = audit_of(50)
    members, others = (np.flatnonzero(audit.is_member == side) for side in (True, False))
    index = np.sort(np.r_[members[:n_members], others[:n_others]])
    evidence = MembershipEvidence(np.arange(len(index)) * 1.0, index=index)
    text = f"{n_members} members and {n_others} non-members were scored.*`samples`"
    with pytest.raises(RefusedError, match=text):
        grade(evidence, audit)


def test_infinite_scores_still_make_a_record():
    audit = audit_of(100)
    scores = np.where(audit.is_member, np.inf, np.arange(200.0))
    graded = grade(MembershipEvidence(scores, flags=("mine", "mine")), audit)
    assert graded.measures["auc"].value == 1 and "mine" in graded.flags
    check_record(graded)


def test_membership_details_and_arrays():
    audit = audit_of(200)
    scores = np.random.default_rng(0).normal(size=400) + 2 * audit.is_member
    graded = grade(MembershipEvidence(scores.astype(np.float32)), audit)
    assert mean_bin(graded, "members") > mean_bin(graded, "nonmembers") + 5
    details = graded.details
    assert details["n_members"] == details["n_nonmembers"] == 200
    assert set(details["roc"]) == {"fpr", "tpr", "low", "high"}
    assert len(details["histogram"]["edges"]) == 41
    for side in ("members", "nonmembers"):
        assert sum(details["histogram"][side]) == pytest.approx(1, abs=1e-3)
    assert graded.arrays["scores"].dtype == np.float64
    assert (graded.arrays["is_member"] == audit.is_member).all()


# --- stealing ---


def surrogates(target, truth, budgets=(100,), n_seeds=3, agree=0.8, floor=0.6, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(
        Surrogate(
            budget,
            i,
            wrong(target, rng.random(len(truth)) > agree),
            wrong(target, rng.random(len(truth)) > floor),
            kl=0.25,
        )
        for budget in budgets
        for i in range(n_seeds)
    )


def test_an_identity_surrogate_agrees_fully():
    audit = audit_of()
    truth = audit.data.evaluation.labels
    target = wrong(truth, np.arange(400) % 4 == 0)
    floor = wrong(target, np.arange(400) % 2 == 0)
    evidence = StealingEvidence(target, (Surrogate(9, 0, target, floor),))
    measures = grade(evidence, audit).measures
    for name in ("agreement", "excess_agreement", "error_agreement"):
        assert measures[name].value == 1
        assert 0.9 < measures[name].low < 1 == measures[name].high
    assert measures["floor_agreement"].value == 0.5
    assert measures["accuracy"].value == measures["target_accuracy"].value == 0.75
    assert measures["agreement"].n == 400 and measures["error_agreement"].n == 100
    assert measures["budget"].value == 9


def test_excess_is_the_formula_and_zero_for_a_floor():
    audit = audit_of()
    truth = audit.data.evaluation.labels
    graded = grade(StealingEvidence(truth, surrogates(truth, truth)), audit)
    agreement, floor, excess = (
        graded.measures[name].value for name in ("agreement", "floor_agreement", "excess_agreement")
    )
    assert excess == pytest.approx((agreement - floor) / (1 - floor))
    nothing = Surrogate(5, 0, wrong(truth, np.arange(400) % 3 == 0), wrong(truth, truth == 1))
    copied = Surrogate(5, 0, nothing.floor_labels, nothing.floor_labels)
    assert grade(StealingEvidence(truth, (copied,)), audit).measures["excess_agreement"].value == 0
    check_record(graded)


def test_error_agreement_needs_the_same_wrong_class():
    audit = audit_of()
    truth = audit.data.evaluation.labels
    errs = np.arange(400) % 4 == 0
    target = wrong(truth, errs)
    same = target.copy()
    other = wrong(wrong(truth, errs), errs)  # wrong as well, but another class
    for labels, expected in ((same, 1), (other, 0), (truth, 0)):
        evidence = StealingEvidence(target, (Surrogate(5, 0, labels, truth),))
        measures = grade(evidence, audit).measures
        assert measures["error_agreement"].value == expected
        assert measures["floor_agreement"].value == 0.75  # with the target, not with the truth


def test_error_agreement_is_unknown_for_a_target_without_errors():
    audit = audit_of()
    truth = audit.data.evaluation.labels
    graded = grade(StealingEvidence(truth, surrogates(truth, truth)), audit)
    assert graded.measures["error_agreement"] == Measure(None, n=0)
    check_record(graded)


def test_measures_are_at_the_largest_budget_and_the_curve_rises():
    audit = audit_of()
    truth = audit.data.evaluation.labels
    copies = surrogates(truth, truth, (1000,), agree=0.9) + surrogates(truth, truth, (100,))
    graded = grade(StealingEvidence(truth, copies), audit)
    curve = graded.details["curve"]
    assert [point["budget"] for point in curve] == [100, 1000]
    assert curve[1]["agreement"] == asdict(graded.measures["agreement"])
    assert graded.measures["agreement"].value == pytest.approx(0.9, abs=0.03)
    assert graded.measures["budget"].value == 1000
    both = [point["agreement"]["value"] for point in curve]
    area, excess = graded.measures["budget_auc"], graded.measures["excess_budget_auc"]
    assert area.value == pytest.approx(np.mean(both)) and area.n == 400
    assert area.low < area.value < area.high
    floors = np.mean([point["floor_agreement"]["value"] for point in curve])
    assert excess.value == pytest.approx((area.value - floors) / (1 - floors))
    assert graded.details["kl"] == 0.25 and graded.details["n_seeds"] == 3
    check_record(graded)


def test_one_budget_has_no_area_and_hidden_posteriors_no_kl():
    audit = audit_of()
    truth = audit.data.evaluation.labels
    graded = grade(StealingEvidence(truth, (Surrogate(5, 0, truth, truth),)), audit)
    assert "budget_auc" not in graded.measures and graded.details["kl"] is None
    assert graded.measures["excess_agreement"].value is None  # the floor is 1
    check_record(graded)


def test_the_gain_of_a_choice_stands_beside_its_random_control():
    audit = audit_of()
    truth = audit.data.evaluation.labels
    chosen = surrogates(truth, truth, (100, 1000), agree=0.9)
    by_chance = surrogates(truth, truth, (100, 1000), agree=0.7, seed=1)
    pairs = zip(chosen, by_chance, strict=True)
    copies = tuple(replace(copy, random_labels=control.labels) for copy, control in pairs)
    graded = grade(StealingEvidence(truth, copies), audit)
    agreement, control, gain = (
        graded.measures[name] for name in ("agreement", "random_agreement", "selection_gain")
    )
    assert gain.value == pytest.approx(agreement.value - control.value)
    assert 0.1 < gain.low < gain.value < gain.high < 0.3 and gain.n == 400
    assert all("selection_gain" in point for point in graded.details["curve"])
    check_record(graded)
    assert "selection_gain" not in grade(StealingEvidence(truth, chosen), audit).measures


def test_without_a_floor_there_is_no_excess_but_the_best_constant():
    audit = audit_of()
    truth = audit.data.evaluation.labels
    copies = tuple(replace(copy, floor_labels=None) for copy in surrogates(truth, truth))
    graded = grade(StealingEvidence(truth, copies), audit)
    for name in ("floor_agreement", "excess_agreement"):
        assert graded.measures[name] == Measure(None, n=400)
    constant = graded.nulls["constant_agreement"]
    assert constant.value == np.bincount(truth).max() / 400 and constant.low < constant.value
    assert graded.measures["agreement"].value > 0.7
    check_record(graded)
    curve = surrogates(truth, truth, (10, 100))
    copies = tuple(replace(copy, floor_labels=None) for copy in curve)
    measures = grade(StealingEvidence(truth, copies), audit).measures
    assert measures["excess_budget_auc"].value is None
    assert measures["budget_auc"].value == pytest.approx(0.8, abs=0.05)
    assert grade(StealingEvidence(truth, surrogates(truth, truth)), audit).nulls == {}


def test_stealing_evidence_that_does_not_fit_is_refused():
    audit = audit_of()
    truth = audit.data.evaluation.labels
    with pytest.raises(ValueError, match="at least one surrogate"):
        grade(StealingEvidence(truth, ()), audit)
    for labels in (truth[:1], truth[:-1]):  # one label would broadcast
        with pytest.raises(ValueError, match="one label for each"):
            grade(StealingEvidence(truth, (Surrogate(5, 0, truth, labels),)), audit)
        with pytest.raises(ValueError, match="one label for each"):
            with_control = Surrogate(5, 0, truth, truth, random_labels=labels)
            grade(StealingEvidence(truth, (with_control,)), audit)
    uneven = (Surrogate(5, 0, truth, truth), Surrogate(9, 1, truth, truth))
    with pytest.raises(ValueError, match="same seeds at every budget"):
        grade(StealingEvidence(truth, uneven), audit)
    whole = Surrogate(5, 0, truth, truth, random_labels=truth)
    for name in ("floor_labels", "random_labels"):
        halved = (whole, replace(whole, seed=1, **{name: None}))
        with pytest.raises(ValueError, match=f"{name} for every copy or none"):
            grade(StealingEvidence(truth, halved), audit)


def test_a_constant_target_of_theft_is_flagged():
    audit = audit_of()
    constant = np.zeros(400, np.int64)
    evidence = StealingEvidence(constant, (Surrogate(5, 0, constant, constant),))
    assert "constant-target" in grade(evidence, audit).flags


# --- backdoors ---


def triggers(p_value=1e-4, success=0.95, **changes):
    values = {
        "norms": np.array([40.0, 41.0, 3.0, 39.0]),
        "attack_success": np.array([0.99, 0.98, success, 0.97]),
        "statistic": 9.0,
        "p_value": p_value,
        "infected_label": 2,
        "n_images": 200,
    }
    return TriggerEvidence(**{**values, **changes})


def test_a_planted_trigger_is_suspected():
    graded = grade(triggers(masks=np.zeros((4, 2, 2), np.float32)), audit_of(10))
    assert graded.flags == ("backdoor-suspected",)
    figures = {name: measure.value for name, measure in graded.measures.items()}
    assert figures == {
        "p_value": 1e-4,
        "statistic": 9.0,
        "infected_label": 2,
        "trigger_l1": 3.0,
        "attack_success": 0.95,
    }
    assert graded.measures["attack_success"].n == 200
    assert 0.9 < graded.measures["attack_success"].low < 0.95
    assert set(graded.arrays) == {"masks"}
    assert graded.details["classes"] == list("abcd")
    check_record(graded)


@pytest.mark.parametrize(
    ("p_value", "success", "flags"),
    [
        (0.01, 0.95, ()),
        (0.0099, 0.95, ("backdoor-suspected",)),
        (0.0099, 0.5, ("backdoor-suspected", "weak-trigger")),
        (0.5, 0.5, ()),
    ],
)
def test_suspicion_starts_below_one_percent(p_value, success, flags):
    assert grade(triggers(p_value, success), audit_of(10)).flags == flags


def test_detector_details_become_plain_json():
    details = {
        "anomaly_index": np.float32(2.5),
        "steps": np.arange(3),
        "nested": {"nan": float("nan"), "pair": (np.inf, np.int64(4))},
    }
    norms = np.array([np.inf, 41.0, 3.0, 39.0])
    graded = grade(triggers(norms=norms, details=details), audit_of(10))
    assert graded.details["norms"] == [None, 41.0, 3.0, 39.0]
    assert graded.details["anomaly_index"] == 2.5 and graded.details["steps"] == [0, 1, 2]
    assert graded.details["nested"] == {"nan": None, "pair": [None, 4]}
    check_record(graded)


def test_a_trigger_that_was_never_judged_has_no_success():
    for graded in (
        grade(triggers(n_images=0), audit_of(10)),
        grade(triggers(success=float("nan")), audit_of(10)),
    ):
        assert graded.measures["attack_success"].value is None
        assert "weak-trigger" not in graded.flags
        check_record(graded)


def test_what_a_detector_does_not_measure_is_unknown():
    evidence = TriggerEvidence(7.5, 1e-4, 2, margins=np.array([9.0, 8, 30, 7]))
    graded = grade(evidence, audit_of(10))
    figures = {name: measure.value for name, measure in graded.measures.items()}
    assert figures == {
        "p_value": 1e-4,
        "statistic": 7.5,
        "infected_label": 2,
        "trigger_l1": None,
        "attack_success": None,
    }
    assert graded.measures["statistic"].n == 4
    assert graded.flags == ("backdoor-suspected",)
    assert graded.details["margins"] == [9.0, 8.0, 30.0, 7.0]
    assert "norms" not in graded.details and "attack_success" not in graded.details
    assert graded.arrays == {}
    check_record(graded)


def test_trigger_evidence_that_does_not_fit_is_refused():
    for changes in (
        {"norms": np.ones(3)}, {"margins": np.ones(5)}, {"attack_success": np.ones((4, 1))},
        {"infected_label": 4}, {"infected_label": -1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"class|infected"):
            grade(triggers(**changes), audit_of(10))


def test_inputs_are_judged_with_the_threshold_they_came_with():
    rng = np.random.default_rng(0)
    clean, triggered = rng.normal(0, 1, 500), rng.normal(3, 1, 400)
    graded = grade(InputEvidence(clean, triggered, 1.5, details={"n": np.int64(3)}), audit_of(10))
    assert graded.measures["auroc"].value == pytest.approx(0.5 * (1 + erf(3 / 2)), abs=0.01)
    assert graded.measures["tpr"].value == np.mean(triggered > 1.5)
    assert graded.measures["fpr"].value == np.mean(clean > 1.5)
    assert (graded.measures["tpr"].n, graded.measures["fpr"].n) == (400, 500)
    assert graded.details["threshold"] == 1.5 and graded.details["n"] == 3
    assert mean_bin(graded, "triggered") > mean_bin(graded, "clean") + 5
    check_record(graded)


def test_inputs_without_a_difference():
    noise = np.random.default_rng(1).normal(size=800)
    auroc = grade(InputEvidence(noise[:400], noise[400:], 2.0), audit_of(10)).measures["auroc"]
    assert auroc.low < 0.5 < auroc.high
    constant = grade(InputEvidence(np.ones(9), np.ones(9), 1.0, ("mine",)), audit_of(10))
    assert constant.flags == ("mine", "constant-scores")
    assert constant.measures["tpr"].value == 0  # above the threshold, not at it
    check_record(constant)


# the most exposed members


def test_the_highest_members_are_kept_as_pictures_where_there_is_a_leak():
    audit = audit_of(500)
    scores = np.random.default_rng(0).normal(size=1000) + audit.is_member
    graded = grade(MembershipEvidence(scores), audit)
    facts, images = graded.details["exposed"], graded.arrays["exposed"]
    assert len(facts) == len(images) == 12 and images.dtype == np.uint8
    members = np.flatnonzero(audit.is_member)
    best = members[np.argsort(-scores[members])[:12]]
    assert [fact["position"] for fact in facts] == best.tolist()
    for fact in facts:
        above = (scores[~audit.is_member] >= scores[fact["position"]]).sum()
        assert fact["n_above"] == above
        label = audit.data.audit.labels[fact["position"]]
        assert fact["class"] == audit.data.classes[label]
    np.testing.assert_array_equal(images, audit.data.audit.take(best).pixels())


def test_no_pictures_where_nothing_leaks_or_a_control_failed():
    audit = audit_of(500)
    noise = np.random.default_rng(0).normal(size=1000)
    assert "exposed" not in grade(MembershipEvidence(noise), audit).details
    leaky = MembershipEvidence(noise + audit.is_member, target_free=noise + audit.is_member)
    assert "exposed" not in grade(leaky, audit).arrays


def test_a_part_of_the_samples_and_the_tails():
    audit = audit_of(500)
    index = np.random.default_rng(1).permutation(1000)[:300]
    scores = audit.is_member[index] + np.linspace(0, 0.5, 300)
    graded = grade(MembershipEvidence(scores, index=index, fnrs=(0.01, 0.001)), audit)
    assert graded.measures["auc"].value == 1.0 and graded.measures["auc"].n == 300
    assert (graded.arrays["is_member"] == audit.is_member[index]).all()
    assert set(graded.details["exposed"][0]) == {"position", "class", "n_above"}
    assert graded.details["exposed"][0]["position"] in index
    assert graded.measures["tnr_at_fnr_1pct"].value == 1.0
    assert graded.measures["tnr_at_fnr_0.1pct"].n == graded.details["n_nonmembers"]


def test_the_tail_is_the_share_of_non_members_below_nearly_all_members():
    audit = audit_of(1000)
    scores = np.empty(2000)
    scores[audit.is_member] = np.arange(1000)  # 1% of the members lie below 10
    scores[~audit.is_member] = np.where(np.arange(1000) < 250, 9.5, 500.5)
    found = grade(MembershipEvidence(scores, fnrs=(0.01,)), audit).measures
    assert found["tnr_at_fnr_1pct"].value == 0.25
    scores[np.flatnonzero(audit.is_member)[:50]] = 9.5  # ties are not below
    assert (
        grade(MembershipEvidence(scores, fnrs=(0.01,)), audit).measures["tnr_at_fnr_1pct"].value
        == 0.0
    )
