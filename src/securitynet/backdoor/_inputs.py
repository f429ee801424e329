"""What detectors of inputs share: disjoint parts of the clean images, and the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from securitynet.errors import RefusedError

if TYPE_CHECKING:
    from securitynet.datasets.images import Images

MIN_SCORED = 20


@dataclass(frozen=True)
class Parts:
    """Four disjoint parts of the clean images.

    Attributes:
        bank: What the detector works with.
        calibration: What the threshold is set on.
        clean: Inputs to be scored as they are.
        others: Inputs to be triggered and scored.
    """

    bank: Images
    calibration: Images
    clean: Images
    others: Images


def disjoint_parts(
    images: Images, n_bank: int, n_scored: int, target_class: int | None, where: str
) -> Parts:
    """Cut images, in their order, into four parts.

    Args:
        images: Clean images.
        n_bank: Size of the bank.
        n_scored: Size of each other part; less where there are too few images, at least
            ``MIN_SCORED``.
        target_class: None of the images to be triggered is of it: a trigger changes nothing there.
        where: The method, for the refusal.

    Raises:
        RefusedError: If there are too few images.
    """
    bank, rest = images.take(slice(n_bank)), images.take(slice(n_bank, None))
    size = min(n_scored, len(rest) // 3)
    others = rest.take(slice(2 * size, None))
    if target_class is not None:
        others = others.take(others.labels != target_class)
    if min(size, len(others)) < MIN_SCORED:
        raise RefusedError(
            f"{len(images)} clean images are too few for a bank of {n_bank} and three parts of "
            f"{MIN_SCORED}",
            where=where,
            hint=f"raise --limit, or lower what `securitynet show {where}` names",
            flags=["few-images"],
        )
    calibration, clean = rest.take(slice(size)), rest.take(slice(size, 2 * size))
    return Parts(bank, calibration, clean, others.take(slice(size)))


def conformal_threshold(
    reference: NDArray[np.float64], false_rejection: float
) -> tuple[float, bool]:
    """Return the threshold that a fresh clean input exceeds with at most this probability.

    The ceil((n + 1)(1 - rate))-th smallest of n calibration scores: for exchangeable clean
    inputs the rate holds exactly, without assuming normal scores as the paper of STRIP does.

    Args:
        reference: Scores of calibration images, ``[n]``.
        false_rejection: The rate.

    Returns:
        The threshold, and whether n is large enough for the rate; if not, the threshold is the
        largest score and the rate 1/(n + 1).
    """
    rank = int(np.ceil((len(reference) + 1) * (1 - false_rejection) - 1e-9))
    is_resolved = rank <= len(reference)
    return float(np.sort(reference)[min(rank, len(reference)) - 1]), is_resolved
