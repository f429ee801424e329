"""The pixel transform as a module, so that gradients and cached outputs live in pixel space."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from securitynet.catalogue.cards import InputSpec


class PixelInput(nn.Module):
    """Turn pixels in [0, 1] of any size into a classifier's input, differentiably.

    Volumes ``[n, C, D, H, W]`` must have the input's size already.

    The same as the evaluation transforms of torchvision and timm on tensors (to 1e-5); theirs on
    PIL images round to whole grey levels in between (one level; a few at sharp edges if bicubic).

    Args:
        spec: The card's input spec.
        memory_format: Layout of what the classifier gets, ``channels_last`` for volumes too.
            Published classifiers may flatten with ``view``, which needs contiguous tensors.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, spec: InputSpec, memory_format: torch.memory_format = torch.contiguous_format
    ) -> None:
        """Keep the spec and the normalisation constants."""
        super().__init__()
        self.spec = spec
        self.memory_format = memory_format
        shape = (1, spec.channels, 1, 1)
        mean = spec.mean or (0.0,) * spec.channels
        std = spec.std or (1.0,) * spec.channels
        self.register_buffer("mean", torch.tensor(mean).reshape(shape))
        self.register_buffer("std", torch.tensor(std).reshape(shape))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` in [0, 1] to the classifier's normalised input."""
        if pixels.dim() == 5:
            volumes = _match_channels(pixels, self.spec.channels)
            normalised = (volumes - self.mean[..., None]) / self.std[..., None]
            is_last = self.memory_format == torch.channels_last
            return channels_last(normalised) if is_last else normalised.contiguous()
        normalised = (_reshape(pixels, self.spec) - self.mean) / self.std
        return normalised.contiguous(memory_format=self.memory_format)


def channels_last(batch: Tensor) -> Tensor:
    """Return pictures ``[n, C, H, W]`` or volumes ``[n, C, D, H, W]`` with channels last."""
    is_flat = batch.dim() == 4
    layout = torch.channels_last if is_flat else torch.channels_last_3d
    return batch.contiguous(memory_format=layout)


def with_channels_last(module: nn.Module, n_sides: int) -> nn.Module:
    """Lay out a module's kernels, in place, as they are fastest on inputs with channels last.

    Networks for volumes (``n_sides`` 3) may have flat kernels beside others: those stay.
    """
    if n_sides == 2:
        return module.to(memory_format=torch.channels_last)
    for kernel in module.parameters():
        if kernel.dim() == 5:
            kernel.data = channels_last(kernel.data)
    return module


def fitted(images: NDArray[np.uint8], channels: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return pictures with other channels and sides, resized bilinearly with antialiasing.

    Args:
        images: uint8 ``[n, H, W, C]`` with C = 1 or 3.
        channels: 1 or 3.
        size: Height and width.
    """
    pixels = _match_channels(torch.from_numpy(images).movedim(-1, 1).float() / 255, channels)
    whole = (_resize(pixels, size, "bilinear") * 255).round().to(torch.uint8)
    return np.ascontiguousarray(whole.movedim(1, -1).numpy())


def _reshape(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Match channels and size to the spec; leaves fitting pixels untouched."""
    pixels = _match_channels(pixels, spec.channels)
    if pixels.shape[2:] == (spec.height, spec.width) and spec.resize is None:
        return pixels
    if spec.resize is None:
        return _resize(pixels, (spec.height, spec.width), spec.interpolation)
    short = min(pixels.shape[2:])
    # sides and corner are rounded as torchvision and timm do, or crops would be off by a pixel
    rows, columns = (spec.resize * side // short for side in pixels.shape[2:])
    if spec.is_squashed:
        low = min(spec.height, spec.width)
        rows, columns = (spec.resize * side // low for side in (spec.height, spec.width))
    return _crop(_resize(pixels, (rows, columns), spec.interpolation), spec.height, spec.width)


def _crop(pixels: Tensor, height: int, width: int) -> Tensor:
    """Cut out the centre, after a black margin where the picture is too small for it."""
    rows, columns = (max(0, a - b) for a, b in zip((height, width), pixels.shape[2:], strict=True))
    if rows or columns:
        margins = (columns // 2, (columns + 1) // 2, rows // 2, (rows + 1) // 2)
        pixels = functional.pad(pixels, margins)
    high, wide = pixels.shape[2:]
    top, left = round((high - height) / 2), round((wide - width) / 2)
    return pixels[:, :, top : top + height, left : left + width]


def _match_channels(pixels: Tensor, channels: int) -> Tensor:
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return pixels.expand(-1, 3, *pixels.shape[2:])
    weights = pixels.new_tensor((0.299, 0.587, 0.114)).reshape(1, 3, *[1] * (pixels.dim() - 2))
    return (pixels * weights).sum(1, keepdim=True)  # ITU-R 601 luma


def _resize(pixels: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    if pixels.shape[2:] == size:
        return pixels
    if interpolation == "nearest":
        return functional.interpolate(pixels, size, mode="nearest-exact")
    resized = functional.interpolate(
        pixels, size, mode=interpolation, align_corners=False, antialias=True
    )
    return resized.clamp(0, 1)
