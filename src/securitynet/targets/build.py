"""From a card to a target: build the architecture, open the weights, load strictly."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from securitynet.catalogue.cards import ModelCard
from securitynet.datasets.images import Part
from securitynet.errors import SecurityNetError, UsageError, unknown_id
from securitynet.targets.architectures import BUILD_ERRORS, cifar_resnet, layer_list
from securitynet.targets.architectures_published import PUBLISHED, published
from securitynet.targets.engine import Engine, default_device
from securitynet.targets.left_out import why_not
from securitynet.targets.names import fit_names
from securitynet.targets.networks import NETWORKS, build_network
from securitynet.targets.normalisation import GROUP, with_group_norm
from securitynet.targets.onnx_graph import load_onnx
from securitynet.targets.target import OutputCache, Target
from securitynet.weights.door import open_checkpoint
from securitynet.weights.onnx_session import ONNX
from securitynet.weights.strict import load_into


def load_target(
    card: ModelCard,
    *,
    trust: Path | None = None,
    device: torch.device | None = None,
    cache: Path | None = None,
    part: Part | None = None,
) -> Target:
    """Open a card's checkpoint through the door and return it as a target.

    Args:
        card: The model's card.
        trust: An architecture file of the user's own that may be executed.
        device: Where to run; CUDA if there is one.
        cache: Folder for cached outputs.
        part: Ask for the classes of this part of its data set only.

    Raises:
        UsageError: If the architecture cannot be built.
        UnsafeFileError: If the door refuses the file.
        IntegrityError: If bytes or tensors are not what the card says.
        ResourceError: If the file cannot be had, or needs an extra that is not installed.
        RefusedError: If an ONNX graph is not one from pictures to scores.
    """
    where = device or default_device()
    is_exported = card.architecture == ONNX
    opened = load_onnx(card, where) if is_exported else load_module(card, trust=trust)
    engine, sha256 = Engine(opened[0], card.input, where), opened[1]
    if part is not None:
        engine.choose(part.labels, part.num_classes)
    return Target(engine, card, sha256, cache=OutputCache(cache), part=part)


def load_module(card: ModelCard, *, trust: Path | None = None) -> tuple[nn.Module, str]:
    """Open a card's checkpoint through the door and return the trained module on the CPU.

    Returns:
        The module from normalised inputs to logits, and the checkpoint's sha256.

    Raises:
        SecurityNetError: As :func:`load_target`.
    """
    opened = open_checkpoint(card.weights, folder=card.folder, where=card.id)
    if opened.format == ONNX != card.architecture:
        raise UsageError(
            "the file is an ONNX model, which brings its own architecture",
            where=card.id,
            hint=f'give "architecture": "{ONNX}" in the card',
        )
    module = build_module(card, trust=trust)
    load_into(module, opened, where=card.id, rename=partial(fit_names, card=card))
    return module, opened.sha256


def build_module(card: ModelCard, *, trust: Path | None = None) -> nn.Module:
    """Build a card's architecture with fresh weights: normalised inputs to logits ``[n, K]``.

    Raises:
        UsageError: If the architecture is unknown or needs ``--trust``.
    """
    reason = why_not(card)
    if reason is not None:
        raise UsageError(f"cannot be loaded: {reason}", where=card.id)
    architecture = card.architecture
    if architecture == ONNX:
        raise UsageError("an ONNX model gives scores only, no module to train", where=card.id)
    if isinstance(architecture, tuple):
        return layer_list(architecture, where=card.id)
    name, options = _named(architecture, card.id)
    is_group = _is_group_norm(architecture, card.id)
    forbidden = LOADING.intersection(options)
    if forbidden:
        raise UsageError(
            f"option {min(forbidden)!r} would load weights past the door",
            where=card.id,
            hint="name the checkpoint in the card's weights",
        )
    if ".py:" in name:
        _refuse_options(name, options)
        built = _own_file(name, card, trust)
        return with_group_norm(built) if is_group else built
    library, _, variant = name.partition("/")
    if library not in LIBRARIES or not variant:
        raise UsageError(
            f"unknown architecture {name!r}",
            where=card.id,
            hint=f"give one of {', '.join(LIBRARIES)} as library/name, a layer list, or "
            "file.py:function with --trust",
        )
    try:
        built = LIBRARIES[library](variant, card, dict(options))
        return with_group_norm(built) if is_group else built
    except SecurityNetError as error:
        raise UsageError(error.what, where=card.id, hint=error.hint) from None
    except BUILD_ERRORS as error:
        reason = str(error) or f"{type(error).__name__}: does it take these classes and options?"
        raise UsageError(f"cannot build {name}: {reason}", where=card.id) from None


def _named(architecture: str | Mapping[str, Any], where: str) -> tuple[str, Mapping[str, Any]]:
    if isinstance(architecture, str):
        return architecture, {}
    name, options = architecture.get("name"), architecture.get("options", {})
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise UsageError('architecture needs {"name": ..., "options": {...}}', where=where)
    return name, options


LOADING = frozenset((
    "pretrained", "pretrained_backbone", "pretrained_cfg", "pretrained_cfg_overlay",
    "checkpoint_path", "weights", "weights_backbone",
))  # fmt: skip
"""Options of the libraries that read or download weights by themselves."""


def _is_group_norm(architecture: str | Mapping[str, Any], where: str) -> bool:
    """Return whether the card's batch normalisations are group normalisations."""
    norm = architecture.get("norm") if isinstance(architecture, Mapping) else None
    if norm not in (None, GROUP):
        raise UsageError(
            f"architecture has norm {norm!r}", where=where, hint=f'give "{GROUP}", or leave it out'
        )
    return norm == GROUP


def _refuse_options(name: str, options: Mapping[str, Any]) -> None:
    if options:
        raise UsageError(f"{name} takes no options, the card gives {', '.join(map(str, options))}")


TORCHVISION = {
    "googlenet": {"init_weights": False, "aux_logits": False},
    "inception_v3": {"init_weights": False},
}
"""Options that torchvision itself sets for its weights; fresh ones take minutes to draw."""
TRANSFORMING = frozenset(TORCHVISION)
"""Their published weights expect another normalisation, which the network does by itself."""


def _torchvision(name: str, card: ModelCard, options: dict[str, Any]) -> nn.Module:
    from torchvision import models

    _check_known("torchvision", name, models.list_models(module=models))  # classifiers only
    given = {"num_classes": card.num_classes, **TORCHVISION.get(name, {}), **options}
    if card.provider == "torchvision" and name in TRANSFORMING:
        given = {"transform_input": True, **given}
    return _module(models.get_model(name, weights=None, **given))


def _timm(name: str, card: ModelCard, options: dict[str, Any]) -> nn.Module:
    import timm

    _check_known("timm", name.split(".")[0], timm.list_models())
    given = {"num_classes": card.num_classes, "in_chans": card.input.channels, **options}
    return _module(timm.create_model(name, pretrained=False, **given))


def _pytorchcv(name: str, card: ModelCard, options: dict[str, Any]) -> nn.Module:
    from pytorchcv.model_provider import _models, get_model

    _check_known("pytorchcv", name, _models)
    given = {"num_classes": card.num_classes, "in_channels": card.input.channels, **options}
    return _module(get_model(name, pretrained=False, **given))


def _securitynet(name: str, card: ModelCard, options: dict[str, Any]) -> nn.Module:
    if name in PUBLISHED:
        return published(name, card.num_classes, card.input.channels, options)
    _refuse_options(f"securitynet/{name}", options)
    if name in NETWORKS:
        spec, n_classes = card.input, card.num_classes
        return build_network(
            name, channels=spec.channels, sides=spec.sides, num_classes=n_classes, seed=0
        )
    return cifar_resnet(name, num_classes=card.num_classes, channels=card.input.channels)


LIBRARIES: dict[str, Callable[[str, ModelCard, dict[str, Any]], nn.Module]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "pytorchcv": _pytorchcv,
    "securitynet": _securitynet,
}
"""Where named architectures come from; weights are never loaded by these libraries."""


def _check_known(library: str, name: str, known: Iterable[str]) -> None:
    names = list(known)
    if name not in names:
        raise unknown_id(f"{library} architecture", name, names, listing=f"{library}'s own list")


def _module(built: object) -> nn.Module:
    if not isinstance(built, nn.Module):
        raise UsageError(f"the architecture is a {type(built).__name__}, not a torch module")
    return built


def _own_file(name: str, card: ModelCard, trust: Path | None) -> nn.Module:
    """Execute the user's own architecture file, only if the user named it with ``--trust``."""
    file, _, function = name.rpartition(":")
    path = (Path(card.folder or ".") / file).resolve()
    if trust is None or trust.resolve() != path:
        raise UsageError(
            f"the architecture is code in {path.name}, which would be executed",
            where=card.id,
            hint=f"read it, then give --trust {path}",
        )
    spec = importlib.util.spec_from_file_location("securitynet_trusted", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UsageError("no such Python file", where=path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    build = getattr(module, function, None)
    if not callable(build):
        raise UsageError(f"has no function {function!r}", where=path)
    return _module(build())
