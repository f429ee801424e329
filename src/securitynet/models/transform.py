"""The pixel transform as a module, so that gradients and cached outputs live in pixel space."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from securitynet.catalogue.cards import InputSpec


class PixelInput(nn.Module):
    """Turn pixels in [0, 1] of any size into a classifier's input, differentiably.

    Args:
        spec: The card's input spec.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: InputSpec) -> None:
        """Keep the spec and the normalisation constants."""
        super().__init__()
        self.spec = spec
        self.height, self.width, self.channels = spec.height, spec.width, spec.channels
        shape = (1, spec.channels, 1, 1)
        mean = spec.mean or (0.0,) * spec.channels
        std = spec.std or (1.0,) * spec.channels
        self.register_buffer("mean", torch.tensor(mean).reshape(shape))
        self.register_buffer("std", torch.tensor(std).reshape(shape))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` in [0, 1] to the classifier's normalised input."""
        return (_reshape(pixels, self.spec) - self.mean) / self.std


def _reshape(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Match channels and size to the spec; leaves fitting pixels untouched."""
    if pixels.shape[1] != spec.channels:
        pixels = _match_channels(pixels, spec.channels)
    if pixels.shape[2:] == (spec.height, spec.width) and spec.resize is None:
        return pixels
    if spec.resize is None:
        return _resize(pixels, (spec.height, spec.width), spec.interpolation)
    short = min(pixels.shape[2:])
    size = [round(side * spec.resize / short) for side in pixels.shape[2:]]
    resized = _resize(pixels, (size[0], size[1]), spec.interpolation)
    top, left = (size[0] - spec.height) // 2, (size[1] - spec.width) // 2
    return resized[:, :, top : top + spec.height, left : left + spec.width]


def _match_channels(pixels: Tensor, channels: int) -> Tensor:
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1)
    weights = pixels.new_tensor((0.299, 0.587, 0.114)).reshape(1, 3, 1, 1)
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
