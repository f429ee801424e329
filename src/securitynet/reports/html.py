"""One self-contained HTML page: no script, no request, everything escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from securitynet import __version__
from securitynet.records import Evaluation
from securitynet.reports.plots import ReadArray, pictures, png_uri, svg_uri
from securitynet.reports.tables import COLUMNS, TITLES
from securitynet.reports.wording import (
    FAMILIES,
    FLAGS,
    by_model,
    figure,
    p_value,
    settings,
    verdicts,
)


def render_html(
    records: Sequence[Evaluation],
    read_array: ReadArray,
    *,
    title: str,
    introduction: str = "",
    environment: Mapping[str, Any] | None = None,
) -> str:
    """Return the report as one HTML page.

    Args:
        records: What to show.
        read_array: Gives the array of a blob's sha256.
        title: Title of the page.
        introduction: One paragraph.
        environment: Versions and device; taken from the records if left out.
    """
    templates = Environment(
        loader=PackageLoader("securitynet", "reports/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = environment or next((r.environment for r in records if r.status == "ok"), {})
    return templates.get_template("report.html").render(
        title=title,
        introduction=introduction,
        models=[_model(name, mine, read_array) for name, mine in by_model(records)],
        flags={f: FLAGS.get(f, "") for f in sorted({f for r in records for f in r.flags})},
        environment=shown,
        version=__version__,
        n_records=len(records),
    )


def _model(name: str, records: Sequence[Evaluation], read_array: ReadArray) -> dict[str, Any]:
    drawn = [
        {
            "caption": caption,
            "uri": png_uri(picture) if isinstance(picture, bytes) else svg_uri(picture),
        }
        for _, caption, picture in pictures(records, read_array)
    ]
    first = records[0]
    return {
        "id": name,
        "dataset": first.dataset,
        "sha256": first.weights_sha256,
        "verdicts": verdicts(records),
        "tables": [_table(records, prefix) for prefix in FAMILIES if _has(records, prefix)],
        "pictures": drawn,
        "errors": sorted({f"{r.method} {r.status}: {r.error}" for r in records if r.error}),
    }


def _has(records: Sequence[Evaluation], prefix: str) -> bool:
    return any(r.method.startswith(prefix + ".") and r.status == "ok" for r in records)


def _table(records: Sequence[Evaluation], prefix: str) -> dict[str, Any]:
    mine = [r for r in records if r.method.startswith(prefix + ".") and r.status == "ok"]
    wanted = COLUMNS[prefix]
    names = [name for name in wanted if any(name in record.measures for record in mine)]
    nulls = sorted({name for record in mine for name in record.nulls})
    rows = [
        [
            settings(record),
            *(_cell(record, name) for name in names),
            *(figure(record.nulls.get(name)) for name in nulls),
            f"{max((m.n or 0) for m in record.measures.values()):,}",
            f"{record.queries or 0:,}",
            f"{record.seconds or 0:.1f}",
            " ".join(record.flags),
        ]
        for record in mine
    ]
    heads = ["method", *(TITLES.get(n, n.replace("_", " ")) for n in names), *nulls]
    return {
        "title": FAMILIES[prefix],
        "heads": [*heads, "n", "queries", "s", "flags"],
        "rows": rows,
    }


def _cell(record: Evaluation, name: str) -> str:
    measure = record.measures.get(name)
    if name == "p_value":
        return p_value(measure)
    if name == "infected_label" and measure is not None and measure.value is not None:
        return f"{measure.value:.0f}"
    return figure(measure)
