"""pytorchcv's pretrained classifiers, from the table that its package carries."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from securitynet.catalogue.generators.families import family
from securitynet.catalogue.generators.publications import by_arxiv, by_family
from securitynet.catalogue.schema import (
    UNKNOWN_LICENCE,
    Claim,
    InputSpec,
    ModelCard,
    Publication,
    Weights,
)
from securitynet.errors import ResourceError

TABLE = "pytorchcv/models/common/model_metainfos.csv"
RELEASES = "https://github.com/osmr/imgclsmob/releases/download"
MISSING = "NA"
SETS = {
    "cifar10": (10, 10_000), "cifar100": (100, 10_000), "svhn": (10, 26_032), "cub": (200, 5_794),
}  # fmt: skip
"""End of a name -> classes and test images; names without one are of ImageNet-1k."""
SMALL_MEAN, SMALL_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE, SCALE = 224, 0.875
NTSNET_SIDE, NTSNET_RESIZE = 448, 600
"""Its code's input size, and the resize that its publication gives."""

Row = Mapping[str, str]


def generate(facts: Path | None) -> list[ModelCard]:
    """Return one card a classifier that has published weights.

    Raises:
        ResourceError: If pytorchcv is not installed.
    """
    try:
        package = distribution("pytorchcv")
    except PackageNotFoundError:
        raise ResourceError("pytorchcv is not installed") from None
    table = Path(str(package.locate_file(TABLE)))
    with table.open(encoding="utf-8", newline="") as file:
        return cards(csv.DictReader(file), package.version)


def cards(rows: Iterable[Row], version: str) -> list[ModelCard]:
    """Return the cards of the table's classifiers; those without a checksum have no weights."""
    return [
        _card(row, version)
        for row in rows
        if row["test_dataset"] in ("in1k", "cf", "cub") and row["checksum"] != MISSING
    ]


def _card(row: Row, version: str) -> ModelCard:
    name, sha1 = row["model_name"], row["checksum"]
    dataset = _dataset(name)
    num_classes, n_test = SETS.get(dataset, (1000, 50_000))
    file = f"{name}-{row['error_value']}-{sha1[:8]}.pth"
    is_own = row["remark"] == MISSING
    error = int(row["error_value"]) / 10_000
    metric = "test_top5_accuracy" if dataset == "imagenet1k" else "test_accuracy"
    return ModelCard(
        id=f"pytorchcv/{name}",
        provider="pytorchcv",
        name=name,
        dataset={"cub": "cub200"}.get(dataset, dataset),
        num_classes=num_classes,
        architecture=f"pytorchcv/{name}",
        input=_input(row, dataset),
        weights=Weights(
            url=f"{RELEASES}/{row['repo_release_tag']}/{file}.zip",
            member=file,
            checksum=sha1,
            checksum_algorithm="sha1",
            checksum_of="member",
            licence="MIT" if is_own else UNKNOWN_LICENCE,
            licence_source="presumed" if is_own else "unstated",
            revision=row["repo_release_tag"],
        ),
        family=family(name),
        params=int(row["net_weights"]),
        pretraining=None if dataset == "cub" else (),
        origin="benchmark",
        publication=_publication(row),
        claims=(
            Claim(metric, round(1 - error, 4), "pytorchcv", n_test, revision=version),
        ),
        code_licence="MIT",
    )  # fmt: skip


def _dataset(name: str) -> str:
    return next((end for end in SETS if name.endswith(f"_{end}")), "imagenet1k")


def _input(row: Row, dataset: str) -> InputSpec:
    if dataset in ("cifar10", "cifar100", "svhn"):
        return InputSpec(3, 32, 32, SMALL_MEAN, SMALL_STD)
    if row["model_name"].startswith("ntsnet"):
        return InputSpec(3, NTSNET_SIDE, NTSNET_SIDE, MEAN, STD, NTSNET_RESIZE)
    side = SIDE if row["img_size"] == MISSING else int(row["img_size"])
    scale = SCALE if row["img_scale"] == MISSING else float(row["img_scale"])
    return InputSpec(3, side, side, MEAN, STD, math.ceil(side / scale))


def _publication(row: Row) -> Publication | None:
    number = row["arxiv_paper"]
    known = None if number == MISSING else by_arxiv(number)
    return known or by_family("pytorchcv", row["model_name"])
