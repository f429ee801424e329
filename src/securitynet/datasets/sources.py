"""Where encoded images lie: parquet splits and image folders, read in order without decoding."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from securitynet.datasets.pictures import SUFFIXES, Encoded
from securitynet.errors import IntegrityError, ResourceError, UsageError

# The split that models are trained on, and the names of the one that they are not: first wins.
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "validation", "val", "valid")
LAYOUT = "put train.parquet and test.parquet, or train/CLASS/* and test/CLASS/*, into the folder"
LISTS = ("images.txt", "train_test_split.txt")
HASHED_BYTES = 64 * 2**20
CHUNK = 1024

Label = int | str
_SHARD = re.compile(r"([a-z]+)(?:-(\d{5})-of-(\d{5}))?(?:-[0-9a-f]{8,})?\.parquet")


@dataclass(frozen=True)
class Splits:
    """The files of a data set, found but not yet opened.

    Attributes:
        root: The folder.
        kind: ``"parquet"`` or ``"folder"``.
        train: Parquet shards or image files of the training split, in reading order.
        test: The same of the other split.
        notes: What to know of the layout.
        side: Height and width that all images are brought to, ``None`` = chosen by looking.
    """

    root: Path
    kind: str
    train: tuple[Path, ...]
    test: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    side: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, train first."""
        return self.train + self.test


@dataclass(frozen=True)
class Source:
    """Opened splits: labels in memory, encoded images to be read in order.

    Attributes:
        train: Labels of the training split as stored: integers or strings.
        test: Labels of the test split.
        classes: Class names if the source has them.
        chunks: Reads all encoded images, train first, some at a time.
        place: Says where image i is, for messages.
    """

    train: Sequence[Label]
    test: Sequence[Label]
    classes: tuple[str, ...]
    chunks: Callable[[], Iterator[Sequence[Encoded]]]
    place: Callable[[int], str]


def find_splits(root: Path) -> Splits:
    """Find the two splits of a data set below a folder.

    Raises:
        UsageError: If the folder is empty or a split is missing.
        IntegrityError: If a shard of a split is missing.
        ResourceError: If the folder cannot be listed.
    """
    try:
        found = _parquet_splits(root) or _listed_splits(root) or _folder_splits(root)
    except OSError as error:
        raise ResourceError(
            f"cannot be listed: {error.strerror}", where=root, hint="give read permission"
        ) from error
    if found is None:
        raise UsageError("no images found", where=root, hint=LAYOUT)
    for name, files in (("train", found.train), ("test", found.test)):
        if not files:
            raise UsageError(f"the {name} split is missing or empty", where=root, hint=LAYOUT)
    return found


def open_source(splits: Splits) -> Source:
    """Read the labels of both splits and prepare to read the images.

    Raises:
        UsageError: If the tables do not have an image and a label column.
        IntegrityError: If a file is not readable parquet.
    """
    if splits.kind == "parquet":
        from securitynet.datasets.tables import open_tables

        return open_tables(splits)
    return _open_folder(splits)


def source_fingerprint(splits: Splits) -> str:
    """Identify the files: by content where that is cheap, else by size and time of change.

    Up to 64 MiB in all, names and contents count; above, full paths, sizes and mtimes.
    """
    digest = hashlib.sha256(splits.kind.encode())
    states = [(file, file.stat()) for file in splits.files]
    is_cheap = sum(state.st_size for _, state in states) <= HASHED_BYTES
    for file, state in states:
        if is_cheap:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            line = f"{file.relative_to(splits.root)}\0{content}\n"
        else:
            line = f"{file.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    digest.update(str(len(splits.train)).encode())
    return digest.hexdigest()


def _parquet_splits(root: Path) -> Splits | None:
    """Look in the folder, then one level below (``data/``, ``plain_text/`` of the hub)."""
    places = [root, *sorted(path for path in root.iterdir() if _is_shown_folder(path))]
    found = [(place, _shards(place)) for place in places]
    found = [(place, shards) for place, shards in found if shards]
    if not found:
        return None
    if len(found) > 1 and found[0][0] != root:
        names = ", ".join(place.name for place, _ in found)
        raise UsageError(f"several data sets: {names}", where=root, hint="name one of them")
    shards = found[0][1]
    train, _ = _first_of(shards, TRAIN_NAMES)
    test, name = _first_of(shards, TEST_NAMES)
    return Splits(root, "parquet", train, test, _split_notes(name))


def _shards(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Group the parquet files of a folder by split."""
    splits: dict[str, list[Path]] = {}
    expected: dict[str, int] = {}
    for path in sorted(folder.glob("*.parquet")):
        match = _SHARD.fullmatch(path.name)
        if match and match[1] in TRAIN_NAMES + TEST_NAMES:
            splits.setdefault(match[1], []).append(path)
            expected[match[1]] = int(match[3] or 1)
    for name, n_shards in expected.items():
        if len(splits[name]) != n_shards:
            raise IntegrityError(
                f"{len(splits[name])} of {n_shards} parquet files of the {name} split",
                where=folder,
                hint="keep all shards of one version, and only those",
            )
    return {name: tuple(paths) for name, paths in splits.items()}


def _first_of(
    splits: dict[str, tuple[Path, ...]], names: Sequence[str]
) -> tuple[tuple[Path, ...], str]:
    for name in names:
        if splits.get(name):
            return splits[name], name
    return (), names[0]


def _split_notes(name: str) -> tuple[str, ...]:
    return () if name == TEST_NAMES[0] else (f"test-split:{name}",)


def _is_shown_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith((".", "__"))


def _folder_splits(root: Path) -> Splits | None:
    names = [name for name in TRAIN_NAMES + TEST_NAMES if _is_shown_folder(root / name)]
    if not names:
        return None
    files = {name: image_files(root / name) for name in names}
    train, _ = _first_of(files, TRAIN_NAMES)
    test, name = _first_of(files, TEST_NAMES)
    return Splits(root, "folder", train, test, _split_notes(name))


def _listed_splits(root: Path) -> Splits | None:
    """Read the lists of CUB-200-2011: one file numbers the images, another says which are train."""
    places = [place for place in (root, root / "CUB_200_2011") if (place / LISTS[0]).is_file()]
    if not places:
        return None
    place = places[0]
    names, is_train = (_numbered(place / name) for name in LISTS)
    if names.keys() != is_train.keys():
        raise IntegrityError(f"{LISTS[0]} and {LISTS[1]} differ", where=place)
    ordered = sorted(names, key=lambda number: names[number])
    files = {number: place / "images" / _inside(names[number], place) for number in ordered}
    train = tuple(files[number] for number in ordered if is_train[number] == "1")
    test = tuple(files[number] for number in ordered if is_train[number] == "0")
    return Splits(root, "folder", train, test)


def _numbered(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return dict(line.split(maxsplit=1) for line in lines if line.strip())
    except (UnicodeDecodeError, ValueError):
        raise IntegrityError("not a list of numbers and names", where=path) from None


def _inside(name: str, place: Path) -> str:
    """Refuse names that lead out of the images' folder."""
    parts = Path(name).parts
    if len(parts) != 2 or ".." in parts or Path(name).is_absolute():
        raise IntegrityError(f"image {name[:60]!r} is not CLASS/FILE", where=place)
    return name


def image_files(split: Path) -> tuple[Path, ...]:
    """List the images of a split, by class and then by name."""
    classes = sorted(path for path in split.iterdir() if _is_shown_folder(path))
    return tuple(
        path
        for folder in classes
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def _open_folder(splits: Splits) -> Source:
    files = splits.files

    def chunks() -> Iterator[Sequence[Encoded]]:
        for start in range(0, len(files), CHUNK):
            yield files[start : start + CHUNK]

    return Source(
        train=[path.parent.name for path in splits.train],
        test=[path.parent.name for path in splits.test],
        classes=(),
        chunks=chunks,
        place=lambda i: str(files[i]),
    )
