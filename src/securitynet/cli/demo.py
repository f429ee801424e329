"""``securitynet demo``: the main job on real scans of digits, with no network, in two minutes.

Threads are not bound to cores here, as other commands do: the workers would share one.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from securitynet.api import store_folder
from securitynet.cli.common import (
    JsonOption,
    Progress,
    QuietOption,
    StoreOption,
    VerboseOption,
    console,
    note,
    print_json,
    progress_bar,
    set_verbosity,
)
from securitynet.errors import EXIT_FAILED, EXIT_OK
from securitynet.files.atomic import write_text
from securitynet.files.folders import cache_folder

if TYPE_CHECKING:
    from securitynet.records import Evaluation
    from securitynet.runs.store import Store
    from securitynet.training.selftrained import TrainingPlan

INTRODUCTION = (
    "Four small classifiers were trained just now on scikit-learn's digits (real scans of "
    "handwriting): one left to overfit, one regularised, one with a planted BadNets backdoor, "
    "and that one's clean twin. All three threats were then evaluated on each, membership "
    "with eight reference models."
)
OPTIONS = ("steal.knockoff.budgets=50,150,300",)


def demo(
    html: Annotated[Path, typer.Option("--html", help="Where the report goes.")] = Path(
        "securitynet-demo.html"
    ),
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Train four small models on digits, attack them all three ways, and write a report."""
    from securitynet.runs.store import Store

    set_verbosity(quiet, verbose)
    begin = time.monotonic()
    kept = Store(store_folder(store))
    with progress_bar("demo", quiet=quiet) as progress:
        progress(0.01, "loading torch")
        cards = _train(kept.folder / "models", _scaled(progress, 0.02, 0.3))
        records = _evaluate(cards, kept, _scaled(progress, 0.3, 0.95))
        progress(0.95, "drawing the report")
        _write_report(records, kept, html)
    if json:
        print_json([record.to_json() for record in records])
    else:
        from securitynet.reports.tables import print_tables

        print_tables(records, console())
        _say_next(html, cards, kept, time.monotonic() - begin)
    is_fine = all(record.status == "ok" for record in records)
    raise typer.Exit(EXIT_OK if is_fine else EXIT_FAILED)


def _scaled(progress: Progress, low: float, high: float) -> Progress:
    return lambda share, what: progress(low + (high - low) * share, what)


def plans() -> list[TrainingPlan]:
    """Return what the demo trains: overfitted, regularised, and backdoored (with its twin)."""
    from securitynet.training.backdoors import Trigger
    from securitynet.training.selftrained import TrainingPlan
    from securitynet.training.trainer import Recipe

    base = Recipe(label_smoothing=0.0, is_flipped=False)
    overfitted = replace(base, epochs=100, is_augmented=False, weight_decay=0.0)
    regularised = replace(base, epochs=20, weight_decay=5e-3)
    plain = replace(base, epochs=40, is_augmented=False)
    return [
        TrainingPlan("digits-overfitted", "securitynet/cnn_small", overfitted),
        TrainingPlan("digits-regularised", "securitynet/cnn_small", regularised),
        TrainingPlan(
            "digits-badnets",
            "securitynet/cnn_small",
            plain,
            trigger=Trigger(target=7),
        ),
    ]


def _train(folder: Path, progress: Progress) -> list[Path]:
    from securitynet.datasets.library import load_dataset
    from securitynet.training.references import ReferencePlan, train_references
    from securitynet.training.selftrained import train_models
    from securitynet.training.trainer import Recipe

    dataset = load_dataset("digits")
    recipe = Recipe(epochs=20, is_flipped=False)
    train_references(ReferencePlan(recipe=recipe), dataset, _scaled(progress, 0, 0.4))
    targets = _scaled(progress, 0.4, 1)
    cards: list[Path] = []
    todo = plans()
    for i, plan in enumerate(todo):
        part = _scaled(targets, i / len(todo), (i + 1) / len(todo))
        cards += train_models(plan, dataset, folder, part)
    return cards


def _evaluate(cards: list[Path], kept: Store, progress: Progress) -> list[Evaluation]:
    from securitynet.catalogue.cards import load_card
    from securitynet.runs.evaluate import Listener, plan, run
    from securitynet.runs.plan import Settings, choose_methods

    choices = choose_methods(["membership", "stealing", "backdoor"], OPTIONS)
    settings = Settings(cache=cache_folder())
    planned = plan(choices, [load_card(path) for path in cards], settings, kept)
    n_workers = min(2, os.cpu_count() or 1)  # scans of 8 x 8 pixels occupy one core each
    return run(planned, kept, n_workers=n_workers, listener=Listener(progress=progress))


def _write_report(records: list[Evaluation], kept: Store, html: Path) -> None:
    from securitynet.reports.html import render_html

    page = render_html(
        records, kept.read_array, title="SecurityNet demo", introduction=INTRODUCTION
    )
    write_text(html, page)


def _say_next(html: Path, cards: list[Path], kept: Store, seconds: float) -> None:
    note(f"\ndone in {seconds:.0f} s; open {html} in a browser. What next:")
    note("  securitynet list models                      public models, by name")
    note("  securitynet run membership,stealing,backdoor community/akamaster-resnet20")
    note(f"  securitynet run backdoor {cards[0]}")
    note(f"  securitynet report --store {kept.folder} --csv results.csv")
