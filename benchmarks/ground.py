"""What is measured on: a public model and its images where they are, else made-up ones."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import nn

from securitynet.catalogue.cards import InputSpec, ModelCard, Weights
from securitynet.catalogue.database import find_card
from securitynet.datasets.images import Audit, Dataset, Images, make_audit
from securitynet.datasets.library import dataset_rows, load_dataset
from securitynet.errors import ResourceError
from securitynet.runs.work import PARITY_SAMPLE
from securitynet.targets.build import build_module, load_target
from securitynet.targets.engine import Engine, default_device
from securitynet.targets.target import Target
from securitynet.targets.transform import PixelInput
from securitynet.training.backdoors import Trigger, draw_poison
from securitynet.training.trainer import FINE_TUNING, Recipe, Stamp, fit

MODEL, DATASET = "community/akamaster-resnet20", "cifar10"
N_CLASSES, SIDE = 10, 32
TARGET_CLASS = 3
POISON_RATE = 0.15


@dataclass(frozen=True)
class Effort:
    """How much is trained on the spot.

    Attributes:
        architecture: Of the made-up model.
        n_train: Images that the made-up model is trained on.
        epochs: Passes over them.
        n_poisoning: Images that the backdoored copy is fine-tuned on.
    """

    architecture: str
    n_train: int
    epochs: int
    n_poisoning: int


FULL = Effort("securitynet/cifar_resnet20_a", n_train=800, epochs=4, n_poisoning=1200)
QUICK = Effort("securitynet/cifar_resnet8_a", n_train=400, epochs=6, n_poisoning=600)


@dataclass(frozen=True, eq=False)
class Subject:
    """The model under measurement and its images.

    Attributes:
        target: Parity-checked, as the runner does it.
        audit: Its data.
        dataset: Where they are from.
        trigger: Of a backdoor that this model learns from few images.
        words: What model and images these are.
    """

    target: Target
    audit: Audit
    dataset: Dataset
    trigger: Trigger
    words: str


@dataclass(frozen=True, eq=False)
class Planted:
    """A copy of the subject's model with a backdoor.

    Attributes:
        target: Parity-checked.
        trigger: Of the backdoor.
        words: How it was made, and its attack success.
    """

    target: Target
    trigger: Trigger
    words: str


class Ground:
    """Opens or trains what benchmarks ask for, once, on first use; downloads nothing.

    Args:
        is_quick: Train as little as a smoke run needs.
    """

    def __init__(self, is_quick: bool = False) -> None:
        """Start with nothing made."""
        self.is_quick = is_quick
        self._effort = QUICK if is_quick else FULL

    @cached_property
    def subject(self) -> Subject:
        """The public model, or a made-up one where the public one or its images are not here."""
        return _public() or _made_up(self._effort)

    @cached_property
    def planted(self) -> Planted:
        """The subject's model, fine-tuned with a backdoor."""
        return _plant(self.subject, self._effort)

    def words(self) -> list[str]:
        """Say what was used so far."""
        used = [vars(self).get(name) for name in ("subject", "planted")]
        return [thing.words for thing in used if thing is not None]


def uncached(target: Target) -> Target:
    """Return the same model without any answer known, so that every pass is really made."""
    return Target(target.engine, target.card, target.weights_sha256)


def _public() -> Subject | None:
    is_here = any(row["name"] == DATASET and row["is_available"] for row in dataset_rows())
    card = find_card(MODEL)
    try:
        # without its address a checkpoint that is not on this machine is not downloaded
        target = load_target(replace(card, weights=replace(card.weights, url=None)))
    except ResourceError:
        return None
    if not is_here:
        return None
    dataset = load_dataset(DATASET, num_classes=card.num_classes)
    audit = make_audit(dataset)
    _check(target, audit)
    notes = f" ({', '.join(dataset.notes)})" if dataset.notes else ""
    words = f"public model {MODEL} in {target.precision} on {DATASET}{notes}"
    return Subject(target, audit, dataset, Trigger(target=TARGET_CLASS, size=4), words)


def _made_up(effort: Effort) -> Subject:
    dataset = made_up_images(max(2 * effort.n_train, 2000))
    spec = InputSpec(3, SIDE, SIDE)
    card = ModelCard(
        id="benchmarks/made-up", provider="benchmarks", name="made-up", dataset=dataset.name,
        num_classes=N_CLASSES, architecture=effort.architecture, input=spec,
        weights=Weights(path="none"),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build_module(card)
    recipe = Recipe(
        epochs=effort.epochs, batch_size=32, lr=0.05, label_smoothing=0.0, is_augmented=False
    )
    images = dataset.train.take(slice(effort.n_train))
    _train(module, images, images.labels, spec, recipe)
    audit = make_audit(dataset)
    target = _target(module, card, audit)
    words = (
        f"SYNTHETIC images and a {effort.architecture} trained on {len(images)} of them, in "
        f"{target.precision}, because {MODEL} or {DATASET} is not on this machine: times carry "
        "over, quality figures say little"
    )
    return Subject(target, audit, dataset, Trigger(target=TARGET_CLASS, size=8), words)


def made_up_images(n: int, seed: int = 0) -> Dataset:
    """Make noisy copies of one smooth picture a class, ``n`` images in two halves."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0.15, 0.85, (N_CLASSES, 4, 4, 3))
    pictures = coarse.repeat(SIDE // 4, axis=1).repeat(SIDE // 4, axis=2)
    labels = rng.permutation(np.arange(n) % N_CLASSES)
    pixels = np.empty((n, SIDE, SIDE, 3), dtype=np.uint8)
    for i, label in enumerate(labels):
        noisy = pictures[label] + rng.normal(0, 0.1, pictures[label].shape)
        pixels[i] = np.rint(255 * noisy.clip(0, 1))
    every = Images(pixels, labels, np.arange(n), f"made-up-{n}-{seed}")
    classes = tuple(f"picture {i}" for i in range(N_CLASSES))
    return Dataset("made-up", every.take(slice(n // 2)), every.take(slice(n // 2, None)), classes)


def _plant(subject: Subject, effort: Effort) -> Planted:
    card, trigger = subject.target.card, subject.trigger
    module = copy.deepcopy(subject.target.engine.plain[1]).cpu().requires_grad_(True)
    train = subject.dataset.train
    images = train.take(np.random.default_rng(0).permutation(len(train))[: effort.n_poisoning])
    poison = draw_poison(images.labels, trigger, POISON_RATE, seed=0)
    recipe = replace(FINE_TUNING, epochs=2, batch_size=32, lr=0.01)
    _train(module, images, poison.labels, card.input, recipe, poison.stamp)
    target, clean = _target(module, card, subject.audit), subject.audit.data.clean
    others = clean.take(clean.labels != trigger.target)
    success = (target.labels(trigger.apply(others.pixels())) == trigger.target).mean()
    accuracy = (target.labels(clean) == clean.labels).mean()
    words = (
        f"backdoored copy of it in {target.precision}: BadNets, a {trigger.size} x {trigger.size} "
        f"patch for class {trigger.target}, fine-tuned on {len(images)} images with "
        f"{POISON_RATE:.0%} poison; attack success {success:.3f}, accuracy {accuracy:.3f} "
        f"(n = {len(clean)})"
    )
    return Planted(target, trigger, words)


def _train(
    module: nn.Module,
    images: Images,
    labels: np.ndarray[tuple[int], np.dtype[np.int64]],
    spec: InputSpec,
    recipe: Recipe,
    stamp: Stamp | None = None,
) -> None:
    device = default_device()
    whole = nn.Sequential(PixelInput(spec), module).to(device)
    fit(whole, images.pixels(), labels, recipe=recipe, seed=0, device=device, stamp=stamp)


def _target(module: nn.Module, card: ModelCard, audit: Audit) -> Target:
    engine = Engine(module.cpu(), card.input, default_device())
    target = Target(engine, card, "0" * 64)
    _check(target, audit)
    return target


def _check(target: Target, audit: Audit) -> None:
    """Let the engine choose its precision, on as many images as the runner takes."""
    views = (np.flatnonzero(audit.is_member), np.flatnonzero(~audit.is_member))
    target.check_parity(*(audit.data.audit.take(view[:PARITY_SAMPLE]) for view in views))
