"""One attack on membership, against the network of the Adversarial Robustness Toolbox."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from art_attacks import Floats, Samples, attack, samples_of, scored, toolbox
from bench_score_attacks import first
from ground import Ground, uncached
from one_pass import Scores, attacks, n_plain, run_all, run_one, run_plain, stand_ins
from pairs import Comparison, Quality, compare_aucs, timed
from securitynet.metrics.roc import auc_delong

OURS = "mia.modified_entropy"
"""Ours in the comparison of AUCs: chosen before, for it learns nothing."""
MIN_SPEEDUP = 10.0


@dataclass(frozen=True, kw_only=True)
class MembershipArt:
    """One of our score attacks, from nothing cached, against the network attack of the toolbox.

    Attributes:
        n_images: Half of them members; the toolbox learns from a half and scores the other.
    """

    n_images: int = 4000

    def __call__(self, ground: Ground) -> Comparison[Scores, Floats]:
        """Time all our attacks once, and prepare both sides: one attack against one."""
        version, subject = toolbox(), ground.subject
        audit = first(subject.audit, self.n_images)
        samples = samples_of(audit)
        references = stand_ins(audit, subject.dataset.num_classes)
        all_of_ours = lambda: run_all(uncached(subject.target), audit, references)  # noqa: E731
        all_of_ours()
        beside = {
            f"ours: the {n_plain()} attacks that learn nothing": lambda: run_plain(
                uncached(subject.target), audit
            ),
            f"ours: all {len(attacks())} attacks, learned ones too": all_of_ours,
        }
        rows = ((name, f"{timed(run)[1]:.2f}") for name, run in beside.items())
        table = (("beside, once", "s"), *rows)
        return Comparison(
            ours=f"{OURS}, the forward pass included, in {subject.target.precision}",
            other=f"{version}, one attack: `nn`, fp32",
            run_ours=lambda: run_one(uncached(subject.target), audit, OURS),
            run_other=lambda: attack("nn", subject, samples),
            judge=lambda ours, other: replace(judged(ours, other, "nn", samples), table=table),
            n_items=len(samples.labels),
            least=MIN_SPEEDUP,
        )


def sides(scores: Floats, kind: str, samples: Samples) -> tuple[Floats, Floats]:
    """Split the scores of an attack of the toolbox into members and non-members."""
    is_member: NDArray[np.bool_] = samples.is_member[scored(kind, samples)]
    return scores[is_member], scores[~is_member]


def auc_words(members: Floats, others: Floats) -> str:
    """Say an AUC with its interval."""
    found = auc_delong(members, others)
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"


def judged(ours: Scores, other: Floats, kind: str, samples: Samples) -> Quality:
    """Compare AUCs on the samples that both sides score; ours may be better."""
    name = next(name for name in ours if name.startswith(OURS))
    mine = sides(ours[name][scored(kind, samples)], kind, samples)
    its = sides(other, kind, samples)
    aucs = compare_aucs(mine, its, may_be_better=True)
    return Quality(
        f"{OURS}: AUC {auc_words(*mine)}; the other's {auc_words(*its)}; on n = "
        f"{len(mine[0])} + {len(mine[1])} that both score",
        aucs.is_equal,
    )


BENCHMARK = MembershipArt()
QUICK = MembershipArt(n_images=400)
