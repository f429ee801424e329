"""All score attacks on membership, against one bare forward pass: the floor of what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ground import Ground, Subject, uncached
from pairs import Comparison, Quality, compare_aucs
from securitynet.datasets.images import Images
from securitynet.evidence import MembershipEvidence
from securitynet.runs.plan import choose_methods
from securitynet.targets.context import Context
from securitynet.targets.engine import Engine
from securitynet.targets.target import as_pixels

Logits = NDArray[np.float32]
Scores = dict[str, NDArray[np.float64]]
MAX_OVERHEAD = 1.15


@dataclass(frozen=True, kw_only=True)
class ScoreAttacks:
    """All score attacks against one bare forward pass.

    Attributes:
        n_images: Half of them members.
    """

    n_images: int = 4000

    def __call__(self, ground: Ground) -> Comparison[Scores, Logits]:
        """Prepare both sides."""
        subject = ground.subject
        engine = subject.target.engine
        images = subject.audit.data.audit.take(slice(self.n_images))
        is_member = subject.audit.is_member[: len(images)]
        n_attacks = len(choose_methods(["membership"]))

        def judge(ours: Scores, bare: Logits) -> Quality:
            return judged(ours, bare, images.labels, is_member)

        return Comparison(
            ours=f"the {n_attacks} attacks of `membership` in {engine.precision}, nothing cached",
            other="one bare pass of the same engine, no attack",
            run_ours=lambda: attack(subject, images),
            run_other=lambda: bare_pass(engine, images),
            judge=judge,
            n_items=len(images),
            limit=MAX_OVERHEAD,
        )


def attack(subject: Subject, images: Images) -> Scores:
    """Run the default set of membership attacks and return the scores of each.

    The target knows no answer before, so its one forward pass is part of every run.
    """
    target, data = uncached(subject.target), replace(subject.audit.data, audit=images)
    scores: Scores = {}
    for method, config in choose_methods(["membership"]):
        context = Context(device=target.device)
        evidence = method.configure(**config)(target.limited(method.access), data, context)
        if isinstance(evidence, MembershipEvidence):
            scores[f"{method.name} {config}"] = evidence.scores
    return scores


def bare_pass(engine: Engine, images: Images) -> Logits:
    """Put all images through the optimised network once; logits, float32 ``[n, K]``."""
    return engine.run(lambda start, stop: as_pixels(images.pixels(start, stop)), len(images))


def judged(
    scores: Scores, bare: Logits, labels: NDArray[np.int64], is_member: NDArray[np.bool_]
) -> Quality:
    """Compare the AUC of the loss attack with that of the bare pass's loss."""
    loss = functional.cross_entropy(
        torch.from_numpy(bare).double(), torch.from_numpy(labels), reduction="none"
    )
    sides = [(side[is_member], side[~is_member]) for side in (scores["mia.loss {}"], -loss.numpy())]
    aucs = compare_aucs(*sides)
    is_finite = all(bool(np.isfinite(values).all()) for values in scores.values())
    return Quality(
        f"loss attack: {aucs.figures}; {len(scores)} attacks scored, "
        f"{'all finite' if is_finite else 'NOT ALL FINITE'}",
        aucs.is_equal and is_finite,
    )


BENCHMARK = ScoreAttacks()
QUICK = ScoreAttacks(n_images=400)
