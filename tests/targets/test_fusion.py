"""Fused convolutions against the layers that they stand for."""

import copy

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from securitynet.targets.engine import has_native_bf16
from securitynet.targets.fusion import FusedConv2d, fused

N_CHANNELS = 6


def conv(**options):
    return nn.Conv2d(N_CHANNELS, N_CHANNELS, 3, **{"padding": 1, **options})


class Block(nn.Module):
    """What stands in residual networks: an activation, and a shortcut with an activation."""

    def __init__(self, activate=None, add=None, first=None):
        super().__init__()
        self.first, self.second = first or conv(), conv(bias=False)
        self.activate, self.add = activate or nn.ReLU(), add or (lambda x, y: x + y)

    def forward(self, inputs):
        hidden = self.activate(self.first(inputs))
        return functional.relu(self.add(self.second(hidden), inputs))


class Downsampling(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = conv(stride=2), conv(stride=2, groups=2)

    def forward(self, inputs):
        outputs = self.left(inputs)
        outputs += self.right(inputs)
        return outputs.relu()


class Twice(nn.Module):
    """What a convolution gives is used twice, or it is not plain: nothing can be fused."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(
            [conv(), conv(padding="same"), conv(padding_mode="reflect"), Named(6, 6, 1)]
        )

    def forward(self, inputs):
        outputs = self.convs[0](inputs)
        outputs = outputs.relu() + outputs
        for layer in self.convs[1:]:
            outputs = functional.relu(layer(outputs))
        return outputs


class Named(nn.Conv2d):
    """A kind of its own, which could do something else."""


class Doubling(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv()

    def forward(self, inputs):
        return torch.relu(torch.add(self.conv(inputs), inputs, alpha=2))


class Clipping(nn.Module):
    """An activation that cannot follow an addition in one call."""

    def __init__(self):
        super().__init__()
        self.conv, self.activate = conv(), nn.ReLU6()

    def forward(self, inputs):
        return self.activate(self.conv(inputs) + inputs)


def made(kind):
    torch.manual_seed(0)
    return kind().eval().requires_grad_(False)


def inputs_of(seed=1):
    generator = torch.Generator().manual_seed(seed)
    batch = 3 * torch.randn(4, N_CHANNELS, 9, 9, generator=generator)
    return batch.contiguous(memory_format=torch.channels_last)


def n_fused(module):
    return sum(isinstance(part, FusedConv2d) for part in module.modules())


BLOCKS = {
    "relu": Block,
    "relu in place": lambda: Block(nn.ReLU(inplace=True)),
    "functional": lambda: Block(functional.relu),
    "function": lambda: Block(torch.relu),
    "method": lambda: Block(lambda x: x.relu()),
    "relu6": lambda: Block(nn.ReLU6()),
    "silu": lambda: Block(nn.SiLU()),
    "hardswish": lambda: Block(nn.Hardswish()),
    "torch.add": lambda: Block(add=torch.add),
    "method add": lambda: Block(add=lambda x, y: x.add(y)),
    "shortcut first": lambda: Block(add=lambda x, y: y + x),
    "dilated": lambda: Block(first=conv(dilation=2, padding=2)),
    "depthwise": lambda: Block(first=conv(groups=N_CHANNELS)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_fused_block_answers_the_same(name):
    module = made(BLOCKS[name])
    faster = fused(fx.symbolic_trace(module))
    assert n_fused(faster) == 2
    assert sum(node.op != "output" for node in faster.graph.nodes) == 3, "nothing else is left"
    with torch.inference_mode():
        torch.testing.assert_close(faster(inputs_of()), module(inputs_of()), atol=1e-5, rtol=1e-5)


def test_two_convolutions_may_meet():
    module = made(Downsampling)
    faster = fused(fx.symbolic_trace(module))
    with torch.inference_mode():
        torch.testing.assert_close(faster(inputs_of()), module(inputs_of()), atol=1e-5, rtol=1e-5)
    assert n_fused(faster) == 1


@pytest.mark.parametrize("kind", [Twice, Doubling, Clipping])
def test_what_cannot_be_fused_stays(kind):
    module = made(kind)
    same = fused(fx.symbolic_trace(module))
    assert n_fused(same) == 0
    with torch.inference_mode():
        assert torch.equal(same(inputs_of()), module(inputs_of()))


def test_gradients_are_those_of_the_layers():
    module, gradients = made(Block), []
    for path in (module, fused(fx.symbolic_trace(module))):
        inputs = inputs_of().requires_grad_()
        path(inputs).square().sum().backward()
        gradients.append(inputs.grad)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not has_native_bf16(torch.device("cpu")), reason="this CPU has no bf16")
def test_in_bf16_it_is_as_close_to_fp32_as_its_layers_are():
    module = made(Block)
    faster = fused(fx.symbolic_trace(module))
    inputs = inputs_of().bfloat16()
    with torch.inference_mode():
        truth = module(inputs.float())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ours, theirs = faster(inputs), module(inputs)
    assert ours.dtype == torch.bfloat16
    errors = [float((found.float() - truth).abs().max()) for found in (ours, theirs)]
    assert 0 < errors[0] <= 1.25 * errors[1]


def test_the_given_module_is_left_alone():
    graph = fx.symbolic_trace(made(Block))
    before = copy.deepcopy(graph.state_dict())
    fused(graph)
    assert n_fused(graph) == 0 and before.keys() == graph.state_dict().keys()


class Overwriting(nn.Module):
    """Changes the input of a convolution after it: a fused one, being later, would see that."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 10)

    def forward(self, inputs):
        inputs = inputs * 1.0
        outputs = self.conv(inputs)
        changed = inputs.mul_(-2.0)
        return self.last(functional.relu(outputs + changed).mean((2, 3)))


def test_a_fusion_that_changes_answers_is_dropped_and_the_fold_kept(engine_of):
    torch.manual_seed(0)
    module = Overwriting().eval()
    with torch.inference_mode():
        expected = module(pixels := torch.rand(5, 3, 8, 8)).numpy()
        wrong = fused(fx.symbolic_trace(module))(pixels).numpy()
    assert np.abs(wrong - expected).max() > 0.01, "the premise"
    engine = engine_of(module)
    assert engine.fast is not engine.plain and n_fused(engine.fast) == 0
    np.testing.assert_allclose(engine.run(lambda i, j: pixels[i:j], 5), expected, atol=1e-5)
