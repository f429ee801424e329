"""What is known of a named data set. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from securitynet.datasets.images import Part
from securitynet.files.hub import HUB

DIGITS_URL = "https://archive.ics.uci.edu/dataset/80"


@dataclass(frozen=True)
class Archive:
    """A published ``.npz`` file.

    Attributes:
        url: Its address.
        md5: Its published checksum.
    """

    url: str
    md5: str

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rpartition("/")[2].partition("?")[0]


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a named data set.

    Attributes:
        name: Its name here.
        title: Its full name.
        classes: Class names, in order of their labels.
        channels: 1 or 3.
        height: Rows.
        width: Columns.
        n_train: Images in the train split.
        n_test: Images in the test split.
        licence: SPDX id or the licence in words; ``None`` = not stated.
        source: Hugging Face repository, the package that carries it, or where one reads about it.
        files: Parquet file of each split in the repository.
        is_lossless: Whether the published images are lossless.
        is_gated: Whether its owner asks for consent before a download.
        is_mirrored: Whether an image keeps its class when left and right are swapped.
        by_hand: What to do to have it, for a data set that is never downloaded.
        part: What it is a part of.
        depth: Slices of its volumes; ``None`` = pictures.
        archive: The file that holds its arrays.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    n_train: int
    n_test: int
    licence: str | None
    source: str
    files: dict[str, str] | None = None
    is_lossless: bool = True
    is_gated: bool = False
    is_mirrored: bool = False
    by_hand: str = ""
    part: Part | None = None
    depth: int | None = None
    archive: Archive | None = None

    @property
    def is_packaged(self) -> bool:
        """Whether an installed package carries it."""
        return self.files is None and self.archive is None and not self.by_hand

    @property
    def url(self) -> str:
        """Where a person reads about it."""
        if self.by_hand or self.archive:
            return self.source
        return DIGITS_URL if self.is_packaged else f"{HUB}/datasets/{self.source}"

    @property
    def how_to_get(self) -> str:
        """What to do to have it on this machine."""
        if self.by_hand:
            return self.by_hand
        if self.is_packaged:
            return f"comes with {self.source}"
        if self.archive is not None:
            return (
                f"put {self.archive.file} of {self.source} into FOLDER/{self.name} and set "
                "SECURITYNET_DATA=FOLDER"
            )
        return (
            f"put train.parquet and test.parquet of the Hugging Face data set {self.source} "
            f"into FOLDER/{self.name} and set SECURITYNET_DATA=FOLDER"
        )
