"""One attack on membership, against the cheapest of the Adversarial Robustness Toolbox."""

from __future__ import annotations

from dataclasses import dataclass, replace

from art_attacks import LEARNED, Floats, Samples, attack, samples_of, toolbox
from bench_membership_art import OURS, auc_words, judged, sides
from bench_score_attacks import first
from ground import Ground, Subject, uncached
from one_pass import Scores, run_one
from pairs import Comparison, Quality, timed

MIN_SPEEDUP = 2.0
Table = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class MembershipArtCheapest:
    """One of our score attacks, from nothing cached, against the fastest attack of the toolbox.

    Attributes:
        n_images: Half of them members.
    """

    n_images: int = 4000

    def __call__(self, ground: Ground) -> Comparison[Scores, Floats]:
        """Run every attack of the toolbox once to find the fastest, and prepare both sides."""
        version, subject = toolbox(), ground.subject
        audit = first(subject.audit, self.n_images)
        samples = samples_of(audit)
        kind, table = fastest(subject, samples)

        def judge(ours: Scores, other: Floats) -> Quality:
            return replace(judged(ours, other, kind, samples), table=table)

        return Comparison(
            ours=f"{OURS}, the forward pass included, in {subject.target.precision}",
            other=f"{version}, one attack: `{kind}`, fp32",
            run_ours=lambda: run_one(uncached(subject.target), audit, OURS),
            run_other=lambda: attack(kind, subject, samples),
            judge=judge,
            n_items=len(samples.labels),
            least=MIN_SPEEDUP,
        )


def fastest(subject: Subject, samples: Samples) -> tuple[str, Table]:
    """Run every attack of the toolbox once; return the fastest, and a table of all."""
    attack("rule", subject, samples)  # what is loaded or built at the first call is no attack's
    seconds: dict[str, float] = {}
    rows = []
    for kind in ("rule", *LEARNED):
        scores, taken = timed(lambda kind=kind: attack(kind, subject, samples))  # type: ignore[misc]
        seconds[kind] = taken
        rows.append((kind, f"{taken:.2f}", auc_words(*sides(scores, kind, samples))))
    header = ("attack of the toolbox", "s, once", "AUC (95% interval)")
    return min(seconds, key=seconds.__getitem__), (header, *rows)


BENCHMARK = MembershipArtCheapest()
QUICK = MembershipArtCheapest(n_images=400)
