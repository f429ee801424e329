"""Architectures that no library carries: CIFAR ResNets as published, and plain layer lists."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from securitynet.errors import UsageError, unknown_id

Builder = Callable[..., nn.Module]
MAX_DEPTH = 1202
"""The deepest that was published (He et al. 2016, section 4.2)."""
BUILD_ERRORS = (
    TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AttributeError,
    AssertionError, MemoryError,
)  # fmt: skip
"""What a constructor raises for arguments that cannot mean anything."""


class PadShortcut(nn.Module):
    """Option-A shortcut: subsample by two and pad the channels with zeros (He et al. 2016, 3.3)."""

    def __init__(self, padding: int) -> None:
        """Pad ``padding`` channels on each side."""
        super().__init__()
        self.padding = padding

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to ``[n, C + 2 padding, H/2, W/2]``."""
        pad = (0, 0, 0, 0, self.padding, self.padding)
        return functional.pad(inputs[:, :, ::2, ::2], pad)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016, figure 5 left)."""

    def __init__(self, n_in: int, n_out: int, stride: int, shortcut: str) -> None:
        """Build the block; ``shortcut`` is ``a`` (padding) or ``b`` (1x1 convolution)."""
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 and shortcut == "a":
            self.shortcut = PadShortcut((n_out - n_in) // 2)
        elif stride != 1:
            convolution = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(n_out))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to the block's output."""
        hidden = functional.relu(self.bn1(self.conv1(inputs)))
        return functional.relu(self.bn2(self.conv2(hidden)) + self.shortcut(inputs))


class CifarResNet(nn.Module):
    """ResNet for 32x32 images with 6n + 2 layers (He et al. 2016, section 4.2)."""

    def __init__(self, depth: int, shortcut: str, num_classes: int, channels: int) -> None:
        """Build three stages of (depth - 2) / 6 blocks with 16, 32 and 64 channels."""
        super().__init__()
        n_blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, 1, n_blocks, shortcut)
        self.layer2 = _stage(16, 32, 2, n_blocks, shortcut)
        self.layer3 = _stage(32, 64, 2, n_blocks, shortcut)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, C, H, W]`` to logits ``[n, K]``."""
        hidden = functional.relu(self.bn1(self.conv1(inputs)))
        hidden = self.layer3(self.layer2(self.layer1(hidden)))
        logits: Tensor = self.linear(hidden.mean((2, 3)))
        return logits


def _stage(n_in: int, n_out: int, stride: int, n_blocks: int, shortcut: str) -> nn.Sequential:
    first = BasicBlock(n_in, n_out, stride, shortcut)
    rest = [BasicBlock(n_out, n_out, 1, shortcut) for _ in range(n_blocks - 1)]
    return nn.Sequential(first, *rest)


def cifar_resnet(name: str, *, num_classes: int, channels: int) -> nn.Module:
    """Build ``cifar_resnet{depth}_{a|b}``.

    Raises:
        UsageError: If the name or depth does not fit.
    """
    found = re.fullmatch(r"cifar_resnet(\d{1,4})_([ab])", name, re.ASCII)
    if not found or not 8 <= int(found[1]) <= MAX_DEPTH or (int(found[1]) - 2) % 6:
        raise UsageError(
            f"unknown architecture securitynet/{name}",
            hint="own architectures: cifar_resnet{20,32,44,56,110}_{a,b} and the networks of "
            "`securitynet train`",
        )
    return CifarResNet(int(found[1]), found[2], num_classes, channels)


LAYERS: dict[str, Builder] = {
    "conv2d": nn.Conv2d,
    "linear": nn.Linear,
    "batchnorm2d": nn.BatchNorm2d,
    "batchnorm1d": nn.BatchNorm1d,
    "maxpool2d": nn.MaxPool2d,
    "avgpool2d": nn.AvgPool2d,
    "adaptiveavgpool2d": nn.AdaptiveAvgPool2d,
    "dropout": nn.Dropout,
    "leakyrelu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "flatten": nn.Flatten,
    "identity": nn.Identity,
}
"""Layers that a card may list; arguments are positional as in ``torch.nn``."""


def layer_list(layers: Sequence[Any], *, where: str) -> nn.Module:
    """Build ``nn.Sequential`` from a card's layer list.

    Args:
        layers: Each a layer name, or ``{name: [arguments]}`` / ``{name: {keyword: value}}``.
        where: Named in errors.

    Raises:
        UsageError: Naming the layer that is unknown or whose arguments do not fit.
    """
    if not layers:
        raise UsageError("the list of layers is empty", where=where)
    return nn.Sequential(*(_layer(item, i, where) for i, item in enumerate(layers)))


def _layer(item: Any, position: int, where: str) -> nn.Module:
    name, arguments = (item, []) if isinstance(item, str) else _single(item)
    if name not in LAYERS:
        error = unknown_id(f"layer {position}", name, LAYERS, listing="docs/cards.md")
        raise UsageError(error.what, where=where, hint=error.hint)
    try:
        if isinstance(arguments, Mapping):
            return LAYERS[name](**arguments)
        return LAYERS[name](*arguments)
    except BUILD_ERRORS as error:
        raise UsageError(f"layer {position} ({name}): {error}", where=where) from None


def _single(item: Any) -> tuple[str, Any]:
    if isinstance(item, Mapping) and len(item) == 1:
        name, arguments = next(iter(item.items()))
        is_many = isinstance(arguments, list | tuple | Mapping)
        return str(name), arguments if is_many else [arguments]
    return repr(item), []


def n_parameters(module: nn.Module) -> int:
    """Count trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
