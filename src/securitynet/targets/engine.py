"""Fast inference that keeps its answers: folded BatchNorm, channels-last, bf16 where it is native.

Every faster path must pass a parity check against plain fp32 before it is used; otherwise the
engine falls back, and the record says so. Three precisions:

- ``fp32-plain``: the module as it was given;
- ``fp32``: BatchNorm folded into convolutions where the graph can be traced, channels-last, and
  on a CPU shortcuts and activations fused with convolutions;
- ``bf16+fp32``: that in bf16, and once more in fp32 wherever bf16 cannot decide the label.

An ONNX model has no other path than the one that its exporter wrote, ``as-exported``.

bf16 alone changes 0.3 to 0.5% of the labels of real CIFAR-10 models. Its error on a sample bounds
the margin between two classes below which that can happen, so only the few images with a smaller
margin are asked twice: labels agree again, for a few percent of fp32 work.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from securitynet.catalogue.cards import InputSpec
from securitynet.errors import RefusedError
from securitynet.registry import Access
from securitynet.targets.onnx_graph import OnnxClassifier
from securitynet.targets.parity import Parity, compare
from securitynet.targets.paths import FORWARD_ERRORS, fast_path, plain_path

log = logging.getLogger(__name__)

MIXED, FOLDED, PLAIN, EXPORTED = "bf16+fp32", "fp32", "fp32-plain", "as-exported"
MAX_SETTLED = 0.25
"""With more images to settle in fp32 than this share, bf16 saves nothing."""
N_NOISE = 4
MAX_FOLD_ERROR = 1e-3
"""Of the largest logit; folding is exact but for rounding, about 1e-6."""

Reader = Callable[[int, int], Tensor]
Logits = NDArray[np.float32]


def default_device() -> torch.device:
    """Return CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_native_bf16(device: torch.device) -> bool:
    """Return whether bf16 is computed in hardware; emulated bf16 is about 10x slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


class Engine:
    """Runs one frozen classifier over many images.

    Args:
        classifier: Module from normalised inputs to logits ``[n, K]``, with its weights; left as
            it is, unless it cannot be copied. Posteriors in place of logits are noticed and
            turned into their logarithms.
        spec: How pixels become the classifier's input.
        device: Where to run.

    Attributes:
        plain: The reference: pixels ``[n, C, H, W]`` in [0, 1] to logits, as given, fp32.
        fast: The same, faster, in fp32.
        precision: The mode in use.
        parity: Outcome of the parity check, ``None`` before it.
        gives_posteriors: Whether the classifier returns posteriors.
        batch_size: Images of one pass; lowered where memory does not suffice.
        access: The most that it can give: an ONNX model has neither gradients nor weights.
        facts: Of the runtime, where that is not torch.
    """

    def __init__(self, classifier: nn.Module, spec: InputSpec, device: torch.device) -> None:
        """Freeze the classifier and put the pixel transform in front of it."""
        self.device, self._spec = device, spec
        self.plain = plain_path(classifier, spec, device)
        self.facts = classifier.facts if isinstance(classifier, OnnxClassifier) else {}
        is_exported = bool(self.facts)
        self.access = Access.LOGITS if is_exported else Access.WEIGHTS
        self.fast = self.plain if is_exported else fast_path(self.plain[1], spec, device)
        self.precision = EXPORTED if is_exported else FOLDED
        self.parity: Parity | None = None
        self.gives_posteriors = False
        self.batch_size = _first_batch(spec, device)
        self._doubt = 0.0
        self._rehearse()

    def choose(self, labels: Sequence[int], num_classes: int) -> None:
        """Keep these classes only, of so many that the classifier must have."""
        for path in dict.fromkeys((self.plain, self.fast)):
            path.append(ChosenClasses(labels, num_classes).to(self.device))

    @property
    def signature(self) -> str:
        """What its answers depend on besides weights, architecture and input spec."""
        return f"{self.device.type} {self.precision} {self._doubt!r}"

    def run(self, pixels: Reader, n: int) -> Logits:
        """Compute logits of ``n`` images read in batches.

        Args:
            pixels: ``pixels(start, stop)`` returns floats in [0, 1], ``[m, C, H, W]``.
            n: Number of images, at least 1.

        Returns:
            Logits, float32 ``[n, K]``.

        Raises:
            RefusedError: If the classifier returns no logits.
        """
        logits = self._pass(self.fast, pixels, n, is_bf16=self.precision == MIXED)
        if self.precision == MIXED:
            self._settle(logits, pixels)
        return logits

    def check_parity(
        self,
        first: Tensor,
        second: Tensor,
        first_labels: NDArray[np.int64],
        second_labels: NDArray[np.int64],
    ) -> Parity:
        """Compare the fast path with plain fp32 and fall back where they differ.

        A mode passes with at least 99.9% equal labels and an AUC that changes by less than 0.001,
        sampling error apart. What bf16 cannot decide is learned from ``first`` alone, so that
        ``second`` judges it.

        Args:
            first: Pixels in [0, 1], ``[n, C, H, W]``, e.g. of members; at least 2.
            second: The same of non-members.
            first_labels: True labels of ``first``, int64 ``[n]``.
            second_labels: True labels of ``second``.

        Returns:
            The outcome; ``precision`` of the engine is set to its mode.
        """
        batch, n_first = torch.cat([first, second]), len(first)
        labels = np.concatenate([first_labels, second_labels])
        plain = self._pass(self.plain, _reader(batch), len(batch))
        is_fallback = self.fast is self.plain
        for precision in self._candidates():
            fast = self._trial(precision, batch, plain[:n_first])
            if fast is None:
                continue
            parity = compare(precision, plain, fast, labels, n_first)
            if parity.is_close:
                break
            is_fallback = True
        else:
            self._fall_back()
            parity = Parity(PLAIN, 1.0, 0.0, 0.0, len(labels))
        self.precision = parity.precision
        self.parity = replace(parity, is_fallback=is_fallback)
        return self.parity

    def _candidates(self) -> list[str]:
        """Return the modes to try, the fastest first."""
        if self.fast is self.plain:
            return []
        return [MIXED, FOLDED] if has_native_bf16(self.device) else [FOLDED]

    def _trial(self, precision: str, batch: Tensor, plain: Logits) -> Logits | None:
        """Return the answers in a mode, ``None`` if it saves nothing; ``plain`` calibrates bf16."""
        pixels, n, is_bf16 = _reader(batch), len(batch), precision == MIXED
        logits = self._pass(self.fast, pixels, n, is_bf16=is_bf16)
        # two logits that are off by at most e change their order only if they are 2 e apart
        self._doubt = 2 * float(np.abs(logits[: len(plain)] - plain).max()) if is_bf16 else 0.0
        if is_bf16 and np.mean(_margins(logits) <= self._doubt) > MAX_SETTLED:
            return None
        if is_bf16:
            self._settle(logits, pixels)
        return logits

    def _settle(self, logits: Logits, pixels: Reader) -> None:
        """Ask again in fp32, in place, where bf16 cannot tell the two likeliest classes apart."""
        doubtful = np.flatnonzero(_margins(logits) <= self._doubt).tolist()
        if doubtful:

            def read(start: int, stop: int) -> Tensor:
                return torch.cat([pixels(i, i + 1) for i in doubtful[start:stop]])

            logits[doubtful] = self._pass(self.fast, read, len(doubtful))

    def _unfuse(self) -> None:
        self.fast = fast_path(self.plain[1], self._spec, self.device, is_fused=False)

    def _fall_back(self) -> None:
        self.fast, self.precision, self._doubt = self.plain, PLAIN, 0.0
        log.warning("fast inference differs from plain fp32: falling back to plain fp32")

    def _rehearse(self) -> None:
        """Put noise through both paths: drop a fold that changes answers, notice posteriors."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(N_NOISE, self._spec.channels, *self._spec.sides, generator=generator)
        try:
            plain = self._logits(self.plain, noise)
        except (*FORWARD_ERRORS, RefusedError):
            return  # pre-flight finds it too, and says what is wrong
        for step_back in (self._unfuse, self._fall_back):
            if self.fast is self.plain or self._folds_exactly(noise, plain):
                break
            step_back()
        if _are_posteriors(plain):
            self.gives_posteriors = True
            for path in dict.fromkeys((self.plain, self.fast)):
                path.append(LogOutput())

    def _folds_exactly(self, noise: Tensor, plain: Logits) -> bool:
        try:
            fast = self._logits(self.fast, noise)
        except FORWARD_ERRORS as error:
            log.debug("the fast path does not run: %s", error)
            return False
        if fast.shape != plain.shape:
            return False
        scale = float(np.abs(plain[np.isfinite(plain)]).max(initial=0.0))
        return np.allclose(fast, plain, rtol=0, atol=MAX_FOLD_ERROR * scale, equal_nan=True)

    def _pass(self, module: nn.Module, pixels: Reader, n: int, *, is_bf16: bool = False) -> Logits:
        spans = self._spans(n)
        return np.concatenate([self._backed_off(module, pixels(*ends), is_bf16) for ends in spans])

    def _spans(self, n: int) -> Iterator[tuple[int, int]]:
        """Yield the ends of batches; their size may be lowered on the way."""
        start = 0
        while start < n:
            stop = min(n, start + self.batch_size)
            yield start, stop
            start = stop

    def _backed_off(self, module: nn.Module, batch: Tensor, is_bf16: bool) -> Logits:
        """Halve the batch until it fits in memory."""
        try:
            return self._logits(module, batch, is_bf16=is_bf16)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(batch) // 2
        self.batch_size = min(self.batch_size, half)
        log.info("out of memory: batch size lowered to %d", self.batch_size)
        halves = (batch[:half], batch[half:])
        return np.concatenate([self._backed_off(module, part, is_bf16) for part in halves])

    def _logits(self, module: nn.Module, batch: Tensor, *, is_bf16: bool = False) -> Logits:
        with (
            torch.inference_mode(),
            _full_fp32(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=is_bf16),
        ):
            logits = as_logits(module(batch.to(self.device)))
        return np.asarray(logits.float().cpu().numpy(), dtype=np.float32)


@contextmanager
def _full_fp32() -> Iterator[None]:
    """Keep convolutions on a GPU from computing fp32 with the ten-bit mantissa of TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class LogOutput(nn.Module):
    """Turns the posteriors of a classifier that ends in a softmax into logits."""

    def forward(self, output: object) -> Tensor:
        """Return log p, with posteriors that underflowed at the smallest normal float32."""
        return as_logits(output).clamp_min(torch.finfo(torch.float32).tiny).log()


class ChosenClasses(nn.Module):
    """Keeps some classes of a classifier: the model as seen on data of only these.

    Args:
        labels: The classes to keep, in order.
        num_classes: How many the classifier must have.
    """

    labels: Tensor

    def __init__(self, labels: Sequence[int], num_classes: int) -> None:
        """Keep the labels as a buffer, so that they follow the device."""
        super().__init__()
        self.num_classes = num_classes
        self.register_buffer("labels", torch.tensor(labels))

    def forward(self, output: object) -> Tensor:
        """Return the logits of the kept classes ``[n, k]``.

        Raises:
            RefusedError: If the classifier has another number of classes.
        """
        logits = as_logits(output)
        if logits.ndim != 2 or logits.shape[1] != self.num_classes:
            raise RefusedError(
                f"the model returns shape {list(logits.shape)}, its card says "
                f"{self.num_classes} classes",
                flags=["preflight", "class-count"],
            )
        return logits[:, self.labels]


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


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory does not suffice; not all have their own type."""
    text = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "std::bad_alloc", "alloc_failed")
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or any(sign in text for sign in signs)


def _first_batch(spec: InputSpec, device: torch.device) -> int:
    """Return a batch whose activations stay in the cache of a CPU, or fill a GPU.

    Not timed: on a busy machine timing picks at random, and the batch would differ between runs.
    """
    area = math.prod(spec.sides)
    if device.type == "cpu":
        return min(64, max(16, 2**16 // area))
    return min(2048, max(64, 2**24 // area))


def _reader(batch: Tensor) -> Reader:
    return lambda start, stop: batch[start:stop]


def _are_posteriors(outputs: Logits) -> bool:
    if outputs.ndim != 2 or outputs.shape[1] < 2 or not np.isfinite(outputs).all():
        return False
    return bool(outputs.min() >= 0 and np.allclose(outputs.sum(1), 1, atol=1e-3))


def _margins(logits: Logits) -> Logits:
    """Return how far the likeliest class is ahead of the second, ``[n]``."""
    top = np.partition(logits, -2, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0])
