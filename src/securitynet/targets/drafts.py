"""A draft of a card, measured from a checkpoint; what a file cannot tell stays null."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from securitynet.catalogue.cards import InputSpec, ModelCard, Weights
from securitynet.errors import UsageError
from securitynet.targets.architectures import BUILD_ERRORS, n_parameters
from securitynet.targets.build import build_module
from securitynet.targets.onnx_graph import read_graph, session_of
from securitynet.targets.signatures import Match, Shapes, recognise, shapes_of
from securitynet.weights.door import Opened, open_checkpoint
from securitynet.weights.inspect import scan
from securitynet.weights.onnx_session import ONNX
from securitynet.weights.strict import check

MOST = 6
"""Architectures that are tried out on numbers, where several have the same tensors."""
SIDES = {"securitynet": 32, "pytorchcv": 32}
SIDE = 224
HEADS = ("fc", "head", "classifier", "linear", "output", "logits", "last_linear", "heads.head")
CLOSE = 1e-4


@dataclass(frozen=True)
class Draft:
    """What could be found out of a checkpoint.

    Attributes:
        card: The card as JSON; null where it has to be filled in.
        architectures: Every known architecture with exactly the file's tensors.
        n_tensors: Number of tensors in the file.
        advice: What is left to do, a line each.
    """

    card: dict[str, Any]
    architectures: tuple[str, ...]
    n_tensors: int
    advice: tuple[str, ...]


def draft_card(file: Path) -> Draft:
    """Take a checkpoint through the door and draft its card.

    Raises:
        ResourceError: If there is no such file.
        IntegrityError: If it is damaged or holds no state dict.
        UnsafeFileError: If it could run code or cannot be decided.
        RefusedError: If an ONNX graph is not one from pictures to scores.
    """
    weights = Weights(path=file.name)
    opened = open_checkpoint(weights, folder=str(file.resolve().parent), where=str(file))
    if opened.format == ONNX:
        return _draft_onnx(file, opened)
    with safe_open(str(opened.path), framework="numpy") as tensors:
        names = list(tensors.keys())
        shapes = shapes_of((name, tensors.get_slice(name).get_shape()) for name in names)
    fitting = [match for match in recognise(shapes) if _fits(match, shapes)]
    groups = _alike(fitting, opened)
    chosen = groups[0][0] if len(groups) == 1 else None
    card = {
        "name": file.stem,
        "dataset": None,
        "num_classes": chosen.num_classes if chosen else _agreed(fitting, shapes),
        "architecture": chosen.architecture if chosen else None,
        "input": {
            "channels": chosen.channels if chosen else _channels(shapes),
            "height": None, "width": None, "mean": None, "std": None,
        },
        "weights": _weights(file, opened),
        "params": n_parameters(shape_module(chosen)) if chosen else None,
    }  # fmt: skip
    found = tuple(match.architecture for match in fitting)
    named = [" = ".join(match.architecture for match in group) for group in groups]
    return Draft(card, found, len(names), tuple(_advice(card, named)))


def _weights(file: Path, opened: Opened) -> dict[str, Any]:
    return {
        "path": file.name, "checksum": opened.sha256, "checksum_algorithm": "sha256",
        "bytes": file.stat().st_size, "format": opened.format,
        "state_key": opened.state_key or None, "licence": None,
    }  # fmt: skip


def _draft_onnx(file: Path, opened: Opened) -> Draft:
    """Draft the card of an ONNX model from what its graph says of its ends.

    Its parameters are not counted: exporters fold some of them into others.

    Raises:
        RefusedError: If it is not a graph from one picture to scores.
    """
    graph = read_graph(session_of(opened, where=str(file)), str(file))
    channels, height, width = graph.picture or (None, None, None)
    card = {
        "name": file.stem,
        "dataset": None,
        "num_classes": graph.num_classes,
        "architecture": ONNX,
        "input": {
            "channels": channels, "height": height, "width": width, "mean": None, "std": None,
        },
        "weights": _weights(file, opened),
        "params": None,
    }  # fmt: skip
    tensors = scan(opened.path).tensors
    return Draft(card, (ONNX,), tensors.count if tensors else 0, tuple(_advice(card, [])))


def contribution(draft: Draft, url: str) -> Draft:
    """Return a draft in the form of a contributed card: public address, claims to be filled in.

    Args:
        draft: Of the very file that lies at ``url``.
        url: Its public address.
    """
    name = re.sub(r"[^a-z0-9.]+", "-", str(draft.card["name"]).lower()).strip("-.") or "model"
    measured = dict(draft.card["weights"])
    del measured["path"]
    card = {
        "id": f"community/{name}", "provider": "community", **draft.card, "name": name,
        "weights": {"url": url, **measured, "licence_source": None},
        "publication": None,
        "claims": [{"metric": "test_accuracy", "value": None, "source": None, "n": None}],
        "status": "verified",
    }  # fmt: skip
    advice = (
        *draft.advice,
        "weights.licence_source: where it was read: hub, code or file",
        "claims: source is the https address that states the figure; without one delete the claim",
        "then check it: securitynet add model CARD.json --links",
    )
    return replace(draft, card=card, advice=advice)


def blank_module(match: Match) -> nn.Module:
    """Build an architecture for a number of classes and channels, with whatever weights."""
    side = SIDES.get(match.architecture.partition("/")[0], SIDE)
    card = ModelCard(
        id=match.architecture, provider="local", name="draft", dataset="unknown",
        num_classes=match.num_classes, architecture=match.architecture,
        input=InputSpec(match.channels, side, side), weights=Weights(),
    )  # fmt: skip
    return build_module(card)


@lru_cache(maxsize=MOST)
def shape_module(match: Match) -> nn.Module:
    """Build an architecture without memory for its parameters; the same one if asked again.

    Raises:
        UsageError: If it cannot be built.
    """
    try:
        with torch.device("meta"):
            return blank_module(match)
    except (UsageError, NotImplementedError):  # its constructor reads numbers from tensors
        with _weightless():
            return blank_module(match)


@contextlib.contextmanager
def _weightless() -> Iterator[None]:
    """Let every parameter lose its memory as soon as a module has it, before it is filled."""
    register = nn.Module.register_parameter

    def register_empty(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        register(module, name, param)
        if param is not None:
            empty = nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)
            module._parameters[name] = empty

    module_class: Any = nn.Module
    module_class.register_parameter = register_empty
    try:
        yield
    finally:
        module_class.register_parameter = register


def _fits(match: Match, shapes: Shapes) -> bool:
    """Build it and compare every name and shape: the table may be of another library's release."""
    try:
        state = shape_module(match).state_dict()
    except UsageError:
        return False
    return shapes_of((name, tensor.shape) for name, tensor in state.items()) == dict(shapes)


def _alike(fitting: Sequence[Match], opened: Opened) -> list[list[Match]]:
    """Group those that give the same outputs; too many to try stay apart."""
    if not 1 < len(fitting) <= MOST:
        return [[match] for match in fitting]
    outputs = _outputs(fitting, load_file(str(opened.path)))
    groups: list[tuple[Tensor | None, list[Match]]] = []
    for match, output in zip(fitting, outputs, strict=True):
        same = (group for other, group in groups if _is_close(output, other))
        group = next(same, None)
        if group is None:
            groups.append((output, [match]))
        else:
            group.append(match)
    return [group for _, group in groups]


def _is_close(output: Tensor | None, other: Tensor | None) -> bool:
    if output is None or other is None or output.shape != other.shape:
        return False
    return bool((output - other).abs().max() <= CLOSE * output.abs().max())


def _outputs(fitting: Sequence[Match], tensors: dict[str, Tensor]) -> Iterator[Tensor | None]:
    """Yield the logits of the same random pictures; ``None`` of a network that cannot take them."""
    sizes = {side for side in (_side(shape_module(match)) for match in fitting) if side}
    side = min(sizes) if sizes else SIDES.get(fitting[0].architecture.partition("/")[0], SIDE)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(2, fitting[0].channels, side, side, generator=generator)
    for match in fitting:  # one at a time: they may be large
        module = blank_module(match).eval()
        if check(module.state_dict(), tensors):
            yield None
            continue
        module.load_state_dict(tensors, strict=False)
        try:
            with torch.inference_mode():
                yield module(pictures)
        except BUILD_ERRORS:
            yield None


def _side(module: nn.Module) -> int | None:
    """Return the side of the pictures that a timm network was made for."""
    known = getattr(module, "default_cfg", None)
    size = known.get("input_size") if isinstance(known, dict) else None
    return int(size[-1]) if size else None


def _agreed(fitting: Sequence[Match], shapes: Shapes) -> int | None:
    """Return the number of classes of all that fit, or of the one layer that is called a head."""
    if fitting:
        return fitting[0].num_classes if len({m.num_classes for m in fitting}) == 1 else None
    heads = [
        shape[0]
        for name, shape in shapes.items()
        if len(shape) == 2
        and name.removesuffix(".weight") in HEADS
        and shapes.get(name.removesuffix("weight") + "bias") == shape[:1]
    ]
    return heads[0] if len(heads) == 1 and heads[0] >= 2 else None


def _channels(shapes: Shapes) -> int | None:
    """Return 3 if a convolution reads three channels; one channel looks like a depthwise layer."""
    return 3 if any(len(shape) == 4 and shape[1] == 3 for shape in shapes.values()) else None


def _advice(card: dict[str, Any], kinds: Sequence[str]) -> Iterator[str]:
    if card["architecture"] is None and kinds:
        some = "; ".join(kinds[:MOST]) + (" ..." if len(kinds) > MOST else "")
        yield f"architecture: {len(kinds)} kinds have exactly these tensors; choose: {some}"
    elif card["architecture"] is None:
        yield (
            "architecture: no known one has exactly these tensors; give library/name with options, "
            "a list of layers, or file.py:function"
        )
    yield "dataset: the training set, a name of `securitynet list datasets` or a folder's"
    if card["num_classes"] is None:
        yield "num_classes: the number of outputs"
    if card["input"]["channels"] is None:
        yield "input.channels: 1 or 3"
    if card["input"]["height"] is None or card["input"]["width"] is None:
        yield "input.height, input.width: of the pictures it was trained on"
    yield "input.mean, input.std: of the training code, for pixels in [0, 1]; left null: none"
    yield "weights.licence: the SPDX id that its author states"
    yield "claims: the accuracy that its author reports; the run compares it first"
