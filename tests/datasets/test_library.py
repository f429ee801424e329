"""Data sets by name: where they are found, fetched, and what is said when they are not."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler

import numpy as np
import pytest

from securitynet.catalogue.datasets import known_datasets
from securitynet.datasets.library import DATASETS, dataset_rows, load_dataset
from securitynet.errors import ResourceError, UsageError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def small_set(write_table, encode, noise):
    """Return a function that writes a ten-class set of 8x8 images."""

    def small_set(folder, *, form="PNG", names=DATASETS["cifar10"].classes, stem="{}.parquet"):
        files = [encode(one, form) for one in noise(20, 8, 8, 3)]
        for split in ("train", "test"):
            path = folder / stem.format(split)
            write_table(path, files, [*range(10)] * 2, names=list(names))

    return small_set


def test_digits_are_split_by_class_and_fixed():
    digits = load_dataset("digits")
    assert (len(digits.train), len(digits.test)) == (597, 1200)
    assert digits.train.shape == (8, 8, 1)
    assert digits.num_classes == 10 and not digits.is_mirrored
    for split, size in ((digits.train, 597), (digits.test, 1200)):
        counts = np.bincount(split.labels, minlength=10)
        assert counts.min() > 0.9 * size / 10
    assert digits.fingerprint == load_dataset("digits").fingerprint


def test_digits_are_the_originals_scaled():
    from sklearn.datasets import load_digits

    digits = load_dataset("digits")
    pixels = np.concatenate([digits.train.pixels(), digits.test.pixels()])[..., 0]
    expected = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    assert pixels.max() == 255
    found = sorted(map(bytes, pixels.reshape(len(pixels), -1)))
    assert found == sorted(map(bytes, expected.reshape(len(expected), -1)))


def test_digits_of_both_splits_come_from_all_writers():
    """The file goes from writer to writer; a split by order can be told by the hand alone."""
    from sklearn.datasets import load_digits

    images = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    place = {image.tobytes(): i for i, image in enumerate(images)}
    train = load_dataset("digits").train
    places = np.array([place[image.tobytes()] for image in train.pixels()]) / len(images)
    counts = np.bincount((places * 6).astype(int), minlength=6)  # 300 scans each, of few writers
    assert (np.abs(counts - len(train) / 6) < 4 * (300 * (1 / 3) * (2 / 3)) ** 0.5).all()


def test_digits_are_kept_so_that_scikit_learn_is_imported_once(own_cache):
    first = load_dataset("digits")
    (kept,) = (own_cache / "datasets").glob("digits-*.npz")
    probe = (
        "import sys; from securitynet.datasets.library import load_dataset; "
        "print(load_dataset('digits').fingerprint, 'sklearn' in sys.modules)"
    )

    def again():
        done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
        return done.stdout.split()

    assert again() == [first.fingerprint, "False"]
    kept.write_bytes(kept.read_bytes()[:500])
    assert again() == [first.fingerprint, "True"]
    assert again() == [first.fingerprint, "False"]


@pytest.mark.parametrize("stem", ["{}.parquet", "{}-00000-of-00001.parquet"])
def test_names_are_found_in_data_folders(own_cache, monkeypatch, tmp_path, small_set, stem):
    monkeypatch.setenv("SECURITYNET_DATA", f"{tmp_path / 'nothing'}:{tmp_path / 'here'}")
    small_set(tmp_path / "here" / "cifar10", stem=stem)
    (tmp_path / "nothing" / "cifar10").mkdir(parents=True)
    found = load_dataset("cifar10")
    assert found.name == "cifar10"
    assert found.classes == DATASETS["cifar10"].classes
    assert "other-size:20+20" in found.notes
    assert found.is_mirrored
    assert (own_cache / "datasets").is_dir()
    is_available = {row["name"]: row["is_available"] for row in dataset_rows()}
    assert {name for name, is_here in is_available.items() if is_here} == {"cifar10", "digits"}


def test_lossless_set_as_jpeg_is_noted(tmp_path, small_set):
    small_set(tmp_path / "data" / "cifar10", form="JPEG")
    assert "jpeg-compressed" in load_dataset("cifar10").notes


def test_official_class_order_wins(tmp_path, small_set):
    names = DATASETS["cifar10"].classes[::-1]
    small_set(tmp_path / "data" / "cifar10", names=names)
    found = load_dataset("cifar10")
    assert found.classes == DATASETS["cifar10"].classes
    assert found.train.labels.tolist() == [*range(9, -1, -1)] * 2


def test_another_set_under_a_known_name(tmp_path, write_table, encode, noise):
    files = [encode(one) for one in noise(3, 8, 8, 3)]
    for split in ("train", "test"):
        path = tmp_path / "data" / "cifar10" / f"{split}.parquet"
        write_table(path, files, [0, 1, 2], names=["a", "b", "c"])
    with pytest.raises(UsageError, match="3 classes where the named data set has 10"):
        load_dataset("cifar10")


def test_folders_by_path_and_by_name(tmp_path, monkeypatch, write_folder):
    write_folder(tmp_path / "data" / "pets")
    by_name = load_dataset("pets", num_classes=2)
    by_path = load_dataset(str(tmp_path / "data" / "pets"))
    assert by_name.name == "pets" and not by_name.is_mirrored  # nobody said so
    assert by_path.train.source_fingerprint == by_name.train.source_fingerprint
    monkeypatch.chdir(tmp_path / "data" / "pets" / "..")
    monkeypatch.delenv("SECURITYNET_DATA")
    assert load_dataset("pets").fingerprint == by_name.fingerprint
    assert load_dataset("./pets").classes == ("cat", "dog")
    with pytest.raises(UsageError, match="2 classes, not 10"):
        load_dataset("./pets", num_classes=10)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "../x", "", ".."])
def test_no_such_folder(name, tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    with pytest.raises(UsageError) as error:
        load_dataset(name)
    assert "\n" not in str(error.value)
    assert error.value.hint


def test_unknown_names_get_a_suggestion():
    with pytest.raises(UsageError) as error:
        load_dataset("cifar01")
    assert "did you mean cifar10" in str(error.value)
    assert "securitynet list datasets" in str(error.value)


def test_absent_and_no_network(own_cache):
    with pytest.raises(ResourceError) as error:
        load_dataset("mnist")
    text = str(error.value)
    assert "mnist is not on this machine" in text
    assert "ylecun/mnist" in text
    assert "SECURITYNET_DATA" in text
    assert "\n" not in text


def test_download_from_a_hub(own_cache, tmp_path, monkeypatch, small_set, loopback):
    hub = tmp_path / "hub"
    folder = hub / "uoft-cs/cifar10/resolve/main/plain_text"
    small_set(folder, stem="{}-00000-of-00001.parquet")
    monkeypatch.setenv("SECURITYNET_HUB", f"{loopback(partial(Quiet, directory=str(hub))).url}/")
    test_file = folder / "test-00000-of-00001.parquet"
    test_file.rename(folder / "away")
    with pytest.raises(ResourceError, match="404"):
        load_dataset("cifar10")
    (folder / "away").rename(test_file)
    (folder / "train-00000-of-00001.parquet").unlink()  # it is here already
    found = load_dataset("cifar10")
    assert (len(found.train), len(found.test)) == (20, 20)
    kept = (own_cache / "data" / "cifar10").glob("[!.]*")  # a hidden lock file may stay
    assert sorted(path.name for path in kept) == ["test.parquet", "train.parquet"]
    monkeypatch.setenv("SECURITYNET_HUB", "http://127.0.0.1:9")
    assert load_dataset("cifar10").fingerprint == found.fingerprint


def test_rows_are_json():
    rows = json.loads(json.dumps(dataset_rows()))
    names = [row["name"] for row in rows]
    assert names[:5] == ["cifar10", "cifar100", "cub200", "digits", "imagenet1k"]
    assert {"svhn", "pathmnist", "organmnist3d", "organmnist3d-v2"} < set(names)
    assert len(names) == len(set(names)) == 29
    for row in rows:
        assert row["num_classes"] == len(row["classes"]) == len(set(row["classes"]))
        assert row["url"].startswith("https://")
        assert row["how_to_get"]
        assert row["is_gated"] is (row["name"] == "imagenet1k")
        assert row["n_train"] > 0
    counts = {row["name"]: row["num_classes"] for row in rows}
    assert (counts["cifar100"], counts["imagenet1k"], counts["cub200"]) == (100, 1000, 200)


PARTS = {"imagenet1k": ("n_train", "n_test")}
"""What our copy has on purpose otherwise: 50 training images a class, the validation images."""


def test_the_table_of_the_catalogue_agrees():
    facts = known_datasets()
    for info in DATASETS.values():
        if info.name == "imagenette":
            continue  # no model was trained on it
        other = facts[info.name]
        found = {
            "n_classes": len(info.classes),
            "n_train": info.n_train,
            "n_test": info.n_test,
            "licence": info.licence or "unknown",
            "gated": info.is_gated,
            "dims": "2d" if info.depth is None else "3d",
        }
        expected = {name: other[name] for name in found}
        for name in PARTS.get(info.name, ()):
            del found[name], expected[name]
        assert found == expected, info.name
    is_open = {name for name, other in facts.items() if other["gated"] is False}
    assert is_open <= set(DATASETS) | {"chestmnist"}


def test_listing_needs_no_heavy_imports():
    code = (
        "import sys; from securitynet.datasets.library import dataset_rows; dataset_rows();"
        "print([m for m in ('torch', 'sklearn', 'pyarrow', 'pandas') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
