"""The weights of MedMNIST's authors: 18 data sets, ResNet-18 and -50, three runs each.

Sources: the record https://doi.org/10.5281/zenodo.7782114 (CC BY 4.0), the README and training
scripts of MedMNIST/experiments (what was trained on which size), INFO of MedMNIST 3.0.2 (classes).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from securitynet.catalogue.generators import counting
from securitynet.catalogue.schema import Claim, InputSpec, ModelCard, Publication, Weights

RECORD = "https://zenodo.org/records/7782114"
N_CLASSES = {
    "pathmnist": 9, "chestmnist": 14, "dermamnist": 7, "octmnist": 4, "pneumoniamnist": 2,
    "retinamnist": 5, "breastmnist": 2, "bloodmnist": 8, "tissuemnist": 8, "organamnist": 11,
    "organcmnist": 11, "organsmnist": 11,
}  # fmt: skip
N_CLASSES_3D = {
    "organmnist3d": 11, "nodulemnist3d": 2, "adrenalmnist3d": 2, "fracturemnist3d": 3,
    "vesselmnist3d": 2, "synapsemnist3d": 2,
}  # fmt: skip
OLDER = ("organamnist", "organcmnist", "organsmnist", "organmnist3d")
"""Data sets that lost blank samples in version 3; the weights were trained on version 2."""
SHAPES = ("adrenalmnist3d", "vesselmnist3d")
"""Binary shapes, which the authors multiply by 0.5."""
MULTI_LABEL = "chestmnist"
CONVOLUTIONS = {"acs": "acs", "2.5D": "2.5d", "3D": "3d"}
ARCHIVES = {
    "pathmnist": ("90b4fb5cc399a4caaba8401c438d43c5", 1_522_677_234),
    "pneumoniamnist": ("01ee733fc0e3263e0b809e2b0182594d", None),
}
"""md5 and size of the archives that are known."""
PUBLISHED_224 = {
    "pathmnist": (0.909, 0.892), "octmnist": (0.763, 0.776), "pneumoniamnist": (0.864, 0.884),
    "retinamnist": (0.493, 0.511), "tissuemnist": (0.681, 0.680), "organamnist": (0.951, 0.947),
}  # fmt: skip
"""Published accuracies of ResNet-18 and -50 at 224 pixels, each a mean of three runs: table 3 of
the paper, as public repositories repeat it; those of the other sets were not at hand."""
RUNS = (1, 2, 3)
PAPER = Publication(
    title="MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical image "
    "classification",
    authors=(
        "Jiancheng Yang", "Rui Shi", "Donglai Wei", "Zequan Liu", "Lin Zhao", "Bilian Ke",
        "Hanspeter Pfister", "Bingbing Ni",
    ),
    venue="Scientific Data",
    venue_type="journal",
    year=2023,
    arxiv="2110.14795",
    doi="10.1038/s41597-022-01721-8",
    countries=("CN", "US"),
)  # fmt: skip


def generate(facts: Path | None) -> list[ModelCard]:
    """Return the 252 cards: 12 pictures' sets x 12 weights and 6 volumes' sets x 18."""
    return [*_pictures(), *_volumes()]


def _pictures() -> Iterator[ModelCard]:
    for flag, depth, side, run in product(N_CLASSES, (18, 50), (28, 224), RUNS):
        n_classes = N_CLASSES[flag]
        if side == 28:
            architecture = f"securitynet/cifar_stem_resnet{depth}"
            count = counting.cifar_stem_resnet(depth, n_classes, side=28)
        else:
            architecture = f"torchvision/resnet{depth}"
            count = counting.imagenet_resnet(depth, n_classes)
        half = (0.5, 0.5, 0.5)
        spec = InputSpec(3, side, side, mean=half, std=half, interpolation="nearest")
        flags = ("multi-label",) if flag == MULTI_LABEL else ()
        yield _card(flag, f"resnet{depth}_{side}", run, architecture, spec, count, flags)


def _volumes() -> Iterator[ModelCard]:
    for flag, depth, kind, run in product(N_CLASSES_3D, (18, 50), CONVOLUTIONS, RUNS):
        n_classes = N_CLASSES_3D[flag]
        architecture: dict[str, object] = {
            "name": f"securitynet/cifar_stem_resnet{depth}",
            "options": {"convolution": CONVOLUTIONS[kind]},
        }
        count = counting.cifar_stem_resnet(
            depth, n_classes, side=28, convolution=CONVOLUTIONS[kind]
        )
        doubled = (2.0, 2.0, 2.0) if flag in SHAPES else None
        spec = InputSpec(3, 28, 28, depth=28, std=doubled)
        yield _card(flag, f"resnet{depth}_{kind}", run, architecture, spec, count, ("3d",))


def _card(
    flag: str,
    stem: str,
    run: int,
    architecture: str | dict[str, object],
    spec: InputSpec,
    count: counting.Count,
    flags: tuple[str, ...],
) -> ModelCard:
    name = f"{flag}/{stem}_{run}"
    return ModelCard(
        id=f"medmnist/{name}",
        provider="medmnist",
        name=name,
        dataset=f"{flag}-v2" if flag in OLDER else flag,
        num_classes={**N_CLASSES, **N_CLASSES_3D}[flag],
        architecture=architecture,
        input=spec,
        weights=_weights(flag, f"{stem}_{run}.pth"),
        family="resnet",
        params=count.params,
        macs=count.macs,
        pretraining=(),
        origin="other",
        publication=PAPER,
        run=str(run),
        flags=flags,
        code_licence="Apache-2.0",
        claims=_claims(flag, stem),
    )


def _claims(flag: str, stem: str) -> tuple[Claim, ...]:
    depth, _, side = stem.removeprefix("resnet").partition("_")
    if side != "224" or flag not in PUBLISHED_224:
        return ()
    accuracy = PUBLISHED_224[flag][depth == "50"]
    return (Claim("test_accuracy", accuracy, "medmnist:table 3, mean of three runs"),)


def _weights(flag: str, member: str) -> Weights:
    md5, n_bytes = ARCHIVES.get(flag, (None, None))
    return Weights(
        url=f"{RECORD}/files/weights_{flag}.zip?download=1",
        member=member,
        format="torch-legacy",
        checksum=md5,
        checksum_algorithm="md5" if md5 else None,
        licence="CC-BY-4.0",
        licence_source="hub",
        revision="7782114",
        bytes=n_bytes,
        state_key="net",
    )
