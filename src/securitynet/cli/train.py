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
MODELS = Path("securitynet-models")
DEFAULT_NETWORK = "cnn_small"
N_ONLINE = 8
"""Online references unless a number is given: each sample is IN for four and OUT for four."""


ArchitectureArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[ARCH]",
        help="E.g. cnn_small, or library/name; not with --from. `references`: the models that "
        "reference-based attacks on this data set need.",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Folder of models; default: securitynet-models.")
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
    str | None,
    typer.Option(
        "--kind", help="references: out, or online (random halves of the audit); default: out."
    ),
]
FoldsOption = Annotated[
    int | None,
    typer.Option("--folds", help="references, out: folds of the test split; default: 2."),
]
PerFoldOption = Annotated[
    int | None,
    typer.Option(
        "--per-fold",
        help="references: models a fold; default: 4; online: models in all, an even number; "
        "default: 8.",
    ),
]
NetworkOption = Annotated[
    str | None, typer.Option("--network", help="references: architecture; default: cnn_small.")
]
AlsoOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--also",
        metavar="FILE",
        help="references, online: images that are audited too, listed as for `run --members`; for "
        "a model of your own its train_indices.npy.",
    ),
]
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
    out: OutOption = None,
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
    kind: KindOption = None,
    folds: FoldsOption = None,
    per_fold: PerFoldOption = None,
    network: NetworkOption = None,
    also: AlsoOption = None,
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
    choice = {"--kind": kind, "--folds": folds, "--per-fold": per_fold, "--network": network}
    numbers = parse_seeds(seeds)
    is_references = architecture == REFERENCES
    if is_references:
        others = {"--from": start, "--backdoor": backdoor, "--n-train": n_train, "--name": name}
        _check_references({**others, "--dp-epsilon": dp_epsilon, "--out": out}, numbers)
        architecture = network or DEFAULT_NETWORK
    else:
        _check_model({**choice, "--also": also or None})
    privacy = _privacy(dp_epsilon, dp_delta, dp_clip)
    architecture = _architecture(architecture, start)
    recipe = _recipe(
        start,
        epochs=epochs,
        lr=lr,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        is_augmented=augment,
    )
    if is_references:
        wanted = _reference_plan(kind, folds, per_fold, architecture, recipe, numbers[0])
        _train_references(wanted, data, flip, also or [], is_json=json, quiet=quiet)
        return
    trigger = None if backdoor is None else Trigger(backdoor, target_class, pattern)
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
    cards = _trained(plan, data, numbers, flip, out or MODELS, quiet=quiet)
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


def _check_references(others: dict[str, Any], seeds: tuple[int, ...]) -> None:
    """Refuse options that references do not have; they would be ignored."""
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise UsageError(
            f"references take no {' or '.join(given)}",
            hint="they are trained from scratch into the cache, each on its own part of the images",
        )
    if len(seeds) > 1:
        raise UsageError(
            f"{len(seeds)} seeds for one set of references",
            hint="each reference has its own from the first on; more of them: --per-fold",
        )


def _check_model(of_references: dict[str, Any]) -> None:
    given = [name for name, value in of_references.items() if value is not None]
    if given:
        raise UsageError(
            f"{' and '.join(given)} only with references",
            hint="`securitynet train references --data NAME`",
        )


def _reference_plan(
    kind: str | None, folds: int | None, per_fold: int | None, architecture: str, recipe: Recipe,
    seed: int,
) -> ReferencePlan:  # fmt: skip
    from securitynet.training.references import ReferencePlan

    given = {"kind": kind, "n_folds": folds, "n_models": per_fold}
    if kind == "online":
        if folds is not None:
            raise UsageError(
                "online references have no --folds", hint="--per-fold N trains N of them in all"
            )
        given["n_models"] = N_ONLINE if per_fold is None else per_fold
    chosen: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    return ReferencePlan(**chosen, architecture=architecture, recipe=recipe, seed=seed)


def _train_references(
    plan: ReferencePlan,
    data: str,
    flip: bool | None,
    also: list[Path],
    *,
    is_json: bool,
    quiet: bool,
) -> None:
    from securitynet.datasets.library import load_dataset
    from securitynet.datasets.members import read_list
    from securitynet.training.references import train_references

    with progress_bar("train", quiet=quiet) as progress:
        dataset = load_dataset(data, progress=progress)
        recipe = _flipped(plan.recipe, dataset, flip)
        listed = tuple(int(i) for path in also for i in read_list(path, dataset))
        wanted = replace(plan, recipe=recipe, also=listed)
        found, folder = train_references(wanted, dataset, progress)
    cards = [_read(folder / model.card.name / "card.json") for model in found.models]
    methods = "mia.lira_online" if plan.kind == "online" else "membership"
    audit = f"securitynet run {methods} MODEL --data {data}"
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
