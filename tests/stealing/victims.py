"""Targets of theft that need no training, and images whose labels say nothing."""

import numpy as np
import torch
from torch import nn

from securitynet.catalogue.cards import InputSpec, ModelCard, Weights
from securitynet.datasets.images import AuditData, Images
from securitynet.registry import Access
from securitynet.targets.engine import Engine
from securitynet.targets.target import Target

SIDE, N_CLASSES, N_POOL, N_EVALUATION = 8, 4, 300, 200
# Augmentation would teach a copy what is wrong of a target that is not shift-invariant.
FAST = {"surrogate": "mlp", "n_seeds": 2, "augment": False}


class Fixed(nn.Module):
    """A linear classifier that is not trained: logits = (x - 0.5) W, plus a bias."""

    def __init__(self, scale=3.0, bias=(0.0,) * N_CLASSES, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        weight = scale * rng.normal(size=(SIDE * SIDE, N_CLASSES))
        self.register_buffer("weight", torch.from_numpy(weight).float())
        self.register_buffer("bias", torch.tensor(bias))

    def forward(self, inputs):
        return (inputs - 0.5).flatten(1) @ self.weight + self.bias


def target(module=None, access=Access.SCORES):
    card = ModelCard(
        id="test/linear",
        provider="test",
        name="linear",
        dataset="noise",
        num_classes=N_CLASSES,
        architecture="securitynet/linear",
        input=InputSpec(1, SIDE, SIDE),
        weights=Weights(path="none", format="safetensors"),
    )
    return Target(Engine(module or Fixed(), card.input, torch.device("cpu")), card, "0" * 64,
                  access=access)  # fmt: skip


def audit_data(n_pool=N_POOL, order_seed=None, label_seed=None, evaluation_seed=None):
    """Noise images whose true labels say nothing, so that a floor cannot know the target."""
    rng = np.random.default_rng(5)
    n = N_POOL + N_EVALUATION
    pixels = rng.integers(0, 256, (n, SIDE, SIDE, 1), dtype=np.uint8)
    labels = rng.integers(0, N_CLASSES, n)
    if label_seed is not None:
        labels = np.random.default_rng(label_seed).integers(0, N_CLASSES, n)
    if evaluation_seed is not None:
        other = np.random.default_rng(evaluation_seed)
        pixels[N_POOL:] = other.integers(0, 256, pixels[N_POOL:].shape, dtype=np.uint8)
    images = Images(pixels, labels, np.arange(n), f"noise-{label_seed}-{evaluation_seed}")
    pool = images.take(slice(n_pool))
    if order_seed is not None:
        pool = pool.take(np.random.default_rng(order_seed).permutation(n_pool))
    none = images.take(slice(0))
    classes = tuple(map(str, range(N_CLASSES)))
    return AuditData(none, pool, images.take(slice(N_POOL, None)), none, N_CLASSES, classes)
