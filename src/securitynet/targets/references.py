"""Models of known training sets, as they answer on the audited samples.

A reference may speak for a sample only if its manifest says that it never saw it (OUT), or that it
saw it by a coin flip (IN, for online attacks). Models of others that were all trained on the same
split are IN for every member and OUT for every non-member: as references they turn any attack into
an artefact (see docs/soundness.md), so they are refused here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from securitynet.errors import RefusedError

if TYPE_CHECKING:
    from securitynet.targets.target import Target

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Masks = NDArray[np.bool_]
Array = TypeVar("Array", Floats, Masks)
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
        model: Reference r as a target that can be asked anything, for attacks that query changed
            images and tune themselves on a model of known membership; ``None`` = it cannot.
    """

    fingerprint: str
    is_out: Masks
    is_in: Masks
    answers: Callable[[int], Floats]
    shadow: Callable[[int], Shadow]
    model: Callable[[int], Target] | None = None

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
        mask, m = self.speakers(side), self.per_sample(side)
        gathered = np.empty((m, mask.shape[1]))
        row = np.cumsum(mask, axis=0) - 1
        for r in range(len(mask)):
            chosen = np.flatnonzero(mask[r])
            gathered[row[r, chosen], chosen] = score(self.answers(r), labels)[chosen]
        return gathered

    def speakers(self, side: Literal["out", "in"] = "out") -> Masks:
        """Return which references speak for each sample, equally many for all, bool ``[R, n]``.

        Where some samples have more references than others - members never appear in the training
        sets of references made of test images - their number, or which ones they are, would tell
        members from non-members before the target is asked. So a sample with many is given those
        of a sample with few, drawn by how common they are.

        Raises:
            RefusedError: If no reference may speak for some sample.
        """
        if side not in self._drawn:  # every attack asks again
            self._drawn[side] = _kept(self._draw(side))
        return self._drawn[side]

    def _draw(self, side: Literal["out", "in"]) -> Masks:
        mask, m = self._mask(side), self._checked(side)
        counts = mask.sum(0)
        chosen = mask.copy()
        patterns, frequency = np.unique(mask[:, counts == m], axis=1, return_counts=True)
        rng = np.random.default_rng(0)
        for column in np.unique(mask[:, counts > m], axis=1).T:
            mine = np.flatnonzero((mask == column[:, None]).all(0))
            fits = ~(patterns & ~column[:, None]).any(0)
            if fits.any():
                odds = frequency[fits] / frequency[fits].sum()
                drawn = rng.choice(np.flatnonzero(fits), size=len(mine), p=odds)
                chosen[:, mine] = patterns[:, drawn]
            else:
                order = rng.random((len(column), len(mine))) + ~column[:, None]
                chosen[:, mine] = order.argsort(0).argsort(0) < m
        return chosen

    def mean_log_p(self) -> Floats:
        """Return the log of the OUT references' mean posteriors, float64 ``[n, K]``.

        It stands for the target in the control that never asks it.

        Raises:
            RefusedError: If no reference may speak for some sample.
        """
        return self._mean

    @cached_property
    def _drawn(self) -> dict[str, Masks]:
        return {}

    @cached_property
    def _mean(self) -> Floats:
        mask = self.speakers("out")
        total = np.zeros_like(self.answers(0))
        for r in range(len(self)):
            total += np.where(mask[r][:, None], np.exp(self.answers(r)), 0.0)
        mean = total / self.per_sample("out")
        log_mean: Floats = np.log(np.maximum(mean, np.finfo(np.float64).tiny))
        return _kept(log_mean)

    def _mask(self, side: Literal["out", "in"]) -> Masks:
        return self.is_out if side == "out" else self.is_in

    def _checked(self, side: Literal["out", "in"]) -> int:
        counts = self._mask(side).sum(0) if len(self) else np.zeros(1, dtype=np.int64)
        if counts.min() == 0:
            what, command = {
                "out": ("never saw them", "train references` makes sound ones"),
                "in": (
                    "saw them by a coin flip",
                    "train references --kind online --also FILE` shares the listed images out too",
                ),
            }[side]
            raise RefusedError(
                f"{np.mean(counts == 0):.1%} of the samples have no reference that {what}",
                where="references",
                hint=f"`securitynet {command}",
                flags=["unsound-references"],
            )
        return int(counts.min())


def _kept(array: Array) -> Array:
    """Return an array that nobody may write to, for all share it."""
    array.setflags(write=False)
    return array
