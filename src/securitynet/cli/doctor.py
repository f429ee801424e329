"""``securitynet doctor``: environment, disk, data and store integrity."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from securitynet.api import store_folder
from securitynet.catalogue.database import all_cards
from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    console,
    print_json,
    set_verbosity,
)
from securitynet.errors import EXIT_ENVIRONMENT, EXIT_INTEGRITY
from securitynet.files.folders import cache_folder, data_folders, mirror_folders

PACKAGES = ("torch", "torchvision", "timm", "pytorchcv", "safetensors", "numpy", "scipy")
MIN_TORCH = (2, 10)


def doctor(
    gc: Annotated[
        bool, typer.Option("--gc", help="Delete temporary files and arrays nobody names.")
    ] = False,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Check the environment, the data folders and every record of the store."""
    from securitynet.datasets.library import dataset_rows
    from securitynet.runs.store import Store

    set_verbosity(quiet, verbose)
    kept = Store(store_folder(store))
    facts: dict[str, Any] = {
        "packages": _packages(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "store": _folder(kept.folder),
        "cache": _folder(cache_folder()),
        "data": [str(folder) for folder in data_folders()],
        "mirrors": [str(folder) for folder in mirror_folders()],
        "datasets": {row["name"]: row["is_available"] for row in dataset_rows()},
        "models": len(all_cards()),
        "records": sum(1 for _ in kept.keys()),
        "deleted": kept.collect_garbage() if gc else None,
        "store_problems": kept.problems(),
        "environment_problems": _problems(),
    }
    if json:
        print_json(facts)
    else:
        _print(facts)
    if facts["store_problems"]:
        raise typer.Exit(EXIT_INTEGRITY)
    if facts["environment_problems"]:
        raise typer.Exit(EXIT_ENVIRONMENT)


def _packages() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _problems() -> list[str]:
    found = [f"{name} is not installed" for name, has in _packages().items() if has is None]
    torch_version = _packages()["torch"]
    if torch_version is not None:
        numbers = tuple(int(part) for part in torch_version.split("+")[0].split(".")[:2])
        if numbers < MIN_TORCH:
            found.append(f"torch {torch_version} is older than 2.10: loading files is not safe")
    if os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        found.append("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set: unset it")
    return found


def _folder(folder: Path) -> dict[str, Any]:
    nearest = folder.resolve()
    while not nearest.exists():
        nearest = nearest.parent
    free = shutil.disk_usage(nearest).free
    return {"path": str(folder), "exists": folder.exists(), "free_bytes": free}


def _print(facts: dict[str, Any]) -> None:
    out = console()
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {_word(item)}" for key, item in value.items())
        elif isinstance(value, list):
            value = "; ".join(map(str, value)) or "none"
        if value is not None:
            out.print(f"{name.replace('_', ' '):<22} {value}", markup=False, soft_wrap=True)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value / 2**30:.1f} GiB"
    return str(value)
