"""The one trainer: self-trained models, surrogates, references and injections all go through it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from securitynet.errors import UsageError
from securitynet.targets.engine import has_native_bf16
from securitynet.targets.transform import with_channels_last
from securitynet.training.private import (
    Mechanism,
    clipped_and_noised,
    in_place_refused,
    known_warnings_ignored,
    poisson_batches,
)

Targets = NDArray[np.int64] | NDArray[np.float64] | NDArray[np.float32]
Stamp = Callable[[NDArray[np.uint8], NDArray[np.int64]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: Passes over the data.
        batch_size: Images a step; smaller data sets take smaller batches, to have enough steps.
        lr: Peak learning rate of the one-cycle schedule.
        momentum: Nesterov momentum.
        weight_decay: L2 penalty.
        label_smoothing: For hard labels.
        is_augmented: Random shifts by up to an eighth of the side, and flips if ``is_flipped``.
        is_flipped: Whether augmentation flips left and right; not for digits.
        min_steps: Epochs are added until there are this many steps.
        cutout: Side in pixels of the square blanked at random in every image (DeVries & Taylor,
            arXiv 1708.04552, section 3); 0 = none.
    """

    epochs: int = 12
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.05
    is_augmented: bool = True
    is_flipped: bool = True
    min_steps: int = 1
    cutout: int = 0


FINE_TUNING = Recipe(epochs=5, lr=0.03, label_smoothing=0.0)
"""For a model that is trained already: plants a backdoor and keeps the accuracy."""


def fit(
    module: nn.Module,
    pixels: NDArray[np.uint8],
    targets: Targets,
    *,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    progress: Callable[[float, str], None] | None = None,
    stamp: Stamp | None = None,
    mechanism: Mechanism | None = None,
) -> nn.Module:
    """Train a module in place: SGD with Nesterov momentum on a one-cycle schedule.

    The last epoch counts: none is chosen on data. On the CPU the same seed gives the same weights,
    dropout included; the caller's random state is left alone.

    Args:
        module: Maps pixels in [0, 1] ``[n, C, H, W]`` to logits ``[n, K]``.
        pixels: Images, uint8 ``[n, H, W, C]``, or volumes ``[n, D, H, W, C]``, for which every
            shape here has the slices ``D`` before ``H``.
        targets: Labels int64 ``[n]``, or posteriors ``[n, K]`` (soft cross-entropy).
        recipe: How to train.
        seed: Seed of order, augmentation and dropout.
        device: Where to train.
        progress: Told the share done and a few words.
        stamp: Changes a batch after its augmentation: ``stamp(pixels, positions)`` with uint8
            ``[m, H, W, C]`` and the images' positions int64 ``[m]`` returns the pixels to use.
        mechanism: Train by DP-SGD, in fp32; its steps are those of :func:`steps_of`.

    Returns:
        The module in evaluation mode.

    Raises:
        UsageError: If images and targets do not fit each other, there are fewer than two,
            training diverges, or the module cannot be trained by DP-SGD.
    """
    _check(pixels, targets)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), known_warnings_ignored():
        torch.manual_seed(seed)
        return _train(module, pixels, targets, recipe, seed, device, progress, stamp, mechanism)


def _check(pixels: NDArray[np.uint8], targets: Targets) -> None:
    if len(pixels) != len(targets) or len(pixels) < 2:
        raise UsageError(f"{len(pixels)} images with {len(targets)} targets cannot be trained on")
    if pixels.dtype != np.uint8 or pixels.ndim not in (4, 5):
        raise UsageError(
            f"images must be uint8 [n, H, W, C] or [n, D, H, W, C], not {pixels.dtype} "
            f"{pixels.shape}"
        )
    is_hard = np.issubdtype(targets.dtype, np.integer)
    if targets.ndim != (1 if is_hard else 2) or not (np.isfinite(targets) & (targets >= 0)).all():
        raise UsageError(
            "targets must be labels [n] from 0, or posteriors [n, K] that are finite and not "
            f"negative; these are {targets.dtype} {targets.shape}"
        )


def _train(
    module: nn.Module,
    pixels: NDArray[np.uint8],
    targets: Targets,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    progress: Callable[[float, str], None] | None,
    stamp: Stamp | None,
    mechanism: Mechanism | None,
) -> nn.Module:
    module = with_channels_last(module.to(device), pixels.ndim - 2).train()
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
    answers = torch.from_numpy(np.ascontiguousarray(targets)).to(device)
    answers = answers.float() if answers.is_floating_point() else answers.long()
    steps = steps_of(recipe, len(images))
    optimiser, schedule = _optimiser(module, recipe, steps.n_steps)
    forward: Any = module
    if mechanism is not None:
        forward, optimiser = clipped_and_noised(module, optimiser, mechanism, steps.size, seed)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(steps.n_epochs):
        for chosen in _batches(len(images), steps, mechanism, generator):
            batch = _augmented(images[chosen.to(device)], recipe, generator)
            if stamp is not None:
                batch = torch.from_numpy(stamp(batch.cpu().numpy(), chosen.numpy())).to(device)
            answer, is_exact = answers[chosen.to(device)], mechanism is not None
            with in_place_refused():
                loss = _loss(forward, _as_pixels(batch), answer, recipe, device, is_exact=is_exact)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        _check_converging(loss if len(chosen) else torch.zeros(()), epoch)
        if progress is not None:
            progress((epoch + 1) / steps.n_epochs, f"epoch {epoch + 1}/{steps.n_epochs}")
    if mechanism is not None:
        forward.to_standard_module()  # takes the hooks off again
    return module.eval()


@dataclass(frozen=True)
class Steps:
    """How a recipe goes through a training set.

    Attributes:
        size: Images a step; with DP-SGD on average.
        n_batches: Steps an epoch.
        n_epochs: Passes.
    """

    size: int
    n_batches: int
    n_epochs: int

    @property
    def n_steps(self) -> int:
        """Steps in all."""
        return self.n_epochs * self.n_batches


def steps_of(recipe: Recipe, n_images: int) -> Steps:
    """Return the steps of a recipe on this many images.

    There are at least eight steps an epoch, so that small sets are trained too; never one image.
    """
    size = max(2, min(recipe.batch_size, max(16, n_images // 8), n_images))
    n_batches = max(1, n_images // size)
    return Steps(size, n_batches, max(recipe.epochs, math.ceil(recipe.min_steps / n_batches)))


def _batches(
    n_images: int, steps: Steps, mechanism: Mechanism | None, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the positions of each batch of an epoch."""
    if mechanism is not None:
        yield from poisson_batches(n_images, mechanism.sample_rate, steps.n_batches, generator)
        return
    order = torch.randperm(n_images, generator=generator)
    for i in range(steps.n_batches):
        yield order[i * steps.size : (i + 1) * steps.size]


def _optimiser(
    module: nn.Module, recipe: Recipe, n_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decay = [parameter for parameter in weights if parameter.ndim > 1]
    plain = [parameter for parameter in weights if parameter.ndim <= 1]
    groups = [
        {"params": decay, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=True)
    total = max(n_steps + 1, 5)  # with 4 its first phase has no length, and it divides by zero
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.lr, total_steps=total, pct_start=0.25, cycle_momentum=False
    )
    return optimiser, schedule


def _loss(
    module: nn.Module, batch: Tensor, answers: Tensor, recipe: Recipe, device: torch.device, *,
    is_exact: bool,
) -> Tensor:  # fmt: skip
    is_fast = _is_bf16(batch, device) and not is_exact
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_fast):
        logits: Tensor = module(batch).float()
        if answers.is_floating_point():
            return functional.cross_entropy(logits, answers)
        return functional.cross_entropy(logits, answers, label_smoothing=recipe.label_smoothing)


def _is_bf16(batch: Tensor, device: torch.device) -> bool:
    """Whether to train in bf16; on a CPU not on volumes.

    Where slices, rows and columns are few (2x2x2), torch 2.15 with oneDNN returns garbage for the
    bf16 gradient of a Conv3d's kernel, NaN included; answers and gradients of inputs are right.
    """
    is_flat = batch.dim() == 4
    return has_native_bf16(device) and (is_flat or device.type != "cpu")


def _check_converging(loss: Tensor, epoch: int) -> None:
    """Refuse a network of NaNs: it would answer class 0 everywhere and look like a figure."""
    if not math.isfinite(float(loss.detach())):
        raise UsageError(f"training diverged in epoch {epoch + 1}", hint="lower the learning rate")


def _augmented(chosen: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Augment uint8 ``[n, H, W, C]`` or ``[n, D, H, W, C]``."""
    if recipe.is_augmented:
        chosen = _shift(chosen, recipe.is_flipped, generator)
    if recipe.cutout:
        chosen = _cut_out(chosen, recipe.cutout, generator)
    return chosen


def _as_pixels(batch: Tensor) -> Tensor:
    """Turn uint8 ``[n, H, W, C]`` into floats in [0, 1], ``[n, C, H, W]``, channels-last."""
    return (batch.float() / 255).movedim(-1, 1)


def _shift(pixels: Tensor, is_flipped: bool, generator: torch.Generator) -> Tensor:
    """Shift every image on its own by up to an eighth of its side, and flip half of them.

    What is shifted in is the image's reflection. Everything is one gather of uint8 pixels.
    """
    n, *sides, _ = pixels.shape
    reach = max(1, min(sides) // 8)
    places = [
        _reflected(torch.randint(-reach, reach + 1, (n, 1), generator=generator), side)
        for side in sides
    ]
    if is_flipped:
        is_turned = torch.rand(n, generator=generator) < 0.5
        places[-1] = torch.where(is_turned[:, None], places[-1].flip(1), places[-1])
    index = [torch.arange(n, device=pixels.device).reshape(-1, *[1] * len(sides))]
    return pixels[(*index, *_crossed([place.to(pixels.device) for place in places]))]


def _crossed(lines: list[Tensor]) -> list[Tensor]:
    """Give every axis' ``[n, side]`` values a dimension of its own, so that they broadcast."""
    n_axes = len(lines)
    shapes = [[1] * i + [-1] + [1] * (n_axes - 1 - i) for i in range(n_axes)]
    return [line.reshape(len(line), *shape) for line, shape in zip(lines, shapes, strict=True)]


def _reflected(shift: Tensor, side: int) -> Tensor:
    """Return the source position of each of ``side`` positions, ``[n, side]``."""
    positions = (shift + torch.arange(side)).abs()
    return torch.where(positions < side, positions, 2 * (side - 1) - positions).clamp_(min=0)


def _cut_out(pixels: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Blank (to mid-grey) a square around a random position; it may stick out of the image."""
    n, *sides, _ = pixels.shape
    inside = []
    for length in sides:
        start = torch.randint(0, length, (n, 1), generator=generator) - side // 2
        offset = torch.arange(length) - start
        inside.append(((offset >= 0) & (offset < side)).to(pixels.device))
    is_blank = functools.reduce(torch.logical_and, _crossed(inside))
    return pixels.masked_fill(is_blank[..., None], 128)
