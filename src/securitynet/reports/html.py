"""One self-contained HTML page: no script, no request, everything escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from securitynet import __version__
from securitynet.records import Evaluation
from securitynet.registry import methods
from securitynet.reports.canvas import png_uri, svg_uri
from securitynet.reports.plots import Picture, ReadArray, pictures
from securitynet.reports.sections import ABOUT_MODEL, Section, sections
from securitynet.reports.verdicts import verdicts
from securitynet.reports.wording import (
    FAMILIES,
    Labeller,
    by_model,
    cell,
    figure,
    flag_text,
    labeller,
    name_of,
    number,
    plain,
    sample_size,
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
        records: What to show, of any status; may be empty.
        read_array: Gives the array of a blob's sha256.
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
    page: str = _template().render(
        title=plain(title),
        introduction=introduction,
        models=models,
        threats={threat: FAMILIES[threat] for threat in asked},
        flags={plain(f): flag_text(f) for f in sorted({f for r in records for f in r.flags})},
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
    return templates.get_template("report.html")


def _model(
    anchor: str,
    name: tuple[str, str],
    records: Sequence[Evaluation],
    read_array: ReadArray,
    label: Labeller,
) -> dict[str, Any]:
    drawn = list(pictures(records, read_array, label))
    return {
        "anchor": anchor,
        "id": plain(name[0]),
        "dataset": plain(name[1]),
        "origin": plain(", ".join(sorted({record.origin for record in records}))),
        "weights": sorted({plain(record.weights_sha256) for record in records}),
        "facts": _facts(records),
        "verdicts": verdicts(records, label),
        "sections": [_section(section, label) for section in sections(records)],
        "pictures": {
            threat: [_picture(p) for p in drawn if _threat(p) == threat] for threat in FAMILIES
        },
    }


def _facts(records: Sequence[Evaluation]) -> dict[str, str]:
    """Return what was measured of the target itself."""
    found = {}
    for names in ABOUT_MODEL.values():
        for name in names:
            known = (r.measures.get(name) for r in records)
            first = next((m for m in known if m is not None and m.value is not None), None)
            if first is not None:
                found[name_of(name)] = figure(first)
    if "test accuracy" in found:
        found.pop("target accuracy", None)
    return found


def _threat(picture: Picture) -> str:
    start = picture.name.split("-", 1)[0]
    return {"membership": "mia", "stealing": "steal"}.get(start, "backdoor")


def _picture(picture: Picture) -> dict[str, Any]:
    if isinstance(picture.content, tuple):
        tiles = [{"tile": tile, "uri": png_uri(tile.png)} for tile in picture.content]
        return {"caption": picture.caption, "tiles": tiles}
    width = round(picture.content.get_size_inches()[0] * 96)
    return {"caption": picture.caption, "uri": svg_uri(picture.content), "width": width}


def _section(section: Section, label: Labeller) -> dict[str, Any]:
    nulls = sorted({name for record in section.records for name in record.nulls})
    names: list[str] = []
    for name in section.names:  # a page has room for every null by its name
        names += nulls if name == "null" else [name]
    rows = [
        {
            "method": label(record),
            "cells": [cell(record, name) for name in names],
            "n": sample_size(record),
            "queries": "-" if record.queries is None else f"{record.queries:,}",
            "seconds": "-" if record.seconds is None else number(record.seconds),
            "flags": [plain(flag) for flag in record.flags],
        }
        for record in section.records
    ]
    troubles = [
        (label(r), r.status, plain(r.error or "no reason given"), [plain(f) for f in r.flags])
        for r in section.troubles
    ]
    return {
        "threat": section.threat,
        "title": section.title,
        "heads": [name_of(name) for name in names],
        "rows": rows,
        "troubles": troubles,
    }


def _environments(records: Sequence[Evaluation]) -> list[dict[str, str]]:
    """Return the different environments behind the records, most frequent first."""
    counts: dict[tuple[tuple[str, str], ...], int] = {}
    for record in records:
        if record.environment and record.status == "ok":
            shown = tuple(_shown(record.environment).items())
            counts[shown] = counts.get(shown, 0) + 1
    return [dict(shown) for shown in sorted(counts, key=lambda shown: -counts[shown])]


def _shown(environment: Mapping[str, Any]) -> dict[str, str]:
    return {plain(name): plain(value) for name, value in environment.items()}


def _methods(records: Sequence[Evaluation]) -> list[dict[str, str]]:
    """Return the methods behind the records with version, options and source."""
    known = methods()
    found: dict[tuple[str, int], dict[str, str]] = {}
    for record in sorted(records, key=lambda record: (record.method, record.version)):
        method = known.get(record.method)
        found[record.method, record.version] = {
            "id": plain(record.method),
            "version": str(record.version),
            "summary": method.summary if method else "",
            "paper": method.paper if method else "not installed here",
            "soundness": method.soundness if method else "",
        }
    return list(found.values())
