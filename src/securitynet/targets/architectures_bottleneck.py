"""More residual networks of published robust checkpoints; names as in their files."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional


class PreactBottleneck(nn.Module):
    """Normalised, activated 1x1, 3x3 and 1x1 convolutions; a shortcut sees the activated input."""

    def __init__(self, n_in: int, n_mid: int, stride: int) -> None:
        """Build the block of 4 ``n_mid`` channels; only its shortcut is normalised after."""
        super().__init__()
        n_out = 4 * n_mid
        self.bn0 = nn.BatchNorm2d(n_in)
        self.conv1 = nn.Conv2d(n_in, n_mid, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_mid)
        self.conv2 = nn.Conv2d(n_mid, n_mid, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_mid)
        self.conv3 = nn.Conv2d(n_mid, n_out, 1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or n_in != n_out:
            convolution = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(n_out))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to the block's output."""
        activated = functional.relu(self.bn0(inputs))
        hidden = functional.relu(self.bn1(self.conv1(activated)))
        hidden = functional.relu(self.bn2(self.conv2(hidden)))
        past = inputs if self.shortcut is None else self.shortcut(activated)
        output: Tensor = self.conv3(hidden) + past
        return output


class PreactResNet50(nn.Module):
    """ResNet-50 of Chen et al. 2020 (self-supervised): its last features are not normalised."""

    def __init__(self, num_classes: int, channels: int) -> None:
        """Build four stages of 256 to 2048 channels behind a 3x3 stem."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        n_in = 64
        for stage, n_blocks in enumerate((3, 4, 6, 3)):
            blocks, n_mid = [], 64 * 2**stage
            for i in range(n_blocks):
                blocks.append(PreactBottleneck(n_in, n_mid, 2 if stage and i == 0 else 1))
                n_in = 4 * n_mid
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(n_in, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, 32, 32]`` to logits ``[n, K]``."""
        hidden = functional.relu(self.bn1(self.conv1(inputs)))
        for stage in range(1, 5):
            hidden = self.get_submodule(f"layer{stage}")(hidden)
        logits: Tensor = self.linear(hidden.mean((2, 3)))
        return logits


def preact_resnet50(num_classes: int, channels: int) -> nn.Module:
    """Build the pre-activation ResNet-50 of Chen et al. 2020."""
    return PreactResNet50(num_classes, channels)


class UnscaledBlock(nn.Module):
    """Pre-activation block that normalises without scale and bias (Diffenderfer et al. 2021).

    The next block's sum starts from the activated input, whether or not its size changes.
    """

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        """Build the block."""
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_in, affine=False)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out, affine=False)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or n_in != n_out:
            convolution = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(n_out, affine=False))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to the block's output."""
        activated = functional.relu(self.bn1(inputs))
        hidden = self.conv2(functional.relu(self.bn2(self.conv1(activated))))
        output: Tensor = hidden + self.shortcut(activated)
        return output


class UnscaledPreactResNet(nn.Module):
    """ResNet-18 with three times the usual channels in all but its first stage; no biases."""

    WIDTHS = (64, 192, 384, 768)

    def __init__(self, num_classes: int, channels: int) -> None:
        """Build four stages of two blocks; the last layer is a 1x1 convolution."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
        n_in = 64
        for stage, n_out in enumerate(self.WIDTHS, 1):
            first = UnscaledBlock(n_in, n_out, 1 if stage == 1 else 2)
            self.add_module(f"layer{stage}", nn.Sequential(first, UnscaledBlock(n_out, n_out, 1)))
            n_in = n_out
        self.bn1 = nn.BatchNorm2d(n_in, affine=False)
        self.fc = nn.Conv2d(n_in, num_classes, 1, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, 32, 32]`` to logits ``[n, K]``."""
        hidden = self.conv1(inputs)
        for stage in range(1, 5):
            hidden = self.get_submodule(f"layer{stage}")(hidden)
        hidden = functional.relu(self.bn1(hidden)).mean((2, 3), keepdim=True)
        logits: Tensor = self.fc(hidden).flatten(1)
        return logits


def unscaled_preact_resnet18(num_classes: int, channels: int) -> nn.Module:
    """Build the wide pre-activation ResNet-18 of Diffenderfer et al. 2021 (binary weights)."""
    return UnscaledPreactResNet(num_classes, channels)


class RaBottleneck(nn.Module):
    """Bottleneck with grouped convolutions and weighted channels (Peng et al. 2023)."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        """Build the block, a quarter as wide inside, in two groups; the first is not normalised."""
        super().__init__()
        from torchvision.ops.misc import Conv2dNormActivation, SqueezeExcitation

        def layer(inside: int, outside: int, kernel: int, **options: Any) -> nn.Module:
            built: nn.Module = Conv2dNormActivation(inside, outside, kernel, **options)
            return built

        n_mid = n_out // 4
        self.F = nn.Sequential()
        self.F.a = layer(n_in, n_mid, 1, norm_layer=nn.Identity, activation_layer=nn.SiLU)
        self.F.b = layer(n_mid, n_mid, 3, stride=stride, groups=2, activation_layer=nn.SiLU)
        self.F.se = SqueezeExcitation(n_mid, round(n_in / 4))
        self.F.c = layer(n_mid, n_out, 1, activation_layer=None)
        self.proj: nn.Module | None = None
        if stride != 1 or n_in != n_out:
            self.proj = layer(n_in, n_out, 1, stride=stride, activation_layer=None)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to the block's output."""
        past = inputs if self.proj is None else self.proj(inputs)
        return functional.silu(past + self.F(inputs))


class RaResNet(nn.Module):
    """RaWRN-101-2 of Peng et al. 2023 for pictures of ImageNet's size."""

    WIDTHS, DEPTHS = (512, 1024, 2016, 4032), (7, 11, 18, 1)

    def __init__(self, num_classes: int, channels: int) -> None:
        """Build a 7x7 stem without pooling and four stages that halve the picture."""
        super().__init__()
        from torchvision.ops.misc import Conv2dNormActivation

        self.stem = nn.Sequential()
        self.stem.stem = nn.Sequential()
        self.stem.stem.stem = Conv2dNormActivation(channels, 96, 7, 2)
        self.stages = nn.Sequential()
        n_in = 96
        for stage, (n_out, depth) in enumerate(zip(self.WIDTHS, self.DEPTHS, strict=True), 1):
            blocks = nn.Sequential()
            for i in range(depth):
                block = RaBottleneck(n_in if i == 0 else n_out, n_out, 2 if i == 0 else 1)
                blocks.add_module(f"stage{stage}-block{i}", block)
            self.stages.add_module(f"stage{stage}", blocks)
            n_in = n_out
        self.fc = nn.Linear(n_in, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to logits ``[n, K]``."""
        logits: Tensor = self.fc(self.stages(self.stem(inputs)).mean((2, 3)))
        return logits


def ra_resnet101(num_classes: int, channels: int) -> nn.Module:
    """Build RaWRN-101-2 of Peng et al. 2023."""
    return RaResNet(num_classes, channels)
