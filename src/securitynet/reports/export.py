"""Results for other tools: a long CSV, LaTeX tables, a pandas frame."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from securitynet.catalogue.flat import flatten
from securitynet.records import Evaluation, Measure, canonical_json
from securitynet.reports.sections import Section, sections
from securitynet.reports.wording import Labeller, cell, labeller, name_of, plain

if TYPE_CHECKING:
    import pandas as pd

CSV_COLUMNS = (
    "key", "model", "origin", "method", "version", "config", "dataset", "limit", "seed", "status",
    "kind", "measure", "value", "low", "high", "n", "flags", "error",
)  # fmt: skip
FORMULA_STARTS = ("=", "+", "-", "@")
"""Spreadsheets run cells that begin so; ids and errors come from strangers."""


def to_csv(records: Sequence[Evaluation]) -> str:
    """Return one row a measure (kind ``measure``) or null (kind ``control``).

    A record without figures keeps one row. No kind is called ``null``, which pandas would read as
    a missing value. Numbers have full precision and unknown ones are empty. Texts that a
    spreadsheet would run as a formula begin with an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for record in records:
        head = [
            harmless(record.key), harmless(record.model), harmless(record.origin),
            harmless(record.method), record.version,
            json.dumps(dict(record.config), sort_keys=True), harmless(record.dataset),
            _exact(record.limit), record.seed, harmless(record.status),
        ]  # fmt: skip
        tail = [harmless(" ".join(record.flags)), harmless(record.error or "")]
        for kind, name, m in _figures(record) or [("", "", Measure(None))]:
            numbers = map(_exact, (m.value, m.low, m.high, m.n))
            writer.writerow([*head, kind, harmless(name), *numbers, *tail])
    return text.getvalue()


def harmless(text: str) -> str:
    """Return a text that neither a terminal nor a spreadsheet acts on."""
    return f"'{plain(text)}" if text.startswith(FORMULA_STARTS) else plain(text)


def _figures(record: Evaluation) -> list[tuple[str, str, Measure]]:
    measures = [("measure", name, measure) for name, measure in record.measures.items()]
    return measures + [("control", name, measure) for name, measure in record.nulls.items()]


def _exact(value: float | None) -> str:
    return "" if value is None else repr(value)


def rows_to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of any listing, one column a dotted field (``weights.url``).

    Unknown is empty; a list, or a field that each row fills in its own way, is a cell of JSON.
    """
    columns, flat = flatten(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([harmless(name) for name in columns])
    writer.writerows([_csv_cell(row.get(name)) for name in columns] for row in flat)
    return text.getvalue()


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return harmless(value)
    return repr(value) if isinstance(value, float) else harmless(canonical_json(value))


def to_frame(records: Sequence[Evaluation]) -> pd.DataFrame:
    """Return one row a record, with columns ``auc``, ``auc_low``, ``auc_high``, ``auc_n``, ...

    Curves and blobs are left out; unknown figures are missing values.
    """
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
    r"""Return one table a threat, for ``\usepackage{booktabs}``; everything is escaped."""
    label = labeller(records)
    return "\n".join(_latex_table(s, label) for s in sections(records) if s.records)


def _latex_table(section: Section, label: Labeller) -> str:
    columns = ["Model", "Method", *(_tex(name_of(name)) for name in section.names)]
    lines = [
        r"\begin{table}",
        r"\centering\footnotesize",
        rf"\caption{{{section.title}; 95\% intervals in brackets.}}",
        rf"\begin{{tabular}}{{ll{'r' * len(section.names)}}}",
        r"\toprule",
        rf"{' & '.join(columns)} \\",
        r"\midrule",
    ]
    many = len({record.dataset for record in section.records}) > 1
    last = None
    for record in section.records:
        model = f"{record.model} on {record.dataset}" if many else record.model
        cells = [_tex_figure(cell(record, name)) for name in section.names]
        start = "" if model == last else _tex(model)
        lines.append(rf"{' & '.join([start, _tex(label(record)), *cells])} \\")
        last = model
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _tex_figure(text: str) -> str:
    return "--" if text == "-" else re.sub(r"-(?=\d)", "$-$", _tex(text))


def _tex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
        "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"$<$", ">": r"$>$", "�": "?", "…": r"\dots{}",
    }  # fmt: skip
    escaped = "".join(special.get(character, character) for character in plain(text))
    # after a line's end, TeX would read a leading bracket or star as an argument of that end
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped
