"""The pools a thief may ask: the test split's half, another data set resized, training images."""

from dataclasses import replace

import numpy as np
import pytest

from securitynet.datasets.images import Dataset, Images, make_audit
from securitynet.datasets.library import load_dataset
from securitynet.errors import RefusedError, ResourceError, UsageError
from securitynet.records import Job
from securitynet.runs import queries
from securitynet.runs.queries import pool_identity, with_pool
from securitynet.stealing.knockoff import Knockoff
from securitynet.targets.transform import fitted


@pytest.fixture
def digits():
    return make_audit(load_dataset("digits"))


def dataset(n=50, side=12, channels=3, seed=0, sides=None):
    rng = np.random.default_rng(seed)
    shape = (n, *(sides or (side, side)), channels)
    pixels, labels = rng.integers(0, 256, shape, dtype=np.uint8), np.arange(n) % 2
    whole = Images(pixels, labels, np.arange(n), f"other {seed} {shape}")
    half = n // 2
    return Dataset("other", whole.take(slice(half)), whole.take(slice(half, None)), ("a", "b"))


@pytest.fixture
def others(monkeypatch):
    """Data sets by name, in place of those on disk."""
    known = {}
    monkeypatch.setattr(queries, "load_dataset", known.__getitem__)
    return known


def job(audit, other=None, **config):
    conditions = {} if other is None else {"queries": pool_identity(other, audit.dataset)}
    return Job(
        "steal.knockoff", 3, config, "a/b", "0", "0", "other", "digits", "0",
        conditions=conditions,
    )  # fmt: skip


def test_in_distribution_queries_are_the_audits(digits):
    for config in ({}, {"queries": "indist"}):
        assert with_pool(job(digits, **config), digits) is digits.data


def test_training_images_are_the_members_with_their_labels(digits):
    data = with_pool(job(digits, queries="train", budgets=[]), digits)
    members = digits.data.audit.indices[digits.is_member]
    assert np.array_equal(data.queries.indices, members[: len(digits.data.queries)])
    assert (data.queries.labels >= 0).all()
    assert data.evaluation is digits.data.evaluation
    assert not set(data.queries.indices) & set(digits.test.indices)


def test_another_data_set_takes_the_targets_shape_and_has_no_labels(digits, others):
    others["far"] = other = dataset(n=700)
    data = with_pool(job(digits, other, queries="ood:far", budgets=[]), digits)
    assert len(data.queries) == len(digits.data.queries) == 600
    assert data.queries.shape == digits.data.evaluation.shape == (8, 8, 1)
    assert set(data.queries.labels) == {-1}
    again = with_pool(job(digits, other, queries="ood:far", budgets=[]), digits)
    assert data.queries.fingerprint == again.queries.fingerprint
    assert np.array_equal(data.queries.pixels(), again.queries.pixels())
    larger = with_pool(job(digits, other, queries="ood:far", budgets=[3, 650]), digits).queries
    assert len(larger) == 650 and larger.fingerprint != data.queries.fingerprint
    assert np.array_equal(larger.pixels(0, 600), data.queries.pixels())


def test_a_small_data_set_is_asked_whole(digits, others):
    others["near"] = other = dataset(n=30, seed=1)
    found = with_pool(job(digits, other, queries="ood:near", budgets=[500]), digits).queries
    assert len(found) == 30
    source = np.concatenate([split.pixels() for split in (other.train, other.test)])
    expected = fitted(source, 1, (8, 8))
    assert {row.tobytes() for row in expected} == {row.tobytes() for row in found.pixels()}


def test_the_targets_own_data_set_is_no_other(digits):
    with pytest.raises(UsageError, match="own data set"):
        pool_identity(load_dataset("digits"), digits.dataset)


def test_an_evaluation_image_in_the_pool_is_refused(digits, others):
    copy = replace(load_dataset("digits"), test=digits.data.evaluation)
    others["copy"] = copy
    with pytest.raises(RefusedError, match="query images are evaluation images too"):
        with_pool(job(digits, copy, queries="ood:copy", budgets=[]), digits)


def test_a_data_set_that_changed_since_the_plan_is_no_pool(digits, others):
    others["far"] = dataset(seed=2)
    with pytest.raises(ResourceError, match="has changed"):
        with_pool(job(digits, dataset(seed=3), queries="ood:far", budgets=[]), digits)


def test_volumes_are_not_asked_of_a_model_of_pictures(digits, others):
    others["scans"] = other = dataset(sides=(4, 8, 8), channels=1)
    with pytest.raises(RefusedError, match="only pictures"):
        with_pool(job(digits, other, queries="ood:scans", budgets=[]), digits)


def test_pictures_are_fitted():
    grey = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1) * 4
    assert np.array_equal(fitted(grey, 1, (8, 8)), grey)
    coloured = fitted(grey, 3, (8, 8))
    assert coloured.shape == (1, 8, 8, 3) and (coloured == grey).all()
    assert np.array_equal(fitted(coloured, 1, (8, 8)), grey)
    flat = np.full((2, 5, 7, 3), 90, np.uint8)
    assert (fitted(flat, 3, (12, 4)) == 90).all() and fitted(flat, 1, (2, 2)).shape == (2, 2, 2, 1)


@pytest.mark.parametrize("wrong", ["", "ood:", "ood", "test", "Train"])
def test_queries_of_no_known_kind_are_refused(wrong):
    with pytest.raises(UsageError, match="indist, train, ood:NAME"):
        Knockoff(queries=wrong)
