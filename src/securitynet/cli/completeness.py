"""``securitynet doctor --catalogue``: how complete the database of models is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securitynet.cli.columns import Column, fitting, heading, room
from securitynet.cli.common import line, note, print_facts, print_json

if TYPE_CHECKING:
    from securitynet.catalogue.tables import Row


def print_completeness(store: Path, *, json: bool, quiet: bool) -> None:
    """Print how many models are catalogued, verified and evaluated, and the filled facts.

    Args:
        store: Folder of the results that count as evaluations.
        json: Print JSON only.
        quiet: Leave out what is said besides.
    """
    found = completeness(store)
    if json:
        print_json(found)
        return
    states = found["models"]
    print_facts((
        ("catalogued", f"{states['catalogued']:,} models"),
        ("of these", f"{found['evaluable']:,} can be evaluated on data that anybody may fetch"),
        ("", f"{found['evaluable_by_proxy']:,} more with Imagenette as a proxy of ImageNet-1k"),
        ("bytes verified", f"{states['verified']:,} models"),
        ("evaluated", f"{states['evaluated']:,} models, in this store and by the catalogue"),
    ))  # fmt: skip
    sys.stdout.write("\n")
    _print_table(found)
    if not quiet:
        note("\nrows that have the fact; every share: add --json")


def completeness(store: Path) -> dict[str, Any]:
    """Return counts and fill rates of the catalogue, with what a store adds to them."""
    from securitynet.catalogue.completeness import counts, fill_rates, states
    from securitynet.catalogue.tables import rows
    from securitynet.runs.store import Store
    from securitynet.weights.verified import UNVERIFIED

    tried = [
        (record.model, record.status == "ok", UNVERIFIED not in record.flags)
        for record in Store(store).records()
    ]
    return {
        "models": states(rows(), tried),
        "evaluable": n_evaluable(),
        "evaluable_by_proxy": n_evaluable(by_proxy=True),
        "providers": counts(rows()),
        "facts": fill_rates(rows()),
    }


def n_evaluable(*, by_proxy: bool = False) -> int:
    """Return how many models a run accepts on a data set that it finds by name without a gate.

    The data set must be one that `load_dataset` knows, with the model's classes, one label an
    image, and its kind of images; the network one that is built here; and the weights published.

    Args:
        by_proxy: Count those that need a gated data set with an open part of it instead.
    """
    from securitynet.catalogue.database import card_of
    from securitynet.catalogue.tables import rows
    from securitynet.datasets.imagenet import IMAGENETTE_PART
    from securitynet.datasets.library import DATASETS
    from securitynet.targets.left_out import why_not

    whole = IMAGENETTE_PART.whole, IMAGENETTE_PART.num_classes

    def has_data(row: Row) -> bool:
        if by_proxy:
            return (row["dataset"], row["num_classes"]) == whole
        data = DATASETS.get(row["dataset"])
        if data is None or data.is_gated or data.part is not None:
            return False
        depths = {data.depth, row["input"]["depth"]}
        return len(depths) == 1 and len(data.classes) == row["num_classes"]

    fitting = [row for row in rows() if has_data(row) and "multi-label" not in row["flags"]]
    return sum(why_not(card_of(row)) is None for row in fitting)


def _print_table(found: dict[str, Any]) -> None:
    names = ["total", *(name for name in found["providers"] if name != "total")]
    columns = [Column("fact", "fact")]
    columns += [
        Column(name, f"{name} ({found['providers'][name]:,})", is_right=True, rank=rank)
        for rank, name in enumerate(names)
    ]
    cells = [
        [row["fact"], *(share_in_words(row[name]["share"]) for name in names)]
        for row in found["facts"]
    ]
    shown, lines = fitting(columns, cells, room())
    sys.stdout.write(heading(lines[0]) + "\n")
    for text in lines[1:]:
        line(text)
    left_out = [column.title for column in columns if column not in shown]
    if left_out:
        note(f"no room for {', '.join(left_out)}")


def share_in_words(share: float) -> str:
    """Return a share in percent that is 100% only if nothing is missing, and 0% only if all is."""
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{min(max(100 * share, 0.1), 99.9):.1f}%"
