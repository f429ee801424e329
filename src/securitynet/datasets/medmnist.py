"""The 17 data sets of MedMNIST with one label an image: where they are published, and as what.

Sources: INFO of the package medmnist 3.0.2 (record 10519652 of Zenodo) and, for the four sets that
lost blank images in version 3, INFO of 2.2.3 (record 6496656). No file of the package is used:
importing it makes a folder in the user's home.

ChestMNIST is left out: each of its images has fourteen labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from securitynet.datasets.info import Archive, DatasetInfo

RECORD = "https://zenodo.org/records/10519652"
OLDER_RECORD = "https://zenodo.org/records/6496656"
SIDE = 28
SIDES = (28, 64, 128, 224)
"""Sides of the published pictures; of volumes the first two."""
ORGANS = (
    "bladder", "left femur", "right femur", "heart", "left kidney", "right kidney", "liver",
    "left lung", "right lung", "pancreas", "spleen",
)  # fmt: skip
ORGANS_3D = (
    "liver", "right kidney", "left kidney", "right femur", "left femur", "bladder", "heart",
    "right lung", "left lung", "spleen", "pancreas",
)  # fmt: skip
OLDER = {
    "organamnist": (34_581, 17_778, "866b832ed4eeba67bfb9edee1d5544e6"),
    "organcmnist": (13_000, 8_268, "0afa5834fb105f7705a7d93372119a21"),
    "organsmnist": (13_940, 8_829, "e5c39f1af030238290b9557d9503af9d"),
    "organmnist3d": (972, 610, "21f0a239e7f502e6eca33c3fc453c0b6"),
}
"""Of version 2: training images, test images, md5. The authors' weights were trained on these."""


@dataclass(frozen=True)
class _Set:
    """One data set: both splits, the classes, and the md5 of its file at each of `SIDES`.

    Microscope pictures of tissue and cells (``is_mirrored``) have no left and right.
    """

    title: str
    n_train: int
    n_test: int
    classes: tuple[str, ...]
    md5s: tuple[str, ...]
    channels: int = 1
    is_mirrored: bool = False
    licence: str = "CC-BY-4.0"

    @property
    def name(self) -> str:
        return self.title.lower()


SETS = (
    _Set(
        "PathMNIST", 89_996, 7_180,
        ("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle",
         "normal colon mucosa", "cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
        ("a8b06965200029087d5bd730944a56c1", "55aa9c1e0525abe5a6b9d8343a507616",
         "ac42d08fb904d92c244187169d1fd1d9", "2c51a510bcdc9cf8ddb2af93af1eadec"),
        channels=3, is_mirrored=True,
    ),
    _Set(
        "DermaMNIST", 7_007, 2_005,
        ("actinic keratosis or intraepithelial carcinoma", "basal cell carcinoma",
         "benign keratosis-like lesion", "dermatofibroma", "melanoma", "melanocytic nevus",
         "vascular lesion"),
        ("0744692d530f8e62ec473284d019b0c7", "b70a2f5635c6199aeaa28c31d7202e1f",
         "2defd784463fa5243564e855ed717de1", "8974907d8e169bef5f5b96bc506ae45d"),
        channels=3, is_mirrored=True, licence="CC-BY-NC-4.0",
    ),
    _Set(
        "OCTMNIST", 97_477, 1_000,
        ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
        ("c68d92d5b585d8d81f7112f81e2d0842", "e229e9440236b774d9f0dfef9d07bdaf",
         "0a97e76651ace45c5d943ee3f65b63ae", "abc493b6d529d5de7569faaef2773ba3"),
    ),
    _Set(
        "PneumoniaMNIST", 4_708, 624, ("normal", "pneumonia"),
        ("28209eda62fecd6e6a2d98b1501bb15f", "8f4eceb4ccffa70c672198ea285246c6",
         "05b46931834c231683c68f40c47b2971", "d6a3c71de1b945ea11211b03746c1fe1"),
    ),
    _Set(
        "RetinaMNIST", 1_080, 400, ("grade 0", "grade 1", "grade 2", "grade 3", "grade 4"),
        ("bd4c0672f1bba3e3a89f0e4e876791e4", "afda852cc34dcda56f86ad2b2457dbcc",
         "e48e916a24454daf90583d4e6efb1a18", "eae7e3b6f3fcbda4ae613ebdcbe35348"),
        channels=3,
    ),
    _Set(
        "BreastMNIST", 546, 156, ("malignant", "normal or benign"),
        ("750601b1f35ba3300ea97c75c52ff8f6", "742edef2a1fd1524b2efff4bd7ba9364",
         "363e4b3f8d712e9b5de15470a2aaadf1", "b56378a6eefa9fed602bb16d192d4c8b"),
    ),
    _Set(
        "BloodMNIST", 11_959, 3_421,
        ("basophil", "eosinophil", "erythroblast", "immature granulocyte", "lymphocyte",
         "monocyte", "neutrophil", "platelet"),
        ("7053d0359d879ad8a5505303e11de1dc", "2b94928a2ae4916078ca51e05b6b800b",
         "adace1e0ed228fccda1f39692059dd4c", "b718ff6835fcbdb22ba9eacccd7b2601"),
        channels=3, is_mirrored=True,
    ),
    _Set(
        "TissueMNIST", 165_466, 47_280,
        ("collecting duct or connecting tubule", "distal convoluted tubule",
         "glomerular endothelial cell", "interstitial endothelial cell", "leukocyte", "podocyte",
         "proximal tubule segment", "thick ascending limb"),
        ("ebe78ee8b05294063de985d821c1c34b", "123ece2eba09d0aa5d698fda57103344",
         "61b955355d7425a89687b06cca3ce0c2", "b077128c4a949f0a4eb01517f9037b9c"),
        is_mirrored=True,
    ),
    _Set(
        "OrganAMNIST", 34_561, 17_778, ORGANS,
        ("68e3f8846a6bd62f0c9bf841c0d9eacc", "2dcccc29b88e6da5a01161ef20cda288",
         "eeae80d0a227a8d099027e1b3cfd3b60", "50747347e05c87dd3aaf92c49f9f3170"),
    ),
    _Set(
        "OrganCMNIST", 12_975, 8_216, ORGANS,
        ("b9ceb9546e10131b32923c5bbeaea2b1", "3ce34a8724ea6f548e6db4744d03b6a9",
         "773c1f009daa3fe5d9a2a201b2a7ed94", "050f5e875dc056f6768abf94ec9995d1"),
    ),
    _Set(
        "OrganSMNIST", 13_932, 8_827, ORGANS,
        ("9ab87b696fb54e2a387ebe992d6ed5f1", "53a6d115339d874c25e309a994ff46d3",
         "ded0c5fa01a95dc4978b956f613e9b8e", "b354719e553fbbb2513d5533f52a4cb1"),
    ),
    _Set(
        "OrganMNIST3D", 971, 610, ORGANS_3D,
        ("a0c5a1ff56af4f155c46d46fbb45a2fe", "58a2205adf14a9d0a189cb06dc78bf10"),
    ),
    _Set(
        "NoduleMNIST3D", 1_158, 310, ("benign", "malignant"),
        ("8755a7e9e05a4d9ce80a24c3e7a256f3", "c47c5b7d457bf6332200d2ea6d64ecd8"),
    ),
    _Set(
        "AdrenalMNIST3D", 1_188, 298, ("normal", "hyperplasia"),
        ("bbd3c5a5576322bc4cdfea780653b1ce", "17721accfe9fb005146a47d33bc54b2f"),
    ),
    _Set(
        "FractureMNIST3D", 1_027, 240,
        ("buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"),
        ("6aa7b0143a6b42da40027a9dda61302f", "f01d7e6316aedf4210da0da5b7437b42"),
    ),
    _Set(
        "VesselMNIST3D", 1_335, 382, ("vessel", "aneurysm"),
        ("b41fd4f7e7e2feedddb201585ecafa1b", "6bb274a8846e1097066dcd64e2c4520f"),
    ),
    _Set(
        "SynapseMNIST3D", 1_230, 352, ("inhibitory synapse", "excitatory synapse"),
        ("1235b78a3cd6280881dd7850a78eadb6", "43bd14ebf3af9d3dd072446fedc14d5e"),
    ),
)  # fmt: skip


def medmnist_sets() -> Iterator[DatasetInfo]:
    """Yield the sets at 28 pixels, each followed by its version 2 where that differs."""
    for item in SETS:
        yield _at(item, SIDE)
        if item.name in OLDER:
            yield _older(item)


def larger_sets() -> Iterator[DatasetInfo]:
    """Yield the sets with larger sides, named as their files: ``pathmnist_224``."""
    for item in SETS:
        for side in SIDES[1 : len(item.md5s)]:
            yield _at(item, side)


def _at(item: _Set, side: int) -> DatasetInfo:
    name = item.name if side == SIDE else f"{item.name}_{side}"
    archive = Archive(f"{RECORD}/files/{name}.npz?download=1", item.md5s[SIDES.index(side)])
    return DatasetInfo(
        name, item.title, item.classes, item.channels, side, side, item.n_train, item.n_test,
        item.licence, RECORD, is_mirrored=item.is_mirrored, archive=archive,
        depth=side if item.name.endswith("3d") else None,
    )  # fmt: skip


def _older(item: _Set) -> DatasetInfo:
    n_train, n_test, md5 = OLDER[item.name]
    return replace(
        _at(item, SIDE),
        name=f"{item.name}-v2",
        title=f"{item.title}, version 2",
        n_train=n_train,
        n_test=n_test,
        source=OLDER_RECORD,
        archive=Archive(f"{OLDER_RECORD}/files/{item.name}.npz?download=1", md5),
    )


def versions(flag: str) -> dict[int, str]:
    """Return which version has how many training images, for a set that versions differ in."""
    if flag not in OLDER:
        return {}
    newer = next(item.n_train for item in SETS if item.name == flag)
    return {OLDER[flag][0]: "v2", newer: "v3"}
