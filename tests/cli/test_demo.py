"""``securitynet demo`` from end to end: what its page says of the four models is so."""

import pytest

METHODS = 23
"""Attacks and detectors, variants included."""


@pytest.mark.long
def test_the_demo_finds_what_was_done_to_its_models(cli, tmp_path):
    page = tmp_path / "demo.html"
    done = cli("demo", "--json", "--html", page, "--store", tmp_path / "store")
    assert done.code == 0 and page.stat().st_size > 10_000
    records = done.json
    assert len(records) == 4 * METHODS
    assert all("one-control" not in record["flags"] for record in records)

    def of(method, measure):
        mine = [record for record in records if record["method"] == method]
        return {r["model"].split("/")[1]: r["measures"][measure] for r in mine}

    loss = of("mia.loss", "auc")
    assert max(loss, key=lambda name: loss[name]["value"]) == "digits-overfitted"
    assert loss["digits-overfitted"]["low"] > loss["digits-regularised"]["high"]
    suspected = {r["model"] for r in records if "backdoor-suspected" in r["flags"]}
    assert suspected == {"self-trained/digits-badnets"}
    lira = [record for record in records if record["method"] == "mia.lira_offline"]
    assert all(record["nulls"] and record["conditions"]["references"] for record in lira)
