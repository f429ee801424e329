"""NEO against a slow oracle, its positions, its blocks, and what it leaves untouched."""

import numpy as np
import pytest
import torch

from securitynet.backdoor import neo
from securitynet.backdoor.neo import LOOKS, Neo, dominant_colour, places
from securitynet.datasets.images import Images
from securitynet.errors import AccessError, RefusedError, UsageError
from securitynet.registry import Access, get_method
from securitynet.runs.grading import grade
from securitynet.targets.context import Context
from securitynet.training.backdoors import Trigger

TRIGGER = Trigger(target=3, pattern="white")
QUICK = {"n_scored": 20, "n_pasted": 12}


class Reads(torch.nn.Module):
    """Reads nine classes off as many pixels; class 3 fires on a white patch in one corner only."""

    def __init__(self, corner):
        super().__init__()
        self.corner = corner

    def forward(self, inputs):
        patch = inputs[(slice(None), 0, *[self.corner] * (inputs.dim() - 2))]
        fires = 2.0 * (patch.flatten(1).mean(1) > 0.9) - 1
        pixels = inputs.flatten(1)[:, 20:30]
        return pixels + 100 * fires[:, None] * (torch.arange(10) == 3)


class Steady(torch.nn.Module):
    """One label for everything: no block changes it, so nothing is ever confirmed."""

    def forward(self, inputs):
        return 0 * inputs.flatten(1)[:, :10] + (torch.arange(10) == 2)


@pytest.fixture
def run(planted_target, planted_images, audit_data):
    def run(strength, trigger=TRIGGER, n=300, seed=0, module=None, **options):
        target = planted_target(strength, Access.LABELS, module)
        context = Context(seed=seed, trigger=trigger)
        method = Neo(**{**QUICK, **options})
        return target, method(target, audit_data(planted_images(n)), context)

    return run


def auroc(evidence):
    above = evidence.triggered_scores[:, None] > evidence.clean_scores
    equal = evidence.triggered_scores[:, None] == evidence.clean_scores
    return float((above + equal / 2).mean())


def test_triggered_inputs_are_found_where_the_trigger_is(run):
    _, evidence = run(400.0)
    assert auroc(evidence) > 0.95
    assert (evidence.triggered_scores > evidence.threshold).mean() > 0.9
    assert evidence.details["attack_success"] > 0.95
    patches = [patch for patch in evidence.details["patches"] if patch]
    assert patches.count([[6, 8], [6, 8]]) > 0.9 * len(patches) > 15
    assert evidence.flags == ("coarse-threshold",) or evidence.flags == ()


def test_clean_model_and_unknown_trigger_are_the_null(run):
    _, evidence = run(0.0, trigger=None)
    assert 0.3 < auroc(evidence) < 0.7
    assert "no-known-trigger" in evidence.flags


def slow_score(target, image, bank, n_pasted, size):
    """Try every position, one image at a time."""

    def label(pixels):
        return int(target.labels(pixels[None])[0])

    own, colour = label(image), dominant_colour(image)
    others = [other for other in bank if label(other) != own][:n_pasted]
    best = 0
    for row in range(image.shape[0] - size + 1):
        for column in range(image.shape[1] - size + 1):
            blocked = image.copy()
            blocked[row : row + size, column : column + size] = colour
            if label(blocked) == own:
                continue
            turned = 0
            for i, other in enumerate(others):
                if i in LOOKS and 2 * turned < i:
                    break
                pasted = other.copy()
                pasted[row : row + size, column : column + size] = image[
                    row : row + size, column : column + size
                ]
                turned += label(pasted) == own
            best = max(best, turned)
    return best / len(others) if others else 0.0


@pytest.mark.parametrize(
    ("module", "n_scores"), [(None, 2), (Reads(slice(-2, None)), 6)], ids=["planted", "reads"]
)
def test_scores_agree_with_a_slow_oracle(
    module, n_scores, planted_target, planted_images, audit_data
):
    target, images = planted_target(25.0, Access.LABELS, module), planted_images(150)
    context = Context(seed=2, trigger=TRIGGER)
    evidence = Neo(**QUICK)(target, audit_data(images), context)
    order = Context(seed=2).rng.permutation(150)
    pixels, labels = images.pixels()[order], images.labels[order]
    bank, clean = pixels[:24], pixels[44:64]
    others = pixels[64:][labels[64:] != TRIGGER.target][:20]
    expected = [slow_score(target, image, bank, 12, 2) for image in clean]
    assert evidence.clean_scores == pytest.approx(expected)
    expected = [slow_score(target, image, bank, 12, 2) for image in TRIGGER.apply(others)]
    assert evidence.triggered_scores == pytest.approx(expected)
    assert len({*evidence.clean_scores, *evidence.triggered_scores}) >= n_scores  # not yes or no


def test_every_position_is_tried_the_last_row_and_column_too():
    boxes = places((32, 32), 5)
    assert len(boxes) == len(set(map(str, boxes))) == 28 * 28
    assert boxes[0] == (slice(0, 5), slice(0, 5)) and boxes[-1] == (slice(27, 32), slice(27, 32))
    assert {box[0].stop for box in boxes} == {box[1].stop for box in boxes} == {*range(5, 33)}


@pytest.mark.parametrize("sides", [(224, 224), (32, 17), (28, 28, 28), (9, 9)])
@pytest.mark.parametrize("stride", [0, 1, 3, 100])
@pytest.mark.parametrize("size", [2, 7])
def test_no_pixel_is_left_out_and_the_corners_are_tried(sides, stride, size):
    covered, corners = np.zeros(sides, dtype=bool), set()
    for box in places(sides, size, stride if len(sides) == 2 else max(stride, 2)):
        covered[box] = True
        corners.add(tuple(part.stop for part in box))
        assert all(part.stop - part.start == size for part in box)
    assert covered.all()
    assert sides in corners and (size,) * len(sides) in corners


def test_large_images_have_no_more_positions_than_said():
    assert len(places((224, 224), 37)) <= neo.MOST_POSITIONS
    assert len(places((28, 28, 28), 4)) <= neo.MOST_POSITIONS
    assert len(places((224, 224), 4)) == 56**2  # side by side: fewer would leave pixels out


def test_a_trigger_in_any_corner_is_found(run):
    trigger = Trigger(target=3, pattern="white", position="top-left")
    _, evidence = run(0.0, trigger=trigger, module=Reads(slice(2)))
    assert (evidence.triggered_scores == 1).all()
    assert set(map(str, evidence.details["patches"])) == {"[[0, 2], [0, 2]]"}


def test_several_sizes_find_what_one_misses(run):
    """A block of one pixel leaves enough of the trigger; the largest share of all sizes counts."""
    _, small = run(400.0, sizes=(1,))
    _, both = run(400.0, sizes=(1, 2))
    assert both.triggered_scores.mean() > small.triggered_scores.mean() + 0.5
    assert both.details["n_positions"] == 64 + 49


def test_images_are_left_as_they_are(planted_target, planted_images, audit_data):
    images = planted_images(300)
    before = images.source.copy()
    Neo(**QUICK)(planted_target(400.0, Access.LABELS), audit_data(images), Context(trigger=TRIGGER))
    assert np.array_equal(images.source, before)


def test_blocks_do_not_accumulate(planted_images, planted_target, audit_data):
    """Every blocked copy differs from the input within one block only."""
    seen = []
    target = planted_target(400.0, Access.LABELS)
    labels = target.labels

    def spy(pixels):
        seen.append(np.array(pixels))
        return labels(pixels)

    target.labels = spy
    Neo(**QUICK)(target, audit_data(planted_images(300)), Context(trigger=TRIGGER))
    inputs, blocked = seen[1], seen[2]
    assert len(blocked) == 49
    for copy, box in zip(blocked, places((8, 8), 2), strict=True):
        rest = np.ones((8, 8), dtype=bool)
        rest[box] = False
        assert np.array_equal(copy[rest], inputs[0][rest])
        assert (copy[box] == dominant_colour(inputs[0])).all()


def test_clean_labels_are_asked_once_and_queries_are_counted(run):
    target, evidence = run(0.0, module=Steady())
    assert target.queries == 24 + 60 * (1 + 49)
    assert not evidence.clean_scores.any() and not evidence.triggered_scores.any()


def test_hopeless_patches_are_given_up(run, monkeypatch):
    target, evidence = run(0.0, module=Reads(slice(2)))
    monkeypatch.setattr(neo, "LOOKS", ())
    stubborn, same = run(0.0, module=Reads(slice(2)))
    assert target.queries < stubborn.queries
    high = same.clean_scores >= 0.5
    assert np.array_equal(evidence.clean_scores >= 0.5, high)


def test_nothing_flagged_is_no_false_alarm(run, audit_data, planted_images):
    """Rates of nothing flagged: 0 true and 0 false alarms, never the other way round."""

    _, evidence = run(0.0, module=Steady())

    class Audit:
        data = audit_data(planted_images(300))

    graded = grade(evidence, Audit())
    assert graded.measures["tpr"].value == graded.measures["fpr"].value == 0
    assert graded.measures["auroc"].value == 0.5 and "constant-scores" in graded.flags


def test_the_threshold_is_of_images_of_its_own(run, monkeypatch):
    seen = []
    threshold = neo.conformal_threshold

    def spy(reference, rate):
        seen.append((reference, rate))
        return threshold(reference, rate)

    monkeypatch.setattr(neo, "conformal_threshold", spy)
    _, evidence = run(400.0, false_rejection=0.1)
    ((reference, rate),) = seen
    assert rate == 0.1 and len(reference) == 20
    assert evidence.threshold == np.sort(reference)[18]


def test_dominant_colour_is_the_mean_of_the_fullest_cell():
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    image[:3] = (200, 10, 70)
    image[0, 0] = (198, 12, 100)
    image[3] = (0, 255, 0)
    assert dominant_colour(image).tolist() == [200, 10, 72]
    assert dominant_colour(np.full((2, 2, 2, 1), 7, dtype=np.uint8)).tolist() == [7]


def test_labels_are_all_it_sees(planted_target, planted_images, audit_data):
    target = planted_target(400.0, Access.LABELS)
    with pytest.raises(AccessError):
        target.scores(planted_images(2))
    assert get_method("backdoor.neo").access is Access.LABELS
    Neo(**QUICK)(target, audit_data(planted_images(300)), Context())


def test_volumes_are_blocked_by_cubes(planted_target, audit_data):
    rng = np.random.default_rng(0)
    source = rng.integers(0, 150, (200, 6, 6, 6, 1), dtype=np.uint8)
    labels = rng.integers(0, 10, 200)
    volumes = Images(source, labels, np.arange(200), "volumes")

    context = Context(trigger=TRIGGER)
    target = planted_target(0.0, Access.LABELS, Reads(slice(-2, None)))
    evidence = Neo(**QUICK)(target, audit_data(volumes), context)
    assert (evidence.triggered_scores == 1).all()
    assert evidence.details["patches"][0] == [[4, 6], [4, 6], [4, 6]]


def test_seed_changes_the_draw(run):
    first, again, other = (run(25.0, seed=seed)[1].triggered_scores for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_progress_only_rises(planted_target, planted_images, audit_data):
    shares = []
    context = Context(trigger=TRIGGER, progress=lambda share, what: shares.append(share))
    Neo(**QUICK)(planted_target(400.0, Access.LABELS), audit_data(planted_images(300)), context)
    assert shares == sorted(shares) and 0 <= shares[0] and 0.9 < shares[-1] <= 1


def test_too_few_images_are_refused(run):
    with pytest.raises(RefusedError, match="too few") as refusal:
        run(0.0, n=60)
    assert refusal.value.flags == ("few-images",)


def test_a_block_that_hides_the_image_is_refused(run):
    with pytest.raises(RefusedError, match="8x8 pixels") as refusal:
        run(0.0, sizes=(2, 8))
    assert refusal.value.flags == ("block-size",)


@pytest.mark.parametrize(
    "options",
    [{"sizes": (0,)}, {"stride": -1}, {"n_pasted": 3}, {"n_scored": 3}, {"false_rejection": 0.0}],
)
def test_options_are_checked(options):
    with pytest.raises(UsageError):
        get_method("backdoor.neo").configure(**options)
