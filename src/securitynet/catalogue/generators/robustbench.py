"""The model zoo of RobustBench: adversarially and corruption-robust classifiers.

Sources: model records and zoo tables of RobustBench at 78fcc9e (MIT). The 30 records without
weights are left out. Preprocessing, release addresses and licences are of the same revision.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from securitynet.catalogue.generators.robustbench_architectures import Net, read_network
from securitynet.catalogue.generators.robustbench_facts import (
    FROM_TORCHVISION,
    LICENCES,
    PREPROCESSING,
    RELEASES,
)
from securitynet.catalogue.generators.robustbench_papers import publication
from securitynet.catalogue.schema import Claim, InputSpec, ModelCard, Weights
from securitynet.errors import ResourceError

REVISION = "78fcc9e48a07a861268f295a777b975f25155964"
TABLES = {"linf": "Linf", "l2": "L2", "common_corruptions": "corruptions"}
DATASETS = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet": "imagenet1k"}
N_CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
METRICS = {
    "clean_acc": "test_accuracy",
    "autoattack_acc": "robust_accuracy",
    "reported": "robust_accuracy_reported",
    "external": "robust_accuracy_external",
    "corruptions_acc": "corruption_accuracy",
    "corruptions_acc_3d": "corruption_3d_accuracy",
    "corruptions_mce": "corruption_mce",
    "corruptions_mce_3d": "corruption_3d_mce",
}
"""Field of a record, in percent -> metric, in [0, 1] (mCE over that of AlexNet may exceed 1)."""
N_EXAMPLES = {"cifar10": 10_000, "cifar100": 10_000, "imagenet": 5_000}
"""Test images that the benchmark runs on."""
EPS = {"0.031": "8/255"}
"""Budgets written as rounded numbers."""
_FAMILIES = (
    ("wideresnet", "wrn"), ("wide resnet", "wrn"), ("preact", "preresnet"), ("resnext", "resnext"),
    ("resnest", "resnest"), ("resnet", "resnet"), ("xcit", "xcit"), ("swin", "swin"),
    ("convnext", "convnext"), ("vit", "vit"), ("deit", "deit"), ("alexnet", "alexnet"),
)  # fmt: skip


class Entry(NamedTuple):
    """A model of the zoo: its place, its record, the network it names and its Drive ids."""

    dataset: str
    threat: str
    name: str
    record: dict[str, Any]
    expression: str
    drive_ids: list[str]


def generate(facts: Path | None) -> list[ModelCard]:
    """Return the 206 cards of models with weights.

    Raises:
        ResourceError: If the facts are not there.
    """
    folder = None if facts is None else facts / "robustbench"
    if folder is None or not folder.is_dir():
        raise ResourceError(
            "RobustBench's records are not there", where=folder, hint="give their folder: --facts"
        )
    records = json.loads((folder / "model_info.json").read_text(encoding="utf-8"))
    zoo = json.loads((folder / "zoo.json").read_text(encoding="utf-8"))
    entries = [_entry(line, records) for line in zoo if line["table"] in TABLES]
    uses = Counter(tuple(entry.drive_ids) for entry in entries)
    return [_card(entry, uses) for entry in entries]


def _entry(line: dict[str, Any], records: dict[str, Any]) -> Entry:
    dataset, threat, name = line["dataset"], TABLES[line["table"]], line["name"]
    ids = line["gdrive_id"] or []
    record = records[f"{dataset}/{threat}/{name}.json"]
    return Entry(
        dataset, threat, name, record, line["architecture_expression"],
        [ids] if isinstance(ids, str) else ids,
    )  # fmt: skip


def _card(entry: Entry, uses: Counter[tuple[str, ...]]) -> ModelCard:
    name = f"{entry.dataset}/{entry.threat}/{entry.name}"
    n_classes = N_CLASSES[entry.dataset]
    net = read_network(entry.expression, n_classes, entry.record["architecture"])
    count, spec = net.size, _input(net, entry)
    return ModelCard(
        id=f"robustbench/{name}",
        provider="robustbench",
        name=name,
        dataset=DATASETS[entry.dataset],
        num_classes=n_classes,
        architecture=_architecture(net, entry),
        input=spec,
        weights=_weights(entry),
        family=family(entry.record["architecture"]),
        params=count.params if count else None,
        macs=count.macs if count and spec.height in (32, 224) else None,
        pretraining=None if entry.record["additional_data"] else (),
        threat_model=threat_model(entry),
        origin="security",
        publication=publication(entry.record),
        claims=tuple(_claims(entry)),
        flags=tuple(_flags(entry, uses)),
        code_licence="MIT",
    )


def _architecture(net: Net, entry: Entry) -> str | dict[str, Any]:
    if len(entry.drive_ids) > 1:
        return {"name": str(net.architecture), "options": {"files": entry.drive_ids}}
    return net.architecture


def _input(net: Net, entry: Entry) -> InputSpec:
    if entry.dataset != "imagenet":
        return InputSpec(3, 32, 32, mean=net.mean, std=net.std)
    side, resize, interpolation = PREPROCESSING.get(entry.name, (224, 256, "bilinear"))
    return InputSpec(
        3, side, side, mean=net.mean, std=net.std, resize=resize, interpolation=interpolation
    )


def _weights(entry: Entry) -> Weights:
    licence = LICENCES.get(next((key for key in LICENCES if _is_covered(key, entry)), ""), "MIT")
    known = Weights(licence=licence, licence_source="code", revision=REVISION)
    name = f"{entry.dataset}/{entry.threat}/{entry.name}"
    if entry.drive_ids:
        url = f"https://drive.google.com/uc?export=download&id={entry.drive_ids[0]}"
        return replace(known, url=url)
    if name in RELEASES:
        return replace(known, url=RELEASES[name])
    return _torchvision_weights(FROM_TORCHVISION[name])


def _is_covered(key: str, entry: Entry) -> bool:
    datasets, threats, beginning = key.split()
    is_in = entry.dataset in datasets.split("/") and entry.threat in threats.split("/")
    if beginning.endswith("*"):
        return is_in and entry.name.startswith(beginning[:-1])
    return is_in and entry.name == beginning


def _torchvision_weights(entry: str) -> Weights:
    from torchvision import models

    url = models.get_weight(entry).url
    found = re.search(r"-([0-9a-f]{8})\.pth$", url)
    return Weights(
        url=url,
        checksum=found.group(1) if found else None,
        checksum_algorithm="sha256-prefix" if found else None,
        licence="BSD-3-Clause",
        licence_source="presumed",
    )


def family(label: str) -> str:
    """Return the family of an architecture's label, the label's first word if it is odd."""
    lower = label.lower()
    fitting = [name for part, name in _FAMILIES if part in lower]
    return fitting[0] if fitting else re.split(r"[-_ ]", lower.replace("5-layer-", ""))[0]


def threat_model(entry: Entry) -> str | None:
    """Return what a model was hardened against, ``None`` for the plain baselines."""
    if entry.name.startswith("Standard") or entry.name == "AlexNet":
        return None
    if entry.threat == "corruptions":
        return "corruptions"
    eps = entry.record["eps"]
    return f"{entry.threat} {EPS.get(eps, eps)}" if eps else entry.threat


def _claims(entry: Entry) -> list[Claim]:
    claims = []
    for field, metric in METRICS.items():
        value = _share(entry.record.get(field))
        if value is not None:
            n = N_EXAMPLES[entry.dataset] if field in ("clean_acc", "autoattack_acc") else None
            claims.append(Claim(metric, value, "robustbench", n=n, revision=REVISION))
    return claims


def _share(percent: Any) -> float | None:
    text = str(percent).strip()
    return float(Decimal(text) / 100) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else None


def _flags(entry: Entry, uses: Counter[tuple[str, ...]]) -> list[str]:
    record, name = entry.record, f"{entry.dataset}/{entry.threat}/{entry.name}"
    is_shared = bool(entry.drive_ids) and uses[tuple(entry.drive_ids)] > 1
    is_flagged = {
        "unreliable-autoattack": record.get("unreliable") is True,
        "extra-data": bool(record["additional_data"]),
        "ensemble": len(entry.drive_ids) > 1,
        "shared-weights": is_shared or name in FROM_TORCHVISION,
        "several-forward-passes": record["number_forward_passes"] not in (1, "1"),
    }
    return [flag for flag, is_so in is_flagged.items() if is_so]
