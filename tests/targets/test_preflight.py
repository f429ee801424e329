"""Models that are broken or odd, each found in two small batches; all problems, not the first."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from securitynet.targets.preflight import PROBE_SIZE, problems


class Odd(nn.Module):
    """A linear classifier with something wrong after it (or before, with ``first``)."""

    def __init__(self, linear, after, *, first=None):
        super().__init__()
        self.linear, self.after, self.first = linear, after, first

    def forward(self, inputs):
        if self.first is not None:
            inputs = self.first(inputs)
        return self.after(self.linear(inputs))


class NormsByBatch(nn.Module):
    """BatchNorm that keeps using the batch's own statistics, whatever mode it is in."""

    def forward(self, logits):
        return functional.batch_norm(logits, None, None, training=True)


class StuckInTraining(nn.BatchNorm1d):
    def train(self, mode=True):
        return super().train(True)


class Clock:
    """Adds another number in every call."""

    def __init__(self):
        self.n_calls = 0

    def __call__(self, logits):
        self.n_calls += 1
        return logits + self.n_calls

    def __deepcopy__(self, memo):
        return self


def edit(inputs):
    return inputs.mul_(2.0)


def in_half(logits):
    return (logits.half() * 1e5).float()


def some(value):
    return lambda logits: torch.where(logits.argmax(1, keepdim=True) == 3, value, logits)


def dropped(logits):
    return functional.dropout(logits, 0.5, training=True)


def flat(logits):
    return torch.zeros_like(logits) + torch.arange(10.0)


# kind -> (what comes after the linear layer, words of the line, flag, is it fatal)
KINDS = {
    "nan": (some(torch.nan), r"\d+% of the answers are not finite \(NaN\)", "not-finite", True),
    "inf": (some(torch.inf), r"of the answers are not finite \(Inf\)", "not-finite", True),
    "half overflow": (in_half, r"not finite \(Inf\)", "not-finite", True),
    "class count": (
        lambda z: z[:, :7], r"shape \[64, 7\], its card says 10 classes", "class-count", True,
    ),
    "not a row an image": (
        lambda z: z.sum(0), r"shape \[10\], its card says 10", "class-count", True,
    ),
    "constant": (flat, "the same for every image", "constant-target", True),
    "dropout": (dropped, "different answers in one batch: dropout", "preflight", True),
    "random": (
        lambda z: z + torch.randn_like(z), "different answers in one batch", "preflight", True,
    ),
    "train-mode BatchNorm": (
        NormsByBatch(), "depends on the batch it comes in: BatchNorm", "preflight", True,
    ),
    "stuck BatchNorm": (
        StuckInTraining(10), "depends on the batch it comes in: BatchNorm", "preflight", True,
    ),
    "random by batch": (Clock(), "depends on the batch it comes in", "preflight", True),
    "huge logits": (lambda z: z * 1e8, r"logits of size \de\+0[89]", "preflight", True),
    "tuple": (
        lambda z: (z, None), "returns a tuple of 2, of which the first", "wrapped-outputs", False,
    ),
    "dict": (
        lambda z: {"aux": None, "logits": z}, "returns a dict of 2, of which 'logits'",
        "wrapped-outputs", False,
    ),
    "softmax": (
        lambda z: functional.softmax(z, 1), "returns posteriors", "outputs-softmax", False,
    ),
    "nothing": (lambda z: None, "returns NoneType, not logits", "preflight", True),
    "wrong input size": (
        nn.Linear(11, 10), r"cannot answer inputs of 3x8x8 \(RuntimeError: .*shapes", "preflight",
        True,
    ),
}  # fmt: skip


def lines(found):
    return [problem.line for problem in found]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_trouble_is_found(kind, target_of, linear, images_of):
    after, words, flag, is_fatal = KINDS[kind]
    torch.manual_seed(0)
    target = target_of(Odd(linear(gain=3.0), after))
    found = problems(target, images_of(200))
    if kind == "stuck BatchNorm":  # its running statistics are those of nothing yet
        found = [problem for problem in found if problem.flag != "input-statistics"]
    (only,) = found
    assert re.search(words, only.line) and "\n" not in only.line, only.line
    assert (only.flag, only.is_fatal) == (flag, is_fatal)


def test_a_sound_model_has_no_problem(target_of, linear, images_of):
    assert problems(target_of(linear(gain=3.0)), images_of(200)) == []


def test_an_edit_of_the_input_is_noted_and_harms_nothing(target_of, linear, images_of):
    images = images_of(200)
    target = target_of(Odd(linear(gain=3.0), lambda z: z, first=edit))
    (note,) = problems(target, images)
    assert "edits its input in place" in note.line and note.flag == "edits-input"
    assert not note.is_fatal
    pixels = images.pixels()
    before = pixels.copy()
    first, second = target.logits(pixels), target.logits(pixels)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(first, second)
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    kept = tensor.clone()
    with torch.inference_mode():
        expected = linear(gain=3.0)(2 * tensor).numpy()
    np.testing.assert_allclose(target.logits(tensor), expected, atol=1e-4)
    np.testing.assert_allclose(first, expected, atol=1e-4)
    assert torch.equal(tensor, kept)


def test_all_problems_are_listed(target_of, linear, images_of):
    def after(logits):
        logits = functional.dropout(logits * 1e8, 0.3, training=True)
        logits[0, 0] = torch.nan
        return (logits[:, :9], 1)

    target = target_of(Odd(linear(), after, first=edit))
    found = problems(target, images_of(200))
    text = "\n".join(lines(found))
    for part in ("[64, 9]", "not finite (NaN)", "logits of size", "dropout", "tuple", "edits its"):
        assert part in text, part
    assert len(found) == 6 and sum(problem.is_fatal for problem in found) == 4


def normalised(mean, std, card_of):
    from securitynet.catalogue.cards import InputSpec

    return card_of(input=InputSpec(3, 8, 8, mean=mean, std=std))


@pytest.mark.parametrize(
    ("mean", "std", "is_wrong"),
    [
        ((0.5,) * 3, (0.25,) * 3, False),
        ((0.48, 0.46, 0.41), (0.23, 0.22, 0.23), False),
        (None, None, True),
        ((0.5,) * 3, None, True),
        ((0.5,) * 3, (0.05,) * 3, True),
    ],
)
def test_wrong_normalisation_shows_in_the_first_batchnorm(
    mean, std, is_wrong, target_of, images_of, card_of
):
    """The network saw pixels with mean 0.5 and spread 0.25 in training."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16, momentum=None), nn.ReLU(),
        nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16, momentum=None), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    seen = torch.from_numpy(images_of(500, seed=9).pixels()).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        network.train()((seen - 0.5) / 0.25)
    found = problems(target_of(network, normalised(mean, std, card_of)), images_of(200))
    if is_wrong:
        (note,) = found
        assert "normalisation in the card is likely wrong" in note.line and not note.is_fatal
        assert note.flag == "input-statistics"
    else:
        assert found == []


def test_two_small_batches_are_all_it_takes(target_of, linear, images_of):
    sizes = []

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, inputs):
            sizes.append(len(inputs))
            return self.linear(inputs)

    target = target_of(Counted())
    sizes.clear()
    assert problems(target, images_of(500)) == []
    assert sizes == [PROBE_SIZE, PROBE_SIZE] and target.queries == 0


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_images_are_enough(n, target_of, linear, images_of):
    assert problems(target_of(linear(gain=3.0)), images_of(n)) == []
    target = target_of(Odd(linear(gain=3.0), lambda z: z + torch.randn_like(z)))
    assert any("different answers" in line for line in lines(problems(target, images_of(n))))


def test_what_does_not_fit_in_memory_is_probed_with_fewer_images(target_of, linear, images_of):
    class Narrow(nn.Module):
        def __init__(self, after):
            super().__init__()
            self.linear, self.after = linear(gain=3.0), after

        def forward(self, inputs):
            if len(inputs) > 20:
                raise torch.OutOfMemoryError("out of memory")
            return self.after(self.linear(inputs))

    assert problems(target_of(Narrow(lambda z: z)), images_of(200)) == []
    (found,) = problems(target_of(Narrow(dropped)), images_of(200))
    assert "dropout" in found.line


def test_rounding_is_not_taken_for_randomness(target_of, shaken, images_of, card_of):
    from securitynet.targets.architectures import cifar_resnet

    torch.manual_seed(0)
    module = shaken(cifar_resnet("cifar_resnet20_a", num_classes=10, channels=3))
    found = problems(target_of(module, card_of(side=32)), images_of(100, side=32))
    assert [problem for problem in found if problem.is_fatal] == []


@pytest.mark.public
@pytest.mark.parametrize(
    ("changes", "is_wrong"),
    [({}, False), ({"mean": None, "std": None}, True), ({"std": (0.5,) * 3}, True)],
)
def test_wrong_normalisation_of_a_public_model_is_noted(
    changes, is_wrong, public_models, public_data, monkeypatch
):
    from dataclasses import replace

    from securitynet.catalogue.database import find_card
    from securitynet.datasets.images import make_audit
    from securitynet.datasets.library import load_dataset
    from securitynet.targets.build import load_target

    monkeypatch.setenv("SECURITYNET_MIRROR", str(public_models))
    monkeypatch.setenv("SECURITYNET_DATA", str(public_data))
    card = find_card("community/akamaster-resnet20")
    card = replace(card, input=replace(card.input, **changes))
    audit = make_audit(load_dataset("cifar10"), limit=200)
    found = problems(load_target(card), audit.test)
    assert [problem.flag for problem in found] == (["input-statistics"] if is_wrong else [])
