"""The small masks that a search met, and the smallest of them that really works.

Among many noisy checks on a few images some masks pass by luck, and the smallest that passed is
the luckiest. So the search keeps a ladder of ever smaller candidates a class, and they are checked
again, from the smallest up, on many more images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from securitynet.targets.engine import as_logits
from securitynet.targets.transform import channels_last

SPACING = 0.95  # a mask starts a rung of its own if it is at least 5% smaller than the last rung
MAX_RUNGS = 12
MAX_NUMBERS = 2**28  # held by all ladders together
CHUNK = 64  # images of one check, after which a mask that has missed too often is given up


class Ladder:
    """Candidates of every class, the smallest last.

    Args:
        n_classes: K.
        n_numbers: Numbers that mask and pattern of one class take.
    """

    def __init__(self, n_classes: int, n_numbers: int) -> None:
        """Start without candidates; large images leave room for fewer rungs."""
        self._depth = int(np.clip(MAX_NUMBERS // (n_classes * n_numbers), 2, MAX_RUNGS))
        self._marks = np.full(n_classes, np.inf)
        self._rungs: list[list[Tensor]] = [[] for _ in range(n_classes)]

    def __len__(self) -> int:
        """Return the number of classes."""
        return len(self._rungs)

    def add(self, label: int, norm: float, trigger: Tensor) -> None:
        """Keep a smaller candidate than all before: on a new rung, or in place of the last.

        Args:
            label: The class.
            norm: L1 norm of its mask.
            trigger: Mask and pattern, ``[1 + C, H, W]`` in [0, 1]; copied.
        """
        rungs = self._rungs[label]
        if norm <= SPACING * self._marks[label] or not rungs:
            self._marks[label] = norm
            rungs.append(trigger.clone())
            del rungs[: -self._depth]
        else:
            rungs[-1] = trigger.clone()

    def smallest_working(
        self, label: int, works: Callable[[Tensor], bool]
    ) -> tuple[Tensor | None, bool]:
        """Return the smallest candidate that works, and whether one does.

        Where none does, the largest is returned: the norm it needs is larger still. Without any
        candidate there is none to return.
        """
        rungs = self._rungs[label]
        for trigger in reversed(rungs):
            if works(trigger):
                return trigger, True
        return (rungs[0], False) if rungs else (None, False)


@dataclass(eq=False)
class Checker:
    """Tells whether a trigger turns enough images to a class, and counts what it asked.

    Args:
        module: Frozen; maps pixels ``[n, C, H, W]`` in [0, 1] to logits.
        images: Clean images of other classes, ``[n, C, H, W]``.
        label: The class.
        threshold: Share of the images that must turn, in (0, 1].
    """

    module: nn.Module
    images: Tensor
    label: int
    threshold: float
    n_queries: int = 0

    def __call__(self, trigger: Tensor) -> bool:
        """Check mask and pattern, ``[1 + C, H, W]``; gives up once too many images are missed."""
        n_allowed = int((1 - self.threshold) * len(self.images) + 1e-9)
        n_missed = 0
        mask, pattern = trigger[:1], trigger[1:]
        for part in torch.split(self.images, CHUNK):
            stamped = (1 - mask) * part + mask * pattern
            with torch.inference_mode():
                logits = as_logits(self.module(channels_last(stamped)))
            self.n_queries += len(part)
            n_missed += int((logits.argmax(1) != self.label).sum())
            if n_missed > n_allowed:
                return False
        return True
