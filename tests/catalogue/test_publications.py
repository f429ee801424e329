"""The table of publications that is checked by hand: its form, and what it covers."""

import json
import re
from collections import Counter

import pytest

from securitynet.catalogue.generators.publications import by_family, completed, work
from securitynet.catalogue.generators.robustbench_papers import publication
from securitynet.catalogue.schema import VENUE_TYPES, Publication
from securitynet.catalogue.tables import data_folder, rows

TABLE = json.loads(data_folder().joinpath("publications.json").read_text(encoding="utf-8"))
WORKS, FAMILIES, ADDITIONS = TABLE["works"], TABLE["families"], TABLE["additions"]
COUNTRIES = set(
    "AE AR AT AU BE BR CA CH CL CN CZ DE DK ES FI FR GB GR HK HU IE IL IN IR IT JP KR LU MO MX "
    "MY NL NO NZ PL PT QA RO RU SA SE SG TH TR TW UA US VN ZA".split()
)
"""ISO 3166-1 codes that may stand in the table."""
VENUES = {
    "AAAI": "ml", "ACM Transactions on Graphics": "journal", "BMVC": "cv", "CVPR": "cv",
    "CVPR Findings": "cv", "CVPR Workshops": "cv", "Computational Visual Media": "journal",
    "ECCV": "cv", "ECCV Workshops": "cv", "ECML PKDD": "ml", "ICCV": "cv", "ICCV Workshops": "cv",
    "ICIP": "cv", "ICLR": "ml", "ICLR Workshops": "ml", "ICML": "ml", "IEEE Transactions on "
    "Neural Networks and Learning Systems": "journal", "IJCNN": "ml", "IJCV": "journal",
    "Image and Vision Computing": "journal", "NeurIPS": "ml", "TCSVT": "journal",
    "TMLR": "journal", "TPAMI": "journal", "UAI": "ml", "WACV": "cv", "arXiv": "preprint",
}  # fmt: skip
RECORDS = [*WORKS.items(), *ADDITIONS.items()]
NAME = re.compile(r"[^\W\d_][^,;@{}\\]*[^\W\d_.,]")


@pytest.mark.parametrize(("key", "record"), RECORDS, ids=[key for key, _ in RECORDS])
def test_a_record_is_well_formed(key, record):
    Publication(**{name: value for name, value in record.items() if name != "sources"})
    if "arxiv" in record:
        assert re.fullmatch(r"\d{4}\.\d{4,5}", record["arxiv"])
        assert "url" not in record
        year, month = 2000 + int(record["arxiv"][:2]), int(record["arxiv"][2:4])
        assert 1 <= month <= 12
        assert year - 1 <= record.get("year", year) <= year + 5  # some are posted after the event
    if "venue" in record:
        assert record["venue_type"] == VENUES[record["venue"]] and record["year"]
    assert record.get("venue_type") in (None, *VENUE_TYPES)
    if "countries" in record:
        assert record["countries"] == sorted(set(record["countries"]))
        assert record["countries"] and set(record["countries"]) <= COUNTRIES


@pytest.mark.parametrize("key", WORKS)
def test_a_work_names_its_authors_once(key):
    authors = WORKS[key]["authors"]
    assert authors and max(Counter(authors).values()) == 1
    for name in authors:
        assert NAME.fullmatch(name) and " and " not in name and name == name.strip(), name
        assert " " in name and name.lower() != "others", name


@pytest.mark.parametrize(("key", "record"), RECORDS, ids=[key for key, _ in RECORDS])
def test_what_was_read_has_its_place(key, record):
    sources = record["sources"]
    assert set(sources) <= {"authors", "countries", "venue", "arxiv"}
    assert ("countries" in record) == ("countries" in sources)
    if key in WORKS:
        assert sources["authors"]
    else:
        assert ("venue" in record) == ("venue" in sources)
        assert ("arxiv" in record) == ("arxiv" in sources)


def test_no_work_is_there_twice():
    for name in ("title", "arxiv", "url"):
        found = Counter(record[name].lower() for record in WORKS.values() if name in record)
        assert max(found.values()) == 1, found.most_common(1)
    assert not {record.get("arxiv") for record in WORKS.values()} & set(ADDITIONS)


def test_families_and_tags_name_works_of_the_table_and_every_work_is_used():
    named = {key for rules in FAMILIES.values() for key in rules.values() if key}
    named |= {key for _, _, key in TABLE["timm_tags"]}
    assert named <= set(WORKS)
    used = {row["publication"]["title"] for row in rows() if row["publication"]}
    assert {record["title"] for record in WORKS.values()} <= used


@pytest.mark.parametrize("provider", FAMILIES)
def test_every_family_is_mapped_and_only_named_ones_have_no_publication(provider):
    unpublished = tuple(start for start, key in FAMILIES[provider].items() if key is None)
    for row in rows():
        if row["provider"] == provider and row["publication"] is None:
            assert unpublished and row["name"].startswith(unpublished), row["id"]


def test_the_sources_are_no_part_of_a_publication():
    assert work("resnet") == by_family("torchvision", "resnet18")
    assert work("focalnet").authors[3] == "Lu Yuan"
    assert len(work("mobilenet").authors) == 8
    assert not hasattr(work("resnet"), "sources")


def test_what_a_provider_says_is_completed_and_never_overruled():
    preprint = Publication(title="LAS-AT", venue="arXiv", venue_type="preprint", arxiv="2203.06616")
    added = completed(preprint)
    assert (added.venue, added.venue_type, added.year) == ("CVPR", "cv", 2022)
    assert added.countries == ("CN",) and added.title == "LAS-AT"
    stated = Publication(venue="TMLR", venue_type="journal", year=2024, arxiv="2203.06616")
    assert completed(stated).venue == "TMLR" and completed(stated).year == 2024
    assert completed(Publication(title="other")) == Publication(title="other")


def test_a_record_of_the_benchmark_is_completed():
    record = {
        "name": " A title", "authors": "A One and B Two", "venue": "arXiv, Mar 2022",
        "link": "https://arxiv.org/abs/2203.06616",
    }  # fmt: skip
    found = publication(record)
    assert found.title == "A title" and found.authors == ("A One", "B Two")
    assert (found.venue, found.countries) == ("CVPR", ("CN",))
