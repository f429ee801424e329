"""timm's networks with the thresholds of Amini et al. 2024; names as in their files."""

from __future__ import annotations

from typing import Any

import timm
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from securitynet.targets.architectures_same import MeanSparse


def meansparse_convnext(
    num_classes: int, channels: int, *, network: str = "convnext_large"
) -> nn.Module:
    """Build a ConvNeXt of timm with thresholds before each GELU and after each branch."""
    net: Any = timm.create_model(network, num_classes=num_classes, in_chans=channels)
    for name, block in list(net.named_modules()):
        if name.startswith("stages.") and hasattr(block, "conv_dw"):
            hidden, width = block.mlp.fc1.out_features, block.mlp.fc2.out_features
            thresholds = MeanSparse(hidden, -1, counters=True)
            block.mlp.act = nn.Sequential(thresholds, block.mlp.act)
            block.drop_path = nn.Sequential(block.drop_path, MeanSparse(width, counters=True))
    built: nn.Module = net
    return built


class SparseMlp(nn.Module):
    """A block's perceptron with thresholds after both layers."""

    def __init__(self, mlp: nn.Module) -> None:
        """Take over the layers of timm's."""
        super().__init__()
        self.fc1, self.fc2 = mlp.get_submodule("fc1"), mlp.get_submodule("fc2")
        self.act = mlp.get_submodule("act")
        self.meansparse1 = MeanSparse(int(self.fc1.out_features), -1)  # type: ignore[arg-type]
        self.meansparse2 = MeanSparse(int(self.fc2.out_features), -1)  # type: ignore[arg-type]

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[..., C]`` to ``[..., C]``."""
        hidden = self.act(self.meansparse1(self.fc1(inputs)))
        output: Tensor = self.meansparse2(self.fc2(hidden))
        return output


class SparseSwinBlock(SwinTransformerBlock):
    """A Swin block with thresholds after each residual sum."""

    def __init__(self, block: SwinTransformerBlock) -> None:
        """Build a block of the same sizes as timm's."""
        super().__init__(
            block.dim, block.input_resolution, block.attn.num_heads,
            window_size=block.window_size, shift_size=block.target_shift_size,
        )  # fmt: skip
        self.mlp: nn.Module = SparseMlp(self.mlp)  # type: ignore[assignment]
        self.meansparse1, self.meansparse2 = MeanSparse(block.dim, -1), MeanSparse(block.dim, -1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[n, H, W, C]`` to ``[n, H, W, C]``."""
        attend: Any = self._attn
        hidden = self.meansparse1(inputs + attend(self.norm1(inputs)))
        output: Tensor = self.meansparse2(hidden + self.mlp(self.norm2(hidden)))
        return output


def meansparse_swin(
    num_classes: int, channels: int, *, network: str = "swin_large_patch4_window7_224"
) -> nn.Module:
    """Build a Swin of timm with thresholds in each block's perceptron and after each sum."""
    net: Any = timm.create_model(network, num_classes=num_classes, in_chans=channels)
    for stage in net.layers:
        stage.blocks = nn.Sequential(*map(SparseSwinBlock, stage.blocks))
    built: nn.Module = net
    return built
