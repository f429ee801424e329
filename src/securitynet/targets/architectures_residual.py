"""Residual networks of published checkpoints that no library builds; names as in their files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Convolution = Literal["2d", "2.5d", "3d", "acs"]
Convolve = Callable[[int, int, int, int], nn.Module]
"""Makes a convolution of channels in, channels out, kernel side, stride; padded, without bias."""


class AcsConvolution(nn.Module):
    """Convolve a volume with flat kernels, a third of them in each direction (Yang et al. 2021).

    Axial, coronal and sagittal: the kernels are those of a picture, so are the weights' shapes.
    """

    def __init__(self, n_in: int, n_out: int, side: int, stride: int) -> None:
        """Split the kernels over the directions, the first ones getting what is left over."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in, side, side))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.stride = stride
        self.shares = [n_out // 3 + (n_out % 3 > i) for i in range(3)]

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, D, H, W]`` to the channels of the three directions, side by side."""
        found = []
        for direction, weight in enumerate(torch.split(self.weight, self.shares)):
            padding = [weight.shape[-1] // 2] * 3
            padding[direction] = 0
            flat = weight.unsqueeze(2 + direction)
            found.append(functional.conv3d(inputs, flat, None, self.stride, padding))
        return torch.cat(found, 1)


def _plain(n_in: int, n_out: int, side: int, stride: int) -> nn.Module:
    return nn.Conv2d(n_in, n_out, side, stride, side // 2, bias=False)


def _volume(n_in: int, n_out: int, side: int, stride: int) -> nn.Module:
    return nn.Conv3d(n_in, n_out, side, stride, side // 2, bias=False)


def _slices(n_in: int, n_out: int, side: int, stride: int) -> nn.Module:
    padding = (0, side // 2, side // 2)
    return nn.Conv3d(n_in, n_out, (1, side, side), stride, padding, bias=False)


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}

CONVOLUTIONS: dict[str, tuple[Convolve, type[nn.Module]]] = {
    "2d": (_plain, nn.BatchNorm2d),
    "2.5d": (_slices, nn.BatchNorm3d),
    "3d": (_volume, nn.BatchNorm3d),
    "acs": (AcsConvolution, nn.BatchNorm3d),
}
"""How a picture's network is made one for volumes, and the normalisation that goes with it."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3 and 1x1, with a shortcut (He et al. 2016, figure 5)."""

    def __init__(
        self, n_in: int, n_mid: int, stride: int, expansion: int, convolution: str = "2d"
    ) -> None:
        """Build the block; ``expansion`` is 1 for two convolutions and 4 for the bottleneck."""
        super().__init__()
        convolve, norm = CONVOLUTIONS[convolution]
        n_out = n_mid * expansion
        if expansion == 1:
            shapes = [(n_in, n_mid, 3, stride), (n_mid, n_mid, 3, 1)]
        else:
            shapes = [(n_in, n_mid, 1, 1), (n_mid, n_mid, 3, stride), (n_mid, n_out, 1, 1)]
        self.n_layers = len(shapes)
        for i, shape in enumerate(shapes, 1):
            self.add_module(f"conv{i}", convolve(*shape))
            self.add_module(f"bn{i}", norm(shape[1]))
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(convolve(n_in, n_out, 1, stride), norm(n_out))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, ...]`` to the block's output."""
        hidden = inputs
        for i in range(1, self.n_layers + 1):
            hidden = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(hidden))
            if i < self.n_layers:
                hidden = functional.relu(hidden)
        return functional.relu(hidden + self.shortcut(inputs))


class StemResNet(nn.Module):
    """ResNet-18 to -152 behind a 3x3 stem without pooling, for small pictures and volumes."""

    def __init__(
        self, blocks: Sequence[int], expansion: int, *, num_classes: int, channels: int,
        width: int = 64, head: str = "linear", convolution: str = "2d",
    ) -> None:  # fmt: skip
        """Build four stages of ``width`` to ``8 width`` channels; ``head`` names the last layer."""
        super().__init__()
        convolve, norm = CONVOLUTIONS[convolution]
        self.conv1 = convolve(channels, width, 3, 1)
        self.bn1 = norm(width)
        n_in = width
        for stage, n_blocks in enumerate(blocks):
            n_mid, stride, layers = width * 2**stage, 1 if stage == 0 else 2, []
            for i in range(n_blocks):
                layers.append(
                    ResidualBlock(n_in, n_mid, stride if i == 0 else 1, expansion, convolution)
                )
                n_in = n_mid * expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.head = head
        self.add_module(head, nn.Linear(n_in, num_classes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` or ``[n, C, D, H, W]`` to logits ``[n, K]``."""
        hidden = functional.relu(self.bn1(self.conv1(inputs)))
        for stage in range(1, 5):
            hidden = self.get_submodule(f"layer{stage}")(hidden)
        logits: Tensor = self.get_submodule(self.head)(hidden.flatten(2).mean(2))
        return logits


BLOCKS = {18: ((2, 2, 2, 2), 1), 34: ((3, 4, 6, 3), 1), 50: ((3, 4, 6, 3), 4)}


def cifar_stem_resnet18(
    num_classes: int, channels: int, *, convolution: str = "2d", width: int = 64
) -> nn.Module:
    """Build MedMNIST's ResNet-18; it is also that of many CIFAR repositories."""
    blocks, expansion = BLOCKS[18]
    return StemResNet(
        blocks, expansion, num_classes=num_classes, channels=channels, width=width,
        convolution=convolution,
    )  # fmt: skip


def cifar_stem_resnet50(
    num_classes: int, channels: int, *, convolution: str = "2d", width: int = 64
) -> nn.Module:
    """Build MedMNIST's ResNet-50; it is also that of many CIFAR repositories."""
    blocks, expansion = BLOCKS[50]
    return StemResNet(
        blocks, expansion, num_classes=num_classes, channels=channels, width=width,
        convolution=convolution,
    )  # fmt: skip


def ivrl_resnet18(num_classes: int, channels: int, *, width: int = 8) -> nn.Module:
    """Build the ResNet-18 of Liu et al. 2020 (loss landscape), of 4 to 32 ``width`` channels."""
    return StemResNet(
        BLOCKS[18][0], 1, num_classes=num_classes, channels=channels, width=4 * width,
        head="classifier",
    )  # fmt: skip


class IvrlVgg(nn.Module):
    """The VGG-16 of Liu et al. 2020: 13 normalised convolutions and one linear layer."""

    WIDTHS = (4, 4, 0, 8, 8, 0, 16, 16, 16, 0, 32, 32, 32, 0, 32, 32, 32, 0)
    """Channels in units of ``width``; 0 = pooling."""

    def __init__(self, num_classes: int, channels: int, width: int) -> None:
        """Build it for 32x32 pictures."""
        super().__init__()
        layers: list[nn.Module] = []
        for n_out in (width * factor for factor in self.WIDTHS):
            if n_out == 0:
                layers.append(nn.MaxPool2d(2))
            else:
                convolution = nn.Conv2d(channels, n_out, 3, padding=1)
                layers += [convolution, nn.BatchNorm2d(n_out), nn.ReLU()]
                channels = n_out
        self.feature_extractor = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, 32, 32]`` to logits ``[n, K]``."""
        logits: Tensor = self.classifier(self.feature_extractor(inputs).flatten(1))
        return logits


def ivrl_vgg16(num_classes: int, channels: int, *, width: int = 8) -> nn.Module:
    """Build the VGG-16 of Liu et al. 2020."""
    return IvrlVgg(num_classes, channels, width)


class IvrlLeNet(nn.Module):
    """The LeNet of Liu et al. 2020 for MNIST."""

    def __init__(self, num_classes: int, channels: int, width: int) -> None:
        """Build it for 28x28 pictures."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * width, 5, padding=2)
        self.conv2 = nn.Conv2d(2 * width, 4 * width, 5, padding=2)
        self.fc1 = nn.Linear(7 * 7 * 4 * width, 64 * width)
        self.fc2 = nn.Linear(64 * width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, 28, 28]`` to logits ``[n, K]``."""
        hidden = functional.max_pool2d(functional.relu(self.conv1(inputs)), 2)
        hidden = functional.max_pool2d(functional.relu(self.conv2(hidden)), 2)
        logits: Tensor = self.fc2(functional.relu(self.fc1(hidden.flatten(1))))
        return logits


def ivrl_lenet(num_classes: int, channels: int, *, width: int = 16) -> nn.Module:
    """Build the LeNet of Liu et al. 2020."""
    return IvrlLeNet(num_classes, channels, width)


class LrrResNet(nn.Module):
    """ResNet-18 of any width behind a 3x3 stem, with torchvision's names (Diffenderfer 2021)."""

    def __init__(self, num_classes: int, channels: int, width: int) -> None:
        """Take torchvision's stages; it fixes their width only in its own constructor."""
        super().__init__()
        from torchvision.models.resnet import BasicBlock

        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        n_in = width
        for stage in range(4):
            n_out, stride, shortcut = width * 2**stage, 1 if stage == 0 else 2, None
            if stride != 1:
                convolution = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
                shortcut = nn.Sequential(convolution, nn.BatchNorm2d(n_out))
            blocks = [BasicBlock(n_in, n_out, stride, shortcut), BasicBlock(n_out, n_out)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            n_in = n_out
        self.fc = nn.Linear(n_in, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, 32, 32]`` to logits ``[n, K]``."""
        hidden = functional.relu(self.bn1(self.conv1(inputs)))
        for stage in range(1, 5):
            hidden = self.get_submodule(f"layer{stage}")(hidden)
        logits: Tensor = self.fc(hidden.mean((2, 3)))
        return logits


def lrr_resnet18(num_classes: int, channels: int, *, width: int = 128) -> nn.Module:
    """Build the ResNet-18 of Diffenderfer et al. 2021 (learning-rate rewinding)."""
    return LrrResNet(num_classes, channels, width)


class PreactBlock(nn.Module):
    """Two normalised, activated convolutions with a shortcut (He et al. 2016, identity maps)."""

    def __init__(
        self, n_in: int, n_out: int, stride: int, shortcut: str, activation: str = "relu"
    ) -> None:
        """Build the block; the 1x1 shortcut sees the ``input`` or the ``activated`` input."""
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_in)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.is_activated = shortcut == "activated"
        self.activation = ACTIVATIONS[activation]()
        self.shortcut: nn.Module | None = None
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to the block's output."""
        activated = self.activation(self.bn1(inputs))
        past = inputs
        if self.shortcut is not None:
            past = self.shortcut(activated if self.is_activated else inputs)
        hidden = self.conv1(activated)
        output: Tensor = self.conv2(self.activation(self.bn2(hidden))) + past
        return output


class PreactResNet(nn.Module):
    """Pre-activation ResNet-18 behind a 3x3 stem; some were published without a last norm."""

    def __init__(self, num_classes: int, channels: int, shortcut: str, final_norm: bool) -> None:
        """Build four stages of 64 to 512 channels."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
        n_in = 64
        for stage in range(4):
            n_out, stride = 64 * 2**stage, 1 if stage == 0 else 2
            first = PreactBlock(n_in, n_out, stride, shortcut)
            blocks = nn.Sequential(first, PreactBlock(n_out, n_out, 1, shortcut))
            self.add_module(f"layer{stage + 1}", blocks)
            n_in = n_out
        self.bn = nn.BatchNorm2d(n_in) if final_norm else None
        self.linear = nn.Linear(n_in, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, 32, 32]`` to logits ``[n, K]``."""
        hidden = self.conv1(inputs)
        for stage in range(1, 5):
            hidden = self.get_submodule(f"layer{stage}")(hidden)
        if self.bn is not None:
            hidden = functional.relu(self.bn(hidden))
        logits: Tensor = self.linear(hidden.mean((2, 3)))
        return logits


def preact_resnet18(
    num_classes: int, channels: int, *, shortcut: str = "input", final_norm: bool = False
) -> nn.Module:
    """Build the pre-activation ResNet-18 of Wong et al. 2020 and others.

    Raises:
        ValueError: If ``shortcut`` is neither ``input`` nor ``activated``.
    """
    if shortcut not in ("input", "activated"):
        raise ValueError("shortcut is 'input' or 'activated'")
    return PreactResNet(num_classes, channels, shortcut, final_norm)


class ResNextBlock(nn.Module):
    """Bottleneck with grouped 3x3 convolutions (Xie et al. 2017, figure 3c)."""

    def __init__(self, n_in: int, n_mid: int, n_out: int, groups: int, stride: int) -> None:
        """Build the block."""
        super().__init__()
        self.conv_reduce = nn.Conv2d(n_in, n_mid, 1, bias=False)
        self.bn_reduce = nn.BatchNorm2d(n_mid)
        self.conv_conv = nn.Conv2d(n_mid, n_mid, 3, stride, 1, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(n_mid)
        self.conv_expand = nn.Conv2d(n_mid, n_out, 1, bias=False)
        self.bn_expand = nn.BatchNorm2d(n_out)
        self.downsample: nn.Module | None = None
        if stride != 1 or n_in != n_out:
            convolution = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(n_out))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to the block's output."""
        hidden = functional.relu(self.bn_reduce(self.conv_reduce(inputs)))
        hidden = functional.relu(self.bn(self.conv_conv(hidden)))
        hidden = self.bn_expand(self.conv_expand(hidden))
        past = inputs if self.downsample is None else self.downsample(inputs)
        return functional.relu(hidden + past)


class CifarResNext(nn.Module):
    """ResNeXt for 32x32 pictures with 9n + 2 layers (Xie et al. 2017, section 5.2)."""

    def __init__(self, depth: int, groups: int, width: int, num_classes: int, channels: int):
        """Build three stages of (depth - 2) / 9 blocks; a group of the first is ``width`` wide."""
        super().__init__()
        self.conv_1_3x3 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
        self.bn_1 = nn.BatchNorm2d(64)
        n_in = 64
        for stage in range(3):
            n_mid, n_out, blocks = groups * width * 2**stage, 256 * 2**stage, []
            for i in range((depth - 2) // 9):
                stride = 2 if stage and i == 0 else 1
                blocks.append(ResNextBlock(n_in, n_mid, n_out, groups, stride))
                n_in = n_out
            self.add_module(f"stage_{stage + 1}", nn.Sequential(*blocks))
        self.classifier = nn.Linear(n_in, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, 32, 32]`` to logits ``[n, K]``."""
        hidden = functional.relu(self.bn_1(self.conv_1_3x3(inputs)))
        for stage in range(1, 4):
            hidden = self.get_submodule(f"stage_{stage}")(hidden)
        logits: Tensor = self.classifier(hidden.mean((2, 3)))
        return logits


def cifar_resnext29(num_classes: int, channels: int, *, groups: int = 4) -> nn.Module:
    """Build the ResNeXt-29 (4 groups of 32) of AugMix (Hendrycks et al. 2020)."""
    return CifarResNext(29, groups, 32, num_classes, channels)
