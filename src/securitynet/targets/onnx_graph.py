"""An ONNX model as a classifier: onnxruntime computes its answers; no weights, no gradients."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from securitynet.catalogue.cards import InputSpec, ModelCard
from securitynet.errors import IntegrityError, RefusedError, UsageError
from securitynet.weights.door import Opened, open_checkpoint
from securitynet.weights.onnx_session import (
    ONNX,
    open_session,
    read_checked,
    runtime,
    runtime_errors,
)

log = logging.getLogger(__name__)

FLOATS = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
}  # fmt: skip
FLAT, CHANNELS_FIRST, CHANNELS_LAST = "flat", "NCHW", "NHWC"
CHANNELS = (1, 3)
N_TRIED = 2
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Graph:
    """What a graph says of its ends.

    Attributes:
        input: Name of the one input.
        kind: Its type, e.g. ``tensor(float)``.
        shape: Its sides, batch first; ``None`` = open.
        outputs: Names and shapes of the outputs that hold floating point numbers, in order.
    """

    input: str
    kind: str
    shape: Shape
    outputs: dict[str, Shape]

    @property
    def num_classes(self) -> int | None:
        """The last side of the only output, where the graph says it."""
        shapes = [tuple(side for side in shape[1:] if side != 1) for shape in self.outputs.values()]
        return shapes[0][0] if len(shapes) == 1 and len(shapes[0]) == 1 else None

    @property
    def picture(self) -> tuple[int | None, int | None, int | None] | None:
        """Channels, height and width; ``None`` where the graph's shape does not tell them apart."""
        sides = self.shape[1:]
        if len(sides) != 3 or (sides[0] in CHANNELS) == (sides[2] in CHANNELS):
            return None
        first, second, third = sides
        return (first, second, third) if first in CHANNELS else (third, first, second)

    def layout(self, spec: InputSpec) -> str | None:
        """Return how pictures of this size are given to it, ``None`` if they do not fit."""
        channels, height, width = spec.channels, spec.height, spec.width
        shapes = {
            CHANNELS_FIRST: (channels, height, width),
            CHANNELS_LAST: (height, width, channels),
            FLAT: (channels * height * width,),
        }
        fitting = (name for name, sides in shapes.items() if _fits(self.shape[1:], sides))
        return next(fitting, None)


def read_graph(session: Any, where: str) -> Graph:
    """Read the ends of a session's graph.

    Raises:
        RefusedError: If it is not a graph from one picture's numbers to scores.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise _refusal(f"the graph has {len(inputs)} inputs, a classifier has one", where)
    given = inputs[0]
    if given.type not in FLOATS:
        raise _refusal(
            f"the graph takes {given.type}; pixels are given as floating point numbers", where
        )
    outputs = {
        item.name: _sides(item.shape) for item in session.get_outputs() if item.type in FLOATS
    }
    if not outputs:
        kinds = ", ".join(item.type for item in session.get_outputs())
        raise _refusal(f"the graph returns {kinds}: no tensor of scores", where)
    return Graph(given.name, given.type, _sides(given.shape), outputs)


class OnnxClassifier(nn.Module):
    """Maps normalised inputs ``[n, C, H, W]`` to what the graph returns; has no parameters.

    Graphs with a fixed batch are asked batch by batch, the last one filled up. So are those that
    leave the batch open and yet answer one picture at a time only, as some exporters write them.

    Args:
        session: The session of onnxruntime.
        graph: Its ends.
        spec: The card's input spec.
        where: The card's id.

    Attributes:
        facts: ``onnxruntime``, its version, and the ``provider`` that computes.
    """

    def __init__(self, session: Any, graph: Graph, spec: InputSpec, where: str) -> None:
        """Find the layout, and how many pictures are asked at a time."""
        super().__init__()
        layout = None if spec.depth is not None else graph.layout(spec)
        if layout is None:
            shown = " x ".join("?" if side is None else str(side) for side in graph.shape)
            raise _refusal(
                f"the graph takes {shown}, the card says pictures of {spec.channels} x "
                f"{spec.height} x {spec.width}",
                where,
            )
        self._session, self._graph, self._layout = session, graph, layout
        self._batch = graph.shape[0]
        self.facts: dict[str, str] = {
            "onnxruntime": str(runtime().__version__), "provider": session.get_providers()[0],
        }  # fmt: skip
        if self._batch is None and not self._takes_batches(spec):
            self._batch = 1

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxClassifier:
        """Return itself: a session does not change."""
        return self

    def forward(self, inputs: Tensor) -> Tensor | dict[str, Tensor]:
        """Return the graph's only output ``[n, K]``, or all of them by name."""
        images = self._arranged(inputs.detach().cpu().numpy())
        parts = [self._ask(part) for part in self._batches(images)]
        joined = (np.concatenate(arrays)[: len(images)] for arrays in zip(*parts, strict=True))
        tensors = [torch.from_numpy(array).to(inputs.device) for array in joined]
        return tensors[0] if len(tensors) == 1 else dict(
            zip(self._graph.outputs, tensors, strict=True)
        )  # fmt: skip

    def _arranged(self, images: NDArray[Any]) -> NDArray[Any]:
        if self._layout == CHANNELS_LAST:
            images = images.transpose(0, 2, 3, 1)
        elif self._layout == FLAT:
            images = images.reshape(len(images), -1)
        return np.ascontiguousarray(images, dtype=FLOATS[self._graph.kind])

    def _batches(self, images: NDArray[Any]) -> Iterator[NDArray[Any]]:
        size = self._batch or len(images)
        for start in range(0, len(images), size):
            part = images[start : start + size]
            missing = size - len(part)
            yield np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part

    def _ask(self, images: NDArray[Any]) -> list[NDArray[Any]]:
        try:
            found = self._session.run(list(self._graph.outputs), {self._graph.input: images})
        except runtime_errors() as error:
            text = " ".join(str(error).split())
            raise (MemoryError if "alloc" in text.lower() else RuntimeError)(text) from None
        return [_squeezed(array) for array in found]

    def _takes_batches(self, spec: InputSpec) -> bool:
        noise = np.random.default_rng(0).random((N_TRIED, spec.channels, spec.height, spec.width))
        try:
            found = self._ask(self._arranged(noise))
        except (RuntimeError, MemoryError) as error:
            log.debug("the graph does not take %d pictures: %s", N_TRIED, error)
            return False
        return all(len(array) == N_TRIED for array in found)


def load_onnx(card: ModelCard, device: torch.device) -> tuple[OnnxClassifier, str]:
    """Open a card's ONNX model through the door.

    Returns:
        The classifier, and the model's sha256.

    Raises:
        SecurityNetError: As :func:`securitynet.targets.build.load_target`.
        RefusedError: If its graph is not one from pictures to scores.
    """
    opened = open_checkpoint(card.weights, folder=card.folder, where=card.id)
    if opened.format != ONNX:
        raise UsageError(
            f"the file is {opened.format}, not an ONNX model",
            where=card.id,
            hint="name its architecture in the card",
        )
    session = session_of(opened, where=card.id, is_on_gpu=device.type == "cuda")
    return OnnxClassifier(session, read_graph(session, card.id), card.input, card.id), opened.sha256


def session_of(opened: Opened, *, where: str, is_on_gpu: bool = False) -> Any:
    """Make a session of a model that came through the door; uses CUDA if onnxruntime can.

    Raises:
        IntegrityError: If the cache was changed, or onnxruntime cannot open it after all.
    """
    model = read_checked(opened.path, opened.converted_sha256)
    has_gpu = is_on_gpu and "CUDAExecutionProvider" in runtime().get_available_providers()
    try:
        return open_session(model, n_threads=torch.get_num_threads(), is_on_gpu=has_gpu)
    except runtime_errors() as error:
        raise IntegrityError(f"onnxruntime cannot open it: {error}", where=where) from None


def _sides(shape: list[Any]) -> Shape:
    return tuple(side if isinstance(side, int) else None for side in shape)


def _fits(declared: Shape, sides: tuple[int, ...]) -> bool:
    """Return whether sides are those declared; an open side takes any."""
    return len(declared) == len(sides) and all(
        wanted in (None, side) for wanted, side in zip(declared, sides, strict=True)
    )


def _squeezed(array: NDArray[Any]) -> NDArray[Any]:
    """Drop sides of one after the classes: some networks end in a convolution."""
    is_map = array.ndim > 2 and set(array.shape[2:]) == {1}
    return array.reshape(array.shape[:2]) if is_map else array


def _refusal(what: str, where: str) -> RefusedError:
    hint = "correct the card, or export the model again"
    return RefusedError(what, where=where, hint=hint, flags=["preflight"])
