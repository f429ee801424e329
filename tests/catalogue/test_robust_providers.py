"""RobustBench, robust-models-transfer and IVRL: free text read right, nothing left empty."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from securitynet.catalogue.cards import parse_card
from securitynet.catalogue.datasets import known_datasets
from securitynet.catalogue.generate import finished
from securitynet.catalogue.generators import adversary_loss_landscape as ivrl
from securitynet.catalogue.generators import counting, robustbench
from securitynet.catalogue.generators import robust_models_transfer as transfer
from securitynet.catalogue.generators.robustbench_architectures import read_network
from securitynet.catalogue.generators.robustbench_papers import parse_venue, publication
from securitynet.catalogue.tables import rows
from securitynet.errors import ResourceError

ROOT = Path(__file__).resolve().parents[2]
PROVIDERS = {"robustbench": 206, "robust-models-transfer": 67, "ivrl": 81, "medmnist": 252}
ZOO = [row for row in rows() if row["provider"] == "robustbench"]
RECORD = {
    "link": "https://arxiv.org/abs/2003.09461", "name": "A title", "authors": "Ada B, Bo C",
    "additional_data": False, "number_forward_passes": 1, "dataset": "cifar10",
    "venue": "ECCV 2020", "architecture": "ResNet-50", "eps": "0.031", "clean_acc": "91.08",
    "reported": "", "autoattack_acc": "72.91", "unreliable": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def facts():
    """Return the folder of data files; skip by name where it is not."""
    named = os.environ.get("SECURITYNET_FACTS")
    folder = Path(named) if named else ROOT.parent / "shared" / "facts"
    if not folder.is_dir():
        pytest.skip("the facts (SECURITYNET_FACTS or ../shared/facts) are not here")
    return folder


@pytest.fixture
def zoo_of(tmp_path):
    """Return a function that makes the cards of one invented model."""

    def make(table="linf", name="Ada2020Model", ids="abc", expression="ResNet18", **record):
        folder = tmp_path / "robustbench"
        folder.mkdir(exist_ok=True)
        line = {
            "dataset": "cifar10", "table": table, "name": name, "gdrive_id": ids,
            "architecture_expression": expression,
        }  # fmt: skip
        key = f"cifar10/{robustbench.TABLES[table]}/{name}.json"
        (folder / "zoo.json").write_text(json.dumps([line]))
        (folder / "model_info.json").write_text(json.dumps({key: RECORD | record}))
        return finished(robustbench.generate(tmp_path))

    return make


@pytest.mark.parametrize(("provider", "n_models"), PROVIDERS.items())
def test_the_shipped_tables_are_complete(provider, n_models):
    table = [row for row in rows() if row["provider"] == provider]
    assert len(table) == n_models
    for row in table:
        assert all(row[name] for name in ("family", "architecture", "input", "publication"))
        assert row["dataset"] in known_datasets()
        assert known_datasets()[row["dataset"]]["n_classes"] == row["num_classes"]
        assert row["weights"]["url"].startswith("https://")
        assert row["weights"]["licence"]
        assert row["weights"]["licence_source"]
        assert row["origin"] == ("other" if provider == "medmnist" else "security")
        assert row["params"] or provider == "robustbench"


@pytest.mark.long
@pytest.mark.parametrize("table", ["robustbench", "robust-models-transfer"])
def test_the_same_facts_give_the_shipped_table(table, facts):
    module = {"robustbench": robustbench, "robust-models-transfer": transfer}[table]
    made = {card.id: card for card in finished(module.generate(facts))}
    shipped = [row for row in rows() if row["provider"] == table]
    assert set(made) == {row["id"] for row in shipped}
    for row in shipped:
        plain = {name: value for name, value in row.items() if name != "source"}
        assert made[row["id"]] == parse_card(plain, where=row["id"])


@pytest.mark.parametrize("module", [robustbench, transfer])
def test_missing_facts_are_said(module, tmp_path):
    for folder in (None, tmp_path):
        with pytest.raises(ResourceError, match="not there"):
            module.generate(folder)


# --- RobustBench


def test_the_zoo_by_data_set_and_threat():
    places = Counter(tuple(row["id"].split("/")[1:3]) for row in ZOO)
    assert places == {
        ("cifar10", "Linf"): 76, ("cifar10", "L2"): 21, ("cifar10", "corruptions"): 17,
        ("cifar100", "Linf"): 38, ("cifar100", "corruptions"): 12, ("imagenet", "Linf"): 30,
        ("imagenet", "corruptions"): 12,
    }  # fmt: skip
    assert all(row["params"] for row in ZOO)
    without_cost = [row["id"] for row in ZOO if row["macs"] is None]
    assert without_cost == ["robustbench/cifar10/Linf/Kang2021Stable"]  # it depends on the input
    assert not [row["id"] for row in ZOO if row["status"] == "no-weights"]


def test_budgets_licences_and_flags_of_the_zoo():
    threats = Counter(row["threat_model"] for row in ZOO)
    assert threats == {
        "Linf 8/255": 113, "Linf 4/255": 29, "L2 0.5": 20, "corruptions": 38, None: 6,
    }  # fmt: skip
    licences = Counter(row["weights"]["licence"] for row in ZOO)
    assert licences["CC-BY-NC-SA-4.0"] == 2
    assert licences["Apache-2.0"] == 29
    flags = Counter(flag for row in ZOO for flag in row["flags"])
    assert flags["unreliable-autoattack"] == 1
    assert flags["ensemble"] == 11


def test_a_record_becomes_a_card(zoo_of):
    [card] = zoo_of()
    assert card.id == "robustbench/cifar10/Linf/Ada2020Model"
    assert card.threat_model == "Linf 8/255"
    claims = {claim.metric: (claim.value, claim.n) for claim in card.claims}
    assert claims == {"test_accuracy": (0.9108, 10_000), "robust_accuracy": (0.7291, 10_000)}
    assert card.flags == ("unreliable-autoattack",)
    assert card.publication.authors == ("Ada B", "Bo C")
    assert card.weights.url.endswith("id=abc")
    assert card.pretraining == ()


def test_an_ensemble_names_all_its_files(zoo_of):
    [card] = zoo_of(ids=["a", "b"], expression="Chen2020AdversarialNet", additional_data=True)
    assert card.architecture == {"name": "robustbench/resnet_50", "options": {"files": ["a", "b"]}}
    assert card.pretraining is None
    assert set(card.flags) >= {"ensemble", "extra-data"}


def test_a_plain_baseline_has_no_threat_model(zoo_of):
    home = "https://github.com/RobustBench/robustbench/"
    [card] = zoo_of(table="l2", name="Standard", authors="", venue="N/A", link=home)
    assert card.threat_model is None
    assert card.publication.title.startswith("RobustBench:")
    [card] = zoo_of(name="Standard_R50", authors="Torchvision", venue="N/A", link=home)
    assert card.publication.title.startswith("Deep Residual Learning")


@pytest.mark.parametrize(
    ("text", "venue", "year"),
    [("arXiv, Mar 2021", "arXiv", 2021), ("arXiv, Dec. 2022", "arXiv", 2022),
     ("GitHub,<br>Sep 2019", "GitHub", 2019), ("NeurIPS 2021", "NeurIPS", 2021),
     ("Pattern Recognition 2024", "Pattern Recognition", 2024), ("ASP-DAC 2021", "ASP-DAC", 2021),
     ("N/A", None, None), ("", None, None)],
)  # fmt: skip
def test_venues_are_read_from_free_text(text, venue, year):
    assert parse_venue(text) == (venue, year)


@pytest.mark.parametrize(
    ("authors", "names"),
    [("A B, C D", ("A B", "C D")), ("A B and C D and E F", ("A B", "C D", "E F")),
     ("A B, C D, and E F", ("A B", "C D", "E F")), ("", None)],
)  # fmt: skip
def test_authors_are_told_apart(authors, names):
    assert publication(RECORD | {"authors": authors}).authors == names


def test_every_publication_of_the_zoo_has_a_title_and_a_place():
    for row in ZOO:
        paper = row["publication"]
        assert paper["title"], row["id"]
        assert paper["arxiv"] or paper["doi"] or paper["url"], row["id"]
        assert (paper["venue"] is None) == (paper["year"] is None) == (paper["venue_type"] is None)


@pytest.mark.parametrize(
    ("expression", "n", "architecture"),
    [
        ("lambda: WideResNet(34, 10, sub_block1=False)", 10,
         {"name": "securitynet/wide_resnet",
          "options": {"depth": 34, "widen_factor": 10, "sub_block1": False}}),
        ("lambda: PreActResNet(PreActBlockV2, [2, 2, 2, 2], num_classes=100, bn_before_fc=True)",
         100, {"name": "securitynet/preact_resnet18",
               "options": {"final_norm": True, "shortcut": "activated"}}),
        ("lambda: ResNet(BasicBlock, [2, 2, 2, 2], num_classes=100)", 100,
         "securitynet/cifar_stem_resnet18"),
        ("lambda: ResNet18()", 10, "securitynet/cifar_stem_resnet18"),
        ("lambda: pt_models.resnet50(width_per_group=64 * 2)", 1000,
         {"name": "torchvision/resnet50", "options": {"width_per_group": 128}}),
        ("lambda: ResNet(Bottleneck, [1, 1])", 10, "robustbench/a_label_1_2"),
        ("lambda: robust_resnet.get_model('WRN-B')", 10, "robustbench/a_label_1_2"),
        ("lambda: __import__('os').system('x')", 10, "robustbench/a_label_1_2"),
    ],
)  # fmt: skip
def test_expressions_are_read_never_run(expression, n, architecture, monkeypatch):
    monkeypatch.setattr(counting, "named", lambda *name, **options: None)
    assert read_network(expression, n, "A label-1 (2)").architecture == architecture


def test_constants_inside_a_network_become_the_inputs(monkeypatch):
    monkeypatch.setattr(counting, "named", lambda *name, **options: None)
    net = read_network("lambda: normalize_model(pt_models.resnet18(), mu, sigma)", 1000, "x")
    assert (net.architecture, net.mean[0]) == ("torchvision/resnet18", 0.485)
    bare = read_network("lambda: WideResNet(depth=28)", 10, "x")
    assert (bare.mean, bare.std) == (None, None)


# --- robust-models-transfer


@pytest.mark.parametrize(
    ("norm", "eps", "words"),
    [("l2", 0.0, None), ("l2", 3.0, "L2 3"), ("l2", 0.25, "L2 0.25"),
     ("linf", "0.5/255", "Linf 0.5/255"), ("linf", "8.0/255", "Linf 8/255")],
)  # fmt: skip
def test_strengths_are_threat_models(norm, eps, words):
    assert transfer.threat_model(norm, eps) == words


# --- IVRL


def test_the_checkpoints_of_the_loss_landscape():
    cards = {card.id: card for card in finished(ivrl.generate(None))}
    assert Counter(card.dataset for card in cards.values()) == {"cifar10": 72, "mnist": 9}
    card = cards["ivrl/cifar10/vgg_periodic_const_eps8_wd1e-3_150/2"]
    assert card.weights.url.endswith(
        "/models/vgg_cifar10/periodic_const/2/vgg_8_eps8_wd1e-3_150.ckpt"
    )
    assert (card.run, card.threat_model, card.params) == ("2", "Linf 8/255", 3_686_954)
    assert card.weights.checksum_algorithm == "git-blob-sha1"
    assert len({card.weights.checksum for card in cards.values()}) == 81
    digits = cards["ivrl/mnist/lenet_const_eps0.4_max0.8_100/1"]
    assert (digits.input.channels, digits.threat_model) == (1, "Linf 0.4")
