"""Lists of images by number: every bad line is named, and a foreign order is noticed."""

import numpy as np
import pytest

from securitynet.datasets.images import Dataset, Images
from securitynet.datasets.members import near_duplicates, read_list
from securitynet.errors import ResourceError, UsageError

N_TRAIN, N_TEST = 60, 40


@pytest.fixture
def dataset():
    labels = np.arange(100) % 10
    source = np.zeros((100, 2, 2, 3), np.uint8)
    parts = np.split(np.arange(100), [N_TRAIN])
    train, test = (Images(source, labels, part, "s") for part in parts)
    return Dataset("cifar10", train, test, tuple("0123456789"))


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "list.txt").write_text(text)
        return tmp_path / "list.txt"

    return write


def test_numbers_and_splits(dataset, write, tmp_path):
    found = read_list(write("train:0\ntest:0  # the first test image\n\n61\n"), dataset)
    assert found.tolist() == [0, 60, 61]
    np.save(tmp_path / "list.npy", np.array([5, 99]))
    assert read_list(tmp_path / "list.npy", dataset).tolist() == [5, 99]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:60", r"list.txt:1: 'train:60' is no image of cifar10 \(60 train, 40 test\)"),
        ("3\n100", "list.txt:2: '100' is no image"),
        ("-1", "'-1' is no image"),
        ("valid:1", "'valid:1' is no image"),
        ("a cat.png", "is no image"),
        ("60\ntest:0", "list.txt:2: lists the image of line 1 again"),
        ("# nothing\n\n", "lists no image"),
    ],
)
def test_bad_lines_are_named(dataset, write, text, message):
    with pytest.raises(UsageError, match=message):
        read_list(write(text), dataset)


def test_no_such_file_and_objects_in_an_array(dataset, tmp_path):
    with pytest.raises(ResourceError, match="No such file"):
        read_list(tmp_path / "none", dataset)
    np.save(tmp_path / "list.npy", np.array([{}], dtype=object))
    with pytest.raises(UsageError, match="no list of images"):
        read_list(tmp_path / "list.npy", dataset)


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    monkeypatch.setenv("SECURITYNET_DATA", str(tmp_path))
    (tmp_path / "cifair").mkdir()

    def pairs(rows, within=()):
        head = "TestID,TrainID,Distance,Judgment"
        for name, some in (("cifar10", rows), ("cifar10_test", within)):
            lines = [head, *(f"{i},{j},0.1,1" for i, j in some)]
            (tmp_path / "cifair" / f"duplicates_{name}.csv").write_text("\n".join(lines) + "\n")

    return pairs


def test_near_duplicates_by_number(dataset, pairs):
    pairs([(0, 10), (3, 13), (9, 59)], within=[(5, 15)])
    assert near_duplicates(dataset).tolist() == [60, 63, 65, 69]


def test_a_copy_in_another_order_is_noticed_by_its_labels(dataset, pairs):
    pairs([(0, 11), (3, 14), (9, 59)], within=[(5, 15)])
    assert near_duplicates(dataset) is None
    pairs([(0, 10), (40, 10)], within=[(5, 15)])
    assert near_duplicates(dataset) is None  # of a larger data set


def test_no_list_and_a_bad_list(dataset, pairs, tmp_path):
    assert near_duplicates(dataset) is None
    pairs([("x", 1)])
    with pytest.raises(UsageError, match="no list of near-duplicates"):
        near_duplicates(dataset)
