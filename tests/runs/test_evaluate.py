"""Planning: what is finished is skipped, what is asked twice is done once, bad input stops it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from securitynet.catalogue.cards import load_card
from securitynet.errors import ResourceError, UsageError
from securitynet.records import Evaluation, Measure
from securitynet.runs import evaluate
from securitynet.runs.evaluate import Listener, plan, run
from securitynet.runs.plan import Settings, choose_methods
from securitynet.runs.store import Store

METHODS = "mia.loss,mia.entropy"


@pytest.fixture(scope="session")
def images(dark_and_bright):
    return dark_and_bright(side=2, n=8)


@pytest.fixture
def make_card(tmp_path):
    """Make a card and its weights; the same seed gives the same weights."""

    def make(name, *, seed=0, **changes):
        folder = tmp_path / name
        folder.mkdir()
        weight = np.array([[-1.0] * 4, [1.0 + seed / 10] * 4], dtype=np.float32)
        tensors = {"1.weight": weight, "1.bias": np.array([4.0, 0.0], dtype=np.float32)}
        save_file(tensors, folder / "net.safetensors")
        card = {
            "name": name,
            "dataset": "shades",
            "num_classes": 2,
            "architecture": ["flatten", {"linear": [4, 2]}],
            "input": {"channels": 1, "height": 2, "width": 2},
            "weights": {"path": "net.safetensors"},
        }
        (folder / "card.json").write_text(json.dumps(card | changes), encoding="utf-8")
        return load_card(folder / "card.json")

    return make


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def settings(images):
    return Settings(data=str(images))


def jobs(planned):
    return [job for group in planned.groups for job in group.jobs]


def keep(store, job, status="ok", **values):
    """Keep a record of a job, as if it had been run."""
    record = Evaluation.of(job, status, **values)
    assert store.put(record)
    return record


@pytest.fixture
def choices():
    return choose_methods([METHODS])


def test_a_finished_job_is_left_out(make_card, store, settings, choices):
    cards = [make_card("a"), make_card("b", seed=1)]
    first = plan(choices, cards, settings, store)
    assert [(job.model, job.method) for job in jobs(first)] == [
        ("local/a", "mia.loss"), ("local/a", "mia.entropy"),
        ("local/b", "mia.loss"), ("local/b", "mia.entropy"),
    ]  # fmt: skip
    assert first.n_left == 4 and not first.finished
    record = keep(store, jobs(first)[1], measures={"auc": Measure(0.5, 0.4, 0.6, 24)})
    second = plan(choices, cards, settings, store)
    assert jobs(second) == [jobs(first)[i] for i in (0, 2, 3)]
    assert second.finished == (record,)
    for job in jobs(second):
        keep(store, job)
    third = plan(choices, cards, settings, store)
    assert third.groups == () and len(third.finished) == 4


@pytest.mark.parametrize(("status", "is_tried"), [("failed", True), ("refused", True),
                                                  ("ok", False), ("skipped", False)])  # fmt: skip
def test_troubles_are_tried_again_on_request_only(
    make_card, store, settings, choices, status, is_tried
):
    card = make_card("a")
    job = jobs(plan(choices, [card], settings, store))[0]
    keep(store, job, status, error=None if status == "ok" else "a reason")
    assert job not in jobs(plan(choices, [card], settings, store))
    again = plan(choices, [card], settings, store, is_retrying=True)
    assert (job in jobs(again)) == is_tried
    assert len(again.finished) == (0 if is_tried else 1)


def test_a_forced_job_is_served_by_an_unforced_figure_not_by_a_refusal(
    make_card, store, settings, choices
):
    card, forced = make_card("a"), replace(settings, is_forced=True)
    first, second = jobs(plan(choices, [card], settings, store))
    served = keep(store, first)
    keep(store, second, "refused", error="the accuracy is off")
    planned = plan(choices, [card], forced, store)
    assert planned.finished == (served,)
    assert jobs(planned) == [replace(second, is_forced=True)]


def test_what_is_asked_twice_is_done_once(make_card, store, settings, choices):
    """A model given twice, and the same weights under another name."""
    card, alias = make_card("a"), make_card("alias")
    planned = plan(choices, [card, card, alias], settings, store)
    assert [job.model for job in jobs(planned)] == ["local/a"] * 2
    for job in jobs(planned):
        keep(store, job)
    assert len(plan(choices, [card, card, alias], settings, store).finished) == 2


def test_the_only_model_must_be_fit_but_one_of_several_may_fail(
    make_card, store, settings, choices, tmp_path
):
    bad, good = make_card("bad", weights={"path": "gone.pt"}), make_card("good")
    with pytest.raises(ResourceError, match=r"gone\.pt"):
        plan(choices, [bad], settings, store)
    planned = plan(choices, [bad, good], settings, store)
    assert {job.model for job in jobs(planned)} == {"local/good"}
    assert [(p.model, p.status, p.method) for p in planned.problems] == [
        ("local/bad", "failed", "mia.loss"), ("local/bad", "failed", "mia.entropy"),
    ]  # fmt: skip
    assert "gone.pt" in planned.problems[0].error
    assert not store.folder.exists(), "planning writes nothing"


@pytest.mark.parametrize("change", [{"limit": 1}, {"limit": -5}, {"seeds": ()}])
def test_settings_that_mean_nothing_are_refused(make_card, store, settings, choices, change):
    with pytest.raises(UsageError, match=r"limit|seed"):
        plan(choices, [make_card("a")], replace(settings, **change), store)


def test_nothing_asked_for_is_refused(make_card, store, settings, choices):
    with pytest.raises(UsageError, match="no model"):
        plan(choices, [], settings, store)
    with pytest.raises(UsageError, match="no method"):
        plan([], [make_card("a")], settings, store)


def test_a_run_returns_old_and_new_records_in_order(make_card, store, settings, choices):
    cards = [make_card("b", seed=1), make_card("a"), make_card("c", weights={"path": "gone.pt"})]
    old = keep(store, jobs(plan(choices, cards, settings, store))[0])
    heard = []
    planned = plan(choices, cards, settings, store)
    records = run(planned, store, listener=Listener(done=heard.append))
    assert [(r.model, r.method, r.status) for r in records] == [
        ("local/a", "mia.entropy", "ok"), ("local/a", "mia.loss", "ok"),
        ("local/b", "mia.entropy", "ok"), ("local/b", "mia.loss", "ok"),
        ("local/c", "mia.entropy", "failed"), ("local/c", "mia.loss", "failed"),
    ]  # fmt: skip
    assert old in records and old not in heard
    assert sorted(r.key for r in heard) == sorted(job.key for job in jobs(planned))
    assert run(plan(choices, cards, settings, store), store) == records


def test_a_record_that_was_kept_but_not_told_is_returned(
    make_card, store, settings, choices, monkeypatch
):
    """A worker may be killed between the two."""

    def run_silently(groups, store, **_):
        for group in groups:
            for job in group.jobs:
                keep(store, job)

    planned = plan(choices, [make_card("a")], settings, store)
    monkeypatch.setattr(evaluate, "run_groups", run_silently)
    assert [record.method for record in run(planned, store)] == ["mia.entropy", "mia.loss"]
