"""What describes an export to other tools: Croissant for the Parquet files, Datasette's metadata.

Croissant 1.1: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from securitynet.catalogue.describe import Column
from securitynet.catalogue.export_tables import MODELS, TABLES, Table

NAME = "securitynet"
TITLE = "SecurityNet: public image classifiers and their security evaluations"
ABOUT = (
    "Public image classifiers with their weights, input, licence and publication, the figures that "
    "others reported of them, and our own evaluations of membership inference, model stealing and "
    "backdoor detection."
)
LICENCE = "Apache-2.0"
LICENCE_URL = "https://spdx.org/licenses/Apache-2.0.html"
PAPER = "https://arxiv.org/abs/2310.12665"
CITE_AS = (
    "@inproceedings{securitynet2024, title = {SecurityNet: Assessing Machine Learning "
    "Vulnerabilities on Public Models}, author = {Zhang and others}, booktitle = {33rd USENIX "
    "Security Symposium}, year = {2024}, url = {https://arxiv.org/abs/2310.12665}}"
)
DATABASE = "securitynet.db"
CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"}, "description": {"@container": "@language"},
    **{
        term: f"cr:{term}"
        for term in (
            "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract",
            "field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray",
            "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "separator", "source",
            "subField", "transform",
        )
    },
}  # fmt: skip
"""The terms of the specification; validators compare them with their own."""
DATA_TYPES = {"integer": "sc:Integer", "real": "sc:Float", "reals": "sc:Float",
              "boolean": "sc:Boolean"}  # fmt: skip


def croissant(files: Mapping[str, tuple[str, int]], *, version: str) -> dict[str, Any]:
    """Return the JSON-LD that describes the Parquet files and the database.

    Args:
        files: File name -> sha256 and bytes.
        version: Of the package that wrote them.
    """
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": NAME,
        "description": ABOUT,
        "license": LICENCE_URL,
        "url": PAPER,
        "citeAs": CITE_AS,
        "version": version,
        "creator": {"@type": "sc:Organization", "name": "SecurityNet contributors"},
        "keywords": ["image classification", "security", "membership inference", "model stealing",
                     "backdoor detection"],
        "distribution": [_file(name, *facts) for name, facts in sorted(files.items())],
        "recordSet": [_record_set(table) for table in TABLES],
    }  # fmt: skip


def _file(name: str, sha256: str, size: int) -> dict[str, Any]:
    is_table = name.endswith(".parquet")
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": "application/x-parquet" if is_table else "application/vnd.sqlite3",
        "sha256": sha256,
    }


def _record_set(table: Table) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": table.name,
        "name": table.name,
        "description": f"{table.title}. {table.about}",
        "key": [{"@id": f"{table.name}/{name}"} for name in table.key],
        "field": [_field(table, column) for column in table.columns],
    }


def _field(table: Table, column: Column) -> dict[str, Any]:
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{table.name}/{column.name}",
        "name": f"{table.name}/{column.name}",
        "description": _about(table, column),
        "dataType": DATA_TYPES.get(column.kind, "sc:Text"),
        "source": {
            "fileObject": {"@id": f"{table.name}.parquet"},
            "extract": {"column": column.name},
        },
    }
    if column.kind in ("texts", "reals"):
        field |= {"isArray": True, "arrayShape": "-1"}
    return field


def _about(table: Table, column: Column) -> str:
    """Name foreign keys in words: who reads ``references`` with mlcroissant 1.1 joins by it."""
    other = table.references.get(column.name)
    return f"{column.about} The key of {other}." if other else column.about


def datasette(table_columns: Mapping[str, list[str]], *, version: str) -> dict[str, Any]:
    """Return the metadata that Datasette shows beside the tables.

    Args:
        table_columns: Columns of each table in the database.
        version: Of the package that wrote it.
    """
    tables = {table.name: _described(table, table_columns[table.name]) for table in TABLES}
    tables["models"] |= {"fts_table": "models_fts", "fts_pk": "rowid", "label_column": "name"}
    for name in table_columns.keys() - tables.keys():
        tables[name] = {"description": _joined(name), **_terms()}
    return {
        "title": TITLE,
        "description": f"{ABOUT} Written by securitynet {version}.",
        **_terms(),
        "databases": {NAME: {"tables": dict(sorted(tables.items()))}},
    }


def _terms() -> dict[str, str]:
    return {
        "license": LICENCE, "license_url": LICENCE_URL,
        "source": "SecurityNet", "source_url": PAPER,
    }  # fmt: skip


def _described(table: Table, stored: list[str]) -> dict[str, Any]:
    about = {column.name: column.about for column in table.columns}
    return {
        "title": table.title,
        "description": table.about,
        **_terms(),
        "facets": [name for name in table.facets if name in stored],
        "columns": {name: about[name] for name in stored if about.get(name)},
    }


def _joined(name: str) -> str:
    if name == "publications":
        return "Works that published models, each once; models.publication is the id."
    return f"{dict(_sets())[name]} One row each; `model` is the id in models."


def _sets() -> Iterator[tuple[str, str]]:
    for column in MODELS.columns:
        yield f"model_{column.name}", column.about
