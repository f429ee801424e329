"""The largest logit margins of all classes, searched over all possible images at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from securitynet.targets.engine import as_logits
from securitynet.targets.transform import channels_last

FIRST_STEP = 0.3  # of the range of a pixel; the steps fall to 0 on a straight line
MOMENTUM = 0.5
MAX_PIXELS = 2**20  # of one pass; more starts than fit go one part after the other


@dataclass(frozen=True)
class Ascent:
    """How to search.

    Attributes:
        n_restarts: Random images a class from which the search starts.
        n_steps: Steps of each.
        use_bf16: Whether to search in bf16 under autocast; margins are measured in full precision.
    """

    n_restarts: int
    n_steps: int
    use_bf16: bool = False


@dataclass(frozen=True, eq=False)
class Maxima:
    """The largest margins that were found.

    Attributes:
        margins: One a class and restart, float64 ``[K, R]``.
        n_queries: Images put through the model, the last time without gradients.
    """

    margins: NDArray[np.float64]
    n_queries: int


def margins_of(logits: Tensor, goals: Tensor) -> Tensor:
    """Return each row's logit of its goal minus the largest other logit, ``[n]``."""
    own = logits.gather(1, goals[:, None])[:, 0]
    others = logits.scatter(1, goals[:, None], -torch.inf)
    return own - others.amax(1)


def largest_margins(
    module: nn.Module,
    shape: tuple[int, ...],
    n_classes: int,
    ascent: Ascent,
    seed: int,
    device: torch.device,
    progress: Callable[[float], None],
) -> Maxima:
    """Maximise f_k(x) - max over j != k of f_j(x) over images x in [0, 1], for every class k.

    Ascent along the sign of the averaged gradient, every pixel clipped to [0, 1]: the step knows
    nothing of how large logits and gradients are. Every start goes its own way, so it does not
    matter which of them share a batch.

    Args:
        module: Frozen; maps pixels ``[n, C, H, W]`` in [0, 1] to logits.
        shape: ``(C, H, W)`` of an image, ``(C, D, H, W)`` of a volume.
        n_classes: K.
        ascent: How to search.
        seed: Seed of the starts.
        device: Where the module is.
        progress: Told the share done.
    """
    n_starts, n_restarts = n_classes * ascent.n_restarts, ascent.n_restarts
    margins = np.empty(n_starts)
    for part in _parts(n_starts, int(np.prod(shape[1:]))):
        rows = np.arange(n_starts)[part]
        keys = [(seed, int(row) // n_restarts, int(row) % n_restarts) for row in rows]
        starts = [np.random.default_rng(key).random(shape, np.float32) for key in keys]
        goals = torch.from_numpy(rows // n_restarts).to(device)
        climb = _Climb(module, torch.from_numpy(np.stack(starts)).to(device), goals, ascent)
        for step in range(ascent.n_steps):
            climb.step(step)
            progress((part.start + len(rows) * (step + 1) / ascent.n_steps) / n_starts)
        margins[part] = climb.measured()
    return Maxima(margins.reshape(n_classes, n_restarts), n_starts * (ascent.n_steps + 1))


class _Climb:
    """Some starts on their way up; each keeps the best image that it met."""

    def __init__(self, module: nn.Module, images: Tensor, goals: Tensor, ascent: Ascent) -> None:
        self._module, self._goals, self._ascent = module, goals, ascent
        self._images, self._best_images = images, images.clone()
        self._direction = torch.zeros_like(images)
        self._best = torch.full((len(images),), -torch.inf, device=images.device)

    def step(self, step: int) -> None:
        """Measure the images and move them; the step size falls to 0."""
        images, use_bf16 = self._images.requires_grad_(), self._ascent.use_bf16
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=use_bf16):
            logits = as_logits(self._module(channels_last(images))).float()
        margins = margins_of(logits, self._goals)
        (gradients,) = torch.autograd.grad(margins.sum(), images)
        with torch.no_grad():
            self._keep(images, margins)
            mean = gradients.abs().flatten(1).mean(1).clamp_min(1e-30)
            scaled = gradients / mean.reshape(-1, *[1] * (images.dim() - 1))
            self._direction = MOMENTUM * self._direction + scaled
            size = FIRST_STEP * (1 - step / self._ascent.n_steps)
            self._images = (images + size * self._direction.sign()).clamp(0, 1).detach()

    def measured(self) -> NDArray[np.float64]:
        """Return the margins of the best images in full precision, ``[n]``."""
        with torch.inference_mode():
            logits = as_logits(self._module(channels_last(self._best_images))).float()
            return np.asarray(margins_of(logits, self._goals).double().cpu().numpy())

    def _keep(self, images: Tensor, margins: Tensor) -> None:
        is_better = margins > self._best
        self._best_images[is_better] = images[is_better]
        self._best = torch.where(is_better, margins, self._best).detach()


def _parts(n_starts: int, pixels_a_start: int) -> Iterator[slice]:
    """Cut the starts into parts that fit into one pass."""
    size = max(1, MAX_PIXELS // max(pixels_a_start, 1))
    for start in range(0, n_starts, size):
        yield slice(start, min(start + size, n_starts))
