"""Labels as they are stored to class numbers 0..K-1, checked against what can be audited."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from securitynet.datasets.images import Labels
from securitynet.datasets.sources import Label
from securitynet.errors import UsageError


def number_labels(
    train: Sequence[Label],
    test: Sequence[Label],
    names: tuple[str, ...],
    expected: tuple[str, ...],
    where: object,
) -> tuple[Labels, tuple[str, ...]]:
    """Number the labels of both splits.

    Strings (class folders, text columns) are numbered in the order of ``expected``, else of
    ``names``, else sorted: by value if all of them are whole numbers, by letter otherwise.

    Args:
        train: Labels of the training split.
        test: Labels of the test split.
        names: Class names that the source declares, or nothing.
        expected: Class names of the named data set in its official order, or nothing.
        where: Folder, for messages.

    Returns:
        Labels int64 ``[n_train + n_test]`` and the class names in the order of the numbers.

    Raises:
        UsageError: If labels are of mixed types or out of range, or the classes are not those
            of the named data set.
    """
    labels = [*train, *test]
    if all(isinstance(label, str) for label in labels):
        return _number_names([str(label) for label in labels], names, expected, where)
    if any(isinstance(label, str) for label in labels):
        raise UsageError("labels are numbers and strings", where=where, hint="use one of them")
    numbers = np.array(labels, dtype=np.int64)
    return _number_numbers(numbers, names, expected, where)


def check_classes(labels: Labels, n_train: int, classes: tuple[str, ...], where: object) -> None:
    """Check that every class that has images has some in both splits.

    Raises:
        UsageError: If a class is in one split only.
    """
    inside, outside = set(labels[:n_train].tolist()), set(labels[n_train:].tolist())
    for label in sorted(inside ^ outside):
        split = "train" if label in inside else "test"
        raise UsageError(
            f"class {classes[label]!r} has images in {split} only",
            where=where,
            hint="give every class images in both splits, or remove it from both",
        )


def _number_names(
    labels: list[str], names: tuple[str, ...], expected: tuple[str, ...], where: object
) -> tuple[Labels, tuple[str, ...]]:
    present = set(labels)
    classes = next(
        (order for order in (expected, names) if present <= set(order)), _sorted_names(present)
    )
    if expected and len(classes) != len(expected):
        raise _other_classes(len(classes), len(expected), where)
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number[label] for label in labels], dtype=np.int64), classes


def _number_numbers(
    labels: Labels, names: tuple[str, ...], expected: tuple[str, ...], where: object
) -> tuple[Labels, tuple[str, ...]]:
    n_classes = len(names or expected) or _count(labels, where)
    outside = labels[(labels < 0) | (labels >= n_classes)]
    if len(outside):
        raise UsageError(
            f"{len(outside)} labels out of range 0..{n_classes - 1}, e.g. {outside[0]}",
            where=where,
            hint="number the classes from 0; drop rows without a label",
        )
    if not expected:
        return labels, names or tuple(str(i) for i in range(n_classes))
    if len(expected) != n_classes:
        raise _other_classes(n_classes, len(expected), where)
    if set(names) == set(expected):
        number = np.array([expected.index(name) for name in names], dtype=np.int64)
        return number[labels], expected
    return labels, expected


def _count(labels: Labels, where: object) -> int:
    """Count the classes of labels without names: they must be 0..K-1 without gaps."""
    present = np.unique(labels)
    if len(present) != present[-1] + 1 or present[0] < 0:
        raise UsageError(
            f"labels out of range: {len(present)} classes numbered {present[0]}..{present[-1]}",
            where=where,
            hint="number the classes from 0 without gaps",
        )
    return len(present)


def _sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    names = sorted(names)
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    return tuple(names)


def _other_classes(found: int, expected: int, where: object) -> UsageError:
    return UsageError(
        f"{found} classes where the named data set has {expected}",
        where=where,
        hint="rename the folder and give its path instead of the name",
    )
