"""Pictures of the evidence, drawn as static SVG and PNG: no script, no request, fit for print."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from securitynet.files.atomic import write_atomic
from securitynet.records import Evaluation
from securitynet.reports.wording import settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ReadArray = Callable[[str], NDArray[Any]]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555")
"""Okabe & Ito's palette, told apart by colour-blind readers."""


def _figure(n_columns: int, height: float = 3.2, width: float = 4.0) -> tuple[Figure, Any]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "font.size": 9, "svg.hashsalt": "securitynet"}):
        figure = Figure(figsize=(width * n_columns, height), layout="constrained")
        axes = figure.subplots(1, n_columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.6)
    return figure, axes


def roc(records: Sequence[Evaluation]) -> Figure | None:
    """Draw ROC curves with pointwise bands, on linear and logarithmic axes."""
    drawn = [record for record in records if "roc" in record.details]
    if not drawn:
        return None
    figure, axes = _figure(2)
    for i, record in enumerate(drawn):
        curve = {name: np.asarray(values) for name, values in record.details["roc"].items()}
        colour = COLOURS[i % len(COLOURS)]
        for axis in axes:
            axis.step(curve["fpr"], curve["tpr"], where="post", color=colour, linewidth=1.2,
                      label=settings(record))  # fmt: skip
            axis.fill_between(curve["fpr"], curve["low"], curve["high"], step="post",
                              color=colour, alpha=0.08, linewidth=0)  # fmt: skip
    diagonal = np.geomspace(1e-4, 1, 50)
    for axis in axes:
        axis.plot(diagonal, diagonal, color="#888888", linestyle=":", linewidth=1, label="chance")
        axis.set(xlabel="false positive rate", ylabel="true positive rate")
    axes[0].set(xlim=(0, 1), ylim=(0, 1), title="ROC with 95% bands")
    axes[1].set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(1e-3, 1), title="low FPR")
    axes[0].legend(fontsize=7, frameon=False, loc="lower right")
    return figure


def histograms(records: Sequence[Evaluation]) -> Figure | None:
    """Draw the scores of both groups for up to three records."""
    drawn = [record for record in records if "histogram" in record.details][:3]
    if not drawn:
        return None
    figure, axes = _figure(len(drawn), height=2.6)
    for axis, record in zip(axes, drawn, strict=True):
        content = dict(record.details["histogram"])
        edges = content.pop("edges")
        for (name, shares), colour in zip(content.items(), COLOURS, strict=False):
            axis.stairs(shares, edges, fill=True, alpha=0.45, color=colour, label=name)
        axis.set(title=settings(record), xlabel="score", ylabel="share")
        axis.legend(fontsize=7, frameon=False)
    return figure


def stealing(records: Sequence[Evaluation]) -> Figure | None:
    """Draw agreement, floor and accuracy against the query budget."""
    drawn = [record for record in records if "curve" in record.details]
    if not drawn:
        return None
    figure, axes = _figure(len(drawn))
    for axis, record in zip(axes, drawn, strict=True):
        curve = record.details["curve"]
        budgets = [point["budget"] for point in curve]
        for name, colour in zip(
            ("agreement", "floor_agreement", "accuracy"), COLOURS, strict=False
        ):
            middle = np.array([point[name]["value"] for point in curve])
            low = np.array([point[name]["low"] for point in curve])
            high = np.array([point[name]["high"] for point in curve])
            label = "floor (never asked)" if name == "floor_agreement" else name
            axis.errorbar(budgets, middle, [middle - low, high - middle], marker="o", markersize=4,
                          capsize=2, color=colour, linewidth=1.2, label=label)  # fmt: skip
        axis.set(xscale="log", xlabel="queries", ylabel="share of evaluation images",
                 title=settings(record))  # fmt: skip
        axis.set_xticks(budgets, [f"{budget:,}" for budget in budgets])
        axis.minorticks_off()
        axis.legend(fontsize=7, frameon=False)
    return figure


def trigger_norms(record: Evaluation) -> Figure | None:
    """Draw the size of the smallest trigger of each class; the suspicious class stands out."""
    norms = record.details.get("norms")
    if not norms:
        return None
    figure, axes = _figure(1, height=2.6, width=6.0)
    infected = int(record.measures["infected_label"].value or 0)
    colours = [COLOURS[1] if k == infected else COLOURS[0] for k in range(len(norms))]
    names = record.details.get("classes") or list(range(len(norms)))
    axes[0].bar(range(len(norms)), norms, color=colours)
    axes[0].set(ylabel="mask L1 norm (pixels)", title="Smallest trigger a class")
    if len(norms) <= 30:
        axes[0].set_xticks(range(len(norms)), [str(n) for n in names], rotation=30, fontsize=8)
    return figure


def trigger_image(record: Evaluation, read_array: ReadArray, side: int = 96) -> bytes | None:
    """Return a PNG of the reversed triggers, one a class: mask above, mask times pattern below."""
    if not {"masks", "patterns"} <= set(record.blobs):
        return None
    from PIL import Image

    masks = np.asarray(read_array(record.blobs["masks"]))[:20]
    patterns = np.asarray(read_array(record.blobs["patterns"]))[:20]
    shown = masks[..., None] * patterns
    rows = [np.repeat(masks[..., None], 3, -1), shown if shown.shape[-1] == 3 else
            np.repeat(shown, 3, -1)]  # fmt: skip
    tiles = [[_tile(image, side) for image in row] for row in rows]
    sheet = np.concatenate([np.concatenate(row, axis=1) for row in tiles])
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _tile(image: NDArray[Any], side: int) -> NDArray[np.uint8]:
    from PIL import Image

    picture = Image.fromarray(np.round(image.clip(0, 1) * 255).astype(np.uint8))
    large = np.asarray(picture.resize((side, side), Image.Resampling.NEAREST))
    return np.pad(large, ((2, 2), (2, 2), (0, 0)), constant_values=128)


def to_svg(figure: Figure) -> str:
    """Return a figure as an SVG element."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "securitynet"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def svg_uri(figure: Figure) -> str:
    """Return a figure as a data URI, so that hostile text in it stays inside an image."""
    return f"data:image/svg+xml;base64,{base64.b64encode(to_svg(figure).encode()).decode()}"


def png_uri(data: bytes) -> str:
    """Return a PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def pictures(
    records: Sequence[Evaluation], read_array: ReadArray
) -> Iterator[tuple[str, str, Figure | bytes]]:
    """Yield (name, caption, picture) for the records of one model."""
    fine = [record for record in records if record.status == "ok"]
    mia = [record for record in fine if record.method.startswith("mia.")]
    steal = [record for record in fine if record.method.startswith("steal.")]
    candidates: list[tuple[str, str, Figure | bytes | None]] = [
        ("roc", "Membership inference: ROC curves with pointwise 95% bands", roc(mia)),
        ("scores", "Scores of members and non-members", histograms(_telling(mia))),
        ("stealing", "Stealing: what a copy reaches for its queries", stealing(steal)),
    ]
    for record in fine:
        if "norms" in record.details:
            candidates.append(("triggers", "Reversed triggers: size", trigger_norms(record)))
            caption = "Reversed triggers: mask (above) and mask times pattern (below), by class"
            candidates.append(("trigger-images", caption, trigger_image(record, read_array)))
        elif record.method.startswith("backdoor."):
            caption = f"{record.method}: scores of clean and triggered inputs"
            candidates.append((record.method, caption, histograms([record])))
    yield from ((name, caption, item) for name, caption, item in candidates if item is not None)


def _telling(records: Sequence[Evaluation]) -> list[Evaluation]:
    """Put the records with continuous scores and the largest AUC first."""
    continuous = [record for record in records if record.method != "mia.correctness"]
    return sorted(continuous, key=lambda r: -(r.measures["auc"].value or 0.0))


def write_plots(records: Sequence[Evaluation], read_array: ReadArray, folder: Path) -> None:
    """Write every picture as SVG and PNG, one folder a model."""
    for model in dict.fromkeys(record.model for record in records):
        place = folder / "".join(c if c.isalnum() or c in "-_." else "-" for c in model).strip(".")
        mine = [record for record in records if record.model == model]
        for name, _, picture in pictures(mine, read_array):
            if isinstance(picture, bytes):
                _write(place / f"{name}.png", picture)
                continue
            _write(place / f"{name}.svg", to_svg(picture).encode())
            buffer = io.BytesIO()
            picture.savefig(buffer, format="png", dpi=150)
            _write(place / f"{name}.png", buffer.getvalue())


def _write(path: Path, data: bytes) -> None:
    write_atomic(path, lambda file: file.write(data))
