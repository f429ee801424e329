"""What a method receives besides the target and the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from securitynet.targets.references import References


def _silent(done: float, what: str) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True)
class Context:
    """The surroundings of one job.

    Attributes:
        seed: The job's seed.
        device: Where to compute.
        cache: Folder for what other jobs can reuse (e.g. floor models); ``None`` = keep nothing.
        progress: Called with the share done in [0, 1] and a few words.
        trigger: The known trigger of a backdoored model, from its card's training manifest.
        references: Models of known training sets and their answers, if there are any.
        known: Membership that the adversary knows, int8 ``[n]`` over ``data.audit``: 1 member,
            0 non-member, -1 unknown. Only the scores of unknown samples are used.
    """

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    cache: Path | None = None
    progress: Callable[[float, str], None] = _silent
    trigger: object | None = None
    references: References | None = None
    known: NDArray[np.int8] | None = None

    @property
    def rng(self) -> np.random.Generator:
        """A fresh generator seeded with the job's seed."""
        return np.random.default_rng(self.seed)
