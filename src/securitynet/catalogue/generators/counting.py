"""Parameters and multiply-accumulates of residual networks by arithmetic: no network is needed.

Parameters are what the built network's sum to: weights shared by several layers count once,
statistics of batch normalisation never. Multiply-accumulates are those of convolutions and linear
layers for one input.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
_STRIDES = (1, 2, 2, 2)


class Count(NamedTuple):
    """What a network holds and what one prediction costs, if that is known, too."""

    params: int
    macs: int | None


class Tally:
    """Adds up layers one after another.

    Args:
        sides: Size of the input, e.g. ``(32, 32)``, or of a volume.
        channels: Of the input.
        cube: Every k x k kernel is k x k x k.
    """

    def __init__(
        self, sides: Sequence[int] = (32, 32), channels: int = 3, *, cube: bool = False
    ) -> None:
        """Start with nothing."""
        self.params = self.macs = 0
        self.sides, self.width = tuple(sides), channels
        self.cube = cube

    def conv(self, n_out: int, kernel: int, stride: int = 1, *, groups: int = 1) -> Tally:
        """Add a convolution that keeps the size but for its stride, without bias."""
        self.shrink(stride)
        self.branch(self.width // groups, n_out, kernel)
        self.width = n_out
        return self

    def branch(self, n_in: int, n_out: int, kernel: int) -> Tally:
        """Add a convolution beside the others, into the current size."""
        weights = n_in * n_out * kernel ** (3 if self.cube else 2)
        self.params += weights
        self.macs += weights * prod(self.sides)
        return self

    def shrink(self, stride: int) -> Tally:
        """Divide the size, rounding up."""
        self.sides = tuple(-(-side // stride) for side in self.sides)
        return self

    def scale(self, n: int | None = None, *, per_channel: int = 2) -> Tally:
        """Add a batch normalisation of ``n`` channels, or biases with ``per_channel`` 1."""
        self.params += per_channel * (self.width if n is None else n)
        return self

    def linear(self, n_out: int, *, n_in: int | None = None, has_bias: bool = True) -> Count:
        """Add a linear layer and return the sum so far."""
        weights = (self.width if n_in is None else n_in) * n_out
        self.params += weights + (n_out if has_bias else 0)
        self.macs += weights
        self.width = n_out
        return Count(self.params, self.macs)


def cifar_stem_resnet(
    depth: int,
    n_classes: int,
    *,
    width: int = 64,
    side: int = 32,
    convolution: str | None = None,
) -> Count:
    """Count a ResNet with a 3x3 stem and no pooling after it.

    Args:
        depth: 18 (basic blocks) or 50 (bottlenecks).
        n_classes: Outputs.
        width: Channels of the first stage; they double with each.
        side: Of the input.
        convolution: Of volumes: ``3d``, ``2.5d`` or ``acs``.
    """
    sides = (side,) * (3 if convolution else 2)
    tally = Tally(sides, cube=convolution == "3d")
    tally.conv(width, 3).scale()
    _resnet_stages(tally, depth, width)
    return tally.linear(n_classes)


def imagenet_resnet(depth: int, n_classes: int) -> Count:
    """Count torchvision's ResNet for 224 x 224 pictures: a 7x7 stem and pooling."""
    tally = Tally((224, 224)).conv(64, 7, 2).scale().shrink(2)
    _resnet_stages(tally, depth, 64)
    return tally.linear(n_classes)


def _resnet_stages(tally: Tally, depth: int, width: int) -> None:
    expansion = 1 if depth == 18 else 4
    for stage, n_blocks in enumerate(BLOCKS[depth]):
        for block in range(n_blocks):
            n_in, planes = tally.width, width << stage
            stride = _STRIDES[stage] if block == 0 else 1
            if expansion == 1:
                tally.conv(planes, 3, stride).scale().conv(planes, 3).scale()
            else:
                tally.conv(planes, 1).scale().conv(planes, 3, stride).scale()
                tally.conv(planes * expansion, 1).scale()
            if stride != 1 or n_in != planes * expansion:
                tally.branch(n_in, planes * expansion, 1).scale()


def preact_resnet18(n_classes: int, *, has_final_norm: bool = False, shortcut: int = 1) -> Count:
    """Count a pre-activation ResNet-18 with shortcuts of ``shortcut`` x ``shortcut`` kernels."""
    tally = Tally().conv(64, 3)
    for stage, n_blocks in enumerate(BLOCKS[18]):
        for block in range(n_blocks):
            n_in, planes = tally.width, 64 << stage
            stride = _STRIDES[stage] if block == 0 else 1
            tally.scale().conv(planes, 3, stride).scale().conv(planes, 3)
            if stride != 1 or n_in != planes:
                tally.branch(n_in, planes, shortcut)
    if has_final_norm:
        tally.scale()
    return tally.linear(n_classes)


def preact_resnet50(n_classes: int) -> Count:
    """Count a pre-activation ResNet-50: its 3x3 stem is normalised, its last features are not."""
    tally = Tally().conv(64, 3).scale()
    for stage, n_blocks in enumerate(BLOCKS[50]):
        for block in range(n_blocks):
            n_in, planes = tally.width, 64 << stage
            stride = _STRIDES[stage] if block == 0 else 1
            tally.scale().conv(planes, 1).scale().conv(planes, 3, stride).scale()
            tally.conv(4 * planes, 1)
            if stride != 1 or n_in != 4 * planes:
                tally.branch(n_in, 4 * planes, 1)
    return tally.linear(n_classes)


def unscaled_preact_resnet18(n_classes: int) -> Count:
    """Count the wide pre-activation ResNet-18 of Diffenderfer et al.: no scales, no biases."""
    tally = Tally().conv(64, 3)
    for stage, n_blocks in enumerate(BLOCKS[18]):
        planes = 3 * (32 << stage) if stage else 64
        for block in range(n_blocks):
            n_in, stride = tally.width, _STRIDES[stage] if block == 0 else 1
            tally.conv(planes, 3, stride).conv(planes, 3)
            if stride != 1 or n_in != planes:
                tally.branch(n_in, planes, 1)
    return tally.linear(n_classes, has_bias=False)


def wide_resnet(
    depth: int,
    width: int,
    n_classes: int,
    *,
    has_sub_block: bool = False,
    has_bias: bool = True,
) -> Count:
    """Count a wide ResNet.

    Args:
        depth: 6n + 4.
        width: Widening factor.
        n_classes: Outputs.
        has_sub_block: There is a second, unused copy of the first stage (checkpoints of TRADES).
        has_bias: Of the last layer.
    """
    n_blocks = (depth - 4) // 6
    channels = (16, 16 * width, 32 * width, 64 * width)
    params, macs = staged_wide_resnet(channels, (n_blocks,) * 3, n_classes)
    if has_sub_block:
        unused = Tally(channels=channels[0])
        _wide_stage(unused, channels[1], n_blocks, 1)
        params += unused.params
    return Count(params if has_bias else params - n_classes, macs)


def staged_wide_resnet(channels: Sequence[int], depths: Sequence[int], n_classes: int) -> Count:
    """Count a wide ResNet with its channels (stem first) and blocks given stage by stage."""
    tally = Tally().conv(channels[0], 3)
    for n_out, n_blocks, stride in zip(channels[1:], depths, (1, 2, 2), strict=True):
        _wide_stage(tally, n_out, n_blocks, stride)
    return tally.scale().linear(n_classes)


def _wide_stage(tally: Tally, n_out: int, n_blocks: int, stride: int) -> None:
    for block in range(n_blocks):
        n_in = tally.width
        tally.scale().conv(n_out, 3, stride if block == 0 else 1).scale().conv(n_out, 3)
        if n_in != n_out:
            tally.branch(n_in, n_out, 1)


def bit_resnet152(n_classes: int, side: int = 128) -> Count:
    """Count the pre-activation ResNet-152 with twice the channels of Kolesnikov et al. 2020."""
    tally = Tally((side, side)).conv(128, 7, 2).shrink(2)
    for stage, n_blocks in enumerate((3, 8, 36, 3)):
        for block in range(n_blocks):
            n_in, planes = tally.width, 128 << stage
            stride = _STRIDES[stage] if block == 0 else 1
            tally.scale().conv(planes, 1).scale().conv(planes, 3, stride).scale()
            tally.conv(4 * planes, 1)
            if n_in != 4 * planes:
                tally.branch(n_in, 4 * planes, 1)
    return tally.scale().linear(n_classes)


def mixing_network() -> Count:
    """Count the network of Bai et al. 2023 that weights two others by their features."""
    tally = Tally(channels=768)
    for n_out in (512, 768, 1024):
        for stride in (2, 1):
            n_in = tally.width
            tally.scale().conv(n_out, 3, stride).scale().conv(n_out, 3)
            if stride == 2:
                tally.branch(n_in, n_out, 1)
        if n_out == 512:
            tally.branch(1536, 512, 1)
    return tally.linear(1, has_bias=False)


def cifar_resnext29(n_classes: int, *, cardinality: int = 4, base_width: int = 32) -> Count:
    """Count the ResNeXt-29 for 32 x 32 images: three stages of three grouped bottlenecks."""
    tally = Tally().conv(64, 3).scale()
    for stage in range(3):
        planes = 64 << stage
        inner = planes * base_width // 64 * cardinality
        for block in range(3):
            n_in, stride = tally.width, 2 if stage and not block else 1
            tally.conv(inner, 1).scale().conv(inner, 3, stride, groups=cardinality).scale()
            tally.conv(planes * 4, 1).scale()
            if n_in != planes * 4:
                tally.branch(n_in, planes * 4, 1).scale()
    return tally.linear(n_classes)


def vgg16(width: int, n_classes: int) -> Count:
    """Count the VGG-16 with batch normalisation whose first stage has ``4 * width`` channels."""
    tally = Tally()
    for planes, n_layers in ((4, 2), (8, 2), (16, 3), (32, 3), (32, 3)):
        for _ in range(n_layers):
            tally.conv(planes * width, 3).scale(per_channel=3)
        tally.shrink(2)
    return tally.linear(n_classes)


def lenet(width: int, n_classes: int) -> Count:
    """Count the LeNet for 28 x 28 digits whose first layer has ``2 * width`` channels."""
    tally = Tally((28, 28), channels=1)
    for planes in (2 * width, 4 * width):
        tally.conv(planes, 5).scale(per_channel=1).shrink(2)
    tally.linear(64 * width, n_in=tally.width * prod(tally.sides))
    return tally.linear(n_classes)


def named(library: str, name: str, n_classes: int, side: int = 224, **options: Any) -> Count:
    """Count a torchvision or timm network, built without memory on the meta device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        if library == "timm":
            import timm

            built = timm.create_model(name, pretrained=False, num_classes=n_classes, **options)
        else:
            from torchvision import models

            built = models.get_model(name, weights=None, num_classes=n_classes, **options)
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            built.eval()(torch.empty(1, 3, side, side))
    n_params = sum(parameter.numel() for parameter in built.parameters())
    return Count(n_params, flops.get_total_flops() // 2)
