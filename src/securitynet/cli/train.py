"""``securitynet train``: self-trained models, backdoored ones with their clean twins."""

from __future__ import annotations

import json as json_module
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from securitynet.catalogue.database import find_card
from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    console,
    note,
    print_json,
    progress_bar,
    set_verbosity,
)
from securitynet.cli.run import parse_seeds


def train(
    architecture: Annotated[
        str, typer.Argument(metavar="ARCH", help="E.g. cnn_small, or library/name as in a card.")
    ],
    data: Annotated[str, typer.Option("--data", help="Data set name or folder.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of models.")] = Path(
        "securitynet-models"
    ),
    name: Annotated[str | None, typer.Option("--name", help="Name of the model.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="E.g. 0-9; one model each.")] = "0",
    backdoor: Annotated[
        str | None, typer.Option("--backdoor", help="badnets or blend; adds a clean twin.")
    ] = None,
    target_class: Annotated[
        int, typer.Option("--target-class", min=0, help="Class the trigger leads to.")
    ] = 0,
    poison_rate: Annotated[
        float, typer.Option("--poison-rate", min=0.001, max=0.9, help="Share poisoned.")
    ] = 0.1,
    start: Annotated[
        str | None, typer.Option("--from", help="Fine-tune this model (ARCH is then its own).")
    ] = None,
    n_train: Annotated[
        int | None, typer.Option("--n-train", min=2, help="At most N training images.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Passes.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", min=0.0, help="Peak learning rate.")] = None,
    weight_decay: Annotated[
        float | None, typer.Option("--weight-decay", min=0.0, help="L2 penalty.")
    ] = None,
    label_smoothing: Annotated[
        float | None, typer.Option("--label-smoothing", min=0.0, max=0.9, help="Smoothing.")
    ] = None,
    augment: Annotated[
        bool | None, typer.Option("--augment/--no-augment", help="Random crops and flips.")
    ] = None,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Train models of your own, to compare with public ones; each becomes a card to run."""
    set_verbosity(quiet, verbose)
    from securitynet.datasets.library import load_dataset
    from securitynet.training.backdoors import Trigger
    from securitynet.training.selftrained import TrainingPlan, train_models
    from securitynet.training.trainer import Recipe

    changes: dict[str, Any] = {
        "epochs": epochs,
        "lr": lr,
        "weight_decay": weight_decay,
        "label_smoothing": label_smoothing,
        "is_augmented": augment,
    }
    recipe = replace(Recipe(), **{k: v for k, v in changes.items() if v is not None})
    cards: list[dict[str, Any]] = []
    with progress_bar("train", quiet=quiet) as progress:
        dataset = load_dataset(data, progress=progress)
        trigger = None
        if backdoor is not None:
            trigger = Trigger(kind=backdoor, target=target_class)
        for seed in parse_seeds(seeds):
            plan = TrainingPlan(
                name=f"{_name(name, architecture, start, data, backdoor)}-s{seed}",
                architecture=architecture if "/" in architecture else f"securitynet/{architecture}",
                recipe=recipe,
                seed=seed,
                trigger=trigger,
                poison_rate=poison_rate,
                start=None if start is None else find_card(start),
                n_train=n_train,
            )
            cards += [_read(path) for path in train_models(plan, dataset, out, progress)]
    _print(cards, out, is_json=json)


def _name(
    name: str | None, architecture: str, start: str | None, data: str, backdoor: str | None
) -> str:
    if name:
        return name
    parts = [Path(start or architecture).name, Path(data).name, *([backdoor] if backdoor else [])]
    return "-".join(parts)


def _read(path: Path) -> dict[str, Any]:
    card: dict[str, Any] = json_module.loads(path.read_text(encoding="utf-8"))
    return {**card, "card": str(path)}


def _print(cards: list[dict[str, Any]], out: Path, *, is_json: bool) -> None:
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
