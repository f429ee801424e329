"""The views of an evaluation: balanced, disjoint, the same on every call."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securitynet.datasets.decoded import as_dataset
from securitynet.datasets.images import Audit, Dataset, make_audit
from securitynet.errors import UsageError


def made(train: list[int], test: list[int], seed: int = 0) -> Dataset:
    """Build a data set with so many images per class in each split, in mixed order."""
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(np.repeat(np.arange(len(n)), n)) for n in (train, test)]
    labels = np.concatenate(parts)
    pixels = np.arange(len(labels) * 4, dtype=np.uint32).view(np.uint8)[: len(labels) * 4]
    meta = {
        "classes": [str(i) for i in range(len(train))],
        "n_train": sum(train),
        "notes": [],
        "fingerprint": f"{seed:064x}",
    }
    return as_dataset("made", pixels.reshape(-1, 2, 2, 1), labels, meta)


def views(audit: Audit) -> list[tuple[int, ...]]:
    data = audit.data
    chosen = (data.audit, data.queries, data.evaluation, data.clean, audit.test)
    return [tuple(view.indices.tolist()) for view in chosen]


def check(dataset: Dataset, audit: Audit, limit: int | None) -> None:
    data, n_train = audit.data, len(dataset.train)
    members = data.audit.indices[audit.is_member]
    outsiders = data.audit.indices[~audit.is_member]
    assert (members < n_train).all()
    assert (outsiders >= n_train).all()
    assert len(set(data.audit.indices.tolist())) == len(data.audit)
    per_class = [
        np.bincount(dataset.train.source_labels[chosen], minlength=dataset.num_classes)
        for chosen in (members, outsiders)
    ]
    assert (per_class[0] == per_class[1]).all()
    queries, evaluation = set(data.queries.indices), set(data.evaluation.indices)
    assert not queries & evaluation
    assert min(queries | evaluation) >= n_train
    assert set(data.clean.indices) <= queries
    assert set(audit.test.indices) == set(outsiders)
    if limit is None:
        assert len(queries) + len(evaluation) == len(dataset.test)
        smaller = np.minimum(
            np.bincount(dataset.train.labels, minlength=dataset.num_classes),
            np.bincount(dataset.test.labels, minlength=dataset.num_classes),
        )
        assert (per_class[0] == smaller).all()
    else:
        assert max(len(members), len(data.queries), len(data.evaluation)) <= limit


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.tuples(st.integers(2, 12), st.integers(2, 12)), min_size=2, max_size=6),
    limit=st.none() | st.integers(2, 40),
    seed=st.integers(0, 1000),
)
def test_properties(counts, limit, seed):
    train, test = [n for n, _ in counts], [n for _, n in counts]
    dataset = made(train, test, seed)
    audit = make_audit(dataset, limit=limit, n_clean=3)
    check(dataset, audit, limit)
    assert len(audit.data.clean) == min(3, len(audit.data.queries))
    again = make_audit(made(train, test, seed), limit=limit, n_clean=3)
    assert views(again) == views(audit)
    assert again.fingerprint == audit.fingerprint
    assert (again.is_member == audit.is_member).all()


def test_equal_classes_are_balanced_and_the_limit_is_used():
    audit = make_audit(made([50] * 5, [30] * 5), limit=100)
    labels = audit.data.audit.labels
    assert np.bincount(labels[audit.is_member]).tolist() == [20] * 5
    assert np.bincount(labels[~audit.is_member]).tolist() == [20] * 5


def test_halves_of_the_test_split_are_balanced_by_class():
    data = make_audit(made([9] * 4, [11] * 4)).data
    counts = [np.bincount(view.labels) for view in (data.queries, data.evaluation)]
    assert np.abs(counts[0] - counts[1]).max() <= 1
    assert abs(len(data.queries) - len(data.evaluation)) <= 1


def test_members_are_not_told_by_their_place():
    audit = make_audit(made([500] * 2, [500] * 2))
    first_half = audit.is_member[:1000].mean()
    assert 0.4 < first_half < 0.6


def test_other_data_give_other_views():
    one, two = (make_audit(made([20] * 3, [20] * 3, seed)) for seed in (1, 2))
    assert views(one) != views(two)
    assert one.fingerprint != two.fingerprint


def test_too_little_is_refused():
    with pytest.raises(UsageError, match="too few images"):
        make_audit(made([1], [5]))
