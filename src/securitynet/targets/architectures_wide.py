"""Wide residual networks of published robust checkpoints; names as in their files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from securitynet.targets.architectures_residual import ACTIVATIONS, PreactBlock

MakeBlock = Callable[[int, int, int], nn.Module]
"""Makes a block of channels in, channels out and stride."""


class WideBlock(nn.Module):
    """Pre-activation block whose 1x1 shortcut sees the activated input (Zagoruyko 2016)."""

    def __init__(self, n_in: int, n_out: int, stride: int, activation: nn.Module) -> None:
        """Build the block."""
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_in)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.activation = activation
        self.convShortcut: nn.Module | None = None
        if n_in != n_out:
            self.convShortcut = nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to the block's output."""
        activated = self.activation(self.bn1(inputs))
        past = inputs if self.convShortcut is None else self.convShortcut(activated)
        hidden = self.activation(self.bn2(self.conv1(activated)))
        output: Tensor = self.conv2(hidden) + past
        return output


class Stage(nn.Module):
    """Blocks one after the other, under the name that the files have for them."""

    def __init__(
        self, name: str, n_blocks: int, n_in: int, n_out: int, stride: int, make: MakeBlock
    ) -> None:
        """Build the stage; only its first block strides."""
        super().__init__()
        rest = [make(n_out, n_out, 1) for _ in range(n_blocks - 1)]
        self.name = name
        self.add_module(name, nn.Sequential(make(n_in, n_out, stride), *rest))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to the stage's output."""
        output: Tensor = self.get_submodule(self.name)(inputs)
        return output


def stages(
    name: str, depths: Sequence[int], widths: Sequence[int], make: MakeBlock
) -> list[nn.Module]:
    """Build stages one after the other; all but the first halve the picture."""
    return [
        Stage(name, depth, widths[i], widths[i + 1], 1 if i == 0 else 2, make)
        for i, depth in enumerate(depths)
    ]


def wide_depths(depth: int) -> list[int]:
    """Return the blocks of each of three stages.

    Raises:
        ValueError: If no wide ResNet has so many layers.
    """
    if (depth - 4) % 6 or depth < 10:
        raise ValueError(f"a wide ResNet has 6n + 4 layers, not {depth}")
    return [(depth - 4) // 6] * 3


def wide_channels(factor: int) -> list[int]:
    """Return the channels of the stem and of the three stages."""
    return [16, 16 * factor, 32 * factor, 64 * factor]


class WideResNet(nn.Module):
    """WRN-depth-widen_factor, as in the repository of TRADES and its many descendants."""

    def __init__(
        self, depth: int, widen_factor: int, num_classes: int, channels: int, *,
        sub_block1: bool, cosine_head: bool, activation: nn.Module,
    ) -> None:  # fmt: skip
        """Build three stages of (depth - 4) / 6 blocks.

        Args:
            depth: Layers.
            widen_factor: The stages have 16, 32 and 64 times as many channels.
            num_classes: Logits.
            channels: Of the input.
            sub_block1: Whether the file holds a second first stage, which no forward pass uses.
            cosine_head: Whether logits are cosines of features and weights (Pang et al. 2020).
            activation: Its parameters, if any, are shared by all layers.
        """
        super().__init__()
        depths, widths = wide_depths(depth), wide_channels(widen_factor)
        make = partial(WideBlock, activation=activation)
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.block1, self.block2, self.block3 = stages("layer", depths, widths, make)
        self.sub_block1: nn.Module | None = None
        if sub_block1:
            self.sub_block1 = stages("layer", depths[:1], widths, make)[0]
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.activation = activation
        self.fc = nn.Linear(widths[3], num_classes, bias=not cosine_head)
        self.has_cosine_head = cosine_head

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, 32, 32]`` to logits ``[n, K]``."""
        hidden = self.block3(self.block2(self.block1(self.conv1(inputs))))
        features = self.activation(self.bn1(hidden)).mean((2, 3))
        if self.has_cosine_head:
            return functional.linear(
                functional.normalize(features), functional.normalize(self.fc.weight)
            )
        logits: Tensor = self.fc(features)
        return logits


def wide_resnet(
    num_classes: int, channels: int, *, depth: int = 28, widen_factor: int = 10,
    sub_block1: bool = False, cosine_head: bool = False,
) -> nn.Module:  # fmt: skip
    """Build a wide ResNet with the names of the TRADES repository."""
    return WideResNet(
        depth, widen_factor, num_classes, channels, sub_block1=sub_block1,
        cosine_head=cosine_head, activation=nn.ReLU(),
    )  # fmt: skip


class ShiftedSilu(nn.Module):
    """SiLU with a learnt slope and shift, shared by all layers (Dai et al. 2022)."""

    def __init__(self) -> None:
        """Start as SiLU."""
        super().__init__()
        self.beta = nn.Parameter(torch.tensor([1e-8]))
        self.alpha = nn.Parameter(torch.tensor([1.0]))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map any tensor to one of its shape."""
        shift = self.beta.abs()
        output: Tensor = inputs * (torch.sigmoid(self.alpha.abs() * inputs) - shift) / (1 - shift)
        return output


def pssilu_wide_resnet(
    num_classes: int, channels: int, *, depth: int = 28, widen_factor: int = 10
) -> nn.Module:
    """Build the wide ResNet of Dai et al. 2022: one parametric activation under many names."""
    return WideResNet(
        depth, widen_factor, num_classes, channels, sub_block1=False, cosine_head=False,
        activation=ShiftedSilu(),
    )  # fmt: skip


class StagedWideResNet(nn.Module):
    """Wide ResNets whose stages differ in depth and width (Huang et al. 2021 and 2022)."""

    def __init__(
        self, channels: Sequence[int], depths: Sequence[int], activation: str, form: str,
        n_in: int, num_classes: int,
    ) -> None:  # fmt: skip
        """Build the stages; ``form`` tells the names of the two papers apart."""
        super().__init__()
        if len(channels) != len(depths) + 1 or form not in ("wide", "preact"):
            raise ValueError("channels are those of the stem and of each stage")
        self.activation = ACTIVATIONS[activation]()
        self.stem_conv = nn.Conv2d(n_in, channels[0], 3, 1, 1, bias=False)
        make: MakeBlock = partial(PreactBlock, shortcut="activated", activation=activation)
        if form == "wide":
            make = partial(WideBlock, activation=self.activation)
        self.blocks = nn.ModuleList(stages("layer", depths, channels, make))
        self.norm = "bn1" if form == "wide" else "norm1"
        self.add_module(self.norm, nn.BatchNorm2d(channels[-1]))
        self.fc = nn.Linear(channels[-1], num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, 32, 32]`` to logits ``[n, K]``."""
        hidden = self.stem_conv(inputs)
        for stage in self.blocks:
            hidden = stage(hidden)
        features = self.activation(self.get_submodule(self.norm)(hidden)).mean((2, 3))
        logits: Tensor = self.fc(features)
        return logits


def staged_wide_resnet(
    num_classes: int, n_in: int, /, *, channels: Sequence[int], depths: Sequence[int],
    activation: str = "relu", form: str = "wide",
) -> nn.Module:  # fmt: skip
    """Build the robust wide ResNets of Huang et al. 2021 (``wide``) and 2022 (``preact``)."""
    return StagedWideResNet(channels, depths, activation, form, n_in, num_classes)
