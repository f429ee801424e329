"""Where the audited models lie among the published ones: two charts a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from securitynet.datasets.imagenet import IMAGENETTE_PART
from securitynet.records import Evaluation, Measure
from securitynet.reports.charts import INK, PALETTE, Axis, Chart, Line, spread
from securitynet.reports.plots import Picture
from securitynet.reports.wording import by_model, shown

Row = Mapping[str, Any]
SOURCE = "paper"
SOURCE_NAME = "Zhang et al., USENIX Security 2024"
IMPLAUSIBLE = "implausible-claim"


@dataclass(frozen=True)
class _Comparison:
    """One pair of figures that is known of published and of audited models.

    Attributes:
        name: File name without ending.
        title: Heading.
        x: Name of the horizontal axis.
        y: Name of the vertical axis.
        published: The pair of a row's published claims, ``None`` where one is unknown.
        audited: The pair of a model's records, ``None`` where one is unknown.
    """

    name: str
    title: str
    x: str
    y: str
    published: Callable[[Mapping[str, float]], tuple[float, float] | None]
    audited: Callable[[Sequence[Evaluation]], tuple[float, Measure] | None]


def published_pictures(records: Sequence[Evaluation], rows: Iterable[Row]) -> list[Picture]:
    """Return charts that place the models of these records among published ones.

    Published are the figures of the paper's table (Zhang et al., USENIX Security 2024): membership
    inference by modified entropy against the overfitting gap, and the accuracy of stolen copies
    against that of their targets. Where a data set has no published model, all others are shown.
    Rows whose published figures are implausible are left out and counted; evaluations on a part of
    a model's classes compare with nothing and are left out.

    Args:
        records: Evaluations of any status, method and model.
        rows: The catalogue's rows, as JSON values.

    Returns:
        At most two pictures a data set; none where no model has both figures.
    """
    known = [row for row in rows if SOURCE in (row.get("source") or ())]
    records = [record for record in records if IMAGENETTE_PART.flag not in record.flags]
    datasets = sorted({record.dataset for record in records})
    found = [
        _picture(comparison, dataset, [r for r in records if r.dataset == dataset], known)
        for dataset in datasets
        for comparison in COMPARISONS
    ]
    return [picture for picture in found if picture is not None]


def _picture(
    comparison: _Comparison, dataset: str, records: Sequence[Evaluation], rows: Sequence[Row]
) -> Picture | None:
    pairs = {name: comparison.audited(mine) for (name, _), mine in by_model(records).items()}
    audited = {name: pair for name, pair in pairs.items() if pair is not None}
    known = [(row, pair) for row in rows if (pair := comparison.published(_claims(row)))]
    mine = [(row, pair) for row, pair in known if row.get("dataset") == dataset]
    among = mine or known
    points = [pair for row, pair in among if IMPLAUSIBLE not in (row.get("flags") or ())]
    if not audited or not points:
        return None
    where = f"on {shown(dataset)}" if mine else "on all data sets"
    chart = _chart(comparison, f"{comparison.title}, {shown(dataset)}", where, points, audited)
    caption = _caption(where, len(points), len(among) - len(points), is_same=bool(mine))
    return Picture(f"{comparison.name}-{dataset}", caption, chart)


def _caption(where: str, n: int, n_left_out: int, *, is_same: bool) -> str:
    parts = [
        f"Against the {n} models {where} that {SOURCE_NAME}, published figures of; theirs have no "
        "intervals and other samples, copies and query sets."
    ]
    if not is_same:
        parts.append("No published model was trained on this data set.")
    if n_left_out:
        parts.append(f"{n_left_out} with implausible figures are left out.")
    return " ".join(parts)


def _chart(
    comparison: _Comparison,
    title: str,
    where: str,
    points: Sequence[tuple[float, float]],
    audited: Mapping[str, tuple[float, Measure]],
) -> Chart:
    name = f"published {where} (n = {len(points)})"
    lines = [Line(tuple(points), INK, name, is_joined=False, marker="dot")]
    for i, (model, (x, measure)) in enumerate(audited.items()):
        lines += _mark(shown(model), x, measure, i)
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    return Chart(
        title, Axis(comparison.x, *spread(xs)), Axis(comparison.y, *spread(ys, (0, 1))),
        lines=tuple(lines),
    )  # fmt: skip


def _mark(name: str, x: float, measure: Measure, i: int) -> list[Line]:
    """Draw an audited model with its interval; those after the palette's end share the ink."""
    is_named = i < len(PALETTE)
    colour = i if is_named else INK
    label = name if is_named else "further audited models" if i == len(PALETTE) else ""
    y = measure.value or 0.0
    point = Line(((x, y),), colour, label, is_joined=False, marker="circle")
    if measure.low is None or measure.high is None:
        return [point]
    return [Line(((x, measure.low), (x, measure.high)), colour), point]


def _claims(row: Row) -> dict[str, float]:
    return {
        claim["metric"]: claim["value"]
        for claim in row["claims"]
        if claim["source"].partition(":")[0] == SOURCE
    }


def _published_leak(claims: Mapping[str, float]) -> tuple[float, float] | None:
    train, test = claims.get("train_accuracy"), claims.get("test_accuracy")
    auc = claims.get("paper_mia_mentropy_auc")
    return None if train is None or test is None or auc is None else (train - test, auc)


def _audited_leak(records: Sequence[Evaluation]) -> tuple[float, Measure] | None:
    for record in _fine(records, "mia.modified_entropy"):
        gap, auc = record.measures.get("gap"), record.measures.get("auc")
        is_global = not record.config.get("per_class")
        if is_global and gap and auc and gap.value is not None and auc.value is not None:
            return gap.value, auc
    return None


def _published_theft(claims: Mapping[str, float]) -> tuple[float, float] | None:
    target, copy = claims.get("test_accuracy"), claims.get("paper_steal_accuracy")
    return None if target is None or copy is None else (target, copy)


def _audited_theft(records: Sequence[Evaluation]) -> tuple[float, Measure] | None:
    thefts = _fine(records, "steal.knockoff")
    candidates = [record for record in thefts if "train-queries" not in record.flags]
    for record in sorted(candidates, key=_unlike_default):
        target, copy = record.measures.get("target_accuracy"), record.measures.get("accuracy")
        if target and copy and target.value is not None and copy.value is not None:
            return target.value, copy
    return None


def _unlike_default(record: Evaluation) -> tuple[bool, bool]:
    config = record.config
    return config.get("queries", "indist") != "indist", config.get("response") != "soft"


def _fine(records: Sequence[Evaluation], method: str) -> list[Evaluation]:
    return [record for record in records if record.method == method and record.status == "ok"]


COMPARISONS = (
    _Comparison(
        "published-membership", "Overfitting and membership inference",
        "train accuracy - test accuracy", "AUC of modified entropy", _published_leak, _audited_leak,
    ),
    _Comparison(
        "published-stealing", "Targets and stolen copies",
        "accuracy of the target", "accuracy of the copy", _published_theft, _audited_theft,
    ),
)  # fmt: skip
