"""Pictures of a model's evidence, trigger tiles by their pixels, and the files they become."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from securitynet.errors import IntegrityError
from securitynet.records import Measure
from securitynet.reports.exposed import exposed_tiles
from securitynet.reports.plots import pictures, write_plots
from securitynet.reports.tiles import enlarged
from securitynet.reports.triggers import trigger_tiles


def pixels(png):
    return np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int)


@pytest.fixture
def tiles_of(make):
    def build(masks, patterns, infected=1, classes=("cat", "dog")):
        arrays = {"m": np.asarray(masks, np.float32), "p": np.asarray(patterns, np.float32)}
        record = make.record(
            method="backdoor.neural_cleanse",
            measures={"infected_label": Measure(infected)},
            details={"classes": list(classes)},
            blobs={"masks": "m", "patterns": "p"},
        )
        return trigger_tiles(record, arrays.__getitem__)

    return build


def test_a_tile_is_the_mask_and_the_pattern_through_it(tiles_of):
    """8 x 8 pixels are shown ten times larger; red 0.5 under a mask of 0.8 is 0.4 = 102 / 255."""
    masks, patterns = np.zeros((2, 8, 8)), np.zeros((2, 8, 8, 3))
    masks[1, 6:, 5:] = 0.8
    patterns[1, :, :, 0] = 0.5
    cat, dog = tiles_of(masks, patterns)
    assert pixels(cat.png)[:, :8].max() == 0
    shown = pixels(dog.png)
    assert shown.shape == (8, 8 + 1 + 8, 3)
    assert (shown[6:, 5:8] == 204).all() and shown[:6, :8].max() == 0
    assert (shown[:, 8] == 128).all()
    assert (shown[6:, 14:] == [102, 0, 0]).all() and shown[:6, 9:].max() == 0
    assert (dog.factor, dog.width) == (10, 170)
    assert pixels(enlarged(dog)).shape == (80, 170, 3)
    assert (pixels(enlarged(dog))[::10, ::10] == shown).all()


def test_a_tile_says_what_it_is(tiles_of):
    masks = np.zeros((2, 8, 8))
    masks[1, :2, :3] = 0.5
    cat, dog = tiles_of(masks, np.ones((2, 8, 8, 1)))
    assert (cat.name, cat.note, cat.is_marked) == ("cat", "L1 0.0", False)
    assert (dog.name, dog.note, dog.is_marked) == ("dog", "L1 3.0, most suspicious", True)
    assert dog.alt == "Reversed trigger for class dog, the most suspicious class; mask L1 norm 3.0"


def test_large_images_shrink_by_averaging(tiles_of):
    masks = np.zeros((1, 160, 160))
    masks[0, ::2] = 1.0
    (tile,) = tiles_of(masks, np.ones((1, 160, 160, 3)), classes=["a"])
    shown = pixels(tile.png)
    assert shown.shape == (80, 164, 3)
    assert abs(shown[:, :80] - 127.5).max() <= 1


def test_of_many_classes_the_suspect_and_the_smallest_are_shown(tiles_of):
    masks = np.ones((50, 4, 4)) * np.arange(50, 0, -1)[:, None, None] / 50
    tiles = tiles_of(masks, np.ones((50, 4, 4, 3)), infected=2, classes=[])
    assert [tile.label for tile in tiles] == [2, *range(31, 50)]
    assert tiles[0].is_marked and tiles[0].name == "2"


def test_colours_beyond_the_range_are_cut(tiles_of):
    (tile,) = tiles_of(np.full((1, 4, 4), 9.0), np.full((1, 4, 4, 3), np.nan), classes=["a"])
    shown = pixels(tile.png)
    assert (shown[:, :4] == 255).all() and (shown[:, 5:] == 0).all()


@pytest.mark.parametrize(
    ("masks", "patterns"),
    [
        ((2, 8, 8), (2, 8, 8)),
        ((2, 8, 8), (3, 8, 8, 3)),
        ((8, 8), (8, 8, 3)),
        ((2, 8, 8), (2, 8, 8, 2)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tiles_of, masks, patterns):
    with pytest.raises(ValueError, match="do not fit"):
        tiles_of(np.zeros(masks), np.zeros(patterns))


def test_no_arrays_no_tiles(make):
    assert trigger_tiles(make.record(), {}.__getitem__) is None


def mine(demo, model="self/digits-badnets"):
    records, read_array = demo
    return [record for record in records if record.model == model], read_array


def test_the_pictures_of_a_model(demo):
    found = list(pictures(*mine(demo)))
    assert [picture.name for picture in found] == [
        "membership-roc",
        "membership-roc-log",
        "membership-scores",
        "membership-scores-2",
        "stealing",
        "stealing-2",
        "trigger-norms",
        "trigger",
        "detector-scores-2",
    ]
    assert all(picture.content for picture in found)


def test_the_histograms_chosen_are_strong_spread_out_and_different(make):
    rng = np.random.default_rng(0)
    weak = make.membership(rng, "a/b", "mia.entropy", 0.2)
    strong = make.membership(rng, "a/b", "mia.logit", 1.0)
    twin = replace(strong, method="mia.loss", key="twin")
    peaked = make.membership(rng, "a/b", "mia.confidence", 2.0)
    one_bin = {"edges": [0, 1, 2], "members": [0.1, 0.9], "nonmembers": [0.4, 0.6]}
    peaked = replace(peaked, details={**peaked.details, "histogram": one_bin})
    records = [weak, peaked, twin, strong]
    titles = [p.content.title for p in pictures(records, {}.__getitem__) if "scores" in p.name]
    assert titles == ["mia.loss", "mia.entropy"]


BROKEN = {
    "roc": [{"fpr": [0, 1], "tpr": [0]}, {"fpr": "abc", "tpr": "abc"}, [1, 2], {"tpr": [1]},
            {"fpr": [[0, 1]], "tpr": [[0, 1]]}, {"fpr": [1e400] * 9, "tpr": [0] * 9}],
    "histogram": [{"members": [1]}, {"edges": [0, 1], "members": [-1.0]}, {"edges": [0]}, 5,
                  {"edges": [0, 1], "a": [None]}, {"edges": ["x"], "a": ["y"]},
                  {"edges": [-1e308, 1e308], "a": [1]}],
    "curve": [[1, 2], [{"budget": "x"}], [{"agreement": {"value": 1}}], "abc", {"a": 1},
              [{"budget": 0, "agreement": {"value": 0.5}}] * 2, [{"budget": 5, "agreement": 7}]],
    "norms": ["abc", [[1]], {"a": 1}, [1, "x"], 7],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "evidence"), [(name, value) for name, values in BROKEN.items() for value in values]
)
def test_damaged_evidence_costs_its_picture_only(make, name, evidence):
    method = {"curve": "steal.knockoff", "norms": "backdoor.neural_cleanse"}.get(name, "mia.loss")
    record = make.record("a/b", method, details={name: evidence})
    rng = np.random.default_rng(0)
    whole = [make.triggers(rng, "a/b", arrays := {}, p=0.5)]
    found = list(pictures([record, *whole], arrays.__getitem__))
    missing = [picture for picture in found if picture.content is None]
    assert missing and all(
        p.caption.startswith("Not drawn, the evidence is damaged") for p in missing
    )
    assert {"trigger", "trigger-2"} & {p.name for p in found if p.content}


def test_arrays_that_are_not_in_the_store_are_named(demo):
    records, _ = mine(demo)

    def missing(sha256):
        raise IntegrityError("array is missing", where=sha256)

    (tiles,) = [picture for picture in pictures(records, missing) if picture.name == "trigger"]
    assert tiles.content is None
    assert tiles.caption.startswith("Not drawn, array is missing.")


def test_every_picture_becomes_files(demo, tmp_path):
    records, read_array = demo
    chosen = [r for r in records if r.model in ("self/digits-badnets", "timm/odd")]
    some = [r for r in chosen if not r.method.startswith("mia.") or r.method == "mia.loss"]
    write_plots(some, read_array, tmp_path)
    (folder,) = tmp_path.iterdir()  # a refused model has no pictures
    assert folder.name.startswith("self-digits-badnets-")
    stems = {path.stem for path in folder.glob("*.svg")}
    assert stems == {path.stem for path in folder.glob("*.png")} - {
        f"trigger-{k:03d}" for k in range(10)
    }
    assert {"membership-roc", "membership-roc-log", "stealing", "trigger-norms"} <= stems
    for path in folder.glob("*.svg"):
        ElementTree.parse(path)
    assert pixels((folder / "trigger-003.png").read_bytes()).shape == (64, 132, 3)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/abs/olute", "a\x00b", "..", "x" * 5000, "网络"]
)
def test_files_stay_in_their_folder(make, tmp_path, name):
    norms = {"norms": [1.0, 2.0, 3.0]}
    record = make.record(name, "backdoor.neural_cleanse", dataset=name, details=norms)
    write_plots([record], {}.__getitem__, tmp_path / "in" / "side")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    (folder,) = (tmp_path / "in" / "side").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [
        "trigger-norms.png",
        "trigger-norms.svg",
    ]


def test_models_of_like_names_have_folders_of_their_own(make, tmp_path):
    norms = {"norms": [1.0, 2.0, 3.0]}
    records = [
        make.record(name, "backdoor.neural_cleanse", dataset=data, details=norms)
        for name, data in (("a/b", "x"), ("a-b", "x"), ("a/b", "y"))
    ]
    write_plots(records, {}.__getitem__, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_of_a_volume_the_slice_with_the_heaviest_mask_is_shown(tiles_of):
    masks, patterns = np.zeros((2, 5, 8, 8)), np.full((2, 5, 8, 8, 1), 0.5)
    masks[1, 3, 6:, 5:], masks[1, 2, 0, 0] = 0.8, 1.0
    cat, dog = tiles_of(masks, patterns)
    assert "slice 1 of 5" in cat.note
    assert dog.note == "L1 5.8, slice 4 of 5, most suspicious"
    assert dog.alt.endswith("mask L1 norm 5.8, slice 4 of 5")
    assert (pixels(dog.png)[6:, 5:8] == 204).all() and pixels(dog.png)[:6, :8].max() == 0


# the most exposed training images


def exposed_record(make, facts, images):
    return make.record(
        method="mia.loss",
        details={"exposed": facts},
        blobs={"exposed": "e" * 64},
        measures={"auc": Measure(0.8, 0.7, 0.9, 10), "tpr_at_fpr_1pct": Measure(0.2, 0.1, 0.3, 5)},
    ), (lambda sha256: images)


def test_exposed_images_name_their_class_and_the_non_members_above(make):
    images = np.zeros((2, 4, 4, 1), np.uint8)
    images[1] = 255
    facts = [
        {"position": 3, "class": "cat", "n_above": 0},
        {"position": 1, "class": "dog", "n_above": 1},
    ]
    record, read = exposed_record(make, facts, images)
    first, second = exposed_tiles(record, read)
    assert (first.name, first.note, first.is_marked) == ("cat", "0 non-members above", True)
    assert (second.name, second.note, second.is_marked) == ("dog", "1 non-member above", False)
    assert second.alt == "Training image of class dog; 1 non-member above"
    (picture,) = [p for p in pictures([record], read) if p.name == "membership-exposed"]
    assert len(picture.content) == 2 and "mia.loss" in picture.caption


def test_exposed_images_that_do_not_fit_are_said_to_be_missing(make):
    facts = [{"position": 3, "class": "cat", "n_above": 0}]
    record, read = exposed_record(make, facts, np.zeros((2, 4, 4, 1), np.uint8))
    with pytest.raises(ValueError, match="do not fit"):
        exposed_tiles(record, read)
    (picture,) = [p for p in pictures([record], read) if p.name == "membership-exposed"]
    assert picture.content is None and picture.caption.startswith("Not drawn")


def test_a_record_without_exposed_images_has_no_such_picture(make):
    record = make.record(method="mia.loss")
    assert not [p for p in pictures([record], dict) if p.name == "membership-exposed"]
