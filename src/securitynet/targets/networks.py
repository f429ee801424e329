"""Small networks for self-trained models, surrogates and references, built by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from securitynet.errors import unknown_id


class Standardise(nn.Module):
    """Map pixels in [0, 1] to about zero mean and unit variance, the same for every data set."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (x - 0.5) / 0.25."""
        return (pixels - 0.5) / 0.25


def _block(n_in: int, n_out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    ]


def _cnn(
    widths: tuple[int, ...], channels: int, height: int, width: int, n_classes: int
) -> nn.Module:
    layers: list[nn.Module] = [Standardise()]
    n_in, side = channels, min(height, width)
    for n_out in widths:
        layers += _block(n_in, n_out)
        if side >= 4:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        n_in = n_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, n_classes))


def _cnn_small(channels: int, height: int, width: int, n_classes: int) -> nn.Module:
    """Four convolutions, about 3 MMAC on 32x32."""
    return _cnn((16, 32, 64, 64), channels, height, width, n_classes)


def _cnn_medium(channels: int, height: int, width: int, n_classes: int) -> nn.Module:
    """Four convolutions, about 9 MMAC on 32x32."""
    return _cnn((24, 48, 96, 192), channels, height, width, n_classes)


def _mlp(channels: int, height: int, width: int, n_classes: int) -> nn.Module:
    """One hidden layer of 256 units."""
    n_in = channels * height * width
    hidden = (nn.Linear(n_in, 256), nn.ReLU(inplace=True))
    return nn.Sequential(Standardise(), nn.Flatten(), *hidden, nn.Linear(256, n_classes))


NETWORKS: dict[str, Callable[[int, int, int, int], nn.Module]] = {
    "cnn_small": _cnn_small,
    "cnn_medium": _cnn_medium,
    "mlp": _mlp,
}
"""Networks by name; each maps pixels in [0, 1] to logits."""


def build_network(
    name: str, *, channels: int, height: int, width: int, num_classes: int, seed: int
) -> nn.Module:
    """Build a network with fresh weights, the same for the same seed.

    Args:
        name: One of ``NETWORKS``.
        channels: Input channels.
        height: Input rows.
        width: Input columns.
        num_classes: Number of logits.
        seed: Seed of the weights; the caller's random state is left alone.

    Raises:
        UsageError: If the name is unknown.
    """
    if name not in NETWORKS:
        raise unknown_id("network", name, NETWORKS, listing="docs/index.md")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name](channels, height, width, num_classes)
