"""The Python interface: what the command line does, as functions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from securitynet.catalogue.cards import ModelCard
    from securitynet.records import Evaluation
    from securitynet.registry import Access
    from securitynet.targets.target import Target
    from securitynet.weights.inspect import ScanReport

DEFAULT_STORE = "securitynet-results"


def store_folder(folder: str | Path | None = None) -> Path:
    """Return the store's folder: as given, else ``SECURITYNET_STORE``, else the default."""
    return Path(folder or os.environ.get("SECURITYNET_STORE") or DEFAULT_STORE)


def models(*filters: str) -> pd.DataFrame:
    """Return the catalogue as a frame, one row a model, with columns such as ``weights.url``.

    ``claims.METRIC`` is the first value that is claimed of a metric; unknown is missing.

    Args:
        filters: ``"FIELD=VALUE"`` conditions, e.g. ``"dataset=cifar10"``.

    Raises:
        UsageError: If a filter names an unknown field.
    """
    import pandas as pd

    from securitynet.catalogue.database import select
    from securitynet.catalogue.flat import flatten
    from securitynet.catalogue.pins import known_rows

    columns, found = flatten(list(select(known_rows(), filters)))
    return pd.DataFrame(found, columns=columns)


def load(
    model: str | Path | ModelCard,
    *,
    access: Access | None = None,
    trust: str | Path | None = None,
) -> Target:
    """Open a model through the door and return it as a target.

    Args:
        model: Catalogue id, card file, folder with ``card.json``, or a card.
        access: The most that may be touched; ``None`` = everything, weights included.
        trust: An architecture file of your own that may be executed.

    Raises:
        SecurityNetError: If the model is unknown, unsafe, damaged or cannot be had.
    """
    from securitynet.files.folders import cache_folder
    from securitynet.targets.build import load_target

    trusted = None if trust is None else Path(trust)
    target = load_target(_card(model), trust=trusted, cache=cache_folder() / "outputs")
    return target if access is None else target.limited(access)


def _card(model: str | Path | ModelCard) -> ModelCard:
    from securitynet.catalogue.cards import ModelCard
    from securitynet.catalogue.database import find_card

    return model if isinstance(model, ModelCard) else find_card(str(model))


def evaluate(
    methods: str | Iterable[str],
    models: str | Path | ModelCard | Iterable[str | Path | ModelCard],
    *,
    data: str | Path | None = None,
    options: Mapping[str, Any] | Iterable[str] = (),
    seeds: Iterable[int] = (0,),
    limit: int | None = None,
    force: bool = False,
    trust: str | Path | None = None,
    n_workers: int = 1,
    store: str | Path | None = None,
    retry_failed: bool = False,
) -> list[Evaluation]:
    """Run methods on models and return the records; finished jobs are not run again.

    Args:
        methods: ``"membership"``, ``"stealing"``, ``"backdoor"`` or single methods.
        models: Catalogue ids, card files or cards.
        data: Name or folder of the data set; ``None`` = each model's own.
        options: ``{"method.key": value}`` or ``"method.key=value"`` texts.
        seeds: Seeds of seeded methods.
        limit: At most this many members, non-members and queries; at least 2.
        force: Overrule the accuracy gate; every figure is flagged.
        trust: An architecture file of your own that may be executed.
        n_workers: Number of worker processes; more than 1 needs a ``__main__`` guard.
        store: Folder of the store.
        retry_failed: Try failed and refused jobs again.

    Raises:
        SecurityNetError: For input that cannot be run; a failed job is a record, not an error.
    """
    from securitynet.catalogue.cards import ModelCard
    from securitynet.files.folders import cache_folder
    from securitynet.runs.evaluate import plan, run
    from securitynet.runs.plan import Settings, choose_methods
    from securitynet.runs.store import Store

    if isinstance(options, Mapping):
        options = [f"{name}={_text(value)}" for name, value in options.items()]
    settings = Settings(
        data=None if data is None else str(data),
        limit=limit,
        seeds=tuple(seeds),
        is_forced=force,
        trust=None if trust is None else Path(trust),
        cache=cache_folder(),
    )
    choices = choose_methods([methods] if isinstance(methods, str) else methods, options)
    asked = [models] if isinstance(models, str | Path | ModelCard) else list(models)
    kept = Store(store_folder(store))
    planned = plan(
        choices, [_card(item) for item in asked], settings, kept, is_retrying=retry_failed
    )
    return run(planned, kept, n_workers=n_workers)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def results(*filters: str, store: str | Path | None = None) -> pd.DataFrame:
    """Return the store's records as a frame: one row a record, one column a measure and bound.

    Args:
        filters: ``"FIELD=VALUE"`` conditions, e.g. ``"status=ok"``.
        store: Folder of the store.
    """
    from securitynet.reports.export import to_frame
    from securitynet.runs.store import Store, select_records, sort_records

    kept = Store(store_folder(store)).records()
    return to_frame(sort_records(select_records(kept, filters)))


def export(folder: str | Path, *filters: str, store: str | Path | None = None) -> list[Path]:
    """Write the catalogue and the store's records as Parquet, SQLite and Croissant files.

    Args:
        folder: A new or empty folder, or one that holds an earlier export.
        filters: ``"FIELD=VALUE"`` conditions on the records.
        store: Folder of the store.

    Returns:
        The files.

    Raises:
        SecurityNetError: If the folder holds anything else or cannot be written.
    """
    from securitynet import __version__
    from securitynet.catalogue import export as module
    from securitynet.catalogue.datasets import known_datasets
    from securitynet.catalogue.pins import known_rows
    from securitynet.runs.store import Store, select_records

    records = select_records(Store(store_folder(store)).records(), filters)
    facts = known_datasets().values()
    return module.export(Path(folder), known_rows(), records, facts, version=__version__)


def scan(path: str | Path) -> ScanReport:
    """Inspect a checkpoint file without executing anything in it.

    Raises:
        UsageError: If there is no such file.
    """
    from securitynet.weights.inspect import scan as inspect

    return inspect(Path(path))
