"""The score attacks on membership, against one bare forward pass: the floor of what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ground import Ground, Subject, uncached
from one_pass import FITTED, Scores, run_all, seconds_of, stand_ins, unfitted
from pairs import Comparison, Quality, compare_aucs
from securitynet.datasets.images import Audit, Images
from securitynet.targets.engine import Engine
from securitynet.targets.references import References
from securitynet.targets.target import as_pixels

Logits = NDArray[np.float32]
MAX_OVERHEAD = 1.15
MAX_SECONDS = 2.0
N_TIMES = 3


@dataclass(frozen=True, kw_only=True)
class ScoreAttacks:
    """Twelve score attacks that fit nothing against one bare forward pass; beside, all of them.

    Attributes:
        n_images: Half of them members.
    """

    n_images: int = 20000

    def __call__(self, ground: Ground) -> Comparison[Scores, Logits]:
        """Time what follows the forward pass, and prepare both sides."""
        subject = ground.subject
        engine, n_classes = subject.target.engine, subject.dataset.num_classes
        chosen = unfitted()
        audit = first(subject.audit, self.n_images)
        images, references = audit.data.audit, stand_ins(audit, n_classes)
        after = afterwards(subject, audit, references)

        def judge(ours: Scores, bare: Logits) -> Quality:
            return replace(judged(ours, bare, images.labels, audit.is_member), table=after)

        return Comparison(
            ours=f"{len(chosen)} attacks of `membership` that fit no network and no regression, in "
            f"{engine.precision}, nothing cached",
            other="one bare pass of the same engine, no attack",
            run_ours=lambda: run_all(uncached(subject.target), audit, references, chosen),
            run_other=lambda: bare_pass(engine, images),
            judge=judge,
            n_items=len(images),
            limit=MAX_OVERHEAD,
        )


def first(audit: Audit, n: int) -> Audit:
    """Return an audit of the first ``n`` samples."""
    data = replace(audit.data, audit=audit.data.audit.take(slice(n)))
    return replace(audit, data=data, is_member=audit.is_member[:n])


def afterwards(
    subject: Subject, audit: Audit, references: References
) -> tuple[tuple[str, ...], ...]:
    """Return a table: seconds of every attack and of its figures, after the forward pass."""
    target = uncached(subject.target)
    target.logits(audit.data.audit)
    rows = seconds_of(target, audit, references, N_TIMES)
    scoring, grading = (sum(row[i] for row in rows) for i in (1, 2))
    light = sum(row[1] for row in rows if not row[0].startswith(FITTED))
    verdict = "kept" if scoring + grading <= MAX_SECONDS else "**MISSED**"
    total = f"all; at most {MAX_SECONDS:g} s together: {verdict}"
    return (
        (f"after the pass, {len(audit.is_member):,} images", "attack, s", "figures, s"),
        *((name, f"{attack:.3f}", f"{figures:.3f}") for name, attack, figures in rows),
        ("those that fit nothing", f"{light:.2f}", ""),
        (total, f"{scoring:.2f}", f"{grading:.2f}"),
    )


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
    sides = [(side[is_member], side[~is_member]) for side in (scores["mia.loss"], -loss.numpy())]
    aucs = compare_aucs(*sides)
    is_finite = all(bool(np.isfinite(values).all()) for values in scores.values())
    return Quality(
        f"loss attack: {aucs.figures}; {len(scores)} attacks scored, "
        f"{'all finite' if is_finite else 'NOT ALL FINITE'}; the references that some of them "
        "compare with are stand-ins, whose answers are made up before",
        aucs.is_equal and is_finite,
    )


BENCHMARK = ScoreAttacks()
QUICK = ScoreAttacks(n_images=400)
