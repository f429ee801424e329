"""The cards' input specs against the providers' own evaluation transforms, on one tensor image."""

import pytest
import torch
from torch.nn import functional

from securitynet.catalogue.cards import InputSpec
from securitynet.catalogue.database import all_cards
from securitynet.targets.transform import PixelInput

PICTURES = [(331, 463), (500, 375), (41, 64)]


def picture(height, width):
    """Smooth enough that bicubic weights do not leave the range of pixels: nothing is clipped."""
    generator = torch.Generator().manual_seed(height)
    coarse = torch.rand(1, 3, 6, 6, generator=generator) * 0.5 + 0.25
    return functional.interpolate(coarse, (height, width), mode="bilinear")


def largest_difference(spec, evaluation):
    worst = 0.0
    for size in PICTURES:
        pixels = picture(*size)
        expected, found = evaluation(pixels[0]), PixelInput(spec)(pixels)[0]
        assert found.shape == expected.shape
        worst = max(worst, float((found - expected).abs().max()))
    return worst


def cards_of(provider):
    """Return one card for each input spec of a provider; skip where its table is not shipped."""
    distinct = {card.input: card for card in all_cards() if card.provider == provider}
    if not distinct:
        pytest.skip(f"the table of {provider} is not here")
    return list(distinct.values())


def timms(card):
    import timm
    from timm.data import create_transform, resolve_data_config

    settings = timm.get_pretrained_cfg(card.name).to_dict()
    data = resolve_data_config({}, pretrained_cfg=settings)
    return data, create_transform(**data, is_training=False)


def check_timm(cards):
    modes = set()
    for card in cards:
        data, evaluation = timms(card)
        modes.add((data["crop_mode"], data["interpolation"], data["crop_pct"] <= 1))
        assert largest_difference(card.input, evaluation) <= 1e-5, card.id
    return modes


def test_a_share_of_timms():
    cards = sorted(cards_of("timm"), key=lambda card: card.id)
    odd = [card for card in cards if card.input.is_squashed or card.input.resize is None]
    small = [card for card in cards if (card.input.resize or 999) < card.input.height]
    modes = check_timm(odd[::4] + small[:1] + cards[::8])
    assert {mode for mode, _, _ in modes} == {"center", "squash"}
    assert {how for _, how, _ in modes} >= {"bicubic", "bilinear"}
    assert {is_inside for _, _, is_inside in modes} == {True, False}


@pytest.mark.long
def test_all_of_timms():
    check_timm(cards_of("timm"))


def test_all_of_torchvisions():
    from torchvision import models

    for card in cards_of("torchvision"):
        architecture, _, entry = card.name.rpartition(".")
        evaluation = models.get_model_weights(architecture)[entry].transforms()
        assert largest_difference(card.input, evaluation) <= 1e-5, card.id


CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def of_pytorchcv(spec):
    """Its data sets' transforms: pictures of 32 pixels as they are; others resized and cropped."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import Compose, Identity, Normalize, Resize
    from torchvision.transforms.v2.functional import center_crop

    if spec.height == 32:
        return Compose([Resize((32, 32), antialias=True), Normalize(*CIFAR)])
    resize = Identity()
    if spec.resize is not None:
        resize = Resize(spec.resize, InterpolationMode.BILINEAR, antialias=True)
    crop = lambda pixels: center_crop(pixels, [spec.height, spec.width])  # noqa: E731
    return Compose([resize, crop, Normalize(*IMAGENET)])


def test_all_of_pytorchcvs():
    seen = set()
    for card in cards_of("pytorchcv"):
        seen.add(card.dataset)
        assert largest_difference(card.input, of_pytorchcv(card.input)) <= 1e-5, card.id
    assert {"imagenet1k", "cub200", "svhn"} <= seen


def test_medmnist():
    """ToTensor and Normalize(0.5, 0.5); for 224 pixels enlarged by nearest neighbours before."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import Compose, Identity, Normalize, Resize

    half = ((0.5,) * 3, (0.5,) * 3)
    for side, resize in ((28, Identity()), (224, Resize((224, 224), InterpolationMode.NEAREST))):
        spec = InputSpec(3, side, side, *half, interpolation="nearest")
        pixels = picture(28, 28)
        expected = Compose([resize, Normalize(*half)])(pixels)
        assert (PixelInput(spec)(pixels) - expected).abs().max() <= 1e-5
    for card in cards_of("medmnist"):
        assert card.input.channels == 3 and card.input.resize is None
        assert card.input.mean == half[0] or card.input.depth
        assert card.input.height in (28, 224)
        assert card.input.height == 28 or card.input.interpolation == "nearest"


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (InputSpec(3, 20, 20, resize=30, is_squashed=True), (30, 30)),
        (InputSpec(3, 20, 30, resize=30, is_squashed=True), (30, 45)),
    ],
)
def test_squashed_pictures_lose_only_a_margin(spec, shape):
    pixels = picture(41, 64)
    whole = PixelInput(InputSpec(3, *shape))(pixels)
    top, left = (shape[0] - spec.height) // 2, round((shape[1] - spec.width) / 2)
    expected = whole[:, :, top : top + spec.height, left : left + spec.width]
    torch.testing.assert_close(PixelInput(spec)(pixels), expected)


@pytest.mark.parametrize("size", [(8, 8), (7, 12), (9, 8)])
def test_the_margin_of_a_small_picture_is_black(size):
    from torchvision.transforms.v2.functional import center_crop

    pixels = picture(*size)
    spec = InputSpec(3, 11, 10, resize=min(size))
    torch.testing.assert_close(PixelInput(spec)(pixels), center_crop(pixels, [11, 10]))


def test_volumes_are_normalised_and_get_the_channels():
    spec = InputSpec(3, 6, 6, mean=(0.0,) * 3, std=(2.0,) * 3, depth=5)
    volume = torch.rand(2, 1, 5, 6, 6)
    torch.testing.assert_close(PixelInput(spec)(volume), volume.expand(2, 3, 5, 6, 6) / 2)
