"""Networks of timm that were published with another beginning; names as in their files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import timm
from timm.layers.norm import LayerNorm2d
from timm.models.resnest import ResNestBottleneck
from timm.models.resnet import ResNet
from torch import Tensor, nn

XCITS = {
    "s": "xcit_small_12_p16_224", "m": "xcit_medium_24_p16_224", "l": "xcit_large_24_p16_224",
}  # fmt: skip
XCIT_DEPTH = 12


def overlapping_xcit(num_classes: int, channels: int, *, size: str = "s") -> nn.Module:
    """Build the XCiT of Debenedetti et al. 2022 for 32x32 pictures: patches of 4 pixels, not 16.

    The first and second of the four patch convolutions do not stride; all sizes have 12 blocks.
    """
    net: Any = timm.create_model(
        XCITS[size], num_classes=num_classes, in_chans=channels, img_size=32, depth=XCIT_DEPTH,
        eta=1.0,
    )  # fmt: skip
    for convolution in net.patch_embed.proj[0], net.patch_embed.proj[2]:
        convolution[0].stride = (1, 1)
    built: nn.Module = net
    return built


class ConvolutionalStem(nn.Module):
    """3x3 convolutions, each normalised and activated, in place of patches (Singh et al. 2023)."""

    def __init__(self, widths: Sequence[int], strides: Sequence[int], last: int | None) -> None:
        """Build them; ``last`` is the width of a 1x1 convolution at the end, if there is one."""
        super().__init__()
        layers: list[nn.Module] = []
        for (n_in, n_out), stride in zip(pairwise(widths), strides, strict=True):
            layers += [nn.Conv2d(n_in, n_out, 3, stride, 1), LayerNorm2d(n_out), nn.GELU()]
        if last is not None:
            layers.append(nn.Conv2d(widths[-1], last, 1))
        self.stem = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map pictures ``[n, C, H, W]`` to features of a fraction of their size."""
        output: Tensor = self.stem(inputs)
        return output


CONVNEXTS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...]]] = {
    "t": ("convnext_tiny", (48, 96), (2, 2)),
    "s": ("convnext_small", (48, 96), (2, 2)),
    "b": ("convnext_base", (64, 96, 128), (2, 2, 1)),
    "l": ("convnext_large", (96, 144, 192), (2, 2, 1)),
}
"""Size -> timm's network, widths and strides of the stem."""


def convstem_convnext(num_classes: int, channels: int, *, size: str = "t") -> nn.Module:
    """Build the ConvNeXt with a convolutional stem of Singh et al. 2023."""
    name, widths, strides = CONVNEXTS[size]
    net: Any = timm.create_model(name, num_classes=num_classes, in_chans=channels)
    net.stem = ConvolutionalStem((channels, *widths), strides, None)
    built: nn.Module = net
    return built


VITS = {"s": ("deit_small_patch16_224", 384), "b": ("vit_base_patch16_224", 768)}


def convstem_vit(num_classes: int, channels: int, *, size: str = "s") -> nn.Module:
    """Build the ViT with a convolutional stem of Singh et al. 2023."""
    name, width = VITS[size]
    net: Any = timm.create_model(name, num_classes=num_classes, in_chans=channels)
    widths = (channels, 48, 96, 192, 384)
    net.patch_embed.proj = ConvolutionalStem(widths, (2, 2, 2, 2), width)
    built: nn.Module = net
    return built


SWINS = {"b": ("swin_base_patch4_window7_224", 7), "l": ("swin_large_patch4_window7_224", 14)}


def simmim_swin(num_classes: int, channels: int, *, size: str = "b") -> nn.Module:
    """Build the Swin of SimMIM, as Xu et al. 2024 use it: another epsilon, and a larger window."""
    name, window = SWINS[size]
    norm = partial(nn.LayerNorm, eps=1e-6)
    net: nn.Module = timm.create_model(
        name, num_classes=num_classes, in_chans=channels, window_size=window, norm_layer=norm
    )
    return net


def cifar_resnest152(num_classes: int, channels: int) -> nn.Module:
    """Build the ResNeSt-152 of Sehwag et al. 2021: SiLU, a stem that keeps the size."""
    block: Any = ResNestBottleneck
    net: Any = ResNet(
        block, (3, 8, 36, 3), num_classes, channels, stem_width=64, stem_type="deep",
        avg_down=True, base_width=64, cardinality=1, block_args={"radix": 4, "avd": True},
    )  # fmt: skip
    net.conv1[0].stride = (1, 1)
    net.maxpool = nn.Identity()
    for part in list(net.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(part, name, nn.SiLU())
    built: nn.Module = net
    return built
