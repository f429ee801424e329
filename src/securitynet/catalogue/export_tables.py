"""The tables of an export: their columns, and the rows that records become. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from securitynet.catalogue.describe import Column, Kind, columns, value_at
from securitynet.catalogue.schema import Claim, ModelCard
from securitynet.catalogue.sources import source_key
from securitynet.records import Evaluation, Measure, canonical_json

Values = tuple[Any, ...]
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: Its name, also of its Parquet file.
        title: What a row is.
        about: What there is to know before it is used.
        columns: Its columns.
        key: The columns that tell its rows apart.
        references: Column -> the table whose key it holds.
        facets: Columns to narrow a listing by.
    """

    name: str
    title: str
    about: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    references: Mapping[str, str]
    facets: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(column.name for column in self.columns)


def _of(name: str, about: str) -> Column:
    return Column(name, "text", about, is_required=True)


def _fact(name: str, kind: Kind, about: str) -> Column:
    return Column(name, kind, about, path=(name,))


MODELS = Table(
    "models", "One public image classifier",
    "What its providers state; unknown is null, never 0. The licence of a model's weights is in "
    "weights_licence, and where it was read in weights_licence_source.",
    (
        *columns(ModelCard, without=("claims", "folder")),
        Column("source", "texts", "Short keys of the sources of its claims.", True, ("source",)),
    ),
    ("id",), {"dataset": "datasets"},
    ("provider", "dataset", "family", "origin", "status", "weights_licence",
     "publication_venue_type", "publication_year", "threat_model"),
)  # fmt: skip
CLAIMS = Table(
    "claims", "One figure that somebody reported of a model",
    "Never a figure that we measured. Each row names its source, whose terms hold for the figure.",
    (
        _of("model", "The model's id."),
        Column("position", "integer", "Its place among the model's claims.", True),
        *columns(Claim),
        _of("source_key", "Short key of the source, or the source itself."),
    ),
    ("model", "position"), {"model": "models"}, ("metric", "source_key"),
)  # fmt: skip
EVALUATIONS = Table(
    "evaluations", "One job that we ran: a configured method on one model, data set and seed",
    "Our own runs only. Its figures are in measures; curves and arrays stay in the store.",
    tuple(columns(Evaluation, without=("measures", "nulls", "details", "blobs"))),
    ("key",), {}, ("method", "origin", "dataset", "status", "seed"),
)  # fmt: skip
MEASURES = Table(
    "measures", "One figure of an evaluation, with its 95% interval",
    "Kind control is what the figure would be without any effect.",
    (
        _of("evaluation", "The evaluation's key."),
        _of("kind", "`measure` or `control`."),
        _of("name", "What was measured."),
        *columns(Measure),
    ),
    ("evaluation", "kind", "name"), {"evaluation": "evaluations"}, ("kind", "name"),
)  # fmt: skip
DATASETS = Table(
    "datasets", "One data set that models were trained or evaluated on",
    "Facts about it; the images are not part of this export. A row with an id only is named by a "
    "model, and nothing else is known of it.",
    (
        Column("id", "text", "The name that models give as their dataset.", True, ("id",)),
        _fact("title", "text", "Its full name."),
        _fact("version", "text", "Version, where there are several."),
        _fact("n_classes", "integer", "Number of classes."),
        _fact("n_train", "integer", "Images in the train split."),
        _fact("n_val", "integer", "Images in the validation split."),
        _fact("n_test", "integer", "Images in the test split."),
        _fact("licence", "text", "SPDX id, or the licence in words."),
        _fact("gated", "boolean", "Whether its owner asks for consent before a download."),
        _fact("modality", "text", "What the images show."),
        _fact("dims", "text", "`2d` or `3d`."),
        _fact("source_url", "text", "Where it is described."),
    ),
    ("id",), {}, ("modality", "dims", "licence", "gated"),
)  # fmt: skip
TABLES = (MODELS, CLAIMS, EVALUATIONS, MEASURES, DATASETS)
PLANS = {table.name: [column for column in table.columns if column.path] for table in TABLES}


def values(record: Record, table: Table) -> Values:
    """Return a record's values in order of a table's columns that have a path."""
    found = []
    for column in PLANS[table.name]:
        value = value_at(record, column.path)
        found.append(None if value is None else _plain(value, column))
    return tuple(found)


def _plain(value: Any, column: Column) -> Any:
    if column.kind == "json":
        return value if isinstance(value, str) else canonical_json(value)
    if column.kind == "real":
        return float(value)
    return str(value) if column.kind == "text" else value


def claim_rows(row: Record) -> Iterator[Values]:
    """Yield the rows of ``claims`` of one row of the catalogue."""
    for position, claim in enumerate(row["claims"]):
        yield row["id"], position, *values(claim, CLAIMS), source_key(claim["source"])


def measure_rows(record: Evaluation) -> Iterator[Values]:
    """Yield the rows of ``measures`` of one evaluation."""
    for kind, group in (("measure", record.measures), ("control", record.nulls)):
        for name, measure in sorted(group.items()):
            yield record.key, kind, name, measure.value, measure.low, measure.high, measure.n


def dataset_rows(known: Iterable[Record], named: Iterable[str]) -> list[Values]:
    """Return the rows of ``datasets``: what is known, and the names that models give besides."""
    rows = {row["id"]: values(row, DATASETS) for row in known}
    blank = {name: values({"id": name}, DATASETS) for name in named}
    return [row for _, row in sorted({**blank, **rows}.items())]
