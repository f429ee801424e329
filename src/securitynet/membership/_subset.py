"""A random part of the audited samples, for attacks that ask much of every one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from securitynet.datasets.images import Images


FEWEST = 10
"""Of fewer samples drawn by chance, too often hardly one is a member, or hardly one is not."""


def draw(images: Images, size: int, rng: np.random.Generator) -> NDArray[np.int64] | None:
    """Return positions of ``size`` samples, sorted, as equal over classes as it goes.

    The audit has as many members as non-members in every class; which is which is not known here,
    so the part is balanced by class and, within a class, by chance.

    Returns:
        int64 ``[size]``; ``None`` if that is all of them.
    """
    if size >= len(images):
        return None
    order = rng.permutation(len(images))
    labels = images.labels[order]
    turn = np.empty(len(order), dtype=np.int64)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        turn[mine] = np.arange(len(mine))
    return np.sort(order[np.argsort(turn, kind="stable")[:size]])
