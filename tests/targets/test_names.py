"""Checkpoints under other names: only what can be proven is renamed or left out."""

import pytest
import torch
from torch import nn

from securitynet.targets.architectures_published import published
from securitynet.targets.build import build_module
from securitynet.targets.names import fit_names
from securitynet.weights.strict import check


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))


@pytest.fixture
def card(card_of):
    spec = card_of().input
    return card_of(
        architecture="securitynet/wide_resnet",
        input=type(spec)(3, 8, 8, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.243, 0.262)),
    )


def problems(net, tensors, card):
    return check(net.state_dict(), fit_names(net, tensors, card))


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "module.model.", "0.", "module.0."])
def test_a_common_prefix_is_stripped(prefix, net, card):
    torch.manual_seed(1)
    tensors = {prefix + name: torch.rand_like(t.float()) for name, t in net.state_dict().items()}
    del tensors[f"{prefix}1.num_batches_tracked"]
    fitted = fit_names(net, tensors, card)
    assert check(net.state_dict(), fitted) == []
    assert all(torch.equal(fitted[name], tensors[prefix + name]) for name in fitted)


def robust(net):
    """A checkpoint of the robustness library: the network twice, and its normalisation twice."""
    tensors = {}
    for place in ("module.model.", "module.attacker.model."):
        tensors |= {place + name: tensor for name, tensor in net.state_dict().items()}
    for place in ("module.normalizer.", "module.attacker.normalize."):
        tensors[f"{place}new_mean"] = torch.tensor((0.4914, 0.4822, 0.4465)).reshape(3, 1, 1)
        tensors[f"{place}new_std"] = torch.tensor((0.247, 0.243, 0.262)).reshape(3, 1, 1)
    return tensors


def test_copies_and_constants_are_left_out(net, card):
    assert problems(net, robust(net), card) == []


def test_a_copy_that_differs_is_not_left_out(net, card):
    tensors = robust(net)
    tensors["module.attacker.model.0.weight"] = tensors["module.model.0.weight"] + 1
    # two networks in one file: which is meant is not for us to say
    assert any("attacker" in problem for problem in problems(net, tensors, card))


@pytest.mark.parametrize("name", ["new_mean", "new_std"])
def test_constants_that_differ_from_the_cards_are_not_left_out(name, net, card):
    tensors = robust(net)
    tensors[f"module.normalizer.{name}"] = torch.full((3, 1, 1), 0.5)
    assert problems(net, tensors, card) == [f"module.normalizer.{name} is not part of it"]


def test_a_card_without_constants_takes_only_none(net, card_of):
    tensors = {**net.state_dict(), "mu": torch.zeros(1, 3, 1, 1), "sigma": torch.ones(1, 3, 1, 1)}
    assert problems(net, tensors, card_of()) == []
    tensors["mu"] += 0.5
    assert problems(net, tensors, card_of()) == ["mu is not part of it"]


def test_other_tensors_are_not_left_out(net, card):
    tensors = {**net.state_dict(), "extra.weight": torch.rand(3)}
    assert problems(net, tensors, card) == ["extra.weight is not part of it"]


def test_what_the_card_calls_unused_is_left_out(net, card_of):
    card = card_of(architecture={"name": "securitynet/wide_resnet", "options": {"unused": ["ex"]}})
    tensors = {f"model.{name}": tensor for name, tensor in net.state_dict().items()}
    assert problems(net, {**tensors, "model.extra.weight": torch.rand(3)}, card) == []


def test_what_the_card_calls_unused_by_its_end_is_left_out(net, card_of):
    options = {"unused": ["*.scores"]}
    card = card_of(architecture={"name": "securitynet/wide_resnet", "options": options})
    tensors = {f"model.{name}": tensor for name, tensor in net.state_dict().items()}
    scores = {"model.0.scores": torch.rand(3)}
    assert problems(net, {**tensors, **scores}, card) == []
    assert problems(net, {**tensors, "model.0.scored": torch.rand(3)}, card)


def test_a_missing_tensor_is_not_made_up(net, card):
    tensors = {f"model.{name}": tensor for name, tensor in net.state_dict().items()}
    del tensors["model.0.bias"]
    assert "0.bias is missing" in problems(net, tensors, card)


def test_constants_of_the_file_become_the_networks(card_of):
    small = {"depth": 10, "widen_factor": 1}
    plain = published("wide_resnet", 10, 3, small).eval()
    module = published("wide_resnet", 10, 3, {**small, "constants": "file"}).eval()
    mu, sigma = torch.full((1, 3, 1, 1), 0.3), torch.full((1, 3, 1, 1), 0.2)
    tensors = {f"module.{name}": tensor for name, tensor in plain.state_dict().items()}
    tensors |= {"module.mu": mu, "module.sigma": sigma}
    fitted = fit_names(module, tensors, card_of())
    assert check(module.state_dict(), fitted) == []
    module.load_state_dict(fitted, strict=False)
    pixels = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(module(pixels), plain((pixels - mu) / sigma))
    without = {name: tensor for name, tensor in tensors.items() if "mu" not in name}
    assert problems(module, without, card_of())


def test_old_densenets_are_renamed(card_of):
    module = build_module(card_of(architecture="torchvision/densenet121"))
    tensors = {}
    for name, tensor in module.state_dict().items():
        for part in ("norm", "conv"):
            for number in "12":
                name = name.replace(f".{part}{number}.", f".{part}.{number}.")
        tensors[name] = tensor
    assert sum(".norm.1." in name for name in tensors) > 100
    assert problems(module, tensors, card_of()) == []


def test_old_vision_transformers_are_renamed(card_of):
    spec = card_of().input
    card = card_of(
        architecture={
            "name": "torchvision/vit_b_32", "options": {"num_layers": 1, "image_size": 32}
        },
        input=type(spec)(3, 32, 32),
    )  # fmt: skip
    with pytest.raises(Exception, match="num_layers"):
        build_module(card)
    from torchvision.models import VisionTransformer

    module = VisionTransformer(32, 16, 1, 2, 32, 64, num_classes=10)
    tensors = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): tensor
        for name, tensor in module.state_dict().items()
    }
    assert any("linear_1" in name for name in tensors)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert problems(module, tensors, card_of()) == []
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_old_swins_of_timm_are_renamed(card_of):
    """Their merging layers lay at the end of a stage, and index tables were stored."""
    import timm

    module = timm.create_model("swin_tiny_patch4_window7_224", num_classes=10, depths=(1, 1, 1, 1))
    tensors = {}
    for name, tensor in module.state_dict().items():
        parts = name.split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        name = ".".join(parts).replace("head.fc.", "head.")
        tensors[name] = tensor
    tensors["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49)
    assert problems(module, tensors, card_of()) == []
