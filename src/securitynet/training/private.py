"""DP-SGD (Abadi et al., arXiv 1607.00133) by Opacus: no image moves the weights by much.

Every image's gradient is clipped to a norm, and Gaussian noise as large as one image's share, times
the noise multiplier, is added to their sum. Steps draw their images by Poisson sampling: each image
on its own with the sample rate, as the accountant assumes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from securitynet.errors import ResourceError, SecurityNetError, UsageError

if TYPE_CHECKING:
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

ACCOUNTANT = "prv"
"""Opacus' accountant by the privacy loss distribution (Gopi et al., arXiv 2106.02848)."""


EPSILON_STEP = 0.01
"""How close to the epsilon asked for the noise is tuned."""
KNOWN_WARNINGS = (
    "Optimal order is the largest alpha",  # of a bound that only says where to search
    "Full backward hook is firing when gradients are computed",  # pixels need no gradient
    "divide by zero encountered in log",  # at a sample rate of 1
)

IN_PLACE = "is a view and is being modified inplace"
"""Torch, where a layer's output that Opacus watches is overwritten, e.g. by ``x += shortcut``."""


@dataclass(frozen=True)
class Privacy:
    """The guarantee that training must keep, for adding or removing one image.

    Attributes:
        epsilon: Bound of the privacy loss, above 0.
        delta: Probability with which it may fail, between 0 and 1 / number of images.
        clip: Largest norm of one image's gradient, above 0.
    """

    epsilon: float
    delta: float = 1e-5
    clip: float = 1.0

    def check(self, n_images: int) -> None:
        """Raise `UsageError` if the numbers guarantee nothing for this many images."""
        if not (0 < self.epsilon < float("inf") and 0 < self.clip < float("inf")):
            raise UsageError(
                f"epsilon {self.epsilon:g} and clip {self.clip:g} must be finite and above 0"
            )
        if not 0 < self.delta < 1 / n_images:
            raise UsageError(
                f"delta {self.delta:g} with {n_images} images: from 1 / {n_images} on, giving away "
                "one image whole would be private",
                hint="lower --dp-delta",
            )


@dataclass(frozen=True)
class Mechanism:
    """What DP-SGD does to a training set, and what it guarantees.

    Attributes:
        epsilon: Privacy loss after all steps, at most the one asked for.
        delta: As in :class:`Privacy`.
        clip: As in :class:`Privacy`.
        noise_multiplier: Standard deviation of the noise, in units of ``clip``.
        sample_rate: Probability with which an image is drawn for a step.
        n_steps: Number of steps.
        accountant: Who counts; Opacus' name.
    """

    epsilon: float
    delta: float
    clip: float
    noise_multiplier: float
    sample_rate: float
    n_steps: int
    accountant: str = ACCOUNTANT

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def calibrate(privacy: Privacy, sample_rate: float, n_steps: int) -> Mechanism:
    """Find the least noise that keeps a guarantee, up to 0.01 or a hundredth of epsilon.

    Args:
        privacy: The guarantee.
        sample_rate: Probability with which an image is drawn for a step.
        n_steps: Number of steps.

    Raises:
        ResourceError: If Opacus is not installed.
        UsageError: If no noise is enough.
    """
    _check_installed()
    from opacus.accountants.utils import get_noise_multiplier

    try:
        with known_warnings_ignored():
            noise = get_noise_multiplier(
                target_epsilon=privacy.epsilon,
                target_delta=privacy.delta,
                sample_rate=sample_rate,
                steps=n_steps,
                accountant=ACCOUNTANT,
                epsilon_tolerance=min(EPSILON_STEP, privacy.epsilon / 100),
            )
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"no noise gives epsilon {privacy.epsilon:g} in {n_steps} steps: {error}",
            hint="raise --dp-epsilon or train for fewer --epochs",
        ) from None
    epsilon = spent(noise, sample_rate, n_steps, privacy.delta)
    return Mechanism(epsilon, privacy.delta, privacy.clip, noise, sample_rate, n_steps)


def spent(noise_multiplier: float, sample_rate: float, n_steps: int, delta: float) -> float:
    """Return epsilon after so many steps, as Opacus' accountant has it."""
    from opacus.accountants import create_accountant

    accountant = create_accountant(ACCOUNTANT)
    accountant.history = [(noise_multiplier, sample_rate, n_steps)]
    with known_warnings_ignored():
        return float(accountant.get_epsilon(delta=delta))


def clipped_and_noised(
    module: nn.Module, optimiser: torch.optim.Optimizer, mechanism: Mechanism, batch: int, seed: int
) -> tuple[GradSampleModule, DPOptimizer]:
    """Wrap a module and its optimiser so that every step is one of DP-SGD.

    Memory: the gradients of all images of a batch are held at once.

    Args:
        module: In training mode; its ReLUs are made to leave their input as it is.
        optimiser: Of the module; a schedule may hold on to it.
        mechanism: Clip and noise.
        batch: Expected number of images a step.
        seed: Of the noise.

    Raises:
        UsageError: If a layer has no gradient for each image, e.g. batch normalisation.
    """
    _check_installed()
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer
    from opacus.validators import ModuleValidator

    faults: list[Exception] = ModuleValidator.validate(module, strict=False)
    if faults:
        raise _unfit(str(faults[0]).strip())
    for layer in module.modules():
        if vars(layer).get("inplace"):
            vars(layer)["inplace"] = False  # an image's gradient needs what the layer was given
    try:
        wrapped = GradSampleModule(module)
    except NotImplementedError as error:
        raise _unfit(str(error)) from None
    device = next(module.parameters()).device
    private = DPOptimizer(
        optimiser,
        noise_multiplier=mechanism.noise_multiplier,
        max_grad_norm=mechanism.clip,
        expected_batch_size=batch,
        generator=torch.Generator(device).manual_seed(seed),
    )
    return wrapped, private


def poisson_batches(
    n_images: int, sample_rate: float, n_batches: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the positions of each step's images, int64 ``[m]``; a step may have none."""
    for _ in range(n_batches):
        yield (torch.rand(n_images, generator=generator) < sample_rate).nonzero().flatten()


@contextmanager
def known_warnings_ignored() -> Iterator[None]:
    """Ignore the warnings of Opacus that say nothing to a user."""
    with warnings.catch_warnings():
        for begin in KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", begin)
        yield


@contextmanager
def in_place_refused() -> Iterator[None]:
    """Say in one line that a network changes a layer's output in place, as some residual ones do.

    Raises:
        UsageError: Instead of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if IN_PLACE not in str(error):
            raise
        raise _unfit("it changes the output of a layer in place") from None


def _unfit(why: str) -> SecurityNetError:
    return UsageError(
        f"this architecture cannot be trained with DP-SGD: {' '.join(why.split())}",
        hint="e.g. cnn_small, cnn_medium, mlp or cifar_resnet20_a",
    )


def _check_installed() -> None:
    try:
        import opacus  # noqa: F401
    except ImportError:
        raise ResourceError(
            "DP-SGD needs Opacus, which is not installed", hint="pip install 'securitynet[dp]'"
        ) from None
