"""References know image by image what they were trained on, and only speak where that is sound."""

import json
from dataclasses import replace

import numpy as np
import pytest

from securitynet.catalogue.cards import load_card
from securitynet.datasets.images import make_audit
from securitynet.datasets.library import load_dataset
from securitynet.errors import IntegrityError, RefusedError, UsageError
from securitynet.runs.adversary import as_references
from securitynet.runs.plan import Audits, Settings
from securitynet.training.manifests import (
    Reference,
    ReferenceSet,
    folds_of,
    load_references,
    reference_folder,
    training_images,
)
from securitynet.training.references import ReferencePlan, train_references
from securitynet.training.selftrained import TrainingPlan, train_models
from securitynet.training.trainer import Recipe

QUICK = Recipe(epochs=2, is_augmented=False)
LABELS = np.arange(10)


def silent(share, what):
    pass


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECURITYNET_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    """Keep one cache for the whole module: references are trained once."""
    monkeypatch.setenv("SECURITYNET_CACHE", str(cache))


@pytest.fixture(scope="module")
def digits(cache):
    return load_dataset("digits")


def plan(**changes):
    return ReferencePlan(architecture="securitynet/mlp", recipe=QUICK, n_models=2, **changes)


@pytest.fixture(scope="module")
def out(digits):
    return train_references(plan(), digits, silent)[0]


@pytest.fixture(scope="module")
def online(digits):
    return train_references(replace(plan(kind="online"), n_models=4), digits, silent)[0]


def test_a_reference_never_saw_what_it_speaks_for(digits, out):
    audit = make_audit(digits)
    found = as_references(out, audit, None)
    indices = audit.data.audit.indices
    for r, model in enumerate(out.models):
        assert not np.isin(indices[found.is_out[r]], model.trained_on).any()
        assert np.isin(model.trained_on, digits.test.indices).all()  # never a member
    assert not found.is_in.any()


def test_members_and_non_members_have_as_many_references(digits, out):
    audit = make_audit(digits)
    counts = as_references(out, audit, None).is_out.sum(0)
    assert set(counts) == {2}  # those of one fold, on either side
    folds = folds_of(digits, 2, 0)
    for label in LABELS:
        mine = digits.test.indices[digits.test.labels == label]
        assert abs(int((folds[mine] == 0).sum()) - len(mine) / 2) <= 1


def test_every_sample_is_in_for_half_of_the_online_references(digits, online):
    audit = make_audit(digits)
    found = as_references(online, audit, None)
    assert (found.is_in.sum(0) == 2).all() and (found.is_out.sum(0) == 2).all()
    rates = found.is_in[:, audit.is_member].mean(1), found.is_in[:, ~audit.is_member].mean(1)
    np.testing.assert_allclose(*rates, atol=0.06)  # by a coin flip, on either side


def test_an_audit_of_fewer_samples_finds_the_same_references(digits, online):
    few = make_audit(digits, limit=50)
    found = as_references(online, few, None)
    assert (found.is_in.sum(0) == 2).all()


def test_models_of_the_train_split_are_refused_as_references(digits, out):
    """All public models of a data set are IN for every member: the mask would leak the answer."""
    seen = tuple(replace(model, trained_on=digits.train.indices) for model in out.models)
    audit = make_audit(digits)
    found = as_references(replace(out, models=seen), audit, None)
    with pytest.raises(RefusedError, match=r"50\.0% of the samples have no reference") as caught:
        found.gather(lambda log_p, labels: log_p[:, 0], audit.data.audit.labels)
    assert "unsound-references" in caught.value.flags
    with pytest.raises(RefusedError):
        found.mean_log_p()


def test_gather_takes_each_samples_own_references(digits, out):
    audit = make_audit(digits)
    found = as_references(out, audit, None)
    labels = audit.data.audit.labels
    gathered = found.gather(lambda log_p, labels: log_p[:, 3], labels)
    assert gathered.shape == (2, len(labels))
    for i in (0, 1, 17, 400):
        mine = np.flatnonzero(found.is_out[:, i])
        np.testing.assert_array_equal(gathered[:, i], [found.answers(r)[i, 3] for r in mine])
        mean = np.log(np.mean([np.exp(found.answers(r)[i]) for r in mine], axis=0))
        np.testing.assert_allclose(found.mean_log_p()[i], mean, atol=1e-9)


def test_a_shadow_knows_its_own_members(digits, out):
    shadow = as_references(out, make_audit(digits), None).shadow(0)
    assert set(shadow.indices[shadow.is_member]) == set(out.models[0].trained_on)
    assert 0 < shadow.is_member.sum() < len(shadow.indices) == len(digits.test)
    assert shadow.log_p.shape == (len(digits.test), 10)


def test_the_same_plan_trains_nothing_and_more_models_keep_the_old(digits, out):
    before = {m.card.name: m.card.weights.checksum for m in out.models}
    again, folder = train_references(plan(), digits, silent)
    assert again.fingerprint == out.fingerprint
    more, _ = train_references(replace(plan(), n_models=3), digits, silent)
    after = {m.card.name: m.card.weights.checksum for m in more.models}
    assert len(after) == 6 and before.items() <= after.items()
    assert more.fingerprint != out.fingerprint and folder == reference_folder(digits, "out")
    train_references(plan(), digits, silent)  # as the other tests know it


def test_progress_says_how_many_on_how_many_images(digits, online):
    said = []
    wanted = replace(plan(kind="online"), n_models=4)
    train_references(wanted, digits, lambda share, what: said.append((share, what)))
    n = len(make_audit(digits).data.audit) // 2
    start = f"reference 4/4 on {n:,} images: half3-"
    assert said[-1][0] == 1.0 and said[-1][1].startswith(start)
    assert said[-1][1].endswith("is trained already")  # by the fixture


def test_more_online_references_keep_the_old_ones(digits, online):
    before = {m.card.name: m.card.weights.checksum for m in online.models}
    more, _ = train_references(replace(plan(kind="online"), n_models=6), digits, silent)
    after = {m.card.name: m.card.weights.checksum for m in more.models}
    assert len(after) == 6 and before.items() <= after.items()
    found = as_references(more, make_audit(digits), None)
    assert (found.is_in.sum(0) == 3).all()  # every pair shares all samples out
    assert len(np.unique(found.is_in, axis=1).T) == 8  # and each pair by a draw of its own


def test_online_references_share_out_what_runs_audit_without_near_duplicates(
    digits, tmp_path, monkeypatch
):
    """Without some test images the audit has other members, too: all of them need references."""
    copies = digits.test.indices[::7]
    for module in ("training.references", "runs.plan"):
        monkeypatch.setattr(f"securitynet.{module}.near_duplicates", lambda dataset: copies)
    found, _ = train_references(replace(plan(kind="online"), n_models=2), digits, silent)
    (path,) = train_models(TrainingPlan("all", "securitynet/mlp", QUICK), digits, tmp_path, silent)
    audit = Audits().of(load_card(path), Settings())
    assert not np.isin(audit.data.audit.indices, copies).any()
    assert (as_references(found, audit, None).is_in.sum(0) == 1).all()
    for model in found.models:
        assert not np.isin(model.trained_on, copies).any()


def test_listed_images_are_shared_out_besides_the_audit(digits, online):
    """A model of one's own has members and non-members of its own, which nobody saw so far."""
    others = np.setdiff1d(digits.test.indices, make_audit(digits).data.audit.indices)
    audit = make_audit(digits, nonmembers=others)
    labels = audit.data.audit.labels
    with pytest.raises(RefusedError, match=r"saw them by a coin flip.*--also FILE"):
        as_references(online, audit, None).gather(lambda log_p, _: log_p[:, 0], labels, "in")
    wanted = replace(plan(kind="online"), also=tuple(map(int, others)))
    more, _ = train_references(wanted, digits, silent)
    assert (as_references(more, audit, None).is_in.sum(0) == 1).all()
    assert (as_references(more, make_audit(digits), None).is_in.sum(0) == 1).all()  # as before


def test_no_test_accuracy_is_claimed_on_images_it_was_trained_on(out, online, digits):
    for model in out.models:
        claims = {claim.metric: claim.n for claim in model.card.claims}
        assert claims["test_accuracy"] == len(digits.test) - len(model.trained_on)
        assert not model.card.training["is_whole_train_split"]
    for model in online.models:
        (claim,) = [c for c in model.card.claims if c.metric == "test_accuracy"]
        assert claim.n < len(digits.test)


@pytest.mark.parametrize(
    "changes",
    [{"kind": "both"}, {"n_folds": 1}, {"n_models": 0}, {"kind": "online", "n_models": 3}],
)
def test_plans_that_leave_samples_without_references_are_refused(digits, changes):
    with pytest.raises(UsageError):
        train_references(replace(plan(), **changes), digits, silent)


@pytest.mark.parametrize("damage", ["list", "indices", "card"])
def test_damaged_references_are_named(digits, out, damage):
    folder = reference_folder(digits, "out")
    place = {
        "list": folder / "references.json",
        "indices": folder / out.models[0].card.name / "train_indices.npy",
        "card": folder / out.models[0].card.name / "card.json",
    }[damage]
    whole = place.read_bytes()
    try:
        if damage == "indices":
            np.save(place, out.models[0].trained_on[:-1])
        else:
            place.write_bytes(whole[:40])
        with pytest.raises(IntegrityError, match="damaged"):
            load_references(digits, "out")
    finally:
        place.write_bytes(whole)


def test_there_are_none_before_they_are_trained(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("SECURITYNET_CACHE", str(tmp_path))
    assert load_references(digits, "out") is None


# members of models of our own


def test_the_members_of_a_partly_trained_model_are_those_of_its_manifest(digits, tmp_path):
    wanted = TrainingPlan("few", "securitynet/mlp", QUICK, n_train=200)
    (path,) = train_models(wanted, digits, tmp_path, silent)
    members = training_images(load_card(path))
    assert len(members) == 200 and np.isin(members, digits.train.indices).all()
    audit = make_audit(digits, members=members)
    assert set(audit.data.audit.indices[audit.is_member]) <= set(members)
    np.save(path.parent / "train_indices.npy", members[1:])
    with pytest.raises(IntegrityError, match="not the list of the card"):
        training_images(load_card(path))


def test_a_model_of_the_whole_split_and_a_public_one_have_the_split_as_members(digits, tmp_path):
    (path,) = train_models(TrainingPlan("all", "securitynet/mlp", QUICK), digits, tmp_path, silent)
    card = load_card(path)
    assert training_images(card) is None
    foreign = json.loads(path.read_text()) | {"training": None, "origin": "benchmark"}
    path.write_text(json.dumps(foreign))
    assert training_images(load_card(path)) is None


def test_the_identity_covers_weights_and_training_sets(out):
    first = out.models[0]
    other = Reference(first.card, first.trained_on[1:], first.fold)
    changed = ReferenceSet(out.kind, (other, *out.models[1:]), out.n_folds, out.seed)
    assert changed.fingerprint != out.fingerprint
