"""timm's pretrained classifiers, from its registry and the result tables of its repository."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from securitynet.catalogue.generators import publications
from securitynet.catalogue.generators.families import family
from securitynet.catalogue.generators.rehosts import original
from securitynet.catalogue.generators.timm_results import Results
from securitynet.catalogue.schema import (
    UNKNOWN_LICENCE,
    InputSpec,
    ModelCard,
    Publication,
    Weights,
)
from securitynet.catalogue.tables import rows
from securitynet.errors import ResourceError
from securitynet.files.hub import HUB

FILE = "model.safetensors"
"""What timm itself looks for first in a repository of the hub."""
SETS = {
    1000: "imagenet1k", 11821: "imagenet12k", 21841: "imagenet22k", 21842: "imagenet22k-21842",
    21843: "imagenet21k", 11221: "imagenet21k-p", 19168: "imagenet21k-winter-19168",
    115217: "bamboo",
}  # fmt: skip
"""Size of the head -> what it was trained on; smaller ones are embeddings, not classifiers."""
LICENCES = {
    "apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause",
    "cc-by-nc-4.0": "CC-BY-NC-4.0", "cc-by-4.0": "CC-BY-4.0",
    "cvnets-license": "LicenseRef-cvnets", "fastvit-license": "LicenseRef-fastvit",
    "mobileone-license": "LicenseRef-mobileone", "seer-license": "LicenseRef-seer",
}  # fmt: skip
PRETRAINING = {
    "in1k": "imagenet1k", "in12k": "imagenet12k", "in21k": "imagenet21k", "in22k": "imagenet22k",
    "ig1b": "ig-1b", "yfcc100m": "yfcc100m", "laion2b": "laion-2b", "laiona": "laion-aesthetic",
    "jft": "jft-300m", "openai": "openai-wit", "webli": "webli", "m30m": "merged-30m",
    "m38m": "merged-38m", "seer": "ig-1b", "inw21k": "imagenet21k-winter-19168",
}  # fmt: skip
"""Words of tags that name a data set."""
UNCERTAIN = ("clip", "ssld", "miil", "dino", "bamboo")
"""Words of tags behind which there is pre-training that the tag does not name."""
OWN_RELEASE = re.compile(
    r"https://github\.com/(?:rwightman|huggingface)/pytorch-image-models/releases/download/"
    r"([^/]+)/[^/]+-([0-9a-f]{8,})\.pth$"
)
"""timm's own releases; their file names end with the beginning of the file's sha256."""


def generate(facts: Path | None) -> list[ModelCard]:
    """Return one card a classifier, those that are torchvision's left out.

    Raises:
        ResourceError: If timm is not installed or ``facts`` has no ``timm`` folder.
    """
    results = Results.read(facts)
    try:
        import timm
    except ImportError:
        raise ResourceError("timm is not installed") from None
    logging.getLogger("timm").setLevel(logging.ERROR)
    counts = {row["id"]: row["params"] for row in rows() if row["provider"] == "timm"}
    configs: dict[str, Any] = {
        name: timm.get_pretrained_cfg(name) for name in timm.list_pretrained()
    }
    return [
        _card(name, config, results, counts.get(f"timm/{name}"))
        for name, config in configs.items()
        if config.num_classes in SETS and not original(name)
    ]


def _card(name: str, config: Any, results: Results, params: int | None) -> ModelCard:
    spec = _input(config)
    architecture, _, tag = name.partition(".")
    return ModelCard(
        id=f"timm/{name}",
        provider="timm",
        name=name,
        dataset=SETS[config.num_classes],
        num_classes=config.num_classes,
        architecture=f"timm/{name}",
        input=spec,
        weights=_weights(config),
        family=family(name),
        params=params or _count(name, config.num_classes),
        macs=results.macs(architecture, spec.height) if config.num_classes == 1000 else None,
        pretraining=_pretraining(tag, SETS[config.num_classes]),
        origin="benchmark",
        publication=_publication(name),
        claims=tuple(results.claims(name, spec.height)),
        code_licence="Apache-2.0",
    )


def _input(config: Any) -> InputSpec:
    """Return timm's evaluation transform; without a margin squashing needs no crop."""
    channels, height, width = config.input_size
    is_squashed = config.crop_mode == "squash"
    has_margin = not is_squashed or config.crop_pct != 1
    return InputSpec(
        channels=channels,
        height=height,
        width=width,
        mean=tuple(config.mean),
        std=tuple(config.std),
        resize=math.floor(height / config.crop_pct) if has_margin else None,
        interpolation=config.interpolation,
        is_squashed=is_squashed and has_margin,
    )


def _weights(config: Any) -> Weights:
    """Prefer a release whose bytes can be checked; the hub's checksums need the network."""
    licence = LICENCES.get(config.license or "", UNKNOWN_LICENCE)
    known = Weights(
        url=f"{HUB}/{config.hf_hub_id}/resolve/main/{FILE}" if config.hf_hub_id else config.url,
        format="safetensors" if config.hf_hub_id else None,
        licence=licence,
        licence_source="unstated" if licence == UNKNOWN_LICENCE else "code",
    )
    release = OWN_RELEASE.match(config.url or "")
    if not release:
        return known
    return replace(
        known,
        url=config.url,
        format=None,
        checksum=release.group(2),
        checksum_algorithm="sha256-prefix",
        revision=release.group(1),
    )


def _pretraining(tag: str, dataset: str) -> tuple[str, ...] | None:
    """Read the sets that came before ``dataset`` off a tag; ``None`` where it does not tell."""
    words = tag.split("_")
    named = [PRETRAINING[word] for word in words if word in PRETRAINING]
    found = tuple(dict.fromkeys(name for name in named[:-1] if name != dataset))
    is_uncertain = not found and any(word in words for word in UNCERTAIN)
    return None if is_uncertain else found


def _publication(name: str) -> Publication | None:
    return publications.by_timm_tag(name) or publications.by_family("timm", name)


def _count(name: str, num_classes: int) -> int:
    """Count the parameters of a network that is built without memory for its weights."""
    import timm
    import torch

    with torch.device("meta"):
        net = timm.create_model(name, pretrained=False, num_classes=num_classes)
    return sum(parameter.numel() for parameter in net.parameters())
