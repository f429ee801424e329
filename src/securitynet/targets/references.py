"""Models of known training sets, as they answer on the audited samples.

A reference may speak for a sample only if its manifest says that it never saw it (OUT), or that it
saw it by a coin flip (IN, for online attacks). Models of others that were all trained on the same
split are IN for every member and OUT for every non-member: as references they turn any attack into
an artefact (see docs/soundness.md), so they are refused here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from securitynet.errors import RefusedError

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Masks = NDArray[np.bool_]
Score = Callable[[Floats, Labels], Floats]
"""A score from one forward pass: log posteriors ``[n, K]`` and labels ``[n]`` -> ``[n]``."""


@dataclass(frozen=True, eq=False)
class Shadow:
    """A reference as a shadow model: its answers on images with known membership in *its* training.

    Attributes:
        log_p: Its log posteriors, float64 ``[m, K]``.
        labels: True labels, int64 ``[m]``.
        is_member: Whether it was trained on the image, bool ``[m]``.
        indices: The images' indices in the data set's source, int64 ``[m]``.
    """

    log_p: Floats
    labels: Labels
    is_member: Masks
    indices: Labels


@dataclass(frozen=True, eq=False)
class References:
    """References and what they may be asked.

    Attributes:
        fingerprint: Identity of the models and of their training sets.
        is_out: Whether a reference speaks for a sample as OUT, bool ``[R, n]``.
        is_in: Whether a reference speaks for a sample as IN, bool ``[R, n]``.
        answers: Log posteriors of reference r on the audited samples, float64 ``[n, K]``.
        shadow: Reference r as a shadow model.
    """

    fingerprint: str
    is_out: Masks
    is_in: Masks
    answers: Callable[[int], Floats]
    shadow: Callable[[int], Shadow]

    def __len__(self) -> int:
        """Return the number of references."""
        return len(self.is_out)

    def per_sample(self, side: Literal["out", "in"] = "out") -> int:
        """Return how many references speak for every sample: the smallest number over samples."""
        return int(self._mask(side).sum(0).min())

    def gather(self, score: Score, labels: Labels, side: Literal["out", "in"] = "out") -> Floats:
        """Return a score of every sample under the references that may speak for it.

        Args:
            score: See `Score`.
            labels: True labels of the audited samples, int64 ``[n]``.
            side: Whether OUT or IN references are asked.

        Returns:
            float64 ``[m, n]``, as many rows as every sample has references.

        Raises:
            RefusedError: If no reference may speak for some sample.
        """
        mask, m = self._mask(side), self._checked(side)
        gathered = np.empty((m, mask.shape[1]))
        filled = np.zeros(mask.shape[1], dtype=np.int64)
        for r in range(len(mask)):
            chosen = np.flatnonzero(mask[r] & (filled < m))
            gathered[filled[chosen], chosen] = score(self.answers(r), labels)[chosen]
            filled[chosen] += 1
        return gathered

    def mean_log_p(self) -> Floats:
        """Return the log of the OUT references' mean posteriors, float64 ``[n, K]``.

        It stands for the target in the control that never asks it.

        Raises:
            RefusedError: If no reference may speak for some sample.
        """
        self._checked("out")
        total = np.zeros_like(self.answers(0))
        for r in range(len(self)):
            total += np.where(self.is_out[r][:, None], np.exp(self.answers(r)), 0.0)
        mean = total / self.is_out.sum(0)[:, None]
        return np.asarray(np.log(np.maximum(mean, np.finfo(np.float64).tiny)))

    def _mask(self, side: Literal["out", "in"]) -> Masks:
        return self.is_out if side == "out" else self.is_in

    def _checked(self, side: Literal["out", "in"]) -> int:
        counts = self._mask(side).sum(0) if len(self) else np.zeros(1, dtype=np.int64)
        if counts.min() == 0:
            what = "never saw" if side == "out" else "saw by a coin flip"
            raise RefusedError(
                f"{np.mean(counts == 0):.1%} of the samples have no reference that {what} them",
                where="references",
                hint="`securitynet train references` makes sound ones",
                flags=["unsound-references"],
            )
        return int(counts.min())
