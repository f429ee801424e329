"""Jacobian-based augmentation: a thief of few images makes its own queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from securitynet.evidence import StealingEvidence, Surrogate
from securitynet.registry import Access, method, option
from securitynet.stealing._theft import Theft, check_budgets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from securitynet.datasets.images import AuditData, Images, Pixels
    from securitynet.stealing._surrogates import Copyist
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target

Answer = Callable[["Pixels", "NDArray[np.int64]"], "NDArray[np.int64]"]
"""Made images and the labels of those they were made from -> their own labels."""
WHERE = "steal.jacobian"


@method(
    WHERE,
    access=Access.LABELS,
    paper="Papernot et al., AsiaCCS 2017, arXiv 1602.02697, algorithm 1",
    cost="a copy asks its budget, of which one in 2^n_rounds is an image of the pool; plus one an "
    "evaluation image for the grading; trains two budgets' worth of copies and of floors a budget "
    "and seed; floors are shared by all models",
    soundness="The floor (same recipe and images, true labels, the made images under those of the "
    "images they were made from by the floor's own gradients; target never asked) stands beside "
    "every agreement; queries and evaluation images are disjoint; the last epoch counts.",
    variants=(),
    is_seeded=True,
)
@dataclass(frozen=True, kw_only=True)
class Jacobian(Theft):
    """Jacobian-based augmentation: a surrogate moves the few images it has and asks about them.

    A copy is trained on the target's labels of ``budget / 2^n_rounds`` random images of the pool.
    In each round every image x so far gives a new one, x + step sign(grad log p_y(x)), where y is
    the target's label of x and p the copy's posteriors; the target is asked about it (rounded to
    pixels), and the copy is trained anew, from its initial weights. The last round moves as many
    random images as the budget leaves. A budget may be larger than the pool. Every budget and seed
    is a theft of its own.
    """

    n_rounds: int = option(4, "Rounds, each of which doubles the images.", low=1, high=16)
    step: float = option(0.1, "How far a pixel moves, of its range.", low=0.004, high=1)

    def __call__(self, target: Target, data: AuditData, context: Context) -> StealingEvidence:
        """Steal at every budget with every seed.

        The target counts what the copies ask and, apart from the thief's budget, one an evaluation
        image.

        Raises:
            RefusedError: If the pool has too few images to begin with.
        """
        n_pool = len(data.queries)
        most = n_pool * 2**self.n_rounds if n_pool > 1 else n_pool
        budgets = check_budgets(self.budgets or (n_pool,), most, WHERE)
        copyist = self.copyist(data, context)
        target_labels = target.labels(data.evaluation)
        plan = self.plan(budgets, context)
        copies = []
        for i, (budget, seed) in enumerate(plan):
            copy = f"{budget} queries, copy {i % self.n_seeds + 1}"
            context.progress(i / len(plan), copy)
            n_own = max(2, -(-budget // 2**self.n_rounds))
            own = data.queries.take(np.random.default_rng(seed).permutation(n_pool)[:n_own])
            asked, answers = self._grown(
                copyist, own, target.labels(own), budget, seed, lambda made, _: target.labels(made)
            )
            labels, _ = copyist.copied(asked, answers, seed)
            floor = self._floor(copyist, own, budget, seed, context)
            copies.append(Surrogate(budget, seed, labels, floor))
        return StealingEvidence(target_labels, tuple(copies), self.flags)

    def _floor(
        self, copyist: Copyist, own: Images, budget: int, seed: int, context: Context
    ) -> NDArray[np.int64] | None:
        """Return the labels of a copy that keeps to true labels; ``None`` where there are none."""
        if own.labels.min() < 0:
            return None

        def train() -> NDArray[np.int64]:
            grown = self._grown(copyist, own, own.labels, budget, seed, lambda _, parents: parents)
            return copyist.copied(*grown, seed)[0]

        parts = [own.fingerprint, seed, WHERE, budget, self.step]
        return copyist.kept(parts, context.cache, train)

    def _grown(
        self,
        copyist: Copyist,
        own: Images,
        answers: NDArray[np.int64],
        budget: int,
        seed: int,
        answer: Answer,
    ) -> tuple[Pixels, NDArray[np.int64]]:
        """Return all images, a thief's own before those made of them, and their answers."""
        from securitynet.stealing._surrogates import moved

        rng, pixels = np.random.default_rng((seed, 1)), own.pixels()
        while len(pixels) < budget:
            module = copyist.train(pixels, answers, seed)
            n = min(len(pixels), budget - len(pixels))
            chosen = np.sort(rng.permutation(len(pixels))[:n])
            parents = answers[chosen]
            made = moved(module, pixels[chosen], parents, self.step, copyist.device)
            answers = np.concatenate([answers, answer(made, parents)])
            pixels = np.concatenate([pixels, made])
        return pixels, answers
