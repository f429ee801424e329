"""Sizes of RobustBench's models that mix a plain and a robust network, or solve an equation.

Nobody builds them here; what they are made of is stated in the zoo's definitions.
"""

from __future__ import annotations

from collections.abc import Callable

from securitynet.catalogue.generators import counted, counting
from securitynet.catalogue.generators.counting import Count

PENG = "robustbench/cifar10/Linf/Peng2023Robust"
"""The card whose network is the robust one of the mixture for CIFAR-10."""


def _sum(*counts: Count) -> Count:
    macs = [count.macs for count in counts if count.macs is not None]
    total = sum(macs) if len(macs) == len(counts) else None
    return Count(sum(count.params for count in counts), total)


def _policy(n: int) -> Count:
    """Count Bai et al. 2023: a network weights the two by what they see."""
    robust = counting.wide_resnet(70, 16, n)
    return _sum(counting.bit_resnet152(n), robust, counting.mixing_network())


def _fixed_cifar10() -> Count | None:
    robust = counted.table().get(PENG)
    return None if robust is None else _sum(counting.bit_resnet152(10), robust)


def _fixed_imagenet() -> Count:
    networks = "convnextv2_large", "swin_large_patch4_window7_224"
    return _sum(*(counting.named("timm", name, 1000) for name in networks))


def _equation() -> Count:
    """Count Kang et al. 2021: 64 features, one layer that is integrated, and one that decides."""
    features, hidden = 1024, 64
    body = counting.wide_resnet(70, 16, 10).params - (features + 1) * 10
    return Count(body + features * hidden + (hidden + 1) * (hidden + 10), None)


SIZES: dict[str, Callable[[], Count | None]] = {
    "lambda: get_composite_model('edm', 'cifar10')": lambda: _policy(10),
    "lambda: get_composite_model('edm')": lambda: _policy(100),
    "lambda: get_composite_model('trades')": lambda: _policy(100),
    "lambda: get_nonlin_mixed_classifier('cifar10')": _fixed_cifar10,
    "lambda: get_nonlin_mixed_classifier('cifar100')": lambda: _sum(
        counting.bit_resnet152(100), counting.wide_resnet(70, 16, 100)
    ),
    "lambda: get_nonlin_mixed_classifier('imagenet')": _fixed_imagenet,
    "rebuffi_sodef": _equation,
}
"""Expression of the zoo -> size. An equation's cost depends on the input, so it stays unknown."""


def size(expression: str) -> Count | None:
    """Return what a mixture holds and costs, ``None`` for any other expression."""
    count = SIZES.get(expression)
    return count() if count else None
