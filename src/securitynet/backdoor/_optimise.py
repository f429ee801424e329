"""Trigger inversion for all classes at once: classes are folded into the batch axis."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from securitynet.backdoor._candidates import Checker, Ladder
from securitynet.targets.engine import as_logits
from securitynet.targets.transform import channels_last

PATIENCE = 5
RISE = 2.0
FALL = 2.0**1.5
STOP_PATIENCE = 100
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
        threshold: Attack success rate, over the last ``RUNNING`` images, that a trigger must reach.
        use_bf16: Whether to search in bf16 under autocast; checks are in full precision.
        n_checked: Images a class that check the candidates again.
        check_threshold: Attack success rate that a candidate must keep on them.
    """

    n_steps: int
    batch_size: int
    lambda_start: float
    threshold: float
    use_bf16: bool = False
    n_checked: int = 256
    check_threshold: float = 0.95


@dataclass(frozen=True, eq=False)
class Found:
    """The smallest working trigger a class.

    Attributes:
        masks: ``[K, 1, H, W]`` in [0, 1].
        patterns: ``[K, C, H, W]`` in [0, 1].
        norms: Mask L1 norms, ``[K]``; H x W where no step reached the threshold, and a lower
            bound where one did but failed the check.
        is_reached: Whether the trigger reached the threshold when checked, bool ``[K]``.
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
    """The smallest masks that worked so far, and which classes may stop."""

    def __init__(self, n_classes: int, shape: torch.Size) -> None:
        self.ladder = Ladder(n_classes, shape.numel())
        self.whole = float(shape[1:].numel())
        self._norms = np.full(n_classes, self.whole)
        self._is_reached = np.zeros(n_classes, dtype=np.bool_)
        self._mark = self._norms.copy()
        self._n_stale = np.zeros(n_classes, dtype=np.int64)

    def update(self, triggers: Tensor, is_success: NDArray[np.bool_]) -> None:
        """Take the triggers of a step, ``[K, 1 + C, H, W]``, and whether they worked."""
        norms = triggers[:, 0].flatten(1).sum(1).double().cpu().numpy()
        is_better = is_success & (norms < self._norms)
        for k in np.flatnonzero(is_better):
            self.ladder.add(int(k), float(norms[k]), triggers[k])
        self._norms = np.where(is_better, norms, self._norms)
        self._is_reached |= is_success
        has_progress = self._norms < STOP_SHARE * self._mark
        self._mark = np.where(has_progress, self._norms, self._mark)
        self._n_stale = np.where(has_progress, 0, self._n_stale + 1)

    def stopped(self, schedule: LambdaSchedule) -> NDArray[np.bool_]:
        """Return the classes whose lambda has gone both ways and whose mask shrinks no more."""
        has_swung = schedule.has_risen & schedule.has_fallen
        return has_swung & self._is_reached & (self._n_stale >= STOP_PATIENCE)


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
        pixels: Clean images, ``[n, C, H, W]``, on the module's device. Of volumes
            ``[n, C, D, H, W]`` masks and patterns have ``D`` too.
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
    schedule = LambdaSchedule(n_classes, search.lambda_start)
    best = _Best(n_classes, raw[0].shape)
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
        best.update(_bounded(raw.detach()), is_success)
        schedule.update(is_success)
        optimiser.step()
        progress((step + 1) / search.n_steps)
        active = np.flatnonzero(~best.stopped(schedule))
        if not len(active):
            break
    found = _check_again(module, pixels, labels, best, search)
    return replace(found, weights=schedule.value, n_queries=found.n_queries + n_queries)


def _check_again(
    module: nn.Module,
    pixels: Tensor,
    labels: NDArray[np.int64],
    best: _Best,
    search: Search,
) -> Found:
    """Keep, for every class, the smallest mask that works on many images of other classes."""
    n_classes = len(best.ladder)
    triggers = torch.zeros(n_classes, 1 + pixels.shape[1], *pixels.shape[2:], device=pixels.device)
    triggers[:, 0] = 1.0  # where nothing worked: the whole image, replaced by black
    is_reached = np.zeros(n_classes, dtype=np.bool_)
    n_queries = 0
    for k in range(n_classes):
        chosen = torch.from_numpy(np.flatnonzero(labels != k)[: search.n_checked])
        checker = Checker(module, pixels[chosen.to(pixels.device)], k, search.check_threshold)
        trigger, is_reached[k] = best.ladder.smallest_working(k, checker)
        triggers[k] = triggers[k] if trigger is None else trigger
        n_queries += checker.n_queries
    masks, patterns = triggers[:, :1], triggers[:, 1:]
    norms = masks.flatten(1).sum(1).double().cpu().numpy()
    return Found(masks, patterns, norms, is_reached, np.zeros(n_classes), n_queries)


def _bounded(raw: Tensor) -> Tensor:
    """Map free numbers to masks and patterns in [0, 1] by tanh."""
    return torch.tanh(raw) / 2 + 0.5


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
    triggers = _bounded(raw[rows])
    masks, patterns = triggers[:, :1], triggers[:, 1:]
    n_classes, size = len(part), search.batch_size
    shape = (n_classes, size, *images.shape[1:])
    stamped = (1 - masks[:, None]) * images.reshape(shape) + (masks * patterns)[:, None]
    batch = channels_last(stamped.flatten(0, 1))
    goals = rows.repeat_interleave(size)
    with torch.autocast(raw.device.type, dtype=torch.bfloat16, enabled=search.use_bf16):
        logits = as_logits(module(batch)).float()
    hit = (logits.argmax(1) == goals).float().reshape(n_classes, size).mean(1)
    loss = functional.cross_entropy(logits, goals, reduction="sum") / size
    weight = torch.from_numpy(weights[part]).to(raw.device, torch.float32)
    loss = loss + (weight * masks.flatten(1).sum(1)).sum()
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
