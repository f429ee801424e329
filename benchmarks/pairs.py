"""Two ways of doing the same, timed in pairs: ours, the other, ours, the other, and so on.

What disturbs a machine for a second disturbs one pair; what disturbs it for longer disturbs both
sides. A pair whose answers are not of equal quality ends the comparison: a faster answer that is
worse is not faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from securitynet.errors import RefusedError
from securitynet.metrics.intervals import Z95
from securitynet.targets.parity import MAX_AUC_CHANGE

Ours = TypeVar("Ours")
Other = TypeVar("Other")
Clock = Callable[[], float]
Listener = Callable[[str], None]
Floats = NDArray[np.float64]
Groups = tuple[Floats, Floats]


@dataclass(frozen=True)
class Quality:
    """What the answers of both sides are worth.

    Attributes:
        figures: The figures of both, in words, e.g. ``"label agreement 1.0000"``.
        is_equal: Whether ours are as good as the other's.
        table: More figures, if there are any: a header, then rows.
    """

    figures: str
    is_equal: bool
    table: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class Comparison(Generic[Ours, Other]):
    """Two ways of doing the same, ready to run.

    Attributes:
        ours: What SecurityNet does, in words.
        other: What it is compared with, in words.
        run_ours: Does all of it once, nothing left over from the last time, and returns its answer.
        run_other: The same for the other side.
        judge: Compares two answers; not timed.
        n_items: Number of items that one run works on.
        item: What they are, e.g. ``"image"``.
        limit: Where the other side is a floor: how many times as long ours may take.
        least: How many times as fast ours must be, if that is promised.
    """

    ours: str
    other: str
    run_ours: Callable[[], Ours]
    run_other: Callable[[], Other]
    judge: Callable[[Ours, Other], Quality]
    n_items: int
    item: str = "image"
    limit: float | None = None
    least: float | None = None


@dataclass(frozen=True)
class Seconds:
    """How long each run took, in seconds; run ``i`` of both sides is pair ``i``.

    Attributes:
        ours: One number a pair.
        other: One number a pair.

    Raises:
        ValueError: Unless both have as many runs, at least one, each longer than 0.
    """

    ours: tuple[float, ...]
    other: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what has no ratio."""
        if len(self.ours) != len(self.other) or not self.ours:
            raise ValueError(f"{len(self.ours)} and {len(self.other)} runs are no pairs")
        if min(self.ours + self.other) <= 0:
            raise ValueError("a run that took no time has no ratio")

    def speedup(self) -> tuple[float, float, float]:
        """Return how many times as fast ours is: ratio of medians, least and largest of a pair."""
        return _spread(self.other, self.ours)

    def overhead(self) -> tuple[float, float, float]:
        """Return how many times as long ours takes: ratio of medians, least and largest."""
        return _spread(self.ours, self.other)


def _spread(above: tuple[float, ...], below: tuple[float, ...]) -> tuple[float, float, float]:
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return median(above) / median(below), min(ratios), max(ratios)


@dataclass(frozen=True)
class Result:
    """A comparison that was measured.

    Attributes:
        ours: As in :class:`Comparison`.
        other: As in :class:`Comparison`.
        n_items: As in :class:`Comparison`.
        item: As in :class:`Comparison`.
        limit: As in :class:`Comparison`.
        least: As in :class:`Comparison`.
        seconds: The times.
        quality: What the answers of the last pair are worth.
    """

    ours: str
    other: str
    n_items: int
    item: str
    limit: float | None
    least: float | None
    seconds: Seconds
    quality: Quality

    @property
    def is_within_limit(self) -> bool:
        """Whether ours is no slower and no less fast than promised; without a promise always."""
        is_short = self.limit is None or self.seconds.overhead()[0] <= self.limit
        return is_short and (self.least is None or self.seconds.speedup()[0] >= self.least)


def measure(
    comparison: Comparison[Ours, Other],
    n_pairs: int,
    *,
    clock: Clock = time.perf_counter,
    listener: Listener = lambda line: None,
) -> Result:
    """Run both sides once untimed, then in pairs: ours, the other, ours, the other, ...

    Args:
        comparison: What to run.
        n_pairs: Number of timed pairs, at least 1.
        clock: Tells the time in seconds.
        listener: Told a line after the warm-up and after every pair.

    Raises:
        RefusedError: If the answers of a pair, the untimed one included, differ in quality.
    """
    warm = comparison.run_ours(), comparison.run_other()
    quality = _judged(comparison, *warm)
    listener(f"warmed up: {quality.figures}")
    ours: list[float] = []
    other: list[float] = []
    for i in range(n_pairs):
        answer, taken = timed(comparison.run_ours, clock)
        other_answer, other_taken = timed(comparison.run_other, clock)
        quality = _judged(comparison, answer, other_answer)
        ours.append(taken)
        other.append(other_taken)
        listener(f"pair {i + 1}/{n_pairs}: {taken:.3g} s, the other {other_taken:.3g} s")
    return Result(
        comparison.ours, comparison.other, comparison.n_items, comparison.item, comparison.limit,
        comparison.least,
        Seconds(tuple(ours), tuple(other)), quality,
    )  # fmt: skip


def timed(run: Callable[[], Ours], clock: Clock = time.perf_counter) -> tuple[Ours, float]:
    """Return an answer and the seconds it took; a GPU has finished at both ends."""
    _finish()
    begin = clock()
    answer = run()
    _finish()
    return answer, clock() - begin


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _judged(comparison: Comparison[Ours, Other], ours: Ours, other: Other) -> Quality:
    quality = comparison.judge(ours, other)
    if not quality.is_equal:
        raise RefusedError(f"the sides differ in quality, so no ratio: {quality.figures}")
    return quality


def compare_aucs(ours: Groups, other: Groups, *, may_be_better: bool = False) -> Quality:
    """Compare the AUC of the same positives and negatives, as both sides score them.

    Equal is what :mod:`securitynet.targets.parity` calls close: a change below a thousandth, apart
    from the sampling error of the paired difference (DeLong's structural components).

    Args:
        ours: Scores of positives ``[m]`` and of negatives ``[n]``; higher = positive.
        other: The same samples in the same order.
        may_be_better: Let ours be above the other's, where the methods are not the same.
    """
    wins, other_wins = _wins(*ours), _wins(*other)
    changes = wins - other_wins
    rows, columns = changes.mean(1), changes.mean(0)
    error = float(np.sqrt(rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns)))
    figures = (
        f"AUC {wins.mean():.4f}, the other's {other_wins.mean():.4f} (standard error of the "
        f"change {error:.4f}, n = {len(rows)} + {len(columns)})"
    )
    worse = -float(changes.mean()) if may_be_better else abs(float(changes.mean()))
    return Quality(figures, worse < MAX_AUC_CHANGE + Z95 * error)


def _wins(positives: Floats, negatives: Floats) -> Floats:
    """Return whether each positive scores above each negative; ties count half."""
    first, second = positives[:, None], negatives[None]
    return np.asarray((first > second) + (first == second) / 2)
