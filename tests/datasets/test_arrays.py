"""Data sets as arrays (MedMNIST), as lists of files (CUB) and in the hub's layout (CIFAR, SVHN)."""

import zipfile

import numpy as np
import pytest

from securitynet.datasets.class_names import CIFAR100_CLASSES
from securitynet.datasets.library import load_dataset
from securitynet.errors import IntegrityError, UsageError


@pytest.fixture
def write_arrays(tmp_path, noise):
    """Return a function that writes an npz file as MedMNIST publishes it."""

    def write_arrays(
        name="tinymnist", *, n_train=12, n_test=6, shape=(28, 28), folder=True, **other
    ):
        place = tmp_path / "data" / name if folder else tmp_path
        place.mkdir(parents=True, exist_ok=True)
        arrays = {}
        for split, n in (("train", n_train), ("val", 3), ("test", n_test)):
            arrays[f"{split}_images"] = noise(n, *shape)
            arrays[f"{split}_labels"] = (np.arange(n, dtype=np.uint8) % 3).reshape(-1, 1)
        arrays |= other
        kept = {name: array for name, array in arrays.items() if array is not None}
        np.savez_compressed(place / f"{name}.npz", **kept)
        return place / f"{name}.npz", arrays

    return write_arrays


SHAPES = [(28, 28), (28, 28, 3), (28, 28, 1), (224, 224), (224, 224, 3), (28, 28, 28), (4, 6, 8)]


@pytest.mark.parametrize("shape", SHAPES)
def test_arrays_are_the_images(shape, write_arrays):
    _, arrays = write_arrays(shape=shape)
    dataset = load_dataset("tinymnist")
    for split in ("train", "test"):
        images = getattr(dataset, split)
        expected = arrays[f"{split}_images"]
        if shape[-1] not in (1, 3):  # no channels: a grey picture, or a volume
            expected = expected[..., None]
        assert images.shape == expected.shape[1:]
        np.testing.assert_array_equal(images.source[images.indices], expected)
        labels = arrays[f"{split}_labels"].reshape(-1)
        np.testing.assert_array_equal(images.source_labels[images.indices], labels)
    assert dataset.num_classes == 3 and dataset.name == "tinymnist"


def test_the_28_and_the_224_pixel_files_are_told_apart(write_arrays):
    path, _ = write_arrays()
    other, _ = write_arrays("tinymnist_224", shape=(224, 224))
    other.rename(path.with_name("tinymnist_224.npz"))
    with pytest.raises(UsageError, match=r"several data sets: tinymnist\.npz, tinymnist_"):
        load_dataset("tinymnist")
    assert load_dataset(str(path)).train.source.shape[1:3] == (28, 28)
    assert load_dataset(str(path.with_name("tinymnist_224.npz"))).train.source.shape[1] == 224


def test_arrays_are_copied_once(write_arrays, monkeypatch):
    from securitynet.datasets import arrays as module

    path, _ = write_arrays()
    first = load_dataset("tinymnist")
    assert isinstance(first.train.source, np.memmap)
    monkeypatch.setattr(module, "_copy", None)
    assert load_dataset(str(path)).fingerprint == first.fingerprint


def test_processes_copy_arrays_one_after_the_other(write_arrays, monkeypatch, own_cache):
    """The second waits for the first's copy and opens it, as with other data sets."""
    import threading

    from securitynet.datasets import arrays as module

    path, _ = write_arrays()
    copied, is_waiting, real = [], threading.Event(), module._copy

    def slowly(file, folder):
        copied.append(folder)
        is_waiting.wait(0.3)
        real(file, folder)

    monkeypatch.setattr(module, "_copy", slowly)
    found = []
    both = [threading.Thread(target=lambda: found.append(load_dataset(str(path)))) for _ in "ab"]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(copied) == 1 and found[0].fingerprint == found[1].fingerprint


def test_a_damaged_copy_is_made_again(write_arrays, own_cache):
    write_arrays()
    first = load_dataset("tinymnist")
    (folder,) = [path for path in (own_cache / "datasets").iterdir() if path.is_dir()]
    (folder / "labels.npy").write_bytes(b"")
    assert load_dataset("tinymnist").fingerprint == first.fingerprint


def few(n):
    return {
        "train_images": np.zeros((n, 2, 2), np.uint8),
        "train_labels": (np.arange(n) % 11).astype(np.uint8).reshape(-1, 1),
        "test_images": np.zeros((11, 2, 2), np.uint8),
        "test_labels": np.arange(11, dtype=np.uint8).reshape(-1, 1),
    }


@pytest.mark.parametrize(("n", "version", "other"), [(13_000, "v2", "v3"), (12_975, "v3", "v2")])
def test_versions_of_medmnist_are_told_apart(n, version, other, write_arrays, tmp_path):
    path, _ = write_arrays(f"organcmnist-{version}", **few(n))
    assert load_dataset(f"organcmnist-{version}").num_classes == 11
    wrong = tmp_path / "data" / f"organcmnist-{other}"
    wrong.mkdir()
    path.rename(wrong / "organcmnist.npz")
    with pytest.raises(UsageError, match=f"is MedMNIST {version} .{n:,} training images., not"):
        load_dataset(f"organcmnist-{other}")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_images": None}, "has no array train_images"),
        ({"test_labels": None}, "has no array test_labels"),
        ({"train_labels": np.zeros((12, 14), np.uint8)}, "14 labels an image"),
        ({"train_labels": np.zeros(12, np.float32)}, "not whole numbers"),
        ({"train_images": np.zeros((12, 28, 28), np.float32)}, "holds float32"),
        ({"train_images": np.zeros((12, 28, 28, 28), np.uint8)}, "differ"),
        ({"train_images": np.zeros((12, 2, 28, 28, 3), np.uint8)}, "no pictures or volumes"),
        ({"train_images": np.zeros((11, 28, 28), np.uint8)}, "differ"),
        ({"test_images": np.zeros((6, 27, 28), np.uint8)}, "differ"),
        ({"train_labels": np.full(12, 2, np.uint8)}, "labels are not 0 to 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, words, write_arrays, own_cache):
    write_arrays(**changes)
    with pytest.raises(UsageError, match=words):
        load_dataset("tinymnist")
    left = [path.suffix for path in (own_cache / "datasets").glob("*")]
    assert set(left) <= {".lock"}


def test_a_pickle_in_an_array_is_not_opened(write_arrays):
    write_arrays(train_labels=np.array([{"a": 1}] * 12, dtype=object))
    with pytest.raises(IntegrityError, match="not a readable npz file"):
        load_dataset("tinymnist")


def test_a_damaged_file_is_said_to_be_so(write_arrays):
    path, _ = write_arrays()
    data = bytearray(path.read_bytes())
    data[200:220] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="not a readable npz file"):
        load_dataset("tinymnist")
    path.write_bytes(data[:100])
    with pytest.raises(IntegrityError, match="not a readable npz file"):
        load_dataset("tinymnist")


def test_an_array_that_ends_early_is_refused(write_arrays):
    path, _ = write_arrays()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["test_images.npy"] = members["test_images.npy"][:-1]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(IntegrityError, match="ends too early"):
        load_dataset("tinymnist")


# the layouts of the hub


def test_cifar100_takes_the_fine_labels(tmp_path, write_table, encode, noise):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for split in ("train", "test"):
        images = [encode(pixels) for pixels in noise(100, 32, 32, 3)]
        path = tmp_path / "data" / "cifar100" / f"{split}.parquet"
        labels = list(reversed(range(100)))
        write_table(
            path, images, labels, image="img", label="fine_label", names=list(CIFAR100_CLASSES)
        )
        coarse = pa.array([0] * 100)
        pq.write_table(pq.read_table(path).append_column("coarse_label", coarse), path)
    dataset = load_dataset("cifar100", num_classes=100)
    assert dataset.classes == CIFAR100_CLASSES and dataset.is_mirrored
    assert list(dataset.train.labels) == list(reversed(range(100)))


def test_svhn_is_not_mirrored(tmp_path, write_table, encode, noise):
    for split in ("train", "test"):
        images = [encode(pixels) for pixels in noise(10, 32, 32, 3)]
        write_table(tmp_path / "data" / "svhn" / f"{split}.parquet", images, list(range(10)))
    dataset = load_dataset("svhn")
    assert dataset.num_classes == 10 and not dataset.is_mirrored
    assert "other-size:10+10" in dataset.notes


# lists of files: CUB-200-2011


@pytest.fixture
def birds(tmp_path, encode, noise):
    """Two classes of birds with the lists of CUB-200-2011; every third picture is for testing."""
    place = tmp_path / "data" / "cub200" / "CUB_200_2011"
    names, splits = [], []
    for c, bird in enumerate(("001.Albatross", "002.Auklet")):
        (place / "images" / bird).mkdir(parents=True)
        for i, pixels in enumerate(noise(6 + c, 9, 8, 3)):
            names.append(f"{bird}/{i:04}.png")
            (place / "images" / names[-1]).write_bytes(encode(pixels))
            splits.append(int(i % 3 != 0))
    numbered = list(enumerate(zip(names, splits, strict=True), 1))
    (place / "images.txt").write_text("".join(f"{n} {name}\n" for n, (name, _) in numbered))
    (place / "train_test_split.txt").write_text("".join(f"{n} {s}\n" for n, (_, s) in numbered))
    labels = [f"{n} {int(name[:3])}\n" for n, (name, _) in numbered]
    (place / "image_class_labels.txt").write_text("".join(labels))
    (place / "classes.txt").write_text("1 001.Albatross\n2 002.Auklet\n")
    return place


@pytest.mark.parametrize("how", ["name", "published name", "path"])
def test_birds_are_split_by_their_list(how, birds):
    if how == "published name":  # as it is unpacked
        birds = birds.rename(birds.parent.parent / "CUB_200_2011")
    dataset = load_dataset(str(birds) if how == "path" else "cub200")
    assert dataset.is_mirrored and "resized-256" in dataset.notes
    assert dataset.train.shape == (256, 256, 3)
    assert (len(dataset.train), len(dataset.test)) == (8, 5)
    assert dataset.classes == ("001.Albatross", "002.Auklet")
    assert list(dataset.test.labels) == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("images.txt", "1 ../../etc/passwd\n", "differ"),
        ("images.txt", "1\n", "not a list of numbers and names"),
        ("train_test_split.txt", "", "differ"),
    ],
)
def test_wrong_lists_are_refused(file, text, words, birds):
    (birds / file).write_text(text)
    with pytest.raises(IntegrityError, match=words):
        load_dataset("cub200")


@pytest.mark.parametrize("name", ["../../x.png", "a/../b.png", "/etc/x.png", "x.png"])
def test_a_list_does_not_lead_out_of_its_folder(name, birds):
    (birds / "images.txt").write_text(f"1 {name}\n")
    (birds / "train_test_split.txt").write_text("1 1\n")
    with pytest.raises(IntegrityError, match="is not CLASS/FILE"):
        load_dataset("cub200")
