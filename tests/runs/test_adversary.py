"""What the adversary knows: references by plan, and half of the membership, not what counts."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from securitynet import registry
from securitynet.cli.app import run_command
from securitynet.datasets.images import make_audit
from securitynet.datasets.library import load_dataset
from securitynet.errors import ResourceError
from securitynet.evidence import MembershipEvidence
from securitynet.registry import Access, method
from securitynet.runs import plan as plans
from securitynet.runs.adversary import reference_identity, references_of, run_known
from securitynet.runs.evaluate import plan
from securitynet.runs.grading import grade
from securitynet.runs.plan import Audits, Settings, full_config
from securitynet.runs.store import Store
from securitynet.training.references import ReferencePlan, train_references
from securitynet.training.selftrained import TrainingPlan, load_card, train_models
from securitynet.training.trainer import Recipe

QUICK = Recipe(epochs=1, is_augmented=False)


def silent(share, what):
    pass


def declared(name, **facts):
    """Return a method that only this file knows."""

    @method(name, access=Access.SCORES, paper="-", cost="-", soundness="-", variants=(), **facts)
    @dataclass(frozen=True, kw_only=True)
    class Declared:
        """Adds up what it may know."""

        def __call__(self, target, data, context):
            references = context.references
            mean = 0.0 if references is None else references.mean_log_p()[:, 0]
            known = 0.0 if context.known is None else context.known
            return MembershipEvidence(np.zeros(len(data.audit)) + mean + known)

    return registry._METHODS.pop(name)


KNOWING = declared("mia.test_knowing", needs=("membership",))
REFERRING = declared("mia.test_referring", needs=("references",))
USING = declared("mia.test_using", uses=("references",))
ONLINE = declared("mia.test_online", needs=("in_references",))


@pytest.fixture
def audit():
    return make_audit(load_dataset("digits"))


def test_no_score_that_counts_was_made_with_its_own_membership(audit):
    seen = []

    def call(known):
        seen.append(known)
        return MembershipEvidence(np.where(known == -1, 0.5, 9.0), flags=("mine",))

    evidence = run_known(KNOWING, audit, call)
    assert (evidence.scores == 0.5).all() and evidence.flags == ("mine", "one-control")
    first, second = seen
    assert ((first == -1) ^ (second == -1)).all()
    for known in seen:
        told = known >= 0
        assert (known[told] == audit.is_member[told]).all()
        for label in range(10):
            mine = told & (audit.data.audit.labels == label)
            members = int(audit.is_member[mine].sum())
            assert abs(members - (mine.sum() - members)) <= 1


def test_a_method_that_reads_its_answers_off_what_it_knows_gains_nothing(audit):
    """The scores of known samples are thrown away, so the mask cannot leak into the figure."""

    def call(known):
        return MembershipEvidence(known.astype(float))

    auc = grade(run_known(KNOWING, audit, call), audit).measures["auc"]
    assert auc.value == 0.5


def test_nulls_are_cross_fitted_too_and_a_part_of_the_samples_is_not(audit):
    def call(known):
        free = np.where(known == -1, 0.25, 7.0)
        return MembershipEvidence(free, free + 1, free + 2)

    evidence = run_known(KNOWING, audit, call)
    assert (evidence.target_free == 1.25).all() and (evidence.random_target == 2.25).all()
    assert "one-control" not in evidence.flags
    with pytest.raises(ValueError, match="all samples"):
        run_known(KNOWING, audit, lambda known: MembershipEvidence(known[:5], index=np.arange(5)))


def test_a_method_without_need_is_called_once(audit):
    assert run_known(USING, audit, lambda known: known) is None


# plans


@pytest.fixture
def digits():
    return load_dataset("digits")


@pytest.fixture
def card(digits, tmp_path):
    (path,) = train_models(TrainingPlan("m", "securitynet/mlp", QUICK), digits, tmp_path, silent)
    return load_card(path)


def planned(card, chosen, tmp_path, **settings):
    choices = [(entry, full_config(entry, {})) for entry in chosen]
    return plan(choices, [card], Settings(**settings), Store(tmp_path / "store"))


def referenced(digits, kind="out", **changes):
    wanted = ReferencePlan(kind, architecture="securitynet/mlp", recipe=QUICK, n_models=2)
    return train_references(replace(wanted, **changes), digits, silent)[0]


def test_without_references_what_needs_them_is_left_out_and_says_how(card, tmp_path):
    found = planned(card, [REFERRING, USING, ONLINE], tmp_path)
    assert [job.method for group in found.groups for job in group.jobs] == ["mia.test_using"]
    text = " | ".join(found.left_out)
    assert "mia.test_referring: no references for digits yet" in text
    assert "mia.test_online: no online references for digits yet" in text  # others may be there
    assert "`securitynet train references --data digits --kind online`" in text


def test_a_run_of_nothing_but_lacking_methods_is_an_error(card, tmp_path):
    with pytest.raises(ResourceError, match="train references --data digits`"):
        planned(card, [REFERRING], tmp_path)


def test_references_are_part_of_a_jobs_identity(card, digits, tmp_path):
    (alone,) = planned(card, [USING], tmp_path).groups[0].jobs
    known = referenced(digits)
    (job,) = planned(card, [USING], tmp_path).groups[0].jobs
    assert job.conditions == {"references": known.fingerprint} and job.key != alone.key
    more = referenced(digits, n_models=3)
    (other,) = planned(card, [USING], tmp_path).groups[0].jobs
    assert other.conditions == {"references": more.fingerprint} and other.key != job.key
    assert alone.conditions == {}


def test_references_that_changed_after_the_plan_are_not_used(card, digits, tmp_path, audit):
    referenced(digits)
    (job,) = planned(card, [REFERRING], tmp_path).groups[0].jobs
    assert len(references_of(job, audit, None)) == 4
    referenced(digits, n_models=1)
    with pytest.raises(ResourceError, match="changed since"):
        references_of(job, audit, None)
    assert reference_identity(replace(job, conditions={})) is None


def test_online_references_are_another_kind(card, digits, tmp_path, audit):
    found = referenced(digits, "online")
    (job,) = planned(card, [ONLINE], tmp_path).groups[0].jobs
    assert job.conditions == {"in_references": found.fingerprint}
    assert references_of(job, audit, None).is_in.any()


# whose members


def test_a_partly_trained_model_is_audited_on_its_own_members(digits, tmp_path):
    wanted = TrainingPlan("few", "securitynet/mlp", QUICK, n_train=300)
    (path,) = train_models(wanted, digits, tmp_path, silent)
    audit = Audits().of(load_card(path), Settings())
    members = audit.data.audit.indices[audit.is_member]
    assert set(members) <= set(np.load(path.parent / "train_indices.npy"))
    assert len(members) < 300 + 1


def test_lists_of_members_take_the_place_of_the_splits(card, tmp_path):
    (tmp_path / "in").write_text("# mine\ntrain:3\n4\n\n" + "\n".join(map(str, range(5, 200))))
    (tmp_path / "out").write_text("\n".join(f"train:{i}" for i in range(300, 500)))
    lists = {"members": tmp_path / "in", "nonmembers": tmp_path / "out"}
    audits = Audits()
    audit = audits.of(card, Settings(**lists))
    indices = audit.data.audit.indices
    assert set(indices[audit.is_member]) <= set(range(3, 200))
    assert set(indices[~audit.is_member]) <= set(range(300, 500))
    assert audits.of(card, Settings()).fingerprint != audit.fingerprint


def test_lists_by_the_command_line(card, tmp_path, capsys):
    for name, split in (("in", "train"), ("out", "test")):
        (tmp_path / name).write_text("\n".join(f"{split}:{i}" for i in range(400)))
    words = ["run", "mia.loss", str(tmp_path / "m" / "card.json"), "--store", str(tmp_path / "s")]
    lists = ["--members", str(tmp_path / "in"), "--nonmembers", str(tmp_path / "out")]
    assert run_command([*words, *lists]) == 0
    (tmp_path / "out").write_text("train:0\n1\n")
    assert run_command([*words, *lists]) == 2
    assert "2 images are members and non-members" in capsys.readouterr().err


def test_near_duplicates_are_left_out_or_noted(card, monkeypatch, digits):
    monkeypatch.setattr(plans, "HAVE_COPIES", ("digits",))
    audits = Audits()
    assert "near-duplicates-kept" in audits.of(card, Settings()).notes
    copies = digits.test.indices[:7]
    monkeypatch.setattr(plans, "near_duplicates", lambda dataset: copies)
    audit = Audits().of(card, Settings())
    assert "near-duplicates-kept" not in audit.notes
    assert not np.isin(audit.data.audit.indices, copies).any()
