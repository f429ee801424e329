"""A tiny model with a planted trigger of known mask: class 3 fires on a white corner patch."""

import numpy as np
import pytest
import torch
from torch import nn

from securitynet.catalogue.cards import InputSpec, ModelCard, Weights
from securitynet.datasets.images import AuditData, Images
from securitynet.registry import Access
from securitynet.targets.engine import Engine
from securitynet.targets.target import Target

SIDE, N_CLASSES, INFECTED = 8, 10, 3


TEMPLATES = np.sign(np.random.default_rng(0).normal(size=(N_CLASSES, SIDE * SIDE)))


class Planted(nn.Module):
    """Matches images with class templates; ``strength`` > 0 plants the shortcut."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.register_buffer("templates", torch.from_numpy(TEMPLATES).float())
        self.strength = strength

    def forward(self, inputs):
        logits = (inputs.flatten(1) - 0.3) @ self.templates.T
        patch = inputs[:, 0, -2:, -2:].mean((1, 2))
        bonus = self.strength * nn.functional.softplus(10 * (patch - 0.7)) / 10
        goal = nn.functional.one_hot(torch.tensor(INFECTED), N_CLASSES)
        return logits + bonus[:, None] * goal


def _images(n: int = 300, seed: int = 1) -> Images:
    """Noisy class templates, all darker than the trigger."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, N_CLASSES, n)
    bright = 0.3 + 0.15 * TEMPLATES[labels] + rng.normal(0, 0.08, (n, SIDE * SIDE))
    pixels = (255 * bright.clip(0, 0.6)).astype(np.uint8).reshape(n, SIDE, SIDE, 1)
    return Images(pixels, labels.astype(np.int64), np.arange(n), f"planted-{n}-{seed}")


def _target(strength: float, access: Access, module: nn.Module | None = None) -> Target:
    card = ModelCard(
        id="test/planted",
        provider="test",
        name="planted",
        dataset="planted",
        num_classes=N_CLASSES,
        architecture="securitynet/planted",
        input=InputSpec(1, SIDE, SIDE),
        weights=Weights(path="none", format="safetensors"),
    )
    engine = Engine(module or Planted(strength), card.input, torch.device("cpu"))
    return Target(engine, card, "0" * 64, access=access)


def _audit_data(clean: Images) -> AuditData:
    """Only ``clean`` may be touched: the other views are empty."""
    none = clean.take(slice(0))
    return AuditData(none, none, none, clean, N_CLASSES, tuple(map(str, range(N_CLASSES))))


@pytest.fixture
def planted_images():
    return _images


@pytest.fixture
def planted_target():
    return _target


@pytest.fixture
def audit_data():
    return _audit_data
