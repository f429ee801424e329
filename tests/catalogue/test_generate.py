"""``python -m securitynet.catalogue.generate``: the same sources give the same tables."""

import gzip
import json
import os
from pathlib import Path

import pytest

from securitynet.catalogue import generate, generators, tables
from securitynet.catalogue.cards import parse_card
from securitynet.catalogue.generate import finished, main
from securitynet.errors import ResourceError, UsageError

CARD = {
    "id": "toy/mine",
    "provider": "toy",
    "name": "mine",
    "dataset": "digits",
    "num_classes": 10,
    "architecture": "timm/resnet18",
    "input": {"channels": 1, "height": 8, "width": 8},
    "weights": {"url": "https://example.org/mine.pth", "licence": "MIT"},
}
FACTS = os.environ.get("SECURITYNET_FACTS") or Path(__file__).parents[3] / "shared" / "facts"


def card(**changes):
    return parse_card({**CARD, **changes}, where="x")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Give the package one generator and an empty folder of tables; return what it yields."""
    made = [card()]

    def run(facts):
        if facts is not None and facts.name == "nowhere":
            raise ResourceError("its source is not here")
        return made

    monkeypatch.setattr(generate, "GENERATORS", {"toy": run})
    monkeypatch.setattr(generate, "DATA", tmp_path)
    monkeypatch.delenv(generate.FACTS, raising=False)
    monkeypatch.setattr(tables, "data_folder", lambda: tmp_path)
    return made


def test_tables_are_written_once_and_checked_after(toy, tmp_path, capsys):
    assert main(["--check"]) == 1 and not list(tmp_path.iterdir())
    assert main([]) == 0
    (path,) = tmp_path.iterdir()
    assert path.name == "toy.jsonl" and json.loads(path.read_text())["id"] == "toy/mine"
    assert path.stat().st_mode & 0o777 == 0o644
    before = path.stat().st_mtime_ns
    assert main(["--check"]) == 0 and main(["toy"]) == 0
    assert path.stat().st_mtime_ns == before
    assert "1 models, as it was" in capsys.readouterr().out


def test_a_change_is_shown_and_written(toy, tmp_path, capsys):
    main([])
    toy[0] = card(params=7)
    assert main(["--check"]) == 1
    assert "2 lines differ" in capsys.readouterr().out
    assert main([]) == 0 and '"params":7' in (tmp_path / "toy.jsonl").read_text()


def test_a_table_that_grew_is_compressed_and_the_plain_one_goes(toy, tmp_path, monkeypatch):
    main([])
    monkeypatch.setattr(tables, "MAX_PLAIN_BYTES", 10)
    toy.append(card(id="toy/other", name="other"))
    assert main([]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["toy.jsonl.gz"]
    assert gzip.decompress((tmp_path / "toy.jsonl.gz").read_bytes()).count(b"\n") == 2
    assert main(["--check"]) == 0


def test_a_table_whose_source_is_missing_is_kept(toy, tmp_path, capsys):
    main([])
    before = (tmp_path / "toy.jsonl").read_bytes()
    assert main(["--facts", str(tmp_path / "nowhere")]) == 0
    assert "toy: kept as it is: its source is not here" in capsys.readouterr().out
    assert (tmp_path / "toy.jsonl").read_bytes() == before


def test_an_unknown_provider_is_refused(toy, capsys):
    assert main(["toyy"]) == 2
    assert "did you mean toy" in capsys.readouterr().err


def test_an_unstated_licence_is_flagged_when_a_table_is_made():
    (done,) = finished([card(weights={"url": "https://example.org/x"}, flags=["dead-link"])])
    assert done.flags == ("dead-link", "licence-unknown")
    (done,) = finished([card()])
    assert done.flags == ()


def test_a_model_is_generated_once_and_checked():
    with pytest.raises(UsageError, match="generated twice"):
        finished([card(), card()])
    from dataclasses import replace

    with pytest.raises(UsageError, match="toy/mine: params must be positive"):
        finished([replace(card(), params=-1)])


@pytest.mark.public
@pytest.mark.parametrize("provider", sorted(generators.GENERATORS))
def test_the_shipped_tables_are_what_their_sources_give(provider, capsys):
    if provider == "timm" and not (Path(FACTS) / "timm").is_dir():
        pytest.skip("the result tables of timm's repository are not here (SECURITYNET_FACTS)")
    arguments = [provider, "--check", "--facts", str(FACTS)]
    code = main(arguments)
    said = capsys.readouterr().out
    if f"{provider}: kept as it is" in said:
        pytest.skip(said)
    assert code == 0, said
