"""What every theft of this package shares: its options, its recipe, and what it asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from securitynet.errors import RefusedError, UsageError
from securitynet.registry import option

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from securitynet.datasets.images import AuditData, Images
    from securitynet.stealing._surrogates import Copyist
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target

OOD = "ood:"
FLAGS: dict[str, tuple[str, ...]] = {"indist": (), "train": ("train-queries",)}
"""Queries by name -> what to know of the figures."""
ROUNDING = 1e-9
"""How far the sum of posteriors may be off one because float64 is."""


@dataclass(frozen=True, kw_only=True)
class Theft:
    """The options of a theft that trains copies on a target's answers."""

    queries: str = option(
        "indist", "What is asked: indist (a half of the test split), train (images that the target "
        "was trained on) or ood:NAME (another data set, resized).",
    )  # fmt: skip
    budgets: tuple[int, ...] = option((), "Query budgets; none = the whole pool.", low=2)
    surrogate: str = option(
        "cnn_small", "Architecture of the copy.", choices=("cnn_small", "cnn_medium", "mlp")
    )
    epochs: int = option(20, "Passes over the queries.", low=1)
    n_seeds: int = option(3, "Surrogates a budget.", low=1, high=1000)
    augment: bool = option(True, "Shift the query images in training; flip them if data allow.")

    def __post_init__(self) -> None:
        """Refuse queries of no known kind.

        Raises:
            UsageError: If ``queries`` names none.
        """
        is_other = self.queries.startswith(OOD) and self.queries != OOD
        if not is_other and self.queries not in FLAGS:
            raise UsageError(
                f"queries: {self.queries!r} is not one of {', '.join(FLAGS)}, {OOD}NAME",
                hint=f"e.g. {OOD}mnist",
            )

    @property
    def flags(self) -> tuple[str, ...]:
        """Why to read the figures with care, for what is asked."""
        return FLAGS.get(self.queries, ("ood-queries",))

    def copyist(self, data: AuditData, context: Context) -> Copyist:
        """Return the trainer of copies and floors: one recipe for both."""
        from securitynet.stealing._surrogates import Copyist
        from securitynet.training.trainer import Recipe

        recipe = Recipe(
            epochs=self.epochs, lr=0.2, label_smoothing=0.0, is_augmented=self.augment,
            is_flipped=data.is_mirrored, min_steps=200,
        )  # fmt: skip
        return Copyist(data, self.surrogate, recipe, context.device)

    def plan(self, budgets: Sequence[int], context: Context) -> list[tuple[int, int]]:
        """Return the (budget, seed) of every copy; jobs of different seeds share none."""
        seeds = range(context.seed * 1000, context.seed * 1000 + self.n_seeds)
        return [(budget, seed) for budget in budgets for seed in seeds]


def response_option() -> Any:
    """Declare the option ``response`` of a theft that may learn posteriors or labels."""
    return option(
        "soft", "What the copy learns: posteriors or labels; --defence bounds and changes both.",
        choices=("soft", "hard"),
    )  # fmt: skip


def ask(target: Target, images: Images, response: str) -> NDArray[Any]:
    """Return what a copy learns of some images: posteriors ``[n, K]`` or labels ``[n]``."""
    if response == "hard":
        return target.labels(images)
    return np.exp(_whole(target.log_scores(images)))


def grading_answers(
    target: Target, data: AuditData, response: str
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """Ask the evaluation images once: labels, and log posteriors if copies learn these."""
    if response == "hard":
        return target.labels(data.evaluation), None
    log_p = target.log_scores(data.evaluation)
    return log_p.argmax(1), _whole(log_p)  # dividing may make a tie of the two largest


def _whole(log_p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log posteriors ``[n, K]`` that sum to one.

    Rounded ones do not: in cross-entropy an image would count as much as its answer sums to.
    """
    sums = np.log(np.exp(log_p).sum(1, keepdims=True))
    return log_p - np.where(np.abs(sums) > ROUNDING, sums, 0.0)


def check_budgets(budgets: Sequence[int], n_pool: int, where: str) -> list[int]:
    """Return rising budgets, each once.

    Args:
        budgets: At least one.
        n_pool: Number of images there are to ask about.
        where: Id of the method.

    Raises:
        RefusedError: If the pool is smaller than a budget, or below two images.
    """
    if n_pool < 2:
        raise RefusedError(
            f"{n_pool} images in the query pool are too few to train a copy",
            where=where,
            hint="raise --limit or choose a larger data set",
            flags=["budget"],
        )
    rising = sorted(set(budgets))
    if rising[-1] > n_pool:
        raise RefusedError(
            f"a budget of {rising[-1]:,} is more than the {n_pool:,} images there are to ask about",
            where=where,
            hint=f"lower -o {where}.budgets",
            flags=["budget"],
        )
    return rising
