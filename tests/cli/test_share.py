"""``list --csv``, ``list --provider``, ``report --export`` and ``add model``, as commands."""

import csv
import io
import json
import sqlite3

import numpy as np
import pytest
from safetensors.numpy import save_file

from securitynet import api
from securitynet.catalogue.export import FILES


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_models_as_csv_are_the_rows_of_the_frame(cli):
    done = cli("list", "models", "-w", "provider=community", "--csv")
    rows = table(done.out)
    assert done.code == 0 and done.err == ""
    frame = api.models("provider=community")
    assert list(rows[0]) == list(frame.columns) and len(rows) == len(frame)
    listed = json.loads(cli("list", "models", "-w", "provider=community", "--json").out)
    for row, card in zip(rows, listed, strict=True):
        assert row["weights.checksum"] == card["weights"]["checksum"]
        assert json.loads(row["input.mean"] or "null") == card["input"]["mean"]
        assert row["macs"] == ("" if card["macs"] is None else str(card["macs"]))
        claim = [c["value"] for c in card["claims"] if c["metric"] == "test_accuracy"]
        assert row["claims.test_accuracy"] == ("" if not claim else repr(claim[0]))
    assert any(row["claims.test_accuracy"] for row in rows)


def test_the_frame_has_dotted_columns_and_missing_values():
    frame = api.models("provider=community")
    assert {"weights.licence", "input.height", "publication.year"} <= set(frame.columns)
    assert not {"weights", "input", "publication", "claims"} & set(frame.columns)
    known = frame["claims.test_accuracy"].dropna()
    assert len(known) >= 4 and known.between(0, 1).all()


def test_a_card_without_publication_has_empty_cells(cli, net):
    from securitynet.catalogue.cards import load_card
    from securitynet.catalogue.tables import expand
    from securitynet.reports.export import rows_to_csv

    (row,) = table(rows_to_csv([expand(load_card(net()).to_json())]))
    assert row["publication.title"] == "" and row["publication.year"] == "" and row["flags"] == "[]"
    assert json.loads(row["architecture"]) == ["flatten", {"linear": [36, 3]}]


@pytest.mark.parametrize("what", ["methods", "datasets", "results"])
def test_other_listings_are_csv_too(cli, filled, what):
    done = cli("list", what, "--csv", "--store", filled)
    rows = table(done.out)
    assert done.code == 0 and rows and all(None not in row for row in rows)
    named = {"methods": "summary", "datasets": "n_train", "results": "measures.auc.low"}[what]
    assert any(row[named] for row in rows)
    assert not {"details", "blobs"} & set(rows[0])


def test_an_empty_listing_is_an_empty_table(cli):
    assert cli("list", "results", "--csv").out.strip() == ""


def test_cells_that_a_spreadsheet_would_run_are_made_harmless():
    from securitynet.reports.export import rows_to_csv

    (row,) = table(rows_to_csv([{"id": "=HYPERLINK(1)", "n": -3, "b": True, "x": 0.1, "z": None}]))
    assert row == {"id": "'=HYPERLINK(1)", "n": "'-3", "b": "true", "x": "0.1", "z": ""}


def test_csv_and_json_together_are_refused(cli):
    done = cli("list", "models", "--csv", "--json")
    assert done.code == 2 and "--csv and --json" in done.err and done.err.count("\n") == 1


def test_a_provider_narrows_the_models(cli):
    rows = json.loads(cli("list", "models", "--provider", "community", "--json").out)
    assert rows and {row["provider"] for row in rows} == {"community"}
    wrong = cli("list", "models", "--provider", "comunity")
    assert wrong.code == 2 and "did you mean community" in wrong.err
    assert cli("list", "methods", "--provider", "hub").code == 2


def test_only_the_hub_is_listed_live(cli):
    done = cli("list", "models", "--refresh")
    assert done.code == 2 and "--provider hub --refresh" in done.err


def test_without_the_hub_the_table_of_before_is_kept(cli, monkeypatch):
    monkeypatch.setenv("SECURITYNET_HUB", "http://127.0.0.1:9")
    done = cli("list", "models", "--provider", "hub", "--refresh")
    assert done.code == 3 and done.err.count("\n") == 1 and "kept" in done.err
    assert json.loads(cli("list", "models", "--provider", "hub", "--json").out) == []


def test_an_export_needs_no_results(cli, tmp_path):
    done = cli("report", "--export", tmp_path / "out", "--store", tmp_path / "none")
    assert done.code == 0 and {path.name for path in (tmp_path / "out").iterdir()} == set(FILES)
    assert f"wrote {len(FILES)} files" in done.err


def test_an_export_holds_the_results_that_were_asked_for(cli, filled, tmp_path):
    words = ("report", "--export", tmp_path / "out", "--store", filled, "--json")
    files = json.loads(cli(*words, "-w", "method=mia.loss").out)
    assert len(files) == len(FILES)
    database = sqlite3.connect(tmp_path / "out" / "securitynet.db")
    assert database.execute("SELECT method FROM evaluations").fetchall() == [("mia.loss",)]
    found = database.execute("SELECT value FROM measures WHERE name = 'auc' AND kind = 'measure'")
    listed = json.loads(cli("list", "results", "--store", filled, "--json").out)
    auc = next(r["measures"]["auc"]["value"] for r in listed if r["method"] == "mia.loss")
    assert found.fetchall() == [(auc,)]
    database.close()


def test_an_export_into_a_foreign_folder_is_one_line(cli, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    done = cli("report", "--export", tmp_path)
    assert done.code == 2 and "thesis.tex" in done.err and done.err.count("\n") == 1
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "own" / "net.safetensors"
    path.parent.mkdir()
    save_file({"fc.weight": np.zeros((4, 6), np.float32), "fc.bias": np.zeros(4, np.float32)}, path)
    return path


def test_a_draft_is_written_beside_the_checkpoint(cli, checkpoint):
    done = cli("add", "model", checkpoint)
    card = json.loads((checkpoint.parent / "card.json").read_text())
    assert done.code == 0 and card["num_classes"] == 4 and card["input"]["height"] is None
    assert card["weights"]["checksum"] in done.out and "fill in before it is run" in done.err
    run = cli("run", "mia.loss", checkpoint.parent / "card.json")
    assert run.code == 2 and "must not be null" in run.err and run.err.count("\n") == 1


def test_an_existing_card_is_never_overwritten(cli, checkpoint):
    card = checkpoint.parent / "card.json"
    card.write_text("mine")
    done = cli("add", "model", checkpoint, "--json")
    facts = json.loads(done.out)
    assert done.code == 0 and card.read_text() == "mine"
    assert facts["is_written"] is False and facts["path"] == str(card)
    assert facts["card"]["num_classes"] == 4 and facts["architectures"] == [] and facts["advice"]
    assert "was left as it is" in done.err


def test_a_malformed_file_gets_no_card(cli, tmp_path):
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 broken")
    done = cli("add", "model", tmp_path / "broken.pth")
    assert done.code in (1, 4) and done.err.count("\n") == 1
    assert not (tmp_path / "card.json").exists()


@pytest.mark.parametrize("name", ["missing.pth", "missing.json", ""])
def test_what_is_no_checkpoint_is_one_line(cli, tmp_path, name):
    done = cli("add", "model", tmp_path / name)
    assert done.code == 2 and done.err.count("\n") == 1


def test_a_card_to_contribute_is_drafted_filled_in_and_checked(cli, checkpoint):
    done = cli("add", "model", checkpoint, "--url", "https://example.org/net.safetensors")
    path = checkpoint.parent / "net.json"
    card = json.loads(path.read_text())
    assert (
        done.code == 0 and str(path) in done.err and "securitynet add model CARD.json" in done.err
    )
    assert card["id"] == "community/net" and card["weights"]["url"].startswith("https://")
    assert "path" not in card["weights"] and card["weights"]["licence"] is None

    unfilled = cli("add", "model", path)
    assert unfilled.code == 2 and unfilled.out == "net.json: dataset: must not be null\n"
    network = ["flatten", {"linear": [784, 10]}]
    card |= {"dataset": "mnist", "num_classes": 10, "architecture": network, "claims": []}
    card["input"] |= {"channels": 1, "height": 28, "width": 28}
    card["weights"] |= {"licence": "MIT", "licence_source": "code"}
    path.write_text(json.dumps(card))
    checked = cli("add", "model", path)
    assert (checked.code, checked.out) == (0, "") and "data/community/" in checked.err
    facts = json.loads(cli("add", "model", path, "--json").out)
    assert facts == {"path": str(path), "problems": []}


def test_every_problem_of_a_card_is_a_line(cli, checkpoint):
    cli("add", "model", checkpoint, "--url", "https://example.org/net.safetensors")
    path = checkpoint.parent / "net.json"
    card = json.loads(path.read_text())
    card |= {"dataset": "nist", "num_classes": 10, "architecture": ["flatten"], "claims": []}
    card["input"] |= {"channels": 1, "height": 28, "width": 28}
    path.write_text(json.dumps(card))
    done = cli("add", "model", path)
    lines = done.out.splitlines()
    assert (
        done.code == 2 and len(lines) == 3 and all(text.startswith("net.json: ") for text in lines)
    )
    assert json.loads(cli("add", "model", path, "--json").out)["problems"] == lines
    wrong = cli("add", "model", checkpoint, "--url", "http://example.org/x")
    assert wrong.code == 2 and "https" in wrong.err
