"""The table that the SecurityNet authors published: read as printed, missing values told apart.

The published Markdown writes 0 or ``nan`` where a figure is missing, cuts family names, orders
countries by chance and repeats names. What is corrected is listed here; figures stay as printed.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from securitynet.catalogue.tables import data_folder

PaperRow = dict[str, str]
"""One model of the table, `COLUMNS` -> text; "" = not known."""

FIGURES = {
    "Train Accuracy": "train_accuracy",
    "Test Accuracy": "test_accuracy",
    "Model Stealing Accuracy": "paper_steal_accuracy",
    "Model Stealing Agreement": "paper_steal_agreement",
    "Correct Auc": "paper_mia_correct_auc",
    "M_entropy AUC": "paper_mia_mentropy_auc",
    "Wrn Accuracy": "paper_steal_wrn_accuracy",
    "Wrn Agree": "paper_steal_wrn_agreement",
    "ImgNet Accuracy": "paper_steal_imgnet_accuracy",
    "ImgNet Agree": "paper_steal_imgnet_agreement",
}
"""Printed heading -> metric of the claim."""
ZERO_IS_MISSING = tuple(
    FIGURES[heading]
    for heading in (
        "Train Accuracy", "Correct Auc", "M_entropy AUC",
        "Wrn Accuracy", "Wrn Agree", "ImgNet Accuracy", "ImgNet Agree",
    )
)  # fmt: skip
"""Columns in which every 0 stands for a figure that was not measured."""
COLUMNS = (
    "id", "table", "name", "dataset", "run", "family", "num_classes", "train_size",
    *FIGURES.values(),
    "venue", "venue_type", "year", "countries", "n_authors", "arxiv", "url", "purpose", "weights",
    "flags", "reason",
)  # fmt: skip

TABLES = {"Benchmark Models": "benchmark", "Security Research Models": "security"}
PROJECTS = "New Models"
FAMILIES = {
    "drnc": "drn",
    "espnetv": "espnetv2",
    "alexnetb": "alexnet",
    "resnesta": "resnest",
}
"""Family names that the table cut or glued to a variant's letter; ``wrn`` is ours, too."""
DATASETS = {
    "CIFAR-10": "cifar10",
    "CIFAR-100": "cifar100",
    "SVHN": "svhn",
    "CUB-200-2011": "cub200",
    "ImageNet1k": "imagenet1k",
    "organamnist": "organamnist-v2",
    "organcmnist": "organcmnist-v2",
    "organsmnist": "organsmnist-v2",
    "organmnist3d": "organmnist3d-v2",
}
"""Printed name -> our id, where it is not the id; sizes of four sets are MedMNIST version 2's."""
COUNTRIES = {
    "Australia": "AU", "Canada": "CA", "China": "CN", "France": "FR", "Germany": "DE",
    "Korea": "KR", "Netherland": "NL", "Singapore": "SG", "Switzerland": "CH", "UK": "GB",
    "USA": "US",
}  # fmt: skip
VENUE_TYPES = {"Security": "security", "ML": "ml", "CV": "cv", "arXiv": "preprint"}
PUBLISHED = {
    "1502.03167": ("ICML", "ml", "2015"),
    "1605.07146": ("BMVC", "cv", "2016"),
    "2004.08955": ("CVPR Workshops", "cv", "2022"),
    "2110.14795": ("Scientific Data", "journal", "2023"),
}
"""Works that the table lists as preprints: where they appeared."""
AUTHORS = {"1704.04861": "8"}
"""Author counts that the table has wrong."""
OTHER_WORK = ("1804.02767",)
"""Cited for models that it did not introduce: YOLOv3 for the classifiers of Darknet."""

_LINK = re.compile(r"\[[^\]]*\]\((.*)\)$")
_ARXIV = re.compile(r"arxiv\.org/(?:abs|pdf)/(\d{4}\.\d{4,5})")


def read_models(markdown: str) -> list[PaperRow]:
    """Return the models of the published Markdown, in its order, with ids and runs.

    Flags and reasons are left empty.
    """
    tables = _tables(markdown)
    printed = [(TABLES[title], cells) for title in TABLES for cells in tables.get(title, [])]
    return list(_with_runs(_row(table, cells) for table, cells in printed))


def read_projects(markdown: str) -> list[dict[str, str]]:
    """Return the rows of the table of projects as printed, heading -> cell."""
    return _tables(markdown).get(PROJECTS, [])


def link(cell: str) -> str:
    """Return the address of a Markdown link, the cell itself if it is none."""
    found = _LINK.match(cell)
    return found.group(1) if found else cell


def arxiv_number(url: str) -> str:
    """Return the number of an arXiv address of any form, "" of another address."""
    found = _ARXIV.search(url)
    return found.group(1) if found else ""


def csv_text(columns: Sequence[str], rows: Iterable[PaperRow]) -> str:
    """Return rows as the text of a CSV table."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def shipped_rows(name: str) -> list[PaperRow]:
    """Return the rows of a shipped CSV table."""
    text = data_folder().joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def _tables(markdown: str) -> dict[str, list[dict[str, str]]]:
    tables: dict[str, list[dict[str, str]]] = {}
    heading, columns = "", list[str]()
    for line in markdown.splitlines():
        if line.startswith("#"):
            heading, columns = line.lstrip("# ").strip(), []
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not columns:
                columns = cells
            elif not set(line) <= set("|:- "):
                tables.setdefault(heading, []).append(dict(zip(columns, cells, strict=True)))
    return tables


def _row(table: str, cells: dict[str, str]) -> PaperRow:
    row = dict.fromkeys(COLUMNS, "")
    row |= {
        "table": table,
        "name": cells["Model Name"],
        "dataset": DATASETS.get(cells["Data Name"], cells["Data Name"]),
        "family": FAMILIES.get(cells["Model Type"], cells["Model Type"]),
        "num_classes": cells["Num Class"],
        "train_size": cells["Training Size"],
        "purpose": cells["Purpose"],
        "weights": link(cells["Weights"]).replace("github.com/Microsoft", "github.com/microsoft"),
    }
    for heading, metric in FIGURES.items():
        row[metric] = _figure(metric, cells.get(heading, ""))
    return row | _publication(cells)


def _figure(metric: str, cell: str) -> str:
    is_missing = cell == "nan" or (cell == "0" and metric in ZERO_IS_MISSING)
    return "" if is_missing else cell


def _publication(cells: dict[str, str]) -> PaperRow:
    url = link(cells["Paper Link"])
    arxiv = arxiv_number(url)
    printed = (cells["Conference"], VENUE_TYPES[cells["Conference Type"]], cells["Year"])
    venue, venue_type, year = PUBLISHED.get(arxiv, printed)
    countries = sorted(COUNTRIES[name.strip()] for name in cells["Country"].split(","))
    return {
        "venue": venue,
        "venue_type": venue_type,
        "year": year,
        "countries": " ".join(countries),
        "n_authors": AUTHORS.get(arxiv, cells["Num Authors"]),
        "arxiv": arxiv,
        "url": "" if arxiv else url,
    }


def _with_runs(rows: Iterable[PaperRow]) -> Iterator[PaperRow]:
    """Tell rows of one name and data set apart: the table lost the number of the run.

    They are counted in the table's order, which lists the folders 1, 2 and 3 one after another.
    """
    seen: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if "AdversaryLossLandscape" in row["weights"]:
            seen[row["name"], row["dataset"]] += 1
            row["run"] = str(seen[row["name"], row["dataset"]])
        row["id"] = model_id(row)
        yield row


def model_id(row: PaperRow) -> str:
    """Return the id of the card whose weights a row describes.

    Raises:
        ValueError: If the weights lie where none of our providers looks.
    """
    name = row["name"]
    stem = re.sub(r"\.(pth|ckpt)$", "", name)
    if "imgclsmob" in row["weights"]:
        return "pytorchcv/" + re.sub(r"^(vgg[0-9]+b?)_bn$", r"bn_\1", name)
    if "zenodo.org" in row["weights"]:
        return f"medmnist/{row['dataset'].removesuffix('-v2')}/{stem}"
    if "robust-models-transfer" in row["weights"]:
        return f"robust-models-transfer/{stem}"
    if "AdversaryLossLandscape" in row["weights"]:
        return f"ivrl/{row['dataset']}/{stem}/{row['run']}"
    raise ValueError(f"{name}: weights at {row['weights']}")
