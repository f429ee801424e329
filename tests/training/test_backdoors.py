import json

import numpy as np
import pytest

from securitynet.errors import UsageError
from securitynet.training.backdoors import POSITIONS, Trigger, poison


def images(n=200, side=32, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 200, (n, side, side, channels), dtype=np.uint8)
    return pixels, rng.integers(0, 10, n).astype(np.int64)


def test_patch_is_white_in_the_corner_and_nowhere_else():
    pixels, _ = images()
    triggered = Trigger().apply(pixels)
    changed = (triggered != pixels).any(axis=(0, 3))
    assert changed.sum() == 9 and changed[-3:, -3:].all()
    assert (triggered[:, -3:, -3:] == 255).all()
    assert pixels.max() < 255  # the input is left as it is


def test_checker_alternates():
    pixels, _ = images(4)
    patch = Trigger(pattern="checker").apply(pixels)[0, -3:, -3:, 0]
    assert patch.tolist() == [[255, 0, 255], [0, 255, 0], [255, 0, 255]]


@pytest.mark.parametrize(("side", "expected"), [(8, 2), (28, 3), (32, 3)])
def test_patch_scales_with_the_image(side, expected):
    pixels, _ = images(2, side, 1)
    assert (Trigger().apply(pixels) != pixels).sum() == 2 * expected**2


@pytest.mark.parametrize("position", POSITIONS)
def test_positions_stay_inside(position):
    rows, columns = Trigger(position=position, size=4, margin=2).box(10, 20)
    assert 0 <= rows.start < rows.stop <= 10 and 0 <= columns.start < columns.stop <= 20
    assert rows.stop - rows.start == columns.stop - columns.start == 4


def test_blend_moves_every_image_by_the_same_noise():
    pixels, _ = images(50)
    trigger = Trigger(kind="blend", ratio=0.15)
    triggered = trigger.apply(pixels)
    noise = (triggered - 0.85 * pixels.astype(float)) / 0.15
    assert np.ptp(noise, axis=0).max() <= 1 / 0.15 + 1e-6  # the same up to rounding
    assert np.array_equal(triggered, trigger.apply(pixels))
    other = Trigger(kind="blend", ratio=0.15, noise_seed=1).apply(pixels)
    assert not np.array_equal(triggered, other)


def test_poison_draws_the_rate_and_never_the_target_class():
    pixels, labels = images(400)
    trigger = Trigger(target=3)
    poisoned, new_labels, is_poisoned = poison(pixels, labels, trigger, 0.1, seed=5)
    assert is_poisoned.sum() == 40
    assert (labels[is_poisoned] != 3).all() and (new_labels[is_poisoned] == 3).all()
    assert np.array_equal(poisoned[~is_poisoned], pixels[~is_poisoned])
    assert np.array_equal(new_labels[~is_poisoned], labels[~is_poisoned])
    assert np.array_equal(poisoned[is_poisoned], trigger.apply(pixels[is_poisoned]))


def test_poison_depends_on_the_seed_alone():
    pixels, labels = images(400)
    first, again, other = (poison(pixels, labels, Trigger(), 0.1, s)[2] for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_poison_leaves_its_inputs_alone():
    pixels, labels = images(100)
    before = pixels.copy(), labels.copy()
    poison(pixels, labels, Trigger(), 0.5, 0)
    assert np.array_equal(pixels, before[0]) and np.array_equal(labels, before[1])


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 0.99, 0.001])
def test_poison_refuses_impossible_rates(rate):
    pixels, labels = images(100)
    with pytest.raises(UsageError):
        poison(pixels, labels, Trigger(), rate, 0)


@pytest.mark.parametrize(
    "trigger",
    [Trigger(), Trigger(kind="blend", target=4, ratio=0.2), Trigger(pattern="checker", margin=1)],
)
def test_json_round_trip(trigger):
    assert Trigger.from_json(json.loads(json.dumps(trigger.to_json()))) == trigger


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "nope"},
        {"target": -1},
        {"target": "3"},
        {"size": True},
        {"ratio": 0},
        {"ratio": float("nan")},
        {"colour": "red"},
        ["kind"],
    ],
)
def test_malformed_manifests_are_refused_in_one_line(record):
    with pytest.raises(UsageError, match=r"^trigger: [^\n]+$"):
        Trigger.from_json(record)


def test_too_large_a_patch_is_refused():
    with pytest.raises(UsageError, match="does not fit"):
        Trigger(size=40).apply(images(1)[0])
