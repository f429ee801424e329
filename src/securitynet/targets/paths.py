"""The two ways from pixels to logits: the module as it was given, and the same made faster."""

from __future__ import annotations

import copy
import logging

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from securitynet.catalogue.cards import InputSpec
from securitynet.targets.fusion import fused
from securitynet.targets.transform import PixelInput, with_channels_last

log = logging.getLogger(__name__)

FORWARD_ERRORS = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError,
    ArithmeticError, NameError,
)  # fmt: skip
"""What a foreign module raises when it cannot be run, traced or copied."""


def plain_path(classifier: nn.Module, spec: InputSpec, device: torch.device) -> nn.Sequential:
    """Return the pixel transform and a classifier, frozen, in fp32.

    Args:
        classifier: Left as it is, unless it cannot be copied.
        spec: How pixels become its input.
        device: Where to run.
    """
    return _frozen(PixelInput(spec), _copied(classifier)).to(device)


def fast_path(
    classifier: nn.Module, spec: InputSpec, device: torch.device, *, is_fused: bool = True
) -> nn.Sequential:
    """Return the same, faster: BatchNorm folded, channels-last, on a CPU fused convolutions.

    Args:
        classifier: As in `plain_path`, in eval mode.
        spec: How pixels become its input.
        device: Where to run.
        is_fused: Whether to fuse convolutions with what follows them.
    """
    folded = _folded(classifier)
    if is_fused and device.type == "cpu":
        folded = fused(folded)
    fast = _frozen(PixelInput(spec, torch.channels_last), folded).to(device)
    with_channels_last(fast, len(spec.sides))
    return fast


def _frozen(pixel_input: PixelInput, classifier: nn.Module) -> nn.Sequential:
    module = nn.Sequential(pixel_input, classifier).float().eval()
    return module.requires_grad_(False)


def _copied(module: nn.Module) -> nn.Module:
    """Copy a module; one that keeps computed tensors (weight norm) cannot be and is used itself."""
    try:
        return copy.deepcopy(module)
    except FORWARD_ERRORS as error:
        log.debug("the module cannot be copied: %s", error)
        return module


def _folded(module: nn.Module) -> nn.Module:
    """Fold BatchNorm into convolutions where the graph can be traced, else copy."""
    try:
        return fuse(module)
    except FORWARD_ERRORS as error:
        log.debug("BatchNorm not folded: %s", error)
        return _copied(module)
