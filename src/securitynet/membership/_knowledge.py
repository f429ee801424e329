"""What a method was given besides the target, or a refusal that says how to get it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from securitynet.errors import RefusedError

if TYPE_CHECKING:
    from securitynet.targets.context import Context
    from securitynet.targets.references import References

FEW = 20
"""Fewer known samples of a kind than this teach nothing."""


def references_of(context: Context, method: str) -> References:
    """Return the references.

    Raises:
        RefusedError: If there are none.
    """
    if context.references is None or not len(context.references):
        raise RefusedError(
            "there are no references for this data set",
            where=method,
            hint="train them once: `securitynet train references`",
            flags=["no-references"],
        )
    return context.references


def known_of(context: Context, method: str) -> NDArray[np.int8]:
    """Return the known membership, int8 ``[n]``: 1 member, 0 non-member, -1 unknown.

    Raises:
        RefusedError: If there is none, or too little of either kind.
    """
    known = context.known
    if known is None or min((known == 0).sum(), (known == 1).sum()) < FEW:
        raise RefusedError(
            f"this attack must know {FEW} members and {FEW} non-members",
            where=method,
            hint="audit more samples: raise --limit",
            flags=["few-known"],
        )
    return known
