"""Grouping against medians computed by hand."""

import pytest

from securitynet.errors import UsageError
from securitynet.records import Measure
from securitynet.reports.sections import (
    about_model,
    common_flags,
    grouped,
    sections,
    troubles_by_reason,
)
from securitynet.reports.wording import labeller


@pytest.fixture
def attacks(make):
    def one(model, auc, origin="benchmark", **values):
        measures = {"auc": Measure(auc, auc - 0.1, auc + 0.1, 100), "gap": Measure(0.1)}
        return make.record(model, "mia.loss", measures=measures, origin=origin, **values)

    return [
        one("a", 0.60, seed=0),
        one("a", 0.70, seed=1),
        one("a", 0.95, seed=2, flags=("null-failed",)),
        one("b", 0.80, seed=0),
        one("c", 0.55, origin="self-trained", seed=0),
        make.record("d", "mia.loss", status="failed", error="no memory", seed=0),
    ]


def test_medians_over_models_by_method(attacks):
    """Seeds of one model count as one: 0.65, 0.80 and 0.55 have the median 0.65."""
    (group,) = grouped(attacks, "method")
    assert (group.section, group.name) == ("Membership inference", "mia.loss")
    assert (group.n_models, group.n_left_out) == (3, 2)
    auc = group.measures["auc"]
    assert (auc.value, auc.low, auc.high, auc.n) == pytest.approx((0.65, 0.55, 0.80, 3))
    assert list(group.measures) == ["auc"]  # of the target itself nothing


def test_medians_over_models_by_origin(attacks):
    ours, theirs = grouped(attacks, "origin")
    assert (ours.name, theirs.name) == ("mia.loss (benchmark)", "mia.loss (self-trained)")
    assert ours.measures["auc"].value == pytest.approx(0.725)  # of 0.65 and 0.80
    assert (ours.n_models, ours.n_left_out) == (2, 2)
    assert theirs.measures["auc"].value == pytest.approx(0.55)
    assert (theirs.n_models, theirs.n_left_out) == (1, 0)


def test_options_make_groups_and_origins_stand_beside_each_other(make):
    def one(model, auc, response, origin):
        measures = {"excess_agreement": Measure(auc)}
        config = {"response": response}
        return make.record(model, "steal.knockoff", measures=measures, config=config, origin=origin)

    records = [one("a", 0.1, "soft", "other"), one("b", 0.3, "soft", "self-trained"),
               one("a", 0.2, "hard", "other"), one("c", 0.5, "soft", "other")]  # fmt: skip
    found = {
        group.name: group.measures["excess_agreement"].value for group in grouped(records, "origin")
    }
    assert found == {
        "steal.knockoff (other, response=hard)": 0.2,
        "steal.knockoff (other, response=soft)": 0.3,
        "steal.knockoff (self-trained, response=soft)": 0.3,
    }
    assert list(found) == sorted(found)


def test_nothing_usable_is_unknown(make):
    record = make.record(method="mia.loss", measures={"auc": Measure(None)})
    (group,) = grouped([record], "method")
    assert group.measures["auc"] == Measure(None)


def test_an_unknown_grouping_is_refused():
    with pytest.raises(UsageError, match="did you mean origin"):
        grouped([], "orgin")


def test_sections_hold_every_record_and_every_measure(demo):
    records, _ = demo
    found = sections(records)
    assert [section.title for section in found] == [
        "Membership inference",
        "Model stealing",
        "Backdoor detection (models)",
        "Backdoor detection (inputs)",
    ]
    held = [r.key for section in found for r in (*section.records, *section.troubles)]
    assert sorted(held) == sorted(record.key for record in records)
    target = {"train_accuracy", "test_accuracy", "gap", "target_accuracy"}
    for section in found:
        measured = {name for record in section.records for name in record.measures}
        assert measured - target <= {*section.names, *section.others}
        assert not set(section.names) & set(section.others)


def test_a_record_of_an_unknown_family_is_not_lost(make):
    record = make.record(method="poison.x", measures={"rate": Measure(0.5), "auc": Measure(0.6)})
    failed = make.record(method="poison.y", status="failed", error="no")
    (section,) = sections([record, failed])
    assert (section.title, section.names) == ("Other methods", ("auc", "rate"))
    assert (section.records, section.troubles) == ((record,), (failed,))


def test_what_is_said_of_the_target_once(make):
    def one(accuracy, **values):
        return make.record(measures={"train_accuracy": Measure(accuracy)}, **values)

    assert about_model([one(0.9), one(0.9)], "mia") == {"train accuracy": "0.900"}
    assert about_model([one(0.9), one(0.8)], "mia") == {"train accuracy": "0.900 or 0.800"}
    assert about_model([one(None)], "mia") == {}


def test_flags_of_all(make):
    first, second = make.record(flags=("a", "b")), make.record(flags=("b", "c"))
    failed = make.record(status="failed", flags=("x",))
    assert common_flags([first, second, failed]) == ("b",)
    assert common_flags([first]) == ()


def test_one_reason_for_many(make):
    records = [make.record(method=f"mia.{k}", status="failed", error="no memory") for k in "ab"]
    records += [make.record(method="mia.c", status="refused", error="no memory"), make.record()]
    assert troubles_by_reason(records, labeller(records)) == {
        ("failed", "no memory"): ["mia.a", "mia.b"],
        ("refused", "no memory"): ["mia.c"],
    }
