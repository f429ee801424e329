"""torchvision's classification weights, from its own weight entries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from securitynet.catalogue.generators.families import family
from securitynet.catalogue.generators.publications import by_family, work
from securitynet.catalogue.generators.rehosts import rehosts_of
from securitynet.catalogue.schema import Claim, InputSpec, ModelCard, Weights
from securitynet.errors import ResourceError

N_CLASSES = 1000
N_VALIDATION = 50_000
HASH = re.compile(r"-([0-9a-f]{8,})\.pth$")
"""File names end with the beginning of the file's sha256."""
TRANSFORMING = ("googlenet", "inception_v3")
"""Networks that convert normalised pixels by themselves when they carry published weights."""


def generate(facts: Path | None) -> list[ModelCard]:
    """Return one card a weight entry of a classifier.

    Raises:
        ResourceError: If torchvision is not installed.
    """
    try:
        import torchvision
        from torchvision import models
    except ImportError:
        raise ResourceError("torchvision is not installed") from None
    version = torchvision.__version__.split("+")[0]
    return [
        _card(name, entry, version)
        for name in models.list_models(module=models)
        for entry in models.get_model_weights(name)
        if entry.meta["categories"]  # one entry of VGG-16 has no classifier
    ]


def _card(builder: str, entry: Any, version: str) -> ModelCard:
    meta, is_swag = entry.meta, "SWAG" in entry.name
    found = HASH.search(entry.url)
    spec = _input(entry.transforms())
    name = f"{builder}.{entry.name}"
    return ModelCard(
        id=f"torchvision/{name}",
        provider="torchvision",
        name=name,
        dataset="imagenet1k",
        num_classes=len(meta["categories"]),
        architecture=_architecture(builder, entry, spec),
        input=spec,
        weights=Weights(
            url=entry.url,
            format=None,
            checksum=found.group(1) if found else None,
            checksum_algorithm="sha256-prefix" if found else None,
            licence="CC-BY-NC-4.0" if is_swag else "BSD-3-Clause",
            licence_source="code" if is_swag else "presumed",
        ),
        family=family(builder),
        params=meta["num_params"],
        macs=round(meta["_ops"] * 1e9),
        pretraining=("ig-3.6b",) if is_swag else (),
        origin="benchmark",
        publication=work("swag") if is_swag else by_family("torchvision", builder),
        claims=tuple(_claims(meta["_metrics"]["ImageNet-1K"], version)),
        aliases=rehosts_of(builder, entry.name),
        code_licence="BSD-3-Clause",
    )


def _architecture(builder: str, entry: Any, spec: InputSpec) -> str | dict[str, Any]:
    options: dict[str, Any] = {}
    if builder in TRANSFORMING:
        options = {"init_weights": False, "transform_input": True}
    if builder.startswith("vit_") and spec.height != 224:
        options = {"image_size": spec.height}
    name = f"torchvision/{builder}"
    return {"name": name, "options": options} if options else name


def _input(transform: Any) -> InputSpec:
    side, resize = transform.crop_size[0], transform.resize_size[0]
    return InputSpec(
        channels=3,
        height=side,
        width=side,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        resize=resize,
        interpolation=transform.interpolation.value,
    )


def _claims(metrics: dict[str, float], version: str) -> list[Claim]:
    return [
        Claim(metric, round(metrics[key] / 100, 5), "torchvision", N_VALIDATION, revision=version)
        for metric, key in (("test_accuracy", "acc@1"), ("test_top5_accuracy", "acc@5"))
    ]
