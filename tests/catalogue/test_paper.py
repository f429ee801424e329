"""The published table: every item of its list of faults is handled, every figure kept."""

import csv
import io
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from securitynet.catalogue.cards import Claim, InputSpec, ModelCard, Publication, Weights
from securitynet.catalogue.database import select
from securitynet.catalogue.generators import paper, paper_table
from securitynet.catalogue.generators.leads import clean_title, leads
from securitynet.catalogue.tables import rows as catalogue_rows
from securitynet.errors import ResourceError

ROOT = Path(__file__).resolve().parents[2]
ROWS = paper.paper_rows()
BY_ID = {row["id"]: row for row in ROWS}
SHARED = ("test_accuracy", "paper_steal_accuracy", "paper_steal_agreement")
HEADINGS = (
    "Model Name", "Model Type", "Data Name", "Data Category", "Num Class", "Training Size",
    *paper_table.FIGURES, "Overfit Gap", "Conference", "Conference Type", "Year", "Country",
    "Num Authors", "Purpose", "Paper Link", "Weights",
)  # fmt: skip
IVRL = "[Link](https://github.com/IVRL/AdversaryLossLandscape/tree/master)"


@pytest.fixture(scope="module")
def markdown():
    """Return the published Markdown; skip by name where it is not."""
    named = os.environ.get("SECURITYNET_FACTS")
    try:
        return paper.find_markdown(Path(named) if named else ROOT.parent / "shared" / "facts")
    except ResourceError:
        pytest.skip("the published table (SECURITYNET_FACTS or ../shared/facts) is not here")


def cells_of(markdown):
    """Yield the models of the Markdown, heading -> cell."""
    text = markdown.read_text(encoding="utf-8").split("## New Models")[0]
    for section in text.split("\n## ")[1:]:
        header, _, *lines = [line for line in section.splitlines() if line.startswith("|")]
        names = [cell.strip() for cell in header.split("|")]
        for line in lines:
            yield dict(zip(names, [cell.strip() for cell in line.split("|")], strict=True))


def of(column, value):
    return [row for row in ROWS if row[column] == value]


def flagged(flag):
    return [row for row in ROWS if flag in row["flags"].split()]


def printed(**cells):
    """Return a Markdown table of one model."""
    base = dict.fromkeys(HEADINGS, "0.5") | {
        "Model Name": "resnet20_cifar10", "Model Type": "resnet", "Data Name": "CIFAR-10",
        "Num Class": "10", "Training Size": "50000", "Conference": "CVPR",
        "Conference Type": "CV", "Year": "2016", "Country": "USA", "Num Authors": "4",
        "Purpose": "benchmark", "Paper Link": "[Link](https://arxiv.org/abs/1512.03385)",
        "Weights": "[Link](https://github.com/osmr/imgclsmob/tree/master/pytorch)",
    }  # fmt: skip
    row = base | cells
    lines = ["## Benchmark Models", "|".join(["", *row, ""]), "|:---" * len(row) + "|"]
    return "\n".join([*lines, "|".join(["", *row.values(), ""])])


def read_one(**cells):
    [row] = paper_table.read_models(printed(**cells))
    return row


def card(row, **fields):
    base = ModelCard(
        row["id"], row["id"].split("/")[0], "x", row["dataset"], int(row["num_classes"]),
        "timm/resnet18", InputSpec(3, 32, 32), Weights(),
    )  # fmt: skip
    return replace(base, **fields)


# --- the table as a whole


def test_there_are_437_and_92_models_each_with_its_own_id():
    assert Counter(row["table"] for row in ROWS) == {"benchmark": 437, "security": 92}
    assert len(BY_ID) == 529
    providers = Counter(row["id"].split("/")[0] for row in ROWS)
    assert providers == {
        "pytorchcv": 263, "medmnist": 174, "ivrl": 72, "robust-models-transfer": 20,
    }  # fmt: skip


def test_the_shipped_rows_are_those_of_the_published_table(markdown):
    made = paper.tables(markdown.parent)
    assert made["paper.csv"] == paper.csv_text(paper.COLUMNS, ROWS)
    assert list(csv.DictReader(io.StringIO(made["leads.csv"]))) == leads()


def test_every_published_figure_is_a_claim_to_the_last_digit(markdown):
    """The Markdown is read anew here, without the importer."""
    n_figures = 0
    for row, cells in zip(ROWS, cells_of(markdown), strict=True):
        found = {claim.metric: claim.value for claim in paper.claims(row)}
        assert row["name"] == cells["Model Name"]
        for heading, metric in paper_table.FIGURES.items():
            cell = cells.get(heading, "nan")
            known = None if cell in ("0", "nan") else float(cell)
            assert found.get(metric) == known, (row["id"], heading)
            assert row[metric] in ("", cell), "as printed"
            n_figures += known is not None
        assert found["train_size"] == float(cells["Training Size"])
    assert n_figures == 437 * 10 - 1740 + 92 * 6 - 40, "but for what is missing"


def test_the_papers_models_can_be_selected_with_their_figures():
    found = list(select(catalogue_rows(), ["source=paper"]))
    assert {row["id"] for row in found} == set(BY_ID)
    for row in found:
        theirs = [claim for claim in row["claims"] if claim["source"].startswith("paper:")]
        figures = {claim["metric"]: claim["value"] for claim in theirs}
        assert figures == {claim.metric: claim.value for claim in paper.claims(BY_ID[row["id"]])}
        assert row["origin"] == BY_ID[row["id"]]["purpose"]
        assert (row["dataset"], row["num_classes"]) == (
            BY_ID[row["id"]]["dataset"], int(BY_ID[row["id"]]["num_classes"]),
        )  # fmt: skip


# --- the 15 items of the list of faults


def test_item_1_zeros_that_stand_for_missing_are_null():
    missing = Counter(
        metric for row in of("table", "benchmark") for metric in paper.FIGURES.values()
        if not row[metric]
    )  # fmt: skip
    assert missing == {
        "train_accuracy": 174, "paper_mia_correct_auc": 187, "paper_mia_mentropy_auc": 187,
        "paper_steal_wrn_accuracy": 305, "paper_steal_wrn_agreement": 305,
        "paper_steal_imgnet_accuracy": 291, "paper_steal_imgnet_agreement": 291,
    }  # fmt: skip
    assert not [row for row in ROWS for claim in paper.claims(row) if claim.value == 0]
    row = read_one(**{"Train Accuracy": "0", "Correct Auc": "0", "Test Accuracy": "0.25"})
    assert (row["train_accuracy"], row["paper_mia_correct_auc"]) == ("", "")
    assert row["test_accuracy"] == "0.25"


def test_item_2_a_gap_to_a_missing_train_accuracy_is_no_figure():
    assert "Overfit Gap" not in paper_table.FIGURES, "it follows from two other columns"
    assert {row["id"].split("/")[0] for row in ROWS if not row["train_accuracy"]} == {"medmnist"}


def test_item_2_the_printed_gap_is_the_difference_of_the_accuracies(markdown):
    train, test, gap = "Train Accuracy", "Test Accuracy", "Overfit Gap"
    n_real = 0
    for cells in cells_of(markdown):
        assert abs(float(cells[train]) - float(cells[test]) - float(cells[gap])) < 1.1e-6
        n_real += cells[train] != "0"
    assert n_real == 529 - 174


def test_item_3_nan_is_null_too():
    transfer = [row for row in ROWS if row["id"].startswith("robust-models-transfer/")]
    assert len(transfer) == 20
    assert {row[metric] for row in transfer for metric in SHARED[1:]} == {""}
    assert read_one(**{"Model Stealing Accuracy": "nan"})["paper_steal_accuracy"] == ""


def test_item_4_repeated_names_get_ids_of_their_own():
    names = Counter(row["name"] for row in of("table", "benchmark"))
    assert sum(n for n in names.values() if n > 1) == 174
    runs = [row for row in of("table", "security") if row["run"]]
    assert Counter(row["run"] for row in runs) == {"1": 24, "2": 24, "3": 24}
    assert len({row["name"] for row in runs}) == 24
    assert all("run-presumed" in row["flags"].split() for row in runs)


def test_item_5_file_endings_are_no_part_of_an_id():
    endings = Counter(Path(row["name"]).suffix for row in ROWS)
    assert (endings[".pth"], endings[".ckpt"]) == (108, 20)
    assert not [row for row in ROWS if row["id"].endswith((".pth", ".ckpt"))]


@pytest.mark.parametrize(
    ("label", "family"),
    [("drnc", "drn"), ("espnetv", "espnetv2"), ("alexnetb", "alexnet"), ("resnesta", "resnest"),
     ("wrn", "wrn"), ("proxylessnas", "proxylessnas"), ("irevnet", "irevnet")],
)  # fmt: skip
def test_item_6_family_labels_are_whole(label, family):
    assert read_one(**{"Model Type": label})["family"] == family
    assert of("family", family)


def test_item_6_networks_with_batch_normalisation_and_volumes_are_told_apart():
    names = [row["id"] for row in ROWS if row["id"].startswith("pytorchcv/bn_vgg")]
    assert len(names) == 8
    assert read_one(**{"Model Name": "vgg11b_bn"})["id"] == "pytorchcv/bn_vgg11b"
    assert read_one(**{"Model Name": "vgg11"})["id"] == "pytorchcv/vgg11"
    volumes = [row for row in catalogue_rows() if "3d" in row["flags"] and row["id"] in BY_ID]
    assert len(volumes) == 108


def test_item_7_countries_are_codes_in_order():
    orders = Counter(row["countries"] for row in ROWS)
    assert orders["CN US"] == 182 + 28
    assert "US CN" not in orders
    assert orders["NL"] == 1
    assert all(re.fullmatch(r"[A-Z]{2}( [A-Z]{2})*", order) for order in orders)
    assert read_one(Country="USA, China")["countries"] == "CN US"


def test_item_8_works_that_appeared_are_no_preprints():
    left = Counter(row["arxiv"] for row in of("venue_type", "preprint"))
    assert left == {"1404.5997": 1, "1704.04861": 1, "1804.02767": 3}
    assert {row["venue"] for row in of("arxiv", "1605.07146")} == {"BMVC"}
    assert {row["n_authors"] for row in of("arxiv", "1704.04861")} == {"8"}
    assert {row["venue_type"] for row in ROWS} == {"cv", "ml", "journal", "preprint"}


@pytest.mark.parametrize(
    "url",
    ["https://arxiv.org/abs/1704.04861?context=cs", "https://arxiv.org/pdf/1704.04861",
     "http://arxiv.org/pdf/1704.04861.pdf", "https://arxiv.org/abs/1704.04861"],
)  # fmt: skip
def test_item_8_arxiv_links_of_any_form_give_the_number(url):
    row = read_one(**{"Paper Link": f"[Link]({url})"})
    assert (row["arxiv"], row["url"]) == ("1704.04861", "")


def test_item_8_a_citation_of_another_work_is_flagged_and_not_taken():
    row = BY_ID["pytorchcv/darknet53"]
    assert "paper-cites-other-work" in row["flags"].split()
    [merged] = paper.merged([card(row)], ROWS)
    assert merged.publication is None
    own = Publication(title="Training wide residual networks", arxiv="1802.08530", year=2018)
    row = BY_ID["pytorchcv/wrn20_10_1bit_cifar10"]
    [merged] = paper.merged([card(row, publication=own)], ROWS)
    assert merged.publication == own
    assert "paper-cites-other-work" in merged.flags


def test_item_9_sizes_of_medmnist_2_name_version_2():
    older = {row["dataset"]: row["train_size"] for row in ROWS if row["dataset"].endswith("-v2")}
    assert older == {
        "organamnist-v2": "34581", "organcmnist-v2": "13000", "organsmnist-v2": "13940",
        "organmnist3d-v2": "972",
    }  # fmt: skip
    assert sum(row["dataset"].endswith("-v2") for row in ROWS) == 36


def test_item_10_implausible_evaluations_are_kept_and_flagged():
    implausible = Counter(row["dataset"] for row in flagged("implausible-claim"))
    assert implausible == {
        "organmnist3d-v2": 18, "synapsemnist3d": 17, "adrenalmnist3d": 2, "vesselmnist3d": 2,
        "fracturemnist3d": 2,
    }  # fmt: skip
    constant = Counter(row["dataset"] for row in flagged("constant-prediction"))
    assert constant == {"synapsemnist3d": 16, "adrenalmnist3d": 2, "vesselmnist3d": 2}
    row = BY_ID["medmnist/synapsemnist3d/resnet18_acs_1"]
    assert "95/352" in row["reason"]
    assert all(row["reason"] for row in flagged("implausible-claim"))


def test_item_11_the_failed_steal_is_flagged():
    assert [row["id"] for row in flagged("failed-steal")] == ["pytorchcv/resnesta152"]


def test_item_12_odd_membership_figures_are_flagged():
    below = {row["name"] for row in flagged("mia-auc-below-half")}
    assert below == {"resnet20_svhn", "pyramidnet272_a200_bn_svhn", "densenet40_k12_svhn"}
    assert len(flagged("mentropy-below-correct")) == 4


def test_item_13_coincidences_are_flagged():
    assert len(flagged("identical-figures")) == 8
    assert "preresnet56_svhn" in BY_ID["pytorchcv/resnet56_svhn"]["reason"]
    assert len(flagged("surrogate-beats-target")) == 17
    assert len(flagged("agreement-below-accuracy")) == 3


def test_item_14_names_have_one_form():
    assert all(re.fullmatch(r"[a-z0-9-]+", row["dataset"]) for row in ROWS)
    hosts = {row["weights"] for row in of("table", "security")}
    assert "https://github.com/microsoft/robust-models-transfer" in hosts
    figures = {row[metric] for row in ROWS for metric in paper.FIGURES.values()} - {""}
    assert {len(figure.partition(".")[2]) for figure in figures} <= set(range(8)), "as printed"


def test_item_15_projects_are_leads_not_models():
    found = leads()
    assert len(found) == 102
    assert Counter(lead["is_usable"] for lead in found) == {"yes": 84, "no": 18}
    assert sum("no weights" in lead["reason"] for lead in found) == 5
    assert sum("not a classifier" in lead["reason"] for lead in found) == 13
    assert sum(not lead["paper_url"] for lead in found) == 48 + 1, "the repository, or no link"
    assert Counter(lead["host"] for lead in found)["github.com"] == 99 + 1
    assert all(lead["weights_url"].startswith("https://") for lead in found)
    titles = [lead["title"] for lead in found]
    assert not [title for title in titles if re.search(r"NeurIPS 20|Official|\.$", title)]
    assert clean_title("Q (NeurIPS 2022 Accepted)") == "Q"
    assert any(title.startswith("Task-recency bias strikes back") for title in titles)


# --- how many samples stand behind a figure


def test_figures_are_whole_numbers_of_the_samples_behind_them():
    for row in ROWS:
        for claim in paper.claims(row):
            if claim.n is not None:
                whole = round(claim.value * claim.n) / claim.n
                assert abs(whole - claim.value) <= 1.1e-6, (row["id"], claim)


def test_samples_of_5000_are_told_from_whole_test_splits():
    n_claims = Counter(
        claim.metric for row in ROWS for claim in paper.claims(row) if claim.n == paper.SAMPLE
    )
    assert n_claims == {"train_accuracy": 117 + 40 + 92, "test_accuracy": 92}
    assert paper.n_samples(BY_ID["pytorchcv/resnet18"], "test_accuracy") == 50_000
    assert paper.n_samples(BY_ID["pytorchcv/resnet18"], "paper_mia_correct_auc") is None


# --- merging


def test_merging_keeps_what_is_known_and_fills_what_is_not():
    row = BY_ID["pytorchcv/resnet20_cifar10"]
    mine = Claim("test_accuracy", 0.9403, "pytorchcv")
    known = Publication(title="Deep Residual Learning", arxiv="1512.03385", year=2015)
    before = card(row, claims=(mine,), publication=known, family="mine", flags=("b",))
    [after] = paper.merged([before], ROWS)
    assert after.claims == (mine, *paper.claims(row))
    assert after.claim("test_accuracy") == mine
    assert (after.family, after.origin, after.flags) == ("mine", "benchmark", ("b",))
    assert after.publication.title == "Deep Residual Learning"
    assert after.publication.countries == ("US",)
    assert paper.merged([after], ROWS) == [after], "merging twice changes nothing"


def test_merging_flags_a_provider_that_says_otherwise():
    row = BY_ID["pytorchcv/resnet20_cifar10"]
    far = Claim("test_accuracy", float(row["test_accuracy"]) + 0.02, "pytorchcv")
    [after] = paper.merged([card(row, claims=(far,))], ROWS)
    assert "claims-disagree" in after.flags
    [after] = paper.merged([replace(after, claims=())], ROWS)
    assert "claims-disagree" not in after.flags


def test_other_cards_pass_through():
    other = card(ROWS[0], id="timm/resnet18.a1_in1k")
    assert paper.merged([other], ROWS) == [other]


def test_runs_are_counted_in_the_tables_order():
    name = {"Model Name": "vgg_plain_const_eps8_wd1e-3_200", "Weights": IVRL}
    text = printed(**name)
    rows = paper_table.read_models(text + "\n" + text.splitlines()[-1])
    assert [row["id"][-2:] for row in rows] == ["/1", "/2"]


def test_weights_of_a_host_that_nobody_knows_are_an_error():
    with pytest.raises(ValueError, match=r"example\.org"):
        read_one(Weights="[Link](https://example.org/x)")


def test_a_missing_table_is_said_with_its_folder(tmp_path):
    with pytest.raises(ResourceError, match="published_database"):
        paper.tables(tmp_path)
    with pytest.raises(ResourceError):
        paper.tables(None)


def test_every_flag_is_explained():
    assert {flag for row in ROWS for flag in row["flags"].split()} <= set(paper.FLAGS)
