"""Which architecture do a checkpoint's names and shapes belong to? Looked up in a shipped table.

A line of the table is an architecture with fresh weights: its name, the digest of its tensors'
names and shapes, and which of the tensors grow with the number of classes or of input channels.
``python -m securitynet.targets.signatures`` writes it anew; that takes a while.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from securitynet.records import fingerprint

TABLE = "architectures.tsv"
DIGITS = 16
CLASSES = 7919
"""A prime that no layer has as its width: where it shows, the number of classes is meant."""
CHANNELS = 3
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Growing:
    """The tensors that grow with a task.

    Attributes:
        classes: Names whose first side is the number of classes.
        channels: Names whose second side is the number of input channels.
    """

    classes: tuple[str, ...]
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Match:
    """An architecture whose tensors are exactly those of a checkpoint.

    Attributes:
        architecture: ``library/name``.
        num_classes: Number of outputs in the checkpoint.
        channels: Input channels in the checkpoint.
    """

    architecture: str
    num_classes: int
    channels: int


def shapes_of(state: Iterable[tuple[str, Iterable[int]]]) -> dict[str, Shape]:
    """Return name -> shape without batch counters, which older files lack."""
    return {name: tuple(shape) for name, shape in state if not name.endswith("num_batches_tracked")}


def growing(shapes: Shapes) -> Growing | None:
    """Find what grows in an architecture built for `CLASSES` and `CHANNELS`.

    Returns:
        ``None`` if the number of classes shows nowhere, or in other than the first side.
    """
    classes = tuple(sorted(name for name, shape in shapes.items() if CLASSES in shape))
    if not classes or any(shapes[name][0] != CLASSES for name in classes):
        return None
    return Growing(
        classes,
        tuple(sorted(n for n, s in shapes.items() if len(s) == 4 and s[1] == CHANNELS)),
    )


def signature(shapes: Shapes, parts: Growing) -> str:
    """Return the digest of names and shapes, what grows left open."""
    open_shapes = [
        [
            name,
            ["K", *shape[1:]] if name in parts.classes
            else [shape[0], "C", *shape[2:]] if name in parts.channels
            else [*shape],
        ]
        for name, shape in sorted(shapes.items())
    ]  # fmt: skip
    return fingerprint(open_shapes)[:DIGITS]


@cache
def table() -> Mapping[Growing, Mapping[str, tuple[str, ...]]]:
    """Return the shipped table: what grows -> signature -> architectures."""
    found: dict[Growing, dict[str, tuple[str, ...]]] = {}
    text = files("securitynet.catalogue").joinpath("data", TABLE).read_text(encoding="utf-8")
    for line in text.splitlines():
        name, digest, classes, channels = line.split("\t")
        parts = Growing(tuple(classes.split(",")), tuple(filter(None, channels.split(","))))
        group = found.setdefault(parts, {})
        group[digest] = (*group.get(digest, ()), name)
    return found


def recognise(shapes: Shapes) -> list[Match]:
    """Return every architecture with exactly these tensors, in order of the table."""
    return [match for parts, group in table().items() for match in _matches(shapes, parts, group)]


def _matches(
    shapes: Shapes, parts: Growing, group: Mapping[str, tuple[str, ...]]
) -> Iterator[Match]:
    try:
        classes = {shapes[name][0] for name in parts.classes}
        channels = {shapes[name][1] for name in parts.channels} or {CHANNELS}
    except (KeyError, IndexError):
        return
    if len(classes) == len(channels) == 1:
        for name in group.get(signature(shapes, parts), ()):
            yield Match(name, min(classes), min(channels))


def lines(names: Iterable[str]) -> Iterator[str]:
    """Yield the lines of the table; an architecture that cannot be described is left out."""
    from securitynet.errors import UsageError
    from securitynet.targets.drafts import shape_module

    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                state = shape_module(Match(name, CLASSES, CHANNELS)).state_dict()
        except (UsageError, ImportError):
            continue  # not every one can be built for any number of classes, or with what is here
        shapes = shapes_of((key, tensor.shape) for key, tensor in state.items())
        parts = growing(shapes)
        if parts is not None:
            listed = ",".join(parts.classes), ",".join(parts.channels)
            yield "\t".join((name, signature(shapes, parts), *listed))


def known_names() -> Iterator[str]:
    """Yield every architecture that cards may name: first ours, then those of the libraries."""
    import timm
    from torchvision import models

    from securitynet.catalogue.tables import rows
    from securitynet.targets.networks import NETWORKS

    for depth in (20, 32, 44, 56, 110):
        yield from (f"securitynet/cifar_resnet{depth}_{kind}" for kind in "ab")
    yield from (f"securitynet/{name}" for name in NETWORKS if name != "mlp")  # it has any input
    yield from (f"torchvision/{name}" for name in models.list_models(module=models))
    yield from (f"timm/{name}" for name in timm.list_models())
    named = {row["architecture"] for row in rows() if row["provider"] == "pytorchcv"}
    yield from sorted(named)  # the library has detectors, too, and does not tell them apart


def main() -> None:
    """Write the table."""
    path = Path(str(files("securitynet.catalogue").joinpath("data", TABLE)))
    path.write_text("".join(f"{line}\n" for line in lines(known_names())), encoding="utf-8")


if __name__ == "__main__":
    main()
