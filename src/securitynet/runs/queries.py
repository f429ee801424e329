"""What a thief asks about: a half of the test split, another data set, or the training images.

A stealing method with an option ``queries`` gets its pool here, because only the harness knows
which images the target was trained on. Whatever is asked, copies are judged on the same half of
the test split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from securitynet.datasets.images import Audit, AuditData, Dataset, Images
from securitynet.datasets.library import load_dataset
from securitynet.errors import RefusedError, ResourceError, UsageError
from securitynet.records import Job, fingerprint

POOL_VERSION = 1
OOD = "ood:"
CHUNK = 1024
"""Images that are resized at once."""


def other_dataset(config: Mapping[str, Any]) -> str | None:
    """Return the name of the data set that a configuration asks about, if not the target's own."""
    queries = config.get("queries")
    is_other = isinstance(queries, str) and queries.startswith(OOD)
    return str(queries).removeprefix(OOD) if is_other else None


def pool_identity(other: Dataset, own: Dataset | None) -> str:
    """Return the identity of another data set as a query pool.

    Raises:
        UsageError: If it is the target's own.
    """
    if own is not None and other.fingerprint == own.fingerprint:
        raise UsageError(
            f"{other.name} is the target's own data set",
            hint="queries=indist asks its test images, queries=train its training images",
        )
    return fingerprint([POOL_VERSION, other.fingerprint])


def with_pool(job: Job, audit: Audit) -> AuditData:
    """Return the data of an audit with the query pool that a job names.

    The pool is as large as the half of the test split, or as the largest budget where that is
    more and there are as many.

    Args:
        job: Its configuration may have ``queries`` and ``budgets``.
        audit: The data.

    Raises:
        RefusedError: If an evaluation image is in the pool, or pictures would ask a model of
            volumes.
        ResourceError: If the other data set is no longer the one of the plan.
    """
    data, other = audit.data, other_dataset(job.config)
    n = max(len(data.queries), *job.config.get("budgets") or (0,))
    if other is not None:
        dataset = load_dataset(other)
        if pool_identity(dataset, audit.dataset) != job.conditions.get("queries"):
            raise ResourceError(
                f"{other} has changed since this run was planned",
                hint="give the same command again",
            )
        pool = _resized(dataset, n, data.evaluation.shape)
    elif job.config.get("queries") == "train":
        pool = data.audit.take(np.flatnonzero(audit.is_member)[:n])
    else:
        return data
    _check_apart(pool, data.evaluation)
    return replace(data, queries=pool)


def _resized(dataset: Dataset, n: int, shape: tuple[int, ...]) -> Images:
    """Return ``n`` random images of a data set, or all, in another shape and without labels.

    Sides are resized bilinearly with antialiasing, colours become grey by their luma, and grey is
    repeated. A label is -1: none of the target's classes is true of these images.
    """
    from securitynet.targets.transform import fitted  # loads torch, which a plan does without

    source = dataset.train
    if len(source.shape) != len(shape) or len(shape) != 3:
        raise RefusedError(
            "only pictures can be asked of a model of pictures",
            where=dataset.name,
            hint="queries=indist or queries=train",
            flags=["queries"],
        )
    rng = np.random.default_rng(int(dataset.fingerprint[:16], 16))
    indices = np.concatenate([dataset.train.indices, dataset.test.indices])
    drawn = replace(source, indices=rng.permutation(indices)[:n])
    height, width, channels = shape
    parts = [
        fitted(drawn.pixels(start, start + CHUNK), channels, (height, width))
        for start in range(0, len(drawn), CHUNK)
    ]
    identity = fingerprint([POOL_VERSION, drawn.fingerprint, list(shape)])
    nobody = np.full(len(drawn), -1, dtype=np.int64)
    return Images(np.concatenate(parts), nobody, np.arange(len(drawn)), identity)


def _check_apart(pool: Images, evaluation: Images) -> None:
    """Refuse a pool with an evaluation image: the copy would be judged on what it learned."""
    held_out = {image.tobytes() for image in evaluation.pixels()}
    n_both = sum(image.tobytes() in held_out for image in pool.pixels())
    if n_both:
        raise RefusedError(
            f"{n_both:,} of {len(pool):,} query images are evaluation images too",
            hint="choose other queries",
            flags=["queries"],
        )
