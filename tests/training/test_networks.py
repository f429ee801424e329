import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from securitynet.errors import UsageError
from securitynet.targets.networks import NETWORKS, Standardise, build_network


def build(name="cnn_small", side=32, channels=3, num_classes=10, seed=0):
    return build_network(
        name, channels=channels, sides=(side, side), num_classes=num_classes, seed=seed
    )


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (32, 3), (64, 3)])
def test_every_network_takes_every_image_size(name, side, channels):
    logits = build(name, side, channels, num_classes=7).eval()(torch.rand(2, channels, side, side))
    assert logits.shape == (2, 7) and torch.isfinite(logits).all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("sides", "channels"), [((28, 28, 28), 1), ((4, 9, 6), 3)])
def test_every_network_takes_volumes(name, sides, channels):
    module = build_network(name, channels=channels, sides=sides, num_classes=7, seed=0).eval()
    logits = module(torch.rand(2, channels, *sides))
    assert logits.shape == (2, 7) and torch.isfinite(logits).all()
    assert torch.equal(logits, module(torch.rand(2, channels, *sides))) is False


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_follow_the_seed(name):
    first, same, other = (build(name, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_the_callers_random_state_is_left_alone():
    before = torch.get_rng_state()
    build()
    assert torch.equal(before, torch.get_rng_state())


def test_small_cnn_stays_small():
    module = build().eval()
    with FlopCounterMode(display=False) as counter:
        module(torch.rand(1, 3, 32, 32))
    assert 1e6 < counter.get_total_flops() / 2 < 5e6


def test_pixels_are_standardised():
    assert Standardise()(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-2.0, 0.0, 2.0]


def test_unknown_name_suggests_a_close_one():
    with pytest.raises(UsageError, match="cnn_small"):
        build("cnn_smal")
