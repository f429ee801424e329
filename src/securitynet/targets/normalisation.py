"""Group instead of batch normalisation (Wu & He, arXiv 1803.08494): for training under DP-SGD.

Batch normalisation mixes the images of a batch, so that no image has a gradient of its own to clip.
"""

from __future__ import annotations

from torch import nn

from securitynet.errors import UsageError

MAX_GROUPS = 16
MIN_CHANNELS = 4
GROUP = "group"
"""Value of ``norm`` in a card's architecture."""


def with_group_norm(module: nn.Module) -> nn.Module:
    """Replace every batch normalisation by a group normalisation with fresh weights, in place.

    Args:
        module: Any network.

    Returns:
        The module; another one only if it is itself a batch normalisation.

    Raises:
        UsageError: If it has a kind of batch normalisation that does more than normalise.
    """
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return _group_norm(module)
    for name, child in module.named_children():
        setattr(module, name, with_group_norm(child))
    return module


def _group_norm(module: nn.modules.batchnorm._BatchNorm) -> nn.GroupNorm:
    if type(module) not in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        raise UsageError(
            f"its {type(module).__name__} cannot be replaced by group normalisation",
            hint="take an architecture with plain BatchNorm2d layers, e.g. cnn_small",
        )
    n_channels = module.num_features
    return nn.GroupNorm(n_groups(n_channels), n_channels, module.eps, module.affine)


def n_groups(n_channels: int) -> int:
    """Return the largest number of groups up to 16 that leaves at least four channels to each.

    Small networks have 16 channels, and groups of one channel would be instance normalisation.
    """
    fitting = [
        groups
        for groups in range(1, MAX_GROUPS + 1)
        if n_channels % groups == 0 and n_channels // groups >= MIN_CHANNELS
    ]
    return max(fitting, default=1)
