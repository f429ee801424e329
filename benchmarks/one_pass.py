"""The membership attacks that live on one forward pass, run as the harness runs them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

from securitynet.datasets.images import Audit
from securitynet.evidence import MembershipEvidence
from securitynet.registry import Method
from securitynet.runs.adversary import run_known
from securitynet.runs.grading import grade
from securitynet.runs.plan import choose_methods
from securitynet.targets.context import Context
from securitynet.targets.references import References, Shadow
from securitynet.targets.target import Target

Floats = NDArray[np.float64]
Scores = dict[str, Floats]
N_REFERENCES = 8
"""As many as `securitynet train references` trains: four a fold, so four speak for a sample."""
SPREAD = 1.5
"""Standard deviation of the noise that makes stand-ins differ, in logits."""


@dataclass(frozen=True, eq=False)
class Attack:
    """One attack, configured.

    Attributes:
        name: Method and options.
        method: What it needs.
        run: Runs it on a target.
    """

    name: str
    method: Method
    run: Callable[[Target, Audit, References | None], MembershipEvidence]


def attacks() -> list[Attack]:
    """Return the default membership attacks that ask once an image.

    Left out are those that ask about changed images, which take only some ``samples``, and those
    that need IN references.
    """
    chosen = []
    for method, config in choose_methods(["membership"]):
        needs = replace(method, needs=method.needs_of(config))
        if "samples" not in config and "in_references" not in needs.needs:
            options = ", ".join(f"{k} {v}" for k, v in config.items() if k in NAMING)
            name = f"{method.name} ({options})" if options else method.name
            chosen.append(Attack(name, needs, _runner(needs, config)))
    return chosen


NAMING = ("knowledge", "per_class")
"""Options that tell the variants of an attack apart."""
FITTED = ("mia.mlp", "mia.mlp_top3", "mia.quantile")
"""Attacks that fit a network or a regression."""


def unfitted() -> list[Attack]:
    """Return the attacks that fit nothing: formulas on answers, some of them references'."""
    return [attack for attack in attacks() if attack.method.name not in FITTED]


def _runner(
    method: Method, config: dict[str, object]
) -> Callable[[Target, Audit, References | None], MembershipEvidence]:
    def run(target: Target, audit: Audit, references: References | None) -> MembershipEvidence:
        fresh = None if references is None else replace(references)  # as each job has its own
        context, attack = Context(references=fresh), method.configure(**config)
        seen = target.limited(method.access)
        found: MembershipEvidence = run_known(
            method, audit, lambda known: attack(seen, audit.data, replace(context, known=known))
        )
        return found

    return run


def run_all(
    target: Target, audit: Audit, references: References, chosen: list[Attack] | None = None
) -> Scores:
    """Run all of them, or those chosen; returns the scores of every attack on all samples."""
    todo = attacks() if chosen is None else chosen
    return {attack.name: attack.run(target, audit, references).scores for attack in todo}


def run_plain(target: Target, audit: Audit) -> Scores:
    """Run those that learn nothing and compare with nothing."""
    return {attack.name: attack.run(target, audit, None).scores for attack in _plain()}


def run_one(target: Target, audit: Audit, name: str) -> Scores:
    """Run one attack that learns nothing, the first variant of its name."""
    chosen = next(attack for attack in _plain() if attack.name.startswith(name))
    return {chosen.name: chosen.run(target, audit, None).scores}


def n_plain() -> int:
    """Return how many those are."""
    return len(_plain())


def _plain() -> list[Attack]:
    return [attack for attack in attacks() if not (attack.method.needs or attack.method.uses)]


def stand_ins(audit: Audit, n_classes: int, seed: int = 0) -> References:
    """Make up references: right answers with noise.

    What is measured is how long it takes to compute with their answers; what attacks find with
    them says nothing.
    """
    rng, labels = np.random.default_rng(seed), audit.data.audit.labels
    n, is_member = len(labels), audit.is_member
    logits = rng.normal(0, SPREAD, (N_REFERENCES, n, n_classes))
    logits[:, np.arange(n), labels] += 3.0
    logits -= np.logaddexp.reduce(logits, axis=2, keepdims=True)
    fold = rng.integers(0, 2, n)
    is_out = np.array([fold == r % 2 for r in range(N_REFERENCES)])
    seen = ~is_out & ~is_member
    indices = np.arange(n)
    return References(
        "stand-ins", is_out, np.zeros_like(is_out), logits.__getitem__,
        lambda r: Shadow(logits[r], labels, seen[r], indices),
    )  # fmt: skip


def seconds_of(
    target: Target, audit: Audit, references: References, n_times: int
) -> list[tuple[str, float, float]]:
    """Time every attack after the forward pass, and its figures: medians, in seconds.

    Args:
        target: Knows its answers on the audit already.
        audit: The data.
        references: For those that need them.
        n_times: How often each is run.

    Returns:
        (name, seconds of the attack, seconds of its figures and intervals).
    """
    labels, rows = target.labels(audit.data.audit), []
    for attack in attacks():
        scoring, grading = [], []
        for _ in range(n_times):
            begin = time.perf_counter()
            evidence = attack.run(target, audit, references)
            middle = time.perf_counter()
            grade(evidence, audit, labels)
            scoring.append(middle - begin)
            grading.append(time.perf_counter() - middle)
        rows.append((attack.name, median(scoring), median(grading)))
    return rows
