"""The pixel transform against torchvision's and timm's own evaluation transforms."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from securitynet.catalogue.cards import InputSpec
from securitynet.targets.target import as_pixels
from securitynet.targets.transform import PixelInput

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST_EXACT,
}
SIZES = [(40, 56), (57, 40), (64, 64), (33, 47), (120, 91)]


def is_alike(difference, std, interpolation):
    """PIL rounds and clips to whole grey levels after the rows and again after the columns.

    Two roundings make one level at most with bilinear weights. Bicubic weights overshoot: what
    they amplify or the first clip cuts off makes a few levels at a few sharp edges.
    """
    levels = difference * 255 * torch.tensor(std).reshape(3, 1, 1)
    if interpolation == "bilinear":
        return levels.max() <= 1.01 and levels.mean() < 0.4
    return levels.max() <= 6 and (levels > 1.3).float().mean() < 2e-3 and levels.mean() < 0.4


def picture(height, width, channels=3, seed=0):
    """Smooth shapes and sharp edges, as in photographs; uint8 ``[1, H, W, C]``."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, channels), dtype=np.uint8)
    images = [Image.fromarray(coarse[..., i]).resize((width, height)) for i in range(channels)]
    pixels = np.stack([np.asarray(image) for image in images], -1).copy()
    pixels[height // 3 : height // 2, width // 4 :] = rng.integers(0, 256, channels)
    return pixels[None]


def ours(pixels, **spec):
    spec = InputSpec(**{"channels": 3, "mean": MEAN, "std": STD, **spec})
    return PixelInput(spec)(as_pixels(pixels))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", MODES)
def test_the_same_as_torchvision_on_floats(mode, size):
    pixels = picture(*size)
    resized = functional.resize(as_pixels(pixels), [35], MODES[mode], antialias=True).clamp(0, 1)
    cropped = functional.center_crop(resized, [32, 30])
    expected = functional.normalize(cropped, list(MEAN), list(STD))
    found = ours(pixels, height=32, width=30, resize=35, interpolation=mode)
    assert found.shape == (1, 3, 32, 30)
    assert (found - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_the_same_as_torchvision_on_pictures_but_for_rounding(mode, size):
    pixels = picture(*size)
    evaluation = transforms.Compose(
        [
            transforms.Resize(36, interpolation=MODES[mode]),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    expected = evaluation(Image.fromarray(pixels[0]))
    found = ours(pixels, height=32, width=32, resize=36, interpolation=mode)[0]
    assert is_alike((found - expected).abs(), STD, mode)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_the_same_as_timms_own_transform(name, size):
    import timm
    from timm.data import create_transform, resolve_data_config

    data = resolve_data_config({}, model=timm.create_model(name))
    evaluation = create_transform(**data, is_training=False)
    height, width = data["input_size"][1:]
    pixels = picture(4 * size[0], 4 * size[1])
    spec = {
        "height": height,
        "width": width,
        "resize": int(height / data["crop_pct"]),
        "interpolation": data["interpolation"],
        "mean": data["mean"],
        "std": data["std"],
    }
    difference = (ours(pixels, **spec)[0] - evaluation(Image.fromarray(pixels[0]))).abs()
    assert is_alike(difference, data["std"], data["interpolation"])


def test_fitting_pixels_are_only_normalised():
    pixels = picture(32, 32)
    expected = (pixels.astype(np.float64) / 255 - MEAN) / STD
    found = ours(pixels, height=32, width=32)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)
    plain = ours(pixels, height=32, width=32, mean=None, std=None)
    assert torch.equal(plain, as_pixels(pixels))


def test_without_a_crop_images_are_squashed_to_the_size():
    pixels = picture(40, 60)
    resize = transforms.Resize((20, 24))
    expected = transforms.ToTensor()(resize(Image.fromarray(pixels[0])))
    found = ours(pixels, height=20, width=24, mean=None, std=None)[0]
    assert found.shape == (3, 20, 24) and (found - expected).abs().max() <= 1.01 / 255


@pytest.mark.parametrize("mode", MODES)
def test_enlarging_stays_within_the_range_of_pixels(mode):
    pixels = np.random.default_rng(0).integers(0, 2, (2, 8, 8, 3)).astype(np.uint8) * 255
    found = ours(pixels, height=32, width=32, mean=None, std=None, interpolation=mode)
    assert found.min() >= 0 and found.max() <= 1 and found.std() > 0.3


def test_grey_becomes_three_equal_channels():
    pixels = picture(28, 28, 1)
    found = ours(pixels, height=28, width=28, mean=None, std=None)
    assert found.shape == (1, 3, 28, 28)
    for channel in range(3):
        assert torch.equal(found[:, channel : channel + 1], as_pixels(pixels))


def test_grey_is_normalised_per_channel():
    found = ours(picture(28, 28, 1), height=28, width=28)[0]
    grey = as_pixels(picture(28, 28, 1))[0, 0]
    for channel in range(3):
        torch.testing.assert_close(found[channel], (grey - MEAN[channel]) / STD[channel])


def test_colour_becomes_grey_as_in_pictures():
    pixels = picture(28, 28)
    expected = np.asarray(Image.fromarray(pixels[0]).convert("L")) / 255
    found = ours(pixels, channels=1, height=28, width=28, mean=None, std=None)
    assert found.shape == (1, 1, 28, 28)
    assert np.abs(found[0, 0].numpy() - expected).max() <= 1.01 / 255


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_flow_and_are_right(mode, channels):
    torch.manual_seed(0)
    layer = PixelInput(
        InputSpec(
            channels, 6, 5, resize=7, interpolation=mode,
            mean=MEAN[:channels], std=STD[:channels],
        )
    ).double()  # fmt: skip
    pixels = (torch.rand(1, 3, 9, 11, dtype=torch.float64) * 0.4 + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(layer, (pixels,))
    layer(pixels).sum().backward()
    assert (pixels.grad != 0).sum() > pixels.numel() / 3


def test_the_layout_is_what_was_asked_for():
    pixels, spec = as_pixels(picture(16, 16)), InputSpec(3, 16, 16)
    assert PixelInput(spec)(pixels).is_contiguous()
    last = PixelInput(spec, torch.channels_last)(pixels.contiguous())
    assert last.is_contiguous(memory_format=torch.channels_last) and not last.is_contiguous()
    assert torch.equal(last, PixelInput(spec)(pixels))
