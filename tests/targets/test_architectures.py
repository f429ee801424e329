"""Own architectures against published sizes, and layer lists against ``torch.nn``."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from securitynet.errors import UsageError
from securitynet.targets.architectures import LAYERS, cifar_resnet, layer_list, n_parameters

PUBLISHED = {20: 269722, 32: 464154, 44: 658586, 56: 853018, 110: 1727962}


def resnet(name="cifar_resnet20_a", num_classes=10, channels=3):
    return cifar_resnet(name, num_classes=num_classes, channels=channels)


@pytest.mark.parametrize(("depth", "expected"), PUBLISHED.items())
def test_option_a_has_the_published_number_of_parameters(depth, expected):
    assert n_parameters(resnet(f"cifar_resnet{depth}_a")) == expected


@pytest.mark.parametrize(("depth", "expected"), PUBLISHED.items())
def test_option_b_adds_two_projections(depth, expected):
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert n_parameters(resnet(f"cifar_resnet{depth}_b")) == expected + projections


@pytest.mark.parametrize("depth", PUBLISHED)
def test_the_depth_is_the_number_of_weight_layers(depth):
    module = resnet(f"cifar_resnet{depth}_a")
    layers = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


@pytest.mark.parametrize("kind", "ab")
@pytest.mark.parametrize(("channels", "side", "classes"), [(3, 32, 10), (1, 28, 7), (3, 64, 100)])
def test_shapes(kind, channels, side, classes):
    module = resnet(f"cifar_resnet8_{kind}", classes, channels).eval()
    assert module(torch.rand(2, channels, side, side)).shape == (2, classes)


def test_the_first_block_of_a_stage_is_the_papers():
    """Recompute a strided option-A block by hand: subsample, pad, add, rectify."""
    torch.manual_seed(0)
    block = resnet().eval().layer2[0]
    inputs = torch.rand(2, 16, 8, 8)
    with torch.no_grad():
        hidden = functional.relu(
            block.bn1(functional.conv2d(inputs, block.conv1.weight, None, 2, 1))
        )
        hidden = block.bn2(functional.conv2d(hidden, block.conv2.weight, None, 1, 1))
        for i in range(32):
            if 8 <= i < 24:
                hidden[:, i] += inputs[:, i - 8, ::2, ::2]
        torch.testing.assert_close(block(inputs), hidden.clamp(min=0))


@pytest.mark.parametrize(
    "name",
    [
        "cifar_resnet20", "cifar_resnet21_a", "cifar_resnet2_a", "cifar_resnet_a", "resnet20_a",
        "cifar_resnet20_c", "cifar_resnet20_a\n", "cifar_resnet1208_a", "cifar_resnet٢٠_a",
        "cifar_resnet99999999999998_a",
    ],
)  # fmt: skip
def test_a_wrong_name_is_one_line(name):
    with pytest.raises(UsageError, match="unknown architecture") as caught:
        resnet(name)
    assert "\n" not in str(caught.value) and "cifar_resnet{20,32" in str(caught.value)


# layer lists

EXAMPLES = {
    "conv2d": ([3, 4, 3, 2, 1], {"in_channels": 3, "out_channels": 4, "kernel_size": 3}, (3, 8, 8)),
    "linear": ([8, 5], {"in_features": 8, "out_features": 5, "bias": False}, (8,)),
    "batchnorm2d": ([3], {"num_features": 3, "eps": 0.1}, (3, 8, 8)),
    "batchnorm1d": ([8], {"num_features": 8}, (8,)),
    "maxpool2d": ([2], {"kernel_size": 3, "stride": 2}, (3, 8, 8)),
    "avgpool2d": ([2], {"kernel_size": 2, "padding": 1}, (3, 8, 8)),
    "adaptiveavgpool2d": ([2], {"output_size": [2, 1]}, (3, 8, 8)),
    "dropout": ([0.3], {"p": 0.1}, (8,)),
    "leakyrelu": ([0.2], {"negative_slope": 0.3}, (8,)),
    "elu": ([0.5], {"alpha": 0.7}, (8,)),
    "gelu": (["tanh"], {"approximate": "tanh"}, (8,)),
    "relu": ([], {"inplace": True}, (8,)),
    "tanh": ([], {}, (8,)),
    "sigmoid": ([], {}, (8,)),
    "flatten": ([1], {"start_dim": 2}, (3, 8, 8)),
    "identity": ([], {}, (8,)),
}
NAMES = {
    "conv2d": "Conv2d", "linear": "Linear", "batchnorm2d": "BatchNorm2d", "gelu": "GELU",
    "batchnorm1d": "BatchNorm1d", "maxpool2d": "MaxPool2d", "avgpool2d": "AvgPool2d",
    "adaptiveavgpool2d": "AdaptiveAvgPool2d", "dropout": "Dropout", "leakyrelu": "LeakyReLU",
    "elu": "ELU", "relu": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid", "flatten": "Flatten",
    "identity": "Identity",
}  # fmt: skip


def test_every_layer_has_an_example():
    assert set(EXAMPLES) == set(LAYERS) == set(NAMES)


@pytest.mark.parametrize("is_keyword", [False, True])
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_layer_is_torchs_own(name, is_keyword):
    positional, keyword, shape = EXAMPLES[name]
    arguments = keyword if is_keyword else positional
    torch.manual_seed(0)
    if is_keyword:
        expected = getattr(nn, NAMES[name])(**keyword)
    else:
        expected = getattr(nn, NAMES[name])(*positional)
    torch.manual_seed(0)
    (layer,) = layer_list([{name: arguments}], where="card")
    assert type(layer) is type(expected) and repr(layer) == repr(expected)
    inputs = torch.rand(4, *shape)
    torch.testing.assert_close(layer.eval()(inputs.clone()), expected.eval()(inputs.clone()))


@pytest.mark.parametrize("name", ["relu", "tanh", "flatten", "identity", "sigmoid", "gelu", "elu"])
def test_a_layer_without_arguments_is_a_name(name):
    (layer,) = layer_list([name], where="card")
    assert type(layer) is getattr(nn, NAMES[name])


def test_one_argument_needs_no_list():
    (pool,) = layer_list([{"maxpool2d": 2}], where="card")
    assert pool.kernel_size == 2


def test_the_layers_come_in_order():
    layers = [{"conv2d": [1, 2, 3]}, "relu", "flatten", {"linear": [72, 10]}]
    module = layer_list(layers, where="card")
    assert list(module.state_dict()) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert module(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (["relu", "rellu"], "unknown layer 1 'rellu'; did you mean .*relu"),
        ([{"conv2d": [3]}], r"layer 0 \(conv2d\): .*missing"),
        (["flatten", {"linear": ["a", 10]}], r"layer 1 \(linear\)"),
        ([{"linear": [3, -1]}], r"layer 0 \(linear\)"),
        ([{"linear": [10**15, 10**15]}], r"layer 0 \(linear\)"),
        ([{"linear": {"in_features": 3, "outfeatures": 2}}], r"layer 0 \(linear\): .*outfeatures"),
        ([{"conv2d": [3, 4, 3, 1, 0, 1, 0]}], r"layer 0 \(conv2d\)"),
        ([{"dropout": 2}], r"layer 0 \(dropout\): .*probability"),
        ([{"dropout": "x"}], r"layer 0 \(dropout\)"),
        ([{"linear": {"in_features": 1, "out_features": 1, "device": "cuda:7"}}], r"layer 0"),
        ([{"linear": [1, 1], "relu": []}], "unknown layer 0"),
        ([3], "unknown layer 0 '3'"),
        ([None], "unknown layer 0"),
        ([["relu"]], "unknown layer 0"),
        ([], "the list of layers is empty"),
    ],
)
def test_errors_name_the_layer_in_one_line(layers, words):
    with pytest.raises(UsageError, match=words) as caught:
        layer_list(layers, where="my/card.json")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("my/card.json: ")
