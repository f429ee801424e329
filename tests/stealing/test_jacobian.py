import numpy as np
import pytest
import torch
from stealing_victims import FAST, N_CLASSES, N_EVALUATION, N_POOL, SIDE, Fixed, audit_data, target

from securitynet.errors import RefusedError
from securitynet.registry import Access, get_method
from securitynet.stealing._surrogates import moved
from securitynet.targets.context import Context


def steal(victim=None, data=None, context=None, **options):
    method = get_method("steal.jacobian").configure(**{**FAST, **options})
    return method(victim or target(), data or audit_data(), context or Context())


def agreement(evidence, name="labels"):
    answers = [getattr(copy, name) for copy in evidence.surrogates]
    return float((np.stack(answers) == evidence.target_labels).mean())


def test_made_images_teach_and_the_floor_does_not():
    evidence = steal(budgets=(400,), n_rounds=2)
    assert agreement(evidence) > 0.45
    assert agreement(evidence, "floor_labels") < 0.4  # chance is 0.25


def test_images_are_doubled_up_to_the_budget_and_all_of_them_counted(trainings):
    victim = target()
    steal(victim, budgets=(50,), n_seeds=1, n_rounds=3)
    copies, floors = trainings[: len(trainings) // 2], trainings[len(trainings) // 2 :]
    for seen in (copies, floors):
        assert [len(targets) for targets in seen] == [7, 14, 28, 50]
    assert victim.queries == 50 + N_EVALUATION


def test_the_copy_learns_what_the_target_says_of_made_images(monkeypatch):
    seen = []

    def fit(module, pixels, targets, **_):
        seen.append((pixels, targets))
        return module.eval()

    monkeypatch.setattr("securitynet.stealing._surrogates.fit", fit)
    victim, data = target(), audit_data()
    steal(victim, data, budgets=(40,), n_seeds=1, n_rounds=2)
    pixels, learned = seen[2]
    assert np.array_equal(learned, victim.labels(pixels))
    own = {image.tobytes() for image in data.queries.pixels()}
    assert [image.tobytes() in own for image in pixels] == [True] * 10 + [False] * 30
    reach = np.abs(pixels[10:20].astype(int) - pixels[:10])
    assert reach.max() == 26  # a tenth of 255, rounded
    truth = dict(
        zip((p.tobytes() for p in data.queries.pixels()), data.queries.labels, strict=True)
    )
    floor_pixels, kept = seen[5]
    parents = [truth[image.tobytes()] for image in floor_pixels[:10]]
    assert np.array_equal(kept, np.tile(parents, 4))


def test_images_move_along_the_gradient_of_their_label():
    module = Fixed().eval()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (300, SIDE, SIDE, 1), dtype=np.uint8)
    labels = rng.integers(0, N_CLASSES, 300)
    made = moved(module, pixels, labels, 0.1, torch.device("cpu"))
    weight = module.weight.numpy().astype(np.float64)  # d log p_y = W_y - sum of p W
    logits = (pixels.reshape(300, -1) / 255 - 0.5) @ weight
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    slope = (weight.T[labels] - p @ weight.T).reshape(pixels.shape)
    expected = np.clip(pixels / 255 + 0.1 * np.sign(slope), 0, 1) * 255
    is_clear = np.abs(slope) > 1e-3
    assert is_clear.mean() > 0.9
    assert np.abs(made - expected)[is_clear].max() <= 0.51
    before, after = (
        torch.log_softmax(module(torch.from_numpy(x).movedim(-1, 1) / 255.0), 1).numpy()
        for x in (pixels, made)
    )
    rows = np.arange(300)
    assert after[rows, labels].mean() > before[rows, labels].mean() + 1


def test_a_budget_may_exceed_the_pool_but_not_what_can_be_made(trainings):
    evidence = steal(budgets=(2 * N_POOL,), n_seeds=1, n_rounds=1)
    assert evidence.surrogates[0].budget == 600
    with pytest.raises(RefusedError, match="601 is more than the 600 images"):
        steal(budgets=(601,), n_rounds=1)
    with pytest.raises(RefusedError, match="too few"):
        steal(data=audit_data(n_pool=1))


def test_floors_are_shared_by_models_and_told_apart(trainings, tmp_path):
    context = Context(cache=tmp_path)
    given = {"context": context, "budgets": (50,), "n_seeds": 1}
    steal(**given)
    n_trained = len(trainings)
    steal(target(Fixed(seed=1)), **given)
    assert len(trainings) == n_trained + n_trained // 2
    for change in ({"step": 0.2}, {"budgets": (49,)}, {"n_rounds": 3}):
        trainings.clear()
        steal(**{**given, **change})
        assert len(trainings) % 2 == 0  # as many for the floor as for the copy


def test_labels_suffice_and_the_seed_decides():
    first, same, other = (
        steal(target(access=Access.LABELS), context=Context(seed=seed), n_seeds=1, budgets=(60,))
        for seed in (0, 0, 1)
    )
    for name in ("labels", "floor_labels"):
        values = [getattr(run.surrogates[0], name) for run in (first, same, other)]
        assert np.array_equal(values[0], values[1]) and not np.array_equal(values[0], values[2])
