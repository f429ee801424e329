"""``securitynet train``: self-trained models, backdoored ones with their clean twins."""

from __future__ import annotations

import json as json_module
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from securitynet.catalogue.database import find_card
from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    bind_threads,
    console,
    note,
    print_json,
    progress_bar,
    set_verbosity,
)
from securitynet.cli.run import parse_seeds
from securitynet.errors import UsageError

if TYPE_CHECKING:
    from securitynet.datasets.images import Dataset
    from securitynet.training.private import Privacy
    from securitynet.training.references import ReferencePlan
    from securitynet.training.selftrained import TrainingPlan
    from securitynet.training.trainer import Recipe

REFERENCES = "references"
"""In the place of an architecture: train a data set's references."""


ArchitectureArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[ARCH]",
        help="E.g. cnn_small, or library/name; not with --from. `references`: the models that "
        "reference-based attacks on this data set need.",
    ),
]
BackdoorOption = Annotated[
    str | None, typer.Option("--backdoor", help="badnets or blend; adds a clean twin.")
]
TargetOption = Annotated[
    int, typer.Option("--target-class", min=0, help="Class the trigger leads to.")
]
PatternOption = Annotated[str, typer.Option("--pattern", help="badnets: a checker or white patch.")]
RateOption = Annotated[
    float, typer.Option("--poison-rate", min=0.001, max=0.9, help="Share poisoned.")
]
LimitOption = Annotated[
    int | None, typer.Option("--n-train", min=2, help="At most N training images.")
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", min=1, help="Passes.")]
LearningRateOption = Annotated[
    float | None, typer.Option("--lr", min=1e-9, help="Peak learning rate.")
]
DecayOption = Annotated[float | None, typer.Option("--weight-decay", min=0.0, help="L2 penalty.")]
SmoothingOption = Annotated[
    float | None, typer.Option("--label-smoothing", min=0.0, max=0.9, help="Smoothing.")
]
AugmentOption = Annotated[
    bool | None, typer.Option("--augment/--no-augment", help="Random shifts (and flips).")
]
FlipOption = Annotated[
    bool | None,
    typer.Option("--flip/--no-flip", help="Flip left and right; default: as the data set allows."),
]
KindOption = Annotated[
    str, typer.Option("--kind", help="references: out, or online (random halves of the audit).")
]
FoldsOption = Annotated[int, typer.Option("--folds", help="references: folds of the test split.")]
PerFoldOption = Annotated[
    int, typer.Option("--per-fold", help="references: models a fold; online: models in all.")
]
NetworkOption = Annotated[str, typer.Option("--network", help="references: architecture.")]
EpsilonOption = Annotated[
    float | None,
    typer.Option(
        "--dp-epsilon", help="Train by DP-SGD with this epsilon; adds a non-private twin."
    ),
]
DeltaOption = Annotated[
    float | None, typer.Option("--dp-delta", help="DP-SGD: delta; default: 1e-5.")
]
ClipOption = Annotated[
    float | None,
    typer.Option("--dp-clip", help="DP-SGD: largest norm of an image's gradient; default: 1."),
]


def train(
    architecture: ArchitectureArgument = None,
    data: Annotated[str, typer.Option("--data", help="Data set name or folder.")] = "",
    out: Annotated[Path, typer.Option("--out", help="Folder of models.")] = Path(
        "securitynet-models"
    ),
    name: Annotated[str | None, typer.Option("--name", help="Name of the model.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="E.g. 0-9; one model each.")] = "0",
    backdoor: BackdoorOption = None,
    target_class: TargetOption = 0,
    pattern: PatternOption = "checker",
    poison_rate: RateOption = 0.1,
    start: Annotated[
        str | None, typer.Option("--from", metavar="MODEL", help="Fine-tune this model.")
    ] = None,
    n_train: LimitOption = None,
    epochs: EpochsOption = None,
    lr: LearningRateOption = None,
    weight_decay: DecayOption = None,
    label_smoothing: SmoothingOption = None,
    augment: AugmentOption = None,
    flip: FlipOption = None,
    kind: KindOption = "out",
    folds: FoldsOption = 2,
    per_fold: PerFoldOption = 4,
    network: NetworkOption = "cnn_small",
    dp_epsilon: EpsilonOption = None,
    dp_delta: DeltaOption = None,
    dp_clip: ClipOption = None,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Train models of your own, to compare with public ones; finished ones are skipped."""
    set_verbosity(quiet, verbose)
    bind_threads()
    from securitynet.targets.normalisation import GROUP
    from securitynet.training.backdoors import Trigger
    from securitynet.training.selftrained import TrainingPlan

    if not data:
        raise UsageError("no data set given", hint="--data NAME, see `securitynet list datasets`")
    is_references = architecture == REFERENCES
    if is_references:
        _check_references(start, backdoor, n_train, dp_epsilon)
    privacy = _privacy(dp_epsilon, dp_delta, dp_clip)
    architecture = _architecture(network if is_references else architecture, start)
    recipe = _recipe(
        start,
        epochs=epochs,
        lr=lr,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        is_augmented=augment,
    )
    numbers = parse_seeds(seeds)
    if is_references:
        from securitynet.training.references import ReferencePlan

        wanted = ReferencePlan(kind, folds, per_fold, architecture, recipe, numbers[0])
        _train_references(wanted, data, flip, is_json=json, quiet=quiet)
        return
    trigger = None
    if backdoor is not None:
        trigger = Trigger(kind=backdoor, target=target_class, pattern=pattern)
    change = backdoor if privacy is None else f"dp{privacy.epsilon:g}"
    plan = TrainingPlan(
        name=name or _name(start or architecture, data, change),
        architecture=architecture if privacy is None else {"name": architecture, "norm": GROUP},
        recipe=recipe,
        trigger=trigger,
        poison_rate=poison_rate,
        start=None if start is None else find_card(start),
        n_train=n_train,
        privacy=privacy,
    )
    cards = _trained(plan, data, numbers, flip, out, quiet=quiet)
    audit = f"securitynet run membership,stealing,backdoor {cards[0]['card']}"
    _print(cards, f"audit one: {audit}", is_json=json)


def _privacy(epsilon: float | None, delta: float | None, clip: float | None) -> Privacy | None:
    from securitynet.training.private import Privacy

    given = {k: v for k, v in {"delta": delta, "clip": clip}.items() if v is not None}
    if epsilon is not None:
        return Privacy(epsilon, **given)
    if given:
        raise UsageError(f"--dp-{min(given)} without --dp-epsilon", hint="e.g. --dp-epsilon 8")
    return None


def _trained(
    plan: TrainingPlan, data: str, seeds: tuple[int, ...], flip: bool | None, out: Path, *,
    quiet: bool,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train one model a seed, and its twin; return the cards."""
    from securitynet.datasets.library import load_dataset
    from securitynet.training.selftrained import train_models

    cards: list[dict[str, Any]] = []
    with progress_bar("train", quiet=quiet) as progress:
        dataset = load_dataset(data, progress=progress)
        recipe = _flipped(plan.recipe, dataset, flip)
        for seed in seeds:
            mine = replace(plan, name=f"{plan.name}-s{seed}", recipe=recipe, seed=seed)
            cards += [_read(path) for path in train_models(mine, dataset, out, progress)]
    return cards


def _check_references(
    start: str | None, backdoor: str | None, n_train: int | None, dp_epsilon: float | None
) -> None:
    if any(given is not None for given in (start, backdoor, n_train, dp_epsilon)):
        raise UsageError(
            "references take no --from, --backdoor, --n-train or --dp-epsilon",
            hint="they are trained from scratch, on images that the audited ones are not among",
        )


def _train_references(
    plan: ReferencePlan, data: str, flip: bool | None, *, is_json: bool, quiet: bool
) -> None:
    from securitynet.datasets.library import load_dataset
    from securitynet.training.references import train_references

    with progress_bar("train", quiet=quiet) as progress:
        dataset = load_dataset(data, progress=progress)
        plan = replace(plan, recipe=_flipped(plan.recipe, dataset, flip))
        found, folder = train_references(plan, dataset, progress)
    cards = [_read(folder / model.card.name / "card.json") for model in found.models]
    audit = f"securitynet run membership MODEL --data {data}"
    _print(cards, f"used from now on: {audit}", is_json=is_json)


def _architecture(architecture: str | None, start: str | None) -> str:
    if start is not None and architecture is not None:
        raise UsageError(
            f"{architecture} and --from {start}: the model to fine-tune has an architecture",
            hint="give one of them",
        )
    if architecture is None and start is None:
        raise UsageError("no architecture given", hint="e.g. cnn_small, or --from MODEL")
    architecture = architecture or ""
    return architecture if "/" in architecture else f"securitynet/{architecture}"


def _recipe(start: str | None, **changes: Any) -> Recipe:
    from securitynet.training.trainer import FINE_TUNING, Recipe

    recipe = Recipe() if start is None else FINE_TUNING
    return replace(recipe, **{k: v for k, v in changes.items() if v is not None})


def _flipped(recipe: Recipe, dataset: Dataset, flip: bool | None) -> Recipe:
    """Flip images if asked to, by default where a mirror image is one of the data set."""
    return replace(recipe, is_flipped=dataset.is_mirrored if flip is None else flip)


def _name(model: str, data: str, change: str | None) -> str:
    parts = [Path(model).name, Path(data).name, *([change] if change else [])]
    return "-".join(parts)


def _read(path: Path) -> dict[str, Any]:
    card: dict[str, Any] = json_module.loads(path.read_text(encoding="utf-8"))
    return {**card, "card": str(path)}


def _print(cards: list[dict[str, Any]], hint: str, *, is_json: bool) -> None:
    if is_json:
        print_json(cards)
        return
    for card in cards:
        console().print(_summary(card), markup=False, soft_wrap=True)
    note(hint)


def _summary(card: dict[str, Any]) -> str:
    """Say on one line where a model lies and how well it does."""
    claims = {claim["metric"]: claim["value"] for claim in card["claims"]}
    names = {"train_accuracy": "train", "test_accuracy": "test"}
    figures = [f"{name} {claims[key]:.3f}" for key, name in names.items() if key in claims]
    planted = card["training"]["backdoor"]
    figures += [f"attack success {planted['attack_success']:.3f}"] if planted else []
    private = card["training"]["privacy"]
    figures += [f"epsilon {private['epsilon']:.2f}"] if private else []
    return f"{card['card']}  {', '.join(figures)}"
