"""MM-BD: does the model answer one class with a far larger margin than the others? No data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from securitynet.backdoor import _anomaly
from securitynet.errors import RefusedError
from securitynet.evidence import TriggerEvidence
from securitynet.registry import Access, method, option

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target

NAME = "backdoor.mm_bd"
MOST_GAIN = 0.15
"""By doubling the steps. Beyond it the margins still say more of the search than of the model."""


@method(
    NAME,
    access=Access.GRADIENTS,
    paper="Wang et al., S&P 2024, arXiv 2205.06900",
    cost="restarts x classes x steps passes with gradients, and a sixth more to see whether the "
    "search has converged: 3,540 at 10 classes, about 5 s for ResNet-20 on one core",
    soundness="The p-value compares the largest margin with gamma-distributed ones, a tenth of the "
    "classes (those with the smallest margins) left out and a spread below 9% not believed; under "
    "such margins it is uniform for 4 classes and more, where the paper's falls below 0.05 for a "
    "quarter of clean models. It assumes that one class at most is infected. No trigger is found, "
    "so nothing shows what lifted the margin. A large p-value says little: of 8 backdoored "
    "ResNet-20 (BadNets and Blend planted by fine-tuning) 2 are below 0.01 and 3 below 0.05, of 4 "
    "small digit networks none; of 24 clean models none is below 0.2.",
    variants=(),  # modest power: its share of the verdict's correction costs more than it finds
    is_seeded=True,
)
@dataclass(frozen=True, kw_only=True)
class MmBd:
    """MM-BD: does one class reach a far larger logit margin than the others?

    For every class k the margin f_k(x) - max over j != k of f_j(x) is maximised over all images x
    in [0, 1], from several random ones; the margin of the class is the largest that was found. No
    data are needed, and no idea of the trigger: whatever its kind, fitting it tends to lift the
    logits of the class that it leads to.

    The statistic is the largest leave-one-out deviate of the cube roots of the margins; the p-value
    compares it with gamma-distributed margins of K clean classes. The paper's own, of a gamma
    distribution fitted to all margins but the largest, stands beside it in the details as
    ``gamma_p_value``: it flags a quarter of clean models at 0.05. A class that no image reaches has
    no margin and is left out.

    Has the search converged? One start of every class is searched with half the steps as well: by
    how much the other half lifted its margin is in the details (``doubling_gains``), as are the
    margins of every restart. Beyond 15% in the median class the figure is flagged.
    """

    n_restarts: int = option(3, "Random images a class to start from.", low=1)
    n_steps: int = option(100, "Steps of the search from each.", low=5)

    def __call__(self, target: Target, data: AuditData, context: Context) -> TriggerEvidence:
        """Search the largest margins; ``data`` is not looked at.

        Raises:
            RefusedError: If there are too few classes, or too few that any image reaches.
        """
        _check_classes(target.num_classes, target.num_classes)
        found = self._search(target, context, self.n_restarts, self.n_steps, (0.0, 0.9))
        halved = self._search(target, context, 1, self.n_steps // 2, (0.9, 1.0))
        largest = found.max(1)
        if not np.isfinite(largest).all():
            raise RefusedError("a margin is not finite", where=NAME, flags=["not-finite"])
        reached = np.flatnonzero(largest > 0)
        _check_classes(len(reached), target.num_classes)
        excesses = np.full(len(largest), np.nan)
        excesses[reached] = _anomaly.excesses(largest[reached])
        infected = int(np.nanargmax(excesses))
        statistic = float(excesses[infected])
        gains = (found[:, 0] - halved[:, 0]) / np.where(largest > 0, largest, np.nan)
        return TriggerEvidence(
            statistic=statistic,
            p_value=_anomaly.p_value(statistic, len(reached)),
            infected_label=infected,
            margins=largest,
            flags=_flags(len(reached) == len(largest), float(np.nanmedian(gains))),
            details={
                "excesses": excesses.tolist(),
                "gamma_p_value": _anomaly.gamma_p_value(largest[reached]),
                "margins_by_restart": found.tolist(),
                "doubling_gains": gains.tolist(),
            },
        )

    def _search(
        self,
        target: Target,
        context: Context,
        n_restarts: int,
        n_steps: int,
        span: tuple[float, float],
    ) -> NDArray[np.float64]:
        """Return the largest margins, float64 ``[K, n_restarts]``; counts what it asked."""
        from securitynet.backdoor._margins import Ascent, largest_margins
        from securitynet.targets.engine import has_native_bf16

        spec, (begin, end) = target.card.input, span
        found = largest_margins(
            target.module(),
            (spec.channels, *spec.sides),
            target.num_classes,
            Ascent(n_restarts, n_steps, has_native_bf16(target.device)),
            context.seed,
            target.device,
            lambda share: context.progress(begin + (end - begin) * share, "searching"),
        )
        target.count(found.n_queries)
        return found.margins


def _check_classes(n_reached: int, n_classes: int) -> None:
    if n_reached < _anomaly.MIN_CLASSES:
        raise RefusedError(
            f"needs at least {_anomaly.MIN_CLASSES} classes that some image reaches, the model "
            f"has {n_reached} of {n_classes}",
            where=NAME,
            hint="one margin cannot stand out from fewer",
            flags=["few-classes"],
        )


def _flags(is_reached: bool, gain: float) -> tuple[str, ...]:
    flags = [] if is_reached else ["class-not-reached"]
    return (*flags, "not-converged") if gain > MOST_GAIN else tuple(flags)
