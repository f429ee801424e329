"""Words and figures, by hand."""

import pytest

from securitynet.records import Measure
from securitynet.reports.wording import (
    NBSP,
    cell,
    class_name,
    figure,
    flag_text,
    interval_text,
    labeller,
    number,
    p_value,
    plain,
    sample_size,
    sentence,
    shown,
    split_figure,
    split_label,
    unbroken,
    worst_null,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (0.12345, "0.123"),
        (-0.06123, "-0.061"),
        (1.0, "1.000"),
        (2.0, "2"),
        (9.7354, "9.735"),
        (43.1234, "43.1"),
        (1234.0, "1,234"),
        (1234.5, "1,234"),
        (12345678.0, "1.23e+07"),
        (1e300, "1e+300"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.62, 0.69, "[0.62, 0.69]"),
        (0.994, 1.0, "[0.994, 1.000]"),
        (0.501, 0.56, "[0.501, 0.560]"),  # 0.50 would read as if 0.5 were inside
        (-0.004, 0.3, "[-0.004, 0.300]"),
        (-0.26, 0.14, "[-0.26, 0.14]"),
        (12.0, 40.5, "[12, 40.5]"),
        (None, 0.5, ""),
    ],
)
def test_intervals(low, high, text):
    assert interval_text(low, high) == text


def test_figures():
    assert figure(None) == figure(Measure(None)) == "-"
    assert figure(Measure(0.834, 0.81, 0.86)) == "0.834 [0.81, 0.86]"
    assert figure(Measure(0.834)) == "0.834"
    assert split_figure("0.834 [0.81, 0.86]") == ("0.834", "[0.81, 0.86]")
    assert split_figure("5 (dog)") == ("5 (dog)", "")


@pytest.mark.parametrize(
    ("p", "text"),
    [(None, "-"), (0.0002, "<0.001"), (0.001, "0.001"), (0.0344, "0.034"), (0.725, "0.72")],
)
def test_p_values(p, text):
    assert p_value(Measure(p)) == text


def test_what_acts_is_made_visible():
    assert plain("a\x1b[2Jb\u202egnp\x00\n\ud800\u2028") == "a�[2Jb�gnp����"
    assert plain("modèle/网络 été") == "modèle/网络 été"


def test_long_texts_are_cut_and_say_so():
    name = "a/" + "x" * 1_000_000 + "-end"
    assert len(shown(name)) == 240
    assert shown(name).startswith("…") and shown(name).endswith("-end")
    assert sentence("begin " + name).startswith("begin a/x")
    assert len(sentence("begin " + name)) == 960 and sentence("begin " + name).endswith("…")
    assert shown("as it is") == sentence("as it is") == "as it is"


def test_figures_are_tied():
    text = "AUC 0.5 [0.4, 0.6] and -0.06 [-0.1, -0.0], p < 0.001, n = 5, a [b, c] or map n = x"
    tied = unbroken(text)
    assert tied.replace(NBSP, " ") == text
    assert tied.split(" ") == [
        "AUC", f"0.5{NBSP}[0.4,{NBSP}0.6]", "and", f"-0.06{NBSP}[-0.1,{NBSP}-0.0],",
        f"p{NBSP}<{NBSP}0.001,", f"n{NBSP}={NBSP}5,", "a", "[b,", "c]", "or", "map", "n", "=", "x",
    ]  # fmt: skip


def test_labels_show_what_differs_and_nothing_else(make):
    same = {"augment": False, "epochs": 6}
    soft = make.record(method="steal.knockoff", config={"response": "soft", **same})
    hard = make.record(method="steal.knockoff", config={"response": "hard", **same})
    alone = make.record(method="mia.loss", config={"x": 1})
    label = labeller([soft, hard, alone])
    assert [label(r) for r in (soft, hard, alone)] == [
        "steal.knockoff (response=soft)",
        "steal.knockoff (response=hard)",
        "mia.loss",
    ]
    assert split_label(label(soft)) == ("steal.knockoff", ("response=soft",))
    assert split_label("mia.loss") == ("mia.loss", ())


def test_labels_tell_seeds_limits_versions_and_switches_apart(make):
    def records(*values):
        made = [make.record(method="mia.x", **value) for value in values]
        return [labeller(made)(record) for record in made]

    assert records({"seed": 0}, {"seed": 1000}) == ["mia.x (seed 0)", "mia.x (seed 1000)"]
    assert records({"limit": None}, {"limit": 1000}) == ["mia.x", "mia.x (limit 1,000)"]
    assert records({"version": 1}, {"version": 2}) == ["mia.x (version 1)", "mia.x (version 2)"]
    on, off = records({"config": {"per_class": True}}, {"config": {"per_class": False}})
    assert (on, off) == ("mia.x (per_class)", "mia.x")
    many = records({"config": {"b": [1, 2], "c": 3}}, {"config": {"b": [1], "c": 4}})
    assert many == ["mia.x (b=1,2, c=3)", "mia.x (b=1, c=4)"]


def test_cells(make):
    measures = {
        "p_value": Measure(0.0002),
        "infected_label": Measure(1),
        "trigger_l1": Measure(6.119),
        "budget": Measure(12000),
        "auc": Measure(0.5, 0.48, 0.52, 2000),
    }
    nulls = {"target_free_auc": Measure(0.503), "random_target_auc": Measure(0.41, 0.4, 0.42)}
    details = {"classes": ["cat", "dog"]}
    record = make.record(measures=measures, nulls=nulls, details=details)
    names = ("p_value", "infected_label", "trigger_l1", "budget", "auc", "gap", "null")
    assert [cell(record, name) for name in names] == [
        "<0.001", "1 (dog)", "6.1", "12,000", "0.500 [0.480, 0.520]", "-", "0.410 [0.400, 0.420]",
    ]  # fmt: skip
    assert worst_null(record) == nulls["random_target_auc"]
    assert sample_size(record) == "2,000"


def test_the_sample_size_of_an_attack_on_a_part_of_the_samples_is_that_part(make):
    measures = {"auc": Measure(0.5, 0.4, 0.6, 1000), "test_accuracy": Measure(0.9, n=10_000)}
    assert sample_size(make.record(method="mia.label_noise", measures=measures)) == "1,000"


@pytest.mark.parametrize(
    ("classes", "label", "text"),
    [
        (["cat"], 5, "5"),
        (None, 5, "5"),
        ("dogs", 1, "1"),
        ({"a": 1}, 1, "1"),
        (["0", "1"], 1, "1"),
        (["a", "b"], -1, "-1"),
        (["a", "b"], 1e9, "1e+09"),
    ],
)
def test_class_names_survive_odd_records(make, classes, label, text):
    record = make.record(measures={"infected_label": Measure(label)}, details={"classes": classes})
    assert class_name(record) == text


def test_flags_are_explained():
    assert "JPEG" in flag_text("jpeg-compressed")
    assert flag_text("skipped-images:12") == flag_text("skipped-images")
    assert "documentation" in flag_text("unheard-of")
