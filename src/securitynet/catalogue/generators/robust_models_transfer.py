"""ImageNet classifiers trained against attacks of several strengths (Salman et al. 2020).

Source: the table of microsoft/robust-models-transfer's README, cea2c37 (MIT). Its own links expired
in October 2021; the files lie in the Hugging Face repository madrylab/robust-imagenet-models (MIT).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from securitynet.catalogue.generators import counting
from securitynet.catalogue.generators.families import family
from securitynet.catalogue.schema import Claim, InputSpec, ModelCard, Publication, Weights
from securitynet.errors import ResourceError

FACTS = "robust_models_transfer.json"
HUB = "https://huggingface.co/madrylab/robust-imagenet-models/resolve/main"
SOURCE = "robust-models-transfer"
README = "cea2c37f09ae24485b7e593a470aa350c3fb32ee"
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet18": ("resnet18", {}),
    "resnet50": ("resnet50", {}),
    "wide_resnet50_2": ("wide_resnet50_2", {}),
    "wide_resnet50_4": ("resnet50", {"width_per_group": 256}),
    "densenet": ("densenet161", {}),
    "mnasnet": ("mnasnet1_0", {}),
    "mobilenet": ("mobilenet_v2", {}),
    "resnext50_32x4d": ("resnext50_32x4d", {}),
    "shufflenet": ("shufflenet_v2_x1_0", {}),
    "vgg16_bn": ("vgg16_bn", {}),
}
"""Their name -> torchvision's; as the robustness library builds them."""
SPEC = InputSpec(3, 224, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resize=256)
PAPER = Publication(
    title="Do Adversarially Robust ImageNet Models Transfer Better?",
    authors=(
        "Hadi Salman", "Andrew Ilyas", "Logan Engstrom", "Ashish Kapoor", "Aleksander Madry",
    ),
    venue="NeurIPS",
    venue_type="ml",
    year=2020,
    arxiv="2007.08489",
    countries=("US",),
)  # fmt: skip


def generate(facts: Path | None) -> list[ModelCard]:
    """Return the 67 cards.

    Raises:
        ResourceError: If the facts are not there.
    """
    path = None if facts is None else facts / FACTS
    if path is None or not path.is_file():
        raise ResourceError(f"{FACTS} is not there", where=path, hint="give its folder: --facts")
    return [_card(record) for record in json.loads(path.read_text(encoding="utf-8"))]


def _card(record: dict[str, Any]) -> ModelCard:
    name = record["file"].removesuffix(".ckpt")
    variant, options = ARCHITECTURES[record["architecture"]]
    architecture = f"torchvision/{variant}"
    count = _count(record["architecture"])
    return ModelCard(
        id=f"robust-models-transfer/{name}",
        provider="robust-models-transfer",
        name=name,
        dataset="imagenet1k",
        num_classes=1000,
        architecture={"name": architecture, "options": options} if options else architecture,
        input=SPEC,
        weights=_weights(record["file"]),
        family=family(record["architecture"] if options else variant),
        params=count.params,
        macs=count.macs,
        pretraining=(),
        threat_model=threat_model(record["norm"], record["eps"]),
        origin="security",
        publication=PAPER,
        claims=(Claim("test_accuracy", record["top1"], SOURCE, revision=README),),
        code_licence="MIT",
    )


def _weights(file: str) -> Weights:
    return Weights(url=f"{HUB}/{file}", licence="MIT", licence_source="hub", state_key="model")


@cache
def _count(architecture: str) -> counting.Count:
    variant, options = ARCHITECTURES[architecture]
    return counting.named("torchvision", variant, 1000, **options)


def threat_model(norm: str, eps: float | str) -> str | None:
    """Return the threat model in words, ``None`` for eps 0: a model trained without attacks."""
    size, _, scale = str(eps).partition("/")
    if not float(size):
        return None
    norm_name = {"l2": "L2", "linf": "Linf"}[norm]
    return f"{norm_name} {float(size):g}{'/' + scale if scale else ''}"
