"""Published architectures: sizes, names and arithmetic as their authors state them."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet50

from securitynet.catalogue.cards import InputSpec, Weights
from securitynet.errors import UsageError
from securitynet.targets.architectures import n_parameters
from securitynet.targets.architectures_published import PUBLISHED, published
from securitynet.targets.architectures_residual import AcsConvolution
from securitynet.targets.build import build_module

# Millions of parameters of the papers (36.5 M for WRN-28-10, 46.2 M for WRN-34-10, ...).
SIZES = {
    "cifar_stem_resnet18": ({}, 11.17),
    "cifar_stem_resnet50": ({}, 23.52),
    "cifar_resnext29": ({}, 6.81),
    "ivrl_resnet18": ({"width": 8}, 2.80),
    "ivrl_vgg16": ({"width": 8}, 3.69),
    "ivrl_lenet": ({"width": 16}, 3.27),
    "lrr_resnet18": ({"width": 32}, 2.80),
    "preact_resnet18": ({}, 11.17),
    "dm_preact_resnet18": ({}, 12.55),
    "dm_wide_resnet": ({"depth": 28, "width": 10}, 36.48),
    "pssilu_wide_resnet": ({"depth": 28, "widen_factor": 10}, 36.48),
    "staged_wide_resnet": ({"channels": [16, 320, 640, 512], "depths": [5, 5, 5]}, 68.12),
    "wide_resnet": ({"depth": 34, "widen_factor": 10}, 46.16),
    "ra_wide_resnet": ({}, 267.24),
    "ra_resnet101": ({}, 100.07),
    "preact_resnet50": ({}, 23.52),
    "unscaled_preact_resnet18": ({}, 24.87),
    "cifar_resnest152": ({}, 74.89),
    "convstem_convnext": ({"size": "b"}, 87.74),
    "convstem_vit": ({"size": "b"}, 86.39),
    "overlapping_xcit": ({"size": "m"}, 45.89),
    "simmim_swin": ({"size": "b"}, 86.75),
    "meansparse_convnext": ({}, 196.25),
    "meansparse_swin": ({}, 195.01),
}
META = torch.device("meta")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_size_is_the_published_one(name):
    options, millions = SIZES[name]
    grey = name == "ivrl_lenet"
    with META:
        module = published(name, 10, 1 if grey else 3, options)
    assert round(n_parameters(module) / 1e6, 2) == pytest.approx(millions, abs=0.011)


LARGE = {
    "ra_wide_resnet", "ra_resnet101", "cifar_resnest152", "convstem_convnext", "convstem_vit",
    "overlapping_xcit", "simmim_swin", "meansparse_convnext", "meansparse_swin",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in LARGE])
def test_small_ones_give_logits(name):
    small = {
        "dm_wide_resnet": {"depth": 10, "width": 1},
        "wide_resnet": {"depth": 10, "widen_factor": 1},
        "pssilu_wide_resnet": {"depth": 10, "widen_factor": 1}, "lrr_resnet18": {"width": 8},
        "staged_wide_resnet": {"channels": [4, 8, 12, 16], "depths": [1, 2, 1]},
        "ivrl_resnet18": {"width": 1}, "ivrl_vgg16": {"width": 1}, "ivrl_lenet": {"width": 1},
        "cifar_stem_resnet18": {"width": 8}, "cifar_stem_resnet50": {"width": 8},
    }  # fmt: skip
    side = 28 if name == "ivrl_lenet" else 32
    module = published(name, 7, 3, small.get(name, {})).eval()
    assert module(torch.rand(2, 3, side, side)).shape == (2, 7)


@pytest.mark.parametrize(("depth", "reference"), [(18, resnet18), (50, resnet50)])
def test_a_stem_resnet_is_torchvisions_with_another_stem(depth, reference, shaken):
    theirs = reference(num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    theirs = shaken(theirs)
    ours = published(f"cifar_stem_resnet{depth}", 10, 3, {}).eval()
    names = {"downsample": "shortcut", "fc.": "linear."}
    state = {}
    for name, tensor in theirs.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        state[name] = tensor
    ours.load_state_dict(state, strict=True)
    pixels = torch.rand(2, 3, 28, 28)
    torch.testing.assert_close(ours(pixels), theirs(pixels))


def test_rewound_ones_have_torchvisions_own_names():
    ours = published("lrr_resnet18", 10, 3, {"width": 64}).state_dict()
    theirs = resnet18(num_classes=10).state_dict()
    differ = {name for name in ours if name not in theirs or ours[name].shape != theirs[name].shape}
    assert ours.keys() == theirs.keys() and differ == {"conv1.weight"}


@pytest.mark.parametrize(
    ("convolution", "shape"),
    [("2.5d", (64, 64, 1, 3, 3)), ("3d", (64, 64, 3, 3, 3)), ("acs", (64, 64, 3, 3))],
)
def test_volumes_have_the_weights_of_their_converters(convolution, shape):
    with META:
        module = published("cifar_stem_resnet18", 11, 3, {"convolution": convolution})
    assert module.layer1[0].conv1.weight.shape == shape
    assert module.layer2[0].shortcut[0].weight.dim() == len(shape)
    flat = published("cifar_stem_resnet18", 11, 3, {})
    assert module.state_dict().keys() == flat.state_dict().keys()


@pytest.mark.parametrize("convolution", ["2.5d", "3d", "acs"])
def test_volumes_give_logits(convolution):
    options = {"convolution": convolution, "width": 8}
    module = published("cifar_stem_resnet18", 11, 3, options).eval()
    assert module(torch.rand(2, 3, 28, 28, 28)).shape == (2, 11)


@pytest.mark.parametrize(("side", "stride"), [(3, 1), (3, 2), (1, 2)])
def test_each_direction_of_a_flat_kernel_is_a_convolution_of_pictures(side, stride):
    torch.manual_seed(0)
    layer = AcsConvolution(2, 5, side, stride)
    assert layer.shares == [2, 2, 1]
    volume = torch.rand(1, 2, 7, 7, 7)
    found = layer(volume)
    kernels = torch.split(layer.weight, layer.shares)
    begin = 0
    for direction, kernel in enumerate(kernels):
        slices = volume.movedim(2 + direction, 0)[::stride, 0]
        expected = nn.functional.conv2d(slices, kernel, None, stride, side // 2)
        mine = found[:, begin : begin + len(kernel)].movedim(2 + direction, 0)[:, 0]
        torch.testing.assert_close(mine, expected)
        begin += len(kernel)


def test_the_far_side_is_padded_as_jax_does():
    """SAME padding of an even side by stride two: nothing before, one row and column after."""
    module = published("dm_wide_resnet", 10, 3, {"depth": 10, "width": 1}).eval()
    block = module.layer[1].block[0]
    block.conv_0.weight.data.zero_()
    block.conv_0.weight.data[:, :, 0, 0] = 1  # looks at the first pixel of its window only
    pixels = torch.zeros(1, 16, 4, 4)
    pixels[0, :, 0, 0] = 1
    seen = block.conv_0(torch.nn.functional.pad(pixels, (0, 1, 0, 1)))
    assert seen.shape[2:] == (2, 2) and seen[0, 0, 0, 0] == 16 and seen.sum() == 16 * 32


def test_unused_weights_are_part_of_the_file_only():
    torch.manual_seed(0)
    options = {"depth": 10, "widen_factor": 1, "sub_block1": True}
    module = published("wide_resnet", 10, 3, options).eval()
    pixels = torch.rand(1, 3, 32, 32)
    before = module(pixels)
    for parameter in module.sub_block1.parameters():
        parameter.data.zero_()
    assert torch.equal(module(pixels), before)


def test_a_cosine_head_ignores_the_length_of_its_weights():
    options = {"depth": 10, "widen_factor": 1, "cosine_head": True}
    module = published("wide_resnet", 10, 3, options).eval()
    pixels = torch.rand(2, 3, 32, 32)
    before = module(pixels)
    module.fc.weight.data *= 7
    torch.testing.assert_close(module(pixels), before)
    assert module.fc.bias is None and before.abs().max() <= 1


def test_pictures_are_standardised_by_themselves():
    options = {"depth": 10, "widen_factor": 1, "standardise": "image"}
    module = published("wide_resnet", 10, 3, options).eval()
    pixels = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(module(pixels * 0.5 + 0.1), module(pixels))


def test_options_are_checked(card_of):
    for options, words in (
        ({"depth": 11}, r"6n \+ 4 layers, not 11"),
        ({"nonsense": 1}, "unknown option 'nonsense'"),
        ({"standardise": "batch"}, "options that are not known"),
    ):
        card = card_of(architecture={"name": "securitynet/wide_resnet", "options": options})
        with pytest.raises(UsageError, match=words):
            build_module(card)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("robustbench/lrr_resnet18_deck", "an ensemble of networks"),
        ("robustbench/resnet_50", "an ensemble of networks"),
        ("robustbench/resnet_152_wideresnet_70_16", "it mixes the outputs of two networks"),
        ("robustbench/wideresnet_70_16_neural_ode_block", "a differential equation"),
        ({"name": "robustbench/other_152", "options": {}}, "its authors' own code"),
    ],
)
def test_what_cannot_be_built_says_why(name, words, card_of):
    with pytest.raises(UsageError, match=f"test/model: cannot be loaded: .*{words}"):
        build_module(card_of(architecture=name))


def test_a_model_without_weights_says_so(card_of):
    card = card_of(architecture="securitynet/mlp", status="no-weights", weights=Weights())
    with pytest.raises(UsageError, match="nobody published its weights"):
        build_module(card)


@pytest.mark.parametrize("convolution", ["2.5d", "3d", "acs"])
def test_a_target_takes_volumes(convolution, shaken, target_of, card_of):
    torch.manual_seed(0)
    module = shaken(
        published("cifar_stem_resnet18", 5, 3, {"convolution": convolution, "width": 4})
    )
    spec = InputSpec(3, 8, 8, mean=(0.0,) * 3, std=(2.0,) * 3, depth=8)
    volumes = torch.rand(2, 1, 8, 8, 8)
    with torch.no_grad():
        expected = module(volumes.expand(2, 3, 8, 8, 8) / 2)
    found = target_of(module, card_of(5, input=spec)).logits(volumes)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-4)
