"""Fill rates and the three counts: catalogued, verified, evaluated."""

import json

import pytest

from securitynet.catalogue.completeness import FACTS, counts, fill_rates, states
from securitynet.catalogue.tables import expand, rows

CARD = {
    "id": "a/full", "provider": "a", "name": "full", "dataset": "digits", "num_classes": 10,
    "family": "x", "architecture": "timm/x", "params": 1, "macs": 1, "pretraining": [],
    "input": {"channels": 1, "height": 8, "width": 8}, "aliases": ["b/other"],
    "weights": {
        "url": "https://example.org", "checksum": "0", "licence": "MIT",
        "licence_source": "code", "bytes": 1,
    },
    "publication": {"title": "t", "arxiv": "1", "authors": ["A"], "countries": ["US"]},
    "claims": [{"metric": "test_accuracy", "value": 0.5, "source": "x"}],
}  # fmt: skip
BARE = {
    "id": "b/bare", "provider": "b", "name": "bare", "dataset": "digits", "num_classes": 10,
    "architecture": "timm/x", "input": {"channels": 1, "height": 8, "width": 8},
    "weights": {"licence": "unknown", "licence_source": "unstated"},
    "claims": [{"metric": "robust_accuracy", "value": 0, "source": "x"}],
}  # fmt: skip


def test_what_is_there_is_counted_and_what_is_not_is_not():
    rates = {row["fact"]: row for row in fill_rates([expand(CARD), expand(BARE)])}
    assert set(rates) == set(FACTS)
    assert all(row["a"] == {"n": 1, "share": 1.0} for row in rates.values())
    always = {"data set", "classes", "architecture", "input", "origin", "licence looked up"}
    assert {fact for fact, row in rates.items() if row["b"]["n"]} == always
    assert rates["checksum"]["total"] == {"n": 1, "share": 0.5}
    assert counts([expand(CARD), expand(BARE)]) == {"a": 1, "b": 1, "total": 2}


def test_a_model_counts_once_whatever_it_was_called():
    catalogue = [expand(CARD), expand(BARE)]
    assert states(catalogue, []) == {"catalogued": 2, "verified": 0, "evaluated": 0}
    tried = [
        ("a/full", True, True), ("b/other", True, True), ("b/bare", False, True),
        ("local/mine", True, True),
    ]  # fmt: skip
    assert states(catalogue, tried) == {"catalogued": 2, "verified": 1, "evaluated": 1}
    believed = [("a/full", True, False)]
    assert states(catalogue, believed) == {"catalogued": 2, "verified": 0, "evaluated": 1}
    shipped = [expand({**CARD, "status": "verified"})]
    assert states(shipped, []) == {"catalogued": 1, "verified": 1, "evaluated": 0}


def test_every_fact_that_must_be_complete_is():
    rates = {row["fact"]: row["total"] for row in fill_rates(rows())}
    for fact in ("data set", "classes", "architecture", "input", "origin", "licence looked up"):
        assert rates[fact]["share"] == 1, fact
    for fact, share in (("publication", 0.95), ("accuracy claimed", 0.89), ("parameters", 0.98)):
        assert rates[fact]["share"] >= share, fact


@pytest.mark.parametrize("words", [(), ("--json",), ("-q",)])
def test_the_command_line_says_it(words, tmp_path, capsys, monkeypatch):
    from securitynet.cli.app import main

    monkeypatch.setattr("sys.argv", ["securitynet", "doctor", "--catalogue", *words,
                                     "--store", str(tmp_path / "store")])  # fmt: skip
    try:
        main()
    except SystemExit as end:
        assert not end.code
    said = capsys.readouterr().out
    if words == ("--json",):
        found = json.loads(said)
        assert found["models"] == states(rows(), [])
        assert found["providers"]["total"] == len(rows())
        assert 700 <= found["evaluable"] < len(rows())
        n_imagenet = sum(row["dataset"] == "imagenet1k" for row in rows())
        assert 0 < found["evaluable_by_proxy"] <= n_imagenet
        assert {row["fact"] for row in found["facts"]} == set(FACTS)
    else:
        assert f"{len(rows()):,} models" in said and "accuracy claimed" in said
        assert "can be evaluated on data that anybody may fetch" in said
        assert "bytes verified" in said and "evaluated" in said


@pytest.mark.parametrize(
    ("change", "is_evaluable"),
    [
        ({}, True),
        ({"dataset": "imagenet1k"}, False),  # behind a gate
        ({"dataset": "nobody-knows"}, False),
        ({"dataset": "bamboo"}, False),  # nobody knows whether it has a gate
        ({"num_classes": 11}, False),
        ({"input": {**CARD["input"], "depth": 28}}, False),
        ({"flags": ["multi-label"]}, False),
        ({"architecture": "robustbench/some_ensemble"}, False),
    ],
)
def test_what_can_be_evaluated_has_open_data_and_a_network(change, is_evaluable, monkeypatch):
    from securitynet.catalogue import tables
    from securitynet.cli.completeness import n_evaluable

    row = expand({**CARD, "dataset": "cifar10", **change})
    monkeypatch.setattr(tables, "rows", lambda: (row,))
    assert n_evaluable() == int(is_evaluable)


def test_a_share_is_whole_only_if_nothing_is_missing():
    from securitynet.cli.completeness import share_in_words

    shown = [share_in_words(share) for share in (1, 0, 0.9999, 0.0001, 0.5)]
    assert shown == ["100%", "0%", "99.9%", "0.1%", "50.0%"]
