"""What the adversary of a job has besides the target: references, and half of the membership.

The harness hands both out, because it alone knows who is a member: a method is given a reference
only for samples that the reference's manifest allows, and the membership of samples only whose
scores are not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securitynet.datasets.images import Audit, Images
from securitynet.errors import ResourceError
from securitynet.evidence import MembershipEvidence
from securitynet.records import Job
from securitynet.registry import Method
from securitynet.runs.plan import REFERENCES
from securitynet.targets.build import load_target
from securitynet.targets.references import References, Shadow
from securitynet.targets.target import Target
from securitynet.training.manifests import ReferenceSet, folds_of, load_references

ONE_CONTROL = "one-control"
"""Flag of a learned figure without the control that never asks the target: references give it."""
MEMORY_BYTES = 2**29
"""References' answers that are kept at hand."""
Call = Callable[[NDArray[np.int8] | None], Any]
"""Runs a method, given the membership it may know."""


def reference_identity(job: Job) -> str | None:
    """Return the identity of the references that a job was planned with, if with any."""
    what = _planned(job)
    return None if what is None else job.conditions[what]


def _planned(job: Job) -> str | None:
    """Return the condition that names a job's references; online ones also answer as OUT."""
    named = [what for what in REFERENCES if what in job.conditions]
    return named[-1] if named else None


def references_of(job: Job, audit: Audit, cache: Path | None) -> References:
    """Return the references that a job was planned with.

    Args:
        job: Its conditions name them.
        audit: The data.
        cache: Folder for their answers.

    Raises:
        ResourceError: If they are no longer the ones of the plan.
    """
    what = _planned(job)
    found = None
    if what is not None and audit.dataset is not None:
        found = load_references(audit.dataset, REFERENCES[what])
    if found is None or found.fingerprint != reference_identity(job):
        raise ResourceError(
            f"the references of {job.dataset} have changed since this run was planned",
            hint="give the same command again",
        )
    return as_references(found, audit, cache)


def as_references(found: ReferenceSet, audit: Audit, cache: Path | None) -> References:
    """Return a set as it may speak for the samples of an audit.

    Args:
        found: The set and its manifests.
        audit: The data.
        cache: Folder for answers.
    """
    if audit.dataset is None:
        raise ValueError("the audit does not say which data set it was drawn from")
    dataset, samples = audit.dataset, audit.data.audit
    place = None if cache is None else cache / "outputs"
    targets = [load_target(model.card, cache=place) for model in found.models]
    is_seen = np.array([np.isin(samples.indices, m.trained_on) for m in found.models])
    nobody = np.zeros_like(is_seen)
    n_bytes = len(samples) * dataset.num_classes * 8
    keep = lru_cache(maxsize=max(1, MEMORY_BYTES // n_bytes))
    is_online = found.kind == "online"
    folds = folds_of(dataset, found.n_folds, found.seed)[samples.indices]
    is_mine = np.array([folds == model.fold for model in found.models])
    images = samples if is_online else dataset.test
    return References(
        found.fingerprint,
        is_out=~is_seen if is_online else ~is_seen & is_mine,
        is_in=is_seen if is_online else nobody,
        answers=keep(lambda r: targets[r].log_scores(samples)),
        shadow=lambda r: _shadow(targets[r], images, found.models[r].trained_on),
        model=lambda r: targets[r],
    )


def _shadow(target: Target, images: Images, trained_on: NDArray[np.int64]) -> Shadow:
    is_member = np.isin(images.indices, trained_on)
    return Shadow(target.log_scores(images), images.labels, is_member, images.indices)


def run_known(method: Method, audit: Audit, call: Call) -> Any:
    """Run a method, cross-fitted over two halves if it needs membership.

    The method knows one half of the membership and the scores of the other half are used; then the
    halves change places. Halves are balanced by class on both sides.

    Args:
        method: What it needs.
        audit: The membership.
        call: Runs the method with the membership it may know.

    Returns:
        Its evidence.
    """
    if "membership" not in method.needs:
        return call(None)
    half = _half(audit)
    parts = [call(np.where(half == i, audit.is_member, -1).astype(np.int8)) for i in (0, 1)]
    return _joined(parts, half)


def _half(audit: Audit) -> NDArray[np.int64]:
    """Return 0 or 1 for every sample, as many of each among a class's members and non-members."""
    rng = np.random.default_rng(int(audit.fingerprint[:16], 16))
    labels, half = audit.data.audit.labels, np.empty(len(audit.is_member), dtype=np.int64)
    for label in np.unique(labels):
        for side in (True, False):
            mine = rng.permutation(np.flatnonzero((labels == label) & (audit.is_member == side)))
            half[mine] = (np.arange(len(mine)) + label) % 2
    return half


def _joined(parts: list[MembershipEvidence], half: NDArray[np.int64]) -> MembershipEvidence:
    """Take every sample's scores from the call that did not know its membership."""
    if any(part.index is not None for part in parts):
        raise ValueError("a method that needs membership must score all samples")

    def join(name: str) -> Any:
        sides = [getattr(part, name) for part in parts]
        # Samples of half 0 were known in the first call, so the second one scores them.
        return None if sides[0] is None else np.where(half == 0, sides[1], sides[0])

    flags = dict.fromkeys(flag for part in parts for flag in part.flags)
    if parts[0].target_free is None:
        flags[ONE_CONTROL] = None
    return replace(
        parts[0],
        **{name: join(name) for name in ("scores", "target_free", "random_target")},
        flags=tuple(flags),
    )
