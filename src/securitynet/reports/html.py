"""One self-contained HTML page: no script, no request, everything escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from securitynet import __version__
from securitynet.catalogue.tables import rows
from securitynet.records import Evaluation
from securitynet.registry import methods
from securitynet.reports.plots import Picture, ReadArray, pictures
from securitynet.reports.published import published_pictures
from securitynet.reports.sections import (
    Section,
    about_model,
    common_flags,
    sections,
    troubles_by_reason,
)
from securitynet.reports.svg import WIDTH, svg_uri
from securitynet.reports.tiles import png_uri
from securitynet.reports.verdicts import Verdict, verdicts
from securitynet.reports.wording import (
    FAMILIES,
    Labeller,
    by_model,
    cell,
    count,
    flag_text,
    labeller,
    name_of,
    number,
    sample_size,
    sentence,
    shown,
    split_figure,
    split_label,
    unbroken,
)

MOST_WEIGHTS = 8
"""One model has one checkpoint, save where a name was used again."""


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
        records: What to show, of any status; may be empty.
        read_array: Gives the array of a blob's sha256; where it raises ``IntegrityError``, the
            page says that the picture is missing.
        title: Title of the page.
        introduction: One paragraph.
        environment: Versions and device; taken from the records if left out.
    """
    label = labeller(records)
    models = [
        _model(f"m{i}", name, mine, read_array, label)
        for i, (name, mine) in enumerate(by_model(records).items(), start=1)
    ]
    asked = [t for t in FAMILIES if any(v.threat == t for m in models for v in m["verdicts"])]
    flags = sorted({flag for record in records for flag in record.flags})
    page: str = _template().render(
        title=shown(title),
        introduction=sentence(introduction),
        models=models,
        published=[_picture(p) for p in published_pictures(records, rows())],
        threats={threat: FAMILIES[threat] for threat in asked},
        flags={shown(flag): flag_text(flag) for flag in flags},
        environments=[_shown(environment)] if environment else _environments(records),
        methods=_methods(records),
        version=__version__,
        n_records=len(records),
        n_failed=sum(record.status != "ok" for record in records),
    )
    return page


def _template() -> Any:
    templates = Environment(
        loader=PackageLoader("securitynet", "reports/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"unbroken": unbroken, "split_figure": split_figure}
    return templates.get_template("report.html")


def _model(
    anchor: str,
    name: tuple[str, str],
    records: Sequence[Evaluation],
    read_array: ReadArray,
    label: Labeller,
) -> dict[str, Any]:
    drawn = list(pictures(records, read_array, label))
    weights = sorted({record.weights_sha256 for record in records})
    return {
        "anchor": anchor,
        "id": shown(name[0]),
        "dataset": shown(name[1]),
        "origin": shown(", ".join(sorted({record.origin for record in records}))),
        "weights": [shown(sha) for sha in weights[:MOST_WEIGHTS]],
        "verdicts": _merged(verdicts(records, label)),
        "sections": [_section(section, label) for section in sections(records)],
        "pictures": {
            threat: [_picture(p) for p in drawn if _threat(p) == threat] for threat in FAMILIES
        },
    }


def _merged(found: Sequence[Verdict]) -> list[Verdict]:
    """Say a refusal's reason once: the threats after the first refer to it."""
    seen: set[str] = set()
    merged = []
    for verdict in found:
        is_repeated = verdict.word == "Not evaluated" and verdict.sentence in seen
        text = "Not evaluated, for the same reason." if is_repeated else verdict.sentence
        merged.append(replace(verdict, sentence=text))
        seen.add(verdict.sentence)
    return merged


def _threat(picture: Picture) -> str:
    start = picture.name.split("-", 1)[0]
    return {"membership": "mia", "stealing": "steal"}.get(start, "backdoor")


def _picture(picture: Picture) -> dict[str, Any]:
    found: dict[str, Any] = {"caption": picture.caption, "tiles": None, "uri": None}
    if isinstance(picture.content, tuple):
        found["tiles"] = [{"tile": tile, "uri": png_uri(tile.png)} for tile in picture.content]
    elif picture.content is not None:
        alt = picture.content.description
        found |= {"uri": svg_uri(picture.content), "width": WIDTH, "alt": alt}
    return found


def _section(section: Section, label: Labeller) -> dict[str, Any]:
    nulls = sorted({name for record in section.records for name in record.nulls})
    names: list[str] = []
    for name in (*section.names, *section.others):  # a page has room for every null by its name
        names += nulls if name == "null" else [name]
    names += [name for name in nulls if name not in names]
    joint = common_flags(section.records)
    return {
        "threat": section.threat,
        "title": section.title,
        "heads": [shown(name_of(name), 40) for name in names],
        "rows": [_row(record, names, label, joint) for record in section.records],
        "facts": about_model(section.records, section.threat),
        "flags": [shown(flag) for flag in joint],
        "troubles": [
            {"names": ", ".join(dict.fromkeys(labels)), "status": status, "reason": reason}
            for (status, reason), labels in troubles_by_reason(section.troubles, label).items()
        ],
    }


def _row(
    record: Evaluation, names: Sequence[str], label: Labeller, joint: Sequence[str]
) -> dict[str, Any]:
    method, options = split_label(label(record))
    return {
        "method": method,
        "options": ", ".join(options),
        "cells": [cell(record, name) for name in names],
        "n": sample_size(record),
        "queries": count(record.queries),
        "seconds": "-" if record.seconds is None else number(record.seconds),
        "flags": [shown(flag) for flag in record.flags if flag not in joint],
    }


def _environments(records: Sequence[Evaluation]) -> list[dict[str, str]]:
    """Return the different environments behind the records, most frequent first."""
    counts: dict[tuple[tuple[str, str], ...], int] = {}
    for record in records:
        if record.environment and record.status == "ok":
            found = tuple(_shown(record.environment).items())
            counts[found] = counts.get(found, 0) + 1
    return [dict(found) for found in sorted(counts, key=lambda found: -counts[found])]


def _shown(environment: Mapping[str, Any]) -> dict[str, str]:
    return {shown(name): shown(value) for name, value in environment.items()}


def _methods(records: Sequence[Evaluation]) -> list[dict[str, str]]:
    """Return the methods behind the records with version, options and source."""
    known = methods()
    found: dict[tuple[str, int], dict[str, str]] = {}
    for record in sorted(records, key=lambda record: (record.method, record.version)):
        method = known.get(record.method)
        found[record.method, record.version] = {
            "id": shown(record.method),
            "version": str(record.version),
            "summary": method.summary if method else "",
            "paper": method.paper if method else "not installed here",
            "soundness": method.soundness if method else "",
        }
    return list(found.values())
