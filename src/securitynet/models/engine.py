"""Fast inference that keeps its answers: folded BatchNorm, channels-last, bf16 where it is native.

The fast path is used only after it has passed a parity check against plain fp32; otherwise
the engine falls back to plain fp32 and says so.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from securitynet.catalogue.cards import InputSpec
from securitynet.errors import RefusedError
from securitynet.models.transform import PixelInput

log = logging.getLogger(__name__)

MIN_AGREEMENT = 0.999
MAX_AUC_CHANGE = 1e-3
CPU_BATCHES = (32, 64, 128, 256)
CUDA_BATCH = 2048


def default_device() -> torch.device:
    """Return CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_native_bf16(device: torch.device) -> bool:
    """Return whether bf16 is computed in hardware; emulated bf16 is about 10x slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


@dataclass(frozen=True)
class Parity:
    """Outcome of the check of the fast path against plain fp32 on the same images.

    Attributes:
        precision: The mode in use after the check: ``bf16``, ``fp32`` (folded) or ``fp32-plain``.
        label_agreement: Share of equal labels, of the mode in use.
        auc_change: |change| of the confidence AUC between two halves of the sample.
        n: Number of images.
    """

    precision: str
    label_agreement: float
    auc_change: float
    n: int

    @property
    def is_fallback(self) -> bool:
        """Whether the fast path was given up."""
        return self.precision == "fp32-plain"


class Engine:
    """Runs one frozen classifier over many images.

    Args:
        classifier: Module from normalised inputs to logits ``[n, K]``, with its weights.
        spec: How pixels become the classifier's input.
        device: Where to run.
    """

    def __init__(self, classifier: nn.Module, spec: InputSpec, device: torch.device) -> None:
        """Freeze the classifier and put the pixel transform in front of it."""
        self.device = device
        self.plain = _frozen(PixelInput(spec), classifier).to(device)
        folded = _frozen(PixelInput(spec), _folded(classifier))
        self.fast: nn.Module = folded.to(device).to(memory_format=torch.channels_last)
        self.precision = "bf16" if has_native_bf16(device) else "fp32"
        self.parity: Parity | None = None
        self._batch: int | None = None

    def run(self, pixels: Callable[[int, int], Tensor], n: int) -> NDArray[np.float32]:
        """Compute logits of ``n`` images read in batches.

        Args:
            pixels: ``pixels(start, stop)`` returns floats in [0, 1], ``[m, C, H, W]``.
            n: Number of images.

        Returns:
            Logits, float32 ``[n, K]``.
        """
        parts = [self._logits(self.fast, pixels(0, min(n, 1)), self.precision)[:0]]
        for start, stop in self._batches(pixels, n):
            parts.append(self._with_back_off(pixels(start, stop)))
        return np.concatenate(parts)

    def _batches(self, pixels: Callable[[int, int], Tensor], n: int) -> Iterator[tuple[int, int]]:
        if self._batch is None:
            self._batch = self._tune(pixels, n)
        start = 0
        while start < n:
            stop = min(n, start + self._batch)
            yield start, stop
            start = stop

    def _tune(self, pixels: Callable[[int, int], Tensor], n: int) -> int:
        """Time each batch size on the first images and keep the fastest."""
        if self.device.type != "cpu":
            return CUDA_BATCH
        if n < 8 * CPU_BATCHES[-1]:
            return CPU_BATCHES[1]
        seconds = {}
        for size in CPU_BATCHES:
            batch = pixels(0, size)
            self._logits(self.fast, batch[:8], self.precision)
            begin = time.perf_counter()
            self._logits(self.fast, batch, self.precision)
            seconds[size] = (time.perf_counter() - begin) / size
        return min(seconds, key=lambda size: seconds[size])

    def _with_back_off(self, batch: Tensor) -> NDArray[np.float32]:
        """Halve the batch until it fits in memory."""
        try:
            return self._logits(self.fast, batch, self.precision)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if len(batch) == 1 or not _is_out_of_memory(error):
                raise
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(batch) // 2
        self._batch = max(1, min(self._batch or half, half))
        log.info("out of memory: batch size lowered to %d", self._batch)
        halves = (batch[:half], batch[half:])
        return np.concatenate([self._with_back_off(part) for part in halves])

    def _logits(self, module: nn.Module, batch: Tensor, precision: str) -> NDArray[np.float32]:
        batch = batch.to(self.device)
        if self.device.type == "cuda" or module is self.fast:
            batch = batch.contiguous(memory_format=torch.channels_last)
        use_bf16 = precision == "bf16"
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=use_bf16),
        ):
            logits = as_logits(module(batch))
        return np.asarray(logits.float().cpu().numpy(), dtype=np.float32)

    def _in_chunks(self, module: nn.Module, batch: Tensor, precision: str) -> NDArray[np.float32]:
        parts = torch.split(batch, 128)
        return np.concatenate([self._logits(module, part, precision) for part in parts])

    def check_parity(
        self,
        first: Tensor,
        second: Tensor,
        first_labels: NDArray[np.int64],
        second_labels: NDArray[np.int64],
    ) -> Parity:
        """Compare the fast path with plain fp32 and fall back where they differ.

        Args:
            first: Pixels in [0, 1], ``[n, C, H, W]``, e.g. of members.
            second: The same of non-members.
            first_labels: True labels of ``first``, int64 ``[n]``.
            second_labels: True labels of ``second``.

        Returns:
            The outcome; ``precision`` of the engine is set to its mode.
        """
        batch = torch.cat([first, second])
        labels = np.concatenate([first_labels, second_labels])
        is_first = np.arange(len(labels)) < len(first_labels)
        plain = self._in_chunks(self.plain, batch, "fp32")
        for precision in dict.fromkeys((self.precision, "fp32")):
            fast = self._in_chunks(self.fast, batch, precision)
            parity = _compare(precision, plain, fast, labels, is_first)
            if _is_close(parity):
                break
        else:
            self.fast, parity = self.plain, Parity("fp32-plain", 1.0, 0.0, len(labels))
            log.warning("fast inference differs from plain fp32: falling back to plain fp32")
        self.precision = "bf16" if parity.precision == "bf16" else "fp32"
        self.parity = parity
        return parity


def as_logits(output: object) -> Tensor:
    """Return the logits of a classifier's output: a tensor, or the first of a tuple or dict.

    Raises:
        RefusedError: If the output holds no tensor.
    """
    if isinstance(output, dict):
        output = output.get("logits", next(iter(output.values()), None))
    if isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise RefusedError(
            f"the model returns {type(output).__name__}, not logits", flags=["preflight"]
        )
    return output


def _frozen(pixel_input: nn.Module, classifier: nn.Module) -> nn.Module:
    module = nn.Sequential(pixel_input, classifier).float().eval()
    return module.requires_grad_(False)


def _folded(module: nn.Module) -> nn.Module:
    """Fold BatchNorm into convolutions where the graph can be traced, else copy."""
    try:
        return fuse(module)
    except (
        torch.fx.proxy.TraceError,
        TypeError,
        ValueError,
        RuntimeError,
        AttributeError,
    ) as error:
        log.debug("BatchNorm not folded: %s", error)
        return copy.deepcopy(module)


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "out of memory" in text or "can't allocate memory" in text


def _compare(
    precision: str,
    plain: NDArray[np.float32],
    fast: NDArray[np.float32],
    labels: NDArray[np.int64],
    is_first: NDArray[np.bool_],
) -> Parity:
    agreement = float(np.mean(plain.argmax(1) == fast.argmax(1)))
    change = abs(_auc(plain, labels, is_first) - _auc(fast, labels, is_first))
    return Parity(precision, agreement, change, len(labels))


def _is_close(parity: Parity) -> bool:
    return parity.label_agreement >= MIN_AGREEMENT and parity.auc_change < MAX_AUC_CHANGE


def _auc(
    logits: NDArray[np.float32], labels: NDArray[np.int64], is_first: NDArray[np.bool_]
) -> float:
    """AUC of the loss between the two halves, with logits rounded to a thousandth as ties."""
    tensor = torch.from_numpy(logits).double()
    loss = nn.functional.cross_entropy(tensor, torch.from_numpy(labels), reduction="none").numpy()
    order = np.round(loss, 3)
    above = (order[is_first][:, None] > order[~is_first][None, :]).mean()
    equal = (order[is_first][:, None] == order[~is_first][None, :]).mean()
    return float(above + equal / 2)
