"""Active theft: the thief chooses what to ask, by what its copy does not know yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from securitynet.evidence import StealingEvidence, Surrogate
from securitynet.registry import Access, method, option
from securitynet.stealing._theft import (
    Theft,
    ask,
    check_budgets,
    grading_answers,
    response_option,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from securitynet.datasets.images import AuditData, Images
    from securitynet.stealing._surrogates import Copyist
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target

WHERE = "steal.active"


@method(
    WHERE,
    access=Access.SCORES,
    paper="Pal et al., AAAI 2020, arXiv 1905.09165 (ActiveThief); k-center: Sener & Savarese, "
    "ICLR 2018, arXiv 1708.00489",
    cost="a copy asks its budget, its random control another; plus one an evaluation image for "
    "the grading; trains (n_rounds + 1) / 2 budgets' worth of copies, one control and one floor a "
    "budget and seed; floors are shared by all models",
    soundness="Beside every copy stands the same copy of as many random images (same recipe, seeds "
    "and first images): what the choice gains over it, image by image, is `selection_gain`. "
    "The thief chooses by its own copy's answers alone; the floor has as many random images with "
    "true labels and never asks; queries and evaluation images are disjoint; the last epoch "
    "counts.",
    variants=(),
    is_seeded=True,
)
@dataclass(frozen=True, kw_only=True)
class Active(Theft):
    """Active theft: a surrogate chooses in rounds what to ask next; random choice is its control.

    The first of ``n_rounds`` equal parts of the budget is random. Then a copy is trained on all
    answers so far and chooses the next part: the images on which its posteriors have the largest
    entropy, or by k-center those whose posteriors are farthest (Euclidean) from those of every
    image chosen before, one after the other. The last copy is trained from its initial weights on
    the whole budget, as the control is. Every budget and seed is a theft of its own.
    """

    response: str = response_option()
    budgets: tuple[int, ...] = option((), "Query budgets; none = a fifth of the pool.", low=2)
    selection: str = option(
        "entropy", "How the next images are chosen.", choices=("entropy", "kcenter")
    )
    n_rounds: int = option(5, "Equal parts in which a budget is asked.", low=2, high=100)

    def __call__(self, target: Target, data: AuditData, context: Context) -> StealingEvidence:
        """Steal at every budget with every seed, by choice and by chance.

        The target counts what copies and controls ask and, apart from the thief's budget, one an
        evaluation image.

        Raises:
            RefusedError: If a budget leaves nothing of the query pool to choose from.
        """
        n_pool = len(data.queries)
        budgets = check_budgets(self.budgets or (max(2, n_pool // 5),), n_pool - 1, WHERE)
        copyist = self.copyist(data, context)
        target_labels, log_p = grading_answers(target, data, self.response)
        plan = self.plan(budgets, context)
        copies = []
        for i, (budget, seed) in enumerate(plan):
            copy = f"{self.selection}: {budget} queries, copy {i % self.n_seeds + 1}"
            context.progress(i / len(plan), copy)
            order = np.random.default_rng(seed).permutation(n_pool)
            by_chance = data.queries.take(order[:budget])
            told = ask(target, by_chance, self.response)
            control, _ = copyist.copied(by_chance.pixels(), told, seed)
            chosen, answers = self._choose(target, data.queries, copyist, order, budget, seed)
            labels, kl = copyist.copied(chosen.pixels(), answers, seed, log_p)
            floor = copyist.floor(by_chance, seed, context.cache)
            copies.append(Surrogate(budget, seed, labels, floor, kl, control))
        return StealingEvidence(target_labels, tuple(copies), self.flags)

    def _choose(
        self,
        target: Target,
        pool: Images,
        copyist: Copyist,
        order: NDArray[np.int64],
        budget: int,
        seed: int,
    ) -> tuple[Images, NDArray[Any]]:
        """Ask a budget in rounds; return the images asked and their answers."""
        sizes = self._sizes(budget)
        chosen, left = order[: sizes[0]], order[sizes[0] :]
        answers = ask(target, pool.take(chosen), self.response)
        for size in sizes[1:]:
            module = copyist.train(pool.take(chosen).pixels(), answers, seed)
            fresh = self._next(copyist, module, pool, chosen, left, size - len(chosen))
            asked = ask(target, pool.take(left[fresh]), self.response)
            answers = np.concatenate([answers, asked])
            chosen, left = np.concatenate([chosen, left[fresh]]), np.delete(left, fresh)
        return pool.take(chosen), answers

    def _sizes(self, budget: int) -> list[int]:
        """Return how many images were asked after each round; two can be trained on."""
        parts = range(1, self.n_rounds + 1)
        return sorted({max(2, budget * part // self.n_rounds) for part in parts})

    def _next(
        self,
        copyist: Copyist,
        module: Any,
        pool: Images,
        chosen: NDArray[np.int64],
        left: NDArray[np.int64],
        n: int,
    ) -> NDArray[np.int64]:
        """Return the positions in ``left`` of the ``n`` images to ask next."""
        from securitynet.stealing._selection import farthest_first, most_uncertain

        log_p = copyist.log_scores(module, pool.take(left))
        if self.selection == "entropy":
            return most_uncertain(log_p, n)
        known = copyist.log_scores(module, pool.take(chosen))
        return farthest_first(np.exp(log_p), np.exp(known), n)
