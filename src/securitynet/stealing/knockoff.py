"""Knockoff Nets: train a copy on the target's answers to a pool of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from securitynet.evidence import StealingEvidence, Surrogate
from securitynet.registry import Access, method
from securitynet.stealing._theft import (
    Theft,
    ask,
    check_budgets,
    grading_answers,
    response_option,
)

if TYPE_CHECKING:
    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target


@method(
    "steal.knockoff",
    access=Access.SCORES,
    paper="Orekondy, Schiele & Fritz, CVPR 2019, arXiv 1812.02766; random selection",
    cost="one query an image of the largest budget (by default the pool, a half of the test "
    "split), plus one an evaluation image for the grading; trains one surrogate and one floor a "
    "budget and seed; floors are shared by all models",
    soundness="The floor (same recipe and images, true labels, target never asked) stands beside "
    "every agreement; queries and evaluation images are disjoint; the last epoch counts.",
    variants=({"response": "soft"}, {"response": "hard"}),
    version=3,
    is_seeded=True,
)
@dataclass(frozen=True, kw_only=True)
class Knockoff(Theft):
    """Knockoff Nets: a surrogate trained on the target's answers to random images.

    Soft answers are learned by cross-entropy against the target's posteriors, hard answers as
    labels. Posteriors that a defence left without a sum of one are normalised. Budgets are
    nested: a smaller one is the beginning of a larger one.
    """

    response: str = response_option()

    def __call__(self, target: Target, data: AuditData, context: Context) -> StealingEvidence:
        """Ask the largest budget once, then train copies and floors.

        The target counts those queries and, apart from the thief's budget, one an evaluation
        image: the answers that copies are graded against. Hard answers need only labels.

        Raises:
            RefusedError: If the query pool is smaller than a budget, or below two images.
        """
        n_pool = len(data.queries)
        budgets = check_budgets(self.budgets or (n_pool,), n_pool, "steal.knockoff")
        answers = ask(target, data.queries.take(slice(budgets[-1])), self.response)
        copyist = self.copyist(data, context)
        target_labels, log_p = grading_answers(target, data, self.response)
        plan = self.plan(budgets, context)
        copies = []
        for i, (budget, seed) in enumerate(plan):
            copy = f"{self.response}: {budget} queries, copy {i % self.n_seeds + 1}"
            context.progress(i / len(plan), copy)
            asked = data.queries.take(slice(budget))
            labels, kl = copyist.copied(asked.pixels(), answers[:budget], seed, log_p)
            floor = copyist.floor(asked, seed, context.cache)
            copies.append(Surrogate(budget, seed, labels, floor, kl))
        return StealingEvidence(target_labels, tuple(copies), self.flags)
