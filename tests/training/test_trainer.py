from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from securitynet.errors import UsageError
from securitynet.training.trainer import Recipe, _as_pixels, _augmented, fit

CPU = torch.device("cpu")
PLAIN = Recipe(epochs=40, batch_size=32, is_augmented=False, label_smoothing=0.0, weight_decay=0.0)


def linear(n_in=12, n_out=3, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(n_in, n_out))


def images(n, side=2, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, channels), dtype=np.uint8)


def train(module, pixels, targets, recipe=PLAIN, seed=0, progress=None):
    return fit(module, pixels, targets, recipe=recipe, seed=seed, device=CPU, progress=progress)


def posterior(module, pixels):
    with torch.inference_mode():
        return module(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).softmax(1).numpy()


def weights(module):
    return torch.cat([tensor.flatten().float() for tensor in module.state_dict().values()])


def seen_batches(module):
    sizes = []
    module.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    return sizes


def test_learns_labels_and_returns_evaluation_mode():
    pixels = images(200)
    labels = pixels.mean((1, 2)).argmax(1).astype(np.int64)  # the brightest channel
    kept = pixels.copy()
    module = train(linear(), pixels, labels)
    assert (posterior(module, pixels).argmax(1) == labels).mean() > 0.95
    assert not module.training and np.array_equal(kept, pixels)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_posteriors_are_learned_by_cross_entropy(dtype):
    """On one image seen with several posteriors the optimum is their mean."""
    pixels = np.repeat(images(1), 64, axis=0)
    targets = np.tile(np.array([[0.9, 0.1, 0.0], [0.3, 0.5, 0.2]], dtype=dtype), (32, 1))
    learned = posterior(train(linear(), pixels, targets, replace(PLAIN, epochs=150)), pixels)
    assert np.allclose(learned, [0.6, 0.3, 0.1], atol=0.03)


@pytest.mark.parametrize(("smoothing", "expected"), [(0.3, [0.8, 0.1, 0.1]), (0.0, [1, 0, 0])])
def test_labels_are_smoothed(smoothing, expected):
    pixels = np.repeat(images(1), 64, axis=0)
    recipe = replace(PLAIN, label_smoothing=smoothing, epochs=150)
    learned = posterior(train(linear(), pixels, np.zeros(64, np.int64), recipe), pixels)
    assert np.allclose(learned, expected, atol=0.02)


def test_posteriors_are_not_smoothed():
    pixels = np.repeat(images(1), 64, axis=0)
    targets = np.tile([[1.0, 0.0, 0.0]], (64, 1))
    learned = posterior(
        train(linear(), pixels, targets, replace(PLAIN, label_smoothing=0.3)), pixels
    )
    assert learned[:, 0].min() > 0.95


def test_steps_equal_a_slow_loop_without_accumulated_gradients(monkeypatch):
    monkeypatch.setattr("securitynet.training.trainer.has_native_bf16", lambda _: False)
    pixels, labels = images(16), np.arange(16) % 3
    recipe = replace(PLAIN, epochs=5, batch_size=16, weight_decay=0.01, momentum=0.8)
    expected = slow_weights(linear(), pixels, labels, recipe)
    module = linear()
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)  # stale: must not count
    assert torch.allclose(weights(train(module, pixels, labels, recipe)), expected, atol=1e-5)


def slow_weights(module, pixels, labels, recipe):
    """Nesterov momentum written out; weights decay, biases do not; whole-set batches."""
    bias, weight = module[1].bias, module[1].weight
    inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    probe = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        probe, recipe.lr, total_steps=recipe.epochs + 1, pct_start=0.25, cycle_momentum=False
    )
    speed = {weight: 0.0, bias: 0.0}
    for _ in range(recipe.epochs):
        loss = nn.functional.cross_entropy(module(inputs), torch.from_numpy(labels))
        slopes = torch.autograd.grad(loss, [weight, bias])
        for tensor, slope, decay in zip((weight, bias), slopes, (0.01, 0.0), strict=True):
            slope = slope + decay * tensor.detach()
            speed[tensor] = recipe.momentum * speed[tensor] + slope
            step = slope + recipe.momentum * speed[tensor]
            tensor.data -= schedule.get_last_lr()[0] * step
        probe.step()
        schedule.step()
    return weights(module)


def dropout_net():
    return nn.Sequential(linear(48), nn.Dropout(0.5))


def test_same_seed_same_weights_whatever_the_callers_random_state():
    pixels, labels = images(40, side=4), np.arange(40) % 3
    recipe = replace(PLAIN, epochs=3, is_augmented=True, cutout=2)
    torch.manual_seed(1)
    first = weights(train(dropout_net(), pixels, labels, recipe, seed=7))
    torch.manual_seed(2)
    second = weights(train(dropout_net(), pixels, labels, recipe, seed=7))
    other = weights(train(dropout_net(), pixels, labels, recipe, seed=8))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_the_callers_random_state_is_left_alone():
    before = torch.get_rng_state()
    train(dropout_net(), images(40, side=4), np.arange(40) % 3, replace(PLAIN, epochs=1))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("n", [2, 3, 5, 17, 33, 129])
def test_no_batch_has_one_image(n):
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 2))
    sizes = seen_batches(module)
    train(module, images(n), np.arange(n) % 2, replace(PLAIN, epochs=2))
    assert min(sizes) >= 2 and max(sizes) <= 32


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5])
def test_very_short_trainings_work(epochs):
    module, before = linear(), weights(linear())
    sizes = seen_batches(module)
    train(module, images(2), np.array([0, 1]), replace(PLAIN, epochs=epochs))
    assert len(sizes) == epochs and not torch.equal(weights(module), before)


def test_small_sets_get_the_minimum_of_steps():
    module = linear()
    sizes = seen_batches(module)
    train(module, images(40), np.arange(40) % 3, replace(PLAIN, epochs=1, min_steps=50))
    assert 50 <= len(sizes) < 60


def test_progress_rises_to_one():
    told = []
    train(linear(), images(8), np.arange(8) % 3, replace(PLAIN, epochs=3),
          progress=lambda share, what: told.append((share, what)))  # fmt: skip
    assert [share for share, _ in told] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert told[-1][1] == "epoch 3/3"


@pytest.mark.parametrize(
    ("pixels", "targets"),
    [
        (images(3), np.zeros(4, np.int64)),
        (images(1), np.zeros(1, np.int64)),
        (images(4) / 255, np.zeros(4, np.int64)),
        (images(4), np.array([0, 1, -1, 2])),
        (images(4), np.full((4, 3), np.nan)),
        (images(4), np.zeros(4)),
        (images(4), np.zeros((4, 3), np.int64)),
    ],
)
def test_what_does_not_fit_is_refused(pixels, targets):
    with pytest.raises(UsageError):
        train(linear(), pixels, targets)


def test_divergence_is_an_error_not_a_figure():
    with pytest.raises(UsageError, match="diverged"):
        train(linear(), images(40), np.arange(40) % 3, replace(PLAIN, lr=1e38))


def augmented(pixels, **changes):
    recipe = replace(PLAIN, is_augmented=True, is_flipped=False)
    generator = torch.Generator().manual_seed(0)
    batch = _as_pixels(_augmented(torch.from_numpy(pixels), replace(recipe, **changes), generator))
    return (batch.permute(0, 2, 3, 1) * 255).round().numpy().astype(np.uint8)


def crops(image, reach, is_flipped):
    """Every shift by up to ``reach`` of one image, by padding with its reflection."""
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    height, width, _ = image.shape
    shifts = range(2 * reach + 1)
    found = [padded[i : i + height, j : j + width] for i in shifts for j in shifts]
    return [crop[:, ::-1] for crop in found] if is_flipped else found


def which_crop(image, result, reach, is_flipped):
    candidates = crops(image, reach, is_flipped)
    return [i for i, crop in enumerate(candidates) if np.array_equal(crop, result)]


@pytest.mark.parametrize(("side", "reach"), [(32, 4), (8, 1)])
def test_each_image_is_shifted_on_its_own(side, reach):
    pixels = images(60, side)
    found = [
        which_crop(*pair, reach, False) for pair in zip(pixels, augmented(pixels), strict=True)
    ]
    assert all(len(where) == 1 for where in found)
    assert len({where[0] for where in found}) > min(20, 2 * reach * (reach + 1))


def test_half_of_the_images_are_flipped():
    pixels = images(100, 8)
    results = augmented(pixels, is_flipped=True)
    turned = [bool(which_crop(*pair, 1, True)) for pair in zip(pixels, results, strict=True)]
    straight = [bool(which_crop(*pair, 1, False)) for pair in zip(pixels, results, strict=True)]
    assert all(a != b for a, b in zip(turned, straight, strict=True))
    assert 30 < sum(turned) < 70


def test_cutout_blanks_one_square():
    pixels = np.zeros((50, 8, 8, 3), np.uint8)
    results = augmented(pixels, is_augmented=False, cutout=4)
    for image in results:
        rows, columns = np.nonzero((image == 128).all(2))
        box = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == box[0] * box[1] and 2 <= min(box) <= max(box) <= 4
    assert set(np.unique(results)) == {0, 128}


def test_without_augmentation_pixels_stay():
    pixels = images(5, 8)
    assert np.array_equal(augmented(pixels, is_augmented=False), pixels)


def test_the_stamp_comes_after_augmentation_and_knows_whose_image_it_gets():
    """A patch on poisoned images must reach the network untouched by shifts and cutout."""
    pixels = images(40)
    seen, batches = [], []

    def stamp(batch, positions):
        seen.append(positions)
        stamped = batch.copy()
        stamped[positions < 10] = 255
        return stamped

    module = linear()
    module.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].clone()))
    recipe = replace(PLAIN, epochs=2, is_augmented=True, cutout=2)
    fit(module, pixels, np.arange(40) % 3, recipe=recipe, seed=0, device=CPU, stamp=stamp)
    assert len(seen) == len(batches)
    for positions, batch in zip(seen, batches, strict=True):
        assert (batch[positions < 10] == 1).all()
        assert (batch[positions >= 10] < 1).any()


def test_the_stamp_is_told_the_positions_of_its_images():
    pixels = images(40)

    def stamp(batch, positions):
        assert np.array_equal(batch, pixels[positions])
        return batch

    fit(linear(), pixels, np.arange(40) % 3, recipe=PLAIN, seed=0, device=CPU, stamp=stamp)


# volumes


def volumes_of_positions(n=6, sides=(9, 10, 12)):
    """Return volumes whose voxels say where they are: slice, row and column as channels."""
    grid = np.stack(np.indices(sides), axis=-1).astype(np.uint8)
    return torch.from_numpy(np.repeat(grid[None], n, axis=0))


@pytest.mark.parametrize("is_flipped", [False, True])
def test_volumes_are_shifted_along_every_axis_and_flipped_along_the_last(is_flipped):
    recipe = Recipe(is_augmented=True, is_flipped=is_flipped)
    found = _augmented(volumes_of_positions(200), recipe, torch.Generator().manual_seed(0)).long()
    assert found.shape == (200, 9, 10, 12, 3)
    for axis, middle in ((0, 4), (1, 5), (2, 6)):
        line = found[..., axis].movedim(axis + 1, 1).flatten(2)
        assert torch.equal(line, line[..., :1].expand_as(line)), "an axis moves as a whole"
        steps = line[:, middle + 1, 0] - line[:, middle, 0]
        assert set(steps.tolist()) == ({1, -1} if is_flipped and axis == 2 else {1})
        assert line[:, middle, 0].unique().numel() >= 3


def test_cutout_blanks_a_cube_of_a_volume():
    blank = torch.zeros(20, 9, 10, 12, 1, dtype=torch.uint8)
    recipe = Recipe(is_augmented=False, cutout=4)
    found = _augmented(blank, recipe, torch.Generator().manual_seed(0))[..., 0] == 128
    assert found.sum((1, 2, 3)).max() == 64
    for one in found:
        box = torch.nonzero(one)
        sides = box.max(0).values - box.min(0).values + 1
        assert one.sum() == sides.prod() and sides.max() <= 4


def test_volumes_are_learned():
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 2
    pixels = rng.integers(0, 128, (48, 2, 2, 2, 1)) + 100 * labels[:, None, None, None, None]
    module = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    train(module, pixels.astype(np.uint8), labels, recipe=replace(PLAIN, epochs=10))
    answers = module(torch.from_numpy(pixels).movedim(-1, 1).float() / 255)
    assert (answers.argmax(1).numpy() == labels).mean() > 0.9
