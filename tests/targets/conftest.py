"""Small targets on generated images, with everything about them known."""

import numpy as np
import pytest
import torch
from torch import nn

from securitynet.catalogue.cards import InputSpec, ModelCard, Weights
from securitynet.datasets.images import Audit, AuditData, Images
from securitynet.registry import Access
from securitynet.targets.engine import Engine
from securitynet.targets.target import OutputCache, Target

CPU = torch.device("cpu")


def make_card(n_classes=10, *, channels=3, side=8, claims=(), **changes):
    values = {
        "id": "test/model",
        "provider": "test",
        "name": "model",
        "dataset": "generated",
        "num_classes": n_classes,
        "architecture": "securitynet/test",
        "input": InputSpec(channels, side, side),
        "weights": Weights(path="none", format="safetensors"),
        "claims": tuple(claims),
    }
    return ModelCard(**{**values, **changes})


def make_images(n=200, *, n_classes=10, channels=3, side=8, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, side, side, channels), dtype=np.uint8)
    labels = rng.integers(0, n_classes, n)
    return Images(pixels, labels, np.arange(n), f"generated-{n}-{n_classes}-{channels}-{seed}")


def make_target(module, card=None, *, access=Access.WEIGHTS, cache=None, sha256="0" * 64):
    card = card or make_card()
    engine = Engine(module, card.input, CPU)
    return Target(engine, card, sha256, access=access, cache=OutputCache(cache))


def make_linear(n_classes=10, *, channels=3, side=8, seed=0, gain=1.0):
    """Return a linear classifier; on uniform pixels each logit is about N(0, ``gain``)."""
    torch.manual_seed(seed)
    layer = nn.Linear(channels * side * side, n_classes)
    nn.init.normal_(layer.weight, std=gain / (channels * side * side / 12) ** 0.5)
    with torch.no_grad():
        layer.bias.copy_(-layer.weight.sum(1) / 2)
    return nn.Sequential(nn.Flatten(), layer).eval()


def make_audit_of(labels, *, notes=(), n_classes=10, seed=0):
    """Return an audit whose test images have these labels, after as many members."""
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (2 * len(labels), 4, 4, 1), dtype=np.uint8)
    both = Images(pixels, np.tile(labels, 2), np.arange(2 * len(labels)), "labels")
    is_member = np.arange(2 * len(labels)) < len(labels)
    test = both.take(~is_member)
    data = AuditData(both, test, test, test, n_classes, tuple(map(str, range(n_classes))))
    return Audit(data, is_member, test, "labels", tuple(notes))


def shake_batchnorm(module, seed=0):
    """Give BatchNorm statistics and weights that folding must get right, not 0 and 1."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor, low, high):
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                draw(layer.running_mean, -0.5, 0.5)
                draw(layer.running_var, 0.5, 2.0)
                draw(layer.weight, 0.5, 1.5)
                draw(layer.bias, -0.5, 0.5)
    return module.eval()


@pytest.fixture
def card_of():
    return make_card


@pytest.fixture
def images_of():
    return make_images


@pytest.fixture
def target_of():
    return make_target


@pytest.fixture
def linear():
    return make_linear


@pytest.fixture
def audit_of():
    return make_audit_of


@pytest.fixture
def shaken():
    return shake_batchnorm


@pytest.fixture
def engine_of():
    """Return a function that runs a module on square images of a size."""

    def engine_of(module, *, channels=3, side=8, **spec):
        return Engine(module, InputSpec(channels, side, side, **spec), CPU)

    return engine_of


@pytest.fixture
def passes():
    """Return a function that lists the sizes of the batches an engine puts through."""

    def passes(engine):
        sizes = []
        engine.fast.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
        return sizes

    return passes
