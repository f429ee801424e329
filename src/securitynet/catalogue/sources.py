"""Where the claims of the shipped tables come from, under short keys. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Source:
    """A place that reports figures of many models.

    Attributes:
        title: What it is.
        url: Where it is read.
        licence: SPDX id of the licence that its data come under; ``None`` = not stated.
    """

    title: str
    url: str
    licence: str | None = None


SOURCES = {
    "paper": Source(
        "SecurityNet's published table", "https://github.com/SecurityNet-Research/SecurityNet",
        "MIT",
    ),
    "torchvision": Source(
        "torchvision's weight entries", "https://github.com/pytorch/vision", "BSD-3-Clause"
    ),
    "timm": Source(
        "timm's result tables", "https://github.com/huggingface/pytorch-image-models", "Apache-2.0"
    ),
    "pytorchcv": Source(
        "pytorchcv's table of models", "https://github.com/osmr/imgclsmob", "MIT"
    ),
    "medmnist": Source(
        "MedMNIST's experiments", "https://github.com/MedMNIST/experiments", "Apache-2.0"
    ),
    "robustbench": Source(
        "RobustBench's model records", "https://github.com/RobustBench/robustbench", "MIT"
    ),
    "robust-models-transfer": Source(
        "Robust ImageNet models for transfer",
        "https://github.com/microsoft/robust-models-transfer", "MIT",
    ),
}  # fmt: skip
"""Key -> place; a claim's source is ``KEY`` or ``KEY:where in it``, or words of its own."""


def source_key(source: str) -> str:
    """Return the short key of a claim's source, or the source itself if it has none."""
    key = source.partition(":")[0]
    return key if key in SOURCES else source


def source_keys(claims: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the sources of a row's claims, each once, in order of their names."""
    return sorted({source_key(claim["source"]) for claim in claims})
