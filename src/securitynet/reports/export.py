"""Results for other tools: a long CSV, LaTeX tables, a pandas frame."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from securitynet.records import Evaluation, Measure
from securitynet.reports.tables import COLUMNS, TITLES
from securitynet.reports.wording import FAMILIES, figure, p_value, settings

if TYPE_CHECKING:
    import pandas as pd

COLUMNS_CSV = (
    "key", "model", "origin", "method", "config", "dataset", "seed", "status", "kind", "measure",
    "value", "low", "high", "n", "flags", "error",
)  # fmt: skip


def to_csv(records: Sequence[Evaluation]) -> str:
    """Return one row a measure or null; a record without figures keeps one row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS_CSV)
    for record in records:
        head = [
            record.key, record.model, record.origin, record.method,
            json.dumps(dict(record.config), sort_keys=True), record.dataset, record.seed,
            record.status,
        ]  # fmt: skip
        tail = [" ".join(record.flags), record.error or ""]
        for kind, name, m in _figures(record) or [("", "", Measure(None))]:
            writer.writerow([*head, kind, name, *map(_cell, (m.value, m.low, m.high, m.n)), *tail])
    return text.getvalue()


def _figures(record: Evaluation) -> list[tuple[str, str, Measure]]:
    measures = [("measure", name, m) for name, m in record.measures.items()]
    return measures + [("null", name, m) for name, m in record.nulls.items()]


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)


def to_frame(records: Sequence[Evaluation]) -> pd.DataFrame:
    """Return one row a record, with columns ``auc``, ``auc_low``, ``auc_high``, ``auc_n``, ..."""
    import pandas as pd

    rows = []
    for record in records:
        row = record.to_json()
        for group in ("measures", "nulls", "details", "blobs"):
            row.pop(group)
        for _, name, m in _figures(record):
            row |= {name: m.value, f"{name}_low": m.low, f"{name}_high": m.high, f"{name}_n": m.n}
        rows.append(row)
    return pd.DataFrame(rows)


def to_latex(records: Sequence[Evaluation]) -> str:
    """Return one booktabs table a threat."""
    parts = []
    for prefix, title in FAMILIES.items():
        mine = [r for r in records if r.method.startswith(prefix + ".") and r.status == "ok"]
        if mine:
            parts.append(_latex_table(mine, prefix, title))
    return "\n".join(parts)


def _latex_table(records: Sequence[Evaluation], prefix: str, title: str) -> str:
    names = [n for n in COLUMNS[prefix] if any(n in record.measures for record in records)]
    head = " & ".join(["Model", "Method", *(_tex(TITLES.get(name, name)) for name in names)])
    lines = [
        "\\begin{table}",
        f"\\caption{{{title}; 95\\% intervals.}}",
        f"\\begin{{tabular}}{{ll{'r' * len(names)}}}",
        "\\toprule",
        f"{head} \\\\",
        "\\midrule",
    ]
    for record in records:
        cells = [
            p_value(record.measures.get(n)) if n == "p_value" else figure(record.measures.get(n))
            for n in names
        ]
        row = " & ".join(_tex(cell) for cell in (record.model, settings(record), *cells))
        lines.append(f"{row} \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def _tex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
        "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"$<$", ">": r"$>$",
    }  # fmt: skip
    return "".join(special.get(character, character) for character in text)
