"""What a method returns: raw evidence, never its own grade. The harness does the judging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MembershipEvidence:
    """One score a sample of ``data.audit``, in its order.

    Attributes:
        scores: float64 ``[n]``; higher = more likely a member; ties allowed, NaN not.
        target_free: The same score with the target's outputs replaced by the mean reference.
        random_target: The same score with the target's outputs replaced by noise.
        index: Positions in ``data.audit`` that were scored, int64 ``[n]``, where a method is too
            expensive for all of them, and whose scores these are; ``None`` = all.
        fnrs: False-negative rates at which the true-negative rate is reported, for methods whose
            figure is the tail of the non-members.
        flags: Reasons to read the figure with care.
    """

    scores: Floats
    target_free: Floats | None = None
    random_target: Floats | None = None
    index: Labels | None = None
    fnrs: tuple[float, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Surrogate:
    """One stolen copy and its floor, as they answer on ``data.evaluation``.

    Attributes:
        budget: Number of queries it was trained with.
        seed: Seed of its training.
        labels: Its predictions, int64 ``[m]``.
        floor_labels: Predictions of the same recipe on as many images with their true labels,
            which never saw the target, int64 ``[m]``: the same images, random ones where the thief
            chooses by the target's answers; ``None`` for images without true labels.
        kl: Mean KL divergence from the target's posteriors, in nats, if the target shows them.
        random_labels: Predictions of a copy of as many random queries, where the thief chooses its
            queries, int64 ``[m]``.
    """

    budget: int
    seed: int
    labels: Labels
    floor_labels: Labels | None
    kl: float | None = None
    random_labels: Labels | None = None


@dataclass(frozen=True, eq=False)
class StealingEvidence:
    """All surrogates of one run and the target's own answers on ``data.evaluation``.

    Attributes:
        target_labels: The target's predictions, int64 ``[m]``.
        surrogates: One a budget and seed; every budget has the same seeds.
        flags: Reasons to read the figures with care.
    """

    target_labels: Labels
    surrogates: tuple[Surrogate, ...]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TriggerEvidence:
    """Evidence of a detector that looks at a model: what it found of every class.

    What a detector does not measure it leaves out, and the record says that it is not known: one
    that reverses no trigger has no norms, success, masks and patterns.

    Attributes:
        statistic: The test statistic, larger = more suspicious.
        p_value: Probability of a statistic at least as large for a clean model of K classes.
        infected_label: The most suspicious class.
        norms: L1 norms of the reversed triggers' masks, float64 ``[K]``.
        attack_success: Share of held-out images each trigger turns to its class, ``[K]``.
        n_images: Held-out images behind ``attack_success``.
        margins: Largest logit margin that any image reaches, float64 ``[K]``.
        masks: float32 ``[K, H, W]``, of volumes ``[K, D, H, W]``, in [0, 1].
        patterns: float32 ``[K, H, W, C]`` or ``[K, D, H, W, C]`` in [0, 1].
        flags: Reasons to read the figures with care.
        details: Further small evidence, JSON values.
    """

    statistic: float
    p_value: float
    infected_label: int
    norms: Floats | None = None
    attack_success: Floats | None = None
    n_images: int = 0
    margins: Floats | None = None
    masks: NDArray[np.float32] | None = None
    patterns: NDArray[np.float32] | None = None
    flags: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class InputEvidence:
    """Evidence of a detector that looks at inputs: one score an input, higher = triggered.

    Attributes:
        clean_scores: Scores of clean inputs, float64 ``[n]``.
        triggered_scores: Scores of triggered inputs, float64 ``[m]``.
        threshold: Inputs scoring above are called triggered; set on images disjoint from both.
        flags: Reasons to read the figures with care.
        details: Further small evidence, JSON values.
    """

    clean_scores: Floats
    triggered_scores: Floats
    threshold: float
    flags: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


Evidence = MembershipEvidence | StealingEvidence | TriggerEvidence | InputEvidence
