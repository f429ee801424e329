"""The ladder keeps ever smaller masks, and only one that works on many images is believed."""

import numpy as np
import pytest
import torch

from securitynet.backdoor import _candidates
from securitynet.backdoor._candidates import MAX_RUNGS, Checker, Ladder
from securitynet.backdoor._optimise import Search, find_triggers


def trigger(norm, side=8):
    """Return mask and pattern whose mask has this norm."""
    return torch.cat([torch.full((1, side, side), norm / side**2), torch.ones(1, side, side)])


def norm_of(candidate):
    return float(candidate[0].sum())


def filled(*norms):
    ladder = Ladder(2, trigger(1.0).numel())
    for norm in norms:
        ladder.add(1, norm, trigger(norm))
    return ladder


def test_the_smallest_that_works_is_returned():
    ladder = filled(60.0, 40.0, 20.0, 10.0)
    found, works = ladder.smallest_working(1, lambda candidate: norm_of(candidate) > 15)
    assert works and norm_of(found) == pytest.approx(20)


def test_where_none_works_the_largest_is_a_lower_bound():
    found, works = filled(60.0, 40.0, 20.0).smallest_working(1, lambda _: False)
    assert not works and norm_of(found) == pytest.approx(60)


def test_a_class_without_candidates_has_none():
    assert filled(5.0).smallest_working(0, lambda _: True) == (None, False)


def test_hardly_smaller_ones_replace_the_last_rung():
    asked = []
    ladder = filled(60.0, 59.5, 59.0, 58.5, 20.0, 19.9)
    ladder.smallest_working(1, lambda candidate: asked.append(norm_of(candidate)))
    assert asked == pytest.approx([19.9, 58.5], rel=1e-4)


def test_the_ladder_holds_the_last_rungs_and_copies_what_it_gets():
    ladder = Ladder(1, trigger(1.0).numel())
    reused = trigger(64.0)
    for i in range(30):
        reused[0] = 64 * 0.9**i / 64
        ladder.add(0, norm_of(reused), reused)
    asked = []
    ladder.smallest_working(0, lambda candidate: asked.append(norm_of(candidate)))
    expected = [64 * 0.9**i for i in range(29, 29 - MAX_RUNGS, -1)]
    assert asked == pytest.approx(expected, rel=1e-4)


def test_large_images_leave_room_for_fewer_rungs(monkeypatch):
    monkeypatch.setattr(_candidates, "MAX_NUMBERS", 3 * 2 * 128)
    ladder = Ladder(2, trigger(1.0).numel())
    for i in range(10):
        ladder.add(0, 60 * 0.5**i, trigger(60 * 0.5**i))
    asked = []
    ladder.smallest_working(0, lambda candidate: asked.append(candidate))
    assert len(asked) == 3


class Brightness(torch.nn.Module):
    """Says class 1 for images brighter than a half."""

    def forward(self, inputs):
        mean = inputs.mean((1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


@pytest.mark.parametrize(("n_dark", "works"), [(0, True), (5, True), (6, False), (100, False)])
def test_the_checker_allows_as_many_misses_as_the_threshold(n_dark, works):
    images = torch.full((100, 1, 8, 8), 0.9)
    images[:n_dark] = 0.1
    checker = Checker(Brightness(), images, 1, 0.95)
    assert checker(trigger(0.0)) is works
    assert checker.n_queries == (64 if n_dark > 5 else 100)


def test_the_checker_pastes_mask_and_pattern():
    checker = Checker(Brightness(), torch.zeros(10, 1, 8, 8), 1, 1.0)
    assert checker(trigger(33.0)) and not checker(trigger(31.0))  # half of 64 pixels, all white


def test_lucky_masks_are_not_believed(planted_target, planted_images):
    """What passes with 4 images a step must keep its success on 200 others than those drawn."""
    module = planted_target(100.0, 4).module()
    clean = planted_images(600)
    pixels = torch.from_numpy(clean.pixels()).permute(0, 3, 1, 2).float() / 255
    search = Search(80, 4, 1e-3, 0.99, n_checked=200, check_threshold=0.97)
    found = find_triggers(
        module, pixels[:300], clean.labels[:300], 10, search, 0, lambda share: None
    )
    assert found.is_reached.any()
    for k in np.flatnonzero(found.is_reached):
        mask, pattern = found.masks[k], found.patterns[k]
        others = pixels[:300][torch.from_numpy(np.flatnonzero(clean.labels[:300] != k)[:200])]
        stamped = (1 - mask) * others + mask * pattern
        assert (module(stamped).argmax(1) == int(k)).float().mean() >= 0.97
        assert found.norms[k] == pytest.approx(float(mask.sum()), rel=1e-4)
