"""One SQLite file of all tables: checked, normalised, indexed, searchable. No torch.

Publications, flags, aliases and pre-training sets, which many models share, have tables of their
own; ``models_fts`` searches the words of id, name, family and publication.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from securitynet.catalogue.cards import NEVER_ZERO, SHARES
from securitynet.catalogue.describe import Column
from securitynet.catalogue.export_tables import (
    CLAIMS,
    DATASETS,
    EVALUATIONS,
    MEASURES,
    MODELS,
    Table,
    Values,
)
from securitynet.catalogue.schema import (
    CHECKSUM_OF,
    LICENCE_SOURCES,
    ORIGINS,
    STATUSES,
    VENUE_TYPES,
)
from securitynet.errors import IntegrityError
from securitynet.records import canonical_json

SQL_TYPES = {"integer": "INTEGER", "boolean": "INTEGER", "real": "REAL"}
CHOICES = {
    "models.origin": ORIGINS,
    "models.status": STATUSES,
    "models.weights_checksum_of": CHECKSUM_OF,
    "models.weights_licence_source": LICENCE_SOURCES,
    "publications.venue_type": VENUE_TYPES,
    "evaluations.status": ("ok", "failed", "refused", "skipped"),
    "measures.kind": ("measure", "control"),
}
POSITIVE = (
    "models.params", "models.macs", "models.weights_bytes", "models.input_height",
    "models.input_width", "models.input_depth", "models.input_resize", "claims.n",
    "claims.img_size", "evaluations.limit", "datasets.n_classes", "datasets.n_train",
    "datasets.n_val", "datasets.n_test",
)  # fmt: skip
"""Where a 0 would be somebody's word for unknown."""
MEASURED_SHARES = (
    "%accuracy", "%auc", "%agreement", "auroc", "tpr%", "fpr%", "p_value", "attack_success",
)  # fmt: skip
"""Names of measures that lie in [0, 1], excess over a floor apart."""
SETS = ("pretraining", "aliases", "flags", "source")
"""Columns of models that have a table of their own, ``model_flags`` and the like."""
PAPER = "publication_"
INDEXES = (
    "models(dataset, family)", "models(provider, dataset)", "models(family)", "models(params)",
    "models(origin)", "models(status)", "models(weights_licence)", "models(threat_model)",
    "models(publication)", "models(weights_checksum)", "publications(year, venue)",
    "claims(metric, value)", "claims(source_key, metric)", "evaluations(model_id)",
    "evaluations(model)", "evaluations(method, dataset)", "measures(name, value)",
    *(f"model_{name}(value)" for name in SETS),
)  # fmt: skip
SEARCHED = """
CREATE VIEW model_texts AS
  SELECT models.rowid AS rowid, models.id AS id, models.name AS name, models.family AS family,
    publications.title AS publication
  FROM models LEFT JOIN publications ON publications.id = models.publication;
CREATE VIRTUAL TABLE models_fts USING fts5(
  id, name, family, publication, content='model_texts', content_rowid='rowid');
INSERT INTO models_fts(models_fts) VALUES ('rebuild');
INSERT INTO models_fts(models_fts) VALUES ('optimize');
"""


class SqliteWriter:
    """Fills one new SQLite file; rows come in any number of calls.

    A row that breaks a check raises `IntegrityError` naming the row and the check.

    Attributes:
        connection: The open file.
    """

    def __init__(self, path: Path) -> None:
        """Make the tables in a file that is not there yet."""
        self.connection = sqlite3.connect(path)
        # The file is new and nobody's yet: whoever fills it throws it away if anything fails.
        self.connection.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;"
            "PRAGMA cache_size = -200000;"
        )
        self.connection.executescript("\n".join(schema()))
        self._papers: dict[Values, int] = {}

    def add_models(self, rows: Sequence[Values]) -> None:
        """Add rows of ``models``, their publications and their sets."""
        names = MODELS.names
        paper = [i for i, name in enumerate(names) if name.startswith(PAPER)]
        sets = {name: names.index(name) for name in SETS}
        rest = [i for i in range(len(names)) if i not in {*paper, *sets.values()}]
        own = ([_sql(row[i]) for i in rest] + self._links(row, paper, sets) for row in rows)
        self._insert("models", own)
        for name, place in sets.items():
            pairs = ((row[0], i, value) for row in rows for i, value in enumerate(row[place] or ()))
            self._insert(f"model_{name}", pairs)

    def _links(self, row: Values, paper: list[int], sets: dict[str, int]) -> list[Any]:
        found = tuple(_sql(row[i]) for i in paper)
        is_known = any(value is not None for value in found)
        number = self._papers.setdefault(found, len(self._papers) + 1) if is_known else None
        return [number, row[sets["pretraining"]] is not None]

    def add(self, table: Table, rows: Iterable[Values]) -> None:
        """Add rows of any other table."""
        self._insert(table.name, ([_sql(value) for value in row] for row in rows))

    def finish(self) -> None:
        """Add what needs all rows: publications, links, indexes, search, statistics."""
        self._insert("publications", ((n, *row) for row, n in self._papers.items()))
        self.connection.execute(
            "UPDATE evaluations SET model_id = model WHERE model IN (SELECT id FROM models)"
        )
        broken = self.connection.execute("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise IntegrityError(f"a row of {broken[0]} names nothing in {broken[2]}")
        for index in INDEXES:
            name = "_".join(index.replace("(", " ").replace(")", "").replace(",", "").split())
            self.connection.execute(f"CREATE INDEX {name} ON {index}")
        self.connection.executescript(SEARCHED)
        self.connection.execute("ANALYZE")
        self.connection.commit()
        self.connection.close()

    def _insert(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        held = list(rows)
        if not held:
            return
        before = self.connection.total_changes
        marks = ", ".join("?" * len(held[0]))
        try:
            named = "(" + ", ".join(map(quoted, COLUMNS[table])) + ")"
            self.connection.executemany(
                f"INSERT INTO {table} {named} VALUES ({marks})",  # noqa: S608 - our own names
                held,
            )
        except sqlite3.IntegrityError as error:
            row = held[self.connection.total_changes - before]
            place = f"{table}: {row[1 if table == 'publications' else 0]}"
            raise IntegrityError(
                str(error), where=place, hint="correct the card or the record"
            ) from None


def _sql(value: Any) -> Any:
    kind = type(value)  # rather than isinstance: it is asked of every cell
    return canonical_json(value) if kind is list or kind is tuple else value


def quoted(name: str) -> str:
    """Return a name as SQL takes any name."""
    return f'"{name}"'


def _split_models() -> tuple[list[Column], list[Column]]:
    own = [c for c in MODELS.columns if c.name not in SETS and not c.name.startswith(PAPER)]
    paper = [
        Column(c.name.removeprefix(PAPER), c.kind, c.about, path=c.path)
        for c in MODELS.columns
        if c.name.startswith(PAPER)
    ]
    return own, paper


OWN, PUBLICATION = _split_models()
COLUMNS = {
    "models": [*(c.name for c in OWN), "publication", "is_pretraining_known"],
    "publications": ["id", *(c.name for c in PUBLICATION)],
    **{f"model_{name}": ["model", "position", "value"] for name in SETS},
    **{t.name: list(t.names) for t in (CLAIMS, EVALUATIONS, MEASURES, DATASETS)},
}


def schema() -> Iterator[str]:
    """Yield the statements that make the tables."""
    yield _table("datasets", DATASETS.columns, ["PRIMARY KEY (id)"])
    yield _table("publications", PUBLICATION, [], ["id INTEGER PRIMARY KEY"])
    links = [
        "publication INTEGER REFERENCES publications(id)",
        "is_pretraining_known INTEGER NOT NULL CHECK (is_pretraining_known IN (0, 1))",
    ]
    keys = ["PRIMARY KEY (id)", "FOREIGN KEY (dataset) REFERENCES datasets(id)",
            _named("at least two classes", "num_classes >= 2")]  # fmt: skip
    yield _table("models", OWN, keys, more=links)
    for name in SETS:
        yield (
            f"CREATE TABLE model_{name} (model TEXT NOT NULL REFERENCES models(id), "
            "position INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (model, position)) "
            "WITHOUT ROWID;"
        )
    keys = ["PRIMARY KEY (model, position)", "FOREIGN KEY (model) REFERENCES models(id)"]
    yield _table("claims", CLAIMS.columns, [*keys, *_claim_checks()], end=" WITHOUT ROWID")
    link = ["model_id TEXT REFERENCES models(id)"]
    yield _table("evaluations", EVALUATIONS.columns, ["PRIMARY KEY (key)"], more=link)
    keys = ["PRIMARY KEY (evaluation, kind, name)",
            "FOREIGN KEY (evaluation) REFERENCES evaluations(key)"]  # fmt: skip
    yield _table("measures", MEASURES.columns, [*keys, *_measure_checks()], end=" WITHOUT ROWID")


def _table(
    name: str, columns: Iterable[Column], rules: list[str], first: Sequence[str] = (), *,
    more: Sequence[str] = (), end: str = "",
) -> str:  # fmt: skip
    lines = [*first, *(_column(name, column) for column in columns), *more, *rules]
    return f"CREATE TABLE {name} (\n  " + ",\n  ".join(lines) + f"\n){end};"


def _column(table: str, column: Column) -> str:
    place, name = f"{table}.{column.name}", quoted(column.name)
    parts = [name, SQL_TYPES.get(column.kind, "TEXT"), "NOT NULL" if column.is_required else ""]
    if place in CHOICES:
        parts.append(_named(f"{place} is one of those known", f"{name} IN {_list(CHOICES[place])}"))
    elif place in POSITIVE:
        parts.append(_named(f"{place} is positive; unknown is null", f"{name} > 0"))
    elif column.kind == "boolean":
        parts.append(f"CHECK ({name} IN (0, 1))")
    elif column.kind in ("texts", "reals"):
        parts.append(_named(f"{place} is JSON", f"{name} IS NULL OR json_valid({name})"))
    return " ".join(part for part in parts if part)


def _claim_checks() -> Iterator[str]:
    shares = " OR ".join(f"instr(metric, '{word}')" for word in SHARES)
    yield _named("a share lies in 0 to 1", f"NOT ({shares}) OR value BETWEEN 0 AND 1")
    counted = f"metric IN {_list(NEVER_ZERO)} OR instr(metric, 'auc') OR metric LIKE 'paper_%'"
    yield _named("unknown is left out, never 0", f"NOT ({counted}) OR value <> 0")


def _measure_checks() -> Iterator[str]:
    shares = " OR ".join(f"name LIKE '{pattern}'" for pattern in MEASURED_SHARES)
    is_share = f"name NOT LIKE 'excess%' AND ({shares})"
    for column in ("value", "low", "high"):
        rule = f"{column} IS NULL OR NOT ({is_share}) OR {column} BETWEEN 0 AND 1"
        yield _named(f"a share's {column} lies in 0 to 1", rule)
    yield _named("the interval is one", "low IS NULL OR high IS NULL OR low <= high")


def _named(name: str, rule: str) -> str:
    return f"CONSTRAINT {quoted(name)} CHECK ({rule})"


def _list(words: Iterable[str]) -> str:
    return "(" + ", ".join(f"'{word}'" for word in words) + ")"
