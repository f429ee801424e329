"""Networks made of timm's: what was changed, and that nothing else was."""

import hashlib

import pytest
import timm
import torch
from torch import nn

from securitynet.targets.architectures_adapted import (
    ConvolutionalStem,
    cifar_resnest152,
    overlapping_xcit,
    simmim_swin,
)
from securitynet.targets.architectures_published import published
from securitynet.targets.architectures_same import MeanSparse, SameBlock
from securitynet.targets.architectures_sparse import SparseSwinBlock
from securitynet.targets.names import fit_names

META = torch.device("meta")
NAMES = {
    # What the constructors of the publications' own code give: number of tensors in the state, and
    # the beginning of the sha256 of "name shape" lines in order of the names.
    "cifar_resnest152": ({}, 10, 1394, "dc9c4d8b0483"),
    "convstem_convnext t": ({"size": "t"}, 1000, 186, "96cf8ef28038"),
    "convstem_convnext s": ({"size": "s"}, 1000, 348, "394c827c3753"),
    "convstem_convnext b": ({"size": "b"}, 1000, 352, "76e2e88a9bbc"),
    "convstem_convnext l": ({"size": "l"}, 1000, 352, "16fc4c34801b"),
    "convstem_vit s": ({"size": "s"}, 1000, 168, "902d76ece79f"),
    "convstem_vit b": ({"size": "b"}, 1000, 168, "d992fa0c334f"),
    "overlapping_xcit s": ({"size": "s"}, 10, 391, "9e722d46cea6"),
    "overlapping_xcit m": ({"size": "m"}, 10, 391, "5b3a1e8f5b7e"),
    "overlapping_xcit l": ({"size": "l"}, 10, 391, "b91a7ee5de5b"),
    "meansparse_convnext": ({}, 1000, 848, "42a2974cb79f"),
    "meansparse_swin": ({}, 1000, 809, "26b4662abb6c"),
    "preact_resnet50": ({}, 10, 320, "87226ef3fd60"),
    "ra_resnet101": ({}, 1000, 661, "a57a0f29e206"),
    "ra_wide_resnet": ({}, 10, 1147, "9a5dc06b4abf"),
    "ra_wide_resnet sparse": ({"sparse": True}, 10, 2217, "bd005e19e28d"),
    "dm_wide_resnet 70": ({"depth": 70, "width": 16, "sparse": True}, 10, 907, "c76faae2cc90"),
    "dm_wide_resnet 94": ({"depth": 94, "width": 16, "sparse": True}, 10, 1231, "1e93a75720be"),
    "unscaled_preact_resnet18": ({}, 100, 81, "1c340f00c70b"),
}


def digest(state):
    lines = [f"{name} {list(tensor.shape)}" for name, tensor in sorted(state.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


@pytest.mark.parametrize("label", NAMES)
def test_names_and_shapes_are_those_of_the_authors_code(label):
    options, num_classes, n_tensors, expected = NAMES[label]
    with META:
        state = published(label.split()[0], num_classes, 3, options).state_dict()
    assert (len(state), digest(state)) == (n_tensors, expected)


def test_overlapping_patches_keep_four_times_as_many_pixels_a_side():
    with META:
        ours = overlapping_xcit(10, 3, size="s").eval()
        tokens, sides = ours.patch_embed(torch.empty(1, 3, 32, 32))
        assert sides == (8, 8) and tokens.shape == (1, 64, 384)
        assert ours(torch.empty(2, 3, 32, 32)).shape == (2, 10)
        theirs = timm.create_model("xcit_small_12_p16_224", num_classes=10)
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_a_stem_of_convolutions_gives_patches_of_sixteen_pixels():
    with META:
        net = published("convstem_vit", 1000, 3, {"size": "s"}).eval()
        assert net.patch_embed.proj(torch.empty(1, 3, 224, 224)).shape == (1, 384, 14, 14)
        assert net(torch.empty(1, 3, 224, 224)).shape == (1, 1000)


def test_a_stem_normalises_over_the_channels():
    torch.manual_seed(0)
    stem = ConvolutionalStem((3, 8), (2,), None)
    pixels = torch.rand(2, 3, 6, 6)
    hidden = stem.stem[0](pixels)
    normed = (hidden - hidden.mean(1, keepdim=True)) / (
        hidden.var(1, keepdim=True, unbiased=False) + 1e-6
    ).sqrt()
    torch.testing.assert_close(stem(pixels), nn.functional.gelu(normed))


def test_another_epsilon_and_a_larger_window_are_all_that_differs_in_a_swin():
    with META:
        net = simmim_swin(1000, 3, size="l")
    norms = {part.eps for part in net.modules() if isinstance(part, nn.LayerNorm)}
    windows = [stage.blocks[0].window_size for stage in net.layers]
    shifts = [stage.blocks[1].shift_size for stage in net.layers]
    assert norms == {1e-6}
    assert windows == [(14, 14), (14, 14), (14, 14), (7, 7)]
    assert shifts == [(7, 7), (7, 7), (0, 0), (0, 0)]


def test_a_swin_takes_the_names_of_its_authors(card_of):
    """They count a merging of patches to the stage before it, and store what can be computed."""
    with META:
        net = simmim_swin(1000, 3, size="b")
    theirs = {}
    for name, tensor in net.state_dict().items():
        parts = name.split(".")
        if parts[2:3] == ["downsample"]:
            parts[1] = str(int(parts[1]) - 1)
        theirs[".".join(parts).replace("head.fc.", "head.")] = tensor
    theirs["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    theirs["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49)
    fitted = fit_names(net, theirs, card_of(1000))
    assert fitted.keys() == net.state_dict().keys()


def test_a_resnest_for_small_pictures_keeps_their_size_and_has_no_rectifier_left():
    with META:
        net = cifar_resnest152(10, 3).eval()
        assert net.maxpool(net.conv1(torch.empty(1, 3, 32, 32))).shape == (1, 128, 32, 32)
        assert net(torch.empty(1, 3, 32, 32)).shape == (1, 10)
    kinds = {type(part).__name__ for part in net.modules()}
    assert "SiLU" in kinds and "ReLU" not in kinds


@pytest.mark.parametrize("axis", [1, -1])
def test_what_is_near_its_channels_mean_becomes_the_mean(axis):
    layer = MeanSparse(2, axis)
    values = torch.tensor([[0.9, 1.4, 1.6], [-3.0, 5.0, 4.1]])
    inputs = (values if axis == 1 else values.T)[None]
    torch.testing.assert_close(layer(inputs), inputs)  # a threshold of nothing changes nothing
    layer.running_mean, layer.running_var = torch.tensor([1.0, 4.0]), torch.tensor([1.0, 4.0])
    layer.threshold = torch.tensor(0.5)
    expected = torch.tensor([[1.0, 1.0, 1.6], [-3.0, 5.0, 4.0]])
    torch.testing.assert_close(layer(inputs)[0], expected if axis == 1 else expected.T)


def test_a_sparse_swin_block_without_thresholds_is_timms():
    torch.manual_seed(0)
    net = timm.create_model("swin_tiny_patch4_window7_224", img_size=56, embed_dim=24).eval()
    for block in net.layers[0].blocks:
        ours = SparseSwinBlock(block).eval()
        missing, unexpected = ours.load_state_dict(block.state_dict(), strict=False)
        assert not unexpected and all("meansparse" in name for name in missing)
        hidden = torch.randn(2, 14, 14, 24)
        torch.testing.assert_close(ours(hidden), block(hidden))
        for name, part in ours.named_modules():
            if name.endswith("meansparse2"):
                part.threshold.fill_(1e9)
                part.running_var.fill_(1)
        assert bool((ours(hidden) == 0).all())  # the last thresholds see the sum


def test_a_blocks_thresholds_see_the_normalised_input_and_the_sum():
    torch.manual_seed(0)
    block = SameBlock(4, 4, 1, nn.ReLU(), squeeze=0.25, sparse=True).eval()
    inputs = torch.randn(1, 4, 8, 8)
    plain = SameBlock(4, 4, 1, nn.ReLU(), squeeze=0.25).eval()
    plain.load_state_dict(block.state_dict(), strict=False)
    torch.testing.assert_close(block(inputs), plain(inputs))
    block.meansparse_1.threshold.fill_(1e9)
    block.meansparse_1.running_var.fill_(1)
    torch.testing.assert_close(block(inputs), inputs)  # nothing is left of the branch
