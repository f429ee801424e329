"""Does a faster path answer as plain fp32 does? Labels, and what membership attacks live on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from securitynet.metrics.intervals import Z95

MIN_AGREEMENT = 0.999
MAX_AUC_CHANGE = 1e-3

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Parity:
    """Outcome of the check of the fast path against plain fp32 on the same images.

    Attributes:
        precision: The mode in use after the check: ``bf16+fp32``, ``fp32`` or ``fp32-plain``.
        label_agreement: Share of equal labels, of the mode in use.
        auc_change: |change| of the loss's AUC between the two halves of the sample.
        auc_error: Standard error of that change.
        n: Number of images.
        is_fallback: Whether a faster path gave other answers and was given up.
    """

    precision: str
    label_agreement: float
    auc_change: float
    auc_error: float
    n: int
    is_fallback: bool = False

    @property
    def is_close(self) -> bool:
        """Whether the mode answers as plain fp32 does, sampling error of the AUC apart."""
        allowed = MAX_AUC_CHANGE + Z95 * self.auc_error
        return self.label_agreement >= MIN_AGREEMENT and self.auc_change < allowed


def compare(
    precision: str, plain: Logits, fast: Logits, labels: NDArray[np.int64], n_first: int
) -> Parity:
    """Compare two logits of the same images, float32 ``[n, K]``.

    Args:
        precision: The mode that gave ``fast``.
        plain: The reference.
        fast: What is checked.
        labels: True labels, int64 ``[n]``.
        n_first: Number of images in the first half, e.g. the members.
    """
    agreement = float(np.mean(plain.argmax(1) == fast.argmax(1)))
    return Parity(precision, agreement, *_auc_change(plain, fast, labels, n_first), len(labels))


def _auc_change(
    plain: Logits, fast: Logits, labels: NDArray[np.int64], n_first: int
) -> tuple[float, float]:
    """Return |change| of the AUC of the loss between the halves, and its standard error.

    The error is of the paired difference, from DeLong's structural components: a few hundred
    images alone resolve an AUC change of a thousandth only where few pairs change their order.
    """
    changes = _wins(fast, labels, n_first) - _wins(plain, labels, n_first)
    rows, columns = changes.mean(1), changes.mean(0)
    variance = rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns)
    return abs(float(changes.mean())), float(np.sqrt(variance))


def _wins(logits: Logits, labels: NDArray[np.int64], n_first: int) -> NDArray[np.float64]:
    """Return whether each image of the first half has a larger loss than each of the second."""
    tensor = torch.from_numpy(logits).double()
    loss = functional.cross_entropy(tensor, torch.from_numpy(labels), reduction="none").numpy()
    first, second = loss[:n_first, None], loss[None, n_first:]
    return np.asarray((first > second) + (first == second) / 2)
