"""``securitynet doctor``: environment, disk, data and store integrity."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from securitynet.api import store_folder
from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    note,
    print_facts,
    print_json,
    progress_bar,
    set_verbosity,
)
from securitynet.errors import EXIT_ENVIRONMENT, EXIT_INTEGRITY

PACKAGES = ("torch", "torchvision", "timm", "pytorchcv", "safetensors", "numpy", "scipy")
EXTRAS = {"onnx": "onnxruntime", "dp": "opacus"}
"""What `securitynet[NAME]` installs."""
MIN_TORCH = (2, 10)


def doctor(
    gc: Annotated[
        bool, typer.Option("--gc", help="Delete temporary files and arrays nobody names.")
    ] = False,
    catalogue: Annotated[
        bool, typer.Option("--catalogue", help="Say how complete the database of models is.")
    ] = False,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Check the environment, the data folders and every record of the store."""
    set_verbosity(quiet, verbose)
    if catalogue:
        from securitynet.cli.completeness import print_completeness

        print_completeness(store_folder(store), json=json, quiet=quiet)
        return
    with progress_bar("checking every record", quiet=quiet):
        facts = _facts(store_folder(store), gc=gc)
    if json:
        print_json(facts)
    else:
        print_facts(_said(facts))
    n_problems = len(facts["store_problems"]) + len(facts["environment_problems"])
    if gc and facts["deleted"] is None:
        note("nothing was deleted: see to the damaged records first")
    if not (json or quiet):
        note(f"{n_problems or 'no'} problem{'' if n_problems == 1 else 's'} found")
    if facts["store_problems"]:
        raise typer.Exit(EXIT_INTEGRITY)
    if facts["environment_problems"]:
        raise typer.Exit(EXIT_ENVIRONMENT)


def _facts(folder: Path, *, gc: bool) -> dict[str, Any]:
    from securitynet.catalogue.tables import rows
    from securitynet.datasets.library import dataset_rows
    from securitynet.files.folders import cache_folder, data_folders, mirror_folders
    from securitynet.runs.store import Store

    kept = Store(folder)
    problems = kept.problems()  # first: of a damaged record nobody knows which arrays it names
    return {
        "packages": _versions(PACKAGES),
        "extras": _versions(EXTRAS.values()),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "store": _folder(folder),
        "cache": _folder(cache_folder()),
        "data": [str(item) for item in data_folders()],
        "mirrors": [str(item) for item in mirror_folders()],
        "datasets": {row["name"]: row["is_available"] for row in dataset_rows()},
        "how_to_get": {r["name"]: r["how_to_get"] for r in dataset_rows() if not r["is_available"]},
        "by_hand": [row["name"] for row in dataset_rows() if row["by_hand"]],
        "models": len(rows()),
        "records": sum(1 for _ in kept.keys()),
        "deleted": kept.collect_garbage() if gc and not problems else None,
        "store_problems": problems,
        "environment_problems": _problems(),
    }


def _versions(names: Iterable[str]) -> dict[str, str | None]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _problems() -> list[str]:
    packages = _versions(PACKAGES)
    found = [f"{name} is not installed" for name, has in packages.items() if has is None]
    torch_version = packages["torch"]
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


def _said(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Say the facts in words."""
    packages = facts["packages"].items()
    found = ", ".join(f"{name} {has or 'missing'}" for name, has in packages)
    yield "environment", f"Python {facts['python']}, {found}, {facts['cores']} cores"
    yield "extras", ", ".join(map(_extra, EXTRAS, facts["extras"].values()))
    yield "results", f"{_place(facts['store'])}; {facts['records']:,} records (--store)"
    yield "cache", f"{_place(facts['cache'])} (SECURITYNET_CACHE)"
    yield "data folders", f"{', '.join(facts['data'])} (SECURITYNET_DATA)"
    mirrors = ", ".join(facts["mirrors"]) or "none"
    yield "weights folders", f"{mirrors} (SECURITYNET_MIRROR)"
    yield "catalogue", f"{facts['models']:,} models"
    yield from _said_of_data(facts)
    if facts["deleted"] is not None:
        yield "deleted", f"{facts['deleted']:,} files that nothing refers to"
    for problem in (*facts["store_problems"], *facts["environment_problems"]):
        yield "PROBLEM", problem


def _said_of_data(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Say which data sets are here, and how the others come here: most in the same way."""
    missing = [name for name, is_here in facts["datasets"].items() if not is_here]
    fetched = [name for name in missing if name not in facts["by_hand"]]
    yield "data sets here", ", ".join(name for name in facts["datasets"] if name not in missing)
    for name in missing:
        if name in facts["by_hand"]:
            yield f"data set {name}", f"not here: not downloaded: {facts['how_to_get'][name]}"
    if fetched:
        example = facts["how_to_get"][fetched[0]]
        yield "data sets fetched", f"when needed: {', '.join(fetched)}"
        yield "", f"without a network, {example} (others: securitynet list datasets --json)"


def _place(folder: dict[str, Any]) -> str:
    state = "" if folder["exists"] else ", not made yet"
    return f"{folder['path']}{state}, {folder['free_bytes'] / 2**30:.1f} GiB free"


def _extra(extra: str, has: str | None) -> str:
    package = EXTRAS[extra]
    return f"{package} {has}" if has else f"{package} missing (pip install 'securitynet[{extra}]')"
