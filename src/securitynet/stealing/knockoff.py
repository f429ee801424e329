"""Knockoff Nets: train a copy on the target's answers to a pool of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from securitynet.errors import RefusedError
from securitynet.evidence import StealingEvidence, Surrogate
from securitynet.registry import Access, method, option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from securitynet.datasets.images import AuditData
    from securitynet.stealing._surrogates import Copyist
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
    version=2,
    is_seeded=True,
)
@dataclass(frozen=True, kw_only=True)
class Knockoff:
    """Knockoff Nets: a surrogate trained on the target's answers to random images.

    Soft answers are learned by cross-entropy against the target's posteriors, hard answers as
    labels. Budgets are nested: a smaller one is the beginning of a larger one.
    """

    response: str = option("soft", "What the target answers.", choices=("soft", "hard"))
    budgets: tuple[int, ...] = option((), "Query budgets; none = the whole pool.", low=2)
    surrogate: str = option(
        "cnn_small", "Architecture of the copy.", choices=("cnn_small", "cnn_medium", "mlp")
    )
    epochs: int = option(20, "Passes over the queries.", low=1)
    n_seeds: int = option(3, "Surrogates a budget.", low=1, high=1000)
    augment: bool = option(True, "Shift the query images in training; flip them if data allow.")

    def __call__(self, target: Target, data: AuditData, context: Context) -> StealingEvidence:
        """Ask the largest budget once, then train copies and floors.

        The target counts those queries and, apart from the thief's budget, one an evaluation
        image: the answers that copies are graded against. Hard answers need only labels.

        Raises:
            RefusedError: If the query pool is smaller than a budget, or below two images.
        """
        from securitynet.stealing._surrogates import Copyist
        from securitynet.training.trainer import Recipe

        budgets = self._budgets(len(data.queries))
        asked = data.queries.take(slice(budgets[-1]))
        answers: NDArray[Any] = (
            target.scores(asked) if self.response == "soft" else target.labels(asked)
        )
        recipe = Recipe(
            epochs=self.epochs, lr=0.2, label_smoothing=0.0, is_augmented=self.augment,
            is_flipped=data.is_mirrored, min_steps=200,
        )  # fmt: skip
        copyist = Copyist(data, self.surrogate, recipe, context.device)
        target_labels, log_p = self._grading_answers(target, data)
        plan = [(budget, seed) for budget in budgets for seed in range(self.n_seeds)]
        copies = []
        for i, (budget, seed) in enumerate(plan):
            context.progress(i / len(plan), f"{self.response}: {budget} queries, copy {seed + 1}")
            copies.append(
                _steal(copyist, budget, context.seed * 1000 + seed, answers, log_p, context)
            )
        return StealingEvidence(target_labels, tuple(copies))

    def _grading_answers(
        self, target: Target, data: AuditData
    ) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
        """Ask the evaluation images once: labels, and log posteriors if the target shows them."""
        if self.response == "hard":
            return target.labels(data.evaluation), None
        log_p = target.log_scores(data.evaluation)
        return log_p.argmax(1), log_p

    def _budgets(self, n_pool: int) -> list[int]:
        if n_pool < 2:
            raise RefusedError(
                f"{n_pool} images in the query pool are too few to train a copy",
                where="steal.knockoff",
                hint="raise --limit or choose a larger data set",
                flags=["budget"],
            )
        budgets = sorted(set(self.budgets)) or [n_pool]
        if budgets[-1] > n_pool:
            raise RefusedError(
                f"a budget of {budgets[-1]:,} is more than the {n_pool:,} images of the query pool",
                where="steal.knockoff",
                hint="lower -o steal.knockoff.budgets",
                flags=["budget"],
            )
        return budgets


def _steal(
    copyist: Copyist,
    budget: int,
    seed: int,
    answers: NDArray[Any],
    log_p: NDArray[np.float64] | None,
    context: Context,
) -> Surrogate:
    from securitynet.stealing._surrogates import mean_kl

    log_q = copyist.answers(budget, answers[:budget], seed)
    floor = copyist.floor(budget, seed, context.cache)
    kl = None if log_p is None else mean_kl(log_p, log_q)
    return Surrogate(budget, seed, log_q.argmax(1), floor, kl)
