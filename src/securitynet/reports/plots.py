"""Pictures of the evidence behind a report, and as files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from securitynet.errors import IntegrityError
from securitynet.files.atomic import write_atomic
from securitynet.records import Evaluation
from securitynet.reports.charts import Chart
from securitynet.reports.curves import (
    MOST_CURVES,
    PEAK,
    auc_of,
    histogram,
    largest_margins,
    roc,
    stealing,
    trigger_norms,
)
from securitynet.reports.exposed import exposed_tiles
from securitynet.reports.paper import to_png
from securitynet.reports.svg import to_svg
from securitynet.reports.tiles import Tile, enlarged
from securitynet.reports.triggers import trigger_tiles
from securitynet.reports.wording import (
    Labeller,
    by_model,
    class_name,
    family,
    labeller,
    plain,
)

ReadArray = Callable[[str], NDArray[Any]]
MOST_HISTOGRAMS, MOST_DETECTORS = 2, 4
DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, IntegrityError)
"""What evidence that is not as methods leave it can raise: a picture is missed, not the report."""


@dataclass(frozen=True)
class Picture:
    """One picture of a model's records.

    Attributes:
        name: File name without ending, unique within the model.
        caption: What it shows and how to read it.
        content: A chart, tiles one a class, or nothing where the evidence cannot be drawn.
    """

    name: str
    caption: str
    content: Chart | tuple[Tile, ...] | None


def pictures(
    records: Sequence[Evaluation], read_array: ReadArray, label: Labeller | None = None
) -> Iterator[Picture]:
    """Yield the pictures of one model's records, in the order of a report.

    Evidence that is damaged or not in the store yields a picture without content, whose caption
    says so.

    Args:
        records: Records of one model on one data set, of any status.
        read_array: Gives the array of a blob's sha256.
        label: Names a record's method; made from ``records`` if left out.
    """
    label = label or labeller(records)
    fine = [record for record in records if record.status == "ok"]
    attacks = [record for record in fine if family(record) == "mia"]
    yield from _membership(attacks, label)
    yield from _exposed(attacks, read_array, label)
    yield from _theft([record for record in fine if family(record) == "steal"], label)
    detectors = [record for record in fine if family(record) == "backdoor"]
    for i, record in enumerate(detectors[:MOST_DETECTORS]):
        yield from _backdoor(record, f"-{i + 1}" if i else "", read_array, label)


def _drawn(
    name: str, caption: str, draw: Callable[[], Chart | tuple[Tile, ...] | None]
) -> Iterator[Picture]:
    try:
        content = draw()
    except DAMAGE as error:
        why = error.what if isinstance(error, IntegrityError) else "the evidence is damaged"
        yield Picture(name, f"Not drawn, {why}. {caption}", None)
        return
    if content:
        yield Picture(name, caption, content)


def _membership(records: Sequence[Evaluation], label: Labeller) -> Iterator[Picture]:
    n = sum(1 for record in records if record.details.get("roc"))
    caption = (
        f"Membership inference with pointwise 95% bands, for up to {MOST_CURVES} different curves "
        f"of {n} attacks. Attacks that rank all images alike share a line."
    )
    yield from _drawn("membership-roc", caption, lambda: roc(records, label))
    caption = "The same on log axes: what is found while few others are accused."
    yield from _drawn("membership-roc-log", caption, lambda: roc(records, label, is_log=True))
    for i, record in enumerate(_telling(records)):
        caption = f"Scores under {label(record)}: the less they overlap, the more the model leaks."
        name = f"membership-scores{f'-{i + 1}' if i else ''}"
        yield from _drawn(name, caption, partial(histogram, record, label))


def _exposed(
    records: Sequence[Evaluation], read_array: ReadArray, label: Labeller
) -> Iterator[Picture]:
    """Show the images that the attack finding most at a low false positive rate finds first."""
    having = [record for record in records if record.details.get("exposed")]
    if not having:
        return
    best = max(having, key=lambda record: _rate(record, "tpr_at_fpr_1pct"))
    caption = (
        f"The training images that {label(best)} ranks highest, and how many non-members score as "
        "high: the fewer, the surer it is that the model saw the image."
    )
    yield from _drawn("membership-exposed", caption, lambda: exposed_tiles(best, read_array))


def _rate(record: Evaluation, name: str) -> float:
    measure = record.measures.get(name)
    return -1.0 if measure is None or measure.value is None else measure.value


def _telling(records: Sequence[Evaluation]) -> list[Evaluation]:
    """Choose the histograms that show most: spread out, strong, and not of one ranking twice."""
    having = [
        record
        for record in records
        if record.details.get("histogram") and record.method != "mia.correctness"
    ]
    having.sort(key=lambda record: (_peak(record) > PEAK, -auc_of(record)))
    chosen: dict[object, Evaluation] = {}
    for record in having:
        chosen.setdefault(record.measures.get("auc") or record.key, record)
    return list(chosen.values())[:MOST_HISTOGRAMS]


def _peak(record: Evaluation) -> float:
    try:
        content = record.details["histogram"]
        return max(float(max(shares)) for name, shares in content.items() if name != "edges")
    except DAMAGE:
        return 1.0


def _theft(records: Sequence[Evaluation], label: Labeller) -> Iterator[Picture]:
    caption = (
        "What a copy reaches for its queries, with 95% intervals. Only the distance between "
        "agreement and floor is gained by asking the target."
    )
    try:
        charts: list[Chart | None] = [*stealing(records, label)]
    except DAMAGE:
        charts = [None]
        caption = f"Not drawn, the evidence is damaged. {caption}"
    for i, chart in enumerate(charts):
        yield Picture(f"stealing{f'-{i + 1}' if i else ''}", caption, chart)


def _backdoor(
    record: Evaluation, suffix: str, read_array: ReadArray, label: Labeller
) -> Iterator[Picture]:
    name = label(record)
    caption = (
        f"{name}: size of the smallest trigger found for each class; the most suspicious, "
        f"{class_name(record)}, stands out in colour."
    )
    yield from _drawn(f"trigger-norms{suffix}", caption, lambda: trigger_norms(record))
    caption = (
        f"{name}: the largest logit margin that any image reaches for each class; the most "
        f"suspicious, {class_name(record)}, stands out in colour."
    )
    yield from _drawn(f"margins{suffix}", caption, lambda: largest_margins(record))
    caption = f"{name}: reversed triggers, the mask (left) and the pattern seen through it (right)."
    yield from _drawn(f"trigger{suffix}", caption, lambda: trigger_tiles(record, read_array))
    caption = f"{name}: scores of clean and triggered inputs."
    yield from _drawn(f"detector-scores{suffix}", caption, lambda: histogram(record, label))


def write_plots(records: Sequence[Evaluation], read_array: ReadArray, folder: Path) -> None:
    """Write every picture as SVG and PNG, one folder a model and data set.

    Args:
        records: What to draw.
        read_array: Gives the array of a blob's sha256.
        folder: Where the folders go; made if absent.
    """
    label = labeller(records)
    for (model, dataset), mine in by_model(records).items():
        place = folder / _folder_name(model, dataset)
        for picture in pictures(mine, read_array, label):
            if isinstance(picture.content, tuple):
                for tile in picture.content:
                    _write(place / f"{picture.name}-{tile.label:03d}.png", enlarged(tile))
            elif picture.content is not None:
                _write(place / f"{picture.name}.svg", to_svg(picture.content).encode())
                _write(place / f"{picture.name}.png", to_png(picture.content))


def _folder_name(model: str, dataset: str) -> str:
    """Return a harmless name, with a digest because two ids may look alike after cleaning."""
    digest = sha256(f"{plain(model)}\n{plain(dataset)}".encode()).hexdigest()[:8]
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "-", model[-60:]).strip("-")
    return f"{cleaned}-{digest}"


def _write(path: Path, data: bytes) -> None:
    write_atomic(path, lambda file: file.write(data))
