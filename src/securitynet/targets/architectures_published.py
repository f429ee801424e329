"""The table of published architectures that no library builds, and how their inputs begin."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from securitynet.errors import UsageError

HOMES = {
    "residual": (
        "cifar_stem_resnet18", "cifar_stem_resnet50", "cifar_resnext29", "ivrl_lenet",
        "ivrl_resnet18", "ivrl_vgg16", "lrr_resnet18", "preact_resnet18",
    ),
    "wide": ("pssilu_wide_resnet", "staged_wide_resnet", "wide_resnet"),
    "same": ("dm_preact_resnet18", "dm_wide_resnet", "ra_wide_resnet"),
    "bottleneck": ("preact_resnet50", "ra_resnet101", "unscaled_preact_resnet18"),
    "adapted": (
        "cifar_resnest152", "convstem_convnext", "convstem_vit", "overlapping_xcit", "simmim_swin",
    ),
    "sparse": ("meansparse_convnext", "meansparse_swin"),
}  # fmt: skip
"""Module ``architectures_...`` -> its builders of (num_classes, channels, options)."""
PUBLISHED = {name: home for home, names in HOMES.items() for name in names}
"""Name after ``securitynet/`` -> module; the last two import timm, so they are imported late."""


def published(name: str, num_classes: int, channels: int, options: dict[str, Any]) -> nn.Module:
    """Build one of `PUBLISHED`.

    Besides the builder's own options, any of them takes ``standardise: "image"`` (each picture is
    standardised by itself), ``constants: "file"`` (mean and standard deviation come with the
    checkpoint) and ``unused`` (prefixes of names in the checkpoint that the network never uses).

    Raises:
        UsageError: If an option is unknown or has no such value.
    """
    home = import_module(f"securitynet.targets.architectures_{PUBLISHED[name]}")
    builder, given = getattr(home, name), dict(options)
    standardise, constants = given.pop("standardise", None), given.pop("constants", None)
    given.pop("unused", None)
    known = [key for key in inspect.signature(builder).parameters][2:]
    unknown = [key for key in given if key not in known]
    if unknown or standardise not in (None, "image") or constants not in (None, "file"):
        what = f"unknown option {unknown[0]!r}" if unknown else "options that are not known"
        raise UsageError(
            f"securitynet/{name}: {what}",
            hint=f"options: {', '.join([*known, 'standardise', 'constants', 'unused'])}",
        )
    module: nn.Module = builder(num_classes, channels, **given)
    if standardise:
        module = StandardisedInput(module)
    return FileConstants(module, channels) if constants else module


class StandardisedInput(nn.Module):
    """Standardise each picture by its own mean and deviation (Ding et al. 2020)."""

    checkpoint_prefix = "net."
    """What our names have and the checkpoint's have not."""

    def __init__(self, net: nn.Module) -> None:
        """Wrap the network."""
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to logits ``[n, K]``."""
        axes = (1, 2, 3)
        smallest = inputs[0].numel() ** -0.5
        scale = inputs.std(axes, keepdim=True).clamp(min=smallest)
        logits: Tensor = self.net((inputs - inputs.mean(axes, keepdim=True)) / scale)
        return logits


class FileConstants(nn.Module):
    """Normalise by the ``mu`` and ``sigma`` that the checkpoint holds (Modas et al. 2021)."""

    checkpoint_prefix = "net."
    """What our names have and the checkpoint's have not."""

    mu: Tensor
    sigma: Tensor

    def __init__(self, net: nn.Module, channels: int) -> None:
        """Wrap the network; both constants must come with the checkpoint."""
        super().__init__()
        self.net = net
        self.register_buffer("mu", torch.zeros(1, channels, 1, 1))
        self.register_buffer("sigma", torch.ones(1, channels, 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to logits ``[n, K]``."""
        logits: Tensor = self.net((inputs - self.mu) / self.sigma)
        return logits
