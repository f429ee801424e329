"""The export: every form says the same, refuses what cannot be, and is the same bytes again."""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from securitynet.catalogue import export as module
from securitynet.catalogue.describe import attributes
from securitynet.catalogue.export import CROISSANT, FILES, export
from securitynet.catalogue.export_about import DATA_TYPES
from securitynet.catalogue.export_sqlite import COLUMNS, SqliteWriter
from securitynet.catalogue.export_tables import (
    CLAIMS,
    DATASETS,
    MODELS,
    TABLES,
    claim_rows,
    values,
)
from securitynet.catalogue.schema import Weights
from securitynet.catalogue.tables import expand, rows
from securitynet.errors import IntegrityError, ResourceError, UsageError
from securitynet.records import Evaluation, Measure

DATASET_FACTS = [{"id": "cifar10", "title": "CIFAR-10", "n_classes": 10, "n_train": 50_000,
                  "n_test": 10_000, "gated": False}]  # fmt: skip
SEARCH = (
    "SELECT id FROM models WHERE rowid IN (SELECT rowid FROM models_fts WHERE models_fts MATCH ?)"
)


def model(name="resnet20", **changes):
    """One row of a catalogue."""
    record = {
        "id": f"made/{name}", "provider": "made", "name": name, "dataset": "cifar10",
        "num_classes": 10, "architecture": "securitynet/cifar_resnet20_a", "family": "resnet",
        "input": {"channels": 3, "height": 32, "width": 32, "mean": [0.5, 0.5, 0.5]},
        "weights": {"url": "https://example.org/w.pth", "licence": "MIT", "bytes": 1000},
        "params": 270_000,
        "publication": {"title": "Deep residual learning", "year": 2016, "venue_type": "cv",
                        "authors": ["A. Author", "B. Author"]},
        "claims": [{"metric": "test_accuracy", "value": 0.91, "source": "paper:row 3"}],
    }  # fmt: skip
    return expand(record | changes)


def record(key="a", **changes):
    values = {
        "version": 1, "config": {"steps": 3}, "model": "made/resnet20", "weights_sha256": "f" * 64,
        "origin": "benchmark", "dataset": "cifar10", "seed": 0, "status": "ok",
        "measures": {"auc": Measure(0.8, 0.7, 0.9, 100), "gap": Measure(-0.1)},
        "nulls": {"auc": Measure(0.5)}, "flags": ("accuracy-gate",),
    }  # fmt: skip
    return Evaluation(key=key * 64, method="mia.loss", **(values | changes))


def write(folder, models=None, records=(), datasets=DATASET_FACTS):
    return export(folder, models or [model()], records, datasets, version="1.2.3")


@pytest.fixture
def open_db():
    opened = []

    def connect(folder):
        opened.append(sqlite3.connect(folder / "securitynet.db"))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The whole shipped catalogue, with two records."""
    folder = tmp_path_factory.mktemp("export")
    records = [record("b", model="a/card.json", status="failed", measures={}, nulls={},
                      error="no weights"), record("a", model=rows()[0]["id"])]  # fmt: skip
    export(folder, rows(), records, DATASET_FACTS, version="1.2.3")
    return folder


def test_every_file_is_there_and_nothing_else(shipped):
    assert {path.name for path in shipped.iterdir()} == set(FILES)


def test_the_same_input_gives_the_same_bytes(tmp_path, shipped):
    records = [record("a", model=rows()[0]["id"]), record("b", model="a/card.json",
               status="failed", measures={}, nulls={}, error="no weights")]  # fmt: skip
    export(tmp_path / "again", rows(), records, DATASET_FACTS, version="1.2.3")
    for name in FILES:
        assert (shipped / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_parquet_and_database_hold_every_row(shipped, open_db):
    sizes = {"models": len(rows()), "claims": sum(len(row["claims"]) for row in rows()),
             "evaluations": 2, "measures": 3}  # fmt: skip
    database = open_db(shipped)
    for name, size in sizes.items():
        assert pq.read_metadata(shipped / f"{name}.parquet").num_rows == size
        assert database.execute(f"SELECT count(*) FROM {name}").fetchone() == (size,)


def test_parquet_keeps_every_value_and_null(tmp_path):
    write(tmp_path / "out", [model(), model("bare", params=None, publication=None, claims=[])])
    full, bare = pq.read_table(tmp_path / "out" / "models.parquet").to_pylist()
    assert full["input_mean"] == [0.5, 0.5, 0.5] and full["weights_bytes"] == 1000
    assert full["publication_authors"] == ["A. Author", "B. Author"] and full["source"] == ["paper"]
    assert bare["params"] is None and bare["publication_title"] is None
    assert bare["pretraining"] is None and bare["flags"] == []
    schema = pq.read_schema(tmp_path / "out" / "models.parquet")
    assert all(field.metadata[b"description"] for field in schema)
    assert not schema.field("id").nullable and schema.field("params").nullable


def test_the_database_is_normalised_and_sound(tmp_path, open_db):
    models = [model(), model("resnet32", pretraining=["imagenet1k"]), model("x", pretraining=[])]
    write(tmp_path / "out", models, [record("a"), record("b", model="cards/mine.json")])
    database = open_db(tmp_path / "out")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    assert database.execute("SELECT count(*) FROM publications").fetchone() == (1,)
    known = database.execute("SELECT name, is_pretraining_known FROM models ORDER BY name")
    assert known.fetchall() == [("resnet20", 0), ("resnet32", 1), ("x", 1)]
    found = database.execute("SELECT model, value FROM model_pretraining").fetchall()
    assert found == [("made/resnet32", "imagenet1k")]
    links = database.execute("SELECT model, model_id FROM evaluations ORDER BY key").fetchall()
    assert links == [("made/resnet20", "made/resnet20"), ("cards/mine.json", None)]
    auc = "SELECT value FROM measures WHERE name = 'auc' AND kind = 'control'"
    assert database.execute(auc).fetchall() == [(0.5,), (0.5,)]


def test_a_data_set_that_nobody_describes_is_a_row_all_the_same(tmp_path, open_db):
    write(tmp_path / "out", [model(dataset="unheard")])
    rows = open_db(tmp_path / "out").execute("SELECT id, n_train FROM datasets ORDER BY id")
    assert rows.fetchall() == [("cifar10", 50_000), ("unheard", None)]


@pytest.mark.parametrize(
    ("text", "found"),
    [("resnet20", ["made/resnet20"]), ("residual", ["made/resnet20", "made/resnet32"]),
     ("resnet*", ["made/resnet20", "made/resnet32"]), ("vgg", [])],
)  # fmt: skip
def test_names_families_and_publications_are_searched(tmp_path, open_db, text, found):
    write(tmp_path / "out", [model(), model("resnet32")])
    assert [row[0] for row in open_db(tmp_path / "out").execute(SEARCH, (text,))] == found


def test_what_is_searched_is_found_with_its_words(tmp_path, open_db):
    write(tmp_path / "out")
    query = "SELECT id, publication FROM models_fts WHERE models_fts MATCH 'learning'"
    assert open_db(tmp_path / "out").execute(query).fetchall() == [
        ("made/resnet20", "Deep residual learning")
    ]


CLAIM = {"metric": "test_accuracy", "value": 0.9, "source": "paper", "n": None}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"claims": [CLAIM | {"value": 91.0}]}, "0 to 1"),
        ({"claims": [CLAIM | {"metric": "paper_mia_correct_auc", "value": 1.2}]}, "0 to 1"),
        ({"claims": [CLAIM | {"value": 0.0}]}, "never 0"),
        ({"claims": [CLAIM | {"n": 0}]}, "unknown is null"),
        ({"params": 0}, "models.params is positive; unknown is null"),
        ({"weights": {"bytes": 0}}, "models.weights_bytes"),
        ({"num_classes": 1}, "at least two classes"),
        ({"origin": "somewhere"}, "models.origin is one of those known"),
        ({"weights": {"licence_source": "guessed"}}, "licence_source"),
        ({"publication": {"venue_type": "blog"}}, "publications.venue_type"),
        ({"dataset": None}, "NOT NULL"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_is_refused_by_name(tmp_path, changes, reason):
    with pytest.raises(IntegrityError, match=reason) as caught:
        write(tmp_path / "out", [model("fine"), model("wrong", **changes)])
    assert "made/wrong" in str(caught.value) or "publications" in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == [], "nothing is left of it"


@pytest.mark.parametrize(
    "measure",
    [Measure(1.1), Measure(0.5, -0.1, 0.9), Measure(0.5, 0.9, 0.1), Measure(0.5, 0.1, 1.01)],
)
def test_a_measure_that_cannot_be_is_refused(tmp_path, measure):
    with pytest.raises(IntegrityError, match="CHECK"):
        write(tmp_path / "out", records=[record(measures={"auc": measure})])


@pytest.mark.parametrize("name", ["gap", "excess_agreement", "trigger_l1", "statistic"])
def test_measures_that_are_no_shares_may_be_negative(tmp_path, name):
    write(tmp_path / "out", records=[record(measures={name: Measure(-3.5)})])


def test_the_same_model_twice_is_refused(tmp_path):
    with pytest.raises(IntegrityError, match="UNIQUE"):
        write(tmp_path / "out", [model(), model()])


def test_a_broken_row_leaves_an_earlier_export_whole(tmp_path):
    write(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(IntegrityError):
        write(tmp_path / "out", [model(params=0)])
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_an_earlier_export_is_replaced(tmp_path, open_db):
    write(tmp_path / "out")
    write(tmp_path / "out", [model("other")])
    assert open_db(tmp_path / "out").execute("SELECT name FROM models").fetchall() == [("other",)]


def test_a_folder_with_anything_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds notes\.txt.*choose a new or an empty folder"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ResourceError, match="cannot write"):
        write(tmp_path / "out")


def test_what_a_killed_export_left_is_cleared_away(tmp_path):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from securitynet.catalogue import export\n"
        "export._describe = lambda *_: os._exit(9)\n"
        "export.export(Path(sys.argv[1]), [], [], [], version='1')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert done.returncode == 9 and len(list((tmp_path / "out").iterdir())) == 1
    write(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(FILES)


def test_an_export_that_stops_half_way_vouches_for_nothing(tmp_path, monkeypatch):
    write(tmp_path / "out")
    replaced = []

    def replace(path, target):
        if len(replaced) == 3:
            raise OSError(5, "Input/output error")
        replaced.append(target.name)
        path.rename(target)

    monkeypatch.setattr(module.Path, "replace", replace)
    with pytest.raises(ResourceError, match="Input/output error"):
        write(tmp_path / "out", [model("other")])
    assert len(replaced) == 3 and not (tmp_path / "out" / CROISSANT).exists()


def test_files_can_be_read_by_others(tmp_path):
    old = os.umask(0o022)
    try:
        write(tmp_path / "out")
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o644}


def test_croissant_describes_the_files_as_they_are(shipped):
    about = json.loads((shipped / CROISSANT).read_text())
    assert about["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert about["@type"] == "sc:Dataset" and about["license"] and about["version"] == "1.2.3"
    listed = {item["@id"]: item for item in about["distribution"]}
    assert set(listed) == {name for name in FILES if name.endswith((".parquet", ".db"))}
    for name, item in listed.items():
        content = (shipped / name).read_bytes()
        assert item["sha256"] == hashlib.sha256(content).hexdigest()
        assert item["contentSize"] == f"{len(content)} B" and item["contentUrl"] == name


def test_croissant_fields_are_the_columns(shipped):
    about = json.loads((shipped / CROISSANT).read_text())
    sets = {item["@id"]: item for item in about["recordSet"]}
    assert set(sets) == {table.name for table in TABLES}
    kinds = {"string": "sc:Text", "int64": "sc:Integer", "double": "sc:Float", "bool": "sc:Boolean"}
    for name, item in sets.items():
        schema = pq.read_schema(shipped / f"{name}.parquet")
        assert [field["source"]["extract"]["column"] for field in item["field"]] == schema.names
        for field, column in zip(item["field"], schema, strict=True):
            inner = column.type.value_type if hasattr(column.type, "value_type") else column.type
            assert field["dataType"] == kinds[str(inner)]
            assert field.get("isArray", False) == (inner is not column.type)
            assert field["description"] and field["@id"] == f"{name}/{column.name}"
        assert {key["@id"] for key in item["key"]} <= {field["@id"] for field in item["field"]}
    assert set(DATA_TYPES.values()) < set(kinds.values())


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # mlcroissant's own use of pandas
def test_the_reference_validator_accepts_it(shipped):
    import mlcroissant

    dataset = mlcroissant.Dataset(jsonld=str(shipped / CROISSANT))
    assert not dataset.metadata.issues.errors
    assert len(list(dataset.records("models"))) == len(rows())


def test_datasette_is_told_of_tables_that_exist(shipped, open_db):
    about = json.loads((shipped / "metadata.json").read_text())
    tables = about["databases"]["securitynet"]["tables"]
    database = open_db(shipped)
    for name, table in tables.items():
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({name})")]
        assert columns and set(table.get("facets", ())) | set(table.get("columns", ())) <= set(
            columns
        )
        assert table["description"] and table["license"]
    made = {name for (name,) in database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
        "AND name NOT LIKE 'models_fts%'")}  # fmt: skip
    assert made == set(tables) == set(COLUMNS)


def test_columns_are_explained_where_they_are_defined():
    words = attributes(Weights)
    assert words["url"] == "Public https address, if any."
    assert "`hub`, `code`, `file`" in words["licence_source"]
    assert all(column.about for table in TABLES for column in table.columns)


def synthetic(n):
    """Yield rows of a catalogue of n entries, like real ones in their variety."""
    families = ("resnet", "vit", "densenet", "convnext", "efficientnet", "vgg", "swin", "regnet")
    template = model()
    for i in range(n):
        family = families[i % 8]
        yield template | {
            "id": f"hub/user{i % 9973}/{family}-{i}", "name": f"{family}-{i}", "family": family,
            "provider": ("hub", "timm", "other")[i % 3], "dataset": f"set{i % 501}",
            "params": 10_000 + i * 37 % 900_000_000,
            "publication": None if i % 4 else {"title": f"Work {i % 5003} on {family}",
                                               "year": 2010 + i % 16, "venue_type": "cv"},
            "claims": [{"metric": "test_accuracy", "value": (1 + i * 7919 % 9998) / 10_000,
                        "source": "paper", "n": None, "img_size": None, "revision": None}],
            "flags": ["licence-unknown"] if i % 10 == 0 else [],
        }  # fmt: skip


QUERIES = {
    "best of a data set": """SELECT models.id, claims.value FROM models
        JOIN claims ON claims.model = models.id AND claims.metric = 'test_accuracy'
        WHERE models.dataset = 'set17' AND models.params < 50000000
        ORDER BY claims.value DESC LIMIT 20""",
    "best of all": """SELECT model, value FROM claims WHERE metric = 'test_accuracy'
        ORDER BY value DESC LIMIT 20""",
    "search": """SELECT models.id, models.params FROM models WHERE rowid IN (
        SELECT rowid FROM models_fts WHERE models_fts MATCH 'work AND efficientnet AND 42*')
        ORDER BY params LIMIT 20""",
    "facet": "SELECT provider, count(*) FROM models GROUP BY provider",
    "by flag and family": """SELECT models.id FROM model_flags
        JOIN models ON models.id = model_flags.model
        WHERE model_flags.value = 'licence-unknown' AND models.family = 'densenet'
        ORDER BY model_flags.model LIMIT 20""",
    "one model": "SELECT * FROM models WHERE id = 'hub/user1/swin-9974'",
}


@pytest.mark.long
def test_a_million_models_are_searched_within_a_second(tmp_path):
    begun, spent = time.perf_counter(), time.process_time()
    database = SqliteWriter(tmp_path / "million.db")
    for chunk in module._chunks(synthetic(1_000_000)):
        database.add_models([values(row, MODELS) for row in chunk])
        database.add(CLAIMS, [claim for row in chunk for claim in claim_rows(row)])
    database.add(DATASETS, [values({"id": f"set{i}"}, DATASETS) for i in range(501)])
    database.finish()
    print(f"built in {time.perf_counter() - begun:.0f} s, CPU {time.process_time() - spent:.0f} s,"
          f" {(tmp_path / 'million.db').stat().st_size:,} bytes")  # fmt: skip
    connection = sqlite3.connect(tmp_path / "million.db")
    taken = {
        name: min(timed(connection, query) for _ in range(3)) for name, query in QUERIES.items()
    }
    connection.close()
    print({name: round(seconds, 3) for name, seconds in taken.items()})
    assert not {name: seconds for name, seconds in taken.items() if seconds > 1}


def timed(connection, query):
    """Return the seconds that a query takes, which must find something."""
    begun = time.perf_counter()
    assert connection.execute(query).fetchall(), query
    return time.perf_counter() - begun
