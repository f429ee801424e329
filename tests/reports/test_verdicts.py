"""Verdicts from hand-made figures: neither a point estimate nor a wide interval decides."""

import numpy as np
import pytest
from scipy.stats import beta, norm
from scipy.stats import t as student

from securitynet.records import Measure
from securitynet.reports.verdicts import verdicts, widened


def only(records):
    (verdict,) = verdicts(records)
    return verdict


@pytest.fixture
def attack(make):
    def build(auc, tpr=(0.01, 0.004, 0.02), method="mia.loss", n=2000, **values):
        """One membership record; n counts both sides, which are equally many."""
        measures = {"auc": Measure(*auc, n)}
        if tpr:
            measures["tpr_at_fpr_1pct"] = Measure(*tpr, n // 2)
        return make.record(method=method, measures=measures, **values)

    return build


@pytest.fixture
def theft(make):
    def build(excess, n_seeds=3, method="steal.knockoff", **values):
        measures = {
            "excess_agreement": Measure(*excess, 600),
            "agreement": Measure(0.976, 0.951, 1.0, 600),
            "floor_agreement": Measure(0.961, 0.946, 0.977, 600),
            "budget": Measure(600),
        }
        details = {"n_seeds": n_seeds}
        return make.record(method=method, measures=measures, details=details, **values)

    return build


@pytest.fixture
def test_of(make):
    def build(p, success=(0.97, 0.93, 0.99), method="backdoor.neural_cleanse", **values):
        measures = {"p_value": Measure(p), "infected_label": Measure(7)}
        if success:
            measures["attack_success"] = Measure(*success, 200)
        return make.record(method=method, measures=measures, **values)

    return build


@pytest.mark.parametrize(
    ("auc", "tone", "word"),
    [
        ((0.70, 0.68, 0.72), "bad", "Leaks"),
        ((0.53, 0.51, 0.55), "bad", "Leaks slightly"),
        ((0.50, 0.48, 0.52), "good", "No leak measurable"),
        ((0.50, 0.44, 0.56), "unknown", "Inconclusive"),  # excludes neither chance nor a leak
        ((0.60, 0.30, 0.85), "unknown", "Inconclusive"),
        ((0.50, 0.02, 0.98), "unknown", "Inconclusive"),
        ((0.40, 0.37, 0.43), "unknown", "Inconclusive"),  # surely the wrong way round
    ],
)
def test_one_attack(attack, auc, tone, word):
    verdict = only([attack(auc)])
    assert (verdict.tone, verdict.word) == (tone, word)
    assert verdict.sentence.startswith(
        {"Leaks": "Leaks its", "Leaks slightly": "Leaks its"}.get(word, word)
    )


def test_the_best_of_many_needs_more(attack):
    """logit 0.53 = 0.1201 and logit 0.51 = 0.04: a half width of 0.0801, times 2.807 / 1.96 for
    ten tries and 3.023 / 1.96 for twenty, is 0.1148 and 0.1236."""

    def of_many(n):
        weak = [attack((0.5, 0.48, 0.52), dataset="d", seed=k) for k in range(n - 1)]
        return only([attack((0.53, 0.51, 0.55), dataset="d"), *weak])

    assert of_many(10).word == "Leaks slightly"
    twenty = of_many(20)
    assert (twenty.tone, twenty.word) == ("unknown", "Inconclusive")
    assert "the best of 20 attacks can reach this without a leak" in twenty.sentence


def test_widening_is_bonferroni():
    low, high = widened(Measure(0.3, 0.1, 0.5), 4)
    factor = norm.ppf(1 - 0.025 / 4) / norm.ppf(0.975)
    assert [low, high] == pytest.approx([0.3 - 0.2 * factor, 0.3 + 0.2 * factor])
    low, high = widened(Measure(0.3, 0.1, 0.5), 4, n_seeds=3)
    factor = student.ppf(1 - 0.025 / 4, 2) / student.ppf(0.975, 2)
    assert [low, high] == pytest.approx([0.3 - 0.2 * factor, 0.3 + 0.2 * factor])
    assert widened(Measure(0.6, 0.55, 0.65), 1, is_share=True) == pytest.approx((0.55, 0.65))


def test_an_unknown_interval_is_not_widened():
    with pytest.raises(ValueError, match="unknown"):
        widened(Measure(0.5), 2)


def test_every_attack_must_exclude_a_leak(attack):
    tight, wide = attack((0.5, 0.48, 0.52)), attack((0.48, 0.38, 0.58), method="mia.entropy")
    assert only([tight]).tone == "good"
    assert only([tight, wide]).tone == "unknown"


@pytest.mark.parametrize("tpr", [None, (0.03, 0.006, 0.085)])
def test_no_leak_needs_a_bounded_tpr(attack, tpr):
    assert only([attack((0.5, 0.48, 0.52), tpr, n=200)]).tone == "unknown"


def test_a_few_images_found_with_certainty_are_a_leak_at_an_auc_of_half(attack):
    verdict = only([attack((0.51, 0.49, 0.53), (0.05, 0.037, 0.065))])
    assert (verdict.tone, verdict.word) == ("bad", "Leaks a few images")
    assert verdict.key_figure == "TPR 0.050 [0.037, 0.065]"


@pytest.mark.parametrize("n", [400, 2000, 20000])
def test_the_tpr_beats_guessing_only_beyond_what_its_fpr_may_be(attack, n):
    """The exact bounds, from the beta distribution: hits of n / 2 against 1% of n / 2."""
    side = n // 2
    alarms = beta.ppf(0.975, side // 100 + 1, side - side // 100)
    hits = np.arange(1, side)
    least = int(hits[beta.ppf(0.025, hits, side - hits + 1) > alarms][0])

    def verdict(k):
        tpr = Measure(k / side, beta.ppf(0.025, k, side - k + 1), beta.ppf(0.975, k + 1, side - k))
        return only([attack((0.5, 0.48, 0.52), (tpr.value, tpr.low, tpr.high), n=n)])

    assert verdict(least).word == "Leaks a few images"
    assert verdict(least - 1).word != "Leaks a few images"


@pytest.mark.parametrize("tpr", [(0.008, 0.003, 0.019), (0.0, 0.0, 0.006), (0.020, 0.010, 0.035)])
def test_a_tpr_that_guessing_reaches_is_not_told_as_success(attack, tpr):
    sentence = only([attack((0.7, 0.68, 0.72), tpr, n=1194)]).sentence
    assert "no attack is surely better than guessing, which finds 0.01" in sentence
    assert "finds a share" not in sentence


def test_a_tpr_beyond_guessing_is_told(attack):
    sentence = only([attack((0.7, 0.68, 0.72), (0.12, 0.09, 0.15))]).sentence
    assert "At 1% false accusations mia.loss finds a share of 0.120 [0.09, 0.15]" in sentence


@pytest.mark.parametrize("flag", ["null-failed", "constant-scores", "one-control"])
def test_a_figure_whose_control_failed_does_not_count(attack, flag):
    verdict = only([attack((0.9, 0.88, 0.92), flags=(flag,))])
    assert (verdict.tone, verdict.word) == ("unknown", "No usable figure")
    both = [attack((0.9, 0.88, 0.92), flags=(flag,)), attack((0.5, 0.49, 0.51), method="mia.logit")]
    assert only(both).tone == "good"


@pytest.mark.parametrize(
    ("excess", "tone", "word"),
    [
        ((0.386, -0.16, 0.93), "unknown", "Inconclusive"),
        ((-0.061, -0.26, 0.14), "unknown", "Inconclusive"),
        ((0.02, -0.02, 0.06), "good", "No gain measurable"),
        ((-0.2, -0.3, -0.1), "good", "No gain measurable"),
        ((0.05, 0.03, 0.07), "bad", "Helps a thief slightly"),
        ((0.483, 0.31, 0.66), "bad", "Can be copied"),
    ],
)
def test_one_theft(theft, excess, tone, word):
    verdict = only([theft(excess)])
    assert (verdict.tone, verdict.word) == (tone, word)
    assert verdict.sentence.startswith(word)
    assert "did not help" not in verdict.sentence


def test_an_inconclusive_theft_says_what_it_leaves_open(theft):
    sentence = only([theft((0.386, -0.16, 0.93))]).sentence
    assert "excludes neither no gain nor one of 0.930" in sentence


def test_the_best_of_two_thefts_needs_more_with_few_copies(theft):
    """0.3 [0.05, 0.55]: times 2.241 / 1.96 its half width is 0.286, with Student's quantiles of
    three copies, 6.205 / 4.303, it is 0.361."""

    def of_two(n_seeds):
        return only([theft((0.3, 0.05, 0.55), n_seeds), theft((0.0, -0.1, 0.09), n_seeds, seed=1)])

    assert of_two(None).word == "Can be copied"
    few = of_two(3)
    assert few.tone == "unknown"
    assert "the best of 2 attacks can reach this by chance" in few.sentence


def test_every_theft_must_exclude_a_gain(theft):
    tight, wide = theft((0.02, -0.02, 0.06)), theft((0.0, -0.3, 0.3), seed=1)
    assert only([tight, wide]).tone == "unknown"


def test_the_theft_that_leaves_most_open_is_shown_where_none_shows_a_gain(theft):
    narrow, wide = theft((-0.014, -0.32, 0.29)), theft((0.386, -0.5, 0.93), seed=1)
    verdict = only([narrow, wide])
    assert verdict.key_figure == "excess 0.386 [-0.50, 0.93]"
    assert "excludes neither no gain nor one of 0.930" in verdict.sentence


def test_agreement_alone_shows_nothing(make):
    record = make.record(method="steal.knockoff", measures={"agreement": Measure(0.99, 0.98, 1.0)})
    assert only([record]).word == "No usable figure"


@pytest.mark.parametrize(
    ("p", "tone", "word"),
    [
        (0.72, "none", "No backdoor found"),
        (0.034, "none", "No backdoor found"),
        (0.01, "none", "No backdoor found"),
        (0.0099, "bad", "Backdoor suspected"),
        (0.0002, "bad", "Backdoor suspected"),
    ],
)
def test_one_detector(test_of, p, tone, word):
    verdict = only([test_of(p)])
    assert (verdict.tone, verdict.word) == (tone, word)
    assert "class 7" in verdict.sentence


def test_p_values_are_multiplied_by_the_number_of_detectors(test_of):
    verdict = only([test_of(0.006), test_of(0.5, seed=1)])
    assert (verdict.tone, verdict.key_figure) == ("none", "p = 0.012")
    assert "times 2 tests" in verdict.sentence
    assert only([test_of(0.004), test_of(0.5, seed=1)]).key_figure == "p = 0.008"


def test_an_odd_class_whose_trigger_does_not_work_is_unclear(test_of):
    verdict = only([test_of(0.001, (0.4, 0.33, 0.47), flags=("weak-trigger",))])
    assert (verdict.tone, verdict.word) == ("unknown", "Odd class, weak trigger")


def test_a_trigger_that_was_not_tried_is_said_so(test_of):
    assert "was not tried on held-out images" in only([test_of(0.001, None)]).sentence


def test_a_detector_without_triggers_names_none(make):
    measures = {"p_value": Measure(0.001), "infected_label": Measure(7)}
    unknown = {"trigger_l1": Measure(None), "attack_success": Measure(None, n=0)}
    verdict = only([make.record(method="backdoor.mm_bd", measures=measures | unknown)])
    assert (verdict.tone, verdict.word) == ("bad", "Backdoor suspected")
    assert "shows no trigger" in verdict.sentence


def test_margins_that_have_not_converged_show_no_absence(test_of):
    verdict = only([test_of(0.5, method="backdoor.mm_bd", flags=("not-converged",))])
    assert verdict.tone == "unknown"


def test_detectors_of_inputs_say_nothing_of_the_model(make):
    rng = np.random.default_rng(0)
    verdict = only([make.detector(rng, "a/b", 3.0)])
    assert (verdict.tone, verdict.word) == ("unknown", "Model not tested")
    assert "a control patch" in verdict.sentence


@pytest.mark.parametrize("flag", ["accuracy-gate", "chance-level", "train-queries"])
def test_flags_turn_an_absence_into_nothing_but_not_an_effect(attack, theft, test_of, flag):
    absences = [attack((0.5, 0.48, 0.52), flags=(flag,)), theft((0.0, -0.05, 0.05), flags=(flag,))]
    for verdict in verdicts([*absences, test_of(0.5, flags=(flag,))]):
        assert (verdict.tone, verdict.word) == ("unknown", "Inconclusive")
        assert verdict.sentence.startswith(f"Inconclusive because of {flag}; apart from that, no ")
    effect = only([attack((0.7, 0.68, 0.72), flags=(flag,))])
    assert effect.tone == "bad"
    assert effect.sentence.endswith(f"Read with care: {flag}.")


def test_an_attack_with_references_unlike_the_target_shows_nothing_alone(attack):
    badly = attack((0.5, 0.48, 0.52), method="mia.lira_online", flags=("references-unlike-target",))
    assert only([badly]).word == "Inconclusive"
    assert "because of references-unlike-target" in only([badly]).sentence
    assert only([badly, attack((0.5, 0.48, 0.52))]).word == "No leak measurable"
    assert "references-unlike" not in only([badly, attack((0.7, 0.68, 0.72))]).sentence


@pytest.mark.parametrize("flag", ["trigger-not-reached", "weak-trigger"])
def test_a_search_that_failed_finds_nothing(test_of, flag):
    assert only([test_of(0.5, flags=(flag,))]).word == "Inconclusive"


def test_records_without_figures(make, attack):
    refused = make.record(status="refused", error="accuracy 0.4")
    verdict = only([refused])
    assert (verdict.tone, verdict.sentence) == ("unknown", "Not evaluated (refused: accuracy 0.4).")
    assert only([attack((0.7, 0.68, 0.72)), refused]).sentence.endswith(
        "1 of 2 runs gave no figure."
    )


def test_one_verdict_a_threat_that_was_asked(demo):
    records, _ = demo
    mine = [record for record in records if record.model == "self/digits-badnets"]
    assert [(v.threat, v.title) for v in verdicts(mine)] == [
        ("mia", "Membership inference"),
        ("steal", "Model stealing"),
        ("backdoor", "Backdoor detection"),
    ]


def test_no_interval_that_holds_its_null_is_bad_and_no_wide_one_good(attack, theft):
    """Whatever the figures: ``bad`` lies beyond the null, ``good`` below what matters."""
    rng = np.random.default_rng(3)
    for _ in range(300):
        low, value, high = np.sort(rng.normal(0.05, 0.1, 3)).tolist()
        tone = only([theft((value, low, high))]).tone
        assert tone == ("bad" if low > 0 else "good" if high < 0.1 else "unknown")
        low, value, high = np.clip([0.5 + low, 0.5 + value, 0.5 + high], 0.01, 0.99).tolist()
        tone = only([attack((value, low, high))]).tone
        expected = "bad" if low > 0.5 else "good" if 0.5 <= high < 0.55 else "unknown"
        assert tone == expected
