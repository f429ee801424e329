"""Where the Hugging Face hub is: at its public address, or where ``SECURITYNET_HUB`` says."""

from __future__ import annotations

import os

HUB = "https://huggingface.co"
_DATASETS = "/datasets"


def hub_datasets() -> str:
    """Return the address that data sets' repositories lie under."""
    return _named() or f"{HUB}{_DATASETS}"


def hub_endpoint() -> str:
    """Return the hub's own address: that of data sets without ``/datasets``."""
    return _named().removesuffix(_DATASETS) or HUB


def hub_address(url: str) -> str:
    """Return a public address of the hub at :func:`hub_endpoint`; any other as it is."""
    return hub_endpoint() + url.removeprefix(HUB) if url.startswith(f"{HUB}/") else url


def _named() -> str:
    return os.environ.get("SECURITYNET_HUB", "").rstrip("/")
