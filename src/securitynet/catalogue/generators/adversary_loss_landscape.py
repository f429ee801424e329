"""Adversarially trained CIFAR-10 and MNIST classifiers of IVRL/AdversaryLossLandscape.

Sources: the checkpoints of the repository's commit 7345678, named by path and git blob id; its
scripts for what the paths say: architecture, width factor, budget, schedule and run.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from securitynet.catalogue.generators import counting
from securitynet.catalogue.schema import InputSpec, ModelCard, Publication, Weights
from securitynet.catalogue.tables import data_folder

REPOSITORY = "IVRL/AdversaryLossLandscape"
COMMIT = "73456788b38bebeac40b833f2ac5d6cb2f1530ea"
BLOBS = "ivrl_blobs.txt"
"""Table of the checkpoints: git blob id and path, as ``git ls-tree`` gives them."""
_PATH = re.compile(
    r"models/(?P<network>[a-z]+)_(?P<dataset>[a-z0-9]+)/(?P<schedule>[a-z_]+)/(?P<run>[0-9])/"
    r"(?P=network)_(?P<width>[0-9]+)_(?P<rest>eps(?P<eps>[0-9.]+)_.+)\.ckpt"
)
PAPER = Publication(
    title="On the Loss Landscape of Adversarial Training: Identifying Challenges and How to "
    "Overcome Them",
    authors=("Chen Liu", "Mathieu Salzmann", "Tao Lin", "Ryota Tomioka", "Sabine Süsstrunk"),
    venue="NeurIPS",
    venue_type="ml",
    year=2020,
    arxiv="2006.08403",
    countries=("CH", "GB"),
)


class Network(NamedTuple):
    """What a network of the repository is to us: architecture, family, size."""

    architecture: str
    family: str
    size: counting.Count


@cache
def network(name: str, width: int) -> Network:
    """Return one of the repository's networks, of a width factor.

    Raises:
        KeyError: If there is none of the name.
    """
    counts = {
        "resnet": lambda: counting.cifar_stem_resnet(18, 10, width=4 * width),
        "vgg": lambda: counting.vgg16(width, 10),
        "lenet": lambda: counting.lenet(width, 10),
    }
    architecture = {"resnet": "ivrl_resnet18", "vgg": "ivrl_vgg16", "lenet": "ivrl_lenet"}[name]
    return Network(f"securitynet/{architecture}", name, counts[name]())


def generate(facts: Path | None) -> list[ModelCard]:
    """Return the 81 cards: 72 for CIFAR-10, 9 for MNIST."""
    own = None if facts is None else facts / BLOBS
    table = own if own is not None and own.is_file() else data_folder().joinpath(BLOBS)
    lines = table.read_text(encoding="utf-8").splitlines()
    return [_card(*line.split(maxsplit=1)) for line in lines]


def _card(blob: str, path: str) -> ModelCard:
    found = _PATH.fullmatch(path)
    if found is None:
        raise ValueError(f"{BLOBS}: {path} is not a checkpoint's path")
    part = found.groupdict()
    width, dataset = int(part["width"]), part["dataset"]
    built = network(part["network"], width)
    is_digits = dataset == "mnist"
    name = f"{dataset}/{part['network']}_{part['schedule']}_{part['rest']}/{part['run']}"
    return ModelCard(
        id=f"ivrl/{name}",
        provider="ivrl",
        name=name,
        dataset=dataset,
        num_classes=10,
        architecture={"name": built.architecture, "options": {"width": width}},
        input=InputSpec(1, 28, 28) if is_digits else InputSpec(3, 32, 32),
        weights=_weights(blob, path),
        family=built.family,
        params=built.size.params,
        macs=built.size.macs,
        pretraining=(),
        threat_model=f"Linf {part['eps']}" if is_digits else f"Linf {part['eps']}/255",
        origin="security",
        publication=PAPER,
        run=part["run"],
        code_licence="MIT",
    )


def _weights(blob: str, path: str) -> Weights:
    return Weights(
        url=f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/{path}",
        checksum=blob,
        checksum_algorithm="git-blob-sha1",
        licence="MIT",
        licence_source="code",
        revision=COMMIT,
        mirrors=(f"https://media.githubusercontent.com/media/{REPOSITORY}/{COMMIT}/{path}",),
    )
