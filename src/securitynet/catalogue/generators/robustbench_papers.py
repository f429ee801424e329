"""RobustBench's publication fields, free text, as publications."""

from __future__ import annotations

import re
from typing import Any

from securitynet.catalogue.generators.paper_table import arxiv_number
from securitynet.catalogue.generators.publications import completed, work
from securitynet.catalogue.schema import Publication

VENUE_TYPES = {
    "NeurIPS": "ml", "ICML": "ml", "ICLR": "ml", "IJCAI": "ml", "CVPR": "cv", "ICCV": "cv",
    "ECCV": "cv", "BMVC": "cv", "TMLR": "journal", "SIMODS": "journal",
    "Pattern Recognition": "journal", "arXiv": "preprint", "OpenReview": "preprint",
    "GitHub": "other", "ACC": "other", "ASP-DAC": "other",
}  # fmt: skip
BENCHMARK = Publication(
    title="RobustBench: a standardized adversarial robustness benchmark",
    authors=(
        "Francesco Croce", "Maksym Andriushchenko", "Vikash Sehwag", "Edoardo Debenedetti",
        "Nicolas Flammarion", "Mung Chiang", "Prateek Mittal", "Matthias Hein",
    ),
    venue="NeurIPS",
    venue_type="ml",
    year=2021,
    arxiv="2010.09670",
)  # fmt: skip
"""Of the plain baselines that the benchmark trained itself."""
HOME = "https://github.com/RobustBench/robustbench/"
_VENUE = re.compile(r"(?P<venue>[A-Za-z -]*[A-Za-z])[, ].*?(?P<year>(?:19|20)[0-9]{2})")
_AND = re.compile(r",? and |, ")


def publication(record: dict[str, Any]) -> Publication:
    """Return the publication of a record; of a plain baseline that of its network or benchmark.

    Authors are separated by commas or the word "and"; a venue is "NeurIPS 2021", "arXiv, Mar 2021"
    or "N/A"; a link is an arXiv page or another.
    """
    if record["link"] == HOME:
        return work("resnet") if record["authors"] else completed(BENCHMARK)
    authors = tuple(name.strip() for name in _AND.split(record["authors"]) if name.strip())
    venue, year = parse_venue(record["venue"])
    link = record["link"] or ""
    arxiv = arxiv_number(link)
    doi = link.partition("doi.org/")[2]
    stated = Publication(
        title=record["name"].strip() or None,
        authors=authors or None,
        venue=venue,
        venue_type=VENUE_TYPES[venue] if venue else None,
        year=year,
        arxiv=arxiv or None,
        doi=doi or None,
        url=None if arxiv or doi else link or None,
    )
    return completed(stated)


def parse_venue(text: str) -> tuple[str | None, int | None]:
    """Return venue and year of free text, both ``None`` if it names none."""
    found = _VENUE.fullmatch(text.replace("<br>", " ").strip())
    return (found["venue"].strip(), int(found["year"])) if found else (None, None)
