"""Checks before any figure is computed: does the model work, and is it the one that was claimed?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from securitynet.catalogue.cards import Claim, InputSpec
from securitynet.datasets.images import Audit, Images
from securitynet.errors import RefusedError
from securitynet.metrics.intervals import Z95, clopper_pearson
from securitynet.targets.engine import Engine, as_logits, is_out_of_memory
from securitynet.targets.paths import FORWARD_ERRORS
from securitynet.targets.target import Target, as_pixels

MAX_CLAIM_DIFFERENCE = 0.01
MAX_EXACT_DIFFERENCE = 0.005
PROBE_SIZE = 64
MAX_LOGIT = 1e6
SAME = 1e-4
"""Answers that differ by more than this share of the largest logit are not the same."""
MAX_SPREAD = 0.6
"""Inputs whose log spread is off by this (1.8-fold) do not look like the training images.

Two public ResNets: 0.19 with their own normalisation, 0.26 with another's of the same images, 0.95
with mean and std of 0.5, 1.5 without any.
"""
MIN_FOR_SPREAD = 16


@dataclass(frozen=True)
class Problem:
    """What pre-flight found.

    Attributes:
        line: One line for people.
        flag: Machine-readable reason.
        is_fatal: Whether no figure of this model would mean anything; otherwise it is only noted.
    """

    line: str
    flag: str = "preflight"
    is_fatal: bool = True


@dataclass
class Look:
    """What one batch through the plain fp32 module shows.

    Attributes:
        output: What the classifier returned.
        logits: Its logits, if there are any.
        error: Why there are none.
        edits_input: Whether the classifier changed its input.
        spread: Mean |log(spread of the first BatchNorm's input / spread in training)|.
    """

    output: Any = None
    logits: NDArray[np.float32] | None = None
    error: str | None = None
    edits_input: bool = False
    spread: float | None = None


@dataclass(frozen=True)
class Probe:
    """Two batches: some images, and the first half of them twice in one batch.

    Attributes:
        whole: The first batch.
        twice: The second.
        half: Number of images in the first half.
        n_classes: What the card says.
        spec: What the card says.
        gives_posteriors: Whether the classifier's outputs are posteriors.
    """

    whole: Look
    twice: Look
    half: int
    n_classes: int
    spec: InputSpec
    gives_posteriors: bool

    @property
    def scale(self) -> float:
        """The largest finite number of the first batch's output."""
        logits = self.whole.logits
        if logits is None:
            return 0.0
        return float(np.abs(logits[np.isfinite(logits)]).max(initial=0.0))

    def differ(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
        """Return whether two answers to the same images are not the same."""
        atol = SAME * self.scale
        return not np.allclose(first, second, rtol=0, atol=atol, equal_nan=True)


@dataclass(frozen=True)
class Gate:
    """Outcome of the accuracy gate.

    Attributes:
        accuracy: Measured clean accuracy on the test images.
        n: Number of test images.
        claimed: The published accuracy, ``None`` if nobody published one.
        flags: ``accuracy-gate``, ``no-claim``, ``chance-level``.
        refusal: One line why the run should be refused, ``None`` if it should not.
    """

    accuracy: float
    n: int
    claimed: float | None
    flags: tuple[str, ...]
    refusal: str | None


def problems(target: Target, images: Images) -> list[Problem]:
    """Probe a target with two small batches and return every problem found.

    Args:
        target: The model, at ``Access.WEIGHTS``; no query is counted.
        images: Images to probe with, at least 2.

    Returns:
        The problems; none of them is fatal if the model can be audited.
    """
    pixels = as_pixels(images.take(slice(PROBE_SIZE)).pixels())
    probe = _probe(target, pixels)
    while probe is None:  # out of memory
        pixels = pixels[: len(pixels) // 2]
        probe = _probe(target, pixels)
    return [found for rule in RULES for found in rule(probe)]


def _probe(target: Target, pixels: Tensor) -> Probe | None:
    engine, half = target.engine, len(pixels) // 2
    try:
        whole = _look(engine, pixels)
        twice = _look(engine, torch.cat([pixels[:half], pixels[:half]]))
    except (RuntimeError, MemoryError) as error:
        if half < 2 or not is_out_of_memory(error):
            raise
        return None
    spec = target.card.input
    return Probe(whole, twice, half, target.num_classes, spec, engine.gives_posteriors)


def _look(engine: Engine, pixels: Tensor) -> Look:
    transform, classifier, rest = engine.plain[0], engine.plain[1], engine.plain[2:]
    look = Look()
    with torch.inference_mode(), _watching_spread(classifier, look):
        inputs = transform(pixels.to(engine.device))
        before = inputs.clone()
        try:
            look.output = classifier(inputs)
            look.logits = as_logits(rest(look.output)).float().cpu().numpy()
        except RefusedError as error:
            look.error = error.what
        except FORWARD_ERRORS as error:
            if is_out_of_memory(error):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            shape = "x".join(map(str, inputs.shape[1:]))
            look.error = f"the model cannot answer inputs of {shape} ({reason})"
        look.edits_input = not torch.equal(inputs, before)
    return look


def _watching_spread(classifier: nn.Module, look: Look) -> ExitStack:
    """Compare the first BatchNorm's input with what it saw in training."""

    def compare(module: Any, inputs: tuple[Tensor, ...]) -> None:
        if look.spread is None and len(inputs[0]) >= MIN_FOR_SPREAD:
            found = inputs[0].transpose(0, 1).flatten(1).var(1)
            ratio = (found + module.eps) / (module.running_var + module.eps)
            look.spread = float(ratio.log().abs().median() / 2)

    stack = ExitStack()
    for module in classifier.modules():
        if isinstance(module, _BatchNorm) and module.running_var is not None:
            stack.enter_context(module.register_forward_pre_hook(compare))
    return stack


def _has_no_answer(probe: Probe) -> Iterator[Problem]:
    if probe.whole.error is not None:
        yield Problem(probe.whole.error)


def _has_other_classes(probe: Probe) -> Iterator[Problem]:
    logits, n_images = probe.whole.logits, 2 * probe.half
    if logits is None:
        return
    if logits.ndim != 2 or logits.shape[1] != probe.n_classes or len(logits) < n_images:
        yield Problem(
            f"the model returns shape {list(logits.shape)}, its card says "
            f"{probe.n_classes} classes",
            "class-count",
        )


def _is_not_finite(probe: Probe) -> Iterator[Problem]:
    logits = probe.whole.logits
    if logits is not None and not np.isfinite(logits).all():
        kinds = [
            name for name, test in (("NaN", np.isnan), ("Inf", np.isinf)) if test(logits).any()
        ]
        share = np.mean(~np.isfinite(logits.reshape(len(logits), -1)).all(1))
        yield Problem(
            f"{share:.0%} of the answers are not finite ({' and '.join(kinds)})", "not-finite"
        )


def _is_constant(probe: Probe) -> Iterator[Problem]:
    logits = probe.whole.logits
    if logits is None or not np.isfinite(logits).all():
        return
    if np.ptp(logits, axis=0).max() <= 1e-6 * probe.scale:
        yield Problem("the output is the same for every image", "constant-target")


def _is_huge(probe: Probe) -> Iterator[Problem]:
    if probe.scale > MAX_LOGIT:
        yield Problem(f"logits of size {probe.scale:.0e}: the normalisation is likely wrong")


def _is_random(probe: Probe) -> Iterator[Problem]:
    """Find answers that are not a function of the image alone."""
    whole, twice, half = probe.whole.logits, probe.twice.logits, probe.half
    if whole is None or twice is None or len(whole) < half or len(twice) < 2 * half:
        return
    if probe.differ(twice[:half], twice[half:]):
        yield Problem(
            "the same image gets different answers in one batch: dropout or another random "
            "layer is on"
        )
    elif probe.differ(whole[:half], twice[:half]):
        yield Problem(
            "an image's answer depends on the batch it comes in: BatchNorm in training mode, or "
            "a random number a batch"
        )


def _is_fed_otherwise(probe: Probe) -> Iterator[Problem]:
    spread = probe.whole.spread
    if spread is not None and spread > MAX_SPREAD:
        yield Problem(
            f"the first BatchNorm sees inputs {np.exp(spread):.1f} times as spread out, or as "
            "close together, as in training: the normalisation in the card is likely wrong",
            "input-statistics",
            is_fatal=False,
        )


def _wraps_its_logits(probe: Probe) -> Iterator[Problem]:
    output = probe.whole.output
    if probe.whole.logits is None or isinstance(output, Tensor):
        return
    kind, n = type(output).__name__, len(output)
    taken = "'logits'" if isinstance(output, dict) and "logits" in output else "the first"
    yield Problem(
        f"the model returns a {kind} of {n}, of which {taken} is taken for the logits",
        "wrapped-outputs",
        is_fatal=False,
    )


def _gives_posteriors(probe: Probe) -> Iterator[Problem]:
    if probe.gives_posteriors:
        yield Problem(
            "the model returns posteriors, whose logarithms are taken for the logits",
            "outputs-softmax",
            is_fatal=False,
        )


def _edits_its_input(probe: Probe) -> Iterator[Problem]:
    if probe.whole.edits_input:
        yield Problem(
            "the model edits its input in place; it gets a copy", "edits-input", is_fatal=False
        )


RULES: tuple[Callable[[Probe], Iterator[Problem]], ...] = (
    _has_no_answer,
    _has_other_classes,
    _is_not_finite,
    _is_constant,
    _is_huge,
    _is_random,
    _is_fed_otherwise,
    _wraps_its_logits,
    _gives_posteriors,
    _edits_its_input,
)
"""What is looked for, one rule a function."""


def accuracy_gate(target: Target, audit: Audit) -> Gate:
    """Compare measured clean accuracy with the published claim (``docs/soundness.md``).

    A difference beyond one point (plus sampling error where only some test images are used; half
    a point where the images are exactly those of the claim) points to wrong preprocessing, a wrong
    class order or altered images. Nobody claims anything of a part of the classes.

    Args:
        target: The model.
        audit: The data of the evaluation.
    """
    labels, n = audit.test.labels, len(audit.test)
    correct = int((target.labels(audit.test) == labels).sum())
    accuracy = correct / n
    flags: list[str] = []
    refusal = None
    if clopper_pearson(correct, n)[0] <= _chance(labels, target.num_classes):
        flags.append("chance-level")
        refusal = f"accuracy {accuracy:.3f} on {n:,} test images is no better than chance"
    is_whole = target.num_classes == target.card.num_classes
    claim = target.card.claim("test_accuracy") if is_whole else None
    if claim is None:
        flags.append("no-claim")
    elif abs(accuracy - claim.value) > _tolerance(claim, n, audit.notes):
        flags.append("accuracy-gate")
        refusal = _explain(accuracy, claim.value, n, audit.notes)
    return Gate(accuracy, n, claim.value if claim else None, tuple(flags), refusal)


def _chance(labels: NDArray[np.int64], n_classes: int) -> float:
    """Return the accuracy of always naming the most frequent class."""
    return max(1 / n_classes, float(np.bincount(labels).max() / len(labels)))


def _tolerance(claim: Claim, n: int, notes: tuple[str, ...]) -> float:
    """Return the difference that is allowed, with the sampling error of fewer images."""
    is_whole = claim.n == n
    points = MAX_EXACT_DIFFERENCE if is_whole and not notes else MAX_CLAIM_DIFFERENCE
    sampling = 0.0 if is_whole else Z95 * float(np.sqrt(claim.value * (1 - claim.value) / n))
    return points + sampling + 1e-9  # 0.84 is one point from 0.85, in binary too


def _explain(accuracy: float, claimed: float, n: int, notes: tuple[str, ...]) -> str:
    reason = "wrong preprocessing, class order or altered images"
    if "jpeg-compressed" in notes:
        reason = "these images are JPEG-compressed copies of a lossless data set"
    points = abs(accuracy - claimed) * 100
    return (
        f"measured accuracy {accuracy:.3f} on {n:,} test images is {points:.1f} points off the "
        f"published {claimed:.3f}; likely cause: {reason}"
    )
