"""Attacks that see labels only, on targets whose boundary is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from securitynet.errors import UsageError
from securitynet.membership import _label_queries as queries
from securitynet.membership import label_noise
from securitynet.membership._hop_skip_jump import HopSkipJump, n_queries
from securitynet.membership._subset import draw
from securitynet.registry import Access, get_method
from securitynet.targets.context import Context
from securitynet.targets.references import Shadow
from securitynet.targets.target import as_pixels

SIDE = 6


class Halfspace:
    """Label 1 where the mean pixel exceeds a half, else 0; counts what it is asked."""

    def __init__(self):
        self.queries = 0

    def labels(self, images):
        pixels = images if isinstance(images, torch.Tensor) else as_pixels(images.pixels())
        self.queries += len(pixels)
        return (pixels.flatten(1).mean(1) > 0.5).long().numpy()


def grey(levels, side=SIDE):
    """Return pictures of one shade each, uint8 ``[n, side, side, 1]``."""
    levels = np.asarray(levels, np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (len(levels), side, side, 1)).copy()


@pytest.fixture
def shades(world_parts):
    """Return data of 40 shades, dark ones of class 0 and bright ones of class 1."""
    levels = np.r_[np.arange(20) * 6, 255 - np.arange(20) * 6]
    return world_parts.audit_data(np.repeat([0, 1], 20), 2, grey(levels))


def boundary(data, **config):
    target = Halfspace()
    method = get_method("mia.boundary").configure(**config)
    return method(target, data, Context()), target


def test_the_boundary_is_where_it_is(shades):
    evidence, _ = boundary(shades, iterations=8, probes=60)
    levels = shades.audit.pixels()[:, 0, 0, 0] / 255
    exact = np.abs(levels - 0.5) * SIDE  # the way along the mean, times the root of the pixels
    assert (evidence.scores >= exact * 0.999).all()  # never below: what is found is beyond
    np.testing.assert_allclose(evidence.scores, exact, rtol=0.1)
    assert evidence.index is None


def test_more_probes_come_closer(shades):
    few, many = (boundary(shades, iterations=i, probes=p)[0].scores for i, p in ((1, 10), (8, 60)))
    assert many.mean() < few.mean()


def test_misclassified_samples_lie_on_the_boundary(shades):
    data = replace(shades, audit=replace(shades.audit, source_labels=1 - shades.audit.labels))
    evidence, _ = boundary(data, iterations=1)
    assert (evidence.scores == 0).all()


def test_a_target_without_a_boundary_has_the_largest_distance(shades):
    images = as_pixels(shades.audit.pixels())
    attack = HopSkipJump(lambda x: np.zeros(len(x), int), 1, 10, torch.Generator().manual_seed(0))
    found = attack.distances(images, shades.audit.labels)
    assert set(found[:20]) == {float(SIDE)} and (found[20:] == 0).all()


def test_the_cost_is_said_before_and_kept(shades):
    said = []
    target = Halfspace()
    context = Context(progress=lambda share, what: said.append((share, what, target.queries)))
    get_method("mia.boundary").configure(iterations=4, probes=50)(target, shades, context)
    share, what, asked = said[0]
    announced = int(what.split("about ")[1].split(" ")[0].replace(",", ""))
    assert share == asked == 0 and announced == 40 * n_queries(4, 50, SIDE * SIDE)
    assert 0.5 < target.queries / announced < 1.5
    shares = [share for share, *_ in said]
    assert shares == sorted(shares) and shares[-1] <= 1
    assert max(np.diff(shares)) < 0.3  # told as it goes: a round may take minutes
    for share, what, asked in said:  # the rest of the time follows from it
        assert what == said[0][1] and share == min(asked / announced, 1.0)


def test_hundreds_of_samples_at_ten_rounds_cost_what_the_docs_say():
    assert 2300 < n_queries(10, 100, 3 * 32 * 32) < 2700
    assert get_method("mia.boundary").variants == ()


def test_a_part_is_balanced_by_class_and_says_which(shades):
    evidence, _ = boundary(shades, samples=10, iterations=1, probes=10)
    assert len(evidence.scores) == len(evidence.index) == 10
    assert np.bincount(shades.audit.labels[evidence.index]).tolist() == [5, 5]
    assert draw(shades.audit, 40, np.random.default_rng(0)) is None
    assert len(np.unique(evidence.index)) == 10 and (np.diff(evidence.index) > 0).all()


@pytest.mark.parametrize("name", ["boundary", "label_noise", "label_augment"])
def test_a_part_too_small_for_both_sides_is_refused_before_it_is_paid_for(name):
    with pytest.raises(UsageError, match="samples"):
        get_method(f"mia.{name}").configure(samples=9)


# noise


def test_robustness_grows_with_the_distance(shades):
    evidence = get_method("mia.label_noise").configure(sigma=1.0, n_copies=200)(
        Halfspace(), shades, Context()
    )
    dark = evidence.scores[:20]
    assert np.corrcoef(dark, -np.arange(20))[0, 1] > 0.8 and evidence.flags == ()


def test_noise_has_its_size_and_stays_in_range():
    pixels = torch.full((50, 1, 20, 20), 0.5)
    noisy = queries.gaussian_noise(0.1, torch.Generator().manual_seed(0))(pixels)
    assert float((noisy - pixels).std()) == pytest.approx(0.1, rel=0.05)
    loud = queries.gaussian_noise(5.0, torch.Generator().manual_seed(0))(pixels)
    assert float(loud.min()) == 0 and float(loud.max()) == 1
    assert float(pixels.std()) == 0  # the images themselves are left alone


def test_the_score_is_the_share_of_correct_copies(shades):
    answers = iter([shades.audit.labels, 1 - shades.audit.labels, shades.audit.labels])

    class Scripted:
        def labels(self, images):
            return next(answers)

    got = queries.share_correct(Scripted(), shades.audit, [lambda x: x] * 3)
    np.testing.assert_allclose(got, 2 / 3)


def test_the_noise_is_tuned_on_a_reference_never_on_the_target(world_parts):
    """Proxy members lie 0.3 farther from the boundary: small noise shows nothing, large all."""
    levels = np.repeat([[127 - 64], [127 - 26]], 200)
    data = world_parts.audit_data(np.zeros(400, int), 2, grey(levels, 3))
    is_member = np.repeat([True, False], 200)
    out = np.ones((1, 400), bool)
    known = Shadow(np.zeros((400, 2)), data.audit.labels, is_member, data.audit.indices)
    proxy = Halfspace()
    references = world_parts.references_from(
        [np.zeros((400, 2))], out, shadow=lambda r: known, model=lambda r: proxy
    )
    context = Context(references=references)
    assert label_noise.tuned(references, proxy, data.audit, context) == label_noise.SIGMAS[-1]
    assert proxy.queries == 400 * len(label_noise.SIGMAS) * label_noise.N_TUNING_COPIES
    target = Halfspace()
    evidence = get_method("mia.label_noise").configure(n_copies=3)(target, data, context)
    assert target.queries == 3 * 400 and evidence.flags == ()
    untuned = get_method("mia.label_noise").configure(n_copies=3)(target, data, Context())
    assert untuned.flags == ("untuned-noise",)


# augmentation


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 0), (-1, 0), (0, 2), (2, -1)])
def test_a_shift_moves_the_picture(down, right):
    pixels = torch.rand(2, 3, 8, 7, generator=torch.Generator().manual_seed(0))
    moved = queries.shift(down, right)(pixels)
    assert moved.shape == pixels.shape
    inner = pixels[..., 3:5, 3:4]
    assert torch.equal(moved[..., 3 + down : 5 + down, 3 + right : 4 + right], inner)


def test_a_rotation_turns_the_picture():
    pixels = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(queries.rotation(0.0)(pixels), pixels)
    quarter = queries.rotation(90.0)(pixels)
    assert min(float((quarter - torch.rot90(pixels, k, (2, 3))).abs().max()) for k in (1, 3)) < 1e-4


def test_a_rotation_keeps_lengths_in_oblong_pictures():
    pixels = torch.zeros(1, 1, 9, 17)
    pixels[..., 4, 8:12] = 1  # four to the right of the middle
    turned = queries.rotation(90.0)(pixels)
    assert float(turned.sum()) == pytest.approx(4.0, abs=0.3)
    assert float(turned[..., :, 8].sum()) == pytest.approx(4.0, abs=0.3)


def test_copies_are_flipped_only_where_classes_allow():
    method = get_method("mia.label_augment").configure()
    assert [len(method.copies(is_mirrored)) for is_mirrored in (True, False)] == [12, 7]
    pixels = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    copies = [copy(pixels) for copy in method.copies(True)]
    assert len({copy.numpy().tobytes() for copy in copies}) == 12
    assert torch.equal(copies[5], pixels.flip(-1))


def test_augmentation_scores_a_part(shades):
    target = Halfspace()
    method = get_method("mia.label_augment").configure(samples=20)
    evidence = method(target, shades, Context())
    assert len(evidence.scores) == 20 and target.queries == 12 * 20
    assert (evidence.scores == 1).all()  # one shade each: no copy differs


@pytest.mark.parametrize("name", ["label_noise", "label_augment", "boundary"])
def test_labels_are_all_that_is_seen(name):
    assert get_method(f"mia.{name}").access == Access.LABELS
