"""What an attack may touch: access levels, counted queries, cached answers."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import nn

from securitynet.catalogue.cards import InputSpec
from securitynet.errors import AccessError, RefusedError
from securitynet.registry import Access
from securitynet.targets.target import Answers, OutputCache, as_pixels


def true_logits(module, images):
    """Ask the module itself."""
    pixels = torch.from_numpy(images.pixels()).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        return module(pixels).numpy()


# access

ASKS = {
    Access.LABELS: ("labels",),
    Access.SCORES: ("scores", "log_scores"),
    Access.LOGITS: ("logits",),
}


@pytest.mark.parametrize("level", list(Access))
def test_each_answer_needs_its_level_and_no_more(level, target_of, linear, images_of):
    target, images = target_of(linear(), access=level), images_of(5)
    for needed, names in ASKS.items():
        for name in names:
            if level >= needed:
                assert len(getattr(target, name)(images)) == 5
                continue
            with pytest.raises(AccessError, match=f"needs {needed.name} access, has {level.name}"):
                getattr(target, name)(images)
    if level >= Access.GRADIENTS:
        assert target.module()(as_pixels(images.pixels())).shape == (5, 10)
    else:
        with pytest.raises(AccessError, match="needs GRADIENTS"):
            target.module()
    if level < Access.WEIGHTS:
        with pytest.raises(AccessError, match="needs WEIGHTS"):
            _ = target.engine
    else:
        assert target.engine.device.type == "cpu"


def test_a_refused_question_is_not_counted(target_of, linear, images_of):
    target = target_of(linear(), access=Access.LABELS)
    with pytest.raises(AccessError):
        target.scores(images_of(5))
    assert target.queries == 0


def test_access_only_falls(target_of, linear):
    target = target_of(linear()).limited(Access.SCORES)
    assert target.limited(Access.LABELS).access == Access.LABELS
    assert target.limited(Access.SCORES).access == Access.SCORES
    with pytest.raises(AccessError, match="needs GRADIENTS"):
        target.limited(Access.GRADIENTS)


# answers


def test_answers_are_the_modules(target_of, linear, images_of):
    module, images = linear(gain=3.0), images_of(70)
    expected = true_logits(module, images).astype(np.float64)
    target = target_of(module)
    np.testing.assert_allclose(target.logits(images), expected, atol=1e-5)
    np.testing.assert_array_equal(target.labels(images), expected.argmax(1))
    np.testing.assert_allclose(target.scores(images).sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(target.log_scores(images), log_softmax(expected, 1), atol=1e-5)
    np.testing.assert_allclose(target.scores(images), np.exp(log_softmax(expected, 1)), atol=1e-5)


def test_log_scores_are_exact_where_posteriors_underflow(target_of, linear, images_of):
    module, images = linear(gain=400.0), images_of(50)
    target = target_of(module)
    logits = target.logits(images)
    rows = logits.astype(object)  # python floats: an oracle of another make
    scores = target.log_scores(images)
    assert (target.scores(images) == 0).any() and np.isfinite(scores).all()
    assert scores.min() < -1000
    for row, found in zip(rows, scores, strict=True):
        top = max(row)
        total = sum(np.exp(float(z - top)) for z in row)
        expected = [float(z - top) - np.log(total) for z in row]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_pixels_are_answered_like_images(target_of, linear, images_of):
    target, images = target_of(linear()), images_of(20)
    expected = target.logits(images)
    np.testing.assert_allclose(target.logits(images.pixels()), expected, atol=1e-6)
    np.testing.assert_allclose(target.logits(as_pixels(images.pixels())), expected, atol=1e-6)


def test_as_pixels_keeps_every_value():
    pixels = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    tensor = as_pixels(pixels)
    assert tensor.shape == (2, 3, 3, 4) and tensor.is_contiguous(memory_format=torch.channels_last)
    assert tensor[1, 2, 0, 3].item() == pytest.approx(int(pixels[1, 0, 3, 2]) / 255)
    assert as_pixels(np.full((1, 1, 1, 1), 255, np.uint8)).item() == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_answer_that_is_not_finite_is_refused(value, target_of, linear, images_of):
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, inputs):
            logits = self.linear(inputs)
            return torch.where(logits.argmax(1, keepdim=True) == 3, value, logits)

    images = images_of(300)
    with pytest.raises(RefusedError, match="outputs are not finite") as caught:
        target_of(Sometimes()).labels(images)
    share = np.mean(true_logits(linear(), images).argmax(1) == 3)
    assert f"{share:.1%}" in str(caught.value) and "not-finite" in caught.value.flags


def test_another_number_of_classes_is_refused(target_of, linear, images_of, card_of):
    target = target_of(linear(n_classes=7), card_of(10))
    with pytest.raises(RefusedError, match="10 classes") as caught:
        target.labels(images_of(5))
    assert "class-count" in caught.value.flags


def test_no_images_is_a_mistake_of_the_caller(target_of, linear, images_of):
    with pytest.raises(ValueError, match="no images"):
        target_of(linear()).labels(images_of(5).take(slice(0)))


def test_the_module_gives_gradients_to_its_input_alone(target_of, linear, images_of):
    target = target_of(linear())
    pixels = as_pixels(images_of(4).pixels()).requires_grad_()
    target.module()(pixels).sum().backward()
    expected = linear()[1].weight.sum(0).reshape(1, 3, 8, 8).expand(4, -1, -1, -1)
    torch.testing.assert_close(pixels.grad, expected)
    assert all(parameter.grad is None for parameter in target.module().parameters())


# queries


def test_every_image_asked_is_one_query(target_of, linear, images_of):
    target, images = target_of(linear()), images_of(40)
    target.labels(images)
    target.scores(images)  # cached, and a query all the same
    target.logits(images.take(np.array([3, 3, 5])))
    target.log_scores(images.pixels(0, 6))
    target.count(7)
    assert target.queries == 40 + 40 + 3 + 6 + 7


def test_each_limited_target_counts_on_its_own(target_of, linear, images_of):
    target = target_of(linear())
    first, second = target.limited(Access.LABELS), target.limited(Access.SCORES)
    first.labels(images_of(10))
    second.scores(images_of(4))
    assert (target.queries, first.queries, second.queries) == (0, 10, 4)


# the cache


def asked(target, passes):
    """Return the list of batch sizes to come."""
    return passes(target.engine)


def test_nothing_is_asked_twice(target_of, linear, images_of, passes):
    target, images = target_of(linear()), images_of(100)
    sizes = asked(target, passes)
    first = target.logits(images.take(slice(60)))
    assert sum(sizes) == 60
    target.labels(images.take(slice(60)))
    target.limited(Access.SCORES).scores(images.take(slice(30)))
    assert sum(sizes) == 60
    whole = target.logits(images)
    assert sum(sizes) == 100
    np.testing.assert_array_equal(whole[:60], first)
    np.testing.assert_allclose(whole, true_logits(linear(), images), atol=1e-5)


def test_order_and_repetition_do_not_matter(target_of, linear, images_of, passes):
    target, images = target_of(linear()), images_of(50)
    sizes = asked(target, passes)
    order = np.random.default_rng(0).integers(0, 50, 120)
    mixed = target.logits(images.take(order))
    assert sum(sizes) == len(set(order.tolist()))
    np.testing.assert_allclose(mixed, true_logits(linear(), images)[order], atol=1e-5)


def test_caching_changes_no_answer(target_of, linear, images_of, tmp_path):
    images = images_of(100)
    plain = target_of(linear()).logits(images.pixels())
    for _ in range(2):  # from the module, then from the file
        cached = target_of(linear(), cache=tmp_path)
        cached.logits(images.take(slice(17, 23)))
        np.testing.assert_allclose(cached.logits(images), plain, atol=1e-6)


def test_answers_outlive_the_process(target_of, linear, images_of, tmp_path, passes):
    images = images_of(30)
    first = target_of(linear(), cache=tmp_path).logits(images)
    again = target_of(linear(), cache=tmp_path)
    sizes = asked(again, passes)
    np.testing.assert_array_equal(again.logits(images), first)
    assert sizes == []


def changed_spec(card):
    return replace(card, input=InputSpec(3, 8, 8, mean=(0.5,) * 3))


CHANGES = {
    "weights": {"sha256": "1" * 64},
    "input": {"card": changed_spec},
    "architecture": {"card": lambda card: replace(card, architecture="securitynet/other")},
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_model_never_shares_answers(
    name, target_of, linear, images_of, card_of, tmp_path, passes
):
    card, images, change = card_of(), images_of(20), CHANGES[name]
    target_of(linear(), card, cache=tmp_path).logits(images)
    other_card = change.get("card", lambda card: card)(card)
    other = target_of(
        linear(seed=1), other_card, cache=tmp_path, sha256=change.get("sha256", "0" * 64)
    )
    sizes = asked(other, passes)
    logits = other.logits(images)
    assert sum(sizes) == 20
    if name != "input":
        np.testing.assert_allclose(logits, true_logits(linear(seed=1), images), atol=1e-5)


def test_other_images_and_another_precision_never_share_answers(
    target_of, linear, images_of, tmp_path, passes
):
    target_of(linear(), cache=tmp_path).logits(images_of(20))
    other = target_of(linear(), cache=tmp_path)
    sizes = asked(other, passes)
    other.logits(images_of(20, seed=1))
    assert sum(sizes) == 20
    other.engine.precision = "bf16+fp32"
    other.logits(images_of(20))
    assert sum(sizes) >= 40


@pytest.fixture
def kept(target_of, linear, images_of, tmp_path):
    """Return a cache with one file, its key, and the true answers."""
    images = images_of(12, n_classes=3)
    card_target = target_of(linear(n_classes=3), cache=tmp_path / "cache", card=card_of_three())
    logits = card_target.logits(images.take(slice(7)))
    (path,) = (tmp_path / "cache").rglob("*.npz")
    return OutputCache(tmp_path / "cache"), path, logits


def card_of_three():
    from securitynet.catalogue.cards import ModelCard, Weights

    return ModelCard(
        "test/three", "test", "three", "generated", 3, "securitynet/test",
        InputSpec(3, 8, 8), Weights(path="none"),
    )  # fmt: skip


def is_right_or_empty(answers, logits):
    if not len(answers.logits):
        return (answers.rows == -1).all() and answers.logits.shape == (0, 3)
    return np.array_equal(answers.of(np.arange(7)), logits) and (answers.rows[7:] == -1).all()


def test_a_whole_file_is_read_back(kept):
    cache, path, logits = kept
    answers = cache.load(path.stem, 12, 3)
    assert len(answers.logits) == 7 and is_right_or_empty(answers, logits)


def test_every_truncation_costs_a_pass_and_no_figure(kept):
    cache, path, _ = kept
    data = path.read_bytes()
    for length in range(0, len(data), 3):
        path.write_bytes(data[:length])
        assert not len(cache.load(path.stem, 12, 3).logits), length


def test_every_flipped_byte_costs_a_pass_or_nothing(kept):
    cache, path, logits = kept
    data = path.read_bytes()
    n_lost = 0
    for i in range(len(data)):
        path.write_bytes(data[:i] + bytes([data[i] ^ 0x55]) + data[i + 1 :])
        answers = cache.load(path.stem, 12, 3)
        assert is_right_or_empty(answers, logits), i
        n_lost += not len(answers.logits)
    assert n_lost > len(data) / 2


def npz(path, **changes):
    arrays = {
        "key": np.array(path.stem),
        "rows": np.r_[np.arange(7), -np.ones(5)].astype(np.int64),
        "logits": np.zeros((7, 3), np.float32),
    }
    arrays.update(changes)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


FOREIGN = {
    "another key": {"key": np.array("0" * 64)},
    "no key": {"key": None},
    "no logits": {"logits": None},
    "other classes": {"logits": np.zeros((7, 4), np.float32)},
    "other images": {"rows": np.arange(7)},
    "a row too many": {"logits": np.zeros((8, 3), np.float32)},
    "a row beyond": {"rows": np.r_[np.arange(6), 99, -np.ones(5)].astype(np.int64)},
    "a row twice": {"rows": np.r_[0, np.arange(6), -np.ones(5)].astype(np.int64)},
    "a negative row": {"rows": np.r_[np.arange(7), -2 * np.ones(5)].astype(np.int64)},
    "float rows": {"rows": np.r_[np.arange(7), -np.ones(5)]},
    "double logits": {"logits": np.zeros((7, 3))},
    "NaN": {"logits": np.full((7, 3), np.nan, np.float32)},
    "a cube": {"logits": np.zeros((7, 3, 1), np.float32)},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_costs_a_pass_and_no_figure(name, kept):
    cache, path, _ = kept
    npz(path, **FOREIGN[name])
    assert not len(cache.load(path.stem, 12, 3).logits)


def test_the_premise_holds_that_such_a_file_is_read(kept):
    cache, path, _ = kept
    npz(path)
    assert len(cache.load(path.stem, 12, 3).logits) == 7


def test_an_array_or_a_folder_in_its_place_costs_a_pass(kept):
    cache, path, _ = kept
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert not len(cache.load(path.stem, 12, 3).logits)
    with path.open("wb") as file:
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert not len(cache.load(path.stem, 12, 3).logits)
    path.unlink()
    path.mkdir()
    assert not len(cache.load(path.stem, 12, 3).logits)


def test_a_damaged_file_is_replaced(kept, target_of, linear, images_of, passes):
    cache, path, _ = kept
    path.write_bytes(b"PK\x03\x04 not a zip")
    images = images_of(12, n_classes=3)
    target = target_of(linear(n_classes=3), card_of_three(), cache=cache.folder)
    sizes = asked(target, passes)
    logits = target.logits(images)
    assert sum(sizes) == 12
    np.testing.assert_allclose(logits, true_logits(linear(n_classes=3), images), atol=1e-5)
    np.testing.assert_array_equal(cache.load(path.stem, 12, 3).of(np.arange(12)), logits)


def test_a_cache_that_cannot_be_written_costs_no_answer(target_of, linear, images_of, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    target = target_of(linear(), cache=tmp_path / "file")
    images = images_of(9)
    np.testing.assert_allclose(target.logits(images), true_logits(linear(), images), atol=1e-5)


def test_answers_know_what_is_missing():
    answers = Answers(np.full(5, -1), np.empty((0, 2), np.float32))
    assert answers.missing(np.array([4, 1, 4])).tolist() == [1, 4]
    answers.add(np.array([1, 4]), np.array([[1, 2], [3, 4]], np.float32))
    assert answers.missing(np.array([4, 0, 1])).tolist() == [0]
    assert answers.of(np.array([4, 1, 4])).tolist() == [[3, 4], [1, 2], [3, 4]]


WRITER = """
import sys, numpy as np, torch
from pathlib import Path
from torch import nn
from securitynet.catalogue.cards import InputSpec, ModelCard, Weights
from securitynet.datasets.images import Images
from securitynet.targets.engine import Engine
from securitynet.targets.target import OutputCache, Target

torch.manual_seed(0)
module = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval()
pixels = np.random.default_rng(0).integers(0, 256, (500, 8, 8, 3), dtype=np.uint8)
images = Images(pixels, np.zeros(500, np.int64), np.arange(500), "shared")
card = ModelCard("a/b", "a", "b", "d", 10, "x", InputSpec(3, 8, 8), Weights(path="none"))
with torch.inference_mode():
    truth = module(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).numpy()
engine = Engine(module, card.input, torch.device("cpu"))
rng = np.random.default_rng(int(sys.argv[2]))
worst = 0.0
for _ in range(40):
    target = Target(engine, card, "0" * 64, cache=OutputCache(Path(sys.argv[1])))
    for _ in range(2):
        chosen = rng.choice(500, 100)
        found = target.logits(images.take(chosen))
        worst = max(worst, np.abs(found - truth[chosen]).max())
print(worst)
"""


def test_two_processes_may_write_the_same_file(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True, env=environment)
        for i in range(2)
    ]
    for process in both:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0 and float(output) < 1e-5
    (path,) = tmp_path.rglob("*.npz")
    assert not list(tmp_path.rglob("*.tmp"))
    answers = OutputCache(tmp_path).load(path.stem, 500, 10)
    assert len(answers.logits) >= 100
