"""Projects that the SecurityNet authors link: papers with weights somewhere, not models."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from securitynet.catalogue.generators.paper_table import (
    VENUE_TYPES,
    arxiv_number,
    csv_text,
    link,
    read_projects,
    shipped_rows,
)

Lead = dict[str, str]
"""One project, `COLUMNS` -> text; "" = not known, ``is_usable`` = ``yes`` or ``no``."""
COLUMNS = (
    "title", "venue", "venue_type", "year", "paper_url", "arxiv", "weights_url", "host", "note",
    "is_usable", "reason",
)  # fmt: skip
NO_WEIGHTS = ("no model", "no weights")
OTHER_TASKS = (
    "img2img", "img2img not cls", "image denoising", "image restoration", "text2img", "VQA",
    "diffusion models", "audio-visual", "segmentation",
)  # fmt: skip
TITLES = {
    "ask-recency bias strikes back: Adapting covariances in Exemplar-Free Class Incremental "
    "Learning": "Task-recency bias strikes back: Adapting covariances in Exemplar-Free Class "
    "Incremental Learning",
    "Group DETR: Fast DETR Training with Group-Wise One-to-Many Assignmen": "Group DETR: Fast DETR "
    "Training with Group-Wise One-to-Many Assignment",
    "MIRROR: Model Inversion for Deep LearningNetwork with High Fidelity": "MIRROR: Model "
    "Inversion for Deep Learning Network with High Fidelity",
}
"""Titles that the table cut or glued."""
_REMARK = re.compile(r"\s*\((?:NeurIPS|ICML|ICLR|CVPR)[^)]*\)$")


def leads() -> list[Lead]:
    """Return the shipped projects, in the published order.

    The table is ``data/leads.csv``; nobody has looked whether a usable one really holds a
    classifier's weights.
    """
    return shipped_rows("leads.csv")


def lead_rows() -> list[dict[str, Any]]:
    """Return the shipped projects as JSON values; unknown is ``None``."""
    return [
        {name: text or None for name, text in lead.items()}
        | {"year": int(lead["year"]), "is_usable": lead["is_usable"] == "yes"}
        for lead in leads()
    ]


def leads_text(markdown: str) -> str:
    """Return the text of the CSV table of projects of the published Markdown."""
    return csv_text(COLUMNS, map(_lead, read_projects(markdown)))


def _lead(cells: dict[str, str]) -> Lead:
    weights = _address(link(cells["Weights"]))
    paper = _address(link(cells["Paper Link"]))
    reason = _reason(cells["Note"])
    return {
        "title": clean_title(cells["Title"]),
        "venue": cells["Conference"],
        "venue_type": VENUE_TYPES[cells["Conference Type"]],
        "year": cells["Year"],
        "paper_url": "" if paper == weights else paper,
        "arxiv": arxiv_number(paper),
        "weights_url": weights,
        "host": (urlsplit(weights).hostname or "").removeprefix("www."),
        "note": cells["Note"],
        "is_usable": "no" if reason else "yes",
        "reason": reason,
    }


def clean_title(title: str) -> str:
    """Return a title without venue remarks, "Official Code of" and a last full stop."""
    plain = _REMARK.sub("", title).removeprefix("Official Code of ").rstrip(".")
    return TITLES.get(plain, plain)


def _address(url: str) -> str:
    """Return an address in one form, "" if it is none (one cell holds a title)."""
    if not url.startswith(("https://", "http://")):
        return ""
    plain = url.replace("http://", "https://", 1).replace("//www.github.com", "//github.com")
    return plain.removesuffix("?tab=readme-ov-file").removesuffix(".git")


def _reason(note: str) -> str:
    if note in NO_WEIGHTS:
        return "the table says that it holds no weights"
    if note in OTHER_TASKS:
        return f"not a classifier: {note}"
    return ""
