"""What generators read off names, tags and rows, and the counts of what they made."""

import re
from collections import Counter

import pytest

from securitynet.catalogue.generators.families import family
from securitynet.catalogue.generators.publications import by_arxiv, by_family, by_timm_tag
from securitynet.catalogue.generators.pytorchcv import cards
from securitynet.catalogue.generators.rehosts import BUILDERS, original, rehosts_of
from securitynet.catalogue.generators.timm import _pretraining
from securitynet.catalogue.generators.timm_results import MAIN, OTHERS, Results
from securitynet.catalogue.tables import rows
from securitynet.errors import ResourceError


def of(provider):
    return [row for row in rows() if row["provider"] == provider]


def test_each_provider_has_as_many_models_as_it_publishes():
    assert len(of("torchvision")) == 115 - 1  # one entry of VGG-16 has no classifier
    assert len(of("timm")) == 1321 + 123 - 44 - 6  # what is torchvision's is an alias
    assert len(of("pytorchcv")) == 676 - 137  # classifiers without published weights
    by_set = Counter(row["dataset"] for row in of("pytorchcv"))
    assert by_set == {"imagenet1k": 323, "cifar10": 70, "cifar100": 68, "svhn": 63, "cub200": 15}


@pytest.mark.parametrize("provider", ["torchvision", "timm", "pytorchcv"])
def test_what_every_row_must_have_is_there(provider):
    for row in of(provider):
        for name in ("dataset", "num_classes", "family", "architecture", "params", "origin"):
            assert row[name], (row["id"], name)
        assert row["weights"]["url"].startswith("https://") and row["weights"]["licence_source"]
        assert row["input"]["mean"] and row["input"]["std"]


@pytest.mark.parametrize(
    ("provider", "share"), [("torchvision", 1.0), ("pytorchcv", 1.0), ("timm", 0.97)]
)
def test_almost_every_model_has_a_publication(provider, share):
    found = of(provider)
    assert sum(row["publication"] is not None for row in found) >= share * len(found)
    for row in found:
        paper = row["publication"]
        assert paper is None or (paper["title"] and paper["venue_type"])
        if paper and paper["arxiv"]:
            assert re.fullmatch(r"\d{4}\.\d{4,5}", paper["arxiv"])
            assert paper["year"] is None or paper["year"] >= 1999 + int(paper["arxiv"][:2])


def test_checksums_look_like_their_algorithm():
    lengths = {"sha256": range(64, 65), "sha256-prefix": range(8, 64), "sha1": range(40, 41)}
    for row in (*of("torchvision"), *of("timm"), *of("pytorchcv")):
        weights = row["weights"]
        if weights["checksum"]:
            assert re.fullmatch("[0-9a-f]+", weights["checksum"]), row["id"]
            assert len(weights["checksum"]) in lengths[weights["checksum_algorithm"]], row["id"]
    assert all(row["weights"]["checksum"] for row in (*of("torchvision"), *of("pytorchcv")))


def test_swag_weights_are_not_for_commerce():
    for row in of("torchvision"):
        is_swag = "SWAG" in row["name"]
        assert (row["weights"]["licence"] == "CC-BY-NC-4.0") == is_swag
        assert (row["weights"]["licence_source"] == "presumed") == (not is_swag)


def test_networks_that_differ_when_pretrained_are_built_that_way():
    by_id = {row["id"]: row for row in of("torchvision")}
    for builder in ("googlenet", "inception_v3"):
        architecture = by_id[f"torchvision/{builder}.IMAGENET1K_V1"]["architecture"]
        assert architecture["options"]["transform_input"] is True
    large = by_id["torchvision/vit_h_14.IMAGENET1K_SWAG_E2E_V1"]
    assert large["architecture"]["options"] == {"image_size": 518}
    assert (large["input"]["height"], large["input"]["resize"]) == (518, 518)


def test_published_figures_come_through():
    by_id = {row["id"]: row for row in rows()}
    row = by_id["torchvision/resnet50.IMAGENET1K_V2"]
    values = {claim["metric"]: claim["value"] for claim in row["claims"]}
    assert values["test_accuracy"] == pytest.approx(0.80858) and row["params"] == 25_557_032
    row = by_id["pytorchcv/resnet18"]
    claims = {claim["metric"]: claim["value"] for claim in row["claims"]}
    assert claims["test_top5_accuracy"] == pytest.approx(1 - 0.0896)
    row = by_id["pytorchcv/resnet20_cifar10"]
    (claim,) = (item for item in row["claims"] if "pytorchcv" in item["source"])
    assert (claim["metric"], claim["n"]) == ("test_accuracy", 10_000)
    assert row["weights"]["checksum_of"] == "member" and row["weights"]["url"].endswith(".pth.zip")
    assert row["weights"]["member"].endswith(f"{row['weights']['checksum'][:8]}.pth")


def test_in_pytorchcv_the_unit_of_an_error_depends_on_the_data_set():
    table = {
        "model_name": "resnet20_svhn", "net_weights": "7", "error_value": "0343",
        "checksum": "a" * 40, "repo_release_tag": "v0.0.1", "model_caption": "x",
        "arxiv_paper": "NA", "test_dataset": "cf", "img_size": "NA", "img_scale": "NA",
        "test_batch": "NA", "remark": "NA",
    }  # fmt: skip
    large = {**table, "model_name": "squeezenet_v1_0", "test_dataset": "in1k",
             "arxiv_paper": "1602.0736", "img_size": "224", "img_scale": "0.875"}  # fmt: skip
    foreign = {**large, "model_name": "resnet50", "remark": "[another/repository]"}
    without = {**table, "checksum": "NA"}
    elsewhere = {**table, "test_dataset": "voc"}
    small, big, other = cards([table, large, foreign, without, elsewhere], "1.0")
    (claim,) = small.claims
    assert (claim.metric, claim.value, claim.n) == ("test_accuracy", 0.9657, 26_032)
    assert (small.dataset, small.num_classes, small.input.height) == ("svhn", 10, 32)
    assert big.claims[0].metric == "test_top5_accuracy" and big.input.resize == 256
    assert big.publication.arxiv == "1602.07360", "the zero that a spreadsheet cut off"
    assert (big.weights.licence, big.weights.licence_source) == ("MIT", "presumed")
    assert (other.weights.licence, other.weights.licence_source) == ("unknown", "unstated")


def test_every_tag_that_is_torchvisions_is_the_alias_of_a_model():
    aliases = {alias for row in of("torchvision") for alias in row["aliases"]}
    assert len(aliases) == 50
    assert not aliases & {row["id"] for row in of("timm")}
    assert original("resnet50.tv2_in1k") == "torchvision/resnet50.IMAGENET1K_V2"
    assert original("regnety_008_tv.tv2_in1k") == "torchvision/regnet_y_800mf.IMAGENET1K_V2"
    assert original("regnety_1280.swag_lc_in1k").endswith("y_128gf.IMAGENET1K_SWAG_LINEAR_V1")
    assert original("resnet50.a1_in1k") is None
    assert rehosts_of("regnet_x_400mf", "IMAGENET1K_V1") == ()
    with pytest.raises(LookupError, match=r"newnet\.tv_in1k"):
        original("newnet.tv_in1k")


def test_timm_names_them_so():
    timm = pytest.importorskip("timm")
    names = timm.list_pretrained()
    tagged = {f"timm/{name}" for name in names if original(name)}
    assert tagged == {alias for row in of("torchvision") for alias in row["aliases"]}
    assert len(BUILDERS) == len(set(BUILDERS.values()))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50d.a1_in1k", "resnet"), ("tf_efficientnet_b0.ap_in1k", "efficientnet"),
        ("convnextv2_atto.fcmae", "convnextv2"), ("bn_vgg16b", "vgg"), ("wide_resnet50_2", "wrn"),
        ("preresnet20_cifar10", "preresnet"), ("mobilenet_v3_large", "mobilenetv3"),
        ("regnetx002", "regnet"), ("vit_base_patch16_224.augreg_in21k", "vit"),
        ("seresnet33ts.ra2_in1k", "seresnet"), ("espnetv2_wd2", "espnetv2"),
        ("cs3darknet_l.c2ns_in1k", "darknet"), ("densenet40_k12_cifar10", "densenet"),
        ("sqnxt23_w1", "squeezenext"), ("shufflenetv2b_w1", "shufflenetv2"), ("xcit_nano", "xcit"),
    ],
)  # fmt: skip
def test_a_family_is_read_off_a_name(name, expected):
    assert family(name) == expected


def test_families_are_words():
    for row in rows():
        assert re.fullmatch(r"[a-z][\w -]*", row["family"].lower()), (row["id"], row["family"])


@pytest.mark.parametrize(
    ("tag", "dataset", "expected"),
    [
        ("a1_in1k", "imagenet1k", ()),
        ("augreg_in21k_ft_in1k", "imagenet1k", ("imagenet21k",)),
        ("augreg_in21k", "imagenet21k", ()),
        ("mim_in22k_ft_in22k_in1k", "imagenet1k", ("imagenet22k",)),
        ("laion2b_ft_in12k_in1k", "imagenet1k", ("laion-2b", "imagenet12k")),
        ("laion2b_ft_in12k", "imagenet12k", ("laion-2b",)),
        ("in1k_ft_in22k", "imagenet22k", ("imagenet1k",)),
        ("in1k_ft_in1k", "imagenet1k", ()),
        ("clip_ft_in1k", "imagenet1k", None),
        ("fb_dino", "imagenet1k", None),
        ("miil_in1k", "imagenet1k", None),
    ],
)
def test_pre_training_is_read_off_a_tag(tag, dataset, expected):
    assert _pretraining(tag, dataset) == expected


def test_publications_are_found_by_the_longest_beginning():
    assert by_family("timm", "resnet50.a1_in1k").arxiv == "1512.03385"
    assert by_family("timm", "resnetv2_50.a1h_in1k").arxiv == "1603.05027"
    assert by_family("timm", "regnety_2560.seer_ft_in1k").arxiv == "2202.08360"
    assert by_family("timm", "hgnet_tiny.paddle_in1k") is None
    assert by_family("pytorchcv", "scnet50").title.startswith("Improving Convolutional")
    assert by_family("timm", "resnetv2_50x1_bit.goog_in21k").arxiv == "1912.11370"
    assert by_family("timm", "hiera_small_abswin_256.sbb2_e200_in12k").arxiv == "2311.05613"
    assert by_arxiv("1904.0973").arxiv == "1904.09730" and by_arxiv("1999.0") is None
    assert by_family("torchvision", "resnet50").countries == ("US",)


def test_a_way_of_training_is_told_by_the_tag_of_the_networks_that_it_was_published_for():
    assert by_timm_tag("tf_efficientnet_b0.ap_in1k").arxiv == "1911.09665"
    assert by_timm_tag("vit_base_patch16_224.augreg_in21k").arxiv == "2106.10270"
    assert by_timm_tag("convnext_base.clip_laion2b_augreg_ft_in12k") is None
    assert by_timm_tag("nextvit_base.bd_ssld_6m_in1k") is by_timm_tag("resnet50.a1_in1k") is None
    assert by_timm_tag("hgnet_tiny.ssld_in1k").arxiv == "2103.05959"


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "timm"
    folder.mkdir()
    head = "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation\n"
    line = "net.a_in1k,{},{},0,95.5,0,1.0,0.9,bicubic\n"
    (folder / MAIN).write_text(head + line.format(288, "81.0") + line.format(224, "80.0"))
    for name in OTHERS:
        (folder / name).write_text(head + line.format(224, "0.0"))
    (folder / "benchmark-infer-amp-nchw-pt291-cu128-4090.csv").write_text(
        "model,infer_img_size,infer_gmacs\nnet,224,0.04\ntiny,224,0.0\nnone,224,\n"
    )
    return Results.read(tmp_path)


def test_the_first_claim_is_of_the_cards_own_size(results):
    found = list(results.claims("net.a_in1k", 224))
    top1 = [claim for claim in found if claim.metric == "test_accuracy"]
    assert [(claim.value, claim.img_size) for claim in top1] == [(0.8, None), (0.81, 288)]
    assert {claim.metric for claim in found} >= {"imagenet_v2_accuracy", "test_top5_accuracy"}
    assert all(claim.source.startswith("timm:") and claim.revision for claim in found)
    assert list(results.claims("other", 224)) == []


def test_a_rounded_cost_of_nothing_is_unknown(results):
    assert results.macs("net", 224) == 40_000_000
    assert results.macs("tiny", 224) is results.macs("none", 224) is results.macs("x", 1) is None


def test_missing_result_tables_are_named(tmp_path):
    for folder in (None, tmp_path):
        with pytest.raises(ResourceError, match="result tables of timm"):
            Results.read(folder)


@pytest.mark.public
@pytest.mark.parametrize("i", range(0, 1394, 199))
def test_parameters_are_those_of_the_built_network(i):
    pytest.importorskip("timm")
    from securitynet.catalogue.generators.timm import _count

    row = of("timm")[i]
    assert _count(row["name"], row["num_classes"]) == row["params"]
