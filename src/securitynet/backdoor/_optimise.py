"""Trigger inversion for all classes at once: classes are folded into the batch axis."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from securitynet.models.engine import as_logits

PATIENCE = 5
RISE = 2.0
FALL = 2.0**1.5
STOP_PATIENCE = 25
STOP_SHARE = 0.99  # a smaller norm counts as progress only if it is smaller by 1%
RUNNING = 48  # images a class behind the running attack success rate
LEARNING_RATE = 0.1
BETAS = (0.5, 0.9)
MAX_PIXELS = 2**20  # of one pass; more classes than fit go through in parts


@dataclass(frozen=True)
class Search:
    """How to search.

    Attributes:
        n_steps: Steps of the optimiser, each with fresh images and one check a class.
        batch_size: Images a class and step.
        lambda_start: First positive weight of the mask norm.
        threshold: Attack success rate that a trigger must reach.
        use_bf16: Whether to compute in bf16 under autocast.
    """

    n_steps: int
    batch_size: int
    lambda_start: float
    threshold: float
    use_bf16: bool = False


@dataclass(frozen=True, eq=False)
class Found:
    """The smallest working trigger a class.

    Attributes:
        masks: ``[K, 1, H, W]`` in [0, 1].
        patterns: ``[K, C, H, W]`` in [0, 1].
        norms: Mask L1 norms, ``[K]``; H x W where no step reached the threshold.
        is_reached: Whether some step reached the threshold, bool ``[K]``.
        weights: Last lambda of each class, ``[K]``.
        n_queries: Images put through the model, forward and backward.
    """

    masks: Tensor
    patterns: Tensor
    norms: NDArray[np.float64]
    is_reached: NDArray[np.bool_]
    weights: NDArray[np.float64]
    n_queries: int


@dataclass(eq=False)
class LambdaSchedule:
    """The weight of the mask norm, each class on its own (Wang et al., S&P 2019, section IV-B).

    It starts at 0, becomes ``start`` once ``PATIENCE`` checks in a row succeeded, then doubles
    after each further ``PATIENCE`` successes in a row and falls by 2^1.5 after as many failures.

    Args:
        n_classes: K.
        start: First positive weight.
    """

    n_classes: int
    start: float
    value: NDArray[np.float64] = field(init=False)
    has_risen: NDArray[np.bool_] = field(init=False)
    has_fallen: NDArray[np.bool_] = field(init=False)
    _streak: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Start every class at 0, with no streak."""
        self.value = np.zeros(self.n_classes)
        self.has_risen = np.zeros(self.n_classes, dtype=np.bool_)
        self.has_fallen = np.zeros(self.n_classes, dtype=np.bool_)
        self._streak = np.zeros(self.n_classes, dtype=np.int64)  # negative: failures in a row

    def update(self, is_success: NDArray[np.bool_]) -> None:
        """Take one check a class, bool ``[K]``."""
        longer = np.where(
            is_success, np.maximum(self._streak, 0) + 1, np.minimum(self._streak, 0) - 1
        )
        rises, falls = longer >= PATIENCE, longer <= -PATIENCE
        is_on = self.value > 0
        self.has_risen |= rises & is_on
        self.has_fallen |= falls & is_on
        raised = np.where(is_on, self.value * RISE, self.start)
        self.value = np.where(rises, raised, np.where(falls, self.value / FALL, self.value))
        self._streak = np.where(rises | falls, 0, longer)


class _Best:
    """The smallest working mask so far, and which classes may stop."""

    def __init__(self, masks: Tensor, patterns: Tensor) -> None:
        n_classes = len(masks)
        self.masks, self.patterns = masks.clone(), patterns.clone()
        self.norms = np.full(n_classes, float(masks[0].numel()))
        self.is_reached = np.zeros(n_classes, dtype=np.bool_)
        self._mark = self.norms.copy()
        self._n_stale = np.zeros(n_classes, dtype=np.int64)

    def update(self, masks: Tensor, patterns: Tensor, is_success: NDArray[np.bool_]) -> None:
        norms = masks.sum((1, 2, 3)).double().cpu().numpy()
        is_better = is_success & (norms < self.norms)
        rows = torch.from_numpy(is_better).to(masks.device)
        self.masks[rows], self.patterns[rows] = masks[rows], patterns[rows]
        self.norms = np.where(is_better, norms, self.norms)
        self.is_reached |= is_success
        has_progress = self.norms < STOP_SHARE * self._mark
        self._mark = np.where(has_progress, self.norms, self._mark)
        self._n_stale = np.where(has_progress, 0, self._n_stale + 1)

    def stopped(self, schedule: LambdaSchedule) -> NDArray[np.bool_]:
        """Return the classes whose lambda has gone both ways and whose mask shrinks no more."""
        has_swung = schedule.has_risen & schedule.has_fallen
        return has_swung & self.is_reached & (self._n_stale >= STOP_PATIENCE)


def find_triggers(
    module: nn.Module,
    pixels: Tensor,
    labels: NDArray[np.int64],
    n_classes: int,
    search: Search,
    seed: int | tuple[int, ...],
    progress: Callable[[float], None],
) -> Found:
    """Find, for every class, a small patch that turns images of other classes to it.

    Minimises CE(f((1 - m) x + m p), k) + lambda_k |m_k|_1 (Wang et al., S&P 2019, equations 2
    and 3) by Adam for all classes k at once. Mask and pattern are tanh-bounded.

    Args:
        module: Frozen; maps pixels ``[n, C, H, W]`` in [0, 1] to logits.
        pixels: Clean images, ``[n, C, H, W]``, on the module's device.
        labels: Their true labels, int64 ``[n]``.
        n_classes: K.
        search: How to search.
        seed: Seed of start and of image order.
        progress: Told the share done.
    """
    rng = np.random.default_rng(seed)
    shape = (n_classes, 1 + pixels.shape[1], *pixels.shape[2:])
    start = torch.from_numpy(rng.uniform(-1, 1, shape).astype(np.float32))
    raw = start.to(pixels.device).requires_grad_()
    optimiser = torch.optim.Adam([raw], lr=LEARNING_RATE, betas=BETAS)
    schedule, best = LambdaSchedule(n_classes, search.lambda_start), _Best(*_bounded(raw.detach()))
    draws = _Draws(labels, n_classes, search.batch_size, rng)
    recent: deque[NDArray[np.float64]] = deque(maxlen=-(-RUNNING // search.batch_size))
    active, n_queries = np.arange(n_classes), 0
    for step in range(search.n_steps):
        optimiser.zero_grad()
        success = np.zeros(n_classes)
        for part in _parts(active, search.batch_size * pixels[0, 0].numel()):
            images = pixels[torch.from_numpy(draws.next(part)).to(pixels.device)]
            success[part] = _backward(module, raw, images, part, schedule.value, search)
        n_queries += len(active) * search.batch_size
        recent.append(success)
        is_active = np.isin(np.arange(n_classes), active)
        is_success = is_active & (np.mean(recent, axis=0) >= search.threshold)
        best.update(*_bounded(raw.detach()), is_success)
        schedule.update(is_success)
        optimiser.step()
        progress((step + 1) / search.n_steps)
        active = np.flatnonzero(~best.stopped(schedule))
        if not len(active):
            break
    return Found(best.masks, best.patterns, best.norms, best.is_reached, schedule.value, n_queries)


def _bounded(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Map free numbers ``[K, 1 + C, H, W]`` to masks and patterns in [0, 1] by tanh."""
    both = torch.tanh(raw) / 2 + 0.5
    return both[:, :1], both[:, 1:]


def _backward(
    module: nn.Module,
    raw: Tensor,
    images: Tensor,
    part: NDArray[np.int64],
    weights: NDArray[np.float64],
    search: Search,
) -> NDArray[np.float64]:
    """Add the gradients of some classes; return the attack success of their triggers.

    The loss is summed over classes, so every class has the gradient it would have on its own.
    """
    rows = torch.from_numpy(part).to(raw.device)
    masks, patterns = _bounded(raw[rows])
    n_classes, size = len(part), search.batch_size
    shape = (n_classes, size, *images.shape[1:])
    stamped = (1 - masks[:, None]) * images.reshape(shape) + (masks * patterns)[:, None]
    batch = stamped.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    goals = rows.repeat_interleave(size)
    with torch.autocast(raw.device.type, dtype=torch.bfloat16, enabled=search.use_bf16):
        logits = as_logits(module(batch)).float()
    hit = (logits.argmax(1) == goals).float().reshape(n_classes, size).mean(1)
    loss = functional.cross_entropy(logits, goals, reduction="sum") / size
    weight = torch.from_numpy(weights[part]).to(raw.device, torch.float32)
    loss = loss + (weight * masks.sum((1, 2, 3))).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    return np.asarray(hit.double().cpu().numpy())


def _parts(active: NDArray[np.int64], pixels_a_class: int) -> Iterator[NDArray[np.int64]]:
    """Cut the active classes into parts that fit into one pass."""
    size = max(1, MAX_PIXELS // max(pixels_a_class, 1))
    for start in range(0, len(active), size):
        yield active[start : start + size]


class _Draws:
    """Draws images for classes: for each class only images of other classes."""

    def __init__(
        self, labels: NDArray[np.int64], n_classes: int, size: int, rng: np.random.Generator
    ) -> None:
        self._pools = [np.flatnonzero(labels != k) for k in range(n_classes)]
        self._size, self._rng = size, rng

    def next(self, part: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return ``size`` positions for each class of the part, in order."""
        drawn = [self._rng.choice(self._pools[k], self._size) for k in part]
        return np.concatenate(drawn)
