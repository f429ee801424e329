"""Decoding once, to disk; notes, refusals and the cache."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from securitynet.datasets import decoded as cache_module
from securitynet.datasets.decoded import load_decoded
from securitynet.errors import IntegrityError, ResourceError, UsageError


def silent(share: float, text: str) -> None:
    pass


def load(root: Path, cache: Path, **options):
    return load_decoded(root, "set", cache, options.pop("progress", silent), **options)


def load_in_process(root: str, cache: str, queue) -> None:
    queue.put(load(Path(root), Path(cache)).fingerprint)


def test_table_is_decoded_bit_exact(tmp_path, write_table, encode, noise):
    pixels = noise(7, 5, 4, 3)
    files = [encode(one) for one in pixels]
    write_table(tmp_path / "s" / "train.parquet", files[:4], [0, 1, 0, 1], names=["x", "y"])
    write_table(tmp_path / "s" / "test.parquet", files[4:], [1, 0, 1], names=["x", "y"])
    found = load(tmp_path / "s", tmp_path / "c")
    assert (found.train.pixels() == pixels[:4]).all()
    assert (found.test.pixels() == pixels[4:]).all()
    assert found.train.labels.tolist() + found.test.labels.tolist() == [0, 1, 0, 1, 1, 0, 1]
    assert found.train.source is found.test.source
    assert isinstance(found.train.source, np.memmap)
    assert found.classes == ("x", "y")
    assert found.notes == ()


def test_second_load_decodes_nothing(tmp_path, write_folder):
    root = write_folder(tmp_path / "s")
    told: list[float] = []
    first = load(root, tmp_path / "c", progress=lambda share, text: told.append(share))
    assert told[0] == 0.0
    assert told[-1] == 1.0
    told.clear()
    second = load(root, tmp_path / "c", progress=lambda share, text: told.append(share))
    assert told == []
    assert second.fingerprint == first.fingerprint


def test_changed_files_are_decoded_again(tmp_path, write_folder, encode, noise):
    root = write_folder(tmp_path / "s")
    first = load(root, tmp_path / "c")
    (root / "test" / "cat" / "0000.png").write_bytes(encode(noise(1, 6, 5, 3)[0]))
    assert load(root, tmp_path / "c").fingerprint != first.fingerprint


def test_fingerprint_counts_pixels_labels_and_split(tmp_path, write_table, encode, noise):
    files = [encode(one) for one in noise(6, 4, 4, 3)]
    recoded = [encode(one, "BMP") for one in noise(6, 4, 4, 3)]
    labels = [0, 1, 0, 1, 0, 1]
    sets = {
        "first": (files, labels, 4),
        "recoded": (recoded, labels, 4),
        "relabelled": (files, labels[::-1], 4),
        "resplit": (files, labels, 2),
    }
    prints = {}
    for name, (images, numbers, cut) in sets.items():
        write_table(tmp_path / name / "train.parquet", images[:cut], numbers[:cut])
        write_table(tmp_path / name / "test.parquet", images[cut:], numbers[cut:])
        prints[name] = load(tmp_path / name, tmp_path / "c").train.source_fingerprint
    assert prints["first"] == prints["recoded"]
    assert len(set(prints.values())) == 3


def test_order_of_expected_classes_has_its_own_cache(tmp_path, write_folder):
    root = write_folder(tmp_path / "s")
    plain = load(root, tmp_path / "c")
    other = load(root, tmp_path / "c", expected=("dog", "cat"))
    assert plain.classes == ("cat", "dog")
    assert other.classes == ("dog", "cat")
    assert (other.train.labels == 1 - plain.train.labels).all()


def test_gray_only_if_all_are_gray(tmp_path, write_folder, encode, noise):
    root = write_folder(tmp_path / "s", shape=(6, 5))
    gray = load(root, tmp_path / "c")
    assert gray.train.shape == (6, 5, 1)
    last = root / "test" / "dog" / "0001.png"
    last.write_bytes(encode(noise(1, 6, 5, 3)[0]))
    colour = load(root, tmp_path / "c")
    assert colour.train.shape == (6, 5, 3)
    assert (colour.train.pixels() == gray.train.pixels()).all()
    assert colour.notes == ()


def test_differing_sizes_take_the_median(tmp_path, write_folder, encode, noise):
    root = write_folder(tmp_path / "s", shape=(10, 12, 3))
    (root / "train" / "cat" / "0001.png").write_bytes(encode(noise(1, 40, 20, 3)[0]))
    found = load(root, tmp_path / "c")
    assert found.train.shape == (10, 12, 3)
    assert found.notes == ("resized-images",)


@pytest.mark.parametrize(
    ("shape", "other", "expected"),
    [
        ((300, 600), (10, 10), (128, 256)),
        ((300, 300), (300, 300), (300, 300)),
        ((600, 520), (600, 520), (256, 222)),
    ],
)
def test_large_images_are_capped(tmp_path, write_folder, encode, noise, shape, other, expected):
    root = write_folder(tmp_path / "s", n_train=2, n_test=1, shape=shape)
    (root / "train" / "cat" / "0001.png").write_bytes(encode(noise(1, *other)[0]))
    assert load(root, tmp_path / "c").train.shape[:2] == expected


def test_threads_keep_the_order(tmp_path, write_folder):
    """Images of 64x64 and up are decoded by several threads."""
    root = write_folder(tmp_path / "s", n_train=40, n_test=2, shape=(64, 64))
    found = load(root, tmp_path / "c").train.pixels()
    from PIL import Image

    files = sorted((root / "train").rglob("*.png"))
    for i in range(0, 80, 7):
        assert (found[i, :, :, 0] == np.asarray(Image.open(files[i]))).all()


def test_one_percent_unreadable_is_skipped_with_a_note(tmp_path, write_table, encode, noise):
    files = [encode(one) for one in noise(200, 4, 4, 3)]
    files[3], files[150] = b"", files[150][:40]
    labels = [i % 2 for i in range(200)]
    write_table(tmp_path / "s" / "train.parquet", files[:120], labels[:120])
    write_table(tmp_path / "s" / "test.parquet", files[120:], labels[120:])
    found = load(tmp_path / "s", tmp_path / "c")
    assert "skipped-images:2" in found.notes
    assert (len(found.train), len(found.test)) == (119, 79)
    kept = [i for i in range(200) if i not in (3, 150)]
    assert (found.train.source == noise(200, 4, 4, 3)[kept]).all()
    assert found.train.source_labels.tolist() == [labels[i] for i in kept]


def test_more_unreadable_images_are_refused(tmp_path, write_table, encode, noise):
    files = [encode(one) for one in noise(100, 4, 4, 3)]
    files[7], files[60] = b"text", None
    write_table(tmp_path / "s" / "train.parquet", files[:50], [0, 1] * 25)
    write_table(tmp_path / "s" / "test.parquet", files[50:], [0, 1] * 25)
    with pytest.raises(IntegrityError) as error:
        load(tmp_path / "s", tmp_path / "c")
    text = str(error.value)
    assert "train.parquet row 7" in text
    assert "2 of 100" in text
    assert "1 not an image of a known format" in text
    assert "\n" not in text
    assert not [path for path in (tmp_path / "c").iterdir() if path.is_dir()]


def test_all_unreadable_names_the_first_file(tmp_path, write_folder):
    root = write_folder(tmp_path / "s")
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(IntegrityError, match="10 of 10") as error:
        load(root, tmp_path / "c")
    assert "train/cat/0000.png" in str(error.value)


def test_lossy_copies_are_noted(tmp_path, write_table, encode, noise):
    files = [encode(one, "JPEG") for one in noise(4, 8, 8, 3)]
    for split in ("train", "test"):
        write_table(tmp_path / "s" / f"{split}.parquet", files, [0, 1, 0, 1])
    assert load(tmp_path / "s", tmp_path / "c").notes == ("jpeg-compressed",)


def test_a_class_in_one_split_is_refused_before_decoding(tmp_path, write_folder):
    root = write_folder(tmp_path / "s")
    (root / "test" / "dog").rename(tmp_path / "away")
    told: list[str] = []
    with pytest.raises(UsageError, match="'dog' has images in train only"):
        load(root, tmp_path / "c", progress=lambda share, text: told.append(text))
    assert told == []


@pytest.mark.parametrize("damage", ["pixels", "labels", "meta", "no meta"])
def test_a_damaged_cache_is_decoded_again(tmp_path, write_folder, damage):
    root = write_folder(tmp_path / "s")
    before = load(root, tmp_path / "c").train.pixels()
    folder = next(path for path in (tmp_path / "c").iterdir() if path.is_dir())
    if damage == "pixels":
        os.truncate(folder / "pixels.raw", 17)
    elif damage == "labels":
        os.truncate(folder / "labels.npy", 130)
    elif damage == "meta":
        (folder / "meta.json").write_text('{"shape": 3}')
    else:
        (folder / "meta.json").unlink()
    assert (load(root, tmp_path / "c").train.pixels() == before).all()
    assert json.loads((folder / "meta.json").read_text())["n_train"] == 6


def test_leftovers_of_a_killed_process_are_cleared(tmp_path, write_folder):
    root, cache = write_folder(tmp_path / "s"), tmp_path / "c"
    load(root, cache)
    folder = next(path for path in cache.iterdir() if path.is_dir())
    (folder / "meta.json").unlink()
    left = cache / f".decoding-{folder.name}-killed"
    left.mkdir()
    (left / "pixels.raw").write_bytes(b"half")
    load(root, cache)
    assert [path for path in cache.iterdir() if path.is_dir()] == [folder]


def test_losing_the_race_takes_the_winners_result(tmp_path, write_folder, monkeypatch):
    root, cache = write_folder(tmp_path / "s"), tmp_path / "c"
    original = cache_module._decode

    def slow(*arguments):
        original(*arguments)  # the other process
        original(*arguments)

    monkeypatch.setattr(cache_module, "_decode", slow)
    assert len(load(root, cache).train) == 6
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_two_processes_at_once(tmp_path, write_folder):
    root = write_folder(tmp_path / "s", n_train=30)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    arguments = (str(root), str(tmp_path / "c"), queue)
    jobs = [context.Process(target=load_in_process, args=arguments) for _ in range(3)]
    for job in jobs:
        job.start()
    prints = {queue.get(timeout=30) for _ in jobs}
    for job in jobs:
        job.join(10)
        assert job.exitcode == 0
    assert prints == {load(root, tmp_path / "c").fingerprint}


def test_no_space_is_a_resource_error(tmp_path, write_folder, monkeypatch):
    root, cache = write_folder(tmp_path / "s"), tmp_path / "c"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module, "decode_images", full)
    with pytest.raises(ResourceError, match="No space left") as error:
        load(root, cache)
    assert "SECURITYNET_CACHE" in str(error.value)
    assert not [path for path in cache.iterdir() if path.is_dir()]
