"""Generated images, parquet splits and image folders."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Keep every test but the public ones in a cache of its own, with no data and no network."""
    if request.node.get_closest_marker("public"):
        return tmp_path
    monkeypatch.setenv("SECURITYNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SECURITYNET_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SECURITYNET_HUB", "http://127.0.0.1:9")
    return tmp_path / "cache"


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """Return a function from pixels to encoded bytes."""

    def encode(pixels: np.ndarray, form: str = "PNG") -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, form)
        return file.getvalue()

    return encode


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Return a function that draws n random images of a shape."""

    def noise(n: int, *shape: int) -> np.ndarray:
        return np.random.default_rng(n).integers(0, 256, (n, *shape), np.uint8)

    return noise


@pytest.fixture
def write_table() -> Callable[..., None]:
    """Return a function that writes a parquet split as the hub does."""

    def write_table(
        path: Path, images: list, labels: list, *, names: list | None = None,
        image: str = "image", label: str = "label", is_plain: bool = False,
    ) -> None:  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        cells = images if is_plain else [{"bytes": one, "path": None} for one in images]
        kind = (
            pa.binary() if is_plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        )
        table = pa.table({image: pa.array(cells, kind), label: labels})
        if names:
            info = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(table, path)

    return write_table


@pytest.fixture
def write_folder(encode, noise) -> Callable[..., Path]:
    """Return a function that writes an image folder of noise."""

    def write_folder(
        root: Path, *, n_train: int = 3, n_test: int = 2, classes: tuple = ("cat", "dog"),
        shape: tuple = (6, 5, 3),
    ) -> Path:  # fmt: skip
        for split, n in (("train", n_train), ("test", n_test)):
            for c, name in enumerate(classes):
                (root / split / name).mkdir(parents=True)
                for i, pixels in enumerate(noise(n + 10 * c, *shape)[:n]):
                    (root / split / name / f"{i:04}.png").write_bytes(encode(pixels))
        return root

    return write_folder
