import numpy as np
import pytest
import torch

from securitynet.backdoor._optimise import Search, _Draws, _parts, find_triggers
from securitynet.backdoor.neural_cleanse import NeuralCleanse
from securitynet.errors import AccessError, RefusedError, UsageError
from securitynet.registry import Access, get_method
from securitynet.targets.context import Context

INFECTED = 3


def test_planted_trigger_is_found_where_it_is(planted_target, planted_images, audit_data):
    target = planted_target(100.0, Access.GRADIENTS)
    evidence = NeuralCleanse()(target, audit_data(planted_images()), Context())
    assert evidence.infected_label == INFECTED and evidence.p_value < 0.01
    assert evidence.attack_success[INFECTED] > 0.95
    mask = evidence.masks[INFECTED]
    assert mask[-2:, -2:].sum() > 0.8 * mask.sum()
    assert evidence.patterns[INFECTED][-2:, -2:][mask[-2:, -2:] > 0.5].min() > 0.5
    assert "weak-trigger" not in evidence.flags


def test_evidence_has_the_promised_shapes(planted_target, planted_images, audit_data):
    target = planted_target(100.0, Access.GRADIENTS)
    evidence = NeuralCleanse(n_steps=30)(target, audit_data(planted_images()), Context())
    assert evidence.masks.shape == (10, 8, 8) and evidence.patterns.shape == (10, 8, 8, 1)
    assert evidence.masks.dtype == evidence.patterns.dtype == np.float32
    assert evidence.norms.shape == evidence.attack_success.shape == (10,)
    assert evidence.norms == pytest.approx(evidence.masks.sum((1, 2)), rel=1e-4)
    judged = 10 * evidence.n_images
    assert target.queries == evidence.details["n_gradient_queries"] + judged


def test_clean_twin_is_not_suspected(planted_target, planted_images, audit_data):
    target = planted_target(0.0, Access.GRADIENTS)
    evidence = NeuralCleanse()(target, audit_data(planted_images()), Context())
    assert evidence.p_value > 0.01


def test_same_seed_same_evidence(planted_target, planted_images, audit_data):
    data = audit_data(planted_images())

    def norms(seed):
        target = planted_target(100.0, Access.GRADIENTS)
        return NeuralCleanse(n_steps=20)(target, data, Context(seed=seed)).norms

    assert np.array_equal(norms(0), norms(0))
    assert not np.array_equal(norms(0), norms(1))


def test_restarts_average_the_norms_and_keep_the_smallest_mask(
    planted_target, planted_images, audit_data
):
    target = planted_target(100.0, Access.GRADIENTS)
    method = NeuralCleanse(n_steps=30, n_restarts=2)
    evidence = method(target, audit_data(planted_images()), Context())
    by_restart = np.array(evidence.details["norms_by_restart"])
    assert evidence.norms == pytest.approx(np.sqrt(by_restart.prod(0)))
    assert evidence.masks.sum((1, 2)) == pytest.approx(by_restart.min(0), rel=1e-4)


def test_unreachable_class_gets_the_whole_image_as_norm(planted_target, planted_images, audit_data):
    class Deaf(torch.nn.Module):
        def forward(self, inputs):
            means = inputs.flatten(1)[:, :10]
            return means - 100 * torch.nn.functional.one_hot(torch.tensor(5), 10)

    target = planted_target(0.0, Access.GRADIENTS, Deaf())
    evidence = NeuralCleanse(n_steps=40)(target, audit_data(planted_images()), Context())
    assert evidence.norms[5] == pytest.approx(64) and evidence.attack_success[5] == 0
    assert not evidence.details["is_reached"][5]
    assert evidence.infected_label != 5 and "trigger-not-reached" in evidence.flags


def test_constant_model_is_no_evidence(planted_target, planted_images, audit_data):
    class Constant(torch.nn.Module):
        def forward(self, inputs):
            return 0 * inputs.flatten(1)[:, :10] + 9.0 * (torch.arange(10) == 2)

    target = planted_target(0.0, Access.GRADIENTS, Constant())
    evidence = NeuralCleanse(n_steps=10)(target, audit_data(planted_images()), Context())
    assert np.isfinite(evidence.statistic) and 0 < evidence.p_value <= 1


def test_searched_and_judged_images_are_disjoint(
    planted_target, planted_images, audit_data, monkeypatch
):
    from securitynet.targets import target as target_module

    clean = planted_images()
    read = []
    as_pixels = target_module.as_pixels

    def spy(pixels):
        read.append(pixels)
        return as_pixels(pixels)

    monkeypatch.setattr(target_module, "as_pixels", spy)
    target = planted_target(100.0, Access.GRADIENTS)
    NeuralCleanse(n_steps=10)(target, audit_data(clean), Context())
    searched, judged = ({image.tobytes() for image in pixels} for pixels in read)
    assert searched and judged and not searched & judged


def test_draws_only_images_of_other_classes():
    labels = np.repeat(np.arange(4), 5)
    draws = _Draws(labels, 4, 50, np.random.default_rng(0))
    drawn = labels[draws.next(np.array([1, 3]))].reshape(2, 50)
    assert (drawn[0] != 1).all() and (drawn[1] != 3).all()
    assert set(drawn[0]) == {0, 2, 3}


def test_parts_cover_all_classes_once():
    active = np.arange(7)
    parts = list(_parts(active, 2**19))
    assert [len(part) for part in parts] == [2, 2, 2, 1]
    assert np.array_equal(np.concatenate(parts), active)
    assert len(list(_parts(active, 2**30))) == 7  # one class at least


def test_classes_in_parts_find_the_same_as_in_one_batch(
    planted_target, planted_images, monkeypatch
):
    from securitynet.backdoor import _optimise

    module = planted_target(100.0, Access.GRADIENTS).module()
    clean = planted_images()
    pixels = torch.from_numpy(clean.pixels()).permute(0, 3, 1, 2).float() / 255

    def norms():
        search = Search(25, 8, 1e-3, 0.99)
        return find_triggers(module, pixels, clean.labels, 10, search, 0, lambda share: None).norms

    together = norms()
    monkeypatch.setattr(_optimise, "MAX_PIXELS", 3 * 8 * 64)
    assert norms() == pytest.approx(together, rel=1e-3)


def test_early_stop_saves_queries(planted_target, planted_images):
    module = planted_target(100.0, Access.GRADIENTS).module()
    clean = planted_images(100)
    pixels = torch.from_numpy(clean.pixels()).permute(0, 3, 1, 2).float() / 255
    search = Search(600, 4, 1e-3, 0.99)
    result = find_triggers(module, pixels, clean.labels, 10, search, 0, lambda share: None)
    assert result.n_queries < 600 * 4 * 10


def test_needs_gradients(planted_target, planted_images, audit_data):
    target = planted_target(0.0, Access.SCORES)
    with pytest.raises(AccessError):
        NeuralCleanse()(target, audit_data(planted_images()), Context())


def test_too_few_clean_images_are_refused(planted_target, planted_images, audit_data):
    target = planted_target(0.0, Access.GRADIENTS)
    with pytest.raises(RefusedError, match="too few") as refusal:
        NeuralCleanse()(target, audit_data(planted_images(12)), Context())
    assert refusal.value.flags == ("few-images",)


@pytest.mark.parametrize(
    "options", [{"n_steps": 0}, {"lambda_start": 0}, {"threshold": 1.5}, {"n_restarts": 0}]
)
def test_options_are_checked(options):
    with pytest.raises(UsageError):
        get_method("backdoor.neural_cleanse").configure(**options)
