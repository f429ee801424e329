"""Changed copies of the audited images, asked in batches; only labels come back. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from securitynet.targets.target import as_pixels

if TYPE_CHECKING:
    from securitynet.datasets.images import Images
    from securitynet.targets.target import Target

BATCH = 1024  # changed images put together at a time
Change = Callable[[Tensor], Tensor]
"""Images ``[n, C, H, W]`` in [0, 1] -> changed images of the same shape."""


def share_correct(
    target: Target,
    images: Images,
    changes: Iterable[Change],
    progress: Callable[[float], None] = lambda share: None,
) -> NDArray[np.float64]:
    """Return for every image the share of changed copies that the target labels correctly.

    Args:
        target: The model; only its labels are asked.
        images: ``n`` images.
        changes: Each makes one copy of every image.
        progress: Told the share done.
    """
    labels = images.labels
    right = np.zeros(len(images))
    changes = list(changes)
    for start in range(0, len(images), BATCH):
        progress(start / len(images))
        mine = slice(start, start + BATCH)
        pixels = as_pixels(images.pixels(mine.start, mine.stop))
        for change in changes:
            right[mine] += target.labels(_in_planes(change, pixels)) == labels[mine]
    return np.asarray(right / len(changes))


def _in_planes(change: Change, pixels: Tensor) -> Tensor:
    """Change pictures, or volumes ``[n, C, D, H, W]`` slice by slice, every slice alike."""
    if pixels.ndim == 4:
        return change(pixels)
    return change(pixels.flatten(1, 2)).reshape(pixels.shape)


def gaussian_noise(sigma: float, generator: torch.Generator) -> Change:
    """Return a change that adds fresh Gaussian noise and stays within [0, 1]."""

    def change(pixels: Tensor) -> Tensor:
        noise = torch.randn(pixels.shape, generator=generator)
        return (pixels + sigma * noise).clamp_(0, 1)

    return change


def shift(down: int, right: int) -> Change:
    """Return a change that moves the picture; what comes in is its mirror image."""
    size = max(abs(down), abs(right))

    def change(pixels: Tensor) -> Tensor:
        if size == 0:
            return pixels
        height, width = pixels.shape[-2:]
        padded = functional.pad(pixels, (size,) * 4, mode="reflect")
        return padded[..., size - down :, size - right :][..., :height, :width]

    return change


def flip(pixels: Tensor) -> Tensor:
    """Swap left and right."""
    return pixels.flip(-1)


def rotation(degrees: float) -> Change:
    """Return a change that turns the picture about its middle, bilinear, mirrored at the edges."""
    angle = np.deg2rad(degrees)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))

    def change(pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        matrix = torch.tensor([[cos, -sin * height / width, 0], [sin * width / height, cos, 0]])
        grid = functional.affine_grid(
            matrix.expand(len(pixels), 2, 3), list(pixels.shape), align_corners=False
        )
        turned = functional.grid_sample(
            pixels, grid, padding_mode="reflection", align_corners=False
        )
        return turned.clamp_(0, 1)

    return change
