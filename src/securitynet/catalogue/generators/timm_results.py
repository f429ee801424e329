"""The result tables of timm's repository: accuracy by model and input size, and cost."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from securitynet.catalogue.schema import Claim
from securitynet.errors import ResourceError

REVISION = "aa4b5850c1543fa488abf260f18390eda46cf85d"
"""Commit of the repository that the files are of."""
MAIN = "results-imagenet.csv"
N_VALIDATION = 50_000
OTHERS = {
    "results-imagenet-real.csv": ("imagenet_real_accuracy", 46_837),
    "results-imagenetv2-matched-frequency.csv": ("imagenet_v2_accuracy", 10_000),
    "results-imagenet-a.csv": ("imagenet_a_accuracy", 7_500),
    "results-imagenet-r.csv": ("imagenet_r_accuracy", 30_000),
    "results-sketch.csv": ("imagenet_sketch_accuracy", 50_889),
}
"""File -> metric, and the number of images of that test set."""
COSTS = "benchmark-infer-amp-nchw-pt291-cu128-4090.csv"

Key = tuple[str, int]
Row = dict[str, str]


@dataclass(frozen=True)
class Results:
    """What the tables say.

    Attributes:
        tables: File -> model and input size -> row.
        costs: Architecture and input size -> multiply-accumulates.
    """

    tables: dict[str, dict[Key, Row]]
    costs: dict[Key, int]

    @classmethod
    def read(cls, facts: Path | None) -> Results:
        """Read the tables of a folder.

        Raises:
            ResourceError: If they are not there.
        """
        folder = None if facts is None else facts / "timm"
        if folder is None or not (folder / MAIN).is_file():
            raise ResourceError(
                "the result tables of timm's repository are not here",
                hint=f"put its results/*.csv into FOLDER/timm and give --facts FOLDER, e.g. {MAIN}",
            )
        tables = {
            name: {(row["model"], int(row["img_size"])): row for row in _rows(folder / name)}
            for name in (MAIN, *OTHERS)
        }
        costs = {
            (row["model"], int(row["infer_img_size"])): round(float(row["infer_gmacs"]) * 1e9)
            for row in _rows(folder / COSTS)
            if row["infer_gmacs"]
        }
        return cls(tables, costs)

    def macs(self, architecture: str, side: int) -> int | None:
        """Return the multiply-accumulates at an input size; 0 GMACs is a rounded figure."""
        return self.costs.get((architecture, side)) or None

    def claims(self, name: str, side: int) -> Iterator[Claim]:
        """Yield a model's accuracies, those at its own input size first."""
        sizes = sorted(size for model, size in self.tables[MAIN] if model == name)
        for size in sorted(sizes, key=lambda size: size != side):
            row = self.tables[MAIN][name, size]
            for metric, column in (("test_accuracy", "top1"), ("test_top5_accuracy", "top5")):
                yield self._claim(metric, row[column], MAIN, N_VALIDATION, size, side)
        for file, (metric, n) in OTHERS.items():
            if (name, side) in self.tables[file]:
                row = self.tables[file][name, side]
                yield self._claim(metric, row["top1"], file, n, side, side)

    def _claim(self, metric: str, percent: str, file: str, n: int, size: int, side: int) -> Claim:
        return Claim(
            metric=metric,
            value=round(float(percent) / 100, 5),
            source=f"timm:{file}",
            n=n,
            img_size=None if size == side else size,
            revision=REVISION[:12],
        )


def _rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
