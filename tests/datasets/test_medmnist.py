"""MedMNIST by name: found, or fetched from its published address and checked against its md5."""

import hashlib
import io
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler
from urllib.parse import urlsplit

import numpy as np
import pytest

from securitynet.catalogue.tables import rows
from securitynet.datasets import library
from securitynet.datasets.library import DATASETS, LARGER, dataset_rows, load_dataset
from securitynet.errors import IntegrityError, ResourceError, UsageError
from securitynet.files import download as download_module

SETS = [info for info in (*DATASETS.values(), *LARGER.values()) if info.archive]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def arrays_of(info, n=2):
    """Return a file as MedMNIST publishes it, with ``n`` images a class and split."""
    sides = (6, 6) if info.depth is None else (6, 6, 6)
    shape = (*sides, 3) if info.channels == 3 else sides
    labels = np.tile(np.arange(len(info.classes), dtype=np.uint8), n)[:, None]
    rng, arrays = np.random.default_rng(0), {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (len(labels), *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = labels
    body = io.BytesIO()
    np.savez_compressed(body, **arrays)
    return body.getvalue()


@pytest.fixture
def publish(tmp_path, loopback, monkeypatch):
    """Return a function that serves a set's file on loopback, with its own md5 or a wrong one."""
    monkeypatch.setattr(download_module.time, "sleep", lambda seconds: None)
    server = loopback(partial(Quiet, directory=str(tmp_path / "web")))

    def publish(name, md5=None):
        known = DATASETS if name in DATASETS else LARGER
        info = known[name]
        body = arrays_of(info)
        place = tmp_path / "web" / urlsplit(info.archive.url).path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(body)
        url = info.archive.url.replace("https://zenodo.org", server.url)
        archive = replace(
            info.archive, url=url, md5=md5 or hashlib.md5(body, usedforsecurity=False).hexdigest()
        )
        monkeypatch.setitem(known, name, replace(info, archive=archive))
        return body

    return publish


@pytest.mark.parametrize(
    "name", ["pathmnist", "organamnist-v2", "organmnist3d", "breastmnist_224", "vesselmnist3d_64"]
)
def test_a_set_is_fetched_by_name_and_kept(name, publish, own_cache, monkeypatch):
    info = DATASETS.get(name) or LARGER[name]
    publish(name)
    found = load_dataset(name)
    assert found.name == name and found.classes == info.classes
    assert len(found.train.shape) == (4 if info.depth else 3)
    assert found.train.shape[-1] == info.channels
    assert found.notes == (f"other-size:{len(found.train)}+{len(found.test)}",)
    kept = [path.name for path in (own_cache / "data" / name).glob("[!.]*")]
    assert kept == [info.archive.file]
    monkeypatch.setattr(library, "_download_archive", None)
    assert load_dataset(name).fingerprint == found.fingerprint
    if name in DATASETS:
        assert {row["name"]: row["is_available"] for row in dataset_rows()}[name]


def test_other_bytes_are_refused(publish, own_cache):
    publish("pathmnist", md5="0" * 32)
    with pytest.raises(
        IntegrityError, match=r"md5 is not 0000.*put pathmnist.npz of https://zenodo"
    ):
        load_dataset("pathmnist")
    assert not list((own_cache / "data" / "pathmnist").glob("[!.]*"))


def test_without_network_it_says_what_to_do(publish, tmp_path):
    publish("organmnist3d-v2")
    for file in (tmp_path / "web").rglob("*.npz"):
        file.unlink()
    with pytest.raises(ResourceError) as caught:
        load_dataset("organmnist3d-v2")
    text = str(caught.value)
    assert "organmnist3d-v2 is not on this machine" in text and "6496656" in text
    assert "into FOLDER/organmnist3d-v2" in text and "\n" not in text


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("pathmnist", "pathmnist.npz"),  # the package's own folder
        ("pathmnist_64", "pathmnist_64.npz"),
        ("pathmnist", "pathmnist/pathmnist.npz"),
        ("organamnist-v2", "organamnist-v2/organamnist.npz"),
        ("organamnist-v2", "organamnist-v2.npz"),
        ("nodulemnist3d", "nodulemnist3d/volumes.npz"),
    ],
)
def test_a_set_at_hand_is_found(name, place, tmp_path, monkeypatch):
    info = DATASETS.get(name) or LARGER[name]
    file = tmp_path / "data" / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(arrays_of(info))
    other = file.with_name("pathmnist_128.npz")
    if file.name != "volumes.npz":
        other.write_bytes(b"another size")
    monkeypatch.setattr(library, "_download_archive", None)
    assert load_dataset(name).classes == info.classes


def test_the_newer_version_is_not_taken_for_the_older(tmp_path, monkeypatch):
    counts = {971: "v3", 972: "v2"}
    for n, version in counts.items():
        folder = tmp_path / "data" / "organmnist3d-v2"
        folder.mkdir(parents=True, exist_ok=True)
        labels = (np.arange(n) % 11).astype(np.uint8)[:, None]
        np.savez(
            folder / "organmnist3d.npz", train_images=np.zeros((n, 2, 2, 2), np.uint8),
            train_labels=labels, test_images=np.zeros((11, 2, 2, 2), np.uint8),
            test_labels=labels[:11],
        )  # fmt: skip
        if version == "v2":
            assert len(load_dataset("organmnist3d-v2").train) == 972
        else:
            with pytest.raises(UsageError, match=r"is MedMNIST v3 .971 training images., not v2"):
                load_dataset("organmnist3d-v2")


def test_every_published_file_has_an_address_and_a_checksum_of_its_own():
    assert len(SETS) == 17 + 4 + 11 * 3 + 6
    assert len({info.archive.md5 for info in SETS}) == len(SETS)
    for info in SETS:
        assert len(info.archive.md5) == 32 and int(info.archive.md5, 16) > 0
        assert urlsplit(info.archive.url).hostname == "zenodo.org"
        assert info.archive.file.startswith(info.name.removesuffix("-v2"))
        assert info.archive.file.endswith(".npz")


def test_every_models_own_data_set_is_the_right_one():
    for row in rows():
        if row["provider"] != "medmnist" or row["dataset"] == "chestmnist":
            continue
        info = DATASETS[row["dataset"]]
        assert len(info.classes) == row["num_classes"]
        assert info.depth == row["input"]["depth"]
        if info.depth is not None:
            assert (info.height, info.width) == (row["input"]["height"], row["input"]["width"])
