"""Networks of published robust checkpoints that pad as JAX does; names as in their files.

Those of Gowal et al. 2020 and Rade et al. 2021, and what Peng et al. 2023 (other depths and widths,
channels weighted) and Amini et al. 2024 (values near the mean become the mean) made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from securitynet.targets.architectures_residual import ACTIVATIONS
from securitynet.targets.architectures_wide import stages, wide_channels, wide_depths


class MeanSparse(nn.Module):
    """Replace values within ``threshold`` deviations of their channel's mean by the mean.

    The statistics are part of the checkpoint, as is what only their collection needed.
    """

    running_mean: Tensor
    running_var: Tensor
    threshold: Tensor

    def __init__(self, n_channels: int, axis: int = 1, *, counters: bool = False) -> None:
        """Take the channels along ``axis``; ``counters`` are two more numbers of some files."""
        super().__init__()
        self.axis = axis
        self.register_buffer("running_mean", torch.zeros(n_channels))
        self.register_buffer("running_var", torch.zeros(n_channels))
        self.register_buffer("threshold", torch.tensor(0.0))
        self.register_buffer("flag_update_statistics", torch.tensor(0))
        self.register_buffer("batch_num", torch.tensor(0.0))
        if counters:
            self.register_buffer("momentum", torch.tensor(0.1))
            self.register_buffer("epsilon", torch.tensor(1e-10))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map any tensor with the channels along the axis to one of its shape."""
        shape = [1] * inputs.dim()
        shape[self.axis] = -1
        mean = self.running_mean.view(shape)
        crop = self.threshold * self.running_var.sqrt().view(shape)
        return torch.where((inputs - mean).abs() < crop, mean, inputs)


class SameBlock(nn.Module):
    """The block of Gowal et al. 2020, whose strided convolutions pad on the far side only."""

    def __init__(
        self, n_in: int, n_out: int, stride: int, activation: nn.Module, *, squeeze: float = 0.0,
        sparse: bool = False,
    ) -> None:  # fmt: skip
        """Build the block.

        Args:
            n_in: Channels of the input.
            n_out: Channels of the output.
            stride: Of the first convolution and of the shortcut.
            activation: Shared by all blocks; it has no weights.
            squeeze: Width of the layer that weights the channels, in units of ``n_out``; 0 = none.
            sparse: Whether thresholds follow the normalisations and the sum.
        """
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(n_in)
        self.conv_0 = nn.Conv2d(n_in, n_out, 3, stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(n_out)
        self.conv_1 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.shortcut: nn.Module | None = None
        if n_in != n_out:
            self.shortcut = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
        self.meansparse_0 = _thresholds(n_in, sparse=sparse)
        self.meansparse_1 = _thresholds(n_out, sparse=sparse)
        self.meansparse_2 = _thresholds(n_out, sparse=sparse)
        self.se = _channel_weights(n_out, squeeze)
        self.activation = activation
        self.stride = stride

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to the block's output."""
        activated = self.activation(self.meansparse_0(self.batchnorm_0(inputs)))
        past = inputs if self.shortcut is None else self.shortcut(activated)
        hidden = self.batchnorm_1(self.conv_0(pad_same(activated, self.stride)))
        hidden = self.se(self.conv_1(self.activation(self.meansparse_1(hidden))))
        output: Tensor = self.meansparse_2(hidden + past)
        return output


def _thresholds(n_channels: int, *, sparse: bool) -> nn.Module:
    return MeanSparse(n_channels) if sparse else nn.Identity()


def _channel_weights(n_channels: int, squeeze: float) -> nn.Module:
    from torchvision.ops.misc import SqueezeExcitation

    if not squeeze:
        return nn.Identity()
    layer: nn.Module = SqueezeExcitation(n_channels, round(squeeze * n_channels))
    return layer


def pad_same(inputs: Tensor, stride: int) -> Tensor:
    """Pad for a 3x3 convolution so that it gives ceil(side / stride), as JAX's ``SAME`` does."""
    return functional.pad(inputs, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))


class DmWideResNet(nn.Module):
    """Wide ResNets of Gowal et al. 2020 and of many after them."""

    def __init__(
        self, widths: Sequence[int], depths: Sequence[int], activation: str, num_classes: int,
        channels: int, *, squeeze: float = 0.0, sparse: bool = False,
    ) -> None:  # fmt: skip
        """Build three stages; ``widths`` are the channels of the stem and of each stage."""
        super().__init__()
        activate = ACTIVATIONS[activation]()
        make = partial(SameBlock, activation=activate, squeeze=squeeze, sparse=sparse)
        self.init_conv = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.layer = nn.Sequential(*stages("block", depths, widths, make))
        self.batchnorm = nn.BatchNorm2d(widths[-1])
        self.meansparse_end = _thresholds(widths[-1], sparse=sparse)
        self.activation = activate
        self.logits = nn.Linear(widths[-1], num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, 32, 32]`` to logits ``[n, K]``."""
        hidden = self.batchnorm(self.layer(self.init_conv(inputs)))
        features = self.activation(self.meansparse_end(hidden)).mean((2, 3))
        logits: Tensor = self.logits(features)
        return logits


def dm_wide_resnet(
    num_classes: int, channels: int, *, depth: int = 28, width: int = 10, activation: str = "silu",
    sparse: bool = False,
) -> nn.Module:  # fmt: skip
    """Build WRN-depth-width of Gowal et al. 2020; ``sparse`` is that of Amini et al. 2024."""
    return DmWideResNet(
        wide_channels(width), wide_depths(depth), activation, num_classes, channels, sparse=sparse
    )


RA_WIDTHS, RA_DEPTHS, RA_SQUEEZE = (96, 216, 432, 864), (30, 31, 10), 0.25


def ra_wide_resnet(num_classes: int, channels: int, *, sparse: bool = False) -> nn.Module:
    """Build RaWRN-70-16 of Peng et al. 2023; ``sparse`` is that of Amini et al. 2024."""
    return DmWideResNet(
        RA_WIDTHS, RA_DEPTHS, "silu", num_classes, channels, squeeze=RA_SQUEEZE, sparse=sparse
    )


class DmPreactBlock(nn.Module):
    """The pre-activation block of Rade et al. 2021: its 3x3 shortcut sees the plain input."""

    def __init__(self, n_in: int, n_out: int, stride: int, activation: nn.Module) -> None:
        """Build the block."""
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(n_in)
        self.conv_2d_1 = nn.Conv2d(n_in, n_out, 3, stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(n_out)
        self.conv_2d_2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Conv2d(n_in, n_out, 3, stride, bias=False)
        self.activation = activation
        self.stride = stride

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to the block's output."""
        past = inputs
        if self.shortcut is not None:
            past = self.shortcut(pad_same(inputs, self.stride))
        hidden = pad_same(self.activation(self.batchnorm_0(inputs)), self.stride)
        hidden = self.activation(self.batchnorm_1(self.conv_2d_1(hidden)))
        output: Tensor = self.conv_2d_2(hidden) + past
        return output


class DmPreactResNet(nn.Module):
    """Pre-activation ResNet-18 of Rade et al. 2021 and Rebuffi et al. 2021."""

    def __init__(self, activation: str, num_classes: int, channels: int) -> None:
        """Build four stages of 64 to 512 channels."""
        super().__init__()
        self.activation = ACTIVATIONS[activation]()
        self.conv_2d = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
        n_in = 64
        for stage in range(4):
            n_out, stride = 64 * 2**stage, 1 if stage == 0 else 2
            first = DmPreactBlock(n_in, n_out, stride, self.activation)
            second = DmPreactBlock(n_out, n_out, 1, self.activation)
            self.add_module(f"layer_{stage}", nn.Sequential(first, second))
            n_in = n_out
        self.batchnorm = nn.BatchNorm2d(n_in)
        self.logits = nn.Linear(n_in, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, 32, 32]`` to logits ``[n, K]``."""
        hidden = self.conv_2d(inputs)
        for stage in range(4):
            hidden = self.get_submodule(f"layer_{stage}")(hidden)
        hidden = self.activation(self.batchnorm(hidden)).mean((2, 3))
        logits: Tensor = self.logits(hidden)
        return logits


def dm_preact_resnet18(num_classes: int, channels: int, *, activation: str = "silu") -> nn.Module:
    """Build the pre-activation ResNet-18 of Rade et al. 2021."""
    return DmPreactResNet(activation, num_classes, channels)
