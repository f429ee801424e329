"""From a card to a module: libraries, layer lists, the user's own files; nothing loads weights."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from securitynet.catalogue.cards import load_card
from securitynet.errors import IntegrityError, UsageError
from securitynet.targets.build import LOADING, build_module, load_module, load_target


@pytest.fixture
def build(card_of):
    """Return a function that builds an architecture on 32x32 colour images."""

    def build(architecture, *, n_classes=10, channels=3, trust=None, folder=None):
        card = card_of(
            n_classes, channels=channels, side=32, architecture=architecture, folder=folder
        )
        return build_module(card, trust=trust)

    return build


@pytest.mark.parametrize(
    "name",
    [
        "torchvision/resnet18", "timm/resnet10t", "timm/resnet18.a1_in1k",
        "pytorchcv/resnet20_cifar10", "securitynet/cifar_resnet20_a", "securitynet/cnn_small",
        "securitynet/mlp",
    ],
)  # fmt: skip
def test_a_named_architecture_has_the_cards_classes(name, build):
    n_classes = 10 if name.startswith("pytorchcv") else 7
    module = build(name, n_classes=n_classes).eval()
    assert module(torch.rand(2, 3, 32, 32)).shape == (2, n_classes)


@pytest.mark.parametrize(
    "name", ["timm/resnet10t", "pytorchcv/resnet20_cifar10", "securitynet/cifar_resnet8_a"]
)
def test_a_named_architecture_has_the_cards_channels(name, build):
    assert build(name, channels=1).eval()(torch.rand(2, 1, 32, 32)).shape == (2, 10)


def test_options_are_passed_on(build):
    module = build({"name": "timm/resnet10t", "options": {"drop_rate": 0.25}})
    assert module.drop_rate == 0.25
    module = build({"name": "torchvision/mobilenet_v2", "options": {"width_mult": 0.25}})
    assert module.features[0][0].out_channels == 8


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("torchvision/resnet81", "resnet18"),
        ("timm/resnet10tt", "resnet10t"),
        ("pytorchcv/resnet20_cifar1", "resnet20_cifar10"),
        ("torchvision/fasterrcnn_resnet50_fpn", "see"),
        ("timm/hf-hub:someone/model", "see"),
    ],
)
def test_an_unknown_name_suggests_a_close_one(name, suggestion, build):
    with pytest.raises(UsageError, match=r"^test/model: unknown .* architecture") as caught:
        build(name)
    assert suggestion in caught.value.hint and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("resnet18", "unknown architecture 'resnet18'; give one of torchvision, timm"),
        ("keras/resnet18", "unknown architecture 'keras/resnet18'"),
        ("timm/", "unknown architecture 'timm/'"),
        ("securitynet/cnn_large", "unknown architecture securitynet/cnn_large"),
        ("timm/resnet18.of_nobody", "cannot build timm/resnet18.of_nobody: Invalid pretrained tag"),
        ({"options": {}}, 'architecture needs {"name"'),
        ({"name": "timm/resnet18", "options": [1]}, 'architecture needs {"name"'),
    ],
)
def test_other_mistakes_are_one_line(architecture, words, build):
    with pytest.raises(UsageError) as caught:
        build(architecture)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "torchvision/resnet18", "timm/resnet10t", "pytorchcv/resnet20_cifar10",
        "securitynet/cnn_small", "securitynet/cifar_resnet20_a",
    ],
)  # fmt: skip
def test_an_unknown_option_is_one_line(name, build):
    with pytest.raises(UsageError, match="nonsense") as caught:
        build({"name": name, "options": {"nonsense": 1}})
    assert "\n" not in str(caught.value) and str(caught.value).startswith("test/model: ")


def test_classes_that_a_library_does_not_take_are_one_line(build):
    """pytorchcv's CIFAR networks assert 10 or 100 classes, without a word."""
    with pytest.raises(UsageError, match="cannot build pytorchcv/resnet20_cifar10: AssertionError"):
        build("pytorchcv/resnet20_cifar10", n_classes=7)


@pytest.mark.parametrize("option", sorted(LOADING))
@pytest.mark.parametrize("library", ["torchvision/resnet18", "timm/resnet10t"])
def test_no_option_loads_weights_past_the_door(library, option, build, tmp_path):
    """timm, for one, would unpickle ``checkpoint_path`` here."""
    canary = tmp_path / "weights.pth"
    torch.save({}, canary)
    with pytest.raises(UsageError, match="past the door"):
        build({"name": library, "options": {option: str(canary)}})


def test_a_layer_list_is_built_in_order(build):
    module = build(("flatten", {"linear": [3072, 10]}))
    assert isinstance(module, nn.Sequential) and len(module) == 2


# the user's own file

OWN = """
from pathlib import Path
from torch import nn
Path(__file__).with_name("executed").touch()
def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
def wrong():
    return 3
number = 5
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "net.py").write_text(OWN)
    return tmp_path


def test_an_own_file_is_not_executed_without_trust(own, build):
    other = own / "other.py"
    other.write_text(OWN)
    for trust in (None, other, own):
        with pytest.raises(UsageError, match=r"code in net\.py, which would be executed") as caught:
            build("net.py:build", folder=str(own), trust=trust)
        assert f"--trust {own / 'net.py'}" in caught.value.hint
    assert not (own / "executed").exists()


def test_an_own_file_runs_with_trust(own, build):
    module = build("net.py:build", folder=str(own), trust=own / "net.py")
    assert module(torch.rand(2, 3, 32, 32)).shape == (2, 10) and (own / "executed").exists()


def test_a_link_to_a_trusted_file_is_that_file(own, build):
    (own / "link.py").symlink_to(own / "net.py")
    assert build("net.py:build", folder=str(own), trust=own / "link.py")


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("net.py:bulid", "has no function 'bulid'"),
        ("net.py:number", "has no function 'number'"),
        ("net.py:", "has no function ''"),
        ("net.py:wrong", "the architecture is a int, not a torch module"),
        ("none.py:build", "no such Python file"),
        ({"name": "net.py:build", "options": {"depth": 3}}, "takes no options"),
    ],
)
def test_a_wrong_file_or_function_is_one_line(architecture, words, own, build):
    name = architecture if isinstance(architecture, str) else architecture["name"]
    with pytest.raises(UsageError, match=words) as caught:
        build(architecture, folder=str(own), trust=own / name.rpartition(":")[0])
    assert "\n" not in str(caught.value)


# weights

CARD = {
    "name": "mine",
    "dataset": "digits",
    "num_classes": 10,
    "architecture": ["flatten", {"linear": [64, 10]}],
    "input": {"channels": 1, "height": 8, "width": 8},
    "weights": {"path": "model.safetensors"},
}


@pytest.fixture
def card_file(tmp_path):
    """Return a function that writes a card and its checkpoint."""

    def card_file(tensors, **changes):
        save_file(tensors, tmp_path / "model.safetensors")
        (tmp_path / "card.json").write_text(json.dumps({**CARD, **changes}))
        return load_card(tmp_path / "card.json")

    return card_file


def test_weights_come_from_the_checkpoint(card_file):
    tensors = {"1.weight": torch.rand(10, 64), "1.bias": torch.rand(10)}
    module, sha256 = load_module(card_file(tensors))
    assert torch.equal(module[1].weight, tensors["1.weight"]) and len(sha256) == 64
    target = load_target(card_file(tensors))
    pixels = torch.rand(3, 1, 8, 8)
    expected = pixels.flatten(1) @ tensors["1.weight"].T + tensors["1.bias"]
    torch.testing.assert_close(torch.from_numpy(target.logits(pixels)), expected)
    assert target.weights_sha256 == sha256


def test_weights_that_do_not_fit_are_refused(card_file):
    card = card_file({"1.weight": torch.rand(10, 63), "1.bias": torch.rand(10)})
    with pytest.raises(IntegrityError, match="does not fit the architecture"):
        load_target(card)


def test_the_identity_follows_an_own_file(card_file, own):
    tensors = {"1.weight": torch.rand(10, 3072), "1.bias": torch.rand(10)}
    card = card_file(tensors, architecture="net.py:build")
    before = card.model_fingerprint("0" * 64)
    assert before == card.model_fingerprint("0" * 64)
    (own / "net.py").write_text(OWN + "# another model")
    assert card.model_fingerprint("0" * 64) != before
    (own / "net.py").unlink()
    assert card.model_fingerprint("0" * 64) != before
