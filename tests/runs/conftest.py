"""What the tests of the runner share."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def dark_and_bright(tmp_path_factory):
    """Return a function that makes a folder of two classes, dark and bright, in noise."""

    def make(side, n):
        folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
        for split in ("train", "test"):
            for label in range(2):
                place = folder / split / str(label)
                place.mkdir(parents=True)
                for i in range(n):
                    pixels = rng.integers(0, 180, (side, side)) + 70 * label
                    Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.png")
        return folder

    return make
