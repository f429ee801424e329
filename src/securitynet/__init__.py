"""SecurityNet: how vulnerable are the models that people really download?

The public names are imported on first use, so that ``import securitynet`` stays fast and
loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from securitynet.api import evaluate, load, models, results, scan
    from securitynet.errors import SecurityNetError
    from securitynet.evidence import InputEvidence, MembershipEvidence, TriggerEvidence
    from securitynet.records import Evaluation, Measure
    from securitynet.registry import Access, method, option

__version__ = "0.1.0"

_HOMES = {
    "Access": "registry",
    "Evaluation": "records",
    "InputEvidence": "evidence",
    "Measure": "records",
    "MembershipEvidence": "evidence",
    "SecurityNetError": "errors",
    "TriggerEvidence": "evidence",
    "evaluate": "api",
    "load": "api",
    "method": "registry",
    "models": "api",
    "option": "registry",
    "results": "api",
    "scan": "api",
}

__all__ = [
    "Access",
    "Evaluation",
    "InputEvidence",
    "Measure",
    "MembershipEvidence",
    "SecurityNetError",
    "TriggerEvidence",
    "evaluate",
    "load",
    "method",
    "models",
    "option",
    "results",
    "scan",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'securitynet' has no attribute {name!r}")
    return getattr(importlib.import_module(f"securitynet.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return [*__all__, "__version__"]
