"""Every kind of bad input: one line that helps, the right exit code, a store untouched."""

import json
import pickle
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

N_CLASSES, SIZE = 3, 6


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Send downloads to a port of this machine that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("SECURITYNET_HUB", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("SECURITYNET_DATA", "")


@pytest.fixture
def refused(cli, tmp_path):
    """Give a command that must fail; return its one line."""

    def run(code, *arguments, says=()):
        done = cli(*arguments)
        assert (done.code, done.out) == (code, ""), done
        assert done.err.startswith("securitynet: ") and done.err.count("\n") == 1, done.err
        assert "Traceback" not in done.err and "unexpected" not in done.err
        for words in says:
            assert words in done.err
        assert not (tmp_path / "store").exists(), "the store was touched"
        return done.err

    return run


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("lst",), ("'lst'", "list", "securitynet --help")),
        (("list", "--nope"), ("--nope", "securitynet list --help")),
        (("list", "--jsn"), ("--jsn", "--json")),
        (("list", "modls"), ("'modls'", "'models'", "securitynet list --help")),
        (("list", "models", "--limit", "-1"), ("--limit", "0")),
        (("list", "models", "--limit", "few"), ("--limit",)),
        (("list", "models", "--sort", "nme"), ("'nme'", "did you mean name")),
        (("list", "models", "-w", "datset=mnist"), ("'datset'", "did you mean dataset")),
        (("list", "models", "-w", "dataset"), ("FIELD=VALUE",)),
        (("show",), ("ID",)),
        (("show", "mia.los"), ("mia.los", "did you mean mia.loss")),
        (("show", "community/akamaster-resnet2"), ("did you mean", "community/akamaster-resnet20")),
        (("show", "abcdef0123"), ("abcdef0123", "securitynet list")),
        (("get",), ("no model given",)),
        (("get", "-w", "dataset=none"), ("no model matches dataset=none",)),
        (("scan", "missing.pt"), ("unknown file or model", "missing.pt")),
        (("report",), ("no results", "securitynet run")),
        (("run",), ("METHOD", "securitynet run --help")),
        (("run", "mia.loss"), ("no model given", "-w FIELD=VALUE")),
        (("run", ",", "{card}"), ("no method given", "securitynet list methods")),
        (("run", "mia.los", "{card}"), ("mia.los", "did you mean mia.loss")),
        (("run", "mia.loss", "community/akamaster-resnet2"), ("akamaster-resnet20",)),
        (("run", "mia.loss", "missing/card.json"), ("missing/card.json",)),
        (("run", "mia.loss", "{card}", "--data", "cifar1"), ("did you mean cifar10",)),
        (("run", "mia.loss", "{card}", "--data", "./nowhere"), ("./nowhere", "folder")),
        (("run", "mia.loss", "{card}", "--seeds", "x"), ("'x'", "0-4")),
        (("run", "mia.loss", "{card}", "--seeds", "4-2"), ("no seeds", "0-4")),
        (("run", "mia.loss", "{card}", "--seeds", "-3"), ("'-3'", "0-4")),
        (("run", "mia.loss", "{card}", "--seeds", "0-999999999"), ("1,000",)),
        (("run", "mia.loss", "{card}", "--limit", "1"), ("--limit", "2")),
        (("run", "mia.loss", "{card}", "-j", "0"), ("1",)),
        (("run", "mia.loss", "{card}", "-o", "epochs"), ("'epochs'", "method.key=value")),
        (("run", "mia.loss", "{card}", "-o", "steal.knockoff.epochs=3"), ("does not use",)),
        (
            ("run", "steal.knockoff", "{card}", "-o", "steal.knockoff.epoch=3"),
            ("'epoch'", "did you mean epochs"),
        ),
        (
            ("run", "steal.knockoff", "{card}", "-o", "steal.knockoff.epochs=many"),
            ("epochs", "'many' is not int"),
        ),
        (
            ("run", "steal.knockoff", "{card}", "-o", "steal.knockoff.response=loud"),
            ("'loud'", "soft, hard"),
        ),
    ],
    ids=lambda part: " ".join(part),
)
def test_what_cannot_mean_anything_is_usage(refused, material, arguments, says):
    card = material.cards[0]
    refused(2, *(word.replace("{card}", card) for word in arguments), says=says)


def test_what_strangers_wrote_cannot_act_on_the_terminal(refused, net, material):
    hostile = "\x1b[31mred\x1b]0;title\x07"
    card = net(weights={"path": f"{hostile}.pt"})
    line = refused(3, "run", "mia.loss", card, "--data", material.images, says=("red", "title"))
    assert line.rstrip("\n").isprintable()
    line = refused(2, "run", "mia.loss", net(name=hostile), says=("id must be plain words",))
    assert line.rstrip("\n").isprintable()


def test_a_data_set_that_is_not_here_says_how_to_get_it(refused, net):
    card = net(num_classes=10, dataset="cifar10")
    line = refused(3, "run", "mia.loss", card)
    for words in ("cifar10 is not on this machine", "train.parquet", "SECURITYNET_DATA=FOLDER"):
        assert words in line


def test_weights_that_are_not_here_say_how_to_get_them(refused, net, material):
    card = net(weights={"checksum": "0" * 64, "checksum_algorithm": "sha256"})
    says = ("SECURITYNET_MIRROR",)
    refused(3, "run", "mia.loss", card, "--data", material.images, says=says)
    refused(3, "run", "mia.loss", net(weights={"path": "gone.pt"}), "--data", material.images,
            says=("gone.pt", "weights.path"))  # fmt: skip


def test_a_data_set_with_other_classes_names_both_numbers(refused, material):
    refused(2, "run", "mia.loss", material.cards[0], "--data", "digits",
            says=("3 classes", "digits has 10"))  # fmt: skip


def test_a_damaged_checkpoint_is_an_integrity_error(refused, net, material):
    card = net()
    path = card.parent / "net.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    refused(4, "run", "mia.loss", card, "--data", material.images, says=("damaged", "local/net"))


def test_a_checksum_that_fails_is_an_integrity_error(refused, net, material):
    card = net(weights={"path": "net.safetensors", "checksum": "ab" * 32,
                        "checksum_algorithm": "sha256"})  # fmt: skip
    line = refused(4, "run", "mia.loss", card, "--data", material.images)
    assert "net.safetensors does not have the card's sha256 abababab" in line


class Bomb:
    """A pickle that would make a file if it were opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_an_unsafe_checkpoint_is_refused_with_its_evidence(refused, cli, net, material, tmp_path):
    card = net(weights={"path": "net.pt"})
    unsafe, canary = card.parent / "net.pt", tmp_path / "canary"
    unsafe.write_bytes(pickle.dumps(Bomb(canary), protocol=2))
    line = refused(1, "run", "mia.loss", card, "--data", material.images)
    for words in ("UNSAFE", "byte", "do not open it"):
        assert words in line
    scanned = cli("scan", unsafe, "--json")
    assert scanned.code == 1
    assert [report["verdict"] for report in scanned.json] == ["UNSAFE"]
    assert not canary.exists()


def test_a_card_with_an_unknown_field_names_it(refused, net):
    refused(2, "run", "mia.loss", net(clases=3), says=("clases", "card.json"))


def test_a_card_that_is_not_json_is_named(refused, tmp_path):
    (tmp_path / "card.json").write_text("{", encoding="utf-8")
    refused(2, "show", tmp_path / "card.json", says=("not a card", "docs/cards.md"))


def test_an_empty_folder_is_no_data_set(refused, material, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(2, "run", "mia.loss", material.cards[0], "--data", tmp_path / "empty", says=("empty",))


def test_images_that_cannot_be_read_are_an_integrity_error(refused, material, tmp_path):
    for split in ("train", "test"):
        for label in range(N_CLASSES):
            place = tmp_path / "images" / split / f"class{label}"
            place.mkdir(parents=True)
            for i in range(4):
                (place / f"{i}.png").write_bytes(b"no picture")
    line = refused(4, "run", "mia.loss", material.cards[0], "--data", tmp_path / "images")
    assert ".png" in line


def test_too_few_images_to_audit_are_said_to_be(refused, material, tmp_path):
    for split, n in (("train", 4), ("test", 0)):
        for label in range(N_CLASSES):
            place = tmp_path / "images" / split / f"class{label}"
            place.mkdir(parents=True)
            for i in range(n):
                Image.fromarray(np.full((SIZE, SIZE), i, dtype=np.uint8)).save(place / f"{i}.png")
    refused(2, "run", "mia.loss", material.cards[0], "--data", tmp_path / "images")


@pytest.mark.parametrize("below", [(), ("deeper",)])
def test_a_store_that_cannot_be_written_is_the_machines_fault(cli, material, tmp_path, below):
    (tmp_path / "taken").write_text("not a folder", encoding="utf-8")
    store = tmp_path.joinpath("taken", *below)
    done = cli("run", "mia.loss", material.cards[0], "--data", material.images, "--store", store)
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)
    assert "cannot write" in done.err and str(store) in done.err
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "not a folder"


def test_a_file_that_cannot_be_written_is_the_machines_fault(cli, filled, tmp_path):
    (tmp_path / "taken").touch()
    done = cli("report", "--csv", tmp_path / "taken" / "table.csv", "--store", filled)
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)
    assert "cannot write" in done.err


def test_bad_input_leaves_earlier_results_as_they_are(cli, filled, material, net):
    before = {path: path.read_bytes() for path in filled.rglob("*") if path.is_file()}
    assert before
    for arguments in (
        ("run", "mia.los", material.cards[0]),
        ("run", "mia.loss", material.cards[0], "--data", "digits"),
        ("run", "mia.loss", net(num_classes=1)),
        ("show", "0000"),
    ):
        assert cli(*arguments, "--store", filled).code == 2
    assert {path: path.read_bytes() for path in filled.rglob("*") if path.is_file()} == before


def test_one_bad_model_among_several_fails_alone(cli, material, net):
    bad = net(weights={"path": "gone.pt"})
    done = cli("run", "mia.loss", material.cards[0], bad, "--data", material.images, "--json")
    assert done.code == 1
    assert {r["model"]: r["status"] for r in done.json} == {
        "local/net0": "ok", "local/net7": "failed",
    }  # fmt: skip
    assert "gone.pt" in done.err
    listed = cli("list", "results", "--json").json
    assert [record["model"] for record in listed] == ["local/net0"], "trouble is no result"


def test_a_damaged_record_is_an_integrity_error(cli, filled):
    path = sorted(filled.glob("results/*/*.json"))[0]
    path.write_text(path.read_text(encoding="utf-8")[:-30], encoding="utf-8")
    for arguments in (("list", "results"), ("status",), ("report",)):
        done = cli(*arguments, "--store", filled)
        assert (done.code, done.err.count("\n")) == (4, 1), arguments
        assert path.name in done.err
    done = cli("doctor", "--gc", "--json", "--store", filled)
    assert done.code == 4 and "nothing was deleted" in done.err
    assert len(done.json["store_problems"]) == 1 and done.json["deleted"] is None


def test_a_traceback_is_shown_on_request_only(cli):
    assert "Traceback" not in cli("show", "mia.los", "-v").err
    for words in (("-vv",), ("-v", "-v"), ("--verbose", "-v")):
        assert "Traceback" in cli("show", "mia.los", *words).err


def test_a_defect_of_ours_is_one_line_too(cli, monkeypatch):
    def broken():
        raise RuntimeError("a defect")

    monkeypatch.setattr("securitynet.catalogue.pins.known_rows", broken)
    done = cli("list", "models")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "unexpected RuntimeError: a defect" in done.err and "-vv" in done.err


def test_card_errors_reach_the_user_whole(refused, net, material):
    card = net()
    record = json.loads(card.read_text(encoding="utf-8"))
    del record["input"]
    card.write_text(json.dumps(record), encoding="utf-8")
    refused(2, "run", "mia.loss", card, "--data", material.images, says=("missing input",))
