from itertools import pairwise

import numpy as np
import pytest
from stealing_victims import FAST, N_EVALUATION, N_POOL, Fixed, audit_data, target

from securitynet.errors import AccessError, RefusedError
from securitynet.registry import Access, get_method
from securitynet.stealing._selection import farthest_first, most_uncertain
from securitynet.targets.context import Context


def steal(victim=None, data=None, context=None, **options):
    method = get_method("steal.active").configure(**{**FAST, **options})
    return method(victim or target(), data or audit_data(), context or Context())


class Spy:
    """A target that keeps what a thief asks of it, in order; the grading is no part of that."""

    def __init__(self, victim):
        self.victim, self.asked = victim, []

    def __getattr__(self, name):
        return getattr(self.victim, name)

    def log_scores(self, images):
        self.keep(images)
        return self.victim.log_scores(images)

    def labels(self, images):
        self.keep(images)
        return self.victim.labels(images)

    def keep(self, images):
        if images.indices.min() < N_POOL:
            self.asked.append(images.indices)


@pytest.mark.parametrize("selection", ["entropy", "kcenter"])
@pytest.mark.parametrize("response", ["soft", "hard"])
def test_copy_and_control_agree_and_the_floor_does_not(selection, response):
    evidence = steal(selection=selection, response=response, budgets=(200,), n_rounds=2)
    for copy in evidence.surrogates:
        assert (copy.labels == evidence.target_labels).mean() > 0.5
        assert (copy.random_labels == evidence.target_labels).mean() > 0.5
        assert (copy.floor_labels == evidence.target_labels).mean() < 0.4  # chance is 0.25
    assert [copy.seed for copy in evidence.surrogates] == [0, 1]


@pytest.mark.parametrize("selection", ["entropy", "kcenter"])
def test_a_budget_is_asked_in_rounds_and_no_image_twice(selection, trainings):
    victim = Spy(target())
    steal(victim, selection=selection, budgets=(50,), n_seeds=1, n_rounds=5)
    by_chance, *rounds = victim.asked
    assert [len(part) for part in (by_chance, *rounds)] == [50, 10, 10, 10, 10, 10]
    assert np.array_equal(rounds[0], by_chance[:10])  # copy and control begin alike
    chosen = np.concatenate(rounds)
    assert len(np.unique(chosen)) == 50 and set(chosen) != set(by_chance)
    assert set(chosen) <= set(audit_data().queries.indices)  # never an evaluation image
    assert [len(targets) for targets in trainings] == [50, 10, 20, 30, 40, 50, 50]


def test_every_image_asked_is_counted():
    victim = target()
    steal(victim, budgets=(40, 20), n_seeds=2)
    assert victim.queries == 2 * 2 * (40 + 20) + N_EVALUATION


def test_a_fifth_of_the_pool_is_the_budget():
    assert {copy.budget for copy in steal(n_seeds=1).surrogates} == {N_POOL // 5}


def test_copies_learn_the_targets_answers_and_floors_true_labels_of_random_images(trainings):
    victim, data = Spy(target()), audit_data()
    steal(victim, data, n_seeds=1, budgets=(50,), response="hard", n_rounds=2)
    by_chance, *rounds = victim.asked
    control, first, copy, floor = trainings
    assert np.array_equal(control, victim.labels(data.queries.take(by_chance)))
    assert np.array_equal(first, victim.labels(data.queries.take(rounds[0])))
    assert np.array_equal(copy, victim.labels(data.queries.take(np.concatenate(rounds))))
    assert np.array_equal(floor, data.queries.take(by_chance).labels)


def test_what_is_chosen_does_not_depend_on_true_labels_or_evaluation_images(trainings):
    plain = audit_data()
    asked = []
    for changes in ({}, {"label_seed": 9}, {"evaluation_seed": 9}):
        victim = Spy(target())
        steal(victim, audit_data(**changes), n_seeds=1, budgets=(50,), response="hard")
        asked.append(np.concatenate(victim.asked))
    assert np.array_equal(asked[0], asked[1]) and np.array_equal(asked[0], asked[2])
    assert not np.array_equal(plain.queries.labels, audit_data(label_seed=9).queries.labels)


def test_a_smaller_budget_has_the_beginning_of_the_larger_ones_random_images(trainings):
    victim = Spy(target())
    steal(victim, budgets=(20, 40), n_seeds=1, n_rounds=2)
    small, large = victim.asked[0], victim.asked[3]
    assert np.array_equal(small, large[:20])


def test_floors_are_shared_by_models_and_selections(trainings, tmp_path):
    context = Context(cache=tmp_path)
    steal(context=context, budgets=(50,), n_seeds=1)
    n_trained = len(trainings)
    steal(target(Fixed(seed=1)), context=context, budgets=(50,), n_seeds=1, selection="kcenter")
    assert len(trainings) == 2 * n_trained - 1
    assert len(list((tmp_path / "floors").iterdir())) == 1


def test_a_budget_must_leave_something_to_choose_from():
    victim = target()
    with pytest.raises(RefusedError, match=r"300 is more than the 299 images"):
        steal(victim, budgets=(300,))
    with pytest.raises(RefusedError, match="too few"):
        steal(victim, audit_data(n_pool=2))
    assert victim.queries == 0


def test_a_budget_smaller_than_the_rounds_is_asked_in_fewer():
    victim = target()
    steal(victim, budgets=(3,), n_seeds=1, n_rounds=10)
    assert victim.queries == 6 + N_EVALUATION


def test_hard_answers_need_only_labels_and_soft_ones_more():
    evidence = steal(target(access=Access.LABELS), response="hard", n_seeds=1)
    assert evidence.surrogates[0].kl is None
    with pytest.raises(AccessError):
        steal(target(access=Access.LABELS), response="soft", n_seeds=1)


def test_the_seed_decides_everything():
    first, same, other = (steal(context=Context(seed=seed), n_seeds=1) for seed in (0, 0, 1))
    for name in ("labels", "floor_labels", "random_labels"):
        values = [getattr(run.surrogates[0], name) for run in (first, same, other)]
        assert np.array_equal(values[0], values[1]) and not np.array_equal(values[0], values[2])


def test_progress_rises():
    told = []
    steal(context=Context(progress=lambda share, what: told.append((share, what))), budgets=(9,))
    assert told == [(0.0, "entropy: 9 queries, copy 1"), (0.5, "entropy: 9 queries, copy 2")]


def test_the_most_uncertain_first():
    p = np.array([[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]])
    with np.errstate(divide="ignore"):
        log_p = np.log(p)
    assert most_uncertain(log_p, 3).tolist() == [2, 1, 0]
    same = np.log(np.full((6, 4), 0.25))
    assert most_uncertain(same, 2).tolist() == [0, 1]  # ties keep the pool's order


def test_the_farthest_first_as_a_slow_oracle_finds_it():
    rng = np.random.default_rng(3)
    points, centres = rng.random((40, 5)), rng.random((3, 5))
    known, expected = [*centres], []
    for _ in range(12):
        far = [min(np.linalg.norm(point - c) for c in known) for point in points]
        expected.append(int(np.argmax(far)))
        known.append(points[expected[-1]])
    assert farthest_first(points, centres, 12).tolist() == expected


def test_the_radius_shrinks_and_no_point_is_chosen_twice():
    points = np.random.default_rng(0).random((30, 2))
    order = farthest_first(points, points[:1], 30)
    assert sorted(order) == list(range(30))
    reach = [
        min(np.linalg.norm(points[order[i]] - c) for c in (points[0], *points[order[:i]]))
        for i in range(1, 29)
    ]
    assert all(one >= other - 1e-9 for one, other in pairwise(reach))
    same = np.zeros((5, 2))
    assert sorted(farthest_first(same, same[:1], 5)) == list(range(5))
