"""Small networks for self-trained models, surrogates and references, built by name."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from securitynet.errors import unknown_id


class Standardise(nn.Module):
    """Map pixels in [0, 1] to about zero mean and unit variance, the same for every data set."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (x - 0.5) / 0.25."""
        return (pixels - 0.5) / 0.25


LAYERS: dict[int, tuple[Callable[..., nn.Module], ...]] = {
    2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d),
    3: (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d, nn.AdaptiveAvgPool3d),
}
"""Layers of convolutional networks by the number of sides of what they see."""
LARGE_VOLUME = 16
"""From this side a first convolution takes every other voxel of a volume: an eighth of the work."""


def _cnn(
    widths: tuple[int, ...], channels: int, sides: tuple[int, ...], n_classes: int
) -> nn.Module:
    convolution, norm, pool, average = LAYERS[len(sides)]
    layers: list[nn.Module] = [Standardise()]
    n_in, side = channels, min(sides)
    stride = 2 if len(sides) == 3 and side >= LARGE_VOLUME else 1
    for n_out in widths:
        layers.append(convolution(n_in, n_out, 3, stride, padding=1, bias=False))
        layers += [norm(n_out), nn.ReLU(inplace=True)]
        side, stride = -(-side // stride), 1
        if side >= 4:
            layers.append(pool(2))
            side //= 2
        n_in = n_out
    return nn.Sequential(*layers, average(1), nn.Flatten(), nn.Linear(n_in, n_classes))


def _cnn_small(channels: int, sides: tuple[int, ...], n_classes: int) -> nn.Module:
    """Four convolutions, about 3 MMAC on 32x32 and 10 on 28x28x28."""
    return _cnn((16, 32, 64, 64), channels, sides, n_classes)


def _cnn_medium(channels: int, sides: tuple[int, ...], n_classes: int) -> nn.Module:
    """Four convolutions, about 9 MMAC on 32x32 and 30 on 28x28x28."""
    return _cnn((24, 48, 96, 192), channels, sides, n_classes)


def _mlp(channels: int, sides: tuple[int, ...], n_classes: int) -> nn.Module:
    """One hidden layer of 256 units."""
    n_in = channels * math.prod(sides)
    hidden = (nn.Linear(n_in, 256), nn.ReLU(inplace=True))
    return nn.Sequential(Standardise(), nn.Flatten(), *hidden, nn.Linear(256, n_classes))


NETWORKS: dict[str, Callable[[int, tuple[int, ...], int], nn.Module]] = {
    "cnn_small": _cnn_small,
    "cnn_medium": _cnn_medium,
    "mlp": _mlp,
}
"""Networks by name; each maps pixels in [0, 1] to logits."""


def build_network(
    name: str, *, channels: int, sides: tuple[int, ...], num_classes: int, seed: int
) -> nn.Module:
    """Build a network with fresh weights, the same for the same seed.

    Args:
        name: One of ``NETWORKS``.
        channels: Input channels.
        sides: Input rows and columns; of volumes slices, rows and columns.
        num_classes: Number of logits.
        seed: Seed of the weights; the caller's random state is left alone.

    Raises:
        UsageError: If the name is unknown.
    """
    if name not in NETWORKS:
        raise unknown_id("network", name, NETWORKS, listing="docs/index.md")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name](channels, sides, num_classes)
