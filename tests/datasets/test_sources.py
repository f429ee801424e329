"""Layouts of data sets and the numbering of labels."""

from __future__ import annotations

import shutil

import pytest

from securitynet.datasets.labels import check_classes, number_labels
from securitynet.datasets.sources import find_splits, open_source, source_fingerprint
from securitynet.errors import IntegrityError, UsageError


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert error.value.hint
    return text


def test_folder_order_and_labels(tmp_path, write_folder):
    root = write_folder(tmp_path / "set")
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    (root / "train" / "cat" / ".hidden.png").write_text("no image")
    (root / "train" / ".ipynb_checkpoints").mkdir()
    (root / "train" / "dog" / "0001.png").rename(root / "train" / "dog" / "0001.PNG")
    source = open_source(find_splits(root))
    assert source.train == ["cat"] * 3 + ["dog"] * 3
    assert source.test == ["cat"] * 2 + ["dog"] * 2
    encoded = [one for part in source.chunks() for one in part]
    assert [path.parent.parent.name for path in encoded] == ["train"] * 6 + ["test"] * 4
    assert source.place(4).endswith("dog/0001.PNG")


def test_shards_are_read_in_order(tmp_path, write_table):
    for i in range(2):
        write_table(tmp_path / "data" / f"train-{i:05}-of-00002.parquet", [bytes([i])], [i])
    write_table(tmp_path / "data" / "test-00000-of-00001-0123456789abcdef.parquet", [b"t"], [1])
    source = open_source(find_splits(tmp_path))
    assert [one for part in source.chunks() for one in part] == [b"\0", b"\1", b"t"]
    assert (source.train, source.test) == ([0, 1], [1])
    assert source.place(1).endswith("train-00001-of-00002.parquet row 0")


def test_a_missing_shard_is_told(tmp_path, write_table):
    write_table(tmp_path / "train-00000-of-00002.parquet", [b"a"], [0])
    write_table(tmp_path / "test.parquet", [b"a"], [0])
    with pytest.raises(IntegrityError, match="1 of 2") as error:
        find_splits(tmp_path)
    one_line(error)


@pytest.mark.parametrize(("image", "label"), [("img", "label"), ("image", "fine_label")])
@pytest.mark.parametrize("is_plain", [False, True])
def test_column_names(tmp_path, write_table, image, label, is_plain):
    for split in ("train", "test"):
        write_table(
            tmp_path / f"{split}.parquet", [b"a", b"b"], [0, 1], names=["x", "y"],
            image=image, label=label, is_plain=is_plain,
        )  # fmt: skip
    source = open_source(find_splits(tmp_path))
    assert source.classes == ("x", "y")
    assert [one for part in source.chunks() for one in part] == [b"a", b"b"] * 2


@pytest.mark.parametrize(
    ("image", "label", "labels", "message"),
    [
        ("picture", "label", [0], "no column image or img"),
        ("image", "target", [0], "no column label"),
        ("image", "label", [0.5], "holds double"),
        ("image", "label", [None, 1], "1 rows have no label"),
    ],
)
def test_wrong_columns(tmp_path, write_table, image, label, labels, message):
    for split in ("train", "test"):
        path = tmp_path / f"{split}.parquet"
        write_table(path, [b"a"] * len(labels), labels, image=image, label=label)
    with pytest.raises(UsageError, match=message) as error:
        open_source(find_splits(tmp_path))
    assert "train.parquet" in one_line(error)


def test_no_parquet_inside(tmp_path, write_table):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 cut off")
    write_table(tmp_path / "test.parquet", [b"a"], [0])
    with pytest.raises(IntegrityError, match="not a readable parquet") as error:
        open_source(find_splits(tmp_path))
    assert "train.parquet" in one_line(error)


def test_empty_folder_and_missing_splits(tmp_path, write_folder, write_table):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images found") as error:
        find_splits(tmp_path / "empty")
    assert "train.parquet" in one_line(error)
    root = write_folder(tmp_path / "folder")
    shutil.rmtree(root / "test")
    with pytest.raises(UsageError, match="test split is missing"):
        find_splits(root)
    write_table(tmp_path / "table" / "test.parquet", [b"a"], [0])
    with pytest.raises(UsageError, match="train split is missing"):
        find_splits(tmp_path / "table")


def test_validation_stands_in_for_test_with_a_note(tmp_path, write_folder):
    root = write_folder(tmp_path / "set")
    (root / "test").rename(root / "val")
    assert find_splits(root).notes == ("test-split:val",)


def test_several_sets_below_one_folder(tmp_path, write_table):
    for name in ("full", "small"):
        for split in ("train", "test"):
            write_table(tmp_path / name / f"{split}.parquet", [b"a"], [0])
    with pytest.raises(UsageError, match="several data sets: full, small"):
        find_splits(tmp_path)
    assert find_splits(tmp_path / "small").kind == "parquet"


def test_fingerprint_follows_content_not_place(tmp_path, write_folder):
    first = write_folder(tmp_path / "one")
    shutil.copytree(first, tmp_path / "two")
    second = tmp_path / "two"
    before = source_fingerprint(find_splits(first))
    assert source_fingerprint(find_splits(second)) == before
    image = second / "test" / "cat" / "0000.png"
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    assert source_fingerprint(find_splits(second)) != before


def test_fingerprint_of_large_sources_follows_mtime(tmp_path, write_folder, monkeypatch):
    monkeypatch.setattr("securitynet.datasets.sources.HASHED_BYTES", 10)
    root = write_folder(tmp_path / "set")
    before = source_fingerprint(find_splits(root))
    assert source_fingerprint(find_splits(root)) == before
    (root / "test" / "cat" / "0000.png").touch()
    assert source_fingerprint(find_splits(root)) != before


@pytest.mark.parametrize(
    ("train", "names", "expected", "labels", "classes"),
    [
        ([0, 1, 1], (), (), [0, 1, 1], ("0", "1")),
        ([0, 1, 0], ("a", "b", "c"), (), [0, 1, 0], ("a", "b", "c")),
        ([0, 1, 0], ("b", "a"), ("a", "b"), [1, 0, 1], ("a", "b")),
        ([0, 1, 0], ("zero", "one"), ("a", "b"), [0, 1, 0], ("a", "b")),
        ([0, 1, 0], (), ("a", "b"), [0, 1, 0], ("a", "b")),
        (["dog", "cat", "dog"], (), (), [1, 0, 1], ("cat", "dog")),
        (["dog", "cat", "dog"], (), ("dog", "cat"), [0, 1, 0], ("dog", "cat")),
        (["10", "2", "1"], (), (), [2, 1, 0], ("1", "2", "10")),
    ],
)
def test_numbering(train, names, expected, labels, classes):
    found, found_classes = number_labels(train, train, names, expected, "here")
    assert found.tolist() == labels * 2
    assert found_classes == classes


@pytest.mark.parametrize(
    ("train", "names", "expected", "message"),
    [
        ([0, -1], ("a", "b"), (), r"1 labels out of range 0\.\.1, e\.g\. -1"),
        ([0, 2], ("a", "b"), (), "out of range"),
        ([0, 2], (), (), "out of range: 2 classes numbered 0..2"),
        ([1, 2], (), (), "numbered 1..2"),
        ([0, 10**12], (), (), "out of range"),
        ([0, 2], (), ("a", "b"), "out of range"),
        ([0, 1], ("a", "b", "c"), ("a", "b"), "3 classes where the named data set has 2"),
        (["a", "b", "c"], (), ("x", "y"), "3 classes where"),
        ([0, "a"], (), (), "numbers and strings"),
    ],
)
def test_numbering_refuses(train, names, expected, message):
    with pytest.raises(UsageError, match=message) as error:
        number_labels(train, train[:1] * 2, names, expected, "here")
    assert one_line(error).startswith("here: ")


def test_a_class_in_one_split_only():
    labels, classes = number_labels(["a", "b", "c"], ["a", "c"], (), (), "here")
    with pytest.raises(UsageError, match="class 'b' has images in train only") as error:
        check_classes(labels, 3, classes, "here")
    one_line(error)
    check_classes(labels[[0, 2, 3, 4]], 2, classes, "here")
