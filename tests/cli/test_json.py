"""``--json``: stdout is one JSON document with the promised fields; all else is on stderr."""

import json
import math
from pathlib import Path

import pytest

MODEL = {
    "id", "provider", "name", "dataset", "num_classes", "family", "architecture", "params",
    "origin", "input", "weights", "publication", "claims", "status",
}  # fmt: skip
WEIGHTS = {"url", "format", "checksum", "checksum_algorithm", "licence"}
PUBLICATION = {"title", "venue", "venue_type", "year", "arxiv", "countries"}
RECORD = {
    "key", "method", "version", "config", "model", "weights_sha256", "origin", "dataset", "seed",
    "status", "measures", "nulls", "flags", "queries", "seconds", "error", "environment",
}  # fmt: skip
MEASURE = {"value", "low", "high", "n"}
MEMBERSHIP = {
    "auc", "tpr_at_fpr_1pct", "tpr_at_fpr_0.1pct", "balanced_accuracy", "train_accuracy",
    "test_accuracy", "gap",
}  # fmt: skip


def only_json(text):
    """Parse stdout as strict JSON: one document, no NaN."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_models_have_every_promised_field(cli):
    done = cli("list", "models", "--json")
    cards = only_json(done.out)
    assert done.code == 0 and len(cards) >= 12
    for card in cards:
        assert set(card) >= MODEL, card["id"]
        assert set(card["weights"]) >= WEIGHTS and set(card["input"]) >= {"channels", "height"}
        assert card["publication"] is None or set(card["publication"]) >= PUBLICATION
        assert all(set(claim) >= {"metric", "value", "source"} for claim in card["claims"])
        assert card["origin"] in ("benchmark", "security", "other", "self-trained")
        assert card["status"] in ("catalogued", "verified", "evaluated", "no-weights")
        assert isinstance(card["id"], str) and "/" in card["id"]


def test_what_is_unknown_is_null_never_zero(cli, net):
    card = only_json(cli("show", net(), "--json").out)
    assert [card[name] for name in ("params", "family", "publication")] == [None] * 3
    assert [card["weights"][name] for name in ("url", "licence", "bytes")] == [None] * 3
    assert card["claims"] == []


def test_methods_and_data_sets_are_whole(cli):
    rows = only_json(cli("list", "methods", "--json").out)
    named = {row["name"]: row for row in rows}
    assert {"mia.loss", "steal.knockoff", "backdoor.neural_cleanse"} <= set(named)
    options = {option["name"]: option for option in named["steal.knockoff"]["options"]}
    assert options["response"]["choices"] == ["soft", "hard"]
    sets = {row["name"]: row for row in only_json(cli("list", "datasets", "--json").out)}
    assert sets["digits"]["is_available"] is True and sets["cifar10"]["num_classes"] == 10


@pytest.mark.parametrize("status", ["ok", "failed"])
def test_run_and_list_results_give_records_with_every_promised_field(cli, net, material, status):
    architecture = ["flatten", {"linear": [36, 3]}] if status == "ok" else ["flatten"]
    card = net(architecture=architecture)
    done = cli("run", "membership", card, "--data", material.images, "--json")
    records = only_json(done.out)
    assert done.code == (0 if status == "ok" else 1), done.err
    assert len(records) == 13
    for record in records:
        assert set(record) >= RECORD
        assert record["status"] == status or (status, record["status"]) == ("failed", "refused")
        for measure in (*record["measures"].values(), *record["nulls"].values()):
            assert set(measure) == MEASURE
            assert all(part is None or math.isfinite(part) for part in measure.values())
        if status == "ok":
            assert set(record["measures"]) >= MEMBERSHIP
            copies = {"mia.label_augment": 7, "mia.label_noise": 25}.get(record["method"], 1)
            assert record["error"] is None and record["queries"] == 120 * copies
        else:
            assert record["measures"] == {} and record["error"] and record["queries"] is None
    listed = only_json(cli("list", "results", "--json").out)
    assert listed == records, "one is a view of the other"
    assert only_json(cli("report", "--json").out) == records


def test_a_dry_run_is_a_list_of_jobs_whose_keys_the_run_then_has(cli, material, tmp_path):
    words = ("run", "mia.loss,mia.entropy", *material.cards, "--data", material.images, "--json")
    planned = only_json(cli(*words, "--dry-run").out)
    assert not (tmp_path / "store").exists()
    assert sorted(job["key"] for job in planned) == sorted(
        record["key"] for record in only_json(cli(*words).out)
    )


def test_every_other_verb_is_pure_json_too(cli, filled, material, monkeypatch):
    monkeypatch.setenv("SECURITYNET_STORE", str(filled))
    key = only_json(cli("list", "results", "--json", "--limit", "1").out)[0]["key"]
    assert only_json(cli("show", key[:8], "--json").out)["key"] == key
    assert only_json(cli("show", "mia.loss", "--json").out)["name"] == "mia.loss"
    status = only_json(cli("status", "--json").out)
    assert status["records"] == {"ok": 2}
    assert set(status["plans"][0]) == {
        "command", "jobs", "done", "failed", "refused", "left", "eta_seconds",
    }  # fmt: skip
    doctor = only_json(cli("doctor", "--json").out)
    assert doctor["records"] == 2 and doctor["store_problems"] == []
    (got,) = only_json(cli("get", material.cards[0], "--json").out)
    assert (got["status"], got["verified_by"]) == ("unverified", None) and len(got["sha256"]) == 64
    (scanned,) = only_json(cli("scan", material.cards[0], "--json").out)
    assert (scanned["verdict"], scanned["sha256"]) == ("SAFE", got["sha256"])


def test_a_failing_verb_still_prints_its_json(cli, net):
    bad = net(weights={"path": "gone.pt"})
    done = cli("get", bad, "--json")
    assert done.code == 3
    (row,) = only_json(done.out)
    assert row["status"] == "refused" and row["sha256"] is None and "gone.pt" in row["error"]
    assert only_json(cli("list", "results", "--json").out) == []


@pytest.mark.long
def test_train_is_pure_json(cli, material, tmp_path):
    words = ("train", "mlp", "--data", material.images, "--epochs", "1", "--json")
    (card,) = only_json(cli(*words, "--out", tmp_path / "models").out)
    assert set(card) >= MODEL | {"card"}


def test_leads_are_listed_and_filtered(cli):
    rows = only_json(cli("list", "leads", "--json").out)
    assert len(rows) == 102 and all(isinstance(row["year"], int) for row in rows)
    usable = only_json(cli("list", "leads", "-w", "is_usable=yes", "--json").out)
    assert usable == [row for row in rows if row["is_usable"]] and 0 < len(usable) < len(rows)
    assert all(row["reason"] is None and row["weights_url"] for row in usable)
    others = only_json(cli("list", "leads", "-w", "is_usable=false", "--json").out)
    assert len(others) == 102 - len(usable) and all(row["reason"] for row in others)
    assert cli("list", "leads", "-w", "usable=yes").code == 2
    shown = cli("list", "leads", "--sort", "title", "--limit", "2").out.splitlines()
    assert len(shown) == 3 and shown[0].startswith("title") and ",0" not in shown[1]


def test_a_card_with_a_checksum_is_verified_and_says_by_what(cli, net, material):
    from securitynet.files.digest import digest

    bare = Path(net())
    sha256 = digest(bare.parent / "net.safetensors")
    card = json.loads(bare.read_text())
    card["weights"] |= {"checksum": sha256, "checksum_algorithm": "sha256"}
    assert "the card has no checksum" in cli("show", str(bare)).out
    bare.write_text(json.dumps(card))
    assert "verified by a published sha256" in cli("show", str(bare)).out
    (got,) = only_json(cli("get", str(bare), "--json").out)
    assert (got["status"], got["verified_by"], got["error"]) == ("verified", "sha256", None)
    card["weights"]["checksum"] = "0" * 64
    bare.write_text(json.dumps(card))
    (got,) = only_json(cli("get", str(bare), "--json").out)
    assert (got["status"], got["verified_by"]) == ("refused", None) and got["error"]
