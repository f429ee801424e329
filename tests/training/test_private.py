"""DP-SGD: steps against slow ones, accounting against closed forms, the effect on attacks."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from torch import nn
from torch.nn import functional

from securitynet.catalogue.cards import load_card
from securitynet.datasets.library import load_dataset
from securitynet.errors import ResourceError, UsageError
from securitynet.runs.evaluate import plan, run
from securitynet.runs.plan import Settings, choose_methods
from securitynet.runs.store import Store
from securitynet.targets.build import load_module, load_target
from securitynet.targets.normalisation import n_groups, with_group_norm
from securitynet.training.backdoors import Trigger
from securitynet.training.private import (
    Mechanism,
    Privacy,
    calibrate,
    poisson_batches,
    spent,
)
from securitynet.training.selftrained import TrainingPlan, train_models
from securitynet.training.trainer import Recipe, fit, steps_of

CPU = torch.device("cpu")
ONE_STEP = Recipe(
    epochs=1, batch_size=8, momentum=1e-9, weight_decay=0.0, label_smoothing=0.0, is_augmented=False
)
EXACT = Mechanism(8.0, 1e-5, clip=0.2, noise_multiplier=0.0, sample_rate=1.0, n_steps=1)
SHORT = Recipe(epochs=10, batch_size=64, is_augmented=False, label_smoothing=0.0, weight_decay=0.0)
OVERFITTED = replace(SHORT, epochs=60, lr=0.2, label_smoothing=0.2)  # what is smoothed stands out
N_TRAIN = 400
CLIP = 1.8


def silent(share, what):
    pass


def linear(n_out=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, n_out))


def images(n=8):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 2, 2, 3), dtype=np.uint8), rng.integers(0, 3, n)


def change(mechanism, seed=0, n_out=3):
    """Return by how much one training of a linear network moves its parameters, over the lr."""
    module, recipe = linear(n_out), replace(ONE_STEP, lr=0.1)
    fit(module, *images(), recipe=recipe, seed=seed, device=CPU, mechanism=mechanism)
    first = recipe.lr / 25  # the first step of the one-cycle schedule
    pairs = zip(module.parameters(), linear(n_out).parameters(), strict=True)
    return torch.cat([(new - old).detach().flatten() for new, old in pairs]) / -first


def test_a_step_clips_the_gradient_of_every_image_alone():
    pixels, labels = images()
    total = torch.zeros(12 * 3 + 3)
    norms = []
    for i in range(len(pixels)):
        module = linear()
        inputs = torch.from_numpy(pixels[i : i + 1]).permute(0, 3, 1, 2).float() / 255
        functional.cross_entropy(module(inputs), torch.tensor(labels[i : i + 1])).backward()
        gradient = torch.cat([p.grad.flatten() for p in module.parameters()])
        norms.append(float(gradient.norm()))
        total += gradient * min(1.0, CLIP / norms[-1])
    assert min(norms) < CLIP < max(norms), "some are clipped and some are not"
    torch.testing.assert_close(
        change(replace(EXACT, clip=CLIP)), total / len(pixels), atol=2e-5, rtol=1e-3
    )


def test_the_noise_is_the_multiplier_times_the_clip():
    noisy = replace(EXACT, noise_multiplier=3.0)
    exact = change(EXACT, n_out=400)
    first, other, again = (change(noisy, seed, 400) - exact for seed in (0, 1, 0))
    assert first.std().item() == pytest.approx(3.0 * EXACT.clip / 8, rel=0.05)
    assert abs(first.mean().item()) < 4 * first.std().item() / len(first) ** 0.5
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_images_are_drawn_one_by_one():
    sizes = [len(chosen) for chosen in poisson_batches(200, 0.1, 2000, torch.Generator())]
    assert np.mean(sizes) == pytest.approx(20, abs=4 * (18 / 2000) ** 0.5)
    assert np.var(sizes) == pytest.approx(18, rel=0.15), "a binomial number, not always 20"
    drawn = torch.cat(list(poisson_batches(50, 0.1, 2000, torch.Generator()))).bincount()
    assert drawn.min() > 140 and drawn.max() < 260, "every image as often"


def test_a_step_without_images_adds_noise_alone():
    empty = replace(EXACT, sample_rate=0.0)
    assert change(empty).abs().max() == 0
    assert change(replace(empty, noise_multiplier=1.0)).abs().max() > 0


@pytest.mark.parametrize(("noise", "n_steps"), [(4.0, 10), (20.0, 100)])
def test_epsilon_of_whole_batches_has_a_closed_form(noise, n_steps):
    """Composed Gaussian mechanisms are one with sqrt(steps) / noise (arXiv 1905.02383, 3.3)."""
    mu, delta = n_steps**0.5 / noise, 1e-5

    def excess(epsilon):
        first, second = norm.cdf(-epsilon / mu + mu / 2), norm.logcdf(-epsilon / mu - mu / 2)
        return first - np.exp(epsilon + second) - delta

    truth = brentq(excess, 0, 50)
    assert truth - 1e-6 <= spent(noise, 1.0, n_steps, delta) <= 1.03 * truth


def test_the_noise_is_just_enough():
    mechanism = calibrate(Privacy(4.0), 0.1, 50)
    assert 3.98 <= mechanism.epsilon <= 4.0
    assert spent(0.98 * mechanism.noise_multiplier, 0.1, 50, 1e-5) > 4.0


@pytest.mark.parametrize(
    "privacy",
    [Privacy(0.0), Privacy(-1.0), Privacy(float("nan")), Privacy(8, clip=0.0), Privacy(8, 0.0),
     Privacy(8, 0.01), Privacy(8, float("nan"))],
)  # fmt: skip
def test_what_guarantees_nothing_is_refused(privacy):
    with pytest.raises(UsageError):
        privacy.check(100)


def test_batch_normalisation_is_refused_and_replaced():
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 3))
    with pytest.raises(UsageError, match="BatchNorm"):
        fit(module, *images(), recipe=ONE_STEP, seed=0, device=CPU, mechanism=EXACT)
    fit(with_group_norm(module), *images(), recipe=ONE_STEP, seed=0, device=CPU, mechanism=EXACT)
    assert type(module[1]) is nn.GroupNorm and module[1].num_groups == 2
    assert not any(hasattr(p, "grad_sample") for p in module.parameters())


class AddsInPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Conv2d(3, 3, 1), nn.Linear(12, 3)

    def forward(self, inputs):
        hidden = self.inner(inputs)
        hidden += inputs
        return self.last(hidden.flatten(1))


def test_a_network_that_adds_in_place_is_refused_in_one_line():
    with pytest.raises(UsageError, match=r"cannot be trained with DP-SGD: .* in place"):
        fit(AddsInPlace(), *images(), recipe=ONE_STEP, seed=0, device=CPU, mechanism=EXACT)


def test_a_batch_normalisation_that_does_more_is_refused():
    from timm.layers import BatchNormAct2d

    with pytest.raises(UsageError, match="BatchNormAct2d"):
        with_group_norm(nn.Sequential(BatchNormAct2d(8)))


@pytest.mark.parametrize(("n_channels", "expected"), [(16, 4), (48, 12), (64, 16), (7, 1), (3, 1)])
def test_groups_divide_the_channels(n_channels, expected):
    assert n_groups(n_channels) == expected


def test_without_opacus_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(ResourceError, match=r"Opacus.*securitynet\[dp\]"):
        calibrate(Privacy(8.0), 0.1, 10)


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def twins(digits, tmp_path_factory):
    """Return the cards of a private model and its twin, and the images of every step."""
    from opacus.optimizers import DPOptimizer

    steps = []

    def step(self, closure=None):
        steps.append(len(self.grad_samples[0]))
        return original(self, closure)

    original, DPOptimizer.step = DPOptimizer.step, step
    wanted = TrainingPlan(
        "private", {"name": "securitynet/cnn_small", "norm": "group"}, SHORT,
        n_train=N_TRAIN, privacy=Privacy(8.0),
    )  # fmt: skip
    try:
        paths = train_models(wanted, digits, tmp_path_factory.mktemp("models"), silent)
    finally:
        DPOptimizer.step = original
    return [load_card(path) for path in paths], steps


def test_the_card_says_what_opacus_accounts_for(twins):
    from opacus.accountants import create_accountant

    (private, _), steps = twins
    facts = private.training["privacy"]
    accountant = create_accountant(facts["accountant"])
    for _ in steps:
        accountant.step(
            noise_multiplier=facts["noise_multiplier"], sample_rate=facts["sample_rate"]
        )
    assert facts["epsilon"] == pytest.approx(accountant.get_epsilon(delta=facts["delta"]))
    assert (facts["n_steps"], facts["delta"], facts["clip"]) == (len(steps), 1e-5, 1.0)
    assert facts["sample_rate"] == steps_of(SHORT, N_TRAIN).size / N_TRAIN
    assert len(set(steps)) > 5, "Poisson sampling"


def test_twins_differ_in_privacy_alone(twins):
    (private, twin), _ = twins
    assert (private.training["twin"], twin.training["twin"]) == (twin.id, private.id)
    assert twin.training["privacy"] is None
    for name in set(private.training) - {"twin", "privacy"}:
        assert private.training[name] == twin.training[name], name


def test_the_architecture_of_the_card_is_the_one_that_was_trained(twins, digits):
    for card in twins[0]:
        kinds = {type(layer) for layer in load_module(card)[0].modules()}
        assert nn.GroupNorm in kinds and nn.BatchNorm2d not in kinds
        is_right = load_target(card).labels(digits.test.pixels()) == digits.test.labels
        assert card.claim("test_accuracy").value == pytest.approx(float(is_right.mean()))


def test_the_private_twin_gives_away_less(digits, tmp_path):
    """Whatever the seed (0 to 4), the intervals lie at least 0.05 apart."""
    wanted = TrainingPlan("private", "securitynet/mlp", OVERFITTED, privacy=Privacy(4.0))
    private, twin = (load_card(path) for path in train_models(wanted, digits, tmp_path, silent))
    store = Store(tmp_path / "store")
    choices, settings = choose_methods(["mia.loss"]), Settings(cache=tmp_path)
    records = {r.model: r for r in run(plan(choices, [private, twin], settings, store), store)}
    hidden, open_ = (records[card.id].measures["auc"] for card in (private, twin))
    assert open_.low > 0.55, "the recipe overfits"
    assert hidden.high < open_.low
    assert private.claim("test_accuracy").value > 0.3, "it has learned something"


@pytest.mark.parametrize("other", [{"trigger": Trigger()}, {"start": "any"}])
def test_a_guarantee_for_some_of_the_training_is_refused(digits, tmp_path, other):
    wanted = TrainingPlan("x", "securitynet/mlp", SHORT, privacy=Privacy(8.0), **other)
    with pytest.raises(UsageError, match="fresh weights"):
        train_models(wanted, digits, tmp_path, silent)
