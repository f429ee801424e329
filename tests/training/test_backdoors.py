import json

import numpy as np
import pytest

from securitynet.errors import UsageError
from securitynet.training.backdoors import POSITIONS, Trigger, draw_poison


def images(n=200, side=32, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 200, (n, side, side, channels), dtype=np.uint8)
    return pixels, rng.integers(0, 10, n).astype(np.int64)


def test_patch_is_white_in_the_corner_and_nowhere_else():
    pixels, _ = images()
    triggered = Trigger(pattern="white").apply(pixels)
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
    assert (Trigger(pattern="white").apply(pixels) != pixels).sum() == 2 * expected**2


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
    _, labels = images(400)
    before = labels.copy()
    drawn = draw_poison(labels, Trigger(target=3), 0.1, seed=5)
    assert drawn.is_poisoned.sum() == 40
    assert (labels[drawn.is_poisoned] != 3).all() and (drawn.labels[drawn.is_poisoned] == 3).all()
    assert np.array_equal(drawn.labels[~drawn.is_poisoned], labels[~drawn.is_poisoned])
    assert np.array_equal(labels, before)


def test_the_stamp_marks_the_poisoned_images_of_a_batch_alone():
    pixels, labels = images(400)
    drawn = draw_poison(labels, Trigger(target=3), 0.3, seed=5)
    positions = np.random.default_rng(0).permutation(400)[:64]
    batch = pixels[positions]
    stamped = drawn.stamp(batch, positions)
    expected = np.stack([
        drawn.trigger.apply(pixels[i : i + 1])[0] if drawn.is_poisoned[i] else pixels[i]
        for i in positions
    ])  # fmt: skip
    assert np.array_equal(stamped, expected)
    assert np.array_equal(batch, pixels[positions])


def test_poison_depends_on_the_seed_alone():
    _, labels = images(400)
    drawn = (draw_poison(labels, Trigger(), 0.1, seed).is_poisoned for seed in (1, 1, 2))
    first, again, other = drawn
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 0.99, 0.001])
def test_poison_refuses_impossible_rates(rate):
    with pytest.raises(UsageError):
        draw_poison(images(100)[1], Trigger(), rate, 0)


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


@pytest.mark.parametrize(
    ("position", "corner"),
    [("bottom-right", (7, 8, 9)), ("top-left", (1, 1, 1)), ("bottom-left", (7, 8, 1))],
)
def test_a_patch_in_a_volume_is_a_cube(position, corner):
    volumes = np.full((2, 10, 11, 12, 1), 99, dtype=np.uint8)
    trigger = Trigger(position=position, size=2, margin=1)
    found = trigger.apply(volumes)
    box = tuple(slice(begin, begin + 2) for begin in corner)
    assert trigger.box(10, 11, 12) == box
    assert ((found != 99).sum((1, 2, 3, 4)) == 8).all()
    cube = found[(slice(None), *box)][..., 0]
    assert cube[0, 0, 0, 0] == 255 and cube[0, 0, 0, 1] == 0 and cube[0, 1, 0, 0] == 0


def test_noise_is_blended_into_a_whole_volume():
    volumes = np.full((2, 4, 5, 6, 1), 99, dtype=np.uint8)
    found = Trigger(kind="blend", ratio=0.5).apply(volumes)
    assert found.shape == volumes.shape and (found != 99).mean() > 0.9
