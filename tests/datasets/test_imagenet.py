"""ImageNet and Imagenette: the split is read from the file names; images become one size."""

import numpy as np
import pytest
from PIL import Image

from securitynet.datasets import imagenet
from securitynet.datasets.imagenet import IMAGENETTE, IMAGENETTE_CLASSES, imagenet_splits
from securitynet.datasets.images import make_audit
from securitynet.datasets.library import dataset_rows, load_dataset
from securitynet.errors import ResourceError, UsageError


def save(path, value, size=(40, 30), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(path, "JPEG")


@pytest.fixture
def published(tmp_path):
    """Return a function that writes the published layout: red 200 of training images, 50 else."""

    def published(folder=tmp_path / "data" / "imagenette2", n_members=3):
        for i, synset in enumerate(IMAGENETTE):
            for k in range(n_members):
                split = ("train", "val")[k % 2]
                save(folder / split / synset / f"{synset}_{k}.JPEG", 200, (40 + i, 30))
            save(folder / "train" / synset / f"ILSVRC2012_val_{i:08}.JPEG", 50)
            save(folder / "val" / synset / f"ILSVRC2012_val_{i + 100:08}.JPEG", 50, mode="L")
        return folder

    return published


def test_the_split_is_read_from_the_names_and_not_from_the_folders(published):
    published()
    found = load_dataset("imagenette", num_classes=10)
    assert (len(found.train), len(found.test)) == (30, 20)
    assert found.train.shape == (256, 256, 3) and found.is_mirrored
    assert np.allclose(found.train.pixels()[..., 0], 200, atol=4)
    assert np.allclose(found.test.pixels()[..., 0], 50, atol=4)
    for split, each in ((found.train, 3), (found.test, 2)):
        assert (np.bincount(split.labels, minlength=10) == each).all()
    assert set(found.notes) == {"resized-256", "other-size:30+20"}
    assert found.classes == IMAGENETTE_CLASSES
    audit = make_audit(found)
    assert audit.part == found.part
    red = audit.data.audit.pixels()[..., 0].mean((1, 2))
    assert ((red > 100) == audit.is_member).all()


def test_the_labels_among_a_thousand_are_in_the_order_of_the_synsets():
    labels = [label for label, _ in IMAGENETTE.values()]
    assert labels == sorted(labels) == [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    assert list(IMAGENETTE) == sorted(IMAGENETTE)


def test_the_shorter_side_is_resized_and_the_centre_cut(published):
    folder = published()
    pixels = np.zeros((300, 900, 3), np.uint8)
    pixels[:, 300:600, 0] = 255  # the middle third
    Image.fromarray(pixels).save(folder / "train" / "n01440764" / "n01440764_0.JPEG", "JPEG")
    assert load_dataset("imagenette").train.pixels(0, 1)[..., 0].mean() > 250


def test_it_is_found_by_every_published_name(published, tmp_path):
    with pytest.raises(ResourceError, match=r"not on this machine.*unpack"):
        load_dataset("imagenette")
    assert not {row["name"]: row["is_available"] for row in dataset_rows()}["imagenette"]
    small = published(tmp_path / "data" / "imagenette2-160", n_members=1)
    assert {row["name"]: row["is_available"] for row in dataset_rows()}["imagenette"]
    by_name, by_path = load_dataset("imagenette"), load_dataset(str(small))
    assert by_name.fingerprint == by_path.fingerprint
    assert by_path.part is not None
    published(tmp_path / "data" / "imagenette" / "imagenette2-320", n_members=2)
    assert len(load_dataset("imagenette2-160").train) == 10
    assert len(load_dataset("imagenette").train) == 10  # a folder of a published name comes first
    inner = tmp_path / "data" / "imagenette"
    assert len(load_dataset(str(inner)).train) == 20


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("val/n01440764/tench.JPEG", "the name says neither n01440764_.*keep them"),
        ("val/n01440764/n02102040_1.JPEG", "the name says neither"),
        ("val/n02086240/n02086240_1.JPEG", "'n02086240' is a class of another data set"),
        ("val/n01440764/n01440764_0.JPEG", "the same image is in train and in val"),
        ("val/tench/n01440764_1.JPEG", "'tench' is no synset"),
    ],
)
def test_what_says_nothing_of_membership_is_refused(published, name, message):
    save(published() / name, 9)
    with pytest.raises(UsageError, match=message) as caught:
        load_dataset("imagenette")
    assert "\n" not in str(caught.value)


def test_other_layouts_are_refused(tmp_path, write_folder):
    write_folder(tmp_path / "data" / "imagenette2")
    with pytest.raises(UsageError, match=r"no train and val folder.*published layout"):
        load_dataset("imagenette")
    for k in range(2):
        split = tmp_path / "imagenette2" / ("train", "val")[k]
        save(split / "n01440764" / f"n01440764_{k}.JPEG", 9)
    with pytest.raises(UsageError, match="no validation images of ImageNet"):
        load_dataset(str(tmp_path / "imagenette2"))
    with pytest.raises(UsageError, match="no such data folder"):
        load_dataset(str(tmp_path / "elsewhere" / "imagenette2"))


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """Write a folder of a thousand classes with two training images and one validation image."""
    monkeypatch.setattr(imagenet, "SIDE", 8)
    known = {label: synset for synset, (label, _) in IMAGENETTE.items()}
    labels, numbers = list(known), [int(synset[1:]) for synset in known.values()]
    between = np.interp(np.arange(1000), [*labels, 999], [*numbers, 9_999_999]).astype(int)
    synsets = [known.get(label, f"n{number:08}") for label, number in enumerate(between)]
    root = tmp_path / "data" / "imagenet1k"
    save(tmp_path / "one.JPEG", 90, (12, 9))
    content = (tmp_path / "one.JPEG").read_bytes()
    for synset in synsets:
        for name in (f"train/{synset}/{synset}_1", f"train/{synset}/{synset}_2",
                     f"val/{synset}/ILSVRC2012_val_00000001"):  # fmt: skip
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / f"{name}.JPEG").write_bytes(content)
    return root


def test_a_fixed_draw_of_imagenet_is_used(whole, monkeypatch):
    found = load_dataset("imagenet1k", num_classes=1000)
    assert (len(found.train), len(found.test)) == (2000, 1000)
    assert (found.train.labels == np.repeat(np.arange(1000), 2)).all()
    assert set(found.notes) == {"resized-8", "other-size:2000+1000"} and found.part is None
    assert found.classes[217] == "n02102040"
    monkeypatch.setattr(imagenet, "PER_CLASS", 1)
    fewer = imagenet_splits(whole)
    assert fewer == imagenet_splits(whole)
    assert (len(fewer.train), len(fewer.test)) == (1000, 1000)
    assert len({path.name[-6] for path in fewer.train}) == 2  # by chance, the first or the second
    assert fewer.notes == ("subset:1000",)


def test_another_imagenet_is_refused(whole):
    odd = whole / "val" / "n01440764" / "n01440764_9.JPEG"
    odd.write_bytes(b"")
    with pytest.raises(UsageError, match=r"the name is not ILSVRC2012_val_\*"):
        load_dataset("imagenet1k")
    odd.unlink()
    (whole / "val" / "n01440764").rename(whole / "val" / "n00000001")
    with pytest.raises(UsageError, match="the classes are not those of ILSVRC 2012"):
        load_dataset("imagenet1k")
    (whole / "val" / "n00000001").rename(whole / "val" / "tench")
    with pytest.raises(UsageError, match="999 class folders, not 1000"):
        load_dataset("imagenet1k")


def test_imagenet_is_never_downloaded():
    with pytest.raises(ResourceError, match=r"not on this machine.*ask for access.*imagenette"):
        load_dataset("imagenet1k")
