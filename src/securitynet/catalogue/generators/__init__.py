"""One module a provider: what it publishes, as cards. Provider packages are imported late."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import cast

from securitynet.catalogue.schema import ModelCard

Generate = Callable[[Path | None], list[ModelCard]]


def _late(name: str) -> Generate:
    """Return a provider's ``generate``; its module is imported when it is called."""

    def generate(facts: Path | None) -> list[ModelCard]:
        module = import_module(f"securitynet.catalogue.generators.{name}")
        return cast(Generate, module.generate)(facts)

    return generate


GENERATORS: dict[str, Generate] = {
    "torchvision": _late("torchvision"),
    "pytorchcv": _late("pytorchcv"),
    "timm": _late("timm"),
    "medmnist": _late("medmnist"),
    "robustbench": _late("robustbench"),
    "robust-models-transfer": _late("robust_models_transfer"),
    "ivrl": _late("adversary_loss_landscape"),
}
"""Table -> ``generate(facts)``: all cards of a provider, in any order.

``facts`` is a folder of data files that no package carries, or ``None``. A generator whose source
is not on this machine raises `ResourceError`, and its table is kept.
"""
