"""Self-trained models: trained, measured and kept as a card beside safetensors, twins included.

A backdoored model always comes with its clean twin: same start, same images, same order, no
poison. Without twins a detector can pass by recognising "was fine-tuned". A private model comes
with its non-private twin: same network, images and recipe, no clipping and no noise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import nn

from securitynet.catalogue.cards import Claim, InputSpec, ModelCard, Weights, load_card
from securitynet.datasets.images import Dataset, Images, Indices
from securitynet.errors import SecurityNetError, UsageError
from securitynet.files.atomic import write_atomic, write_text
from securitynet.files.digest import matches
from securitynet.targets.architectures import n_parameters
from securitynet.targets.build import build_module, load_module
from securitynet.targets.engine import Engine, default_device
from securitynet.targets.target import as_pixels
from securitynet.targets.threads import threads_for
from securitynet.targets.transform import PixelInput
from securitynet.training.backdoors import Trigger, draw_poison
from securitynet.training.manifests import TRAINED_ON, indices_sha256
from securitynet.training.private import Mechanism, Privacy, calibrate
from securitynet.training.trainer import Recipe, fit, steps_of

Progress = Callable[[float, str], None]
MEASURED = ("attack_success", "n")
"""What is known of a backdoor only once it is planted."""


@dataclass(frozen=True)
class TrainingPlan:
    """What to train.

    Attributes:
        name: Name of the model; its id is ``self-trained/<name>``.
        architecture: As in a card, e.g. ``securitynet/cnn_small``; a private model and its twin
            have group normalisation.
        recipe: How to train.
        seed: Seed of weights, order and poison.
        trigger: Trigger of the backdoor to plant, if any.
        poison_rate: Share of training images that carry the trigger.
        start: Model to fine-tune instead of fresh weights.
        n_train: At most this many training images.
        chosen: Source indices of the training images, instead of the train split.
        privacy: Train by DP-SGD with this guarantee; from fresh weights and without backdoor.
    """

    name: str
    architecture: str | Mapping[str, Any]
    recipe: Recipe
    seed: int = 0
    trigger: Trigger | None = None
    poison_rate: float = 0.1
    start: ModelCard | None = None
    n_train: int | None = None
    chosen: Indices | None = None
    privacy: Privacy | None = None


def train_models(
    plan: TrainingPlan, dataset: Dataset, folder: Path, progress: Progress
) -> list[Path]:
    """Train a model, and its twin if it has a backdoor or is private; finished ones are skipped.

    Args:
        plan: What to train.
        dataset: Trained on its train split, measured on its test split.
        folder: Each model becomes a folder here with ``card.json`` and ``model.safetensors``.
        progress: Told the share done and a few words.

    Returns:
        The card files, the twin last.

    Raises:
        UsageError: If the recipe cannot work on this data.
        ResourceError: If a private model is wanted and Opacus is not installed.
    """
    with threads_for(*dataset.train.shape[:-1]):
        return _train_both(plan, dataset, folder, progress)


def _train_both(
    plan: TrainingPlan, dataset: Dataset, folder: Path, progress: Progress
) -> list[Path]:
    plain = _twin(plan, dataset)
    if plain is None:
        return [_train_one(plan, dataset, folder, progress, twin=None)]

    def first(share: float, what: str) -> None:
        progress(share / 2, what)

    def second(share: float, what: str) -> None:
        progress(0.5 + share / 2, what)

    changed = _train_one(plan, dataset, folder, first, twin=plain.name)
    return [changed, _train_one(plain, dataset, folder, second, twin=plan.name)]


def _twin(plan: TrainingPlan, dataset: Dataset) -> TrainingPlan | None:
    """Return the plan of the twin that stands beside a backdoored or a private model."""
    if plan.privacy is not None:
        if plan.trigger is not None or plan.start is not None:
            raise UsageError(
                "DP-SGD goes with fresh weights and without a backdoor",
                hint="the guarantee would cover only the images of the last training",
            )
        return replace(plan, name=f"{plan.name}-non-private-twin", privacy=None)
    if plan.trigger is None:
        return None
    if not 0 <= plan.trigger.target < dataset.num_classes:
        raise UsageError(f"target class {plan.trigger.target} is not a class of {dataset.name}")
    return replace(plan, name=f"{plan.name}-clean-twin", trigger=None)


def _train_one(
    plan: TrainingPlan, dataset: Dataset, folder: Path, progress: Progress, twin: str | None
) -> Path:
    chosen = _training_images(plan, dataset)
    mechanism = _mechanism(plan, len(chosen))
    facts = _manifest(plan, dataset, chosen, twin, mechanism)
    if _is_trained(folder / plan.name, facts):
        progress(1.0, f"{plan.name} is trained already")
        return folder / plan.name / "card.json"
    poison = None
    if plan.trigger is not None:
        poison = draw_poison(chosen.labels, plan.trigger, plan.poison_rate, plan.seed)
    card = _draft(plan, dataset)
    module = _start(plan, card)
    device = default_device()
    whole = nn.Sequential(PixelInput(card.input), module).to(device)
    fit(
        whole,
        chosen.pixels(),
        chosen.labels if poison is None else poison.labels,
        recipe=plan.recipe,
        seed=plan.seed,
        device=device,
        progress=lambda share, what: progress(share, f"training {plan.name} {what}"),
        stamp=None if poison is None else poison.stamp,
        mechanism=mechanism,
    )
    engine = Engine(module.cpu(), card.input, device)
    unseen = dataset.test.take(~np.isin(dataset.test.indices, chosen.indices))
    accuracy = _accuracy(engine, unseen.pixels(), unseen.labels) if len(unseen) else None
    if plan.trigger is not None:
        facts["backdoor"] |= _attack_success(plan.trigger, engine, dataset.test)
    card = replace(
        card,
        params=n_parameters(module),
        training=facts,
        claims=(
            *(
                [Claim("test_accuracy", accuracy, "securitynet train", n=len(unseen))]
                if accuracy is not None
                else []
            ),
            Claim(
                "train_accuracy",
                _accuracy(engine, chosen.pixels(), chosen.labels),
                "securitynet train",
                n=len(chosen),
            ),
        ),
    )
    write_atomic(
        folder / plan.name / TRAINED_ON, lambda file: np.save(file, chosen.indices.astype("<i8"))
    )
    return _keep(card, module, folder / plan.name)


def _mechanism(plan: TrainingPlan, n_images: int) -> Mechanism | None:
    if plan.privacy is None:
        return None
    plan.privacy.check(n_images)
    steps = steps_of(plan.recipe, n_images)
    return calibrate(plan.privacy, steps.size / n_images, steps.n_steps)


def _training_images(plan: TrainingPlan, dataset: Dataset) -> Images:
    if plan.chosen is not None:
        return replace(dataset.train, indices=plan.chosen)
    size = len(dataset.train) if plan.n_train is None else min(plan.n_train, len(dataset.train))
    if size < 2 * dataset.num_classes:
        raise UsageError(f"{size} training images are too few for {dataset.num_classes} classes")
    order = np.random.default_rng(plan.seed).permutation(len(dataset.train))[:size]
    return dataset.train.take(order if plan.n_train is not None else slice(None))


def _draft(plan: TrainingPlan, dataset: Dataset) -> ModelCard:
    *slices, height, width, channels = dataset.train.shape
    spec = InputSpec(channels, height, width, depth=slices[0] if slices else None)
    architecture: Any = plan.architecture
    if plan.start is not None:
        spec, architecture = plan.start.input, plan.start.architecture
        if plan.start.num_classes != dataset.num_classes:
            raise UsageError(
                f"{plan.start.id} has {plan.start.num_classes} classes, {dataset.name} has "
                f"{dataset.num_classes}"
            )
    return ModelCard(
        id=f"self-trained/{plan.name}",
        provider="self-trained",
        name=plan.name,
        dataset=dataset.name,
        num_classes=dataset.num_classes,
        architecture=architecture,
        input=spec,
        weights=Weights(path="model.safetensors", format="safetensors", licence="Apache-2.0"),
        family=None if plan.start is None else plan.start.family,
        origin="self-trained",
        status="verified",
    )


def _start(plan: TrainingPlan, card: ModelCard) -> nn.Module:
    if plan.start is not None:
        return load_module(plan.start)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        return build_module(card)


def _accuracy(engine: Engine, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    return float((_predict(engine, pixels) == labels).mean())


def _predict(engine: Engine, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    logits = engine.run(lambda i, j: as_pixels(pixels[i:j]), len(pixels))
    return np.asarray(logits.argmax(1), dtype=np.int64)


def _manifest(
    plan: TrainingPlan,
    dataset: Dataset,
    chosen: Images,
    twin: str | None,
    mechanism: Mechanism | None,
) -> dict[str, Any]:
    """Say exactly what the model was trained on; references are judged by this."""
    return {
        "recipe": asdict(plan.recipe),
        "seed": plan.seed,
        "dataset": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "n_train": len(chosen),
        "train_indices_sha256": indices_sha256(chosen.indices),
        "is_whole_train_split": np.array_equal(
            np.sort(chosen.indices), np.sort(dataset.train.indices)
        ),
        "architecture": None if plan.start is not None else plan.architecture,
        "from": None if plan.start is None else plan.start.id,
        "from_checksum": None if plan.start is None else plan.start.weights.checksum,
        "twin": None if twin is None else f"self-trained/{twin}",
        "backdoor": None
        if plan.trigger is None
        else {"trigger": plan.trigger.to_json(), "poison_rate": plan.poison_rate},
        "privacy": None if mechanism is None else mechanism.to_json(),
    }


def _is_trained(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Return whether this very model lies there already; anything else there is replaced."""
    try:
        card = load_card(folder / "card.json")
        is_whole = matches(folder / "model.safetensors", card.weights.checksum or "", "sha256")
    except (SecurityNetError, OSError):
        return False
    known = dict(card.training or {})
    if isinstance(known.get("backdoor"), Mapping):
        known["backdoor"] = {k: v for k, v in known["backdoor"].items() if k not in MEASURED}
    return is_whole and _stated(known) == _stated(facts) and (folder / TRAINED_ON).is_file()


def _stated(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is null: a manifest from before a fact was recorded lacks its name, too."""
    return {name: value for name, value in facts.items() if value is not None}


def _attack_success(trigger: Trigger, engine: Engine, test: Images) -> dict[str, Any]:
    """Measure the attack success rate on test images that are not of the target class."""
    others = test.take(np.flatnonzero(test.labels != trigger.target))
    hit = _predict(engine, trigger.apply(others.pixels())) == trigger.target
    return dict(zip(MEASURED, (float(hit.mean()), len(others)), strict=True))


def _keep(card: ModelCard, module: nn.Module, folder: Path) -> Path:
    tensors = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in module.state_dict().items()
    }
    data = save(tensors)
    write_atomic(folder / "model.safetensors", lambda file: file.write(data))
    checksum = hashlib.sha256(data).hexdigest()
    weights = replace(card.weights, checksum=checksum, checksum_algorithm="sha256", bytes=len(data))
    path = folder / "card.json"
    write_text(path, json.dumps(replace(card, weights=weights).to_json(), indent=1) + "\n")
    return path
