"""Convolutions that add a shortcut and apply their activation while the result is in registers.

What follows a convolution in a residual network costs a pass over memory each: on a CPU about a
seventh of inference. oneDNN, which computes torch's convolutions there, does both on the way out.
"""

from __future__ import annotations

import copy
import operator
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional


class Activation(NamedTuple):
    """An activation as oneDNN names it.

    Attributes:
        name: Its name there.
        scalars: Its parameters there.
        module: The same of torch.
    """

    name: str
    scalars: tuple[float, ...]
    module: nn.Module


RELU = Activation("relu", (), nn.ReLU())
ACTIVATIONS: dict[object, Activation] = {
    nn.ReLU: RELU,
    functional.relu: RELU,
    torch.relu: RELU,
    "relu": RELU,
    nn.ReLU6: Activation("hardtanh", (0.0, 6.0), nn.ReLU6()),
    nn.SiLU: Activation("swish", (1.0,), nn.SiLU()),
    nn.Hardswish: Activation("hardswish", (), nn.Hardswish()),
}
"""By module class, function or name of the tensor's method."""
ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
BF16 = torch.bfloat16


class FusedConv2d(nn.Module):
    """A convolution, the addition of a shortcut, and an activation, in one call of oneDNN.

    With gradients it is the three of them as torch has them: oneDNN's call has no backward.

    Args:
        conv: The convolution.
        activation: What follows it.
    """

    def __init__(self, conv: nn.Conv2d, activation: Activation) -> None:
        """Keep the convolution, whose kernel is copied to bf16 when that is first asked for."""
        super().__init__()
        self.conv, self.activation = conv, activation
        self._kernels: dict[torch.dtype, tuple[Tensor, Tensor | None]] = {}

    def forward(self, inputs: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Return activation(conv(inputs) + shortcut), ``[n, C, H, W]``."""
        if torch.is_grad_enabled() or inputs.device.type != "cpu":
            outputs = self.conv(inputs)
            activated: Tensor = self.activation.module(
                outputs if shortcut is None else outputs + shortcut
            )
            return activated
        dtype = BF16 if torch.is_autocast_enabled("cpu") else inputs.dtype
        kernel, offset = self._kernel(dtype)
        geometry = self.conv.padding, self.conv.stride, self.conv.dilation, self.conv.groups
        name, scalars, _ = self.activation
        call, inputs = torch.ops.mkldnn._convolution_pointwise, inputs.to(dtype)
        if shortcut is None:
            fused: Tensor = call(inputs, kernel, offset, *geometry, name, scalars, "")
        else:
            after = ("add", 1.0, name, scalars, None)
            fused = call.binary(inputs, shortcut.to(dtype), kernel, offset, *geometry, *after)
        return fused

    def _kernel(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        kernel, offset = self.conv.weight, self.conv.bias
        if dtype == kernel.dtype:
            return kernel, offset
        if dtype not in self._kernels:
            self._kernels[dtype] = kernel.to(dtype), None if offset is None else offset.to(dtype)
        return self._kernels[dtype]


def fused(module: nn.Module) -> nn.Module:
    """Return a traced module with convolutions fused with what follows them.

    Args:
        module: In eval mode; left as it is. One that is not traced is returned itself.
    """
    if not isinstance(module, fx.GraphModule) or not torch._C._has_mkldnn:
        return module
    module = copy.deepcopy(module)
    layers = dict(module.named_modules())
    for node in list(module.graph.nodes):
        activation = _activation(node, layers)
        found = None if activation is None else _sources(node.args[0], layers)
        if activation is None or found is None:
            continue
        conv, shortcut = found
        if shortcut and activation is not RELU:
            continue  # after an addition oneDNN knows no other
        name = f"fused_{conv.name}"
        module.add_module(name, FusedConv2d(layers[str(conv.target)], activation))
        with module.graph.inserting_before(node):
            new = module.graph.call_module(name, (conv.args[0], *shortcut))
        node.replace_all_uses_with(new)
        for old in dict.fromkeys((node, node.args[0], conv)):
            module.graph.erase_node(old)
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def _activation(node: fx.Node, layers: dict[str, nn.Module]) -> Activation | None:
    """Return what a node applies to its only argument, if oneDNN has it."""
    is_module = node.op == "call_module"
    kind = type(layers.get(str(node.target))) if is_module else node.target
    has_one = len(node.args) == 1 and isinstance(node.args[0], fx.Node)
    is_plain = not set(node.kwargs) - {"inplace"}
    return ACTIVATIONS.get(kind) if has_one and is_plain else None


def _sources(
    node: fx.Node, layers: dict[str, nn.Module]
) -> tuple[fx.Node, tuple[fx.Node, ...]] | None:
    """Return the convolution that a node is, or adds to something, and what it adds it to."""
    if _is_convolution(node, layers):
        return node, ()
    is_addition = node.target in ADDITIONS and len(node.users) == 1 and not node.kwargs
    parts = [part for part in node.args if isinstance(part, fx.Node)]
    if not is_addition or len(parts) != 2 or parts[0] is parts[1]:
        return None
    for conv, shortcut in (parts, parts[::-1]):
        if _is_convolution(conv, layers):
            return conv, (shortcut,)
    return None


def _is_convolution(node: fx.Node, layers: dict[str, nn.Module]) -> bool:
    """Return whether a node is a plain convolution that nothing else uses."""
    layer = layers.get(str(node.target)) if node.op == "call_module" else None
    if not isinstance(layer, nn.Conv2d) or type(layer) is not nn.Conv2d or len(node.users) != 1:
        return False
    return layer.padding_mode == "zeros" and isinstance(layer.padding, tuple)
