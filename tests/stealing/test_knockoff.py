import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from stealing_victims import FAST, N_EVALUATION, N_POOL, Fixed, audit_data, target

from securitynet.datasets.images import make_audit
from securitynet.datasets.library import load_dataset
from securitynet.errors import AccessError, RefusedError, UsageError
from securitynet.registry import Access, get_method
from securitynet.stealing import _surrogates
from securitynet.stealing._surrogates import Copyist, mean_kl
from securitynet.stealing.knockoff import Knockoff
from securitynet.targets.context import Context
from securitynet.training.trainer import Recipe


def steal(victim=None, data=None, context=None, **options):
    method = get_method("steal.knockoff").configure(**{**FAST, **options})
    return method(victim or target(), data or audit_data(), context or Context())


def agreement(evidence, labels="labels"):
    answers = [getattr(copy, labels) for copy in evidence.surrogates]
    return float((np.stack(answers) == evidence.target_labels).mean())


@pytest.mark.parametrize("response", ["soft", "hard"])
def test_the_copy_agrees_and_the_floor_does_not(response):
    evidence = steal(response=response)
    assert agreement(evidence) > 0.6
    assert agreement(evidence, "floor_labels") < 0.4  # chance is 0.25
    assert [copy.seed for copy in evidence.surrogates] == [0, 1]


def test_a_constant_target_is_copied_as_a_constant():
    evidence = steal(target(Fixed(scale=0.0, bias=(0.0, 0.0, 9.0, 0.0))))
    assert set(evidence.target_labels) == {2} and agreement(evidence) == 1.0
    assert agreement(evidence, "floor_labels") < 0.5


@pytest.mark.parametrize("response", ["soft", "hard"])
def test_queries_are_the_largest_budget_and_the_grading(response):
    victim = target()
    steal(victim, response=response, budgets=(150, 20), n_seeds=1)
    assert victim.queries == 150 + N_EVALUATION


def test_default_budget_is_the_whole_pool():
    victim = target()
    assert {copy.budget for copy in steal(victim).surrogates} == {N_POOL}
    assert victim.queries == N_POOL + N_EVALUATION


def test_hard_answers_need_only_labels_and_soft_ones_more():
    evidence = steal(target(access=Access.LABELS), response="hard", n_seeds=1)
    assert evidence.surrogates[0].kl is None
    with pytest.raises(AccessError):
        steal(target(access=Access.LABELS), response="soft", n_seeds=1)


def test_copies_learn_the_targets_answers_and_floors_the_true_labels(trainings):
    victim, data = target(), audit_data()
    steal(victim, data, n_seeds=1, budgets=(60,))
    stolen, truth = trainings
    assert np.array_equal(stolen, victim.scores(data.queries)[:60])
    assert np.array_equal(truth, data.queries.labels[:60])


def test_budgets_are_nested():
    both = steal(budgets=(200, 60, 60))
    alone = steal(budgets=(60,))
    assert [copy.budget for copy in both.surrogates] == [60, 60, 200, 200]
    for one, other in zip(both.surrogates[:2], alone.surrogates, strict=True):
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.floor_labels, other.floor_labels)


def test_too_large_budgets_and_too_small_pools_are_refused():
    victim = target()
    with pytest.raises(RefusedError, match=r"301 is more than the 300 images"):
        steal(victim, budgets=(10, 301))
    with pytest.raises(RefusedError, match="too few"):
        steal(victim, audit_data(n_pool=1))
    assert victim.queries == 0
    with pytest.raises(UsageError, match="budgets"):
        steal(victim, budgets=(1,))


def test_the_seed_decides_everything():
    first, same, other = (steal(context=Context(seed=seed), n_seeds=1) for seed in (0, 0, 1))
    for name in ("labels", "floor_labels"):
        values = [getattr(run.surrogates[0], name) for run in (first, same, other)]
        assert np.array_equal(values[0], values[1]) and not np.array_equal(values[0], values[2])
    assert first.surrogates[0].kl == same.surrogates[0].kl
    assert other.surrogates[0].seed == 1000


def test_floors_are_trained_once_for_all_models(trainings, tmp_path):
    context = Context(cache=tmp_path)
    first = steal(context=context)
    assert len(trainings) == 4
    second = steal(target(Fixed(seed=1)), context=context, response="hard")
    assert len(trainings) == 6  # two copies, no floor
    for one, other in zip(first.surrogates, second.surrogates, strict=True):
        assert np.array_equal(one.floor_labels, other.floor_labels)
    assert len(list((tmp_path / "floors").iterdir())) == 2


def test_a_cached_floor_is_the_floor_without_cache(tmp_path):
    kept, fresh = (steal(context=Context(cache=tmp_path)), steal())[0], steal(target(Fixed(seed=1)))
    again = steal(context=Context(cache=tmp_path))
    for copies in zip(kept.surrogates, again.surrogates, fresh.surrogates, strict=True):
        assert all(np.array_equal(copies[0].floor_labels, copy.floor_labels) for copy in copies)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 30},
        {"budgets": (299,)},
        {"augment": True},
        {"context_seed": 1},
        {"order_seed": 1},
        {"surrogate": "cnn_medium"},
    ],
)
def test_floors_of_other_work_are_not_taken(change, trainings, tmp_path):
    steal(context=Context(cache=tmp_path), n_seeds=1)
    trainings.clear()
    options = {name: value for name, value in change.items() if not name.endswith("_seed")}
    context = Context(cache=tmp_path, seed=change.get("context_seed", 0))
    steal(data=audit_data(order_seed=change.get("order_seed")), context=context, n_seeds=1,
          **options)  # fmt: skip
    assert len(trainings) == 2


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"not an archive"])
def test_a_damaged_floor_is_trained_again(damage, tmp_path):
    context = Context(cache=tmp_path)
    first = steal(context=context, n_seeds=1)
    (kept,) = (tmp_path / "floors").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage)
    again = steal(context=context, n_seeds=1)
    assert np.array_equal(first.surrogates[0].floor_labels, again.surrogates[0].floor_labels)
    assert len(kept.read_bytes()) == len(whole)


def test_kl_of_known_distributions():
    log_p = np.log([[0.5, 0.5], [0.25, 0.75]])
    assert mean_kl(log_p, log_p) == 0.0
    expected = (0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)) / 2
    assert mean_kl(log_p, np.log([[0.9, 0.1], [0.25, 0.75]])) == pytest.approx(expected)
    underflown = np.array([[0.0, -2000.0]])  # exp is 0: no share, no NaN
    assert mean_kl(underflown, np.log([[0.5, 0.5]])) == pytest.approx(np.log(2))


def test_soft_kl_is_that_of_the_copy():
    """A target of one posterior everywhere is copied to almost no divergence."""
    bias = (1.0, 0.0, -1.0, 0.5)
    copies = steal(target(Fixed(scale=0.0, bias=bias))).surrogates
    assert all(0 <= copy.kl < 0.05 for copy in copies)


def test_progress_names_the_copy():
    told = []
    steal(context=Context(progress=lambda share, what: told.append((share, what))))
    assert told[0] == (0.0, "soft: 300 queries, copy 1")
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[-1] < 1


def test_defaults_suit_a_small_data_set():
    """The demo's digits, 600 queries of 8x8 pixels: the floor must be a good classifier."""
    data = make_audit(load_dataset("digits")).data
    recipe = Recipe(
        epochs=Knockoff().epochs, label_smoothing=0.0, is_augmented=False, min_steps=200
    )
    floor = Copyist(data, "cnn_small", recipe, torch.device("cpu")).floor(data.queries, 0, None)
    assert (floor == data.evaluation.labels).mean() > 0.95


def test_listing_the_method_imports_no_torch():
    code = "import sys, securitynet.stealing.knockoff; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0


@pytest.mark.long
@pytest.mark.public
def test_default_floor_on_real_images(public_data, monkeypatch):
    """5,000 CIFAR-10 images: weak floors would make any agreement look like theft."""
    monkeypatch.setenv("SECURITYNET_DATA", str(public_data))
    data = make_audit(load_dataset("cifar10")).data
    recipe = Recipe(epochs=Knockoff().epochs, label_smoothing=0.0, is_augmented=False)
    floor = Copyist(data, "cnn_small", recipe, torch.device("cpu")).floor(data.queries, 0, None)
    assert (floor == data.evaluation.labels).mean() > 0.58


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("augment", [False, True])
def test_copies_flip_only_what_the_data_set_allows(is_mirrored, augment, monkeypatch):
    seen = []

    def fit(module, pixels, targets, *, recipe, **_):
        seen.append((recipe.is_augmented, recipe.is_flipped))
        return module.eval()

    monkeypatch.setattr(_surrogates, "fit", fit)
    steal(data=replace(audit_data(), is_mirrored=is_mirrored), n_seeds=1, augment=augment)
    assert seen == [(augment, is_mirrored)] * 2  # the copy and its floor


@pytest.mark.parametrize("method", ["steal.knockoff", "steal.active", "steal.jacobian"])
def test_images_without_labels_have_no_floor(method, trainings, tmp_path):
    data = audit_data()
    nobody = replace(data.queries, source_labels=np.full(N_POOL + N_EVALUATION, -1))
    attack = get_method(method).configure(**FAST, queries="ood:elsewhere")
    evidence = attack(target(), replace(data, queries=nobody), Context(cache=tmp_path))
    assert all(copy.floor_labels is None for copy in evidence.surrogates)
    assert evidence.flags == ("ood-queries",)
    assert all(len(targets) > 1 and targets.min() >= 0 for targets in trainings)
    assert not (tmp_path / "floors").exists()
