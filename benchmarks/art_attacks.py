"""The black-box membership attacks of the Adversarial Robustness Toolbox, as its users run them.

The toolbox is in an environment of its own (``requirements-peers.in``). It is plain Python, so its
folder is put behind everything else on the path: torch and numpy are those of this process, and
both sides have the same threads.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ground import Subject
from securitynet.datasets.images import Audit
from securitynet.errors import ResourceError

PEERS = Path(__file__).resolve().parent.parent / ".venv-peers"
TOOLBOX = "adversarial-robustness-toolbox"
LEARNED = ("nn", "rf", "lr")
"""Attacks that are trained on samples of known membership; ``rule`` is not."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Samples:
    """What the attacks are given: a half to learn from and a half to judge.

    Attributes:
        pixels: float32 ``[n, C, H, W]`` in [0, 1], the toolbox's own form.
        labels: int64 ``[n]``.
        is_member: bool ``[n]``.
        is_known: Which samples a learned attack learns from, bool ``[n]``.
    """

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]
    is_member: NDArray[np.bool_]
    is_known: NDArray[np.bool_]


def samples_of(audit: Audit) -> Samples:
    """Return the samples of an audit, every other member and non-member known."""
    images, is_member = audit.data.audit, audit.is_member
    pixels = images.pixels().astype(np.float32).transpose(0, 3, 1, 2) / 255
    is_known = np.zeros(len(is_member), dtype=np.bool_)
    for side in (True, False):
        is_known[np.flatnonzero(is_member == side)[::2]] = True
    return Samples(np.ascontiguousarray(pixels), images.labels, is_member, is_known)


def toolbox() -> str:
    """Put the toolbox on the path, last of all; return its name and version.

    Raises:
        ResourceError: If it is not installed.
    """
    for folder in sorted(PEERS.glob("lib/python3*/site-packages")):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    try:
        with _quiet():
            import art.attacks.inference.membership_inference  # noqa: F401
    except ImportError:
        what = f"{TOOLBOX} is not installed: `make bench` installs it where it can"
        raise ResourceError(what, where=PEERS) from None
    return f"{TOOLBOX} {version(TOOLBOX)}"


def attack(kind: str, subject: Subject, samples: Samples) -> Floats:
    """Run one of its attacks with its own defaults, from pixels to scores.

    Args:
        kind: One of `LEARNED`, or ``rule``.
        subject: The model, asked as given: fp32, eager, batches of 128.
        samples: A learned attack learns from those that are known, and scores the others.

    Returns:
        Probability of membership of the samples of :func:`scored`, float64 ``[m]``.
    """
    run = _rule if kind == "rule" else _learned(kind)
    with _quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        np.random.seed(0)
        return np.asarray(run(_classifier(subject), samples), dtype=np.float64)


def scored(kind: str, samples: Samples) -> NDArray[np.bool_]:
    """Return which samples an attack scores, bool ``[n]``."""
    return np.ones_like(samples.is_known) if kind == "rule" else ~samples.is_known


def _classifier(subject: Subject) -> Any:
    from art.estimators.classification import PyTorchClassifier

    engine, card = subject.target.engine, subject.target.card
    spec = card.input
    return PyTorchClassifier(
        nn.Sequential(*engine.plain),
        loss=nn.CrossEntropyLoss(),
        input_shape=(spec.channels, spec.height, spec.width),
        nb_classes=card.num_classes,
        clip_values=(0.0, 1.0),
        device_type="gpu" if engine.device.type == "cuda" else "cpu",
    )


def _rule(classifier: Any, samples: Samples) -> Floats:
    from art.attacks.inference.membership_inference import MembershipInferenceBlackBoxRuleBased

    found = MembershipInferenceBlackBoxRuleBased(classifier).infer(samples.pixels, samples.labels)
    return np.asarray(found, dtype=np.float64)


def _learned(kind: str) -> Callable[[Any, Samples], Floats]:
    def run(classifier: Any, samples: Samples) -> Floats:
        from art.attacks.inference.membership_inference import MembershipInferenceBlackBox

        x, y = samples.pixels, samples.labels
        inside = samples.is_known & samples.is_member
        outside = samples.is_known & ~samples.is_member
        learned = MembershipInferenceBlackBox(classifier, attack_model_type=kind)
        learned.fit(x[inside], y[inside], x[outside], y[outside])
        chosen = scored(kind, samples)
        found = learned.infer(x[chosen], y[chosen], probabilities=True)
        return np.asarray(found, dtype=np.float64).reshape(len(found), -1)[:, -1]

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
