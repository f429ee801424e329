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
    from securitynet.training.trainer import Recipe


ArchitectureArgument = Annotated[
    str | None,
    typer.Argument(metavar="[ARCH]", help="E.g. cnn_small, or library/name; not with --from."),
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
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Train models of your own, to compare with public ones; finished ones are skipped."""
    set_verbosity(quiet, verbose)
    bind_threads()
    from securitynet.datasets.library import load_dataset
    from securitynet.training.backdoors import Trigger
    from securitynet.training.selftrained import TrainingPlan, train_models

    architecture = _architecture(architecture, start)
    if not data:
        raise UsageError("no data set given", hint="--data NAME, see `securitynet list datasets`")
    recipe = _recipe(
        start,
        epochs=epochs,
        lr=lr,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        is_augmented=augment,
    )
    trigger = None
    if backdoor is not None:
        trigger = Trigger(kind=backdoor, target=target_class, pattern=pattern)
    cards: list[dict[str, Any]] = []
    with progress_bar("train", quiet=quiet) as progress:
        dataset = load_dataset(data, progress=progress)
        recipe = replace(recipe, is_flipped=dataset.is_mirrored if flip is None else flip)
        for seed in parse_seeds(seeds):
            plan = TrainingPlan(
                name=f"{name or _name(start or architecture, data, backdoor)}-s{seed}",
                architecture=architecture,
                recipe=recipe,
                seed=seed,
                trigger=trigger,
                poison_rate=poison_rate,
                start=None if start is None else find_card(start),
                n_train=n_train,
            )
            cards += [_read(path) for path in train_models(plan, dataset, out, progress)]
    _print(cards, is_json=json)


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


def _name(model: str, data: str, backdoor: str | None) -> str:
    parts = [Path(model).name, Path(data).name, *([backdoor] if backdoor else [])]
    return "-".join(parts)


def _read(path: Path) -> dict[str, Any]:
    card: dict[str, Any] = json_module.loads(path.read_text(encoding="utf-8"))
    return {**card, "card": str(path)}


def _print(cards: list[dict[str, Any]], *, is_json: bool) -> None:
    if is_json:
        print_json(cards)
        return
    for card in cards:
        claims = {claim["metric"]: claim["value"] for claim in card["claims"]}
        planted = card["training"]["backdoor"]
        extra = f", attack success {planted['attack_success']:.3f}" if planted else ""
        line = f"{card['card']}  train {claims['train_accuracy']:.3f}, test "
        console().print(f"{line}{claims['test_accuracy']:.3f}{extra}", markup=False, soft_wrap=True)
    note(f"audit one: securitynet run membership,stealing,backdoor {cards[0]['card']}")
